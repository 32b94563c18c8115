"""Which noise point goes with which data point.

A coupling is called as `(x0, x1, *cond)`, noise, data and what belongs to the data, each `[b ...]`,
and returns them in a new order.

Chapter: couplings
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fmtutor.checking import (
    as_generator,
    check_centred,
    check_cond,
    check_count,
    check_points,
    check_positive,
    check_same,
)
from fmtutor.entropic import entropic_plan

__all__ = ["aligned", "in_common_unit", "independent", "minibatch_ot", "sinkhorn", "within_labels"]


def independent(x0: Tensor, x1: Tensor, *cond: Tensor) -> tuple[Tensor, ...]:
    """Return noise `x0`, data `x1` and `cond` as they came: a random pairing, if all was drawn so.

    Reference: lipman2023

    Example:
        >>> independent(torch.zeros(2), torch.ones(2))
        (tensor([0., 0.]), tensor([1., 1.]))
    """
    return (x0, x1, *cond)


def minibatch_ot(x0: Tensor, x1: Tensor, *cond: Tensor) -> tuple[Tensor, ...]:
    """Permute the data `x1`, and `cond` with it, so that Σ_i ‖x0_i − x1_π(i)‖² is least.

    The optimal coupling of two sets of b points is a permutation, found by scipy's assignment
    solver in time that grows like b³ at worst. Labels have no say in it: a conditional model is
    trained on pairs `within_labels`.

    Reference: tong2024

    Example:
        >>> x0, x1 = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [2.0]])
        >>> minibatch_ot(x0, x1, torch.tensor([7, 8]))[2]
        tensor([8, 7])
    """
    check_points(x0, "x0", finite=True)
    check_points(x1, "x1", finite=True)
    check_same("x0", x0, "x1", x1)
    cond = check_cond(cond, len(x1))
    b = len(x0)
    cost = _cost(x0.detach().reshape(b, -1), x1.detach().reshape(b, -1))
    if b > _SMALL:
        cost = cost.astype(np.float64) - _potentials(cost)
    # The rows come back in order, so the columns alone are the permutation.
    _, column = linear_sum_assignment(cost)
    order = torch.as_tensor(column, device=x1.device)
    return (x0, x1[order], *(c[order.to(c.device)] for c in cond))


def sinkhorn(
    epsilon: float,
    *,
    tol: float = 1e-4,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Callable[..., tuple[Tensor, ...]]:
    """Return the coupling that draws for each x0 of a batch a partner x1 from the entropic plan.

    The law of a pair is that of `entropic_plan(x0, x1, epsilon, tol=tol)`. Every x0 is used once; a
    partner may be drawn again, and conditions go with it.

    Reference: tong2024sf2m
    Chapter: bridges

    Example:
        >>> x0, x1 = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [0.0]])
        >>> sinkhorn(0.01, seed=0)(x0, x1, torch.tensor([7, 8]))[2]
        tensor([8, 7])
    """
    random = as_generator(seed, generator)
    check_positive("epsilon", epsilon)
    check_positive("tol", tol)

    def coupled(x0: Tensor, x1: Tensor, *cond: Tensor) -> tuple[Tensor, ...]:
        cond = check_cond(cond, len(x1))
        plan = entropic_plan(x0, x1, epsilon, tol=tol).cpu()
        row = torch.multinomial(plan, 1, generator=random)[:, 0]
        return (x0, x1[row.to(x1.device)], *(c[row.to(c.device)] for c in cond))

    return coupled


def aligned(
    kinds: Sequence[int] | None = None, *, rounds: int = 1, mirrors: bool = False
) -> Callable[..., tuple[Tensor, ...]]:
    """Return the coupling that renames and turns the particles of each x0 to be near its x1.

    For centred positions `[b n d]`: first the particles of one kind change their names so that
    Σ_i ‖x0_i − x1_i‖² is least (the assignment solver), then all of x0 is turned about its centre
    (singular values). Both together have no quick solution; each of the `rounds` makes the sum
    less. The pairs stay as they come. A field that is not equivariant learns from such pairs
    another law than that of the data.

    Args:
        kinds: The kind of each particle, n integers; all alike if not given.
        rounds: How often names and turns are improved in turn.
        mirrors: Whether x0 may be reflected, too.

    Equation: eq-molecules-aligned
    Reference: klein2023, kabsch1976
    Chapter: molecules

    Example:
        >>> x1 = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
        >>> x0 = torch.tensor([[[0.0, 2.0], [0.0, -2.0]]])
        >>> aligned()(x0, x1)[0].round().abs()  # without the signs of rounded zeros
        tensor([[[2., 0.],
                 [2., 0.]]])
    """
    rounds = check_count("rounds", rounds)
    try:
        of_kind = None if kinds is None else [operator.index(kind) for kind in kinds]
    except TypeError:
        raise TypeError(
            f"kinds must be integers, one for each particle, but {kinds} came"
        ) from None

    def coupled(x0: Tensor, x1: Tensor, *cond: Tensor) -> tuple[Tensor, ...]:
        check_points(x0, "x0", finite=True)
        check_points(x1, "x1", finite=True)
        check_same("x0", x0, "x1", x1)
        if x1.ndim != 3 or (of_kind is not None and len(of_kind) != x1.shape[1]):
            n = "n" if of_kind is None else len(of_kind)
            raise ValueError(f"x0 and x1 must be positions [b {n} d], but {[*x1.shape]} came")
        check_centred(x0, "x0")
        cond, near = check_cond(cond, len(x1)), x0
        kind = np.asarray([0] * x1.shape[1] if of_kind is None else of_kind)
        for _ in range(rounds):
            near = _turned(_renamed(near, x1, kind[:, None] != kind), x1, mirrors)
        return (near, x1, *cond)

    return coupled


def within_labels(
    coupling: Callable[..., tuple[Tensor, ...]],
) -> Callable[..., tuple[Tensor, ...]]:
    """Return the coupling that pairs within each label, the first condition, by a given `coupling`.

    The noise of a label is then as normal as all of it, which a conditional model needs.

    Reference: tong2024

    Example:
        >>> x0, x1 = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [2.0]])
        >>> within_labels(minibatch_ot)(x0, x1, torch.tensor([7, 8]))[2]
        tensor([7, 8])
    """

    def coupled(x0: Tensor, x1: Tensor, *cond: Tensor) -> tuple[Tensor, ...]:
        if not cond:
            raise ValueError("within_labels pairs points that come with labels, but none came")
        parts = []
        for label in torch.unique(cond[0]):
            here = cond[0] == label
            parts.append(coupling(x0[here], x1[here], *(c[here] for c in cond)))
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    return coupled


def in_common_unit(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return points `x` and `y` about their common mean, in a unit of their size, and that unit.

    No square overflows or vanishes then, and no digits are lost to an offset that all points share.

    Example:
        >>> x, y, unit = in_common_unit(torch.tensor([[1e20]]), torch.tensor([[-1e20]]))
        >>> torch.cdist(x, y), unit
        (tensor([[2.]]), tensor(1.0000e+20))
    """
    with torch.no_grad():
        unit = torch.maximum(x.abs().max(), y.abs().max()).clamp(min=torch.finfo(x.dtype).tiny)
        centre = 0.5 * ((x / unit).mean(0) + (y / unit).mean(0))
    return x / unit - centre, y / unit - centre, unit


# Up to here the solver is done before potentials are.
_SMALL = 64


def _cost(x: Tensor, y: Tensor) -> NDArray[np.floating]:
    """Return squared distances `[b b]`, in a unit of their own."""
    x, y = (points.to(torch.promote_types(points.dtype, torch.float32)) for points in (x, y))
    x, y, _ = in_common_unit(x, y)
    cost: NDArray[np.floating] = torch.cdist(x, y).square().cpu().numpy()
    return cost


def _potentials(cost: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a potential of each column, near those of the optimal assignment, `[b]`.

    The solver is given the cost less these, which changes no comparison between permutations and
    spares it most of its search. They come from Sinkhorn's iteration for the entropic problem, at
    falling temperatures. A bad potential costs the solver time, nothing else.
    """
    g = np.zeros(len(cost), cost.dtype)
    # The median over pairs as they come: a few outliers among the points do not move it. Where it
    # is 0, since most points are paired with themselves, a small part of the mean.
    scale = max(np.median(cost.diagonal()), 1e-6 * cost.mean(), np.finfo(cost.dtype).tiny)
    for temperature in (0.2 * scale, 0.05 * scale, 0.015 * scale):
        logits = (g - cost) / temperature
        logits -= logits.max(1, keepdims=True)
        # Denormal numbers would make the products below ten times slower.
        kernel = np.exp(np.maximum(logits, -60))
        b = np.ones_like(g)
        for _ in range(4):
            a = 1 / (kernel @ b)
            b = 1 / np.maximum(a @ kernel, 1e-30)
        g = g + temperature * np.log(b)
    return g


def _renamed(x0: Tensor, x1: Tensor, different: NDArray[np.bool_]) -> Tensor:
    """Return x0 with its particles in the order that is nearest to x1; kinds are not exchanged."""
    cost = -(x1 @ x0.mT).detach().cpu().double().numpy()  # the squares do not depend on the order
    cost[:, different] = np.inf
    order = np.stack([linear_sum_assignment(each)[1] for each in cost])
    index = torch.as_tensor(order, device=x0.device)[:, :, None]
    return x0.gather(1, index.expand_as(x0))


def _turned(x0: Tensor, x1: Tensor, mirrors: bool) -> Tensor:
    """Return x0 turned about the origin to be nearest to x1."""
    u, _, vh = torch.linalg.svd(x0.mT @ x1)
    if not mirrors:
        sign = torch.linalg.det(u @ vh).sign()
        vh = torch.cat([vh[:, :-1], vh[:, -1:] * sign[:, None, None]], dim=1)
    turn: Tensor = u @ vh
    return x0 @ turn

"""The exact log-likelihood of a flow, by following a point back to the noise it came from.

Chapter: likelihood
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from fmtutor.checking import check_callable, check_cond, check_count, check_model, check_points
from fmtutor.continuity import divergence_probes, tangent_probes, velocity_and_divergence
from fmtutor.manifolds import Manifold
from fmtutor.notation import Field, KnowsDivergence, conditioned
from fmtutor.solvers import sample

__all__ = ["log_prob", "sample_with_log_prob", "standard_normal_log_prob"]

Divergence = Literal["exact", "hutchinson"]


def standard_normal_log_prob(x: Tensor) -> Tensor:
    """Return log N(x; 0, I), `[b]`, at points `x` `[b ...]`.

    Example:
        >>> standard_normal_log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """
    flat = x.reshape(len(x), -1)
    return -0.5 * (flat.square().sum(1) + flat.shape[1] * math.log(2 * math.pi))


def log_prob(
    v: Field,
    x1: Tensor,
    *,
    cond: Tensor | Sequence[Tensor] = (),
    base: Callable[[Tensor], Tensor] = standard_normal_log_prob,
    method: str = "rk4",
    steps: int = 100,
    divergence: Divergence = "exact",
    probes: int = 1,
    generator: torch.Generator | None = None,
    differentiable: bool = False,
    batch_size: int | None = None,
    manifold: Manifold | None = None,
) -> Tensor:
    """Return log p_1(x1) = log p_0(x_0) − ∫_0^1 ∇·v(x_t, t) dt of the flow of a field, `[b]`.

    The trajectory that ends in x1 is followed back to t = 0, and the divergence is integrated along
    it as one more coordinate of the same differential equation. Arguments not named here are those
    of `sample`.

    Args:
        x1: Points `[b ...]`.
        base: Log-density of the source, points `[b ...]` to nats `[b]`.
        divergence: "exact" (as many backward passes a stage as a point has dimensions; none for a
            field that knows its divergence, as `MLP` does), or "hutchinson" (random vectors, kept
            along the trajectory: unbiased for the result).
        probes: Number of random vectors a point, one backward pass each.
        differentiable: Whether gradients flow to the parameters of v, and to x1.
        manifold: Where the points are, if not in flat space: v is tangent there, the densities are
            those with respect to its volume, and points are put back onto it after each step.

    Equation: eq-likelihood-logp, eq-likelihood-augmented
    Reference: chen2018, grathwohl2019

    Example:
        >>> x1 = torch.zeros(1, 2)
        >>> (log_prob(lambda x, t: x, x1) - standard_normal_log_prob(x1)).round(decimals=2)
        tensor([-2.])
    """
    travel = partial(
        _follow,
        v,
        way=(1.0, 0.0),
        method=method,
        steps=steps,
        divergence=divergence,
        probes=probes,
        generator=generator,
        differentiable=differentiable,
        manifold=manifold,
    )
    parts = []
    for x, *c in _groups(v, x1, "x1", cond, base, batch_size, manifold):
        x0, change = travel(x, *c)
        # Integrated from 1 to 0, it is minus the integral from 0 to 1.
        parts.append(base(x0) + change)
    return torch.cat(parts)


def sample_with_log_prob(
    v: Field,
    x0: Tensor,
    *,
    cond: Tensor | Sequence[Tensor] = (),
    base: Callable[[Tensor], Tensor] = standard_normal_log_prob,
    method: str = "rk4",
    steps: int = 100,
    divergence: Divergence = "exact",
    probes: int = 1,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    manifold: Manifold | None = None,
) -> tuple[Tensor, Tensor]:
    """Follow the flow from noise x0 to data; return the points with their log-likelihoods `[b]`.

    The divergence is integrated along the way that is taken anyway: no second solution. Arguments
    not named here are those of `log_prob`.

    Equation: eq-continuity-likelihood
    Reference: chen2018

    Example:
        >>> x1, log_p = sample_with_log_prob(lambda x, t: x, torch.ones(1, 2))
        >>> x1, log_p
        (tensor([[2.7183, 2.7183]]), tensor([-4.8379]))
    """
    ends, values = [], []
    for x, *c in _groups(v, x0, "x0", cond, base, batch_size, manifold):
        x1, integral = _follow(
            v,
            x,
            *c,
            way=(0.0, 1.0),
            method=method,
            steps=steps,
            divergence=divergence,
            probes=probes,
            generator=generator,
            differentiable=False,
            manifold=manifold,
        )
        ends.append(x1)
        values.append(base(x) - integral)
    return torch.cat(ends), torch.cat(values)


def _groups(
    v: Field,
    x: Tensor,
    name: str,
    cond: Tensor | Sequence[Tensor],
    base: Callable[[Tensor], Tensor],
    batch_size: int | None,
    manifold: Manifold | None,
) -> list[tuple[Tensor, ...]]:
    """Check what came and return points and conditions in groups."""
    check_points(x, name, finite=True)
    check_model(v, x, name)
    check_callable("base", base, "a log-density")
    if manifold is not None:
        manifold.check(x, name)
    size = len(x) if batch_size is None else check_count("batch_size", batch_size)
    return list(zip(*(torch.split(a, size) for a in (x, *check_cond(cond, len(x)))), strict=True))


def _follow(
    v: Field,
    x: Tensor,
    *cond: Tensor,
    way: tuple[float, float],
    method: str,
    steps: int,
    divergence: Divergence,
    probes: int,
    generator: torch.Generator | None,
    differentiable: bool,
    manifold: Manifold | None,
) -> tuple[Tensor, Tensor]:
    """Return the points at the end of the way and the integral of the divergence along it."""
    with torch.inference_mode(False):  # what was made in that mode cannot be recorded
        cond = tuple(c.clone() if c.is_inference() else c for c in cond)
    vectors = divergence_probes(x, divergence, generator, probes)
    field, closed_form = conditioned(v, *cond), None
    if divergence == "exact" and not differentiable and manifold is None:
        closed_form = v.with_divergence() if isinstance(v, KnowsDivergence) else None

    def evaluate(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        if closed_form is not None:
            return closed_form(x, t, *cond)
        here = tangent_probes(manifold, x, vectors, divergence)
        return velocity_and_divergence(field, x, t, here, differentiable=differentiable)

    def augmented(state: Tensor, t: Tensor) -> Tensor:
        u, div = evaluate(state[:, :-1].reshape(x.shape), t)
        return torch.cat([u.reshape(len(u), -1), div[:, None]], dim=1)

    def project(state: Tensor) -> Tensor:
        points = state[:, :-1].reshape(x.shape)
        points = points if manifold is None else manifold.project(points)
        return torch.cat([points.reshape(len(x), -1), state[:, -1:]], dim=1)

    start = torch.cat([x.reshape(len(x), -1), x.new_zeros(len(x), 1)], dim=1)
    end = sample(
        augmented,
        start,
        method=method,
        steps=steps,
        t0=way[0],
        t1=way[1],
        project=None if manifold is None else project,
        differentiable=differentiable,
    )
    return end[:, :-1].reshape(x.shape), end[:, -1]

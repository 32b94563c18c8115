"""Which noise point goes with which data point.

The independent coupling takes pairs as they come. The other one pairs a batch so that its total
squared distance is least: the optimal transport between two finite sets of equal size, which is a
permutation.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fmtutor.checking import check_points, check_same

__all__ = ["independent", "minibatch_ot"]


def independent(x0: Tensor, x1: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
    """Return noise, data and labels as they came: a random pairing, if both were drawn at random.

    Args:
        x0: Noise `[b ...]`.
        x1: Data `[b ...]`.
        labels: Whatever belongs to the data points, each `[b ...]`.

    Returns:
        The arguments.

    Reference: lipman2023
    Chapter: couplings
    """
    return (x0, x1, *labels)


def minibatch_ot(x0: Tensor, x1: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
    r"""Permute the data, and its labels with it, so that Σ_i ‖x0_i − x1_π(i)‖² is least.

    Every data point is used exactly once: the optimal coupling of two sets of b points is a
    permutation, so none is drawn at random and none is lost. scipy's assignment solver finds it,
    in time that grows like b³ at worst. It is given the cost less a potential of each data point,
    which changes no comparison between permutations: potentials near the optimal ones spare it
    most of its search.

    The labels have no say in it. Where they tell groups of the data apart, the best pairs tie the
    noise to the label, and a conditional model should be trained on pairs within each label.

    Args:
        x0: Noise `[b ...]`; it keeps its order.
        x1: Data `[b ...]`, of the same shape.
        labels: Whatever belongs to the data points, each `[b ...]`.

    Returns:
        The noise as it came, the permuted data, and each label tensor permuted alike.

    Raises:
        TypeError: If the dtypes of `x0` and `x1` differ or are not floating point.
        ValueError: If their shapes differ, a value is not finite, or a label tensor has not one
            entry for each data point.

    Reference: tong2024
    Chapter: couplings
    """
    check_points(x0, "x0", finite=True)
    check_points(x1, "x1", finite=True)
    check_same("x0", x0, "x1", x1)
    for label in labels:
        if label.ndim < 1 or len(label) != len(x1):
            raise ValueError(
                f"labels must be [{len(x1)} ...], one for each data point, "
                f"but {[*label.shape]} came"
            )
    b = len(x0)
    with torch.no_grad():
        cost = torch.cdist(x0.reshape(b, -1), x1.reshape(b, -1)).square()
        if b > 100:  # below, the solver is done before the potentials are
            cost = cost.double() - _potentials(cost)
    # The rows come back in order, so the columns alone are the permutation.
    _, column = linear_sum_assignment(cost.cpu().numpy())
    order = torch.as_tensor(column, device=x1.device)
    return (x0, x1[order], *(label[order.to(label.device)] for label in labels))


def _potentials(cost: Tensor) -> Tensor:
    """Return a potential of each column, near those of the optimal assignment, `[b]`.

    Sinkhorn's iteration for the entropic problem, at falling temperatures. A bad potential costs
    the solver time, nothing else.
    """
    g = cost.new_zeros(len(cost))
    # The median over pairs as they come: a few outliers among the points do not move it. Where it
    # is 0, since most points are paired with themselves, a small part of the mean.
    scale = torch.maximum(cost.diagonal().median(), 1e-6 * cost.mean())
    scale = scale.clamp(min=torch.finfo(cost.dtype).tiny)
    for temperature in (0.1 * scale, 0.03 * scale, 0.01 * scale):
        kernel = ((g - cost) / temperature).softmax(1)
        b = torch.ones_like(g)
        for _ in range(8):
            a = 1 / (kernel @ b)
            b = 1 / (a @ kernel).clamp(min=1e-30)
        g = g + temperature * b.log()
    return g

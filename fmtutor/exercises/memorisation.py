"""The exercises of the chapter `memorisation`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal

__all__ = ["grade_ends", "grade_share", "grade_slope"]


def _rank(share: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the data point whose interval of equal probability a noise point lies in."""

    def ends(x0: Tensor, data: Tensor) -> Tensor:
        rank = (len(data) * share(x0)).long().clamp(max=len(data) - 1)
        return data.sort().values[rank]

    return ends


def _nearest(x0: Tensor, data: Tensor) -> Tensor:
    return data[(x0[:, None] - data).abs().argmin(1)]


def _unsorted(x0: Tensor, data: Tensor) -> Tensor:
    return data[(len(data) * torch.special.ndtr(x0)).long()]


grade_ends = grader("grade_ends", Exercise(
    name="ends",
    task="`ends(x0, data)`, where the exact field of a data set on a line ends",
    takes="noise `[b]` and data `[n]`; returns data points `[b]`",
    reference=_rank(torch.special.ndtr),
    inputs=[(normal(71, 64), 3 + normal(72, 7)), (normal(73, 64), normal(74, 4).exp())],
    mistakes=[
        ("this is the data point nearest to the noise; each has to get the same share", _nearest),
        ("the data has to be sorted: the order along the line is what is kept", _unsorted),
        ("the order is kept, not reversed", _rank(lambda x0: torch.special.ndtr(-x0))),
        ("a share is a probability under N(0, 1): take its distribution function, ndtr",
         _rank(torch.sigmoid)),
        ("this is the mean of the data: an average ends nowhere",
         lambda x0, data: data.mean().expand_as(x0)),
    ],
))  # fmt: skip


def _compare(
    first: Callable[[Tensor, Tensor], Tensor], second: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Compare the distances to what the two choices leave of training and held-out points."""

    def share(samples: Tensor, train: Tensor, held_out: Tensor) -> Tensor:
        near = torch.cdist(samples, first(train, held_out)).min(1).values
        far = torch.cdist(samples, second(train, held_out)).min(1).values
        return (near < far).double().mean()

    return share


def _fewer(points: Tensor, others: Tensor) -> Tensor:
    return points[: min(len(points), len(others))]


def _all(points: Tensor, others: Tensor) -> Tensor:
    return points


grade_share = grader("grade_share", Exercise(
    name="share",
    task="`share(samples, train, held_out)`, the share of samples nearer to training than to "
    "held-out points",
    takes="samples, training and held-out points, each `[b d]` of a size of its own; returns a "
    "number",
    reference=_compare(_fewer, lambda train, held_out: _fewer(held_out, train)),
    inputs=[
        (normal(75, 200, 2), normal(76, 90, 2), normal(77, 30, 2)),
        (normal(78, 200, 3), normal(79, 20, 3), normal(80, 70, 3)),
    ],
    mistakes=[
        ("the sizes still differ: the larger set wins by its size alone",
         _compare(_all, lambda train, held_out: held_out)),
        ("the share of samples nearer to *training* points is asked for",
         _compare(lambda train, held_out: _fewer(held_out, train), _fewer)),
    ],
))  # fmt: skip


def _slope(n: int, d: int, r: float, *, balls: bool = True, gamma: bool = True) -> float:
    log_ball = d / 2 * math.log(math.pi) + d * math.log(r)
    log_ball -= math.lgamma(d / 2 + 1) if gamma else 0.0
    return (d / 2 * math.log(2 * math.pi) - (math.log(n) if balls else 0.0) - log_ball) / d


grade_slope = grader("grade_slope", Exercise(
    name="least slope",
    task="`least_slope(n, d, r)`, the Lipschitz constant below which a field cannot copy",
    takes="the number of data points, the dimension and the distance; returns L",
    reference=_slope,
    inputs=[(30, 2, 0.01), (100, 5, 0.1)],
    mistakes=[
        ("there are n balls: their volumes add", lambda n, d, r: _slope(n, d, r, balls=False)),
        ("the exponent is d L: divide by d", lambda n, d, r: d * _slope(n, d, r)),
        ("the Gamma function of the ball's volume is missing",
         lambda n, d, r: _slope(n, d, r, gamma=False)),
        ("this is e^L; take the logarithm", lambda n, d, r: math.exp(_slope(n, d, r))),
    ],
))  # fmt: skip

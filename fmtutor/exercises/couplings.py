"""The exercises of the chapter `couplings`."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal
from fmtutor.notation import VelocityField

__all__ = [
    "grade_below",
    "grade_bends",
    "grade_flow_pairs",
    "grade_labels_along",
    "grade_partners",
]


def _ranks(x: Tensor) -> Tensor:
    return x.argsort().argsort()


grade_partners = grader("grade_partners", Exercise(
    name="partners",
    task="`partners(x0, x1)`, the best pairing on a line",
    takes="noise and data `[b]`; returns the data in the order of the noise, `[b]`",
    reference=lambda x0, x1: x1.sort().values[_ranks(x0)],
    inputs=[(normal(1, 9), 2 * normal(2, 9) + 1), (normal(3, 30), normal(4, 30))],
    mistakes=[
        ("this is the sorted data; its order must be that of x0", lambda x0, x1: x1.sort().values),
        ("argsort lists who comes first; the rank of each entry is its argsort",
         lambda x0, x1: x1.sort().values[x0.argsort()]),
        ("the data has to be sorted before it is indexed by the ranks of x0",
         lambda x0, x1: x1[_ranks(x0)]),
        ("the largest goes with the smallest: this pairing is the dearest one",
         lambda x0, x1: x1.sort(descending=True).values[_ranks(x0)]),
        ("the nearest data point of each: some are used twice, others not at all",
         lambda x0, x1: x1[(x0[:, None] - x1).abs().argmin(1)]),
    ],
))  # fmt: skip


def _square(x0: Tensor, x1: Tensor) -> Tensor:
    return torch.cdist(x0, x1).square()


def _columns(cost: Tensor) -> Tensor:
    """Return the column that the cheapest pairing gives to each row."""
    return torch.as_tensor(linear_sum_assignment(cost.numpy())[1])


grade_labels_along = grader("grade_labels_along", Exercise(
    name="labels along",
    task="`labels_along(x0, x1, labels)`, labels that follow their data points",
    takes="noise and data `[b d]` and labels `[b]`; returns the labels `[b]` in the order in which "
    "the best pairing puts the data",
    reference=lambda x0, x1, labels: labels[_columns(_square(x0, x1))],
    inputs=[
        (normal(5, 40, 2), 3 * normal(6, 40, 2) + 1, torch.arange(40)),
        (normal(7, 25, 3), 2 * normal(8, 25, 3), 10 * torch.arange(25)),
    ],
    mistakes=[
        ("the labels stayed where they were while the data moved", lambda x0, x1, labels: labels),
        ("this is the function as it was given: look at the cost and at the order",
         lambda x0, x1, labels: labels[_columns(torch.cdist(x0, x1)).argsort()]),
        ("this is the inverse permutation: row i gets the label of column columns[i]",
         lambda x0, x1, labels: labels[_columns(_square(x0, x1)).argsort()]),
        ("this minimises the total distance; the cost is its square",
         lambda x0, x1, labels: labels[_columns(torch.cdist(x0, x1))]),
        ("the nearest data point of each row is no permutation: labels get lost",
         lambda x0, x1, labels: labels[_square(x0, x1).argmin(1)]),
        ("this pairing is the dearest one, not the cheapest",
         lambda x0, x1, labels: labels[_columns(-_square(x0, x1))]),
    ],
))  # fmt: skip


def _velocity(path: Tensor, times: Tensor) -> Tensor:
    quotients: Tensor = path.diff(dim=0) / times.diff()[:, None, None]
    return quotients


def _deviation(path: Tensor, times: Tensor) -> Tensor:
    return _velocity(path, times) - (path[-1] - path[0])


def _integral(vectors: Tensor, times: Tensor) -> Tensor:
    """Return ∫ E|w|² dt for vectors `[k b d]`, one for each step."""
    return (times.diff() * vectors.square().sum(2).mean(1)).sum()


def _trajectories(seed: int, k: int, b: int, d: int) -> tuple[Tensor, Tensor]:
    return normal(seed, k, b, d).cumsum(0), torch.linspace(0, 1, k, dtype=torch.float64) ** 1.7


grade_bends = grader("grade_bends", Exercise(
    name="bends",
    task="`bends(path, times)`, the bending of trajectories from t = 0 to t = 1",
    takes="trajectories `[k b d]` and times `[k]`; returns a number, 0 for straight lines at "
    "constant speed",
    reference=lambda path, times: _integral(_deviation(path, times), times),
    inputs=[_trajectories(9, 6, 5, 2), _trajectories(10, 12, 3, 4)],
    mistakes=[
        ("a step of length h counts h in the integral; here all count the same",
         lambda path, times: _deviation(path, times).square().sum(2).mean()),
        ("the integral over t is missing: weight each step with its length",
         lambda path, times: _deviation(path, times).square().sum(2).mean(1).sum()),
        ("sum over the dimensions of a point, then take the mean over points",
         lambda path, times: _integral(_deviation(path, times), times) / path.shape[2]),
        ("a velocity is a difference divided by the time it took",
         lambda path, times: _integral(path.diff(dim=0) - (path[-1] - path[0]), times)),
        ("this is the kinetic energy: subtract x_1 − x_0 from the velocity",
         lambda path, times: _integral(_velocity(path, times), times)),
        ("the deviation enters with its square",
         lambda path, times: (times.diff() * _deviation(path, times).norm(dim=2).mean(1)).sum()),
    ],
))  # fmt: skip


def _field(x: Tensor, t: Tensor | float) -> Tensor:
    """A field in the plane that depends on place and time."""
    return torch.stack([x[:, 1] + t, torch.sin(x[:, 0]) - 2 * t * x[:, 1]], dim=1)


def _end(v: VelocityField, x0: Tensor, steps: int, clock: float = 1.0, left_out: int = 0) -> Tensor:
    x = x0
    for k in range(steps - left_out):
        x = x + v(x, torch.tensor(clock * k / steps, dtype=x.dtype)) / steps
    return x


def _pairs(v: VelocityField, x0: Tensor, steps: int) -> Tensor:
    return torch.stack([x0, _end(v, x0, steps)], dim=1)


grade_flow_pairs = grader("grade_flow_pairs", Exercise(
    name="flow pairs",
    task="`flow_pairs(v, x0, steps)`, the pairs of a reflow",
    takes="a field, points `[b d]` and a number of Euler steps; returns start and end of each "
    "trajectory, `[b 2 d]`",
    reference=_pairs,
    inputs=[(_field, normal(11, 4, 2), 5), (_field, normal(12, 7, 2), 12)],
    mistakes=[
        ("both entries are the end: the start was overwritten on the way",
         lambda v, x0, steps: torch.stack([_end(v, x0, steps)] * 2, dim=1)),
        ("the start comes first, then the end", lambda v, x0, steps: _pairs(v, x0, steps).flip(1)),
        ("the clock stands at 0: the field is asked at time k/steps",
         lambda v, x0, steps: torch.stack([x0, _end(v, x0, steps, clock=0.0)], dim=1)),
        ("one step is missing: there are `steps` of them, of length 1/steps",
         lambda v, x0, steps: torch.stack([x0, _end(v, x0, steps, left_out=1)], dim=1)),
        ("this is a single step from t = 0 to t = 1", lambda v, x0, steps: _pairs(v, x0, 1)),
    ],
))  # fmt: skip

grade_below = grader("grade_below", Exercise(
    name="below",
    task="`below(w, a)`, how skewed the samples of a class are under whole-batch pairing",
    takes="the probability of the class, which lies to the right of all others, and a level a, "
    "both in (0, 1]; returns the probability that a sample from N(0, 1) ends below the a-quantile "
    "of the class",
    reference=lambda w, a: 1 - w * (1 - a),
    inputs=[(0.3, 0.6), (0.5, 0.5), (0.1, 0.2), (1.0, 0.4)],
    mistakes=[
        ("this is what it should be; the noise of the class is not N(0, 1)", lambda w, a: a),
        ("this is the class on the left; the class on the right gets the large noise",
         lambda w, a: w * a),
        ("this is the probability to end above the quantile", lambda w, a: w * (1 - a)),
        ("these are the starts below all noise of the class; some of the others end below too",
         lambda w, a: 1 - w),
        ("the share a is one of the class's noise, which has probability w",
         lambda w, a: (1 - w) + a),
        ("the share a of the class's noise lies below the point sought, not above",
         lambda w, a: 1 - w * a),
    ],
))  # fmt: skip

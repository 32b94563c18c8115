"""The graders of the chapter `couplings`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fmtutor.checks import grade
from fmtutor.notation import VelocityField

__all__ = [
    "grade_below",
    "grade_bends",
    "grade_flow_pairs",
    "grade_labels_along",
    "grade_partners",
]


def _normal(*shape: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def _field(x: Tensor, t: Tensor | float) -> Tensor:
    """A field in the plane that depends on place and time."""
    return torch.stack([x[:, 1] + t, torch.sin(x[:, 0]) - 2 * t * x[:, 1]], dim=1)


def grade_partners(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Grade `partners(x0, x1)`, the best pairing on a line.

    Args:
        answer: Takes noise and data `[b]`; returns the data in the order of the noise, `[b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(x0: Tensor, x1: Tensor) -> Tensor:
        return x1.sort().values[x0.argsort().argsort()]

    def sorted_data(x0: Tensor, x1: Tensor) -> Tensor:
        return x1.sort().values

    def one_argsort(x0: Tensor, x1: Tensor) -> Tensor:
        return x1.sort().values[x0.argsort()]

    def data_unsorted(x0: Tensor, x1: Tensor) -> Tensor:
        return x1[x0.argsort().argsort()]

    def falling(x0: Tensor, x1: Tensor) -> Tensor:
        return x1.sort(descending=True).values[x0.argsort().argsort()]

    def nearest(x0: Tensor, x1: Tensor) -> Tensor:
        return x1[(x0[:, None] - x1).abs().argmin(1)]

    grade(
        "partners",
        answer,
        reference,
        [
            (_normal(9, seed=1), 2 * _normal(9, seed=2) + 1),
            (_normal(30, seed=3), _normal(30, seed=4)),
        ],
        mistakes=[
            ("this is the sorted data; its order must be that of x0", sorted_data),
            ("argsort lists who comes first; the rank of each entry is its argsort", one_argsort),
            ("the data has to be sorted before it is indexed by the ranks of x0", data_unsorted),
            ("the largest goes with the smallest: this pairing is the dearest one", falling),
            ("the nearest data point of each: some are used twice, others not at all", nearest),
        ],
    )


def grade_labels_along(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Grade `labels_along(x0, x1, labels)`, labels that follow their data points.

    Args:
        answer: Takes noise and data `[b d]` and labels `[b]`; returns the labels `[b]` in the
            order in which the best pairing puts the data.

    Raises:
        GradeError: If the answer is wrong.
    """

    def columns(cost: Tensor, *, maximize: bool = False) -> Tensor:
        return torch.as_tensor(linear_sum_assignment(cost.numpy(), maximize=maximize)[1])

    def reference(x0: Tensor, x1: Tensor, labels: Tensor) -> Tensor:
        return labels[columns(torch.cdist(x0, x1).square())]

    def left_behind(x0: Tensor, x1: Tensor, labels: Tensor) -> Tensor:
        return labels

    def inverse(x0: Tensor, x1: Tensor, labels: Tensor) -> Tensor:
        return labels[columns(torch.cdist(x0, x1).square()).argsort()]

    def not_squared(x0: Tensor, x1: Tensor, labels: Tensor) -> Tensor:
        return labels[columns(torch.cdist(x0, x1))]

    def nearest(x0: Tensor, x1: Tensor, labels: Tensor) -> Tensor:
        return labels[torch.cdist(x0, x1).argmin(1)]

    def dearest(x0: Tensor, x1: Tensor, labels: Tensor) -> Tensor:
        return labels[columns(torch.cdist(x0, x1).square(), maximize=True)]

    grade(
        "labels along",
        answer,
        reference,
        [
            (_normal(40, 2, seed=5), 3 * _normal(40, 2, seed=6) + 1, torch.arange(40)),
            (_normal(25, 3, seed=7), 2 * _normal(25, 3, seed=8), 10 * torch.arange(25)),
        ],
        mistakes=[
            ("the labels stayed where they were while the data moved", left_behind),
            ("this is the inverse permutation: row i gets the label of column columns[i]", inverse),
            ("this minimises the total distance; the cost is its square", not_squared),
            ("the nearest data point of each row is no permutation: labels get lost", nearest),
            ("this pairing is the dearest one, not the cheapest", dearest),
        ],
    )


def grade_bends(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Grade `bends(path, times)`, the straightness of trajectories from t = 0 to t = 1.

    Args:
        answer: Takes trajectories `[k b d]` and times `[k]`; returns a number, 0 for straight
            lines at constant speed.

    Raises:
        GradeError: If the answer is wrong.
    """

    def velocity(path: Tensor, times: Tensor) -> Tensor:
        quotients: Tensor = path.diff(dim=0) / times.diff()[:, None, None]
        return quotients

    def deviation(path: Tensor, times: Tensor) -> Tensor:
        return velocity(path, times) - (path[-1] - path[0])

    def reference(path: Tensor, times: Tensor) -> Tensor:
        return (times.diff() * deviation(path, times).square().sum(2).mean(1)).sum()

    def equal_weights(path: Tensor, times: Tensor) -> Tensor:
        return deviation(path, times).square().sum(2).mean()

    def not_averaged(path: Tensor, times: Tensor) -> Tensor:
        return deviation(path, times).square().sum(2).mean(1).sum()

    def mean_over_dimensions(path: Tensor, times: Tensor) -> Tensor:
        return reference(path, times) / path.shape[2]

    def steps_for_velocities(path: Tensor, times: Tensor) -> Tensor:
        off = path.diff(dim=0) - (path[-1] - path[0])
        return (times.diff() * off.square().sum(2).mean(1)).sum()

    def energy(path: Tensor, times: Tensor) -> Tensor:
        return (times.diff() * velocity(path, times).square().sum(2).mean(1)).sum()

    def not_squared(path: Tensor, times: Tensor) -> Tensor:
        length = deviation(path, times).square().sum(2).sqrt()
        return (times.diff() * length.mean(1)).sum()

    def case(seed: int, k: int, b: int, d: int) -> tuple[Tensor, Tensor]:
        times = torch.linspace(0, 1, k, dtype=torch.float64) ** 1.7
        return _normal(k, b, d, seed=seed).cumsum(0), times

    grade(
        "bends",
        answer,
        reference,
        [case(9, 6, 5, 2), case(10, 12, 3, 4)],
        mistakes=[
            ("a step of length h counts h in the integral; here all count the same", equal_weights),
            ("the integral over t is missing: weight each step with its length", not_averaged),
            ("sum over the dimensions of a point, then take the mean over points",
             mean_over_dimensions),
            ("a velocity is a difference divided by the time it took", steps_for_velocities),
            ("this is the kinetic energy: subtract x_1 − x_0 from the velocity", energy),
            ("the deviation enters with its square", not_squared),
        ],
    )  # fmt: skip


def grade_flow_pairs(answer: Callable[[VelocityField, Tensor, int], Tensor]) -> None:
    """Grade `flow_pairs(v, x0, steps)`, the pairs of a reflow.

    Args:
        answer: Takes a field, points `[b d]` and a number of Euler steps; returns start and end
            of each trajectory, `[b 2 d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def end(v: VelocityField, x0: Tensor, steps: int, clock: float = 1.0, last: int = 0) -> Tensor:
        x = x0
        for k in range(steps - last):
            x = x + v(x, torch.tensor(clock * k / steps, dtype=x.dtype)) / steps
        return x

    def reference(v: VelocityField, x0: Tensor, steps: int) -> Tensor:
        return torch.stack([x0, end(v, x0, steps)], dim=1)

    def overwritten(v: VelocityField, x0: Tensor, steps: int) -> Tensor:
        return torch.stack([end(v, x0, steps)] * 2, dim=1)

    def swapped(v: VelocityField, x0: Tensor, steps: int) -> Tensor:
        return reference(v, x0, steps).flip(1)

    def clock_stands(v: VelocityField, x0: Tensor, steps: int) -> Tensor:
        return torch.stack([x0, end(v, x0, steps, clock=0.0)], dim=1)

    def one_missing(v: VelocityField, x0: Tensor, steps: int) -> Tensor:
        return torch.stack([x0, end(v, x0, steps, last=1)], dim=1)

    def one_step(v: VelocityField, x0: Tensor, steps: int) -> Tensor:
        return torch.stack([x0, end(v, x0, 1)], dim=1)

    grade(
        "flow pairs",
        answer,
        reference,
        [(_field, _normal(4, 2, seed=11), 5), (_field, _normal(7, 2, seed=12), 12)],
        mistakes=[
            ("both entries are the end: the start was overwritten on the way", overwritten),
            ("the start comes first, then the end", swapped),
            ("the clock stands at 0: the field is asked at time k/steps", clock_stands),
            ("one step is missing: there are `steps` of them, of length 1/steps", one_missing),
            ("this is a single step from t = 0 to t = 1", one_step),
        ],
    )


def grade_below(answer: Callable[[float, float], float]) -> None:
    """Grade `below(w, a)`, how skewed the samples of a class are under whole-batch pairing.

    Args:
        answer: Takes the probability of the class, which lies to the right of all others, and a
            level a, both in (0, 1]; returns the probability that a sample from N(0, 1) ends below
            the a-quantile of the class.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(w: float, a: float) -> float:
        return 1 - w * (1 - a)

    def no_skew(w: float, a: float) -> float:
        return a

    def left_class(w: float, a: float) -> float:
        return w * a

    def above(w: float, a: float) -> float:
        return w * (1 - a)

    def edge_only(w: float, a: float) -> float:
        return 1 - w

    def given_trained(w: float, a: float) -> float:
        return (1 - w) + a

    def wrong_end(w: float, a: float) -> float:
        return 1 - w * a

    grade(
        "below",
        answer,
        reference,
        [(0.3, 0.6), (0.5, 0.5), (0.1, 0.2), (1.0, 0.4)],
        mistakes=[
            ("this is what it should be; the noise of the class is not N(0, 1)", no_skew),
            ("this is the class on the left; the class on the right gets the large noise",
             left_class),
            ("this is the probability to end above the quantile", above),
            ("these are the starts below all noise of the class; some of the others end below too",
             edge_only),
            ("the share a is one of the class's noise, which has probability w", given_trained),
            ("the share a of the class's noise lies below the point sought, not above", wrong_end),
        ],
    )  # fmt: skip

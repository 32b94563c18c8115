"""The graders of the chapter `objectives`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checks import grade
from fmtutor.oracles import EmpiricalField
from fmtutor.paths import CondOT

__all__ = ["grade_energy", "grade_gap", "grade_two_points", "grade_weighted"]


def grade_two_points(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Grade `two_points(x, t, a)`, the variance of the target given x for data at ±a on a line.

    Args:
        answer: Takes points `[b]`, times `[b]` in [0, 1) and a float; returns variances `[b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(x: Tensor, t: Tensor, a: float) -> Tensor:
        mean = torch.tanh(a * t * x / (1 - t) ** 2)
        return a**2 * (1 - mean**2) / (1 - t) ** 2

    def of_data(x: Tensor, t: Tensor, a: float) -> Tensor:
        return reference(x, t, a) * (1 - t) ** 2

    def prior(x: Tensor, t: Tensor, a: float) -> Tensor:
        return a**2 / (1 - t) ** 2

    def second_moment(x: Tensor, t: Tensor, a: float) -> Tensor:
        mean = a * torch.tanh(a * t * x / (1 - t) ** 2)
        return reference(x, t, a) + ((mean - x) / (1 - t)) ** 2

    def std_for_variance(x: Tensor, t: Tensor, a: float) -> Tensor:
        mean = torch.tanh(a * t * x / (1 - t))
        return a**2 * (1 - mean**2) / (1 - t) ** 2

    g = torch.Generator().manual_seed(41)
    x = torch.randn(32, generator=g, dtype=torch.float64)
    t = 0.8 * torch.rand(32, generator=g, dtype=torch.float64)
    grade(
        "two points",
        answer,
        reference,
        [(x, t, 1.0), (x, t, 0.7)],
        mistakes=[
            ("this is the variance of x1; the target is (x1 - x)/(1 - t)", of_data),
            ("the weights are those of the prior; they depend on x", prior),
            ("this is the mean square of the target; its squared mean must go", second_moment),
            ("the exponent divides by the variance (1 - t)², not by 1 - t", std_for_variance),
        ],
    )


def grade_gap(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Grade `gap(data, x, t)`, the variance of the target given x for a finite data set.

    Args:
        answer: Takes a data set `[n d]`, points `[b d]` and times `[b]`; returns the variances
            `[b]`, summed over dimensions.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(data: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return EmpiricalField(CondOT(), data).target_variance(x, t) * x.shape[1]

    def mean_over_dimensions(data: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return reference(data, x, t) / x.shape[1]

    def no_weights(data: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return (data.var(0, correction=0).sum() / (1 - t) ** 2).expand(len(x))

    def of_data(data: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return reference(data, x, t) * (1 - t) ** 2

    def divided_once(data: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return reference(data, x, t) * (1 - t)

    g = torch.Generator().manual_seed(42)
    data = torch.randn(6, 3, generator=g, dtype=torch.float64)
    x = torch.randn(20, 3, generator=g, dtype=torch.float64)
    t = 0.7 * torch.rand(20, generator=g, dtype=torch.float64)
    grade(
        "gap",
        answer,
        reference,
        [(data, x, t)],
        mistakes=[
            ("a sum over dimensions is asked for, this is the mean", mean_over_dimensions),
            ("every data point has the same weight; use the posterior given x", no_weights),
            ("this is the variance of x1; the target is (x1 - x)/(1 - t)", of_data),
            ("a variance is divided by the square of 1 - t", divided_once),
        ],
    )


def grade_weighted(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Grade `weighted(u, w, c)`, what the loss learns when each sample carries a weight c(z).

    Args:
        answer: Takes conditional velocities `[n d]`, posterior weights `[n]` that sum to one and
            the weights c `[n]` of the loss; returns the minimiser `[d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(u: Tensor, w: Tensor, c: Tensor) -> Tensor:
        return (w * c) @ u / (w * c).sum()

    def unweighted(u: Tensor, w: Tensor, c: Tensor) -> Tensor:
        return w @ u

    def unnormalised(u: Tensor, w: Tensor, c: Tensor) -> Tensor:
        return (w * c) @ u

    def only_c(u: Tensor, w: Tensor, c: Tensor) -> Tensor:
        return c @ u / c.sum()

    def by_sum_of_c(u: Tensor, w: Tensor, c: Tensor) -> Tensor:
        return (w * c) @ u / c.sum()

    g = torch.Generator().manual_seed(43)
    u = torch.randn(7, 2, generator=g, dtype=torch.float64)
    w = torch.rand(7, generator=g, dtype=torch.float64).softmax(0)
    c = 3 * torch.rand(7, generator=g, dtype=torch.float64)
    grade(
        "weighted",
        answer,
        reference,
        [(u, w, c)],
        mistakes=[
            ("this is the unweighted field; the weights of the loss change it", unweighted),
            ("right up to normalisation: the weights w c do not sum to one", unnormalised),
            ("the posterior weights are missing", only_c),
            ("divide by the sum of w c, not of c", by_sum_of_c),
        ],
    )


def grade_energy(answer: Callable[[float, float, float], float]) -> None:
    """Grade `energy(m, s0, s1)`, the mean of u² along the flow between two Gaussians on a line.

    Args:
        answer: Takes the mean of the data and the standard deviations of noise and data; returns
            the integral over t of E[u_t(x_t)²] for the straight path and independent pairs.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(m: float, s0: float, s1: float) -> float:
        return m**2 + s0**2 + s1**2 - 0.5 * math.pi * s0 * s1

    def of_targets(m: float, s0: float, s1: float) -> float:
        return m**2 + s0**2 + s1**2

    def optimal(m: float, s0: float, s1: float) -> float:
        return m**2 + (s0 - s1) ** 2

    def added(m: float, s0: float, s1: float) -> float:
        return m**2 + s0**2 + s1**2 + 0.5 * math.pi * s0 * s1

    grade(
        "energy",
        answer,
        reference,
        [(2.0, 1.0, 0.5), (0.0, 1.0, 1.0), (-1.0, 2.0, 0.3)],
        mistakes=[
            ("this is the mean square of the targets; subtract what no field can fit", of_targets),
            ("this is the least possible energy, W2²; independent pairs cost more", optimal),
            ("what no field can fit is subtracted, not added", added),
            ("the shift of the mean costs m²", lambda m, s0, s1: reference(0.0, s0, s1)),
        ],
    )

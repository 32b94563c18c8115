"""The exercises of the chapter `objectives`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal, uniform
from fmtutor.oracles import EmpiricalField
from fmtutor.paths import CondOT

__all__ = [
    "grade_energy",
    "grade_four_losses",
    "grade_fresh",
    "grade_gap",
    "grade_two_points",
    "grade_weighted",
]


def _mean(x: Tensor, t: Tensor, a: float) -> Tensor:
    return a * torch.tanh(a * t * x / (1 - t) ** 2)


def _two_points(x: Tensor, t: Tensor, a: float) -> Tensor:
    return (a**2 - _mean(x, t, a) ** 2) / (1 - t) ** 2


grade_two_points = grader("grade_two_points", Exercise(
    name="two points",
    task="`two_points(x, t, a)`, the variance of the target given x for data at ±a on a line",
    takes="points `[b]`, times `[b]` in [0, 1) and a float; returns variances `[b]`",
    reference=_two_points,
    inputs=[(normal(41, 32), uniform(42, 32, high=0.8), a) for a in (1.0, 0.7)],
    mistakes=[
        ("this is the variance of x1; the target is (x1 - x)/(1 - t)",
         lambda x, t, a: _two_points(x, t, a) * (1 - t) ** 2),
        ("the weights are those of the prior; they depend on x",
         lambda x, t, a: a**2 / (1 - t) ** 2),
        ("this is the mean square of the target; its squared mean must go",
         lambda x, t, a: _two_points(x, t, a) + ((_mean(x, t, a) - x) / (1 - t)) ** 2),
        ("the exponent divides by the variance (1 - t)², not by 1 - t",
         lambda x, t, a: a**2 * (1 - torch.tanh(a * t * x / (1 - t)) ** 2) / (1 - t) ** 2),
    ],
))  # fmt: skip


def _gap(data: Tensor, x: Tensor, t: Tensor) -> Tensor:
    return EmpiricalField(CondOT(), data).target_variance(x, t) * x.shape[1]


grade_gap = grader("grade_gap", Exercise(
    name="gap",
    task="`gap(data, x, t)`, the variance of the target given x for a finite data set",
    takes="a data set `[n d]`, points `[b d]` and times `[b]`; returns the variances `[b]`, summed "
    "over dimensions",
    reference=_gap,
    inputs=[(normal(42, 6, 3), normal(43, 20, 3), uniform(44, 20, high=0.7))],
    mistakes=[
        ("a sum over dimensions is asked for, this is the mean",
         lambda data, x, t: _gap(data, x, t) / x.shape[1]),
        ("every data point has the same weight; use the posterior given x",
         lambda data, x, t: data.var(0, correction=0).sum() / (1 - t) ** 2),
        ("this is the variance of x1; the target is (x1 - x)/(1 - t)",
         lambda data, x, t: _gap(data, x, t) * (1 - t) ** 2),
        ("a variance is divided by the square of 1 - t",
         lambda data, x, t: _gap(data, x, t) * (1 - t)),
    ],
))  # fmt: skip

grade_weighted = grader("grade_weighted", Exercise(
    name="weighted",
    task="`weighted(u, w, c)`, what the loss learns when each sample carries a weight c(z)",
    takes="conditional velocities `[n d]`, posterior weights `[n]` that sum to one and the weights "
    "c `[n]` of the loss; returns the minimiser `[d]`",
    reference=lambda u, w, c: (w * c) @ u / (w * c).sum(),
    inputs=[(normal(43, 7, 2), uniform(44, 7).softmax(0), uniform(45, 7, high=3.0))],
    mistakes=[
        ("this is the unweighted field; the weights of the loss change it", lambda u, w, c: w @ u),
        ("right up to normalisation: the weights w c do not sum to one",
         lambda u, w, c: (w * c) @ u),
        ("the posterior weights are missing", lambda u, w, c: c @ u / c.sum()),
        ("divide by the sum of w c, not of c", lambda u, w, c: (w * c) @ u / c.sum()),
    ],
))  # fmt: skip

grade_energy = grader("grade_energy", Exercise(
    name="energy",
    task="`energy(m, s0, s1)`, the mean of u² along the flow between two Gaussians on a line",
    takes="the mean of the data and the standard deviations of noise and data; returns the "
    "integral over t of E[u_t(x_t)²] for the straight path and independent pairs",
    reference=lambda m, s0, s1: m**2 + s0**2 + s1**2 - 0.5 * math.pi * s0 * s1,
    inputs=[(2.0, 1.0, 0.5), (0.0, 1.0, 1.0), (-1.0, 2.0, 0.3)],
    mistakes=[
        ("this is the mean square of the targets; subtract what no field can fit",
         lambda m, s0, s1: m**2 + s0**2 + s1**2),
        ("this is the least possible energy, W2²; independent pairs cost more",
         lambda m, s0, s1: m**2 + (s0 - s1) ** 2),
        ("what no field can fit is subtracted, not added",
         lambda m, s0, s1: m**2 + s0**2 + s1**2 + 0.5 * math.pi * s0 * s1),
        ("the shift of the mean costs m²",
         lambda m, s0, s1: s0**2 + s1**2 - 0.5 * math.pi * s0 * s1),
    ],
))  # fmt: skip


def _median(u: Tensor, w: Tensor) -> Tensor:
    ordered, index = u.sort()
    return ordered[int((w[index].cumsum(0) < 0.5).sum())]


def _swapped(u: Tensor, w: Tensor) -> Tensor:
    return (w @ u.exp()).log()


def _mean_of(u: Tensor, w: Tensor) -> Tensor:
    return w @ u


Learned = Callable[[Tensor, Tensor], Tensor]


def _four(*learned: Learned) -> Callable[[Tensor, Tensor], list[Tensor]]:
    return lambda u, w: [each(u, w) for each in learned]


grade_four_losses = grader("grade_four_losses", Exercise(
    name="four losses",
    task="`four_losses(u, w)`, what four losses learn at one place of a line",
    takes="conditional velocities `[n]` and posterior weights `[n]` that sum to one; returns `[4]`",
    reference=_four(_mean_of, _median, _mean_of, _swapped),
    inputs=[(normal(46, 9), uniform(47, 9).softmax(0)), (normal(48, 6), uniform(49, 6).softmax(0))],
    mistakes=[
        ("none of the four changes here; (2) and (4) do",
         _four(_mean_of, _mean_of, _mean_of, _mean_of)),
        ("the absolute error is minimised by the median, not by the mean",
         _four(_mean_of, _mean_of, _mean_of, _swapped)),
        ("the order of the arguments matters: only with the target first is the mean best",
         _four(_mean_of, _median, _mean_of, _mean_of)),
        ("(3) and (4) are interchanged: with the target first the mean is best",
         _four(_mean_of, _median, _swapped, _mean_of)),
        ("a Bregman divergence with the target first keeps the mean",
         _four(_mean_of, _median, _swapped, _swapped)),
        ("a weight that is the same for all targets at this place multiplies nothing but the loss",
         _four(lambda u, w: 7 * w @ u, _median, _mean_of, _swapped)),
        ("the median has to be taken with the posterior weights",
         _four(_mean_of, lambda u, w: u.sort().values[(len(u) - 1) // 2], _mean_of, _swapped)),
    ],
))  # fmt: skip


def _posterior(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    time = t[:, None, None]
    return (-0.5 * ((x[:, None] - time * data) / (1 - time)).square().sum(2)).softmax(1)


grade_fresh = grader("grade_fresh", Exercise(
    name="fresh noise",
    task="`learned(x, t, data)`, the field of a loss whose target has noise of its own",
    takes="points `[b d]`, times `[b]` and a data set `[n d]`; returns velocities `[b d]`",
    reference=lambda x, t, data: _posterior(x, t, data) @ data,
    inputs=[(normal(61, 8, 2), uniform(62, 8, high=0.7), 1 + normal(63, 5, 2))],
    mistakes=[
        ("this is the marginal field: it is not learned, since the noise in the target says nothing"
         " about the place", lambda x, t, data: EmpiricalField(CondOT(), data)(x, t)),
        ("this is the mean of all data; the place still tells which data points are near",
         lambda x, t, data: data.mean(0).expand_as(x)),
        ("the noise of the target has mean zero wherever x is; x itself does not enter",
         lambda x, t, data: _posterior(x, t, data) @ data - x),
        ("time runs backward: this is the posterior mean at 1 − t",
         lambda x, t, data: _posterior(x, 1 - t, data) @ data),
    ],
))  # fmt: skip

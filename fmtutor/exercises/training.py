"""The exercises of the chapter `training`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal, uniform

__all__ = [
    "grade_average",
    "grade_density",
    "grade_learning_rate",
    "grade_mend",
    "grade_other_noise",
]


def _times(keep: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Make times from powers of uniform numbers, of the draws that `keep` keeps."""

    def times(u: Tensor, v: Tensor, a: float, b: float) -> Tensor:
        top, side = u ** (1 / a), v ** (1 / b)
        return (top / (top + side))[keep(top, side)]

    return times


_mended = _times(lambda top, side: top + side <= 1)

grade_mend = grader("grade_mend", Exercise(
    name="mend",
    task="`beta_times(u, v, a, b)`, times of a Beta law from uniform numbers",
    takes="two independent series of uniform numbers `[n]` and the exponents a and b; returns the "
    "times `[m]` of the draws that are kept, in their order",
    reference=_mended,
    inputs=[(uniform(61, 40), uniform(62, 40), a, b) for a, b in [(1.5, 1.0), (2.0, 3.0)]],
    mistakes=[
        ("this is the broken one: nothing is thrown away",
         _times(lambda top, side: torch.ones_like(top, dtype=torch.bool))),
        ("the other way round: the draws whose sum is at most one are the good ones",
         _times(lambda top, side: top + side > 1)),
        ("the sum that must not exceed one is that of the powers, not of u and v",
         lambda u, v, a, b: _times(lambda top, side: u + v <= 1)(u, v, a, b)),
        ("a belongs to u and is the exponent at the noise; a and b are exchanged",
         lambda u, v, a, b: _mended(u, v, b, a)),
        ("with u where v should be, these are the times 1 - t",
         lambda u, v, a, b: 1 - _mended(u, v, a, b)),
    ],
))  # fmt: skip


def _average(weights: Tensor, decay: float) -> Tensor:
    mean = weights[0]
    for w in weights[1:]:
        mean = decay * mean + (1 - decay) * w
    return mean


grade_average = grader("grade_average", Exercise(
    name="average",
    task="`average(weights, decay)`, the running average after the last of a run's weights",
    takes="the weights `[k m]` of k steps and a decay; returns the average `[m]`, which begins as "
    "the weights of step 0",
    reference=_average,
    inputs=[(normal(62, 12, 5).cumsum(0), decay) for decay in (0.9, 0.5)],
    mistakes=[
        ("decay is the share of the old average that is kept, not the new share",
         lambda weights, decay: _average(weights, 1 - decay)),
        ("the average starts from zero; start it from the weights of step 0",
         lambda weights, decay: _average(torch.cat([0 * weights[:1], weights]), decay)),
        ("this is the plain mean; the early weights must be forgotten",
         lambda weights, decay: weights.mean(0)),
        ("these are the last weights, nothing is averaged", lambda weights, decay: weights[-1]),
    ],
))  # fmt: skip


def _normal_density(z: Tensor) -> Tensor:
    return (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)


def _logit_normal(t: Tensor, mean: float, std: float, jacobian: int = -1) -> Tensor:
    return _normal_density((t.logit() - mean) / std) / std * (t * (1 - t)) ** jacobian


_INSIDE = torch.linspace(0.02, 0.98, 40, dtype=torch.float64)

grade_density = grader("grade_density", Exercise(
    name="density",
    task="`density(t, mean, std)`, the density of logit-normal times",
    takes="times `[b]` in (0, 1), the mean and the standard deviation of the logit; returns the "
    "density `[b]`",
    reference=_logit_normal,
    inputs=[(_INSIDE, 0.0, 1.0), (_INSIDE, -0.4, 1.7)],
    mistakes=[
        ("this is the density of the logit; change variables: divide by t(1 - t)",
         lambda t, mean, std: _logit_normal(t, mean, std, jacobian=0)),
        ("the derivative of the logit is 1/(t(1 - t)), not t(1 - t)",
         lambda t, mean, std: _logit_normal(t, mean, std, jacobian=1)),
        ("the factor 1/std of the normal density is missing",
         lambda t, mean, std: _logit_normal(t, mean, std) * std),
        ("this is a normal density at t; the logit of t is normal",
         lambda t, mean, std: _normal_density((t - mean) / std) / std),
    ],
))  # fmt: skip


def _rise(k: int, warmup: int) -> float:
    return (k + 1) / (warmup + 1)


def _cosine(k: int, steps: int, halves: int = 1) -> float:
    return 0.5 * (1 + math.cos(halves * math.pi * k / steps))


grade_learning_rate = grader("grade_learning_rate", Exercise(
    name="learning rate",
    task="`mended(k, steps, lr, warmup)`, a linear rise under a half cosine",
    takes="the step k, the number of steps, the largest learning rate and the number of warm-up "
    "steps; returns the learning rate of step k",
    reference=lambda k, steps, lr, warmup: lr * min(1.0, _rise(k, warmup)) * _cosine(k, steps),
    inputs=[(3, 100, 2e-3, 9), (60, 100, 2e-3, 9), (0, 100, 1e-2, 4), (99, 100, 1.0, 0)],
    mistakes=[
        ("step 0 would not move at all: rise as (k + 1)/(warmup + 1)",
         lambda k, steps, lr, warmup: lr * min(1.0, k / (warmup + 1)) * _cosine(k, steps)),
        ("the cosine runs through a whole period: at the end the rate is as large as at first",
         lambda k, steps, lr, warmup: lr * min(1.0, _rise(k, warmup)) * _cosine(k, steps, 2)),
        ("both errors are left: the first step and the last ones",
         lambda k, steps, lr, warmup: lr * min(1.0, k / (warmup + 1)) * _cosine(k, steps, 2)),
        ("the rise goes on after the warm-up; its factor must stop at 1",
         lambda k, steps, lr, warmup: lr * _rise(k, warmup) * _cosine(k, steps)),
        ("the half cosine is missing",
         lambda k, steps, lr, warmup: lr * min(1.0, _rise(k, warmup))),
        ("the rise is missing", lambda k, steps, lr, warmup: lr * _cosine(k, steps)),
        ("a cosine from 1 to -1 makes the rate negative; take (1 + cos)/2",
         lambda k, steps, lr, warmup:
         lr * min(1.0, _rise(k, warmup)) * math.cos(math.pi * k / steps)),
    ],
))  # fmt: skip


def _other_noise(x: Tensor, t: Tensor, m: float, s: float) -> Tensor:
    return m + t * s**2 / ((1 - t).square() + (t * s).square()) * (x - t * m)


grade_other_noise = grader("grade_other_noise", Exercise(
    name="other noise",
    task="`other_noise(x, t, m, s)`, the field that the target of another x0 learns",
    takes="places `[b]`, times `[b]`, and mean and standard deviation of Gaussian data on a line; "
    "returns the learned velocity `[b]`",
    reference=_other_noise,
    inputs=[
        (2 * normal(63, 30), uniform(64, 30, high=0.9), m, s) for m, s in [(1.5, 0.5), (-1.0, 1.2)]
    ],
    mistakes=[
        ("this is the right field u_t; the wrong target does not learn it",
         lambda x, t, m, s: (_other_noise(x, t, m, s) - x) / (1 - t)),
        ("this is E[x1]; the place x says more about x1 than nothing",
         lambda x, t, m, s: torch.full_like(x, m)),
        ("nothing of x0 is left to subtract: the other noise has mean 0",
         lambda x, t, m, s: _other_noise(x, t, m, s) - x),
        ("the mean of x_t is t m, not m",
         lambda x, t, m, s: m + t * s**2 / ((1 - t).square() + (t * s).square()) * (x - m)),
    ],
))  # fmt: skip

"""The graders of the chapter `training`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checks import grade
from fmtutor.losses import cfm_loss
from fmtutor.notation import VelocityField

__all__ = [
    "grade_average",
    "grade_density",
    "grade_learning_rate",
    "grade_other_noise",
    "grade_step_loss",
]


def grade_step_loss(answer: Callable[[VelocityField, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Grade `step_loss(v, x0, x1, t)`, the loss of one training step, for points and images.

    Args:
        answer: Takes a field, noise `[b ...]`, data `[b ...]` and times `[b]`; returns the mean
            squared error over batch and dimensions.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(v: VelocityField, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return cfm_loss(v, x1, x0=x0, t=t)

    def of(place: str) -> Callable[[VelocityField, Tensor, Tensor, Tensor], Tensor]:
        def loss(v: VelocityField, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
            time = t.reshape(-1, *[1] * (x1.ndim - 1))
            if place == "rows":
                time = t[:, None]
            elif place == "columns":
                time = t
            xt = (1 - time) * x0 + time * x1
            target = x0 - x1 if place == "sign" else x1 - x0
            if place == "x1":
                xt = x1
            elif place == "backward":
                xt = time * x0 + (1 - time) * x1
            elif place == "data":
                target = x1
            square = (v(xt, t) - target).square()
            return square.flatten(1).sum(1).mean() if place == "sum" else square.mean()

        return loss

    def v(x: Tensor, t: Tensor) -> Tensor:
        return x.cos() + t.reshape(-1, *[1] * (x.ndim - 1)) * x.square()

    g = torch.Generator().manual_seed(61)
    inputs = []
    # Where the batch is as large as the last axes, a time on the wrong axis raises no error.
    for shape in [(4, 4), (16, 3), (5, 3, 5, 5)]:
        x0, x1 = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(2))
        inputs.append((v, x0, x1, torch.rand(len(x0), generator=g, dtype=torch.float64)))
    grade(
        "step loss",
        answer,
        reference,
        inputs,
        mistakes=[
            (
                "t lies along the last axis; it belongs to the batch: [b] to [b 1 ... 1]",
                of("columns"),
            ),
            ("a time [b 1] lies along the rows of an image: [b] to [b 1 ... 1]", of("rows")),
            ("the network is shown x1; at sampling time it will not be there", of("x1")),
            ("the target is x0 - x1; the way leads from the noise x0 to the data x1", of("sign")),
            ("time runs backward in xt: at t = 0 it must be the noise", of("backward")),
            ("the target is x1, the place; the velocity is x1 - x0", of("data")),
            ("a mean over the dimensions is asked for, this is a sum", of("sum")),
        ],
    )


def grade_average(answer: Callable[[Tensor, float], Tensor]) -> None:
    """Grade `average(weights, decay)`, the running average after the last of a run's weights.

    Args:
        answer: Takes the weights `[k m]` of k steps and a decay; returns the average `[m]`, which
            begins as the weights of step 0.

    Raises:
        GradeError: If the answer is wrong.
    """

    def run(weights: Tensor, keep: float, start: Tensor) -> Tensor:
        mean = start
        for w in weights:
            mean = keep * mean + (1 - keep) * w
        return mean

    def reference(weights: Tensor, decay: float) -> Tensor:
        return run(weights[1:], decay, weights[0])

    def swapped(weights: Tensor, decay: float) -> Tensor:
        return run(weights[1:], 1 - decay, weights[0])

    def from_zero(weights: Tensor, decay: float) -> Tensor:
        return run(weights, decay, torch.zeros_like(weights[0]))

    def plain(weights: Tensor, decay: float) -> Tensor:
        return weights.mean(0)

    def last(weights: Tensor, decay: float) -> Tensor:
        return weights[-1]

    g = torch.Generator().manual_seed(62)
    weights = torch.randn(12, 5, generator=g, dtype=torch.float64).cumsum(0)
    grade(
        "average",
        answer,
        reference,
        [(weights, 0.9), (weights, 0.5)],
        mistakes=[
            ("decay is the share of the old average that is kept, not the new share", swapped),
            ("the average starts from zero; start it from the weights of step 0", from_zero),
            ("this is the plain mean; the early weights must be forgotten", plain),
            ("these are the last weights, nothing is averaged", last),
        ],
    )


def grade_density(answer: Callable[[Tensor, float, float], Tensor]) -> None:
    """Grade `density(t, mean, std)`, the density of logit-normal times.

    Args:
        answer: Takes times `[b]` in (0, 1), the mean and the standard deviation of the logit;
            returns the density `[b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def normal(z: Tensor) -> Tensor:
        return (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)

    def reference(t: Tensor, mean: float, std: float) -> Tensor:
        return normal((t.logit() - mean) / std) / (std * t * (1 - t))

    def no_jacobian(t: Tensor, mean: float, std: float) -> Tensor:
        return normal((t.logit() - mean) / std) / std

    def inverse_jacobian(t: Tensor, mean: float, std: float) -> Tensor:
        return normal((t.logit() - mean) / std) / std * t * (1 - t)

    def no_std(t: Tensor, mean: float, std: float) -> Tensor:
        return normal((t.logit() - mean) / std) / (t * (1 - t))

    def no_logit(t: Tensor, mean: float, std: float) -> Tensor:
        return normal((t - mean) / std) / std

    t = torch.linspace(0.02, 0.98, 40, dtype=torch.float64)
    grade(
        "density",
        answer,
        reference,
        [(t, 0.0, 1.0), (t, -0.4, 1.7)],
        mistakes=[
            ("this is the density of the logit; change variables: divide by t(1 - t)", no_jacobian),
            ("the derivative of the logit is 1/(t(1 - t)), not t(1 - t)", inverse_jacobian),
            ("the factor 1/std of the normal density is missing", no_std),
            ("this is a normal density at t; the logit of t is normal", no_logit),
        ],
    )


def grade_learning_rate(answer: Callable[[int, int, float, int], float]) -> None:
    """Grade `learning_rate(k, steps, lr, warmup)`, a linear rise under a half cosine.

    Args:
        answer: Takes the step k, the number of steps, the largest learning rate and the number of
            warm-up steps; returns the learning rate of step k.

    Raises:
        GradeError: If the answer is wrong.
    """

    def cosine(k: int, steps: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * k / steps))

    def reference(k: int, steps: int, lr: float, warmup: int) -> float:
        return lr * min(1.0, (k + 1) / (warmup + 1)) * cosine(k, steps)

    def from_zero(k: int, steps: int, lr: float, warmup: int) -> float:
        return lr * min(1.0, k / (warmup + 1)) * cosine(k, steps)

    def uncapped(k: int, steps: int, lr: float, warmup: int) -> float:
        return lr * (k + 1) / (warmup + 1) * cosine(k, steps)

    def no_cosine(k: int, steps: int, lr: float, warmup: int) -> float:
        return lr * min(1.0, (k + 1) / (warmup + 1))

    def no_rise(k: int, steps: int, lr: float, warmup: int) -> float:
        return lr * cosine(k, steps)

    def full_cosine(k: int, steps: int, lr: float, warmup: int) -> float:
        return lr * min(1.0, (k + 1) / (warmup + 1)) * math.cos(math.pi * k / steps)

    grade(
        "learning rate",
        answer,
        reference,
        [(3, 100, 2e-3, 9), (60, 100, 2e-3, 9), (0, 100, 1e-2, 4), (99, 100, 1.0, 0)],
        mistakes=[
            ("step 0 would not move at all: rise as (k + 1)/(warmup + 1)", from_zero),
            ("the rise goes on after the warm-up; its factor must stop at 1", uncapped),
            ("the half cosine is missing", no_cosine),
            ("the rise is missing", no_rise),
            ("a cosine from 1 to -1 makes the rate negative; take (1 + cos)/2", full_cosine),
        ],
    )


def grade_other_noise(answer: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    """Grade `other_noise(x, t, m, s)`, the field that the target of another x0 learns.

    Args:
        answer: Takes places `[b]`, times `[b]`, and mean and standard deviation of Gaussian data on
            a line; returns the learned velocity `[b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(x: Tensor, t: Tensor, m: float, s: float) -> Tensor:
        variance = (1 - t).square() + (t * s).square()
        return m + t * s**2 / variance * (x - t * m)

    def right_field(x: Tensor, t: Tensor, m: float, s: float) -> Tensor:
        return (reference(x, t, m, s) - x) / (1 - t)

    def prior_mean(x: Tensor, t: Tensor, m: float, s: float) -> Tensor:
        return torch.full_like(x, m)

    def minus_place(x: Tensor, t: Tensor, m: float, s: float) -> Tensor:
        return reference(x, t, m, s) - x

    def uncentred(x: Tensor, t: Tensor, m: float, s: float) -> Tensor:
        return m + t * s**2 / ((1 - t).square() + (t * s).square()) * (x - m)

    g = torch.Generator().manual_seed(63)
    x = 2 * torch.randn(30, generator=g, dtype=torch.float64)
    t = 0.9 * torch.rand(30, generator=g, dtype=torch.float64)
    grade(
        "other noise",
        answer,
        reference,
        [(x, t, 1.5, 0.5), (x, t, -1.0, 1.2)],
        mistakes=[
            ("this is the right field u_t; the wrong target does not learn it", right_field),
            ("this is E[x1]; the place x says more about x1 than nothing", prior_mean),
            ("nothing of x0 is left to subtract: the other noise has mean 0", minus_place),
            ("the mean of x_t is t m, not m", uncentred),
        ],
    )

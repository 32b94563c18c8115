"""The exercises of the chapter `analysis`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal, uniform

__all__ = ["grade_coarse", "grade_potential", "grade_rate"]


def _rate(inner: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Return the normal density at (a - tc)/(1 - t), times what stands in for its derivative."""

    def rate(a: Tensor, c: Tensor, t: Tensor) -> Tensor:
        z = (a - t * c) / (1 - t)
        return (-z.square() / 2).exp() / math.sqrt(2 * math.pi) * inner(a, c, t)

    return rate


grade_rate = grader("grade_rate", Exercise(
    name="rate",
    task="`rate(a, c, t)`, how fast the probability of x_t ≤ a changes on the way to one point c",
    takes="places and data points `[b]`, times `[b]` below 1; returns rates `[b]`",
    reference=_rate(lambda a, c, t: (a - c) / (1 - t) ** 2),
    inputs=[(normal(51, 16), 1 + normal(52, 16), uniform(53, 16, high=0.8))],
    mistakes=[
        ("zero is the mean of the slopes of a step; the slope of the mean is another number",
         lambda a, c, t: torch.zeros_like(a)),
        ("this is the flux to the right: what flows away is missing on the left",
         _rate(lambda a, c, t: (c - a) / (1 - t) ** 2)),
        ("this is the density of a normal law; differentiate (a - tc)/(1 - t), too",
         _rate(lambda a, c, t: torch.ones_like(a))),
        ("the centre moves, and the width 1 - t changes as well",
         _rate(lambda a, c, t: -c / (1 - t))),
    ],
))  # fmt: skip


def _share(x: Tensor) -> Tensor:
    share: Tensor = 2 * torch.special.ndtr(x) - 1
    return share


grade_coarse = grader("grade_coarse", Exercise(
    name="coarse",
    task="`coarse(sign, t)`, the mean of x1 if only the sign of x_t is known, for data at ±1",
    takes="signs `[b]`, floats 1 and -1, and times `[b]` below 1; returns means `[b]`",
    reference=lambda sign, t: sign * _share(t / (1 - t)),
    inputs=[(normal(54, 16).sign(), uniform(55, 16, low=0.1, high=0.7))],
    mistakes=[
        ("the sign of x_t is not always that of x1: how often is it?",
         lambda sign, t: sign + 0 * t),
        ("this is the probability that x1 = 1, not the mean of x1",
         lambda sign, t: torch.special.ndtr(sign * t / (1 - t))),
        ("the noise in x_t has the standard deviation 1 - t, not 1",
         lambda sign, t: sign * _share(t)),
        ("this is the mean of x1 at x_t = ±t; the sign is known, not the place",
         lambda sign, t: sign * torch.tanh((t / (1 - t)) ** 2)),
    ],
))  # fmt: skip


def _bowl(x: Tensor) -> Tensor:
    return x / (1 + x.square().sum(1, keepdim=True))


def _wave(x: Tensor) -> Tensor:
    return torch.cos(x) + x.mean(1, keepdim=True)


def _along(weight: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """Return the mean of weight(s) u(s x)·x over s in [0, 1], at two hundred midpoints."""

    def potential(u: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        nodes = (torch.arange(200, dtype=x.dtype) + 0.5) / 200
        return torch.stack([weight(s) * (u(s * x) * x).sum(1) for s in nodes]).mean(0)

    return potential


grade_potential = grader("grade_potential", Exercise(
    name="potential",
    task="`potential(u, x)`, the function f with the gradient u and f(0) = 0",
    takes="a field `u(x)` with a symmetric Jacobian and points `[b d]`; returns values `[b]`",
    reference=_along(torch.ones_like),
    inputs=[(_bowl, normal(56, 16, 2)), (_wave, normal(57, 16, 3))],
    mistakes=[
        ("u(x)·x asks the field at the end of the ray only; all of the ray counts",
         lambda u, x: (u(x) * x).sum(1)),
        ("half of u(x)·x is right for linear fields only",
         lambda u, x: (u(x) * x).sum(1) / 2),
        ("the ray is s·x, its velocity x: the factor s is too much", _along(lambda s: s)),
        ("the work is u·x; u alone, summed over the coordinates, is not",
         lambda u, x: torch.stack([u((k + 0.5) / 200 * x).sum(1) for k in range(200)]).mean(0)),
    ],
    tol=1e-3,
))  # fmt: skip

"""The exercises of the chapter `bridges`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal, uniform

__all__ = ["grade_cross", "grade_drifts", "grade_sinkhorn", "grade_velocity"]


def _velocity(
    slope: Callable[[Tensor], Tensor] = lambda t: (1 - 2 * t) / (2 * t * (1 - t)),
    line: float = 1.0,
    sign: float = 1.0,
) -> Callable[..., Tensor]:
    """Make the velocity with what a mistake changes in it."""

    def velocity(x: Tensor, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        at = t[:, None]
        centre = (1 - at) * x0 + at * x1
        return line * (x1 - x0) + sign * slope(at) * (x - centre)

    return velocity


grade_velocity = grader("grade_velocity", Exercise(
    name="velocity",
    task="`velocity(x, x0, x1, t)`, the velocity of a Brownian bridge that is at x, given its ends",
    takes="points `[b d]`, both ends `[b d]` and times `[b]` in (0, 1); returns `[b d]`",
    reference=_velocity(),
    inputs=[
        (normal(1, 5, 2), normal(2, 5, 2), normal(3, 5, 2), uniform(4, 5, low=0.1, high=0.9)),
        (normal(5, 3, 3), normal(6, 3, 3), normal(7, 3, 3), uniform(8, 3, low=0.1, high=0.9)),
    ],
    mistakes=[
        ("this is the velocity of the line; the width changes, too",
         _velocity(slope=torch.zeros_like)),
        ("the line itself moves: x1 − x0 is missing", _velocity(line=0.0)),
        ("γ'/γ is half of (γ²)'/γ²", _velocity(slope=lambda t: (1 - 2 * t) / (t * (1 - t)))),
        ("the width grows before t = ½ and shrinks after it: the sign is the other one",
         _velocity(sign=-1.0)),
        ("this is the drift of the equation with noise, (x1 − x)/(1 − t), which knows the end only",
         lambda x, x0, x1, t: (x1 - x) / (1 - t[:, None])),
        ("this is γγ', not yet divided by γ²", _velocity(slope=lambda t: 0.5 * (1 - 2 * t))),
    ],
))  # fmt: skip


def _drifts(
    forward: Callable[[Tensor], Tensor] = lambda t: t,
    back: Callable[[Tensor], Tensor] = lambda t: 1 - t,
    square: float = 2.0,
    sign: float = -1.0,
) -> Callable[..., Tensor]:
    """Weigh the score in both directions."""

    def drifts(line: Tensor, score: Tensor, t: Tensor, sigma: float) -> Tensor:
        at, size = t[:, None], sigma**square
        return torch.stack(
            [line + size * forward(at) * score, line + sign * size * back(at) * score]
        )

    return drifts


grade_drifts = grader("grade_drifts", Exercise(
    name="drifts",
    task="`drifts(line, score, t, sigma)`, what the equation with noise follows, forward and back",
    takes="mean lines and scores `[b d]`, times `[b]` and the size of the noise; returns b and b⁻, "
    "stacked, `[2 b d]`",
    reference=_drifts(),
    inputs=[
        (normal(9, 5, 2), normal(10, 5, 2), uniform(11, 5, low=0.1, high=0.9), 0.6),
        (normal(12, 3, 3), normal(13, 3, 3), uniform(14, 3, low=0.1, high=0.9), 1.7),
    ],
    mistakes=[
        ("this adds ½σ² s to the line; the velocity has the term γγ' s besides",
         _drifts(lambda t: 0.5 + 0 * t, lambda t: 0.5 + 0 * t)),
        ("the weights of the two are exchanged: forward, the score counts most at the end",
         _drifts(lambda t: 1 - t, lambda t: t)),
        ("the score enters b⁻ with the other sign", _drifts(sign=1.0)),
        ("the noise enters by its variance, σ²", _drifts(square=1.0)),
        ("b − b⁻ must be σ² s: half of it is missing",
         _drifts(lambda t: t / 2, lambda t: (1 - t) / 2)),
    ],
))  # fmt: skip


def _round(
    masses: bool = True, old: bool = False, sign: float = -1.0, scaled: bool = True
) -> Callable[..., Tensor]:
    """Fit the columns, then the rows, as a mistake has it."""

    def both(f: Tensor, g: Tensor, cost: Tensor, epsilon: float) -> Tensor:
        shift = math.log(len(f)) if masses else 0.0
        size = epsilon if scaled else 1.0
        new_g = sign * size * (((f[:, None] - cost) / epsilon).logsumexp(0) + shift)
        used = g if old else new_g
        new_f = sign * size * (((used - cost) / epsilon).logsumexp(1) + shift)
        return torch.stack([new_f, new_g])

    return both


def _exchanged(f: Tensor, g: Tensor, cost: Tensor, epsilon: float) -> Tensor:
    n = math.log(len(f))
    f = -epsilon * (((g - cost) / epsilon).logsumexp(1) + n)
    return torch.stack([f, -epsilon * (((f[:, None] - cost) / epsilon).logsumexp(0) + n)])


grade_sinkhorn = grader("grade_sinkhorn", Exercise(
    name="sinkhorn",
    task="`sinkhorn_round(f, g, cost, epsilon)`, one round of Sinkhorn's iteration by logarithms",
    takes="potentials `[n]` of rows and of columns, costs `[n n]` and ε; fits first the columns, "
    "then the rows to the sum 1/n; returns the new f and g, stacked, `[2 n]`",
    reference=_round(),
    inputs=[
        (normal(15, 4), normal(16, 4), normal(17, 4, 4).square(), 0.7),
        (normal(18, 6), normal(19, 6), 10 * normal(20, 6, 6).square() + 10, 0.02),
    ],
    mistakes=[
        ("rows and columns sum to 1 here; they should sum to 1/n", _round(masses=False)),
        ("the rows must be fitted with the g that was just made", _round(old=True)),
        ("the potential lowers what is too large: the sign is the other one", _round(sign=1.0)),
        ("the logarithm is f/ε: multiply by ε", _round(scaled=False)),
        ("this fits the rows first; afterwards the columns are right and the rows are not",
         _exchanged),
    ],
))  # fmt: skip


def _cross(noise: Callable[[float], float] = lambda s: s**2) -> Callable[..., float]:
    def cross(s0: float, s1: float, sigma: float) -> float:
        n = noise(sigma)
        return (math.sqrt(n**2 + 4 * s0**2 * s1**2) - n) / 2

    return cross


grade_cross = grader("grade_cross", Exercise(
    name="cross",
    task="`correlation(s0, s1, sigma)`, of the ends of the bridge between two Gaussians on a line",
    takes="the two standard deviations and the size of the noise, floats; returns the correlation "
    "of x0 and x1",
    reference=lambda s0, s1, sigma: _cross()(s0, s1, sigma) / (s0 * s1),
    inputs=[(1.0, 0.5, 0.7), (2.0, 3.0, 1.5), (0.3, 0.4, 0.2)],
    mistakes=[
        ("this is the covariance; divide by s0 s1", _cross()),
        ("this is optimal transport, σ = 0: then the ends determine each other",
         lambda s0, s1, sigma: 1.0),
        ("these are independent ends, σ = ∞", lambda s0, s1, sigma: 0.0),
        ("σ enters by its square: ε = 2σ²",
         lambda s0, s1, sigma: _cross(lambda s: s)(s0, s1, sigma) / (s0 * s1)),
        ("this takes ε = 2σ² for σ²",
         lambda s0, s1, sigma: _cross(lambda s: 2 * s**2)(s0, s1, sigma) / (s0 * s1)),
        ("this is what Brownian motion alone would have: its end is free",
         lambda s0, s1, sigma: s0 / math.hypot(s0, sigma)),
    ],
))  # fmt: skip

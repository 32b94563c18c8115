"""The exercises of the chapter `paths`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal, uniform
from fmtutor.notation import align_time
from fmtutor.paths import AffinePath, CondOT, Cosine, VariancePreserving

__all__ = [
    "grade_clock",
    "grade_constant",
    "grade_field",
    "grade_target",
    "grade_velocity_from_noise",
    "grade_width",
]

Pointwise = Callable[[Tensor, Tensor, Tensor], Tensor]


def _times(seed: int, b: int) -> Tensor:
    """Return times away from the ends of [0, 1]."""
    return uniform(seed, b, low=0.1, high=0.9)


def _draws(seed: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return pairs of points `[b ...]` with times `[b]`."""
    # b = d first: there a time [b] broadcasts along the wrong axis without a word.
    shapes = [(4, 4), (6, 2), (3, 1, 5, 5)]
    return [
        (normal(seed, *shape), 1 + normal(seed + 10, *shape), _times(seed + 20, shape[0]))
        for shape in shapes
    ]


def _aligned(form: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Pointwise:
    return lambda x, x1, t: form(x, x1, align_time(t, x))


grade_target = grader("grade_target", Exercise(
    name="target",
    task="`target(x0, x1, t)`, the velocity of x_t = t² x1 + (1 − t²) x0",
    takes="noise and data `[b ...]` and times `[b]`; returns targets `[b ...]`",
    reference=_aligned(lambda x0, x1, t: 2 * t * (x1 - x0)),
    inputs=_draws(61),
    mistakes=[
        ("this is the target of the straight path; the derivative of t² is 2t",
         lambda x0, x1, t: x1 - x0),
        ("this is the point x_t; the target is its derivative in t",
         _aligned(lambda x0, x1, t: t**2 * x1 + (1 - t**2) * x0)),
        ("σ' is missing: the share of the noise changes, too",
         _aligned(lambda x0, x1, t: 2 * t * x1)),
        ("σ' is negative: the noise fades", _aligned(lambda x0, x1, t: 2 * t * (x1 + x0))),
        ("t has broadcast along the wrong axis; align_time(t, x1) brings it to the batch",
         lambda x0, x1, t: 2 * t * (x1 - x0)),
    ],
))  # fmt: skip


def _field(form: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]) -> Pointwise:
    """Make a field from `form(x, x1, t, σ, σ')`, all aligned to x."""

    def u(x: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        t = align_time(t, x)
        sigma = (1 - t.square()).sqrt()
        return form(x, x1, t, sigma, -t / sigma)

    return u


grade_field = grader("grade_field", Exercise(
    name="field",
    task="`field(x, x1, t)`, the conditional velocity of α = t, σ = √(1 − t²)",
    takes="points and data `[b ...]` and times `[b]`; returns velocities `[b ...]`",
    reference=_field(lambda x, x1, t, s, ds: ds / s * (x - t * x1) + x1),
    inputs=_draws(62),
    mistakes=[
        ("the width has the wrong sign: σ' is negative, the cloud shrinks",
         _field(lambda x, x1, t, s, ds: -ds / s * (x - t * x1) + x1)),
        ("the factor is σ'/σ, not σ'", _field(lambda x, x1, t, s, ds: ds * (x - t * x1) + x1)),
        ("the factor is σ'/σ, not 1/σ", _field(lambda x, x1, t, s, ds: (x - t * x1) / s + x1)),
        ("σ'/σ multiplies the distance from the mean t x1, not x",
         _field(lambda x, x1, t, s, ds: ds / s * x + x1)),
        ("σ'/σ multiplies the distance from the mean t x1, not from x1",
         _field(lambda x, x1, t, s, ds: ds / s * (x - x1) + x1)),
        ("the mean moves, too: μ' = x1 is missing",
         _field(lambda x, x1, t, s, ds: ds / s * (x - t * x1))),
        ("this is the field of the straight path, σ = 1 − t",
         _field(lambda x, x1, t, s, ds: (x1 - x) / (1 - t))),
        ("σ' = −t/σ: the derivative of 1 − t² is −2t, and the root contributes 1/(2σ)",
         _field(lambda x, x1, t, s, ds: 2 * ds / s * (x - t * x1) + x1)),
    ],
))  # fmt: skip

FromNoise = Callable[[AffinePath, Tensor, Tensor, Tensor], Tensor]


def _from_noise(
    form: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor],
) -> FromNoise:
    """Make a velocity from `form(noise, xt, α, σ, α', σ')`, all aligned to x."""

    def v(path: AffinePath, noise: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        schedule = (path.alpha(t), path.sigma(t), path.d_alpha(t), path.d_sigma(t))
        a, s, da, ds = (align_time(value, xt) for value in schedule)
        return form(noise, xt, a, s, da, ds)

    return v


grade_velocity_from_noise = grader("grade_velocity_from_noise", Exercise(
    name="velocity from noise",
    task="`velocity_from_noise(path, noise, xt, t)`, for any affine path",
    takes="a path, predicted noise and points `[b ...]` and times `[b]`; returns velocities "
    "`[b ...]`",
    reference=_from_noise(lambda n, x, a, s, da, ds: da * (x - s * n) / a + ds * n),
    inputs=[
        (path, *draw)
        for path, draw in zip(
            (Cosine(), VariancePreserving(), CondOT(sigma_min=0.2)), _draws(63), strict=True
        )
    ],
    mistakes=[
        ("this is the data (x_t − σ x0)/α; the velocity is α' x1 + σ' x0",
         _from_noise(lambda n, x, a, s, da, ds: (x - s * n) / a)),
        ("σ' x0 is missing", _from_noise(lambda n, x, a, s, da, ds: da * (x - s * n) / a)),
        ("σ' enters with its own sign, which is already negative",
         _from_noise(lambda n, x, a, s, da, ds: da * (x - s * n) / a - ds * n)),
        ("the data is (x_t − σ x0)/α; the division by α is missing",
         _from_noise(lambda n, x, a, s, da, ds: da * (x - s * n) + ds * n)),
        ("this takes the noise for the data",
         _from_noise(lambda n, x, a, s, da, ds: da * n + ds * (x - a * n) / s)),
        ("this takes the noise for the score; x0 = −σ times the score",
         _from_noise(lambda n, x, a, s, da, ds: da / a * (x + s * s * n) - s * ds * n)),
        ("this is data minus noise, the velocity of the straight path alone",
         _from_noise(lambda n, x, a, s, da, ds: (x - s * n) / a - n)),
    ],
))  # fmt: skip


def _width(
    form: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    return lambda x, x1, w, t: form(x, x1, align_time(w, x), align_time(t, x))


grade_width = grader("grade_width", Exercise(
    name="width",
    task="`field(x, x1, w, t)`: mean t x1, width w(x1)^t",
    takes="points and data `[b ...]`, final widths `[b]` and times `[b]`; returns velocities "
    "`[b ...]`",
    reference=_width(lambda x, x1, w, t: w.log() * (x - t * x1) + x1),
    inputs=[(x, x1, 0.5 * _times(64, len(x)), t) for x, x1, t in _draws(65)],
    mistakes=[
        ("this multiplies by σ' = wᵗ log w; the factor is σ'/σ",
         _width(lambda x, x1, w, t: w**t * w.log() * (x - t * x1) + x1)),
        ("wᵗ is an exponential in t, not a power of t: its derivative is wᵗ log w",
         _width(lambda x, x1, w, t: t / w * (x - t * x1) + x1)),
        ("the sign of σ'/σ = log w is flipped: log w is negative already",
         _width(lambda x, x1, w, t: -w.log() * (x - t * x1) + x1)),
        ("μ' = x1 is missing", _width(lambda x, x1, w, t: w.log() * (x - t * x1))),
        ("log w multiplies the distance from the mean t x1, not x",
         _width(lambda x, x1, w, t: w.log() * x + x1)),
        ("this is the field of a width that falls linearly, 1 − (1 − w) t",
         _width(lambda x, x1, w, t: (x1 - (1 - w) * x) / (1 - (1 - w) * t))),
        ("one width serves the whole batch here; each data point has its own",
         _width(lambda x, x1, w, t: w.mean().log() * (x - t * x1) + x1)),
    ],
))  # fmt: skip

Pair = tuple[Tensor, Tensor]


def _clock(form: Callable[[Tensor, Tensor], Pair]) -> Callable[[AffinePath, Tensor], Pair]:
    return lambda path, t: form(path.alpha(t), path.sigma(t))


grade_clock = grader("grade_clock", Exercise(
    name="clock",
    task="`clock(path, t)`: τ and s with x_t = s x^straight_τ, stacked",
    takes="a path and times `[b]`; returns τ and s as `[2 b]`",
    reference=_clock(lambda a, s: (a / (a + s), a + s)),
    inputs=[
        (path, _times(66, 8)) for path in (Cosine(), VariancePreserving(), CondOT(sigma_min=0.1))
    ],
    mistakes=[
        ("the right two, in the wrong order: τ first, then s",
         _clock(lambda a, s: (a + s, a / (a + s)))),
        ("τ is right, s is its inverse: it multiplies the straight path",
         _clock(lambda a, s: (a / (a + s), 1 / (a + s)))),
        ("τ is right, but without the scale s the path does not match",
         _clock(lambda a, s: (a / (a + s), torch.ones_like(a)))),
        ("this is the ratio α/σ; on the straight path it equals τ/(1 − τ)",
         _clock(lambda a, s: (a / s, s))),
        ("α is not the time: the two paths must have the same ratio α/σ",
         _clock(lambda a, s: (a, torch.ones_like(a)))),
        ("time runs backward here: τ has to rise with α",
         _clock(lambda a, s: (s / (a + s), a + s))),
    ],
))  # fmt: skip

grade_constant = grader("grade_constant", Exercise(
    name="constant",
    task="`schedule(width, t)`: α and σ with velocities that are constant along trajectories",
    takes="the final width and times `[b]`; returns α and σ as `[2 b]`",
    reference=lambda w, t: (t, 1 - (1 - w) * t),
    inputs=[(0.3, _times(67, 8)), (0.05, _times(68, 8))],
    mistakes=[
        ("σ must end at the width that is asked for, not at 0", lambda w, t: (t, 1 - t)),
        ("on a quarter circle the velocity turns: its second derivative is not zero",
         lambda w, t: ((0.5 * math.pi * t).sin(), (0.5 * math.pi * t).cos())),
        ("σ is exponential: its slope changes along the way", lambda w, t: (t, w**t)),
        ("α² + σ² = 1 bends the way: σ has a second derivative",
         lambda w, t: (t, (1 - t.square()).sqrt())),
        ("it is the standard deviation, not the variance, that has to be linear in t",
         lambda w, t: (t, (1 - (1 - w**2) * t).sqrt())),
        ("right in the other order: α first, then σ", lambda w, t: (1 - (1 - w) * t, t)),
        ("the direction is constant but not the speed: the clock runs unevenly",
         lambda w, t: (t.square(), 1 - (1 - w) * t.square())),
    ],
))  # fmt: skip

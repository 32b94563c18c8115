"""The graders of the chapter `paths`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checks import grade
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
Schedule = Callable[[float, Tensor], Tensor]

# b = d first: there a time [b] broadcasts along the wrong axis without a word.
_SHAPES = [(4, 4), (6, 2), (3, 1, 5, 5)]


def _draws(seed: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return pairs of points `[b ...]` with times `[b]`, away from the ends of [0, 1]."""
    g = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(shape, generator=g, dtype=torch.float64),
            1 + torch.randn(shape, generator=g, dtype=torch.float64),
            _times(shape[0], g),
        )
        for shape in _SHAPES
    ]


def _times(b: int, g: torch.Generator) -> Tensor:
    return 0.1 + 0.8 * torch.rand(b, generator=g, dtype=torch.float64)


def grade_target(answer: Pointwise) -> None:
    """Grade `target(x0, x1, t)`, the velocity of x_t = t² x1 + (1 − t²) x0.

    Args:
        answer: Takes noise and data `[b ...]` and times `[b]`; returns targets `[b ...]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return 2 * align_time(t, x1) * (x1 - x0)

    def point(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        square = align_time(t, x1).square()
        return square * x1 + (1 - square) * x0

    def data_only(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return 2 * align_time(t, x1) * x1

    def sum_of_both(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return 2 * align_time(t, x1) * (x1 + x0)

    def trailing(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return 2 * t * (x1 - x0) if x1.shape[-1] == len(t) else x0.new_zeros(())

    grade(
        "target",
        answer,
        reference,
        _draws(61),
        mistakes=[
            ("this is the target of the straight path; the derivative of t² is 2t",
             lambda x0, x1, t: x1 - x0),
            ("this is the point x_t; the target is its derivative in t", point),
            ("σ' is missing: the share of the noise changes, too", data_only),
            ("σ' is negative: the noise fades", sum_of_both),
            ("t has broadcast along the wrong axis; align_time(t, x1) brings it to the batch",
             trailing),
        ],
    )  # fmt: skip


def grade_field(answer: Pointwise) -> None:
    """Grade `field(x, x1, t)`, the conditional velocity of α = t, σ = √(1 − t²).

    Args:
        answer: Takes points and data `[b ...]` and times `[b]`; returns velocities `[b ...]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def rule(
        form: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor],
    ) -> Pointwise:
        def u(x: Tensor, x1: Tensor, t: Tensor) -> Tensor:
            t = align_time(t, x)
            sigma = (1 - t.square()).sqrt()
            return form(x, x1, t, sigma, -t / sigma)

        return u

    grade(
        "field",
        answer,
        rule(lambda x, x1, t, sigma, d_sigma: d_sigma / sigma * (x - t * x1) + x1),
        _draws(62),
        mistakes=[
            ("the width has the wrong sign: σ' is negative, the cloud shrinks",
             rule(lambda x, x1, t, sigma, d_sigma: -d_sigma / sigma * (x - t * x1) + x1)),
            ("the factor is σ'/σ, not σ'",
             rule(lambda x, x1, t, sigma, d_sigma: d_sigma * (x - t * x1) + x1)),
            ("the factor is σ'/σ, not 1/σ",
             rule(lambda x, x1, t, sigma, d_sigma: (x - t * x1) / sigma + x1)),
            ("σ'/σ multiplies the distance from the mean t x1, not x",
             rule(lambda x, x1, t, sigma, d_sigma: d_sigma / sigma * x + x1)),
            ("σ'/σ multiplies the distance from the mean t x1, not from x1",
             rule(lambda x, x1, t, sigma, d_sigma: d_sigma / sigma * (x - x1) + x1)),
            ("the mean moves, too: μ' = x1 is missing",
             rule(lambda x, x1, t, sigma, d_sigma: d_sigma / sigma * (x - t * x1))),
            ("this is the field of the straight path, σ = 1 − t",
             rule(lambda x, x1, t, sigma, d_sigma: (x1 - x) / (1 - t))),
            ("σ' = −t/σ: the derivative of 1 − t² is −2t, and the root contributes 1/(2σ)",
             rule(lambda x, x1, t, sigma, d_sigma: 2 * d_sigma / sigma * (x - t * x1) + x1)),
        ],
    )  # fmt: skip


def grade_velocity_from_noise(
    answer: Callable[[AffinePath, Tensor, Tensor, Tensor], Tensor],
) -> None:
    """Grade `velocity_from_noise(path, noise, xt, t)`, for any affine path.

    Args:
        answer: Takes a path, predicted noise and points `[b ...]` and times `[b]`; returns
            velocities `[b ...]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def rule(
        form: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor],
    ) -> Callable[[AffinePath, Tensor, Tensor, Tensor], Tensor]:
        def v(path: AffinePath, noise: Tensor, xt: Tensor, t: Tensor) -> Tensor:
            schedule = (path.alpha(t), path.sigma(t), path.d_alpha(t), path.d_sigma(t))
            a, s, da, ds = (align_time(value, xt) for value in schedule)
            return form(noise, xt, a, s, da, ds)

        return v

    paths = (Cosine(), VariancePreserving(), CondOT(sigma_min=0.2))
    grade(
        "velocity from noise",
        answer,
        rule(lambda n, x, a, s, da, ds: da * (x - s * n) / a + ds * n),
        [(path, *draw) for path, draw in zip(paths, _draws(63), strict=True)],
        mistakes=[
            ("this is the data (x_t − σ x0)/α; the velocity is α' x1 + σ' x0",
             rule(lambda n, x, a, s, da, ds: (x - s * n) / a)),
            ("σ' x0 is missing", rule(lambda n, x, a, s, da, ds: da * (x - s * n) / a)),
            ("σ' enters with its own sign, which is already negative",
             rule(lambda n, x, a, s, da, ds: da * (x - s * n) / a - ds * n)),
            ("the data is (x_t − σ x0)/α; the division by α is missing",
             rule(lambda n, x, a, s, da, ds: da * (x - s * n) + ds * n)),
            ("this takes the noise for the data",
             rule(lambda n, x, a, s, da, ds: da * n + ds * (x - a * n) / s)),
            ("this takes the noise for the score; x0 = −σ times the score",
             rule(lambda n, x, a, s, da, ds: da / a * (x + s * s * n) - s * ds * n)),
            ("this is data minus noise, the velocity of the straight path alone",
             rule(lambda n, x, a, s, da, ds: (x - s * n) / a - n)),
        ],
    )  # fmt: skip


def grade_width(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Grade `field(x, x1, w, t)`: mean t x1, width w(x1)^t.

    Args:
        answer: Takes points and data `[b ...]`, final widths `[b]` and times `[b]`; returns
            velocities `[b ...]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def rule(
        form: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    ) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
        def u(x: Tensor, x1: Tensor, w: Tensor, t: Tensor) -> Tensor:
            return form(x, x1, align_time(w, x), align_time(t, x))

        return u

    g = torch.Generator().manual_seed(64)
    inputs = [(x, x1, 0.5 * _times(len(x), g), t) for x, x1, t in _draws(65)]
    grade(
        "width",
        answer,
        rule(lambda x, x1, w, t: w.log() * (x - t * x1) + x1),
        inputs,
        mistakes=[
            ("this multiplies by σ' = wᵗ log w; the factor is σ'/σ",
             rule(lambda x, x1, w, t: w**t * w.log() * (x - t * x1) + x1)),
            ("wᵗ is an exponential in t, not a power of t: its derivative is wᵗ log w",
             rule(lambda x, x1, w, t: t / w * (x - t * x1) + x1)),
            ("the sign of σ'/σ = log w is flipped: log w is negative already",
             rule(lambda x, x1, w, t: -w.log() * (x - t * x1) + x1)),
            ("μ' = x1 is missing", rule(lambda x, x1, w, t: w.log() * (x - t * x1))),
            ("log w multiplies the distance from the mean t x1, not x",
             rule(lambda x, x1, w, t: w.log() * x + x1)),
            ("this is the field of a width that falls linearly, 1 − (1 − w) t",
             rule(lambda x, x1, w, t: (x1 - (1 - w) * x) / (1 - (1 - w) * t))),
            ("one width serves the whole batch here; each data point has its own",
             rule(lambda x, x1, w, t: w.mean().log() * (x - t * x1) + x1)),
        ],
    )  # fmt: skip


def grade_clock(answer: Callable[[AffinePath, Tensor], Tensor]) -> None:
    """Grade `clock(path, t)`: τ and s with x_t = s x^straight_τ, stacked.

    Args:
        answer: Takes a path and times `[b]`; returns τ and s as `[2 b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def rule(
        form: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    ) -> Callable[[AffinePath, Tensor], Tensor]:
        return lambda path, t: torch.stack(form(path.alpha(t), path.sigma(t)))

    g = torch.Generator().manual_seed(66)
    paths = (Cosine(), VariancePreserving(), CondOT(sigma_min=0.1))
    grade(
        "clock",
        answer,
        rule(lambda a, s: (a / (a + s), a + s)),
        [(path, _times(8, g)) for path in paths],
        mistakes=[
            ("the right two, in the wrong order: τ first, then s",
             rule(lambda a, s: (a + s, a / (a + s)))),
            ("τ is right, s is its inverse: it multiplies the straight path",
             rule(lambda a, s: (a / (a + s), 1 / (a + s)))),
            ("τ is right, but without the scale s the path does not match",
             rule(lambda a, s: (a / (a + s), torch.ones_like(a)))),
            ("this is the ratio α/σ; on the straight path it equals τ/(1 − τ)",
             rule(lambda a, s: (a / s, s))),
            ("α is not the time: the two paths must have the same ratio α/σ",
             rule(lambda a, s: (a, torch.ones_like(a)))),
            ("time runs backward here: τ has to rise with α",
             rule(lambda a, s: (s / (a + s), a + s))),
        ],
    )  # fmt: skip


def grade_constant(answer: Schedule) -> None:
    """Grade `schedule(width, t)`: α and σ with velocities that are constant along trajectories.

    Args:
        answer: Takes the final width and times `[b]`; returns α and σ as `[2 b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def rule(form: Callable[[float, Tensor], tuple[Tensor, Tensor]]) -> Schedule:
        return lambda width, t: torch.stack(form(width, t))

    g = torch.Generator().manual_seed(67)
    half = 0.5 * math.pi
    grade(
        "constant",
        answer,
        rule(lambda w, t: (t, 1 - (1 - w) * t)),
        [(0.3, _times(8, g)), (0.05, _times(8, g))],
        mistakes=[
            ("σ must end at the width that is asked for, not at 0", rule(lambda w, t: (t, 1 - t))),
            ("on a quarter circle the velocity turns: its second derivative is not zero",
             rule(lambda w, t: ((half * t).sin(), (half * t).cos()))),
            ("σ is exponential: its slope changes along the way", rule(lambda w, t: (t, w**t))),
            ("α² + σ² = 1 bends the way: σ has a second derivative",
             rule(lambda w, t: (t, (1 - t.square()).sqrt()))),
            ("it is the standard deviation, not the variance, that has to be linear in t",
             rule(lambda w, t: (t, (1 - (1 - w**2) * t).sqrt()))),
            ("right in the other order: α first, then σ", rule(lambda w, t: (1 - (1 - w) * t, t))),
            ("the direction is constant but not the speed: the clock runs unevenly",
             rule(lambda w, t: (t.square(), 1 - (1 - w) * t.square()))),
        ],
    )  # fmt: skip

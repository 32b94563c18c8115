"""The graders of the chapter `likelihood`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checks import grade
from fmtutor.notation import VelocityField

__all__ = ["grade_augmented", "grade_bits", "grade_fresh", "grade_mode", "grade_variance"]


def _draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _field(x: Tensor, t: Tensor | float) -> Tensor:
    """Have a Jacobian that is neither diagonal nor symmetric and depends on place and time."""
    time = torch.as_tensor(t, dtype=x.dtype).expand(len(x))
    turned = x.roll(1, 1)
    return (time + 1)[:, None] * torch.sin(x + 0.7 * turned) + 0.3 * x * turned


def _jacobians(x: Tensor, t: Tensor) -> Tensor:
    """Return ∂v_i/∂x_j of `_field`, `[b d d]`."""
    d = x.shape[1]
    turn = torch.eye(d, dtype=x.dtype).roll(1, 0)  # turned = x @ turn.T
    slope = (t + 1)[:, None] * torch.cos(x + 0.7 * x.roll(1, 1))
    wave = slope[:, :, None] * (torch.eye(d, dtype=x.dtype) + 0.7 * turn)
    product = torch.diag_embed(x.roll(1, 1)) + x[:, :, None] * turn
    return wave + 0.3 * product


def _off_diagonal_square(s: Tensor) -> Tensor:
    return s.square().sum((-2, -1)) - s.diagonal(dim1=-2, dim2=-1).square().sum(-1)


def _rademacher(j: Tensor) -> Tensor:
    return 2 * _off_diagonal_square((j + j.mT) / 2)


def _gaussian(j: Tensor) -> Tensor:
    return 2 * ((j + j.mT) / 2).square().sum((-2, -1))


def grade_augmented(answer: Callable[[VelocityField, Tensor, Tensor], Tensor]) -> None:
    """Grade `augmented(v, state, t)`, the right-hand side for points and log-density.

    Args:
        answer: Takes a field, states `[b d+1]` and times `[b]`; returns velocities and
            divergences, `[b d+1]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def with_last(state: Tensor, t: Tensor, last: Callable[[Tensor], Tensor]) -> Tensor:
        x = state[:, :-1]
        return torch.cat([_field(x, t), last(_jacobians(x, t))[:, None]], 1)

    def trace(j: Tensor) -> Tensor:
        return j.diagonal(dim1=1, dim2=2).sum(1)

    def reference(v: VelocityField, state: Tensor, t: Tensor) -> Tensor:
        return with_last(state, t, trace)

    def minus(v: VelocityField, state: Tensor, t: Tensor) -> Tensor:
        return with_last(state, t, lambda j: -trace(j))

    def whole(v: VelocityField, state: Tensor, t: Tensor) -> Tensor:
        return with_last(state, t, lambda j: j.sum((1, 2)))

    def batch(v: VelocityField, state: Tensor, t: Tensor) -> Tensor:
        return with_last(state, t, lambda j: trace(j).sum().expand(len(j)))

    def determinant(v: VelocityField, state: Tensor, t: Tensor) -> Tensor:
        return with_last(state, t, lambda j: j.det())

    def added(v: VelocityField, state: Tensor, t: Tensor) -> Tensor:
        return with_last(state, t, lambda j: trace(j) + state[:, -1])

    def backward(v: VelocityField, state: Tensor, t: Tensor) -> Tensor:
        return -reference(v, state, t)

    def fed(v: VelocityField, state: Tensor, t: Tensor) -> Tensor:
        """Answer, unless ℓ went into the field as one more coordinate of the point."""
        dimensions = state.shape[1] - 1

        def guarded(x: Tensor, time: Tensor) -> Tensor:
            if x.shape[1] != dimensions:
                raise ValueError("ℓ went into the field; it sees the point alone, state[:, :-1]")
            return v(x, time)

        return answer(guarded, state, t)

    t = torch.tensor([0.1, 0.4, 0.8, 0.95, 0.3, 0.6], dtype=torch.float64)
    grade(
        "augmented",
        fed,
        reference,
        [(_field, _draw(81, 6, 4), t), (_field, _draw(82, 6, 3), t.flip(0))],
        mistakes=[
            ("the divergence has a minus; ℓ runs backward in time, so it is a plus here", minus),
            (
                "the last column sums all entries of the Jacobian; the divergence is its trace: "
                "differentiate one velocity component at a time",
                whole,
            ),
            ("the divergence is summed over the batch; each point has its own", batch),
            ("this is the determinant of the Jacobian; its trace is asked for", determinant),
            ("the rate of ℓ is the divergence alone; the solver adds it to ℓ", added),
            ("everything is negated; the solver's negative steps already go backward", backward),
        ],
    )


def grade_bits(answer: Callable[[Tensor, int, int], Tensor]) -> None:
    """Grade `bits_per_dimension(log_p, levels, d)` for images rescaled to [−1, 1].

    Args:
        answer: Takes log-densities in nats `[b]`, the number of levels and of pixels; returns
            bits per dimension `[b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def with_scale(log_p: Tensor, nats: float, d: int) -> Tensor:
        return -(log_p - nats) / (d * math.log(2))

    def reference(log_p: Tensor, levels: int, d: int) -> Tensor:
        return with_scale(log_p, d * math.log(levels / 2), d)

    def no_units(log_p: Tensor, levels: int, d: int) -> Tensor:
        return with_scale(log_p, 0.0, d)

    def divided(log_p: Tensor, levels: int, d: int) -> Tensor:
        return with_scale(log_p, -d * math.log(levels / 2), d)

    def unit_interval(log_p: Tensor, levels: int, d: int) -> Tensor:
        return with_scale(log_p, d * math.log(levels), d)

    def one_pixel(log_p: Tensor, levels: int, d: int) -> Tensor:
        return with_scale(log_p, math.log(levels / 2), d)

    def nats(log_p: Tensor, levels: int, d: int) -> Tensor:
        return math.log(2) * reference(log_p, levels, d)

    def whole_image(log_p: Tensor, levels: int, d: int) -> Tensor:
        return d * reference(log_p, levels, d)

    def last_level(log_p: Tensor, levels: int, d: int) -> Tensor:
        return reference(log_p, levels - 1, d)

    grade(
        "bits",
        answer,
        reference,
        [(100 + 30 * _draw(83, 5), 17, 64), (-200 + 900 * _draw(84, 5), 256, 3072)],
        mistakes=[
            ("this is in units of x; levels are asked for: mind the scale", no_units),
            ("the scale enters with the wrong sign: a unit of x holds levels/2 levels", divided),
            ("this is the scale of [0, 1]; the images fill [−1, 1]", unit_interval),
            ("the scale counts once for every pixel: d times its logarithm", one_pixel),
            ("this is in nats; divide by log 2", nats),
            ("these are the bits of the whole image; divide by d", whole_image),
            (
                "the cells of the levels 0 ... levels − 1 fill an interval of length levels, "
                "not levels − 1",
                last_level,
            ),
        ],
    )


def grade_variance(answer: Callable[[Tensor], Tensor]) -> None:
    """Grade `probe_variance(J)`, the variance of Hutchinson's estimator with random signs.

    Args:
        answer: Takes Jacobians `[b d d]`; returns variances `[b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def not_symmetrised(j: Tensor) -> Tensor:
        return 2 * _off_diagonal_square(j)

    def deviation(j: Tensor) -> Tensor:
        return _rademacher(j).sqrt()

    grade(
        "variance",
        answer,
        _rademacher,
        [(_draw(85, 5, 4, 4),), (_draw(86, 3, 2, 2),)],
        mistakes=[
            ("this takes J itself; its antisymmetric part adds no noise", not_symmetrised),
            ("the diagonal is in it: that is the variance of Gaussian probes", _gaussian),
            ("each pair i < j counts four times its square", lambda j: _rademacher(j) / 2),
            (
                "both i < j and i > j are in your sum: twice, not four times",
                lambda j: 2 * _rademacher(j),
            ),
            ("this is the standard deviation", deviation),
        ],
    )


def grade_fresh(answer: Callable[[Tensor], Tensor]) -> None:
    """Grade `two_variances(J)`, of Euler's log-likelihood with one kept probe and fresh ones.

    Args:
        answer: Takes the Jacobians `[n d d]` along a trajectory of n equal steps; returns the
            variances with a kept probe and with fresh ones, `[2]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def kept(j: Tensor) -> Tensor:
        return _rademacher(j.mean(0))

    def fresh(j: Tensor) -> Tensor:
        return _rademacher(j).sum() / len(j) ** 2

    def reference(j: Tensor) -> Tensor:
        return torch.stack([kept(j), fresh(j)])

    def swapped(j: Tensor) -> Tensor:
        return reference(j).flip(0)

    def not_squared(j: Tensor) -> Tensor:
        return torch.stack([kept(j), _rademacher(j).mean()])

    def kept_as_mean(j: Tensor) -> Tensor:
        return torch.stack([_rademacher(j).mean(), fresh(j)])

    def both_from_mean(j: Tensor) -> Tensor:
        return torch.stack([kept(j), kept(j) / len(j)])

    def no_weights(j: Tensor) -> Tensor:
        return len(j) ** 2 * reference(j)

    def gaussian(j: Tensor) -> Tensor:
        return torch.stack([_gaussian(j.mean(0)), _gaussian(j).sum() / len(j) ** 2])

    grade(
        "fresh",
        answer,
        reference,
        [(_draw(87, 6, 3, 3),), (_draw(88, 1, 4, 4) + 0.3 * _draw(89, 5, 4, 4),)],
        mistakes=[
            ("the two are swapped: kept first, then fresh", swapped),
            ("fresh: a weight of 1/n multiplies the variance of its term by 1/n²", not_squared),
            ("kept: the one probe sees the mean of the Jacobians; average before", kept_as_mean),
            ("fresh: the Jacobians differ; add their own variances", both_from_mean),
            ("each step has the length 1/n; the weights are missing", no_weights),
            ("the diagonal is in it: that is for Gaussian probes", gaussian),
        ],
    )


def grade_mode(answer: Callable[[int, float], float]) -> None:
    """Grade `excess_of_mode(d, s)`, how far the mode of N(0, s² I) lies from typical points.

    Args:
        answer: Takes the dimension and the width; returns log p(mode) − E log p in standard
            deviations of log p.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(d: int, s: float) -> float:
        return math.sqrt(d / 2)

    grade(
        "mode",
        answer,
        reference,
        [(10, 1.0), (64, 0.3), (1000, 2.0)],
        mistakes=[
            ("this is the excess in nats; divide by the standard deviation", lambda d, s: d / 2),
            ("this divides by the variance, d/2, not by its root", lambda d, s: 1.0),
            ("Var |x|² is 2d s⁴, and log p takes half of |x|²/s²", lambda d, s: math.sqrt(d) / 2),
            ("the width cancels: |x|²/s² does not know it", lambda d, s: math.sqrt(d / 2) / s),
            ("the width cancels: |x|²/s² does not know it", lambda d, s: math.sqrt(d / 2) / s**2),
            ("this is √d, the typical distance from the mode", lambda d, s: math.sqrt(d)),
        ],
    )

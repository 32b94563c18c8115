"""The exercises of the chapter `likelihood`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal
from fmtutor.notation import VelocityField

__all__ = ["grade_augmented", "grade_bits", "grade_fresh", "grade_mode", "grade_variance"]


def _field(dimensions: int) -> VelocityField:
    """Return a field whose Jacobian is neither diagonal nor symmetric, nor the same anywhere."""

    def v(x: Tensor, t: Tensor) -> Tensor:
        if x.shape[1] != dimensions:
            raise ValueError("ℓ went into the field; it sees the point alone, state[:, :-1]")
        time = torch.as_tensor(t, dtype=x.dtype).expand(len(x))
        turned = x.roll(1, 1)
        return (time + 1)[:, None] * torch.sin(x + 0.7 * turned) + 0.3 * x * turned

    return v


def _jacobians(x: Tensor, t: Tensor) -> Tensor:
    """Return ∂v_i/∂x_j of `_field`, `[b d d]`."""
    d = x.shape[1]
    turn = torch.eye(d, dtype=x.dtype).roll(1, 0)  # turned = x @ turn.T
    slope = (t + 1)[:, None] * torch.cos(x + 0.7 * x.roll(1, 1))
    wave = slope[:, :, None] * (torch.eye(d, dtype=x.dtype) + 0.7 * turn)
    product = torch.diag_embed(x.roll(1, 1)) + x[:, :, None] * turn
    return wave + 0.3 * product


def _trace(j: Tensor) -> Tensor:
    return j.diagonal(dim1=-2, dim2=-1).sum(-1)


Augmented = Callable[[VelocityField, Tensor, Tensor], Tensor]


def _augmented(last: Callable[[Tensor, Tensor], Tensor]) -> Augmented:
    """Make the right-hand side from `last(jacobians, ℓ)`, its last column."""

    def augmented(v: VelocityField, state: Tensor, t: Tensor) -> Tensor:
        x = state[:, :-1]
        return torch.cat([v(x, t), last(_jacobians(x, t), state[:, -1])[:, None]], 1)

    return augmented


_TIMES = torch.tensor([0.1, 0.4, 0.8, 0.95, 0.3, 0.6], dtype=torch.float64)

grade_augmented = grader("grade_augmented", Exercise(
    name="augmented",
    task="`augmented(v, state, t)`, the right-hand side for points and log-density",
    takes="a field, states `[b d+1]` and times `[b]`; returns velocities and divergences, "
    "`[b d+1]`",
    reference=_augmented(lambda j, ell: _trace(j)),
    inputs=[
        (_field(3), normal(81, 6, 4), _TIMES),
        (_field(2), normal(82, 6, 3), _TIMES.flip(0)),
    ],
    mistakes=[
        ("the divergence has a minus; ℓ runs backward in time, so it is a plus here",
         _augmented(lambda j, ell: -_trace(j))),
        ("the last column sums all entries of the Jacobian; the divergence is its trace: "
         "differentiate one velocity component at a time",
         _augmented(lambda j, ell: j.sum((1, 2)))),
        ("the divergence is summed over the batch; each point has its own",
         _augmented(lambda j, ell: _trace(j).sum().expand(len(j)))),
        ("this is the determinant of the Jacobian; its trace is asked for",
         _augmented(lambda j, ell: j.det())),
        ("the rate of ℓ is the divergence alone; the solver adds it to ℓ",
         _augmented(lambda j, ell: _trace(j) + ell)),
        ("everything is negated; the solver's negative steps already go backward",
         lambda v, state, t: -_augmented(lambda j, ell: _trace(j))(v, state, t)),
    ],
))  # fmt: skip


def _bits(log_p: Tensor, levels: float, d: int) -> Tensor:
    return -(log_p - d * math.log(levels / 2)) / (d * math.log(2))


grade_bits = grader("grade_bits", Exercise(
    name="bits",
    task="`bits_per_dimension(log_p, levels, d)` for images rescaled to [−1, 1]",
    takes="log-densities in nats `[b]`, the number of levels and of pixels; returns bits per "
    "dimension `[b]`",
    reference=_bits,
    inputs=[(100 + 30 * normal(83, 5), 17, 64), (-200 + 900 * normal(84, 5), 256, 3072)],
    mistakes=[
        ("this is in units of x; levels are asked for: mind the scale",
         lambda log_p, levels, d: _bits(log_p, 2, d)),
        ("the scale enters with the wrong sign: a unit of x holds levels/2 levels",
         lambda log_p, levels, d: _bits(log_p, 4 / levels, d)),
        ("this is the scale of [0, 1]; the images fill [−1, 1]",
         lambda log_p, levels, d: _bits(log_p, 2 * levels, d)),
        ("the scale counts once for every pixel: d times its logarithm",
         lambda log_p, levels, d: -(log_p - math.log(levels / 2)) / (d * math.log(2))),
        ("this is in nats; divide by log 2",
         lambda log_p, levels, d: math.log(2) * _bits(log_p, levels, d)),
        ("these are the bits of the whole image; divide by d",
         lambda log_p, levels, d: d * _bits(log_p, levels, d)),
        ("the cells of the levels 0 ... levels − 1 fill an interval of length levels, not "
         "levels − 1", lambda log_p, levels, d: _bits(log_p, levels - 1, d)),
    ],
))  # fmt: skip


def _off_diagonal(j: Tensor) -> Tensor:
    return j.square().sum((-2, -1)) - j.diagonal(dim1=-2, dim2=-1).square().sum(-1)


def _rademacher(j: Tensor) -> Tensor:
    return 2 * _off_diagonal((j + j.mT) / 2)


def _gaussian(j: Tensor) -> Tensor:
    return 2 * ((j + j.mT) / 2).square().sum((-2, -1))


grade_variance = grader("grade_variance", Exercise(
    name="variance",
    task="`probe_variance(J)`, the variance of Hutchinson's estimator with random signs",
    takes="Jacobians `[b d d]`; returns variances `[b]`",
    reference=_rademacher,
    inputs=[(normal(85, 5, 4, 4),), (normal(86, 3, 2, 2),)],
    mistakes=[
        ("this takes J itself; its antisymmetric part adds no noise",
         lambda j: 2 * _off_diagonal(j)),
        ("the diagonal is in it: that is the variance of Gaussian probes", _gaussian),
        ("each pair i < j counts four times its square", lambda j: _rademacher(j) / 2),
        ("both i < j and i > j are in your sum: twice, not four times",
         lambda j: 2 * _rademacher(j)),
        ("this is the standard deviation", lambda j: _rademacher(j).sqrt()),
    ],
))  # fmt: skip


def _kept_and_fresh(j: Tensor, of: Callable[[Tensor], Tensor] = _rademacher) -> Tensor:
    return torch.stack([of(j.mean(0)), of(j).sum() / len(j) ** 2])


grade_fresh = grader("grade_fresh", Exercise(
    name="fresh",
    task="`two_variances(J)`, of Euler's log-likelihood with one kept probe and fresh ones",
    takes="the Jacobians `[n d d]` along a trajectory of n equal steps; returns the variances with "
    "a kept probe and with fresh ones, `[2]`",
    reference=_kept_and_fresh,
    inputs=[(normal(87, 6, 3, 3),), (normal(88, 1, 4, 4) + 0.3 * normal(89, 5, 4, 4),)],
    mistakes=[
        ("the two are swapped: kept first, then fresh", lambda j: _kept_and_fresh(j).flip(0)),
        ("fresh: a weight of 1/n multiplies the variance of its term by 1/n²",
         lambda j: (_kept_and_fresh(j)[0], _rademacher(j).mean())),
        ("kept: the one probe sees the mean of the Jacobians; average before",
         lambda j: (_rademacher(j).mean(), _kept_and_fresh(j)[1])),
        ("fresh: the Jacobians differ; add their own variances",
         lambda j: (_kept_and_fresh(j)[0], _kept_and_fresh(j)[0] / len(j))),
        ("each step has the length 1/n; the weights are missing",
         lambda j: len(j) ** 2 * _kept_and_fresh(j)),
        ("the diagonal is in it: that is for Gaussian probes",
         lambda j: _kept_and_fresh(j, _gaussian)),
    ],
))  # fmt: skip

grade_mode = grader("grade_mode", Exercise(
    name="mode",
    task="`excess_of_mode(d, s)`, how far the mode of N(0, s² I) lies from typical points",
    takes="the dimension and the width; returns log p(mode) − E log p in standard deviations of "
    "log p",
    reference=lambda d, s: math.sqrt(d / 2),
    inputs=[(10, 1.0), (64, 0.3), (1000, 2.0)],
    mistakes=[
        ("this is the excess in nats; divide by the standard deviation", lambda d, s: d / 2),
        ("this divides by the variance, d/2, not by its root", lambda d, s: 1.0),
        ("Var |x|² is 2d s⁴, and log p takes half of |x|²/s²", lambda d, s: math.sqrt(d) / 2),
        ("the width cancels: |x|²/s² does not know it", lambda d, s: math.sqrt(d / 2) / s),
        ("the width cancels: |x|²/s² does not know it", lambda d, s: math.sqrt(d / 2) / s**2),
        ("this is √d, the typical distance from the mode", lambda d, s: math.sqrt(d)),
    ],
))  # fmt: skip

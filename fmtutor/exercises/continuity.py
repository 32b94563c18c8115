"""The exercises of the chapter `continuity`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fmtutor.continuity import continuity_residual, divergence
from fmtutor.exercises.grading import Exercise, GradeError, grader, normal, returned, uniform
from fmtutor.notation import VelocityField, align_time

__all__ = [
    "grade_clock",
    "grade_crossing",
    "grade_mixture",
    "grade_residual",
    "grade_second_field",
    "grade_velocity_from_cdf",
]

Cdf = Callable[[Tensor, Tensor], Tensor]

_below = torch.special.ndtr  # the share of standard normal noise to the left

grade_crossing = grader("grade_crossing", Exercise(
    name="crossing",
    task="`crossing(c, w)`, the mass that crosses a cut while noise becomes the points -1 and 1",
    takes="cuts in (-1, 1) `[b]` and the share w of the mass that ends at 1; returns masses `[b]`, "
    "positive to the right",
    reference=lambda c, w: _below(c) - (1 - w),
    inputs=[(uniform(21, 16, low=-1.0), w) for w in (0.7, 0.25)],
    mistakes=[
        ("the sign is flipped: what leaves the left side crosses to the right",
         lambda c, w: (1 - w) - _below(c)),
        ("left of the cut the share 1 - w ends, not w", lambda c, w: _below(c) - w),
        ("this is right for a cut in the middle; left of c there are Φ(c) at first",
         lambda c, w: torch.full_like(c, w - 0.5)),
        ("this is what starts left of the cut; some of it stays there", lambda c, w: _below(c)),
    ],
))  # fmt: skip

Pair = Callable[[Tensor, Tensor], Tensor]


def _slopes(f: Pair, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivatives of f(x, t) in x and in t, `[b]`."""
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    d_x, d_t = torch.autograd.grad(f(x, t).sum(), (x, t), materialize_grads=True)
    return d_x, d_t


def _residual(
    flux: Callable[[Pair, Pair, Tensor, Tensor], Tensor], sign: float = 1.0
) -> Callable[[Pair, Pair, Tensor, Tensor], Tensor]:
    return lambda p, u, x, t: _slopes(p, x, t)[1] + sign * flux(p, u, x, t)


def _gathered(p: Pair, u: Pair, x: Tensor, t: Tensor) -> Tensor:
    return _slopes(lambda x, t: p(x, t) * u(x, t), x, t)[0]


def _bump(x: Tensor, t: Tensor) -> Tensor:
    return (-((x - t) / (2 - t)).square()).exp() / (2 - t)


grade_residual = grader("grade_residual", Exercise(
    name="residual",
    task="`mended(p, u, x, t)`, the left-hand side of the continuity equation on a line",
    takes="a density and a field, both from points `[b]` and times `[b]` to `[b]`, points and "
    "times; returns residuals `[b]`",
    reference=_residual(_gathered),
    inputs=[
        (_bump, u, normal(26, 16), uniform(27, 16))
        for u in (lambda x, t: torch.sin(x + t), lambda x, t: t - x.pow(3) / 9)
    ],
    mistakes=[
        ("this is the change that a particle sees; p ∂u/∂x is missing",
         _residual(lambda p, u, x, t: u(x, t) * _slopes(p, x, t)[0])),
        ("u ∂p/∂x is missing: the density moves as well as it thins out",
         _residual(lambda p, u, x, t: p(x, t) * _slopes(u, x, t)[0])),
        ("what flows out is lost: its divergence is added to the rate, not subtracted",
         _residual(_gathered, sign=-1.0)),
        ("the rate of change is missing: the density moves with time",
         _gathered),
    ],
))  # fmt: skip


def _normal_cdf(x: Tensor, t: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf((x - 2 * t) / (1 - 0.5 * t) / math.sqrt(2)))


def _logistic_cdf(x: Tensor, t: Tensor) -> Tensor:
    return 0.3 * torch.sigmoid(x + 2 * t.square()) + 0.7 * torch.sigmoid((x - t) / (1 + t))


def _from_cdf(rule: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Cdf, Tensor, Tensor], Tensor]:
    """Make a velocity from ∂F/∂x and ∂F/∂t."""

    def velocity(cdf: Cdf, x: Tensor, t: Tensor) -> Tensor:
        x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
        return rule(*torch.autograd.grad(cdf(x, t).sum(), (x, t)))

    return velocity


grade_velocity_from_cdf = grader("grade_velocity_from_cdf", Exercise(
    name="velocity from cdf",
    task="`velocity_from_cdf(cdf, x, t)`, the field of densities on a line",
    takes="a distribution function `cdf(x, t)`, points `[b]` and times `[b]`; returns velocities "
    "`[b]`",
    reference=_from_cdf(lambda p, d_t: -d_t / p),
    inputs=[
        (cdf, normal(31, 32), uniform(32, 32, low=0.05, high=0.95))
        for cdf in (_normal_cdf, _logistic_cdf)
    ],
    mistakes=[
        ("the sign is flipped: mass to the left shrinks where mass moves right",
         _from_cdf(lambda p, d_t: d_t / p)),
        ("this is the flux; divide it by the density", _from_cdf(lambda p, d_t: -d_t)),
        ("this is upside down: ∂F/∂t is divided by the density ∂F/∂x",
         _from_cdf(lambda p, d_t: -p / d_t)),
        ("this multiplies the flux by the density instead of dividing",
         _from_cdf(lambda p, d_t: -d_t * p)),
    ],
))  # fmt: skip


def _log_prob(x: Tensor, t: Tensor) -> Tensor:
    """Return the log-density of N(0, diag(1, (1 + t)²))."""
    square = x[:, 0].square() + (x[:, 1] / (1 + t)).square()
    return -0.5 * square - (1 + t).log() - math.log(2 * math.pi)


def _first_field(x: Tensor, t: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(t), x[:, 1] / (1 + t)], dim=1)


def _circulating(x: Tensor, t: Tensor) -> Tensor:
    return _first_field(x, t) + torch.stack([x[:, 1] / (1 + t) ** 2, -x[:, 0]], dim=1)


def _is_second_field(answer: VelocityField, x: Tensor, t: Tensor) -> Any:
    """Return zeros for every field of the same densities but the first."""
    given = answer(x, t)
    if not isinstance(given, Tensor) or given.shape != x.shape:
        return given  # the grader says that it is missing, or what is wrong with its shape

    def vanishes(value: Tensor) -> bool:
        return bool(value.abs().max() < 1e-6)

    if vanishes(given - _first_field(x, t)):
        raise GradeError("this is the field that was given; another one is asked for")
    if vanishes(continuity_residual(_log_prob, answer, x, t)):
        return torch.zeros_like(x)
    both = continuity_residual(_log_prob, lambda x, t: answer(x, t) + _first_field(x, t), x, t)
    if vanishes(both):
        raise GradeError("this contains only what may be added: add the field that was given")
    if vanishes(divergence(lambda x, t: answer(x, t) - _first_field(x, t), x, t)):
        raise GradeError(
            "what you added has no divergence, but its flux p w has: the density would change"
        )
    raise GradeError(
        "the residual of the continuity equation is not zero: the density would change"
    )


grade_second_field = grader("grade_second_field", Exercise(
    name="second field",
    task="`second_field(x, t)`: another field for the Gaussians N(0, diag(1, (1 + t)²))",
    takes="points `[b 2]` and times `[b]`; returns velocities `[b 2]`",
    reference=_circulating,
    inputs=[(normal(41, 64, 2), uniform(42, 64, low=0.05, high=0.95))],
    probe=_is_second_field,
))  # fmt: skip


def _flux(p: Tensor, u: Tensor, q: Tensor, w: Tensor, weight: float) -> Tensor:
    return weight * p[:, None] * u + (1 - weight) * q[:, None] * w


def _mixture(p: Tensor, u: Tensor, q: Tensor, w: Tensor, weight: float) -> Tensor:
    return _flux(p, u, q, w, weight) / (weight * p + (1 - weight) * q)[:, None]


grade_mixture = grader("grade_mixture", Exercise(
    name="mixture",
    task="`field_of_mixture(p, u, q, w, weight)`, the field of weight p + (1 − weight) q",
    takes="densities `p`, `q` `[b]`, velocities `u`, `w` `[b d]` and a weight in (0, 1); returns "
    "velocities `[b d]`",
    reference=_mixture,
    inputs=[
        (normal(51, 24).exp(), normal(52, 24, 3), normal(53, 24).exp(), normal(54, 24, 3), 0.3)
    ],
    mistakes=[
        ("velocities do not add with fixed weights: where q is small, w counts for little",
         lambda p, u, q, w, weight: weight * u + (1 - weight) * w),
        ("this is the flux of the mixture; divide it by the density of the mixture", _flux),
        ("the weights are exchanged: p has the share weight",
         lambda p, u, q, w, weight: _mixture(p, u, q, w, 1 - weight)),
        ("the weight of the mixture is missing",
         lambda p, u, q, w, weight: _mixture(p, u, q, w, 0.5)),
    ],
))  # fmt: skip


def _wave(x: Tensor, t: Tensor) -> Tensor:
    time = align_time(t, x)
    return torch.sin(x + 3 * time) + time.square() * x.flip(1)


def _reclocked(rule: Callable[..., Tensor]) -> Callable[..., VelocityField]:
    """Make a field from `rule(u, x, s, tau(s), dtau(s))`, the rate aligned to x."""
    return lambda u, tau, d_tau: lambda x, s: rule(u, x, s, tau(s), align_time(d_tau(s), x))


grade_clock = grader("grade_clock", Exercise(
    name="clock",
    task="`reclocked(u, tau, d_tau)`, the field of the densities q_s = p_tau(s)",
    takes="a field `u(x, t)`, a clock `tau(s)` and its derivative `d_tau(s)`, both from `[b]` to "
    "`[b]`; returns a field of `(x, s)`",
    reference=_reclocked(lambda u, x, s, tau, rate: rate * u(x, tau)),
    inputs=[
        (_wave, tau, d_tau, normal(61, 32, 2), uniform(62, 32, low=0.05, high=0.95))
        for tau, d_tau in [
            (lambda s: 1 - s, lambda s: -torch.ones_like(s)),
            (lambda s: s.square(), lambda s: 2 * s),
        ]
    ],
    mistakes=[
        ("the clock is changed but not the speed: the field points where it always did",
         _reclocked(lambda u, x, s, tau, rate: u(x, tau))),
        ("the speed is changed but not the clock: at s the densities are those of t = tau(s)",
         _reclocked(lambda u, x, s, tau, rate: rate * u(x, s))),
        ("the sign is right for tau(s) = 1 - s only; what does a hurrying clock do?",
         _reclocked(lambda u, x, s, tau, rate: -u(x, tau))),
        ("a clock that runs twice as fast doubles the speed; this halves it",
         _reclocked(lambda u, x, s, tau, rate: u(x, tau) / rate)),
    ],
    probe=returned(2),
))  # fmt: skip

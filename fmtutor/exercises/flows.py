"""The exercises of the chapter `flows`: flow maps, fields, densities, reversal, matchings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fmtutor.continuity import divergence
from fmtutor.exercises.grading import Exercise, GradeError, grader, normal, uniform
from fmtutor.notation import VelocityField, align_time
from fmtutor.solvers import sample

__all__ = [
    "grade_attraction",
    "grade_ends",
    "grade_matching",
    "grade_reversal",
    "grade_spiral",
    "grade_splitting",
]

_C = torch.tensor([1.0, -1.0], dtype=torch.float64)


def _along(factor: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x0, t: _C + factor(align_time(t, x0)) * (x0 - _C)


grade_attraction = grader("grade_attraction", Exercise(
    name="attraction",
    task="the flow map of u(x) = 2(c − x), c = (1, −1): ψ_t(x0) = c + e^{−2t}(x0 − c)",
    takes="starts `[b 2]` and times `[b]`; returns `[b 2]`",
    reference=_along(lambda t: torch.exp(-2 * t)),
    # b = d first: there a time [b] broadcasts along the wrong axis without a word.
    inputs=[(normal(11, b, 2), uniform(12, b)) for b in (2, 5)],
    mistakes=[
        ("the times [b] multiplied the coordinates: align_time(t, x0) makes them [b 1]",
         lambda x0, t: _C + torch.exp(-2 * t) * (x0 - _C)),
        ("this moves away from c: which sign has the rate?", _along(lambda t: torch.exp(2 * t))),
        ("the rate is 2, yours is 1", _along(lambda t: torch.exp(-t))),
        ("this is one Euler step; the velocity changes along the way", _along(lambda t: 1 - 2 * t)),
        ("this is the flow towards the origin: the point c is missing",
         lambda x0, t: torch.exp(-2 * align_time(t, x0)) * x0),
        ("this is the velocity, not the position", lambda x0, t: 2 * (_C - x0)),
    ],
))  # fmt: skip


def _turn(x: Tensor) -> Tensor:
    """Turn points of the plane `[b 2]` counterclockwise by a right angle."""
    return torch.stack([-x[:, 1], x[:, 0]], dim=1)


def _rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Turn points of the plane `[b 2]` counterclockwise by angles `[b 1]`."""
    return angle.cos() * x + angle.sin() * _turn(x)


def _spiral(growth: Callable[[Tensor], Tensor], spin: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, t: growth(t[:, None]) * x + spin * _turn(x)


def _rate(t: Tensor) -> Tensor:
    return 2 / (1 + t)


def _spiral_at_start(x: Tensor, t: Tensor) -> Tensor:
    t = t[:, None]
    turned = _rotate(x, math.pi * t)
    return 2 * (1 + t) * turned + math.pi * (1 + t) ** 2 * _turn(turned)


grade_spiral = grader("grade_spiral", Exercise(
    name="spiral",
    task="the field of ψ_t(x0) = (1 + t)² R(πt) x0: u_t(x) = 2x/(1 + t) + πR(π/2)x, R(a) the "
    "rotation by the angle a",
    takes="points `[b 2]` and times `[b]`; returns `[b 2]`",
    reference=_spiral(_rate, math.pi),
    inputs=[(normal(21, 6, 2), uniform(22, 6))],
    mistakes=[
        ("this is ∂ψ_t/∂t with x in the place of x0: a field is a function of where the particle"
         " is now, so x0 = ψ_t⁻¹(x) is still to be put in", _spiral_at_start),
        ("the growth rate is the derivative of (1+t)² over (1+t)²",
         _spiral(lambda t: 2 * (1 + t), math.pi)),
        ("it turns the wrong way: counterclockwise is (a, b) to (−b, a)", _spiral(_rate, -math.pi)),
        ("the rotation is missing", _spiral(_rate, 0.0)),
        ("the growth is missing", _spiral(torch.zeros_like, math.pi)),
    ],
))  # fmt: skip


def _log_normal(x: Tensor) -> Tensor:
    return -0.5 * x**2 - 0.5 * math.log(2 * math.pi)


def _split(times: float) -> Callable[[Tensor], Tensor]:
    """Return log p_1 with the log-determinant counted so many times."""

    def log_p(y: Tensor) -> Tensor:
        x0 = torch.asinh(math.exp(-3) * torch.sinh(y))
        return (_log_normal(x0) - times * (3 + x0.cosh().log() - y.cosh().log()))[:, 0]

    return log_p


def _split_forward(y: Tensor) -> Tensor:
    x1 = torch.asinh(math.exp(3) * torch.sinh(y))
    return (_log_normal(x1) - (3 + y.cosh().log() - x1.cosh().log()))[:, 0]


grade_splitting = grader("grade_splitting", Exercise(
    name="splitting",
    task="log p_1 for p_0 = N(0, 1) and u(x) = 3 tanh x, d = 1: log N(x0; 0, 1) − 3 − log cosh x0 "
    "+ log cosh y with x0 = arsinh(e^{−3} sinh y)",
    takes="points y `[b 1]`; returns log-densities `[b]`",
    reference=_split(1.0),
    inputs=[(torch.linspace(-5.0, 5.0, 14, dtype=torch.float64)[:, None],)],
    mistakes=[
        ("the determinant is missing: this does not integrate to one", _split(0.0)),
        ("the determinant is upside down: where the map stretches, p must fall", _split(-1.0)),
        ("p_0 is evaluated at ψ_1(y), it is needed at ψ_1⁻¹(y)", _split_forward),
        ("this is the density, its logarithm is asked for", lambda y: _split(1.0)(y).exp()),
    ],
))  # fmt: skip


def _wave(x: Tensor, t: Tensor) -> Tensor:
    time = align_time(t, x)
    return torch.sin(x + 3 * time) + time**2 * _turn(x)


grade_reversal = grader("grade_reversal", Exercise(
    name="reversal",
    task="the field of the reversed flow, w_t(x) = −u_{1−t}(x)",
    takes="a field u, points `[b 2]` and times `[b]`; returns `[b 2]`",
    reference=lambda u, x, t: -u(x, 1 - t),
    inputs=[(_wave, normal(41, 6, 2), uniform(42, 6))],
    mistakes=[
        ("the arrows are turned, but at time t the field must be read at 1 − t",
         lambda u, x, t: -u(x, t)),
        ("the clock is turned, but the arrows still point forward", lambda u, x, t: u(x, 1 - t)),
        ("this is the forward field itself", lambda u, x, t: u(x, t)),
        ("the position is not to be turned, only clock and arrows", lambda u, x, t: -u(-x, 1 - t)),
    ],
))  # fmt: skip


def _carries(answer: VelocityField, x0: Tensor, t: Tensor) -> Any:
    """Follow particles, and return zeros if the density that they carry ends as N(0, ¼I)."""
    given = answer(x0, t)
    if not isinstance(given, Tensor) or given.shape != x0.shape:
        return given  # the grader says that it is missing, or what is wrong with its shape
    path = sample(answer, x0, method="rk4", steps=200, return_path=True)[::2]
    rate = torch.stack([divergence(answer, x, k / 100) for k, x in enumerate(path)])
    _judge_matching(x0, path[-1], torch.trapezoid(rate, dx=0.01, dim=0))
    return torch.zeros_like(x0)


def _judge_matching(x0: Tensor, x1: Tensor, log_det: Tensor) -> None:
    """Raise if something is wrong with the ends of the particles `[b 2]`."""
    if not bool(x1.isfinite().all()):
        raise GradeError("some particles end at infinity")
    if float((x1 - x0).abs().max()) < 1e-6:
        raise GradeError(
            "no particle moves, or each returns to its start: the cloud ends as N(0, I)"
        )
    log_p0 = -0.5 * x0.square().sum(1) - math.log(2 * math.pi)
    log_p1 = -2.0 * x1.square().sum(1) - math.log(math.pi / 2)
    # Not the mean end: a nonlinear flow may send opposite particles to points that are not.
    gap = (log_p0 - log_det - log_p1).abs().max().item()
    if gap > 1e-3:
        problem = f"the cloud does not end as N(0, ¼I): log-densities are off by up to {gap:.2g}"
        if float(log_det.abs().max()) < 1e-6:
            problem = "the flow keeps volumes, but the cloud has to shrink to a quarter of its area"
        elif float((log_det + math.log(4)).abs().max()) < 1e-3:
            problem = "volumes shrink to a quarter as they should, but the cloud is not N(0, ¼I)"
        raise GradeError(problem)
    if float((x1 - 0.5 * x0).abs().max()) < 1e-3:
        raise GradeError(
            "the cloud ends right, but every particle ends at x0/2: the same noise is matched with"
            " the same data as before"
        )


grade_matching = grader("grade_matching", Exercise(
    name="matching",
    task="a field of the plane that carries N(0, I) to N(0, ¼I) other than by x0 ↦ x0/2; every "
    "such field is right",
    takes="points `[b 2]` and times `[b]`; returns velocities `[b 2]`",
    reference=lambda x, t: -math.log(2) * x + math.pi * _turn(x),
    inputs=[(torch.cat([normal(51, 64, 2), -normal(51, 64, 2)]), torch.zeros(128).double())],
    probe=_carries,
))  # fmt: skip


def _ranked(share: Callable[[Tensor], Tensor], *, order: bool = True) -> Callable[..., Tensor]:
    """Return the data point that has the start's share of the data below it."""

    def ends(x0: Tensor, data: Tensor) -> Tensor:
        points = data.sort().values if order else data
        return points[(share(x0) * len(data)).long().clamp(0, len(data) - 1)]

    return ends


grade_ends = grader("grade_ends", Exercise(
    name="ends",
    task="the data point at which the flow of the exact field ends, for data on a line",
    takes="starts `[b]` and data points `[n]` of equal weights; returns data points `[b]`",
    reference=_ranked(torch.special.ndtr),
    inputs=[(normal(61, 24), normal(62 + n, n)) for n in (5, 2, 9)],
    mistakes=[
        ("the data come in any order; the flow keeps the order of the line",
         _ranked(torch.special.ndtr, order=False)),
        ("this is the nearest data point, but each data point receives the same share of the noise",
         lambda x0, data: data[(x0[:, None] - data).abs().argmin(1)]),
        ("the order is reversed: the lowest noise ends at the lowest data",
         _ranked(lambda x0: torch.special.ndtr(-x0))),
        ("shares, not distances: which share of the noise lies below x0?",
         _ranked(lambda x0: (x0 + 3) / 6)),
    ],
))  # fmt: skip

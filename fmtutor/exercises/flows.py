"""Graders of the chapter on flows: flow maps, fields, densities, reversal, matchings."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checks import GradeError, grade
from fmtutor.continuity import divergence
from fmtutor.notation import VelocityField, align_time
from fmtutor.solvers import sample

__all__ = [
    "grade_attraction",
    "grade_matching",
    "grade_reversal",
    "grade_spiral",
    "grade_splitting",
]


def _draw(n: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw points `[n d]` and times `[n]` for a grader."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    return x, torch.rand(n, generator=g, dtype=torch.float64)


def _turn(x: Tensor) -> Tensor:
    """Turn points of the plane `[b 2]` counterclockwise by a right angle."""
    return torch.stack([-x[:, 1], x[:, 0]], dim=1)


def _rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Turn points of the plane `[b 2]` counterclockwise by angles `[b]`."""
    return angle.cos()[:, None] * x + angle.sin()[:, None] * _turn(x)


def grade_attraction(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    r"""Grade the flow map of u(x) = 2(c − x), c = (1, −1): ψ_t(x0) = c + e^{−2t}(x0 − c).

    Args:
        answer: Called as `answer(x0, t)` with starts `[b 2]` and times `[b]`, returns `[b 2]`.

    Raises:
        GradeError: If the answer is wrong; the message says why.

    Chapter: flows
    """
    c = torch.tensor([1.0, -1.0], dtype=torch.float64)

    def along(factor: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x0, t: c + factor(align_time(t, x0)) * (x0 - c)

    def misaligned(x0: Tensor, t: Tensor) -> Tensor:
        # Raises in the reader's hands where b and d differ, so only b = d needs this diagnosis.
        return c + torch.exp(-2 * t) * (x0 - c) if len(t) == x0.shape[1] else x0 * math.nan

    mistakes = [
        (
            "the times [b] multiplied the coordinates: align_time(t, x0) makes them [b 1]",
            misaligned,
        ),
        ("this moves away from c: which sign has the rate?", along(lambda t: torch.exp(2 * t))),
        ("the rate is 2, yours is 1", along(lambda t: torch.exp(-t))),
        ("this is one Euler step; the velocity changes along the way", along(lambda t: 1 - 2 * t)),
        (
            "this is the flow towards the origin: the point c is missing",
            lambda x0, t: torch.exp(-2 * align_time(t, x0)) * x0,
        ),
        ("this is the velocity, not the position", lambda x0, t: 2 * (c - x0)),
    ]
    inputs = [_draw(2, 2, seed=11), _draw(5, 2, seed=12)]
    grade("attraction", answer, along(lambda t: torch.exp(-2 * t)), inputs, mistakes=mistakes)


def grade_spiral(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    r"""Grade the field of ψ_t(x0) = (1 + t)² R(πt) x0: u_t(x) = 2x/(1 + t) + πKx.

    R(a) is the rotation by the angle a and K = R(π/2).

    Args:
        answer: Called as `answer(x, t)` with points `[b 2]` and times `[b]`, returns `[b 2]`.

    Raises:
        GradeError: If the answer is wrong; the message says why.

    Chapter: flows
    """

    def field(growth: Callable[[Tensor], Tensor], spin: float) -> VelocityField:
        return lambda x, t: growth(t)[:, None] * x + spin * _turn(x)

    def at_start(x: Tensor, t: Tensor) -> Tensor:
        turned = _rotate(x, math.pi * t)
        return (2 * (1 + t))[:, None] * turned + (math.pi * (1 + t) ** 2)[:, None] * _turn(turned)

    def rate(t: Tensor) -> Tensor:
        return 2 / (1 + t)

    mistakes = [
        (
            "this is ∂ψ_t/∂t with x in the place of x0: a field is a function of where the"
            " particle is now, so x0 = ψ_t⁻¹(x) is still to be put in",
            at_start,
        ),
        (
            "the growth rate is the derivative of (1+t)² over (1+t)²",
            field(lambda t: 2 * (1 + t), math.pi),
        ),
        ("it turns the wrong way: counterclockwise is (a, b) to (−b, a)", field(rate, -math.pi)),
        ("the rotation is missing", field(rate, 0.0)),
        ("the growth is missing", field(torch.zeros_like, math.pi)),
    ]
    grade("spiral", answer, field(rate, math.pi), [_draw(6, 2, seed=21)], mistakes=mistakes)


def grade_splitting(answer: Callable[[Tensor], Tensor]) -> None:
    r"""Grade log p_1 for p_0 = N(0, 1) and u(x) = 3 tanh x, d = 1.

    With x0 = arsinh(e^{−3} sinh y), log p_1(y) = log N(x0; 0, 1) − 3 − log cosh x0 + log cosh y.

    Args:
        answer: Called as `answer(y)` with points `[b 1]`, returns log-densities `[b]`.

    Raises:
        GradeError: If the answer is wrong; the message says why.

    Chapter: flows
    """

    def log_normal(x: Tensor) -> Tensor:
        return -0.5 * x**2 - 0.5 * math.log(2 * math.pi)

    def log_prob(times: float) -> Callable[[Tensor], Tensor]:
        def log_p(y: Tensor) -> Tensor:
            x0 = torch.asinh(math.exp(-3) * torch.sinh(y))
            return (log_normal(x0) - times * (3 + x0.cosh().log() - y.cosh().log()))[:, 0]

        return log_p

    def forward(y: Tensor) -> Tensor:
        x1 = torch.asinh(math.exp(3) * torch.sinh(y))
        return (log_normal(x1) - (3 + y.cosh().log() - x1.cosh().log()))[:, 0]

    def density(y: Tensor) -> Tensor:
        return log_prob(1.0)(y).exp()

    mistakes = [
        ("the determinant is missing: this does not integrate to one", log_prob(0.0)),
        ("the determinant is upside down: where the map stretches, p must fall", log_prob(-1.0)),
        ("p_0 is evaluated at ψ_1(y), it is needed at ψ_1⁻¹(y)", forward),
        ("this is the density, its logarithm is asked for", density),
    ]
    y = torch.linspace(-5.0, 5.0, 14, dtype=torch.float64)[:, None]
    grade("splitting", answer, log_prob(1.0), [(y,)], mistakes=mistakes)


def grade_reversal(answer: Callable[[VelocityField, Tensor, Tensor], Tensor]) -> None:
    r"""Grade the field of the reversed flow, w_t(x) = −u_{1−t}(x).

    Args:
        answer: Called as `answer(u, x, t)` with a field `u`, points `[b 2]` and times `[b]`,
            returns `[b 2]`.

    Raises:
        GradeError: If the answer is wrong; the message says why.

    Chapter: flows
    """

    def u(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(x + 3 * align_time(t, x)) + align_time(t, x) ** 2 * _turn(x)

    mistakes = [
        (
            "the arrows are turned, but at time t the field must be read at 1 − t",
            lambda x, t: -u(x, t),
        ),
        ("the clock is turned, but the arrows still point forward", lambda x, t: u(x, 1 - t)),
        ("this is the forward field itself", u),
        ("the position is not to be turned, only clock and arrows", lambda x, t: -u(-x, 1 - t)),
    ]
    grade(
        "reversal",
        lambda x, t: answer(u, x, t),
        lambda x, t: -u(x, 1 - t),
        [_draw(6, 2, seed=41)],
        mistakes=mistakes,
    )


def grade_matching(answer: VelocityField) -> None:
    r"""Grade a field of the plane that carries N(0, I) to N(0, ¼I) other than by x0 ↦ x0/2.

    There are many right answers. The grader follows particles and compares the density that they
    carry, log p_0(x0) − ∫∇·v dt, with that of N(0, ¼I) where they end.

    Args:
        answer: The field, called as `answer(x, t)` with points `[b 2]` and times `[b]`.

    Raises:
        GradeError: If the cloud does not end as N(0, ¼I), or every particle ends at x0/2.

    Chapter: flows
    """
    exercise, steps = "matching", 200
    x0, _ = _draw(64, 2, seed=51)
    x0 = torch.cat([x0, -x0])
    try:
        given: object = answer(x0.clone(), torch.zeros_like(x0[:, 0]))
        if given is None or given is ...:
            print(f"○ {exercise}: not attempted yet")
            return
        path = sample(answer, x0, method="rk4", steps=steps, return_path=True)
        rate = torch.stack([divergence(answer, x, k / steps) for k, x in enumerate(path)])
    except NotImplementedError:
        print(f"○ {exercise}: not attempted yet")
        return
    except Exception as error:
        raise GradeError(
            f"✗ {exercise}: your field could not be followed, {type(error).__name__}: {error}"
        ) from error
    problem = _judge_matching(x0, path[-1], torch.trapezoid(rate, dx=1 / steps, dim=0))
    if problem:
        raise GradeError(f"✗ {exercise}: {problem}")
    print(f"✓ {exercise}")


def _judge_matching(x0: Tensor, x1: Tensor, log_det: Tensor) -> str | None:
    """Return what is wrong with the ends of the particles `[b 2]`, or None if nothing is."""
    if not bool(x1.isfinite().all()):
        return "some particles end at infinity"
    if float((x1 - x0).abs().max()) < 1e-6:
        return "no particle moves, or each returns to its start: the cloud ends as N(0, I)"
    log_p0 = -0.5 * x0.square().sum(1) - math.log(2 * math.pi)
    log_p1 = -2.0 * x1.square().sum(1) - math.log(math.pi / 2)
    # Not the mean end: a nonlinear flow may send opposite particles to points that are not.
    gap = (log_p0 - log_det - log_p1).abs().max().item()
    if gap > 1e-3:
        if float(log_det.abs().max()) < 1e-6:
            return "the flow keeps volumes, but the cloud has to shrink to a quarter of its area"
        if float((log_det + math.log(4)).abs().max()) < 1e-3:
            return "volumes shrink to a quarter as they should, but the cloud is not N(0, ¼I)"
        return f"the cloud does not end as N(0, ¼I): log-densities are off by up to {gap:.2g}"
    if float((x1 - 0.5 * x0).abs().max()) < 1e-3:
        return (
            "the cloud ends right, but every particle ends at x0/2: the same noise is matched with"
            " the same data as before"
        )
    return None

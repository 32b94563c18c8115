"""The exercises of the chapter `sampling`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal
from fmtutor.notation import VelocityField

__all__ = [
    "grade_drift",
    "grade_encode",
    "grade_grid",
    "grade_heun",
    "grade_left",
    "grade_steps",
]


def _field(x: Tensor, t: Tensor | float) -> Tensor:
    """Depend on place and time without any symmetry; `t` may be a float, 0-d or `[b]`."""
    time = torch.as_tensor(t, dtype=x.dtype).expand(len(x))
    return torch.stack([x[:, 1] * time.cos() - 0.3, torch.sin(x[:, 0] + 2 * time)], dim=1)


def _points(seed: int) -> Tensor:
    return normal(seed, 6, 2)


Step = Callable[[VelocityField, Tensor, float, float], Tensor]


def _two_stages(place: float, clock: float, first: float, second: float) -> Step:
    """Make a step of weights first and second; k2 is k1 carried by place h, at time clock h."""

    def step(v: VelocityField, x: Tensor, t: float, h: float) -> Tensor:
        k1 = v(x, torch.tensor(t))
        k2 = v(x + place * h * k1, torch.tensor(t + clock * h))
        return x + h * (first * k1 + second * k2)

    return step


grade_heun = grader("grade_heun", Exercise(
    name="heun",
    task="`heun_step(v, x, t, h)`, one step of Heun's method from t to t + h",
    takes="a field, points `[b d]` and two floats; returns points `[b d]`",
    reference=_two_stages(1, 1, 0.5, 0.5),
    inputs=[(_field, _points(1), 0.2, 0.3), (_field, _points(2), 0.9, -0.4)],
    mistakes=[
        ("this is the step as it was given: look at both errors, in the second velocity",
         _two_stages(0.5, 0, 0.5, 0.5)),
        ("one error is left: the trial point lies a whole step ahead",
         _two_stages(0.5, 1, 0.5, 0.5)),
        ("this is Euler's step; look at the velocity at the far end, too",
         _two_stages(0, 0, 1, 0)),
        ("this is the midpoint method; Heun averages the two ends of the step",
         _two_stages(0.5, 0.5, 0, 1)),
        ("one error is left: at the trial point the clock stands at t + h",
         _two_stages(1, 0, 0.5, 0.5)),
        ("the second velocity is taken at x; it belongs to x + h k1",
         _two_stages(0, 1, 0.5, 0.5)),
        ("both velocities are added in full; the step is their mean", _two_stages(1, 1, 1, 1)),
    ],
))  # fmt: skip


def _left(share: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], float]:
    return lambda b, c: float(share(b, c).sum())


_LISTS = [
    (torch.tensor(b, dtype=torch.float64), torch.tensor(c, dtype=torch.float64))
    for b, c in [
        ([1 / 6, 1 / 3, 1 / 3, 1 / 6], [0, 0.5, 0.5, 1]),
        ([0.5, 0.5], [0, 1]),
        ([0.25, 0.25, 0.375, 0.125], [0, 1, 0.5, 1]),
    ]
]

grade_left = grader("grade_left", Exercise(
    name="left",
    task="`share_left(b, c)`, the share of the noise that a last step leaves",
    takes="the weights `[m]` and the times `[m]` of the stages of a Runge-Kutta method, in units "
    "of the step; returns the share of x that is left, for a field that is zero at t = 1",
    reference=_left(lambda b, c: b * (c == 1)),
    inputs=_LISTS,
    mistakes=[
        ("this is the share that goes; asked for is what is left", _left(lambda b, c: b * (c < 1))),
        ("not only the last stage may lie at the end: look at c", _left(lambda b, c: b[-1])),
        ("this weighs each stage by its time; a stage before the end sees the whole velocity",
         _left(lambda b, c: b * c)),
        ("the stages count by their weights, not by their number",
         _left(lambda b, c: (c == 1) / len(c))),
    ],
))  # fmt: skip


def _powers(n: int, power: float) -> Tensor:
    return torch.linspace(0, 1, n + 1, dtype=torch.float64) ** power


def _grid(n: int, power: float) -> Tensor:
    return 1 - _powers(n, power).flip(0)


grade_grid = grader("grade_grid", Exercise(
    name="grid",
    task="`grid(n, power)`, n + 1 times from 0 to 1 whose steps shrink towards t = 1",
    takes="the number of steps and a power ρ; returns t_k = 1 − (1 − k/n)^ρ, `[n + 1]`",
    reference=_grid,
    inputs=[(8, 2.0), (5, 1.5), (3, 1.0)],
    mistakes=[
        ("the small steps are at the noise, t = 0; they belong to the data", _powers),
        ("the times fall; sampling runs from 0 to 1", lambda n, power: _grid(n, power).flip(0)),
        ("this runs from the data to the noise; sampling runs from 0 to 1",
         lambda n, power: _powers(n, power).flip(0)),
        ("n times bound n − 1 steps; n steps need n + 1 times",
         lambda n, power: _grid(n - 1, power)),
    ],
))  # fmt: skip


def _march(sign: int, clock: Callable[[int, int], float]) -> Callable[..., Tensor]:
    """Take steps of that sign; step k of n asks for the velocity at clock(k, n)."""

    def march(v: VelocityField, x: Tensor, steps: int) -> Tensor:
        for k in range(steps):
            x = x + sign / steps * v(x, torch.tensor(clock(k, steps)))
        return x

    return march


grade_encode = grader("grade_encode", Exercise(
    name="encode",
    task="`encode(v, x1, steps)`, Euler's method from data at t = 1 to noise at t = 0",
    takes="a field, points `[b d]` and a number of steps; returns points `[b d]`",
    reference=_march(-1, lambda k, n: 1 - k / n),
    inputs=[(_field, _points(3), 4), (_field, _points(4), 9)],
    mistakes=[
        ("this is sampling; encoding starts at t = 1 and goes to t = 0",
         _march(1, lambda k, n: k / n)),
        ("the steps go backward, the clock forward: begin at t = 1",
         _march(-1, lambda k, n: k / n)),
        ("the clock goes backward, the steps forward: subtract the velocity",
         _march(1, lambda k, n: 1 - k / n)),
        ("Euler asks for the velocity where a step begins, first at t = 1",
         _march(-1, lambda k, n: 1 - (k + 1) / n)),
    ],
))  # fmt: skip


def _drift(weight: Callable[[float, float], float]) -> Callable[..., Tensor]:
    """Add the score with the weight `weight(t, g)`."""
    return lambda v, x, t, g: v - weight(t, g) * (x - t * v) / (1 - t)


grade_drift = grader("grade_drift", Exercise(
    name="drift",
    task="`drift(v, x, t, g)`, the drift of the stochastic sampler on the straight path",
    takes="velocities and points `[b d]`, a time in [0, 1) and the noise g; returns v + ½ g² s "
    "with the score s that belongs to v, `[b d]`",
    reference=_drift(lambda t, g: g**2 / 2),
    inputs=[(_points(5), _points(6), 0.3, 0.7), (_points(7), _points(8), 0.9, 2.0)],
    mistakes=[
        ("the score enters with the wrong sign; it pulls towards the data",
         _drift(lambda t, g: -(g**2) / 2)),
        ("the score is weighted by g²; half of it undoes the noise", _drift(lambda t, g: g**2)),
        ("the score is weighted by g/2; the noise has variance g² a unit of time",
         _drift(lambda t, g: g / 2)),
        ("this is minus the noise, not the score: divide by 1 − t",
         _drift(lambda t, g: g**2 / 2 * (1 - t))),
        ("the mean of the noise given x is x − t v, not x/(1 − t)",
         lambda v, x, t, g: v - g**2 / 2 * x / (1 - t) ** 2),
    ],
))  # fmt: skip


def _gap(coarse: Tensor, fine: Tensor) -> float:
    return float((coarse - fine).square().sum(1).mean().sqrt())


def _steps(coarse: Tensor, fine: Tensor, n: int, p: int, tol: float) -> float:
    return float(2 * n * (_gap(coarse, fine) / (2**p - 1) / tol) ** (1 / p))


_COARSE, _FINE = _points(9), _points(9) + 0.01 * _points(10)

grade_steps = grader("grade_steps", Exercise(
    name="steps",
    task="`steps_needed(coarse, fine, n, p, tol)`, a step count from two runs of one method",
    takes="the results `[b d]` with n and with 2n steps, n, the order p and a tolerance for the "
    "root mean square error; returns the number of steps, not rounded",
    reference=_steps,
    inputs=[
        (_COARSE, _FINE, 10, 2, 1e-4), (_COARSE, _FINE, 8, 4, 1e-5), (_COARSE, _FINE, 20, 3, 1e-3)
    ],
    mistakes=[
        ("the gap is not the error of the finer run: divide it by 2^p − 1",
         lambda coarse, fine, n, p, tol: _steps(coarse, fine, n, p, tol / (2**p - 1))),
        ("the error falls like the number of steps to the power p: take a root",
         lambda coarse, fine, n, p, tol: 2 * n * _gap(coarse, fine) / (2**p - 1) / tol),
        ("the estimated error is that of 2n steps, not of n",
         lambda coarse, fine, n, p, tol: _steps(coarse, fine, n, p, tol) / 2),
        ("the error of a point is the norm over its dimensions, not their mean",
         lambda coarse, fine, n, p, tol: _steps(coarse, fine, n, p, tol * 2**0.5)),
    ],
))  # fmt: skip

"""The graders of the chapter `sampling`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checks import grade
from fmtutor.notation import VelocityField

__all__ = ["grade_drift", "grade_encode", "grade_grid", "grade_heun", "grade_steps"]

Step = Callable[[VelocityField, Tensor, float, float], Tensor]


def _field(x: Tensor, t: Tensor | float) -> Tensor:
    """Depend on place and time without any symmetry; `t` may be a float, 0-d or `[b]`."""
    time = torch.as_tensor(t, dtype=x.dtype).expand(len(x))
    return torch.stack([x[:, 1] * time.cos() - 0.3, torch.sin(x[:, 0] + 2 * time)], dim=1)


def _points(seed: int) -> Tensor:
    return torch.randn(6, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grade_heun(answer: Step) -> None:
    """Grade `heun_step(v, x, t, h)`, one step of Heun's method from t to t + h.

    Args:
        answer: Takes a field, points `[b d]` and two floats; returns points `[b d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(v: VelocityField, x: Tensor, t: float, h: float) -> Tensor:
        k1 = v(x, torch.tensor(t))
        return x + h / 2 * (k1 + v(x + h * k1, torch.tensor(t + h)))

    def euler(v: VelocityField, x: Tensor, t: float, h: float) -> Tensor:
        return x + h * v(x, torch.tensor(t))

    def midpoint(v: VelocityField, x: Tensor, t: float, h: float) -> Tensor:
        half = x + h / 2 * v(x, torch.tensor(t))
        return x + h * v(half, torch.tensor(t + h / 2))

    def clock_stands(v: VelocityField, x: Tensor, t: float, h: float) -> Tensor:
        k1 = v(x, torch.tensor(t))
        return x + h / 2 * (k1 + v(x + h * k1, torch.tensor(t)))

    def place_stands(v: VelocityField, x: Tensor, t: float, h: float) -> Tensor:
        return x + h / 2 * (v(x, torch.tensor(t)) + v(x, torch.tensor(t + h)))

    def sum_of_both(v: VelocityField, x: Tensor, t: float, h: float) -> Tensor:
        return 2 * reference(v, x, t, h) - x

    grade(
        "heun",
        answer,
        reference,
        [(_field, _points(1), 0.2, 0.3), (_field, _points(2), 0.9, -0.4)],
        mistakes=[
            ("this is Euler's step; look at the velocity at the far end, too", euler),
            ("this is the midpoint method; Heun averages the two ends of the step", midpoint),
            ("the second velocity is taken at time t; the clock stands at t + h", clock_stands),
            ("the second velocity is taken at x; it belongs to x + h k1", place_stands),
            ("both velocities are added in full; the step is their mean", sum_of_both),
        ],
    )


def grade_grid(answer: Callable[[int, float], Tensor]) -> None:
    """Grade `grid(n, power)`, n + 1 times from 0 to 1 whose steps shrink towards t = 1.

    Args:
        answer: Takes the number of steps and a power ρ; returns t_k = 1 − (1 − k/n)^ρ, `[n + 1]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(n: int, power: float) -> Tensor:
        return 1 - (1 - torch.linspace(0, 1, n + 1, dtype=torch.float64)) ** power

    def at_the_noise(n: int, power: float) -> Tensor:
        return torch.linspace(0, 1, n + 1, dtype=torch.float64) ** power

    def falling(n: int, power: float) -> Tensor:
        return reference(n, power).flip(0)

    def too_few(n: int, power: float) -> Tensor:
        return reference(n - 1, power)

    def from_data(n: int, power: float) -> Tensor:
        return at_the_noise(n, power).flip(0)

    def grid(n: int, power: float) -> Tensor | None:
        given: object = answer(n, power)
        if given is None or given is ...:
            return None
        times = torch.as_tensor(given)
        if times.shape == (n,) and torch.allclose(times.double(), too_few(n, power)):
            raise ValueError(f"{n} times bound {n - 1} steps; {n} steps need {n + 1} times")
        return times

    grade(
        "grid",
        grid,
        reference,
        [(8, 2.0), (5, 1.5), (3, 1.0)],
        mistakes=[
            ("the small steps are at the noise, t = 0; they belong to the data", at_the_noise),
            ("the times fall; sampling runs from 0 to 1", falling),
            ("this runs from the data to the noise; sampling runs from 0 to 1", from_data),
        ],
    )


def grade_encode(answer: Callable[[VelocityField, Tensor, int], Tensor]) -> None:
    """Grade `encode(v, x1, steps)`, Euler's method from data at t = 1 to noise at t = 0.

    Args:
        answer: Takes a field, points `[b d]` and a number of steps; returns points `[b d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def march(
        v: VelocityField, x: Tensor, steps: int, sign: float, clock: Callable[[float], float]
    ) -> Tensor:
        for k in range(steps):
            x = x + sign / steps * v(x, torch.tensor(clock(k / steps)))
        return x

    def reference(v: VelocityField, x1: Tensor, steps: int) -> Tensor:
        return march(v, x1, steps, -1, lambda s: 1 - s)

    def forward(v: VelocityField, x1: Tensor, steps: int) -> Tensor:
        return march(v, x1, steps, 1, lambda s: s)

    def clock_forward(v: VelocityField, x1: Tensor, steps: int) -> Tensor:
        return march(v, x1, steps, -1, lambda s: s)

    def sign_forward(v: VelocityField, x1: Tensor, steps: int) -> Tensor:
        return march(v, x1, steps, 1, lambda s: 1 - s)

    def far_end(v: VelocityField, x1: Tensor, steps: int) -> Tensor:
        return march(v, x1, steps, -1, lambda s: 1 - s - 1 / steps)

    grade(
        "encode",
        answer,
        reference,
        [(_field, _points(3), 4), (_field, _points(4), 9)],
        mistakes=[
            ("this is sampling; encoding starts at t = 1 and goes to t = 0", forward),
            ("the steps go backward, the clock forward: begin at t = 1", clock_forward),
            ("the clock goes backward, the steps forward: subtract the velocity", sign_forward),
            ("Euler asks for the velocity where a step begins, first at t = 1", far_end),
        ],
    )


def grade_drift(answer: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    """Grade `drift(v, x, t, g)`, the drift of the stochastic sampler on the straight path.

    Args:
        answer: Takes velocities and points `[b d]`, a time in [0, 1) and the noise g; returns
            v + ½ g² s with the score s that belongs to v, `[b d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def score(v: Tensor, x: Tensor, t: float) -> Tensor:
        return -(x - t * v) / (1 - t)

    def reference(v: Tensor, x: Tensor, t: float, g: float) -> Tensor:
        return v + g**2 / 2 * score(v, x, t)

    def minus(v: Tensor, x: Tensor, t: float, g: float) -> Tensor:
        return v - g**2 / 2 * score(v, x, t)

    def twice(v: Tensor, x: Tensor, t: float, g: float) -> Tensor:
        return v + g**2 * score(v, x, t)

    def not_squared(v: Tensor, x: Tensor, t: float, g: float) -> Tensor:
        return v + g / 2 * score(v, x, t)

    def noise_for_score(v: Tensor, x: Tensor, t: float, g: float) -> Tensor:
        return v + g**2 / 2 * score(v, x, t) * (1 - t)

    def of_prior(v: Tensor, x: Tensor, t: float, g: float) -> Tensor:
        return v - g**2 / 2 * x / (1 - t) ** 2

    grade(
        "drift",
        answer,
        reference,
        [(_points(5), _points(6), 0.3, 0.7), (_points(7), _points(8), 0.9, 2.0)],
        mistakes=[
            ("the score enters with the wrong sign; it pulls towards the data", minus),
            ("the score is weighted by g²; half of it undoes the noise", twice),
            ("the score is weighted by g/2; the noise has variance g² a unit of time", not_squared),
            ("this is minus the noise, not the score: divide by 1 − t", noise_for_score),
            ("the mean of the noise given x is x − t v, not x/(1 − t)", of_prior),
        ],
    )


def grade_steps(answer: Callable[[Tensor, Tensor, int, int, float], float]) -> None:
    """Grade `steps_needed(coarse, fine, n, p, tol)`, a step count from two runs of one method.

    Args:
        answer: Takes the results `[b d]` with n and with 2n steps, n, the order p and a tolerance
            for the root mean square error; returns the number of steps, not rounded.

    Raises:
        GradeError: If the answer is wrong.
    """

    def gap(coarse: Tensor, fine: Tensor) -> float:
        return float((coarse - fine).square().sum(1).mean().sqrt())

    def reference(coarse: Tensor, fine: Tensor, n: int, p: int, tol: float) -> float:
        return float(2 * n * (gap(coarse, fine) / (2**p - 1) / tol) ** (1 / p))

    def gap_for_error(coarse: Tensor, fine: Tensor, n: int, p: int, tol: float) -> float:
        return float(2 * n * (gap(coarse, fine) / tol) ** (1 / p))

    def without_root(coarse: Tensor, fine: Tensor, n: int, p: int, tol: float) -> float:
        return float(2 * n * gap(coarse, fine) / (2**p - 1) / tol)

    def from_n(coarse: Tensor, fine: Tensor, n: int, p: int, tol: float) -> float:
        return reference(coarse, fine, n, p, tol) / 2

    def per_entry(coarse: Tensor, fine: Tensor, n: int, p: int, tol: float) -> float:
        d = coarse.shape[1]
        return reference(coarse, fine, n, p, tol * d**0.5)

    coarse, fine = _points(9), _points(9) + 0.01 * _points(10)
    grade(
        "steps",
        answer,
        reference,
        [(coarse, fine, 10, 2, 1e-4), (coarse, fine, 8, 4, 1e-5), (coarse, fine, 20, 3, 1e-3)],
        mistakes=[
            ("the gap is not the error of the finer run: divide it by 2^p − 1", gap_for_error),
            ("the error falls like the number of steps to the power p: take a root", without_root),
            ("the estimated error is that of 2n steps, not of n", from_n),
            ("the error of a point is the norm over its dimensions, not their mean", per_entry),
        ],
    )

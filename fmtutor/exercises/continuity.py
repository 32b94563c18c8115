"""The graders of the chapter `continuity`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checks import grade
from fmtutor.continuity import continuity_residual, divergence
from fmtutor.notation import VelocityField, align_time

__all__ = [
    "grade_clock",
    "grade_divergence",
    "grade_mass_rate",
    "grade_mixture",
    "grade_second_field",
    "grade_velocity_from_cdf",
]

Cdf = Callable[[Tensor, Tensor], Tensor]
Clock = Callable[[Tensor], Tensor]


def _points(n: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return points `[n d]` and times `[n]`, away from the ends of [0, 1]."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    return x, 0.05 + 0.9 * torch.rand(n, generator=g, dtype=torch.float64)


def grade_mass_rate(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Grade `mass_rate(p_a, u_a, p_b, u_b)`, the rate of change of the mass in [a, b].

    Args:
        answer: Takes densities and velocities at the two ends, each `[b]`; returns rates `[b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(p_a: Tensor, u_a: Tensor, p_b: Tensor, u_b: Tensor) -> Tensor:
        return p_a * u_a - p_b * u_b

    def outflow(p_a: Tensor, u_a: Tensor, p_b: Tensor, u_b: Tensor) -> Tensor:
        return p_b * u_b - p_a * u_a

    def both_in(p_a: Tensor, u_a: Tensor, p_b: Tensor, u_b: Tensor) -> Tensor:
        return p_a * u_a + p_b * u_b

    def no_density(p_a: Tensor, u_a: Tensor, p_b: Tensor, u_b: Tensor) -> Tensor:
        return u_a - u_b

    p, _ = _points(16, 2, seed=21)
    u, _ = _points(16, 2, seed=22)
    grade(
        "flux",
        answer,
        reference,
        [(p[:, 0].exp(), u[:, 0], p[:, 1].exp(), u[:, 1])],
        mistakes=[
            ("this is outflow minus inflow; a positive velocity at a carries mass in", outflow),
            ("a positive velocity at b carries mass out, not in", both_in),
            ("the flux is density times velocity; the density is missing", no_density),
        ],
    )


def grade_divergence(answer: Callable[[Tensor], Tensor]) -> None:
    """Grade `divergence_by_hand(x)`, the divergence of v(x) = |x|² x.

    Args:
        answer: Takes points `[b d]`; returns divergences `[b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def field(x: Tensor, t: Tensor) -> Tensor:
        return x.square().sum(1, keepdim=True) * x

    def reference(x: Tensor) -> Tensor:
        return divergence(field, x, 0.0)

    def one_dimension(x: Tensor) -> Tensor:
        return 3 * x.square().sum(1)

    def first_factor_fixed(x: Tensor) -> Tensor:
        return x.shape[1] * x.square().sum(1)

    def second_factor_fixed(x: Tensor) -> Tensor:
        return 2 * x.square().sum(1)

    grade(
        "divergence",
        answer,
        reference,
        # d = 5 first: for smaller d some of the mistakes cannot be told apart.
        [(_points(16, d, seed=23 + d)[0],) for d in (5, 3, 2, 1)],
        mistakes=[
            ("3|x|² is right for d = 1 only; in ℝᵈ the divergence of x is d", one_dimension),
            (
                "product rule: |x|² depends on x, too, and adds its gradient times x",
                first_factor_fixed,
            ),
            ("product rule: the divergence of x is d, and adds d|x|²", second_factor_fixed),
        ],
    )


def grade_velocity_from_cdf(answer: Callable[[Cdf, Tensor, Tensor], Tensor]) -> None:
    """Grade `velocity_from_cdf(cdf, x, t)`, the field of densities on a line.

    Args:
        answer: Takes a distribution function `cdf(x, t)`, points `[b]` and times `[b]`; returns
            velocities `[b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def normal(x: Tensor, t: Tensor) -> Tensor:
        return 0.5 * (1 + torch.erf((x - 2 * t) / (1 - 0.5 * t) / math.sqrt(2)))

    def logistic(x: Tensor, t: Tensor) -> Tensor:
        return 0.3 * torch.sigmoid(x + 2 * t.square()) + 0.7 * torch.sigmoid((x - t) / (1 + t))

    def derivatives(cdf: Cdf, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
        d_x, d_t = torch.autograd.grad(cdf(x, t).sum(), (x, t))
        return d_x, d_t

    def make(rule: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Cdf, Tensor, Tensor], Tensor]:
        return lambda cdf, x, t: rule(*derivatives(cdf, x, t))

    x, t = _points(32, 1, seed=31)
    grade(
        "velocity from cdf",
        answer,
        make(lambda p, d_t: -d_t / p),
        [(normal, x[:, 0], t), (logistic, x[:, 0], t)],
        mistakes=[
            ("the sign is flipped: mass to the left shrinks where mass moves right",
             make(lambda p, d_t: d_t / p)),
            ("this is the flux; divide it by the density", make(lambda p, d_t: -d_t)),
            ("this is upside down: ∂F/∂t is divided by the density ∂F/∂x",
             make(lambda p, d_t: -p / d_t)),
            ("this multiplies the flux by the density instead of dividing",
             make(lambda p, d_t: -d_t * p)),
        ],
    )  # fmt: skip


def grade_second_field(answer: VelocityField) -> None:
    """Grade `second_field(x, t)`: another field for the Gaussians N(0, diag(1, (1 + t)²)).

    Args:
        answer: Takes points `[b 2]` and times `[b]`; returns velocities `[b 2]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def log_prob(x: Tensor, t: Tensor) -> Tensor:
        stretch = 1 + t
        square = x[:, 0].square() + (x[:, 1] / stretch).square()
        return -0.5 * square - stretch.log() - math.log(2 * math.pi)

    def first(x: Tensor, t: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(t), x[:, 1] / (1 + t)], dim=1)

    def verdict(x: Tensor, t: Tensor) -> Tensor | None:
        given = answer(x, t)
        if not isinstance(given, Tensor):
            return given  # not attempted, or not a tensor: the grader says so
        if given.shape != x.shape:
            return given  # the grader says what is wrong with its shape

        def difference(x: Tensor, t: Tensor) -> Tensor:
            return answer(x, t) - first(x, t)

        if bool((given - first(x, t)).abs().max() < 1e-6):
            return _case(1, x)
        residual = continuity_residual(log_prob, answer, x, t)
        if bool(residual.abs().max() < 1e-6):
            return _case(0, x)
        missing = continuity_residual(log_prob, lambda x, t: answer(x, t) + first(x, t), x, t)
        if bool(missing.abs().max() < 1e-6):
            return _case(2, x)
        if bool(divergence(difference, x, t).abs().max() < 1e-6):
            return _case(3, x)
        return _case(4, x)

    def fixed(case: int) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, t: _case(case, x)

    grade(
        "second field",
        verdict,
        fixed(0),
        [_points(64, 2, seed=41)],
        mistakes=[
            ("this is the field that was given; another one is asked for", fixed(1)),
            ("this contains only what may be added: add the field that was given", fixed(2)),
            ("what you added has no divergence, but its flux p w has: the density would change",
             fixed(3)),
            ("the residual of the continuity equation is not zero: the density would change",
             fixed(4)),
        ],
    )  # fmt: skip


def _case(number: int, x: Tensor) -> Tensor:
    """Return one of several verdicts as a tensor of the shape of x; no two are multiples."""
    base = torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape)
    return torch.cos(base * (1 + number))


def grade_mixture(answer: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """Grade `field_of_mixture(p, u, q, w, weight)`, the field of weight p + (1 - weight) q.

    Args:
        answer: Takes densities `p`, `q` `[b]`, velocities `u`, `w` `[b d]` and a weight in (0, 1);
            returns velocities `[b d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def flux(p: Tensor, u: Tensor, q: Tensor, w: Tensor, weight: float) -> Tensor:
        return weight * p[:, None] * u + (1 - weight) * q[:, None] * w

    def reference(p: Tensor, u: Tensor, q: Tensor, w: Tensor, weight: float) -> Tensor:
        return flux(p, u, q, w, weight) / (weight * p + (1 - weight) * q)[:, None]

    def swapped(p: Tensor, u: Tensor, q: Tensor, w: Tensor, weight: float) -> Tensor:
        return reference(p, u, q, w, 1 - weight)

    def constant(p: Tensor, u: Tensor, q: Tensor, w: Tensor, weight: float) -> Tensor:
        return weight * u + (1 - weight) * w

    def no_weight(p: Tensor, u: Tensor, q: Tensor, w: Tensor, weight: float) -> Tensor:
        return reference(p, u, q, w, 0.5)

    p, _ = _points(24, 2, seed=51)
    u, w = _points(24, 3, seed=52)[0], _points(24, 3, seed=53)[0]
    grade(
        "mixture",
        answer,
        reference,
        [(p[:, 0].exp(), u, p[:, 1].exp(), w, 0.3)],
        mistakes=[
            ("velocities do not add with fixed weights: where q is small, w counts for little",
             constant),
            ("this is the flux of the mixture; divide it by the density of the mixture", flux),
            ("the weights are exchanged: p has the share weight", swapped),
            ("the weight of the mixture is missing", no_weight),
        ],
    )  # fmt: skip


def grade_clock(answer: Callable[[VelocityField, Clock, Clock], VelocityField]) -> None:
    """Grade `reclocked(u, tau, d_tau)`, the field of the densities q_s = p_tau(s).

    Args:
        answer: Takes a field `u(x, t)`, a clock `tau(s)` and its derivative `d_tau(s)`, both from
            `[b]` to `[b]`; returns a field of `(x, s)`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def u(x: Tensor, t: Tensor) -> Tensor:
        time = align_time(t, x)
        return torch.sin(x + 3 * time) + time.square() * x.flip(1)

    def given(x: Tensor, s: Tensor, tau: Clock, d_tau: Clock) -> Tensor | None:
        field = answer(u, tau, d_tau)
        return field(x, s) if callable(field) else field

    def reference(x: Tensor, s: Tensor, tau: Clock, d_tau: Clock) -> Tensor:
        return align_time(d_tau(s), x) * u(x, tau(s))

    def clock_alone(x: Tensor, s: Tensor, tau: Clock, d_tau: Clock) -> Tensor:
        return u(x, tau(s))

    def rate_alone(x: Tensor, s: Tensor, tau: Clock, d_tau: Clock) -> Tensor:
        return align_time(d_tau(s), x) * u(x, s)

    def always_back(x: Tensor, s: Tensor, tau: Clock, d_tau: Clock) -> Tensor:
        return -u(x, tau(s))

    def divided(x: Tensor, s: Tensor, tau: Clock, d_tau: Clock) -> Tensor:
        return u(x, tau(s)) / align_time(d_tau(s), x)

    def backward(s: Tensor) -> Tensor:
        return 1 - s

    def minus_one(s: Tensor) -> Tensor:
        return -torch.ones_like(s)

    def hurrying(s: Tensor) -> Tensor:
        return s.square()

    def twice(s: Tensor) -> Tensor:
        return 2 * s

    x, s = _points(32, 2, seed=61)
    grade(
        "clock",
        given,
        reference,
        [(x, s, backward, minus_one), (x, s, hurrying, twice)],
        mistakes=[
            ("the clock is changed but not the speed: the field points where it always did",
             clock_alone),
            ("the speed is changed but not the clock: at s the densities are those of t = tau(s)",
             rate_alone),
            ("the sign is right for tau(s) = 1 - s only; what does a hurrying clock do?",
             always_back),
            ("a clock that runs twice as fast doubles the speed; this halves it", divided),
        ],
    )  # fmt: skip

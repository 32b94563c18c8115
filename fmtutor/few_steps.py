"""Few steps: the losses that train the average velocity of a flow map.

A loss is called as `loss(u, x1, *cond, generator=)`, as `minimise` wants it, with an average
velocity `u(x, s, t, *cond)` and data `x1` `[b ...]`; what else it takes is given by
`functools.partial`. Each is the mean square of u(x, s, t), Lagrange's of the speed ∂_t X_{s,t}(x),
less a target that carries no gradient, 0-d. A self-trained one draws two times of each point by
`pairs`; for a `share` of the batch both become one of the two, and u is compared with the velocity
of a `path` there, the rest with itself.

Chapter: few_steps
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checking import (
    check_callable,
    check_count,
    check_model,
    check_points,
    check_positive,
    check_same,
    readable,
)
from fmtutor.flow_maps import AverageVelocity, derivative
from fmtutor.losses import gaussian, mean_square
from fmtutor.notation import Field, Path, PathSample, align_time
from fmtutor.paths import CondOT

__all__ = [
    "PairSampler",
    "consistency_loss",
    "lagrangian_loss",
    "meanflow_loss",
    "regression_loss",
    "semigroup_loss",
    "uniform_pairs",
]

PairSampler = Callable[[Tensor, torch.Generator | None], tuple[Tensor, Tensor]]
"""Draws two times of each point: `(x1, generator) -> (s, t)`, `[b]` each, 0 ≤ s ≤ t ≤ 1."""


def regression_loss(
    u: AverageVelocity, x1: Tensor, x0: Tensor, *cond: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Return E‖u(x0, 0, 1) − (x1 − x0)‖² for simulated pairs `x0`, `x1`, 0-d; nothing is drawn.

    Equation: eq-few-regression
    Reference: luhman2021
    """
    _check(u, x1)
    check_same("x0", x0, "x1", x1)
    zero = x1.new_zeros(len(x1))
    return mean_square(u(x0, zero, zero + 1, *cond), x1 - x0)


def uniform_pairs(x1: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw two uniform times of each point of `x1`, the smaller one first.

    Example:
        >>> s, t = uniform_pairs(torch.zeros(5, 2))
        >>> bool((s <= t).all())
        True
    """
    times = torch.rand(2, len(x1), generator=generator, dtype=x1.dtype, device=x1.device)
    s, t = times.sort(dim=0).values
    return s, t


def lagrangian_loss(
    u: AverageVelocity, x1: Tensor, *cond: Tensor, teacher: Field | None = None,
    share: float = 0.5, pairs: PairSampler = uniform_pairs, path: Path = CondOT(),
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Compare the speed ∂_t X_{s,t}(x_s) with the velocity at the place where the jump lands.

    The velocity is u(y, t, t) itself or that of a `teacher`, which makes it distillation.

    Equation: eq-few-lagrangian
    Reference: boffi2025
    """

    def residual(d: PathSample, t: Tensor, *cond: Tensor) -> Tensor:
        span = align_time(t - d.t, d.xt)
        value, slope = derivative(u, d.xt, d.t, t, *cond, dt=1.0)
        with torch.no_grad():
            landed = d.xt + span * value
            v = u(landed, t, t, *cond) if teacher is None else teacher(landed, t, *cond)
            check_same("the velocity", v, "x", landed)
        return value + span * slope - v

    return _self_trained(u, x1, cond, residual, share, pairs, path, generator)


def meanflow_loss(
    u: AverageVelocity, x1: Tensor, *cond: Tensor, power: float = 0.0,
    share: float = 0.5, pairs: PairSampler = uniform_pairs, path: Path = CondOT(),
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Compare u with u_s + (t − s)(∂_s u + ∂_x u · u_s), the conditional velocity u_s for v_s.

    With a `power` p the squared error r of each point is weighed by 1/(r + 0.001)^p. Then the exact
    map is no longer a fixed point, as the weight depends on the velocity that was drawn.

    Equation: eq-few-meanflow
    Reference: geng2025
    """
    check_positive("power", power, zero=True)

    def residual(d: PathSample, t: Tensor, *cond: Tensor) -> Tensor:
        value, slope = derivative(u, d.xt, d.t, t, *cond, dx=d.ut, ds=1.0)
        return value - (d.ut + align_time(t - d.t, d.xt) * slope).detach()

    return _self_trained(u, x1, cond, residual, share, pairs, path, generator, power)


def semigroup_loss(
    u: AverageVelocity, x1: Tensor, *cond: Tensor,
    share: float = 0.5, pairs: PairSampler = uniform_pairs, path: Path = CondOT(),
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Compare one jump with two of half the length, as shortcut models do.

    Equation: eq-few-semigroup
    Reference: frans2025
    """

    def residual(d: PathSample, t: Tensor, *cond: Tensor) -> Tensor:
        middle = (d.t + t) / 2
        with torch.no_grad():
            first = u(d.xt, d.t, middle, *cond)
            landed = d.xt + align_time(middle - d.t, d.xt) * first
            target = (first + u(landed, middle, t, *cond)) / 2
        return _error(u(d.xt, d.t, t, *cond), target)

    return _self_trained(u, x1, cond, residual, share, pairs, path, generator)


def consistency_loss(
    u: AverageVelocity, x1: Tensor, *cond: Tensor, steps: int = 32, path: Path = CondOT(),
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Compare where two neighbours on one conditional line are sent at t = 1, `steps` to a line.

    Only u(x, s, 1) is learned.

    Equation: eq-few-consistency
    Reference: song2023
    """
    check_count("steps", steps)
    _check(u, x1)
    x0 = gaussian(x1, generator)
    r = torch.rand(len(x1), generator=generator, dtype=x1.dtype, device=x1.device)
    s = r * (1 - 1 / steps)
    one, later = torch.ones_like(s), s + 1 / steps
    here, there = path.sample(x0, x1, s), path.sample(x0, x1, later)
    left = align_time(1 - later, x1)
    with torch.no_grad():
        target = there.xt + left * u(there.xt, later, one, *cond) - here.xt
    return mean_square(u(here.xt, s, one, *cond), target / align_time(1 - s, x1))


def _self_trained(
    u: AverageVelocity, x1: Tensor, cond: tuple[Tensor, ...], residual: Callable[..., Tensor],
    share: float, pairs: PairSampler, path: Path, generator: torch.Generator | None,
    power: float = 0.0,
) -> Tensor:  # fmt: skip
    """Return the mean square of a batch's errors, of which a share is taken with s = t."""
    _check(u, x1)
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], but {share} came")
    x0 = gaussian(x1, generator)
    coin = torch.rand(len(x1), generator=generator, dtype=x1.dtype, device=x1.device)
    s, t = pairs(x1, generator)
    if readable(s) and not bool(((s >= 0) & (s <= t) & (t <= 1)).all()):
        raise ValueError("pairs must draw times 0 <= s <= t <= 1, but others came")
    k = max(round(share * len(x1)), 1 if share else 0)
    # One of the two: so it has the law that the times have before they are put in order.
    s = torch.cat([torch.where(coin < 0.5, s, t)[:k], s[k:]])
    draw = path.sample(x0, x1, s)
    errors = []
    if k:
        velocity = u(draw.xt[:k], s[:k], s[:k], *(c[:k] for c in cond))
        errors.append(_error(velocity, draw.ut[:k]))
    if k < len(x1):
        rest = PathSample(*(part[k:] for part in draw))
        errors.append(residual(rest, t[k:], *(c[k:] for c in cond)))
    square = torch.cat(errors).flatten(1).square().mean(1)
    return (square / (square.detach() + 1e-3) ** power if power else square).mean()


def _error(found: Tensor, target: Tensor) -> Tensor:
    """Return what a network answered less its target."""
    check_same("u(x, s, t)", found, "x", target)
    return found - target


def _check(u: AverageVelocity, x1: Tensor) -> None:
    check_callable("u", u, "called as u(x, s, t)")
    check_points(x1, "x1", finite=True)
    check_model(u, x1, "x1")

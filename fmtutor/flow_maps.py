"""The flow map between two times: by a solver, or by jumps of its average velocity.

An average velocity is called as `u(x, s, t, *cond)`: points `[b ...]` that are at x at the times s
`[b]` move to x + (t − s) u(x, s, t) by the times t `[b]`. Its diagonal u(x, t, t) is the velocity.

Chapter: few_steps
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fmtutor.checking import (
    check_callable,
    check_cond,
    check_count,
    check_model,
    check_points,
    check_same,
)
from fmtutor.notation import Field, Time, align_time, batch_time
from fmtutor.solvers import sample, time_grid

__all__ = [
    "AverageVelocity",
    "average_of",
    "derivative",
    "follow",
    "jump",
    "simulate_pairs",
    "tangent",
]

AverageVelocity = Callable[..., Tensor]
"""`u(x, s, t, *cond)`: points `[b ...]`, times `[b]` to average velocities `[b ...]`."""


def tangent(u: AverageVelocity) -> Field:
    """Return the velocity field v(x, t) = u(x, t, t) of an average velocity `u`.

    Equation: eq-few-tangent

    Example:
        >>> v = tangent(lambda x, s, t: 0 * x + 1)
        >>> sample(v, torch.zeros(1, 1), steps=4)
        tensor([[1.]])
    """
    check_callable("u", u, "called as u(x, s, t)")
    return lambda x, t, *cond: u(x, t, t, *cond)


def follow(
    v: Field, x: Tensor, s: Time, t: Time, *, cond: Tensor | Sequence[Tensor] = (), steps: int = 100
) -> Tensor:
    """Return X_{s,t}(x) of a field `v` by RK4: each point `x` `[b ...]` between times of its own.

    The times `s` and `t` are floats or `[b]`, in either order; there are `steps` between them.
    Gradients flow through the solution.

    Equation: eq-few-map
    Reference: hairer1993

    Example:
        >>> follow(lambda x, t: x, torch.ones(2, 1), 0.0, torch.tensor([0.0, 1.0]))
        tensor([[1.0000],
                [2.7183]])
    """
    check_points(x)
    start, end = batch_time(s, x), batch_time(t, x)

    def clocked(y: Tensor, r: Tensor, *cond: Tensor) -> Tensor:
        now = (start + r * (end - start)).clamp(0, 1)
        return align_time(end - start, y) * v(y, now, *cond)

    return sample(clocked, x, cond=cond, method="rk4", steps=steps, differentiable=True)


def average_of(v: Field, *, steps: int = 100) -> AverageVelocity:
    """Return the average velocity of a field `v` by `steps` of RK4, on the diagonal v itself.

    It may be differentiated in x anywhere, in s and t off the diagonal only.

    Equation: eq-few-map

    Example:
        >>> u = average_of(lambda x, t: 2 * align_time(t, x) + 0 * x)
        >>> u(torch.zeros(2, 1), 0.0, torch.tensor([0.0, 1.0]))
        tensor([[0.0000],
                [1.0000]])
    """
    check_callable("v", v, "called as v(x, t)")
    steps = check_count("steps", steps)

    def u(x: Tensor, s: Time, t: Time, *cond: Tensor) -> Tensor:
        start, end = batch_time(s, x), batch_time(t, x)
        span = align_time(end - start, x)
        moved = follow(v, x, start, end, cond=cond, steps=steps) - x
        return torch.where(span == 0, v(x, start, *cond), moved / torch.where(span == 0, 1, span))

    return u


def jump(
    u: AverageVelocity,
    x0: Tensor,
    times: Tensor | Sequence[float] = (0.0, 1.0),
    *,
    cond: Tensor | Sequence[Tensor] = (),
) -> Tensor:
    """Jump from each of the `times` to the next, x ← x + (t − s) u(x, s, t): one evaluation each.

    Nothing is recorded for gradients.

    Args:
        u: The average velocity.
        x0: Points `[b ...]` at the first time.
        times: Times `[k]`, strictly monotone.

    Equation: eq-few-map

    Example:
        >>> jump(lambda x, s, t: 0 * x + 1, torch.zeros(1, 1), (0.0, 0.5, 1.0))
        tensor([[1.]])
    """
    check_points(x0, "x0", finite=True)
    check_model(u, x0, "x0")
    cond, x = check_cond(cond, len(x0)), x0
    grid = time_grid(None, None, None, times).to(x0.device, x0.dtype)
    with torch.no_grad():
        for s, t in itertools.pairwise(grid):
            step = u(x, s.expand(len(x)), t.expand(len(x)), *cond)
            check_same("u(x, s, t)", step, "x", x)
            x = x + (t - s) * step
    return x


def simulate_pairs(
    v: Field, x0: Tensor, *, cond: Tensor | Sequence[Tensor] = (), steps: int = 50
) -> tuple[Tensor, Tensor]:
    """Return noise x0 `[b ...]` and where a field `v` carries it, by `steps` of the midpoint rule.

    To learn from them by `regression_loss` or, as reflow does, by `cfm_loss`, give minimise x1 as
    the data and x0 as a condition.

    Equation: eq-few-regression
    Reference: liu2023

    Example:
        >>> x0, x1 = simulate_pairs(lambda x, t: x, torch.ones(2, 1))
        >>> x1
        tensor([[2.7181],
                [2.7181]])
    """
    return x0, sample(v, x0, cond=cond, method="midpoint", steps=steps, batch_size=10_000)


def derivative(
    u: AverageVelocity,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *cond: Tensor,
    dx: Tensor | None = None,
    ds: float = 0.0,
    dt: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return u(x, s, t) and its derivative in one direction, by forward-mode differentiation.

    It costs about two evaluations, whatever the dimension. Fused attention has no such derivative:
    attention is computed from its parts here. Neither has autocast, which is left out here.

    Args:
        u: The average velocity.
        x: Points `[b ...]`.
        s: Times `[b]`.
        t: Times `[b]`.
        dx: What the direction adds to x, `[b ...]`; None for nothing.
        ds: What it adds to s.
        dt: What it adds to t.

    Equation: eq-few-meanflow

    Example:
        >>> x, s, t = torch.ones(1, 1), torch.zeros(1), torch.ones(1)
        >>> derivative(lambda x, s, t: x * t[:, None] ** 2, x, s, t, dt=1.0)
        (tensor([[1.]]), tensor([[2.]]))
    """
    given = (x, s, t)
    moves = (dx, torch.full_like(s, ds) if ds else None, torch.full_like(t, dt) if dt else None)
    moved = [k for k, move in enumerate(moves) if move is not None]
    if not moved:
        raise ValueError("a direction must be given: dx, ds or dt")

    def along(*values: Tensor) -> Tensor:
        at = dict(enumerate(given)) | dict(zip(moved, values, strict=True))
        return u(*at.values(), *cond)

    points = tuple(given[k] for k in moved)
    with sdpa_kernel(SDPBackend.MATH), torch.autocast(x.device.type, enabled=False):
        value, slope, *_ = torch.func.jvp(along, points, tuple(m for m in moves if m is not None))
    return value, slope

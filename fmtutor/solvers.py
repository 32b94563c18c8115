r"""Numerical solution of the sampling equation dx/dt = v(x, t).

An explicit Runge-Kutta method is its Butcher tableau and nothing else: one function steps them
all. The adaptive method comes from torchdiffeq.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import as_generator, check_points, check_same
from fmtutor.notation import VelocityField

__all__ = [
    "METHODS",
    "TABLEAUX",
    "CountedField",
    "Tableau",
    "runge_kutta_step",
    "sample",
    "sample_stochastic",
]


@dataclass(frozen=True)
class Tableau:
    r"""The coefficients of an explicit Runge-Kutta method.

    Stage i evaluates k_i = v(x + h Σ_{j<i} a_ij k_j, t + c_i h) with c_i = Σ_j a_ij; the step is
    x + h Σ_i b_i k_i.

    Attributes:
        a: Rows of the strictly lower triangle, the first one empty.
        b: Weights of the stages; they sum to one.
        order: The global error falls like h to this power.

    Reference: hairer1993
    Chapter: sampling
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int


TABLEAUX = {
    "euler": Tableau(((),), (1.0,), order=1),
    "midpoint": Tableau(((), (0.5,)), (0.0, 1.0), order=2),
    "heun": Tableau(((), (1.0,)), (0.5, 0.5), order=2),
    "rk4": Tableau(
        ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), order=4
    ),
}
"""The fixed-step methods by name."""

METHODS = (*TABLEAUX, "dopri5")
"""Every name that `sample` takes for `method`."""


def runge_kutta_step(v: VelocityField, x: Tensor, t: Tensor, h: Tensor, tableau: Tableau) -> Tensor:
    """Advance points from t to t + h by one step of an explicit Runge-Kutta method.

    Args:
        v: The velocity field.
        x: Points `[b ...]` at time t.
        t: The time, 0-d.
        h: The step, 0-d; negative to go backward.
        tableau: The method.

    Returns:
        Points `[b ...]` at time t + h.

    Raises:
        TypeError: If the field returns another dtype.
        ValueError: If it returns another shape.

    Reference: hairer1993
    Chapter: sampling
    """
    stages: list[Tensor] = []
    for row in tableau.a:
        at = x
        for weight, stage in zip(row, stages, strict=True):
            at = at + (h * weight) * stage if weight else at
        c = sum(row)
        # Exactly at the end of the step for c = 1: t + h may round to just beyond 1.
        stages.append(v(at, (t + c * h).clamp(0, 1).expand(len(x))))
        check_same("v(x, t)", stages[-1], "x", x)
    for weight, stage in zip(tableau.b, stages, strict=True):
        x = x + (h * weight) * stage if weight else x
    return x


def sample(
    v: VelocityField,
    x0: Tensor,
    *,
    method: str = "euler",
    steps: int = 100,
    t0: float = 0.0,
    t1: float = 1.0,
    times: Tensor | Sequence[float] | None = None,
    return_path: bool = False,
    differentiable: bool = False,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    batch_size: int | None = None,
) -> Tensor:
    """Follow the velocity field from time t0 to t1: noise to data, or back with t0 > t1.

    Args:
        v: The velocity field.
        x0: Points `[b ...]` at the first time.
        method: One of "euler", "midpoint", "heun", "rk4" with steps as given, or "dopri5" with
            steps of its own choice.
        steps: Number of equal steps; for "dopri5" only the times that are returned.
        t0: First time, in [0, 1].
        t1: Last time, in [0, 1].
        times: The times themselves, `[k]`, strictly monotone, instead of `steps`, `t0`, `t1`.
        return_path: Whether to return the points at every time, not only the last.
        differentiable: Whether gradients flow through the solution. Off, nothing is recorded.
        rtol: Relative tolerance of "dopri5".
        atol: Absolute tolerance of "dopri5".
        batch_size: Number of points that travel together, all of them with None. Groups need less
            memory, and on a CPU less time where a network's activations for all points do not fit
            its cache. Each row of the field's result must depend on the same row of x alone.

    Returns:
        Points `[b ...]` at the last time, or `[k b ...]` at every time, the first one included.

    Raises:
        TypeError: If `x0` or the field's result is not floating point.
        ValueError: If the method is unknown, `steps` or `batch_size` is below 1, the times are not
            strictly monotone within [0, 1], or a shape does not fit.

    Reference: hairer1993, chen2018
    Chapter: sampling
    """
    check_points(x0, "x0", finite=True)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, but {method!r} came")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, but {batch_size} came")
    grid = _time_grid(x0, steps, t0, t1, times)

    def travel(x: Tensor) -> Tensor:
        if method == "dopri5":
            path = _dopri5(v, x, grid, rtol, atol)
            return path if return_path else path[-1]
        points = [x]
        for t, h in zip(grid, grid.diff(), strict=False):
            x = runge_kutta_step(v, x, t, h, TABLEAUX[method])
            if return_path:
                points.append(x)
        return torch.stack(points) if return_path else x

    with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
        groups = torch.split(x0, batch_size or len(x0))
        return torch.cat([travel(group) for group in groups], dim=1 if return_path else 0)


def sample_stochastic(
    v: VelocityField,
    x0: Tensor,
    *,
    score: Callable[[Tensor, Tensor, Tensor], Tensor],
    diffusion: Callable[[Tensor], Tensor | float],
    steps: int = 100,
    t0: float = 0.0,
    t1: float = 1.0,
    times: Tensor | Sequence[float] | None = None,
    return_path: bool = False,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Follow dx = [v + ½g² s] dt + g dW, which has the marginals of dx = v dt for every g.

    The Euler-Maruyama method, one evaluation of v a step: x + h (v + ½g² s) + g √h ε with
    ε ~ N(0, I), everything taken at the start of the step. With g = 0 it is Euler's method.

    Args:
        v: The velocity field.
        x0: Points `[b ...]` at the first time.
        score: The score s that belongs to a velocity, called as `score(v, x, t)` with velocities
            and points `[b ...]` and times `[b]`: `path.score_from_velocity`.
        diffusion: The size of the noise g(t) ≥ 0, of a 0-d time.
        steps: Number of equal steps.
        t0: First time, in [0, 1).
        t1: Last time, in (t0, 1].
        times: The times themselves, `[k]`, strictly increasing, instead of `steps`, `t0`, `t1`.
        return_path: Whether to return the points at every time, not only the last.
        seed: Seed of the noise.
        generator: Generator of the noise; with neither, torch's global state.

    Returns:
        Points `[b ...]` at the last time, or `[k b ...]` at every time, the first one included.

    Raises:
        TypeError: If `x0` or the field's result is not floating point.
        ValueError: If `steps` is below 1, the times are not strictly increasing within [0, 1], the
            diffusion is negative or not finite, or a shape does not fit.

    Reference: song2021
    Chapter: sampling
    """
    check_points(x0, "x0", finite=True)
    grid = _time_grid(x0, steps, t0, t1, times)
    if grid[0] > grid[-1]:
        raise ValueError(
            f"the noise is added on the way to the data, but times {_brief(grid)} came"
        )
    random = as_generator(seed, generator, x0.device)
    x, points = x0, [x0]
    with torch.no_grad():
        for t, h in zip(grid, grid.diff(), strict=False):
            g = torch.as_tensor(diffusion(t), dtype=x.dtype, device=x.device)
            if not bool((g >= 0) & g.isfinite()):
                raise ValueError(f"diffusion must be finite and at least 0, but g({t:g}) = {g:g}")
            time = t.expand(len(x))
            u = v(x, time)
            check_same("v(x, t)", u, "x", x)
            noise = torch.randn(x.shape, generator=random, dtype=x.dtype, device=x.device)
            x = x + h * (u + g.square() / 2 * score(u, x, time)) + g * h.sqrt() * noise
            if return_path:
                points.append(x)
    return torch.stack(points) if return_path else x


class CountedField:
    """A velocity field that counts how often it is evaluated (NFE), each batch as one.

    Attributes:
        count: Number of evaluations so far.

    Chapter: sampling
    """

    def __init__(self, v: VelocityField) -> None:
        self.v = v
        self.count = 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return `v(x, t)` and count it."""
        self.count += 1
        return self.v(x, t)


def _time_grid(
    x: Tensor, steps: int, t0: float, t1: float, times: Tensor | Sequence[float] | None
) -> Tensor:
    if times is None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, but {steps} came")
        # In float64 first: the grid of a float32 batch is then the rounded exact one.
        times = torch.linspace(t0, t1, steps + 1, dtype=torch.float64)
    grid = torch.as_tensor(times, dtype=x.dtype, device=x.device)
    if grid.ndim != 1 or len(grid) < 2:
        raise ValueError(f"times must be [k] with k at least 2, but shape {[*grid.shape]} came")
    step = grid.diff()
    if not bool((step > 0).all() or (step < 0).all()):
        raise ValueError(f"times must be strictly monotone, but {_brief(grid)} came")
    if not bool(((grid >= 0) & (grid <= 1)).all()):
        raise ValueError(
            f"times must lie in [0, 1] (0 is noise, 1 is data), but {_brief(grid)} came"
        )
    return grid


def _brief(grid: Tensor) -> str:
    values = [f"{value:g}" for value in grid.tolist()]
    return ", ".join(values if len(values) <= 6 else [*values[:3], "...", *values[-2:]])


def _dopri5(v: VelocityField, x0: Tensor, grid: Tensor, rtol: float, atol: float) -> Tensor:
    from torchdiffeq import odeint  # slow to import, and no other method needs it

    def f(t: Tensor, x: Tensor) -> Tensor:
        u = v(x, t.to(x).clamp(0, 1).expand(len(x)))
        check_same("v(x, t)", u, "x", x)
        return u

    # Without step_t the solver steps over the last time and interpolates: it would look beyond 1.
    options = {"step_t": grid[-1:]}
    path: Tensor = odeint(f, x0, grid, rtol=rtol, atol=atol, method="dopri5", options=options)
    return path

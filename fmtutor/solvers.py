"""Numerical solution of the sampling equation dx/dt = v(x, t).

An explicit Runge-Kutta method is its Butcher tableau and nothing else: one function steps them
all. The adaptive method comes from torchdiffeq.

Chapter: sampling
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import (
    as_generator,
    check_callable,
    check_cond,
    check_count,
    check_model,
    check_points,
    check_positive,
    check_same,
    readable,
)
from fmtutor.notation import ROUNDING, Field, VelocityField, conditioned

__all__ = [
    "METHODS",
    "TABLEAUX",
    "CountedField",
    "Tableau",
    "in_full_precision",
    "runge_kutta_step",
    "sample",
    "sample_stochastic",
    "shift",
    "shifted_grid",
    "time_grid",
]


@dataclass(frozen=True)
class Tableau:
    """The coefficients of an explicit Runge-Kutta method.

    Stage i evaluates k_i = v(x + h Σ_{j<i} a_ij k_j, t + c_i h) with c_i = Σ_j a_ij; the step is
    x + h Σ_i b_i k_i, where Σ_i b_i = 1. The global error falls like h to the power `order`.

    Reference: hairer1993

    Example:
        >>> Tableau(((), (2 / 3,)), (0.25, 0.75), order=2)  # Ralston's method
        Tableau(a=((), (0.666...,)), b=(0.25, 0.75), order=2)
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int

    def __post_init__(self) -> None:
        lengths = [len(row) for row in self.a]
        if lengths != list(range(len(self.b))):
            raise ValueError(
                f"the rows of a must have 0, ..., {len(self.b) - 1} entries, as b has "
                f"{len(self.b)}, but rows of {lengths} came"
            )


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


def runge_kutta_step(
    v: VelocityField, x: Tensor, t: Tensor, h: Tensor | float, tableau: Tableau
) -> Tensor:
    """Advance points x `[b ...]` by one step of a `tableau`, from the 0-d time t to t + h.

    Equation: eq-sampling-euler
    Reference: hairer1993

    Example:
        >>> x, t = torch.ones(1, 1), torch.tensor(0.0)
        >>> runge_kutta_step(lambda x, t: x, x, t, 0.5, TABLEAUX["midpoint"])
        tensor([[1.6250]])
    """
    points, end = [x] * len(tableau.b), x  # where each stage looks, and where the step ends
    for i, weight in enumerate(tableau.b):
        c = sum(tableau.a[i])
        # Exactly at the end of the step for c = 1: t + h may round to just beyond 1.
        k = v(points[i], (t + c * h).clamp(0, 1).expand(len(x)))
        check_same("v(x, t)", k, "x", x)
        # Added at once wherever it belongs: the field may write its next value to the same memory.
        for j in range(i + 1, len(points)):
            if tableau.a[j][i]:
                points[j] = points[j] + (h * tableau.a[j][i]) * k
        end = end + (h * weight) * k if weight else end
    return end


def sample(
    v: Field,
    x0: Tensor,
    *,
    cond: Tensor | Sequence[Tensor] = (),
    method: str = "euler",
    steps: int | None = None,
    t0: float | None = None,
    t1: float | None = None,
    times: Tensor | Sequence[float] | None = None,
    project: Callable[[Tensor], Tensor] | None = None,
    return_path: bool = False,
    differentiable: bool = False,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    batch_size: int | None = None,
) -> Tensor:
    """Follow the velocity field from time t0 to t1: noise to data, or back with t0 > t1.

    Returns points `[b ...]` at the last time, or `[k b ...]` at all. Points in half precision are
    moved in float32; the field is asked, and answers, in their dtype.

    Args:
        v: The velocity field; each row of its result may depend only on the same row of x.
        x0: Points `[b ...]` at the first time.
        cond: Conditions, tensors `[b ...]`, or a single one.
        method: One of "euler", "midpoint", "heun", "rk4" with steps as given, or "dopri5" with
            steps of its own choice.
        steps: Number of equal steps, 100 if not given; for "dopri5" only the times that are
            returned.
        t0: First time; 0 if not given.
        t1: Last time; 1 if not given.
        times: The times themselves, `[k]`, strictly monotone, instead of `steps`, `t0`, `t1`.
        project: Puts points back where they belong, on a manifold, after each step; for "dopri5"
            the points that are returned.
        return_path: Whether to return the points at every time, the first one included.
        differentiable: Whether gradients flow through the solution. Off, nothing is recorded.
        rtol: Relative tolerance of "dopri5".
        atol: Absolute tolerance of "dopri5".
        batch_size: Number of points that travel together, all of them with None. Groups need less
            memory, and on a CPU less time where activations for all do not fit its cache.

    Raises:
        RuntimeError: If "dopri5" cannot go on; the time and the cause are named.

    Equation: eq-flows-map, eq-sampling-euler
    Reference: hairer1993, chen2018

    Example:
        >>> v = GaussianMixture(cluster_means(4, 8**0.5), 0.3).velocity(CondOT())
        >>> x1 = sample(v, standard_normal(100, seed=0), method="midpoint", steps=20)
        >>> f"{x1.abs().mean():.0f}"  # at the corners (±2, ±2)
        '2'
    """
    check_points(x0, "x0", finite=True)
    check_model(v, x0, "x0")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, but {method!r} came")
    size = len(x0) if batch_size is None else check_count("batch_size", batch_size)
    cond = check_cond(cond, len(x0))
    grid = time_grid(steps, t0, t1, times)

    def travel(x: Tensor, *cond: Tensor) -> Tensor:
        field, x = in_full_precision(conditioned(v, *cond), x)
        if method == "dopri5":
            path = _dopri5(field, x, grid if return_path else grid[[0, -1]], rtol, atol)
            points = [*(path if project is None else map(project, path))]
        else:
            points = [x]
            for t, h in zip(grid.to(x), grid.diff().tolist(), strict=False):
                x = runge_kutta_step(field, x, t, h, TABLEAUX[method])
                x = x if project is None else project(x)
                points = [*points, x] if return_path else [x]
        return (torch.stack(points) if return_path else points[-1]).to(x0.dtype)

    with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
        groups = zip(*(torch.split(a, size) for a in (x0, *cond)), strict=True)
        return torch.cat([travel(*group) for group in groups], dim=1 if return_path else 0)


def sample_stochastic(
    v: Field,
    x0: Tensor,
    *,
    score: Callable[[Tensor, Tensor, Tensor], Tensor],
    diffusion: Callable[[Tensor], Tensor | float] | float,
    cond: Tensor | Sequence[Tensor] = (),
    steps: int | None = None,
    t0: float | None = None,
    t1: float | None = None,
    times: Tensor | Sequence[float] | None = None,
    project: Callable[[Tensor], Tensor] | None = None,
    return_path: bool = False,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Follow dx = [v + ½g² s] dt + g dW, which has the marginals of dx = v dt for every g.

    The Euler-Maruyama method, one evaluation of v a step: x + h (v + ½g² s) + g √h ε with
    ε ~ N(0, I), everything taken at the start of the step. With g = 0 it is Euler's method.
    Arguments not named here are those of `sample`.

    Args:
        score: The score s that belongs to a velocity, called as `score(v, x, t)` with times `[b]`:
            `path.score_from_velocity`.
        diffusion: The size of the noise g(t) ≥ 0, a function of a 0-d time or a number.
        times: The times themselves, `[k]`; here they can only increase.

    Equation: eq-sampling-sde
    Reference: song2021

    Example:
        >>> path, x0 = CondOT(), standard_normal(100, seed=0)
        >>> v = GaussianMixture(cluster_means(4, 8**0.5), 0.3).velocity(path)
        >>> score = path.score_from_velocity
        >>> x1 = sample_stochastic(v, x0, score=score, diffusion=lambda t: 1 - t, seed=0)
        >>> f"{x1.abs().mean():.0f}"
        '2'
    """
    check_points(x0, "x0", finite=True)
    check_model(v, x0, "x0")
    check_callable("score", score, "a function score(v, x, t) such as path.score_from_velocity")
    grid = time_grid(steps, t0, t1, times, increasing=True)
    random = as_generator(seed, generator, x0.device)
    field, x = in_full_precision(conditioned(v, *check_cond(cond, len(x0))), x0)
    points = [x]
    with torch.no_grad():
        for t, h in zip(grid.to(x), grid.diff().tolist(), strict=False):
            g, time = _size_of_noise(diffusion, t), t.expand(len(x))
            u = field(x, time)
            check_same("v(x, t)", u, "x", x)
            s = score(u, x, time)
            check_same("score(v, x, t)", s, "x", x)
            noise = torch.randn(x.shape, generator=random, dtype=x.dtype, device=x.device)
            x = x + h * (u + g.square() / 2 * s) + g * math.sqrt(h) * noise
            x = x if project is None else project(x)
            points = [*points, x] if return_path else [x]
    return (torch.stack(points) if return_path else x).to(x0.dtype)


def shift(t: Tensor, ratio: float) -> Tensor:
    """Return t/(t + ratio (1 − t)): the signal-to-noise ratio t/(1 − t) is divided by the ratio.

    A picture with r times as many pixels along each side has, in the mean of r² equal ones, at time
    `shift(t, r)` the signal-to-noise ratio that the small one has at t.

    Equation: eq-training-shift
    Reference: esser2024
    Chapter: training

    Example:
        >>> shift(torch.tensor([0.0, 0.5, 1.0]), 3.0)
        tensor([0.0000, 0.2500, 1.0000])
    """
    check_points(t, "t")
    check_positive("ratio", ratio)
    return t / (t + ratio * (1 - t))


def shifted_grid(steps: int, ratio: float) -> Tensor:
    """Return times `[steps + 1]`, float64, for the `times` of `sample`: equal steps, shifted.

    With a ratio above 1 the steps are shorter at the noise.

    Reference: esser2024

    Example:
        >>> shifted_grid(4, 3.0)
        tensor([0.0000, 0.1000, 0.2500, 0.5000, 1.0000], dtype=torch.float64)
    """
    steps = check_count("steps", steps)
    return shift(torch.linspace(0, 1, steps + 1, dtype=torch.float64), ratio)


def time_grid(
    steps: int | None,
    t0: float | None,
    t1: float | None,
    times: Tensor | Sequence[float] | None,
    *,
    increasing: bool = False,
) -> Tensor:
    """Return the times `[k]` of a solution, float64, of what `sample` is given for them.

    They are `times`, or `steps` equal ones from `t0` to `t1`; with `increasing` those of the way
    back are refused.

    Example:
        >>> time_grid(2, None, 0.5, None)
        tensor([0.0000, 0.2500, 0.5000], dtype=torch.float64)
    """
    if times is None:
        steps = check_count("steps", 100 if steps is None else steps)
        start, end = (0.0 if t0 is None else t0), (1.0 if t1 is None else t1)
        times = torch.linspace(start, end, steps + 1, dtype=torch.float64)
    elif not (steps is None and t0 is None and t1 is None):
        raise ValueError("give either times=, or steps=, t0= and t1=, not both")
    given = torch.as_tensor(times, dtype=torch.float64, device="cpu").detach()
    if given.ndim != 1 or len(given) < 2:
        raise ValueError(f"times must be [k] with k at least 2, but shape {[*given.shape]} came")
    grid = given.clamp(0, 1)
    if bool(((grid - given).abs() > ROUNDING).any()):
        raise ValueError(
            f"times must lie in [0, 1] (0 is noise, 1 is data), but {_brief(given)} came"
        )
    step = grid.diff()
    if not bool((step > 0).all() or (step < 0).all()):
        raise ValueError(f"times must be strictly monotone, but {_brief(given)} came")
    if increasing and step[0] < 0:
        raise ValueError(
            f"the way leads from the noise to the data, but times {_brief(given)} came"
        )
    return grid


class CountedField:
    """A velocity field whose `count` says how often it was evaluated (NFE), each batch as one.

    Example:
        >>> v = CountedField(lambda x, t: -x)
        >>> x1 = sample(v, torch.ones(5, 2), method="heun", steps=10)
        >>> v.count
        20
    """

    def __init__(self, v: Field) -> None:
        self.v = v
        self.count = 0

    def __call__(self, x: Tensor, t: Tensor, *cond: Tensor) -> Tensor:
        """Return `v(x, t, *cond)` and count it."""
        self.count += 1
        return self.v(x, t, *cond)


def in_full_precision(v: VelocityField, x: Tensor) -> tuple[VelocityField, Tensor]:
    """Return a field `v` and points `x` in float32 where the points come in half precision.

    Steps far smaller than the points round to nothing there.

    Example:
        >>> field, x = in_full_precision(lambda x, t: x, torch.ones(1, 2).bfloat16())
        >>> x.dtype
        torch.float32
    """
    dtype, full = x.dtype, torch.promote_types(x.dtype, torch.float32)
    if dtype == full:
        return v, x

    def field(x: Tensor, t: Tensor) -> Tensor:
        u = v(x.to(dtype), t.to(dtype))
        check_same("v(x, t)", u, "x", x.to(dtype))
        return u.to(full)

    return field, x.to(full)


def _size_of_noise(diffusion: Callable[[Tensor], Tensor | float] | float, t: Tensor) -> Tensor:
    g = diffusion(t) if callable(diffusion) else diffusion
    g = torch.as_tensor(g, dtype=t.dtype, device=t.device)
    if g.ndim > 0 or (readable(g) and not bool((g >= 0) & g.isfinite())):
        raise ValueError(f"diffusion must be finite and at least 0, but g({t:g}) = {g} came")
    return g


def _brief(grid: Tensor) -> str:
    values = [f"{value:.10g}" for value in grid.tolist()]
    return ", ".join(values if len(values) <= 6 else [*values[:3], "...", *values[-2:]])


# A field on which the method needs more steps than this between two times is stiff or singular.
_MOST_STEPS = 5_000


def _dopri5(v: VelocityField, x0: Tensor, grid: Tensor, rtol: float, atol: float) -> Tensor:
    from torchdiffeq import odeint  # slow to import, and no other method needs it

    at, finite = grid[0], True

    def f(t: Tensor, x: Tensor) -> Tensor:
        nonlocal at, finite
        u = v(x, t.clamp(0, 1).expand(len(x)))
        check_same("v(x, t)", u, "x", x)
        at, finite = t, bool(u.isfinite().all())
        return u.clone()  # the solver keeps it, and the field may reuse its memory

    times = grid.to(x0)
    # Without step_t the solver steps over the last time and interpolates: it would look beyond 1.
    # Times in the points' dtype, since not every device has float64.
    options = {"step_t": times[-1:], "dtype": x0.dtype, "max_num_steps": _MOST_STEPS}
    try:
        path: Tensor = odeint(f, x0, times, rtol=rtol, atol=atol, method="dopri5", options=options)
    except AssertionError as error:
        cause = (
            f"the field is singular or stiff there ({error})"
            if finite
            else "the field is NaN or infinite there"
        )
        raise RuntimeError(
            f"dopri5 cannot go on near t = {float(at):.6g}: {cause}; stop before that time, or "
            "take a method with fixed steps"
        ) from None
    return path

"""Samplers that solve the linear half of the sampling equation exactly: DDIM and its relatives.

On an affine path x_t/α as a function of σ/α moves at the speed of the noise, d(x/α)/d(σ/α) =
E[x0 | x_t]: scales and clock have gone, and what is left is smooth. Each method here is one for
that equation, so that its result depends on the noise levels σ/α of its steps alone.

Chapter: diffusion
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fmtutor.checking import (
    as_generator,
    check_cond,
    check_has,
    check_model,
    check_points,
    check_same,
)
from fmtutor.clocks import log_snr, time_of_log_snr
from fmtutor.notation import Field, VelocityField, conditioned
from fmtutor.paths import AffinePath, CondOT
from fmtutor.solvers import in_full_precision, time_grid

__all__ = ["EXPONENTIAL", "sample_exponential", "times_of_log_snr"]

EXPONENTIAL = ("ddim", "heun", "2m")
"""The methods: of first order, of second with two evaluations, of second with one and a memory."""


class _Scales(NamedTuple):
    """α and σ at a time, 0-d in float64."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def open_end(self) -> bool:
        """Whether there is no finite and positive noise level."""
        return bool(self.alpha == 0) or bool(self.sigma == 0)


def sample_exponential(
    v: Field,
    x0: Tensor,
    *,
    path: AffinePath = CondOT(),
    method: str = "ddim",
    eta: float = 0.0,
    churn: float = 0.0,
    cond: Tensor | Sequence[Tensor] = (),
    steps: int | None = None,
    t0: float | None = None,
    t1: float | None = None,
    times: Tensor | Sequence[float] | None = None,
    return_path: bool = False,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Follow a velocity field of a path from noise to data, with its linear part solved exactly.

    "ddim" takes the prediction of the data D at the start of a step as constant,
    x' = (σ'/σ) x + (α' − α σ'/σ) D; "heun" averages the noise of both ends of the step, as EDM
    does; "2m" extrapolates from the last two predictions, DPM-Solver++ 2M. A step that begins
    where α = 0 or ends where σ = 0 is one of DDIM for all of them. Arguments not named here are
    those of `sample`.

    Args:
        v: The velocity field that belongs to `path`.
        path: The affine path, whose scales the method needs.
        method: One of "ddim", "heun", "2m".
        eta: For "ddim", how much of the noise is drawn anew in each step, from 0, no noise, to 1,
            DDPM's ancestral sampling.
        churn: By which share the noise level is raised, with new noise, before each step.
        times: The times, `[k]`; here they can only increase.

    Equation: eq-diffusion-ddim, eq-diffusion-2m, eq-diffusion-ancestral
    Reference: song2021ddim, karras2022, lu2022plus

    Example:
        >>> v = GaussianMixture(cluster_means(4, 8**0.5), 0.3).velocity(CondOT())
        >>> x1 = sample_exponential(v, standard_normal(100, seed=0), method="2m", steps=20)
        >>> f"{x1.abs().mean():.0f}"  # at the corners (±2, ±2)
        '2'
    """
    check_points(x0, "x0", finite=True)
    check_model(v, x0, "x0")
    check_has("path", path, "data_from_velocity", "an affine path such as CondOT()")
    _check_settings(method, eta, churn)
    grid = time_grid(steps, t0, t1, times, increasing=True)
    random = as_generator(seed, generator, x0.device)
    field, x = in_full_precision(conditioned(v, *check_cond(cond, len(x0))), x0)
    points = [x]
    last: tuple[Tensor, Tensor] | None = None  # prediction and step in log(α/σ) before
    with torch.no_grad():
        for start, stop in zip(_scales(path, grid[:-1]), _scales(path, grid[1:]), strict=True):
            x, now = _churned(x, start, path, churn, random) if churn else (x, start)
            data = _data(field, x, now, path)
            if method == "2m":
                data, last = _extrapolated(data, now, stop, last)
            if eta and stop.sigma != 0:
                x = _ancestral(x, data, now, stop, eta, random)
            elif method == "heun" and not (now.open_end or stop.open_end):
                x = _heun(field, x, data, now, stop, path)
            else:
                x = _ddim(x, data, now, stop)
            points = [*points, x] if return_path else [x]
    return (torch.stack(points) if return_path else x).to(x0.dtype)


def times_of_log_snr(path: AffinePath, first: float, last: float, steps: int) -> Tensor:
    """Return times `[steps + 1]`, float64, at equal steps of the log-SNR from `first` to `last`.

    Example:
        >>> times_of_log_snr(CondOT(), -2.0, 2.0, 2)
        tensor([0.2689, 0.5000, 0.7311], dtype=torch.float64)
    """
    return time_of_log_snr(path, torch.linspace(first, last, steps + 1, dtype=torch.float64))


def _data(v: VelocityField, x: Tensor, at: _Scales, path: AffinePath) -> Tensor:
    """Return the field's prediction of the data at a time."""
    time = at.t.to(x).expand(len(x))
    u = v(x, time)
    check_same("v(x, t)", u, "x", x)
    return path.data_from_velocity(u, x, time)


def _ddim(x: Tensor, data: Tensor, now: _Scales, stop: _Scales) -> Tensor:
    ratio = stop.sigma / now.sigma
    return ratio.to(x) * x + (stop.alpha - now.alpha * ratio).to(x) * data


def _heun(
    v: VelocityField, x: Tensor, data: Tensor, now: _Scales, stop: _Scales, path: AffinePath
) -> Tensor:
    """Average the noise at the start with that at the end of a step of DDIM."""
    ahead = _ddim(x, data, now, stop)
    first = (x - now.alpha.to(x) * data) / now.sigma.to(x)
    second = (ahead - stop.alpha.to(x) * _data(v, ahead, stop, path)) / stop.sigma.to(x)
    rise = stop.sigma - now.sigma * (stop.alpha / now.alpha)
    return (stop.alpha / now.alpha).to(x) * x + rise.to(x) * (first + second) / 2


def _extrapolated(
    data: Tensor, now: _Scales, stop: _Scales, last: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """Return the prediction at the middle of the step, on a line through the last two."""
    if now.open_end or stop.open_end:
        return data, None
    h = (stop.alpha / stop.sigma).log() - (now.alpha / now.sigma).log()
    middle = data if last is None else data + (h / (2 * last[1])).to(data) * (data - last[0])
    return middle, (data, h)


def _ancestral(
    x: Tensor, data: Tensor, now: _Scales, stop: _Scales, eta: float, g: torch.Generator | None
) -> Tensor:
    """Draw from the law of the next point given this one and the data, with a share of its noise.

    Where nothing but noise is known, α = 0, all of it is drawn anew for η = 1.
    """
    kept = now.alpha / stop.alpha * stop.sigma / now.sigma
    new = eta * stop.sigma * (1 - kept.square()).clamp(min=0).sqrt()
    noise = (x - now.alpha.to(x) * data) / now.sigma.to(x)
    drawn = torch.randn(x.shape, generator=g, dtype=x.dtype, device=x.device)
    old = (stop.sigma.square() - new.square()).clamp(min=0).sqrt()
    return stop.alpha.to(x) * data + old.to(x) * noise + new.to(x) * drawn


def _churned(
    x: Tensor, now: _Scales, path: AffinePath, churn: float, g: torch.Generator | None
) -> tuple[Tensor, _Scales]:
    """Go back to where the noise level is (1 + churn) times as high, with new noise."""
    if now.open_end:
        return x, now
    value = log_snr(path, now.t) - 2 * torch.log1p(torch.tensor(churn, dtype=torch.float64))
    (back,) = _scales(path, time_of_log_snr(path, value)[None])
    if back.alpha == 0:
        return x, now
    ratio = back.alpha / now.alpha
    new = (back.sigma.square() - (ratio * now.sigma).square()).clamp(min=0).sqrt()
    drawn = torch.randn(x.shape, generator=g, dtype=x.dtype, device=x.device)
    return ratio.to(x) * x + new.to(x) * drawn, back


def _scales(path: AffinePath, grid: Tensor) -> list[_Scales]:
    return [_Scales(t, path.alpha(t), path.sigma(t)) for t in grid]


def _check_settings(method: str, eta: float, churn: float) -> None:
    if method not in EXPONENTIAL:
        raise ValueError(f"method must be one of {', '.join(EXPONENTIAL)}, but {method!r} came")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], but {eta} came")
    if not 0 <= churn <= 1:
        raise ValueError(f"churn must lie in [0, 1], but {churn} came")
    if eta and method != "ddim":
        raise ValueError(f"eta belongs to the method 'ddim', but {method!r} came")

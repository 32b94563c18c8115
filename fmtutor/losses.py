"""The two losses of flow matching, and the value below which the tractable one cannot fall."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from fmtutor.checking import as_generator, check_labels, check_points, check_same
from fmtutor.guidance import conditioned
from fmtutor.notation import ConditionalField, Time, VelocityField, batch_time
from fmtutor.oracles import GaussianMixture
from fmtutor.paths import AffinePath, BridgePath, CondOT

__all__ = ["Coupling", "cfm_loss", "fm_loss", "gaussian_loss_floor", "loss_floor"]

Coupling = Callable[..., tuple[Tensor, ...]]
"""Pairs noise with data: `(x0, x1, *labels) -> (x0, x1, *labels)`, each `[b ...]`, rows in a new
order, the labels in that of the data."""


def cfm_loss(
    v: VelocityField,
    x1: Tensor,
    *,
    x0: Tensor | None = None,
    t: Time | None = None,
    path: AffinePath | BridgePath = CondOT(),
    coupling: Coupling | None = None,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Return the conditional flow matching loss E‖v(x_t, t) − u_t‖², the mean over all entries.

    The expectation is over t ~ U[0, 1], noise x0 ~ N(0, I) and the given data x1, one draw of each
    for each data point.

    Args:
        v: The velocity field to be trained; with labels it is called as `v(x, t, labels)`.
        x1: Data `[b ...]`.
        x0: Noise `[b ...]`; None draws it.
        t: Times, a float, a 0-d tensor or `[b]` in [0, 1]; None draws them uniformly.
        path: The conditional path; it makes the point and the target from x0, x1 and t.
        coupling: Pairs x0 with x1; None leaves them as they come (the independent coupling).
        labels: Labels `[b]` of the data points, int64; a coupling permutes them along.
        generator: Source of all randomness here; None is torch's global state.

    Returns:
        The loss, 0-d, a mean over batch and dimensions (not a sum over dimensions).

    Raises:
        TypeError: If the dtypes differ or are not floating point, or labels are not int64.
        ValueError: If a shape does not fit (that of v's result, too) or a time is outside [0, 1].

    Reference: lipman2023, tong2024
    Chapter: objectives
    """
    check_points(x1, "x1")
    if x0 is None:
        x0 = torch.randn(x1.shape, generator=generator, dtype=x1.dtype, device=x1.device)
    if t is None:
        t = torch.rand(len(x1), generator=generator, dtype=x1.dtype, device=x1.device)
    if labels is not None:
        check_labels(labels, len(x1))
    if coupling is not None and labels is None:
        x0, x1 = coupling(x0, x1)
    elif coupling is not None:
        x0, x1, labels = coupling(x0, x1, labels)
    if labels is not None:
        v = conditioned(cast("ConditionalField", v), labels)
    if isinstance(path, BridgePath):
        s = path.sample(x0, x1, t, generator=generator)
    else:
        s = path.sample(x0, x1, t)
    return _mean_square(v(s.xt, s.t), s.ut)


def fm_loss(v: VelocityField, field: VelocityField, xt: Tensor, t: Time) -> Tensor:
    r"""Return the flow matching loss E‖v(x_t, t) − u_t(x_t)‖² against a known marginal field.

    Args:
        v: The velocity field to be trained.
        field: The marginal velocity u_t(x), for example an oracle's.
        xt: Points `[b ...]`, drawn from p_t.
        t: Their times, a float, a 0-d tensor or `[b]` in [0, 1].

    Returns:
        The loss, 0-d, a mean over batch and dimensions.

    Raises:
        TypeError: If the dtypes differ or are not floating point.
        ValueError: If a shape does not fit or a time is outside [0, 1].

    Reference: lipman2023
    Chapter: objectives
    """
    check_points(xt, "xt")
    t = batch_time(t, xt)
    return _mean_square(v(xt, t), field(xt, t))


def gaussian_loss_floor(s0: float, s1: float) -> float:
    r"""Return the least conditional loss, a dimension, between two Gaussians: (π/2) s0 s1.

    For x0 ~ N(0, s0²) and x1 ~ N(m, s1²), independent, on the straight path CondOT(0): the integral
    over t of Var[x1 − x0 | x_t] = s0² s1²/((1 − t)² s0² + t² s1²).

    Args:
        s0: Standard deviation of the noise.
        s1: Standard deviation of the data.

    Returns:
        The floor, in the square of the data's unit.

    Chapter: objectives
    """
    return 0.5 * math.pi * s0 * s1


def loss_floor(
    mixture: GaussianMixture,
    path: AffinePath = CondOT(),
    *,
    n: int = 20_000,
    seed: int | None = None,
) -> tuple[float, float]:
    r"""Return the least possible conditional loss on a Gaussian mixture, E Var[u_t | x_t].

    The variance is in closed form; only the mean over x_t and t is sampled, with the times spread
    evenly over [0, 1].

    Args:
        mixture: The data distribution.
        path: The conditional path.
        n: Number of samples.
        seed: Seed; None draws from torch's global state.

    Returns:
        The floor (a mean over dimensions, as `cfm_loss` is) and its standard error.

    Raises:
        ValueError: If `n` is below 2, or σ' diverges at t = 1, where the floor is infinite.

    Chapter: objectives
    """
    if n < 2:
        raise ValueError(f"the floor needs at least 2 samples, but n = {n} came")
    end = torch.tensor(1.0, device=mixture.means.device)
    if not bool(path.d_sigma(end).isfinite()):
        raise ValueError(f"the loss of {path} with uniform times is infinite, and so is its floor")
    g = as_generator(seed, device=mixture.means.device)
    x1 = mixture.sample(n, generator=g)
    x0 = torch.randn(x1.shape, generator=g, dtype=x1.dtype, device=x1.device)
    offset = torch.rand(n, generator=g, dtype=x1.dtype, device=x1.device)
    t = (torch.arange(n, dtype=x1.dtype, device=x1.device) + offset) / n
    variance = mixture.target_variance(path)(path.sample(x0, x1, t).xt, t)
    return variance.mean().item(), variance.std().item() / math.sqrt(n)


def _mean_square(prediction: Tensor, target: Tensor) -> Tensor:
    check_same("the field's result", prediction, "the target", target)
    return (prediction - target).square().mean()

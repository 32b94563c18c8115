"""The two losses of flow matching, and the value below which the tractable one cannot fall."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fmtutor.checking import (
    as_generator,
    check_callable,
    check_cond,
    check_count,
    check_has,
    check_labels,
    check_model,
    check_points,
    check_same,
)
from fmtutor.notation import Field, Path, PathSample, Time, VelocityField, batch_time
from fmtutor.oracles import GaussianMixture
from fmtutor.paths import AffinePath, CondOT

__all__ = [
    "Coupling",
    "Distance",
    "Noise",
    "Target",
    "cfm_loss",
    "fm_loss",
    "gaussian",
    "gaussian_loss_floor",
    "loss_floor",
    "mean_square",
    "velocity",
]

Coupling = Callable[..., tuple[Tensor, ...]]
"""Pairs noise with data: `(x0, x1, *cond) -> (x0, x1, *cond)`, each `[b ...]`, rows in a new
order, the conditions in that of the data."""

Noise = Callable[[Tensor, torch.Generator | None], Tensor]
"""Draws the source: `(x1, generator) -> x0`, one point for each of `x1`."""

Target = Callable[[PathSample], Tensor]
"""What the network is to predict, of a draw from the path."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""How far a prediction is from the target: `(prediction, target) -> loss`, 0-d."""


def gaussian(x1: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw x0 ~ N(0, I), of the shape, dtype and device of `x1` `[b ...]`."""
    check_points(x1, "x1")
    return torch.randn(x1.shape, generator=generator, dtype=x1.dtype, device=x1.device)


def velocity(s: PathSample) -> Tensor:
    """Return the target of flow matching, u_t `[b ...]`."""
    return s.ut


def mean_square(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean of (prediction − target)² over all entries, 0-d."""
    check_same("the field's result", prediction, "the target", target)
    return (prediction - target).square().mean()


def cfm_loss(
    v: Field,
    x1: Tensor,
    *,
    cond: Tensor | Sequence[Tensor] = (),
    x0: Tensor | None = None,
    t: Time | None = None,
    path: Path = CondOT(),
    coupling: Coupling | None = None,
    noise: Noise = gaussian,
    target: Target = velocity,
    distance: Distance = mean_square,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Return the conditional flow matching loss E‖v(x_t, t) − u_t‖², the mean over all entries.

    The expectation is over t ~ U[0, 1], the noise x0 and the given data x1, one draw of each for
    each data point.

    Args:
        v: The field to be trained, called as `v(x, t, *cond)`.
        x1: Data `[b ...]`.
        cond: Conditions, tensors `[b ...]` whose rows belong to those of `x1`, or a single one.
        x0: Noise `[b ...]`; None draws it by `noise`.
        t: Times, a float, a 0-d tensor or `[b]` in [0, 1]; None draws them uniformly.
        path: Makes the point and the target from x0, x1 and t.
        coupling: Pairs x0 with x1 and what belongs to it; None leaves them as they come (the
            independent coupling).
        noise: Draws the source, N(0, I) if nothing else is said.
        target: What of the draw is to be predicted.
        distance: How prediction and target are compared.
        labels: Labels `[b]`, int64: the first condition.
        generator: Source of all randomness here; None is torch's global state.

    Returns:
        The loss, 0-d, a mean over batch and dimensions (not a sum over dimensions).

    Raises:
        TypeError: If an argument is not of its kind or dtypes differ.
        ValueError: If a shape does not fit (that of v's result, too) or a time is outside [0, 1].

    Reference: lipman2023, tong2024
    Chapter: objectives
    """
    _check_arguments(v, x1, path, coupling)
    cond = check_cond(cond, len(x1))
    if labels is not None:
        check_labels(labels, len(x1))
        cond = (labels, *cond)
    x0 = noise(x1, generator) if x0 is None else x0
    t = _uniform(x1, generator) if t is None else t
    if coupling is not None:
        x0, x1, *cond = coupling(x0, x1, *cond)
    s = path.sample(x0, x1, t, generator=generator)
    # Unless another distance or target is asked for, (v(xt, t) - ut).square().mean().
    return distance(v(s.xt, s.t, *cond), target(s))


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
    check_model(v, xt, "xt")
    t = batch_time(t, xt)
    return mean_square(v(xt, t), field(xt, t))


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
    n = check_count("n", n, least=2)  # for a standard error
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


def _uniform(x1: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw times `[b]` in the dtype of the points; of tokens in torch's default one."""
    dtype = x1.dtype if x1.is_floating_point() else None
    return torch.rand(len(x1), generator=generator, dtype=dtype, device=x1.device)


def _check_arguments(v: Field, x1: Tensor, path: Path, coupling: object) -> None:
    check_points(x1, "x1", floating=False)
    check_model(v, x1, "x1")
    check_has("path", path, "sample", "a path such as CondOT()")
    if coupling is not None:
        check_callable("coupling", coupling, "a function such as minibatch_ot")

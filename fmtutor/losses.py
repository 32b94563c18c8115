"""The two losses of flow matching, and the value below which the tractable one cannot fall.

Chapter: objectives
"""

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
    """Draw x0 ~ N(0, I), of the shape, dtype and device of `x1` `[b ...]`.

    Example:
        >>> gaussian(torch.zeros(5, 3, 8, 8)).shape
        torch.Size([5, 3, 8, 8])
    """
    check_points(x1, "x1")
    return torch.randn(x1.shape, generator=generator, dtype=x1.dtype, device=x1.device)


def velocity(s: PathSample) -> Tensor:
    """Return the target of flow matching, the u_t of a draw `s`, `[b ...]`.

    Example:
        >>> velocity(CondOT().sample(torch.zeros(1, 2), torch.ones(1, 2), 0.5))
        tensor([[1., 1.]])
    """
    return s.ut


def mean_square(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean of (`prediction` − `target`)² over all entries, 0-d.

    Example:
        >>> mean_square(torch.zeros(5, 2), torch.full((5, 2), 3.0))
        tensor(9.)
    """
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
    """Return the conditional flow matching loss E‖v(x_t, t) − u_t‖², 0-d.

    The expectation is over t, the noise x0 and the given data x1, one draw for each data point.

    Args:
        v: The field to be trained.
        x1: Data `[b ...]`.
        cond: Conditions, tensors `[b ...]`, or a single one.
        x0: Noise `[b ...]`; None draws it by `noise`.
        t: Times; None draws them uniformly.
        path: Makes the point and the target from x0, x1 and t.
        coupling: Pairs x0 with x1 and what belongs to it; None leaves them as they come.
        noise: Draws the source, N(0, I) if nothing else is said.
        target: What of the draw is to be predicted.
        distance: How prediction and target are compared.
        labels: Labels `[b]`, int64: the first condition.

    Equation: eq-objectives-losses
    Reference: lipman2023, tong2024

    Example:
        >>> loss = cfm_loss(MLP(), moons(64, seed=0), coupling=minibatch_ot)
        >>> loss.backward()
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
    """Return the flow matching loss E‖v(xt, t) − u_t(xt)‖², 0-d, for a marginal `field` u.

    Equation: eq-objectives-losses
    Reference: lipman2023

    Example:
        >>> u = GaussianMixture(torch.zeros(1, 2), 1.0).velocity(CondOT())
        >>> fm_loss(u, u, xt=standard_normal(5, seed=0), t=0.0)
        tensor(0.)
    """
    check_points(xt, "xt")
    check_model(v, xt, "xt")
    t = batch_time(t, xt)
    return mean_square(v(xt, t), field(xt, t))


def gaussian_loss_floor(s0: float, s1: float) -> float:
    """Return the least conditional loss, a dimension, between two Gaussians: (π/2) s0 s1.

    It is the integral of Var[x1 − x0 | x_t] = s0² s1²/((1 − t)² s0² + t² s1²) over t.

    Equation: eq-objectives-floor

    Example:
        >>> round(gaussian_loss_floor(1.0, 0.5), 4)
        0.7854
    """
    return 0.5 * math.pi * s0 * s1


def loss_floor(
    mixture: GaussianMixture,
    path: AffinePath = CondOT(),
    *,
    n: int = 20_000,
    seed: int | None = None,
) -> tuple[float, float]:
    """Return the least conditional loss on a `mixture`, E Var[u_t | x_t], and its standard error.

    The variance is in closed form; only its mean over `n` points x_t and times is sampled.

    Raises:
        ValueError: If σ' of the `path` diverges at t = 1, where the floor is infinite.

    Equation: eq-objectives-floor

    Example:
        >>> value, error = loss_floor(GaussianMixture(torch.zeros(1, 2), 0.5), seed=0)
        >>> f"{value:.1f}"
        '0.8'
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

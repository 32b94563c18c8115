"""What trains the network of a bridge: its line and its score, between two samples or snapshots.

Chapter: bridges
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmtutor.checking import check_points, check_positive, check_same, readable
from fmtutor.losses import Coupling, cfm_loss, mean_square
from fmtutor.notation import Field, PathSample, Time, align_time, batch_time
from fmtutor.paths import BrownianBridge

__all__ = ["arcsine", "bridge_loss", "snapshot_loss"]


def bridge_loss(
    model: Field,
    x1: Tensor,
    *,
    x0: Tensor,
    path: BrownianBridge,
    coupling: Coupling | None = None,
    t: Time | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the loss of flow and score, E‖line − (x1 − x0)‖² + E‖γ s + z‖², over 2d entries, 0-d.

    The variances of both targets are bounded in time; that of the velocity's own, x1 − x0 + γ' z,
    is not: it is infinite at the ends of a Brownian bridge. Arguments not named here are those of
    `cfm_loss`.

    Args:
        model: The network, `model(x, t) -> [b 2d]`.
        x1: Points of the target `[b d]`.
        x0: Points of the source `[b d]`.
        path: The bridge.
        coupling: Pairs the two; None leaves them as they come.
        t: Times; None draws them by `arcsine`.

    Equation: eq-bridges-loss
    Reference: tong2024sf2m

    Example:
        >>> from fmtutor.bridges import LineAndScore
        >>> model, x0, x1 = LineAndScore(MLP(), MLP()), moons(64, seed=0), rings(64, seed=1)
        >>> loss = bridge_loss(model, x1, x0=x0, path=BrownianBridge(1.0), coupling=sinkhorn(2.0))
        >>> loss.backward()
    """
    t = arcsine(x1, generator) if t is None else t

    def seen(x: Tensor, t: Tensor) -> Tensor:
        line, score = model(x, t).chunk(2, dim=1)
        return torch.cat([line, path.gamma(align_time(t, x)) * score], dim=1)

    def target(s: PathSample) -> Tensor:
        return torch.cat([s.x1 - s.x0, -path.noise(s)], dim=1)

    return cfm_loss(
        seen, x1, x0=x0, t=t, path=path, coupling=coupling, target=target, generator=generator
    )


def arcsine(x1: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw times `[b]` of data `x1` with density 1/(π √(t(1 − t))): more of them at both ends.

    There the width γ, by which the loss weighs the score, is small.

    Example:
        >>> t = arcsine(torch.zeros(1000, 2), torch.Generator().manual_seed(0))
        >>> f"{((t - 0.5).abs() > 0.4).float().mean():.1f}"  # of uniform ones .2
        '0.4'
    """
    check_points(x1, "x1")
    u = torch.rand(len(x1), generator=generator, dtype=x1.dtype, device=x1.device)
    return torch.sin(0.5 * math.pi * u).square()


def snapshot_loss(
    model: Field,
    x1: Tensor,
    *,
    x0: Tensor,
    first: Tensor,
    last: Tensor,
    sigma: float,
    t: Time | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the loss of flow and score on pairs from populations that were seen at several times.

    The network runs through all times in one of its own, from 0 to 1. Between the times `first`
    and `last` of a pair it learns the bridge of size `sigma` √(last − first) over the rescaled
    interval; `interval` reads it. Arguments not named here are those of `bridge_loss`.

    Args:
        x1: The later point of each pair, `[b d]`.
        x0: The earlier one.
        first: When it was seen, `[b]`.
        last: When the later one was.
        sigma: The size of the Brownian motion in the time of the network.

    Equation: eq-bridges-loss
    Reference: tong2024sf2m

    Example:
        >>> from fmtutor.bridges import LineAndScore
        >>> x0, x1 = moons(64, seed=0), rings(64, seed=1)
        >>> first, last = torch.full((64,), 0.25), torch.full((64,), 0.5)
        >>> model = LineAndScore(MLP(), MLP())
        >>> loss = snapshot_loss(model, x1, x0=x0, first=first, last=last, sigma=1.0)
        >>> loss.backward()
    """
    check_same("x1", x1, "x0", x0)
    check_positive("sigma", sigma, zero=True)
    first, last = batch_time(first, x1), batch_time(last, x1)
    if readable(x1) and not bool((first < last).all()):
        raise ValueError("the last time of each pair must be above its first")
    t = arcsine(x1, generator) if t is None else batch_time(t, x1)
    h, at = align_time(last - first, x1), align_time(t, x1)
    z = torch.randn(x1.shape, generator=generator, dtype=x1.dtype, device=x1.device)
    gamma = sigma * (h * at * (1 - at)).sqrt()
    xt = (1 - at) * x0 + at * x1 + gamma * z
    line, score = model(xt, first + (last - first) * t).chunk(2, dim=1)
    prediction = torch.cat([h * line, gamma * score], dim=1)
    return mean_square(prediction, torch.cat([x1 - x0, -z], dim=1))

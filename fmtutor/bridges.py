"""Flows and diffusions between two data sets: one loss, the two directions, the fitting of pairs.

A network of a bridge returns `[b 2d]`: the mean x1 − x0 of the lines through a point, and the
score. From these follow the velocity of the ODE and the drifts of the SDE, forward and backward;
nothing is divided by a width that vanishes at the ends.

Chapter: bridges
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from fmtutor.checking import check_count, check_points, check_same, readable
from fmtutor.losses import Coupling, cfm_loss, mean_square
from fmtutor.notation import Field, PathSample, Time, align_time, batch_time
from fmtutor.paths import BrownianBridge
from fmtutor.solvers import sample_stochastic
from fmtutor.training import minimise

__all__ = [
    "BridgeField",
    "LineAndScore",
    "arcsine",
    "bridge_loss",
    "interval",
    "iterative_markovian_fitting",
    "simulate",
    "snapshot_loss",
]


class LineAndScore(nn.Module):
    """Two networks side by side: the mean line and the score of a bridge, `[b 2d]`.

    Args:
        line: A network v(x, t).
        score: Another one, of the same shapes.

    Reference: tong2024sf2m

    Example:
        >>> LineAndScore(MLP(), MLP())(torch.zeros(5, 2), 0.5).shape
        torch.Size([5, 4])
    """

    def __init__(self, line: nn.Module, score: nn.Module) -> None:
        super().__init__()
        self.line, self.score = line, score

    def forward(self, x: Tensor, t: Time, *cond: Tensor) -> Tensor:
        """Return both, the line first."""
        return torch.cat([self.line(x, t, *cond), self.score(x, t, *cond)], dim=1)


@dataclass(frozen=True)
class BridgeField:
    """What a trained network of a bridge of a `path` means: velocity, score, drifts.

    Each is called as a field, `field.velocity(x, t)`, and is finite on [0, 1].

    Args:
        model: The network, `model(x, t) -> [b 2d]`.
        path: The bridge that it was trained on.

    Equation: eq-bridges-velocity, eq-bridges-drifts
    Reference: tong2024sf2m

    Example:
        >>> field = BridgeField(LineAndScore(MLP(), MLP()), BrownianBridge(1.0))
        >>> field.velocity(torch.zeros(5, 2), 0.0).shape
        torch.Size([5, 2])
    """

    model: Field
    path: BrownianBridge

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Return the velocity of the ODE, E[x1 − x0 | x] − γγ' s, `[b d]`."""
        line, score, time = self._parts(x, t)
        return line - self.path.half_d_variance(time) * score

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Return the score s, `[b d]`."""
        return self._parts(x, t)[1]

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """Return the drift of the SDE, velocity + ½σ² s = line + σ² t s, `[b d]`."""
        line, score, time = self._parts(x, t)
        return line + self.path.sigma**2 * time * score

    def backward_drift(self, x: Tensor, t: Time) -> Tensor:
        """Return velocity − ½σ² s = line − σ² (1 − t) s, whose SDE runs back, `[b d]`."""
        line, score, time = self._parts(x, t)
        return line - self.path.sigma**2 * (1 - time) * score

    def _parts(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        t = batch_time(t, x)
        line, score = self.model(x, t).chunk(2, dim=1)
        return line, score, align_time(t, x)


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

    Both targets are bounded by the draw: the velocity's own, x1 − x0 + γ' z, has an infinite
    variance at the ends of a Brownian bridge. Arguments not named here are those of `cfm_loss`.

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


def simulate(
    field: BridgeField,
    x: Tensor,
    *,
    backward: bool = False,
    until: float = 1.0,
    steps: int = 100,
    return_path: bool = False,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Follow the SDE of a bridge, dX = drift dt + σ dW, from the source, or back from the target.

    Args:
        field: The bridge.
        x: Points `[b d]` of the source; of the target with `backward`.
        backward: Whether to run from t = 1 to t = 0.
        until: The share of the way to go, up to 1.
        steps: Number of steps of the Euler-Maruyama method.
        return_path: Whether to return all points `[steps+1 b d]`, in the order they are reached.

    Equation: eq-bridges-drifts
    Reference: tong2024sf2m, shi2023

    Example:
        >>> field = BridgeField(LineAndScore(MLP(), MLP()), BrownianBridge(1.0))
        >>> simulate(field, moons(5, seed=0), seed=0).shape
        torch.Size([5, 2])
    """

    def reversed_drift(x: Tensor, t: Tensor) -> Tensor:
        return -field.backward_drift(x, 1 - t)

    return sample_stochastic(
        reversed_drift if backward else field.drift,
        x,
        score=lambda v, x, t: torch.zeros_like(v),  # the drift holds it already
        diffusion=field.path.sigma,
        steps=steps,
        t1=until,
        return_path=return_path,
        seed=seed,
        generator=generator,
    )


def iterative_markovian_fitting(
    model: nn.Module,
    x0: Tensor,
    x1: Tensor,
    path: BrownianBridge,
    *,
    rounds: int = 5,
    steps: int = 1000,
    batch_size: int = 512,
    lr: float = 2e-3,
    simulation_steps: int = 50,
    seed: int = 0,
) -> Iterator[tuple[BridgeField, Tensor, Tensor]]:
    """Fit the Schrödinger bridge between samples `x0` and `x1` `[n d]` by fitting bridges to pairs.

    Each round trains on the present pairs, at first as they come, and makes new ones: simulated
    forward from x0 and backward from x1 in turn, so that each end is exact in every other round.
    After each round it yields the field and the new pairs.

    Args:
        model: The network, `model(x, t) -> [b 2d]`, trained on from round to round.
        x0: Points of the source.
        x1: Points of the target.
        path: The bridge.
        rounds: Number of rounds.
        steps: Optimizer steps of a round.
        batch_size: Number of pairs in a step.
        lr: The largest learning rate of a round.
        simulation_steps: Steps of a simulation.

    Equation: eq-bridges-imf
    Reference: shi2023

    Example:
        >>> x0, x1 = moons(64, seed=0), rings(64, seed=1)
        >>> model, path = LineAndScore(MLP(), MLP()), BrownianBridge(1.0)
        >>> fits = iterative_markovian_fitting(model, x0, x1, path, rounds=2, steps=3)
        >>> [start.equal(x0) for field, start, end in fits]
        [True, False]
    """
    check_points(x0, "x0", finite=True)
    check_same("x1", x1, "x0", x0)
    start, end = x0, x1
    for k in range(check_count("rounds", rounds)):

        def loss(
            model: nn.Module, x1: Tensor, x0: Tensor, generator: torch.Generator | None = None
        ) -> Tensor:
            return bridge_loss(model, x1, x0=x0, path=path, generator=generator)

        trained = minimise(
            model, end, loss, cond=start, steps=steps, batch_size=batch_size, lr=lr,
            ema=0.99, seed=seed + k, progress=False,
        )  # fmt: skip
        field = BridgeField(trained.model, path)
        run = partial(simulate, field, steps=simulation_steps, seed=seed + k)
        start, end = (x0, run(x0)) if k % 2 == 0 else (run(x1, backward=True), x1)
        yield field, start, end


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
        >>> x0, x1 = moons(64, seed=0), rings(64, seed=1)
        >>> first, last = torch.full((64,), 0.25), torch.full((64,), 0.5)
        >>> model = LineAndScore(MLP(), MLP())
        >>> loss = snapshot_loss(model, x1, x0=x0, first=first, last=last, sigma=1.0)
        >>> loss.backward()
    """
    check_same("x1", x1, "x0", x0)
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


def interval(model: Field, first: float, last: float, sigma: float) -> BridgeField:
    """Return the bridge that a network of snapshots holds between two of them, in its own time.

    Args:
        model: The network, trained with `snapshot_loss`.
        first: The time of the one snapshot.
        last: That of the next.
        sigma: The size of the Brownian motion in the time of the network.

    Example:
        >>> between = interval(LineAndScore(MLP(), MLP()), 0.25, 0.5, sigma=1.0)
        >>> between.path
        BrownianBridge(sigma=0.5, width=0.0)
    """
    h = last - first

    def local(x: Tensor, t: Time) -> Tensor:
        line, score = model(x, first + h * batch_time(t, x)).chunk(2, dim=1)
        return torch.cat([h * line, score], dim=1)

    return BridgeField(local, BrownianBridge(sigma * math.sqrt(h)))

"""What the network of a bridge means: flows and diffusions between two data sets, both ways.

It returns `[b 2d]`: the mean x1 − x0 of the lines through a point, and the score. From these follow
the velocity of the ODE and the drifts of the SDE, forward and backward; nothing is divided by a
width that vanishes at the ends. `bridge_losses` trains it.

Chapter: bridges
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmtutor.notation import Field, Time, align_time, batch_time
from fmtutor.paths import BrownianBridge
from fmtutor.solvers import sample_stochastic

__all__ = ["BridgeField", "LineAndScore", "interval", "simulate"]


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

    def __post_init__(self) -> None:
        if not isinstance(self.path, BrownianBridge):  # the drifts need its size
            raise TypeError(f"path must be a BrownianBridge, but {self.path!r} came")

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
    if not first < last:
        raise ValueError(f"first must be before last, but {first} and {last} came")
    h = last - first

    def local(x: Tensor, t: Time) -> Tensor:
        line, score = model(x, first + h * batch_time(t, x)).chunk(2, dim=1)
        return torch.cat([h * line, score], dim=1)

    return BridgeField(local, BrownianBridge(sigma * math.sqrt(h)))

"""The Schrödinger bridge without a plan: bridges are fitted to pairs, and give the next pairs.

Chapter: bridges
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from fmtutor.bridge_losses import bridge_loss
from fmtutor.bridges import BridgeField, simulate
from fmtutor.checking import check_count, check_points, check_same
from fmtutor.paths import BrownianBridge
from fmtutor.training import minimise

__all__ = ["iterative_markovian_fitting"]


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
        >>> from fmtutor.bridges import LineAndScore
        >>> x0, x1 = moons(64, seed=0), rings(64, seed=1)
        >>> model, path = LineAndScore(MLP(), MLP()), BrownianBridge(1.0)
        >>> fits = iterative_markovian_fitting(model, x0, x1, path, rounds=2, steps=3)
        >>> [start.equal(x0) for field, start, end in fits]
        [True, False]
    """
    check_points(x0, "x0", finite=True)
    check_points(x1, "x1", finite=True)
    check_same("x1", x1, "x0", x0)
    BridgeField(model, path)  # refuses another path, before anything is trained
    rounds = check_count("rounds", rounds)
    simulation_steps = check_count("simulation_steps", simulation_steps)

    def loss(
        model: nn.Module, x1: Tensor, x0: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        return bridge_loss(model, x1, x0=x0, path=path, generator=generator)

    def fits() -> Iterator[tuple[BridgeField, Tensor, Tensor]]:
        start, end = x0, x1
        for k in range(rounds):
            trained = minimise(
                model, end, loss, cond=start, steps=steps, batch_size=batch_size, lr=lr,
                ema=0.99, seed=seed + k, progress=False,
            )  # fmt: skip
            field = BridgeField(trained.model, path)
            run = partial(simulate, field, steps=simulation_steps, seed=seed + k)
            start, end = (x0, run(x0)) if k % 2 == 0 else (run(x1, backward=True), x1)
            yield field, start, end

    return fits()

"""A ball in a room with an obstacle, seen from above: the motion of a simulator, without it.

Chapter: policies
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import check_points, check_same

__all__ = ["Room"]


@dataclass(frozen=True)
class Room:
    """A square room with a block in the middle, a ball that a force moves, and a goal behind.

    A state is `[b 4]`: position and velocity. An action `[b 2]` is a force, each component within
    [−1, 1]. Without contact a step is that of MuJoCo with the point mass of gymnasium-robotics, to
    rounding. At a wall the ball stops in the wall's direction; the simulator's ball sinks in a
    little and springs back.

    Args:
        half: Half the side of the room.
        block: Half the sides of the block.
        goal: The place to reach, within `near`.
        near: How near is there.

    Equation: eq-policies-motion

    Example:
        >>> room = Room()
        >>> state, touched = room.step(torch.tensor([[0.0, -1.0, 0, 0]]), torch.tensor([[1.0, 0]]))
        >>> state, touched
        (tensor([[ 0.0024, -1.0000,  0.2382,  0.0000]]), tensor([False]))
    """

    half: float = 2.5
    block: tuple[float, float] = (1.5, 0.5)
    goal: tuple[float, float] = (0.0, 1.0)
    near: float = 0.45

    radius = 0.1
    mass = 1000 * 4 / 3 * math.pi * 0.1**3  # kg
    strength, damping, tick, fastest = 100.0, 1.0, 0.01, 5.0  # N, N s/m, s, m/s

    def __post_init__(self) -> None:
        sizes = torch.tensor([self.half, *self.block, self.near], dtype=torch.float64)
        if not bool((sizes > 0).all() & (sizes[1:3] < sizes[0]).all()):
            raise ValueError(
                "half, block and near must be positive and the block smaller than the room, but "
                f"{self.half}, {self.block} and {self.near} came"
            )

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states `[b 4]` a hundredth of a second later, and which balls touch, `[b]`."""
        check_points(state, "state")
        if state.shape[1:] != (4,) or action.shape != (len(state), 2):
            raise ValueError(
                f"state and action must have shapes [b 4] and [b 2], but {[*state.shape]} and "
                f"{[*action.shape]} came"
            )
        check_same("action", action, "state", state[:, :2])
        x, v = state[:, :2], state[:, 2:]
        push = self.tick / self.mass * self.strength * action.clamp(-1, 1)
        # The damping acts on the new velocity, so that no step can overshoot.
        v = v.clamp(-self.fastest, self.fastest) + push
        v = v / (1 + self.tick * self.damping / self.mass)
        return self._kept_out(x + self.tick * v, v)

    def reached(self, state: Tensor) -> Tensor:
        """Return which states `[b 4]` are at the goal, `[b]`."""
        goal = torch.tensor(self.goal, dtype=state.dtype)
        near: Tensor = torch.linalg.vector_norm(state[:, :2] - goal, dim=1) < self.near
        return near

    def _kept_out(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put balls back that went into a wall or the block, and stop them in that direction."""
        inner = x.clamp(self.radius - self.half, self.half - self.radius)
        block = torch.tensor(self.block, dtype=x.dtype) + self.radius
        depth = block - inner.abs()
        inside = (depth > 0).all(1)
        shallow = depth == depth.amin(1, keepdim=True)
        out = inside[:, None] & shallow
        inner = torch.where(out, block * torch.where(inner < 0, -1.0, 1.0), inner)
        touched = inner != x
        return torch.cat([inner, torch.where(touched, 0.0, v)], dim=1), touched.any(1)

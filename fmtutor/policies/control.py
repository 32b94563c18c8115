"""Acting by chunks: ask for a plan, follow some of it, look again.

Chapter: policies
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fmtutor.checking import check_count, check_points

__all__ = ["Drive", "Policy", "Rollout", "Step", "follow_plans", "push"]

Policy = Callable[[Tensor], Tensor]
"""Observations `[b 4]` to plans `[b h 2]`: the next positions, less the present one."""

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""States `[b 4]` and actions `[b 2]` to the next states, and which balls touch, `[b]`."""

Drive = Callable[[Tensor, Tensor, Tensor], Tensor]
"""States `[b 4]`, and the positions and velocities wanted `[b 2]`, to actions `[b 2]`."""


class Rollout(NamedTuple):
    """Episodes of b balls: what became of each.

    Args:
        states: All states, `[T+1 b 4]`; a ball that is there stays as it was.
        steps: The number of steps until it was there, `[b]`; the limit where it never was.
        reached: Whether it was there in time, `[b]`.
        touched: Whether it touched anything on the way, `[b]`.
    """

    states: Tensor
    steps: Tensor
    reached: Tensor
    touched: Tensor


def push(
    state: Tensor, target: Tensor, speed: Tensor, *, stiffness: float = 10.0, brake: float = 1.3
) -> Tensor:
    """Return actions `[b 2]` in [−1, 1] that keep balls with a moving target: a spring and a brake.

    Args:
        state: Where the balls are, `[b 4]`.
        target: Where they should be, `[b 2]`.
        speed: The velocity that they should have, `[b 2]`.
        stiffness: Of the spring, force by distance.
        brake: Force by difference of velocities.

    Example:
        >>> push(torch.tensor([[0.0, 0.0, 0.0, 1.0]]), torch.tensor([[0.05, 0.0]]), torch.zeros(2))
        tensor([[ 0.5000, -1.0000]])
    """
    return (stiffness * (target - state[:, :2]) + brake * (speed - state[:, 2:])).clamp(-1, 1)


def follow_plans(
    policy: Policy,
    step: Step,
    reached: Callable[[Tensor], Tensor],
    states: Tensor,
    *,
    commitment: int,
    limit: int,
    drive: Drive = push,
    ticks: int = 4,
    tick: float = 0.01,
) -> Rollout:
    """Let balls act: of each plan follow the first `commitment` positions, then ask again.

    Args:
        policy: What makes plans.
        step: The world, for one tick.
        reached: Which states are at the goal.
        states: The first ones, `[b 4]`.
        commitment: Positions of a plan that are followed before the next is asked for.
        limit: The number of positions after which an episode ends.
        drive: What makes an action of a state and of the position and velocity that are wanted.
        ticks: Of the world from one position of a plan to the next.
        tick: Seconds of a tick.

    Raises:
        ValueError: If a plan is shorter than the commitment, or not finite.

    Equation: eq-policies-horizon
    Reference: chi2023

    Example:
        >>> from fmtutor.policies import Room
        >>> room = Room()
        >>> ahead = lambda o: torch.tensor([[[0.0, 0.05], [0.0, 0.1]]]).expand(len(o), -1, -1)
        >>> start = torch.tensor([[2.0, -1.0, 0.0, 0.0]])
        >>> follow_plans(ahead, room.step, room.reached, start, commitment=2, limit=50).reached
        tensor([False])
    """
    check_points(states, "states", finite=True)
    commitment, limit = check_count("commitment", commitment), check_count("limit", limit)
    done = reached(states)
    steps = torch.where(done, 0, limit)
    touched = torch.zeros_like(done)
    path = [states]
    for k in range(limit):
        if k % commitment == 0:
            origin, plan = states[:, :2], policy(states)
            _check_plan(plan, len(states), commitment)
            places = origin[:, None] + torch.cat([torch.zeros_like(plan[:, :1]), plan], dim=1)
        leg = places[:, k % commitment], places[:, k % commitment + 1]
        moved, hit = _go(step, states, *leg, drive, ticks, tick)
        touched |= hit & ~done
        states = torch.where(done[:, None], states, moved)
        path.append(states)
        arrived = reached(states) & ~done
        steps = torch.where(arrived, k + 1, steps)
        done |= arrived
        if bool(done.all()):
            break
    return Rollout(torch.stack(path), steps, done, touched)


def _go(
    step: Step, states: Tensor, here: Tensor, there: Tensor,
    drive: Drive, ticks: int, tick: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Move a target from here to there at a steady speed, and the balls with it.

    At each tick the target is where it shall be at its end, so that a ball runs ahead of the plan
    by up to a tick.
    """
    touched = torch.zeros(len(states), dtype=torch.bool)
    speed = (there - here) / (ticks * tick)
    for j in range(1, ticks + 1):
        states, hit = step(states, drive(states, here + j * tick * speed, speed))
        touched |= hit
    return states, touched


def _check_plan(plan: Tensor, count: int, commitment: int) -> None:
    if plan.ndim != 3 or plan.shape[0] != count or plan.shape[2] != 2:
        raise ValueError(f"a plan must have shape [{count} h 2], but {[*plan.shape]} came")
    if plan.shape[1] < commitment:
        raise ValueError(
            f"commitment must be at most the length of a plan, {plan.shape[1]}, but {commitment} "
            "came"
        )
    if not bool(plan.isfinite().all()):
        raise ValueError("a plan must be finite, but the policy returned NaN or infinity")

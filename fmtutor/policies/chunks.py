"""Chunks: the next positions from here, as one point to be generated, and their scale.

Chapter: policies
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fmtutor.checking import check_count, check_points

__all__ = ["Chunks", "Scale", "chunks_of", "shifted"]


class Chunks(NamedTuple):
    """Observations `[n o]`, and beside each the next positions less the present one, `[n h·2]`."""

    observations: Tensor
    plans: Tensor


def chunks_of(episodes: Sequence[Tensor], length: int) -> Chunks:
    """Cut episodes of states `[T 4]` into observations and chunks of `length` positions to come.

    A chunk that runs over the end of its episode is left out.

    Raises:
        ValueError: If an episode is not longer than a chunk, or not finite.

    Example:
        >>> walk = torch.arange(12.0).reshape(6, 2).repeat(1, 2)
        >>> chunks_of([walk], length=2).plans
        tensor([[2., 2., 4., 4.],
                [2., 2., 4., 4.],
                [2., 2., 4., 4.],
                [2., 2., 4., 4.]])
    """
    length = check_count("length", length)
    observations, plans = [], []
    for k, states in enumerate(episodes):
        check_points(states, f"episode {k}", finite=True)
        if states.ndim != 2 or states.shape[1] != 4 or len(states) <= length:
            raise ValueError(
                f"episode {k} must be states [T 4] with T above the length of a chunk, {length}, "
                f"but its shape is {[*states.shape]}"
            )
        x = states[:, :2]
        to_come = x.unfold(0, length + 1, 1)  # [n 2 length+1]
        plans.append((to_come[..., 1:] - to_come[..., :1]).mT.flatten(1))
        observations.append(states[: len(to_come)])
    return Chunks(torch.cat(observations), torch.cat(plans))


def shifted(plans: Tensor, count: int) -> Tensor:
    """Return what is left of plans `[b h 2]` after `count` positions, seen from the last of them.

    What is missing at the end goes on with the last step.

    Example:
        >>> shifted(torch.tensor([[[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]]]), 1)
        tensor([[[1., 0.],
                 [3., 0.],
                 [5., 0.]]])
    """
    if not 1 <= check_count("count", count) < plans.shape[1]:
        raise ValueError(f"count must lie below {plans.shape[1]}, the plan's length; {count} came")
    left = plans[:, count:] - plans[:, count - 1 : count]
    ahead = torch.arange(1, count + 1, dtype=plans.dtype)[:, None]
    return torch.cat([left, left[:, -1:] + ahead * (plans[:, -1:] - plans[:, -2:-1])], dim=1)


class Scale(NamedTuple):
    """Mean and deviation of numbers, one for each, so that what is learned has the size of noise.

    Reference: chi2023

    Example:
        >>> scale = Scale.of(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
        >>> scale.to_unit(torch.tensor([[2.0, 5.0]]))
        tensor([[0.7071, 0.0000]])
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Scale:
        """Return that of points `x` `[n d]`; numbers that never change stay as they are.

        Raises:
            ValueError: If there are fewer than two points.
        """
        check_points(x, finite=True)
        if x.ndim != 2 or len(x) < 2:
            raise ValueError(f"a scale needs at least two points [n d], but {[*x.shape]} came")
        deviation = x.std(0)
        return cls(x.mean(0), torch.where(deviation > 0, deviation, torch.ones_like(deviation)))

    def to_unit(self, x: Tensor) -> Tensor:
        """Return `x` less the mean, over the deviation."""
        return (x - self.mean) / self.deviation

    def from_unit(self, z: Tensor) -> Tensor:
        """Return what `to_unit` takes to `z`."""
        return self.mean + self.deviation * z

"""A population of cells that move, decide and divide: snapshots whose truth is known.

A cell drifts to the right along x; y feels a force that is restoring on the left and has two stable
places on the right, so that each cell ends in one of two branches. Cells of the upper branch may
divide. A snapshot shows where cells are at a time, and not which cell of an earlier one it was.

Chapter: bridges
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fmtutor.checking import as_generator, check_count

__all__ = ["NOISE", "Population", "grow"]

NOISE = 0.5
"""The size of the Brownian motion of a cell, in the time from 0 to 1."""

_STEPS = 200


class Population(NamedTuple):
    """Cells at some times: `points` `[k n 2]`, each row of a time one cell, and `parents` `[k n]`.

    The parent is the row of the time before, of which the cell is a descendant; at the first time
    the cell itself.

    Example:
        >>> population = grow(100, [0.0, 0.5, 1.0], seed=0)
        >>> population.points.shape
        torch.Size([3, 100, 2])
    """

    points: Tensor
    parents: Tensor


def grow(
    n: int,
    times: list[float],
    *,
    division: float = 0.0,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Population:
    """Simulate a population and keep `n` of its cells, so that it stays as large when cells divide.

    Args:
        n: The number of cells at each time.
        times: Increasing, in [0, 1], multiples of 1/200.
        division: The rate at which a cell with y > 0.5 divides in two.

    Example:
        >>> last = grow(1000, [0.0, 1.0], division=2.0, seed=0).points[-1]
        >>> bool((last[:, 1] > 0).float().mean() > 0.6)  # the branch that divides takes over
        True
    """
    n = check_count("n", n)
    when = [round(t * _STEPS) for t in times]
    between = any(abs(t * _STEPS - k) > 1e-6 for t, k in zip(times, when, strict=True))
    if not when or when != sorted(set(when)) or when[0] < 0 or when[-1] > _STEPS or between:
        raise ValueError(f"times must increase in [0, 1], in steps of 1/{_STEPS}, not {times}")
    if not 0 <= division <= _STEPS:
        raise ValueError(f"division must be in [0, {_STEPS}], but {division} came")
    g = as_generator(seed, generator)
    x = torch.tensor([-2.0, 0.0]) + 0.3 * torch.randn(n, 2, generator=g)
    row, points, parents = torch.arange(n), [], []
    for step in range(when[-1] + 1):
        if step in when:
            points.append(x)
            parents.append(row)
            row = torch.arange(n)
        drift = torch.stack([torch.full((n,), 4.0), _force(x)], 1)
        noise = NOISE * torch.randn(x.shape, generator=g) / math.sqrt(_STEPS)
        x = x + drift / _STEPS + noise
        divides = (x[:, 1] > 0.5) & (torch.rand(n, generator=g) < division / _STEPS)
        if bool(divides.any()):
            # Each daughter takes the place of a cell drawn from all: what is kept of a larger
            # population by drawing n of its cells.
            place = torch.randint(n, (int(divides.sum()),), generator=g)
            x, row = x.clone(), row.clone()
            x[place], row[place] = x[divides], row[divides]
    return Population(torch.stack(points), torch.stack(parents))


def _force(x: Tensor) -> Tensor:
    """Return the force on y: restoring for x < −1, with stable places ±1.5 for x > 1."""
    opening = ((x[:, 0] + 1) / 2).clamp(-0.5, 1)
    return 6 * (opening * x[:, 1] - x[:, 1] ** 3 / 2.25)

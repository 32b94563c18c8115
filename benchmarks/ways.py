"""Where a ball is led: over the free cells of a room, round corners, with a wavering hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

SPEED, STEP, ROUND, NOISE = 2.0, 0.04, 8, 0.08  # m/s, s, positions of a corner, m
Cell = tuple[int, int]


def way(
    start: Cell, end: Cell, free: Callable[[Cell], bool], rng: np.random.Generator
) -> list[Cell]:
    """Return the cells of a shortest way, both ends included, ties broken at random."""

    def beside(c: Cell) -> list[Cell]:
        around = [(c[0] + i, c[1] + j) for i, j in ((0, 1), (1, 0), (0, -1), (-1, 0))]
        return [n for n in around if free(n)]

    queue, far = [end], {end: 0}
    for c in queue:
        for n in beside(c):
            if n not in far:
                far[n] = far[c] + 1
                queue.append(n)
    cells = [start]
    while far[cells[-1]]:
        nearer = [n for n in beside(cells[-1]) if far[n] < far[cells[-1]]]
        cells.append(nearer[rng.integers(len(nearer))])
    return cells


def along(corners: np.ndarray, length: int) -> Tensor:
    """Return where one is every `STEP` who goes from corner to corner and rests at the last.

    Each position is the mean of the last `ROUND`, which rounds the corners.

    Args:
        corners: Places `[k 2]` in metres.
        length: Positions to return, `[length 2]`.
    """
    legs = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    passed, now = np.concatenate([[0.0], legs.cumsum()]), np.arange(length) * SPEED * STEP
    places = np.stack([np.interp(now, passed, corners[:, k]) for k in range(2)], axis=1)
    padded = np.pad(places, ((ROUND - 1, 0), (0, 0)), mode="edge")
    return torch.from_numpy(sum(padded[k : k + length] for k in range(ROUND)) / ROUND)


def wavering(length: int, count: int, generator: torch.Generator) -> Tensor:
    """Return what is added to so many ways, `[length count 2]`: from 0 to a spread of `NOISE`."""
    waver = [torch.zeros(count, 2, dtype=torch.float64)]
    for _ in range(length - 1):
        kick = torch.randn(count, 2, generator=generator).double()
        waver.append(0.9 * waver[-1] + NOISE * 0.19**0.5 * kick)
    return torch.stack(waver)

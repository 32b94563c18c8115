"""One set of pictures at two resolutions, and how many of them a time leaves possible.

The small pictures are the block means of the large ones, and their noise is the block mean of the
large noise, times the side of a block: both are standard normal.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from einops import reduce, repeat
from torch import Tensor

from fmtutor.oracles import EmpiricalField
from fmtutor.paths import CondOT
from fmtutor.solvers import shift
from fmtutor.widgets.rng import Random

__all__ = [
    "CLOCKS",
    "END",
    "KINDS",
    "PICTURES",
    "PIECES",
    "RATIOS",
    "SEED",
    "SIDE",
    "block_means",
    "curve",
    "data",
    "enlarged",
    "garments",
    "shrunk_noise",
    "stops",
    "time_of",
]

PICTURES = Path(__file__).with_name("resolution_explorer.npy")
"""The garments; `python tools/widget_pictures.py` makes them."""

SIDE = 28  # pixels
RATIOS = (4, 2)  # sides of a block: 7 × 7 and 14 × 14 small pixels
CLOCKS = ("same", "shifted")
KINDS = ("large", "blocks", "small")  # blocks: large pictures whose blocks are even
END = 0.98  # the field has no limit at t = 1
PIECES = 70  # of the curves
SEED = 0  # of the noise of the curves, one for each garment


@cache
def garments() -> Tensor:
    """Return the pictures as they ship, uint8 `[64 28 28]`."""
    return torch.from_numpy(np.load(PICTURES, allow_pickle=False))


def block_means(x: Tensor, ratio: int) -> Tensor:
    """Return the mean of each block of ratio × ratio pixels, `[... h w]` to `[... h/r w/r]`."""
    return reduce(x, "... (h r) (w s) -> ... h w", "mean", r=ratio, s=ratio)


def enlarged(x: Tensor, ratio: int) -> Tensor:
    """Return pictures in which each pixel fills a block, `[... h w]` to `[... h·r w·r]`."""
    return repeat(x, "... h w -> ... (h r) (w s)", r=ratio, s=ratio)


def shrunk_noise(x0: Tensor, ratio: int) -> Tensor:
    """Return r times the block means of noise: standard normal again."""
    return ratio * block_means(x0, ratio)


@cache
def data(kind: str, ratio: int) -> Tensor:
    """Return the pictures of a kind in [−1, 1], float64 `[64 h w]`."""
    large = garments().double() / 127.5 - 1
    if kind == "large":
        return large
    small = block_means(large, ratio)
    return small if kind == "small" else enlarged(small, ratio)


def time_of(t: float, clock: str, ratio: int) -> float:
    """Return the time of the large flow while that of the small one is t."""
    if clock == "same":
        return t
    return float(shift(torch.tensor([t], dtype=torch.float64), ratio))


def stops() -> list[float]:
    """Return the times of the small flow at which the curves are computed."""
    return [END * k / PIECES for k in range(PIECES + 1)]


@cache
def curve(kind: str, clock: str, ratio: int) -> list[float]:
    """Return how many pictures are still possible, on average, at each of the `stops`.

    It is e to the mean entropy of the posterior weights over draws of x_t, one for each picture.

    Args:
        kind: One of `KINDS`.
        clock: One of `CLOCKS`; "same" for the small flow.
        ratio: The side of a block.
    """
    x1, x0 = data(kind, ratio), Random(SEED).normals(len(garments()), SIDE, SIDE).double()
    if kind == "small":
        x0 = shrunk_noise(x0, ratio)
    field, found = EmpiricalField(CondOT(), x1), []
    for t in stops():
        s = time_of(t, clock, ratio)
        weights = field.posterior(s * x1 + (1 - s) * x0, s)
        found.append(float(torch.special.entr(weights).sum(1).mean().exp()))
    return found

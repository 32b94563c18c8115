"""Whether a network has copied: the training pictures that are nearest to its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fmtutor.images.data import ImageData, to_float
from fmtutor.images.judge import held_out_rows
from fmtutor.images.measures import nearest_neighbours

__all__ = ["beside_neighbours", "closeness"]

BLOCK = 10_000


def beside_neighbours(images: Tensor, data: ImageData, *, k: int = 3) -> Tensor:
    """Return pictures with the training pictures that are nearest to them, pixel by pixel.

    Args:
        images: Pictures `[n c h w]`, uint8.
        data: The data set; where training mirrors pictures, mirrored ones are looked at, too.
        k: Number of neighbours.

    Returns:
        Pictures, uint8 `[n 1 + k c h w]`: each one, then its neighbours, the nearest first.

    Chapter: images
    """
    _, rows = _nearest_originals(images, data, k)
    n = len(data.train)
    found = data.train[rows % n]
    found = torch.where((rows < n)[..., None, None, None], found, found.flip(-1))
    return torch.cat([images[:, None], found], dim=1)


def closeness(
    images: Tensor, data: ImageData, *, seed: int = 0, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Compare how near generated pictures and test pictures come to the training pictures.

    Args:
        images: The generated ones, uint8 `[n c h w]`.
        data: The data set.
        seed: Seed of the choice of as many test pictures.
        device: Where to compute.

    Returns:
        Levels, quantiles of both distances at them, and the share of generated pictures that are
        closer than all but 1 % of the test pictures.

    Chapter: images
    """
    test_pictures = data.test[held_out_rows(data, len(images), seed)]
    generated, test = (
        _nearest_originals(pictures.to(device), data)[0][:, 0].cpu()
        for pictures in (images, test_pictures)
    )
    levels = torch.tensor([0.0, 0.01, 0.1, 0.5, 0.9, 1.0])
    return {
        "distance": "root mean square of the pixels' differences, pixels in [-1, 1]",
        "levels": [round(level, 2) for level in levels.tolist()],
        "generated": generated.quantile(levels).tolist(),
        "test": test.quantile(levels).tolist(),
        "closer_than_1_percent_of_test": (generated < test.quantile(0.01)).double().mean().item(),
    }


def _nearest_originals(images: Tensor, data: ImageData, k: int = 1) -> tuple[Tensor, Tensor]:
    """Return distances to the nearest pictures of those a network was shown, and their rows.

    Row n + i is the i-th of the n training pictures, mirrored. They pass by in blocks, since they
    may be more than the memory holds.
    """
    x, n = to_float(images), len(data.train)
    distances, rows = [], []
    for mirrored in (False, True) if data.flip else (False,):
        for start in range(0, n, BLOCK):
            block = data.train[start : start + BLOCK].to(x.device)
            block = to_float(block.flip(-1) if mirrored else block)
            distance, row = nearest_neighbours(x, block, k=k if n <= BLOCK else min(k, len(block)))
            distances.append(distance)
            rows.append(row + start + n * mirrored)
    best, column = torch.cat(distances, 1).topk(k, largest=False)
    return best, torch.cat(rows, 1).gather(1, column)

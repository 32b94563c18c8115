"""From a network to pictures: sampling with labels and guidance, grids, PNG files."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from fmtutor.guidance import conditioned, guided
from fmtutor.images.checkpoint import write_atomically
from fmtutor.images.datasets import to_uint8
from fmtutor.networks import UNet
from fmtutor.notation import VelocityField
from fmtutor.solvers import sample

__all__ = ["draw_pictures", "picture_grid", "save_png"]


def draw_pictures(
    model: UNet,
    labels: Tensor | None,
    *,
    count: int | None = None,
    scale: float = 1.0,
    method: str = "midpoint",
    steps: int = 25,
    seed: int = 0,
    batch_size: int = 256,
) -> Tensor:
    """Draw noise and let the flow carry it to pictures.

    The noise of a picture depends on the seed and on its number in the row alone, not on the
    device or the batch size.

    Args:
        model: The network.
        labels: A label for each picture, int64 `[n]`; None draws without labels.
        count: Number of pictures, where there are no labels to tell.
        scale: Guidance scale; 1 is plain conditional sampling.
        method: A solver of `fmtutor.solvers.sample`.
        steps: Its number of steps.
        seed: Seed of the noise.
        batch_size: Number of pictures that the network sees at a time.

    Returns:
        Pictures, uint8 `[n c h w]`, on the CPU.

    Raises:
        ValueError: If neither labels nor a count came, or labels that the network does not know.

    Chapter: images
    """
    n = len(labels) if labels is not None else count or 0
    if n < 1:
        raise ValueError(f"there must be at least 1 picture to draw, but {n} came")
    shape = (model.config.channels, model.config.size, model.config.size)
    noise = torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))
    device = next(model.parameters()).device
    drawn = []
    for start in range(0, n, batch_size):
        x0 = noise[start : start + batch_size].to(device)
        v: VelocityField = model
        if labels is not None:
            given = labels[start : start + batch_size].to(device)
            v = guided(conditioned(model, given), model, scale)
        drawn.append(to_uint8(sample(v, x0, method=method, steps=steps)).cpu())
    return torch.cat(drawn)


def picture_grid(pictures: Tensor, columns: int, *, gap: int = 1) -> Tensor:
    """Lay pictures out in rows, white where none is left.

    Args:
        pictures: uint8 `[n c h w]`.
        columns: Number of pictures in a row.
        gap: White pixels between two of them.

    Returns:
        One picture, uint8 `[c H W]`.

    Raises:
        ValueError: If there is no picture, or `columns` is below 1.

    Chapter: images
    """
    if len(pictures) == 0 or columns < 1:
        raise ValueError(f"a grid needs pictures and columns, but {len(pictures)}, {columns} came")
    n, c, h, w = pictures.shape
    rows = -(-n // columns)
    cells = pictures.new_full((rows * columns, c, h + gap, w + gap), 255)
    cells[:n, :, :h, :w] = pictures
    grid = rearrange(cells, "(r k) c h w -> c (r h) (k w)", k=columns)
    return grid[:, : grid.shape[1] - gap, : grid.shape[2] - gap]


def save_png(path: str | Path, picture: Tensor, *, zoom: int = 1) -> None:
    """Write a picture, uint8 `[c h w]` with 1 or 3 channels, to a PNG file.

    Args:
        path: The file.
        picture: The picture.
        zoom: Side of the square that a pixel becomes.

    Chapter: images
    """
    pixels = rearrange(picture.cpu(), "c h w -> h w c").squeeze(2).numpy()
    image = Image.fromarray(pixels)
    if zoom > 1:
        image = image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())

"""From a network to pictures: sampling with labels and guidance, grids, PNG files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from fmtutor.flow_maps import jump
from fmtutor.guidance import conditioned, guided, interval
from fmtutor.images.checkpoint import write_atomically
from fmtutor.images.data import to_uint8
from fmtutor.images.objectives import JUMP, velocity_of
from fmtutor.networks import PictureNetwork, TwoTimes
from fmtutor.notation import Field
from fmtutor.solvers import sample, shifted_grid

__all__ = [
    "check_jumps", "draw_pictures", "flow", "guided_field", "picture_grid", "save_png",
    "shown_classes",
]  # fmt: skip


def draw_pictures(
    model: PictureNetwork,
    labels: Tensor | None,
    *,
    count: int | None = None,
    scale: float = 1.0,
    within: tuple[float, float] = (0.0, 1.0),
    rescale: float = 0.0,
    guide: PictureNetwork | None = None,
    method: str | None = None,
    steps: int | None = None,
    shift: float = 1.0,
    seed: int = 0,
    batch_size: int = 256,
    decode: Callable[[Tensor], Tensor] = to_uint8,
) -> Tensor:
    """Draw noise and let the flow carry it to pictures.

    The noise of a picture depends on the seed and on its number in the row alone, not on the
    device or the batch size.

    Args:
        model: The network.
        labels: A label for each picture, int64 `[n]`; None draws without labels.
        count: Number of pictures, where there are no labels to tell.
        scale: Guidance scale; 1 is plain conditional sampling.
        within: The first and the last time of the interval in which pictures are guided.
        rescale: Share of a guided velocity that gets the deviation of the conditional one.
        guide: A weaker network to be guided away from; None takes the network without labels.
        method: A solver of `fmtutor.solvers.sample`, of a network that jumps for its velocity
            u(x, t, t); or `JUMP`, which evaluates such a network once a step. None is `JUMP` where
            the network has learned that, else midpoint.
        steps: Its number of steps; None is 1 jump, or 25.
        shift: By how much their times are shifted: above 1 steps are shorter at the noise.
        seed: Seed of the noise.
        batch_size: Number of pictures that the network sees at a time.
        decode: Makes pictures, uint8, of the flow's ends: `decoder_of` for a network of latents.

    Returns:
        Pictures, uint8 `[n c h w]`, on the CPU.

    Raises:
        ValueError: If neither labels nor a count came, labels that a network does not know,
            guidance without labels or another network, or that has other pictures; if jumps are
            asked of a velocity field, or are to be guided.

    Chapter: images
    """
    n = len(labels) if labels is not None else count or 0
    if n < 1:
        raise ValueError(f"there must be at least 1 picture to draw, but {n} came")
    if labels is None and scale != 1 and guide is None:
        raise ValueError(f"guidance {scale} came without labels to guide to")
    method = method or (JUMP if isinstance(model, TwoTimes) else "midpoint")
    steps = (1 if method == JUMP else 25) if steps is None else steps
    if method == JUMP:
        check_jumps(model, scale, guide)
    shape = (model.config.channels, model.config.size, model.config.size)
    noise = torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))
    device = next(model.parameters()).device
    drawn = []
    for rows in torch.split(torch.arange(n), batch_size):
        y = None if labels is None else labels[rows].to(device)
        x0 = noise[rows].to(device)
        if method == JUMP:
            x1 = decode(jump(model, x0, shifted_grid(steps, shift), cond=() if y is None else y))
        else:
            v = guided_field(model, y, scale, within=within, rescale=rescale, guide=guide)
            x1 = flow(v, x0, method=method, steps=steps, shift=shift, decode=decode)
        drawn.append(x1.cpu())
    return torch.cat(drawn)


def check_jumps(model: PictureNetwork, scale: float, guide: PictureNetwork | None) -> None:
    """Refuse to let a velocity field jump, and to guide jumps.

    Chapter: few_steps
    """
    if not isinstance(model, TwoTimes):
        raise ValueError(
            "only a network that was trained to jump can jump (fmtutor train --objective ...), "
            "but a velocity field came: give it steps of a solver"
        )
    if scale != 1 or guide is not None:
        raise ValueError(
            f"guidance {scale:g} came with jumps, but two jumps mixed are no jump of the guided "
            "field: guide the velocity, by steps of a solver"
        )


def guided_field(
    model: PictureNetwork,
    labels: Tensor | None,
    scale: float,
    *,
    within: tuple[float, float] = (0.0, 1.0),
    rescale: float = 0.0,
    guide: PictureNetwork | None = None,
) -> Field:
    """Return the field that carries noise to pictures of labels, guided as `draw_pictures` says.

    Chapter: images
    """
    if guide is not None and (guide.config.channels, guide.config.size, guide.classes) != (
        model.config.channels, model.config.size, model.classes,
    ):  # fmt: skip
        raise ValueError(f"the guide has the network {guide.config}, but {model.config} is guided")
    v = velocity_of(model)
    other = v if guide is None else velocity_of(guide)
    if labels is not None:
        # A guide is asked for the same label, the network itself for none.
        other = v if guide is None else conditioned(other, labels)
        v = conditioned(v, labels)
    weight = scale if scale == 1 or within == (0, 1) else interval(scale, *within)
    return guided(v, other, weight, rescale=rescale)


def flow(
    v: Field,
    x0: Tensor,
    *,
    method: str,
    steps: int,
    shift: float = 1.0,
    decode: Callable[[Tensor], Tensor] = to_uint8,
) -> Tensor:
    """Return the pictures, uint8 `[b c h w]`, to which a field carries noise, on its device."""
    if shift == 1:
        return decode(sample(v, x0, method=method, steps=steps))
    return decode(sample(v, x0, method=method, times=shifted_grid(steps, shift)))


def shown_classes(classes: int, *, most: int = 10) -> Tensor:
    """Return the labels of a grid: all of them, or as many as it has columns, evenly chosen."""
    columns = min(classes, most)
    return torch.arange(columns) * classes // max(1, columns)


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

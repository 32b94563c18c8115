"""Pictures of one's own, in one folder a class: decoded, cut, scaled, counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fmtutor.images.data import ImageData

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["read_folder"]

GREY = ("1", "L", "LA", "La")
COLOURS = ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")


def read_folder(folder: Path, size: int, flip: bool, channels: int = 0) -> ImageData:
    """Read the pictures of a folder, in one folder a class.

    Every tenth picture of a class, by the order of the names, is kept from training.

    Args:
        folder: The folder.
        size: Side to which the middle square of each picture is scaled.
        flip: Whether pictures may be mirrored.
        channels: 1 for grey, 3 for colours; 0 takes one channel if all pictures are grey.

    Raises:
        ValueError: If there are no classes, a class has less than two pictures, or a picture
            cannot be read, or has values whose range its file does not tell.
    """
    from PIL import Image

    known = Image.registered_extensions()
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    train: list[tuple[Path, int]] = []
    test: list[tuple[Path, int]] = []
    for label, name in enumerate(classes):
        paths = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in known)
        if len(paths) < 2:
            raise ValueError(f"{folder / name} has {len(paths)} pictures, but a class needs two")
        for k, path in enumerate(paths):
            (test if k % 10 == 1 else train).append((path, label))
    if not classes:
        raise ValueError(f"{folder} has no folders: pictures go into {folder}/CLASS/")
    read = [
        [_picture(path, size, channels) for path, _ in tqdm(part, desc=desc, disable=None)]
        for part, desc in ((train, "read train"), (test, "read test"))
    ]
    most = max(len(picture) for part in read for picture in part)
    pixels = [torch.stack([p.expand(most, -1, -1) for p in part]) for part in read]
    labels = [torch.tensor([label for _, label in part]) for part in (train, test)]
    return ImageData(folder.name, pixels[0], labels[0], pixels[1], labels[1], tuple(classes), flip)


def _picture(path: Path, size: int, channels: int) -> Tensor:
    """Read a picture upright, cut to its middle square and scaled, `[c size size]`."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            plain = _eight_bits(ImageOps.exif_transpose(image), path)
            if channels:
                plain = plain.convert("L" if channels == 1 else "RGB")
            small = ImageOps.fit(plain, (size, size), Image.Resampling.LANCZOS)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error
    pixels = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
    return pixels.view(size, size, -1).permute(2, 0, 1).contiguous()


def _eight_bits(image: Image, path: Path) -> Image:
    """Return a picture in mode L or RGB; what is transparent is laid on white."""
    from PIL import Image as pillow

    if image.mode.startswith("I;16"):  # 65,535 is white: Pillow would take all above 255 for it
        import numpy as np

        levels = np.asarray(image).astype(np.float64) / 257
        return pillow.fromarray(levels.round().astype(np.uint8))
    if image.mode not in GREY + COLOURS:
        raise ValueError(
            f"{path} has the mode {image.mode}, whose black and white are not known: "
            "save it with 8 or 16 bits a channel"
        )
    if image.has_transparency_data:
        over = image.convert("RGBA")
        opaque = pillow.alpha_composite(pillow.new("RGBA", over.size, "white"), over)
    else:
        opaque = image
    return opaque.convert("L" if image.mode in GREY else "RGB")

"""Pictures of one's own, in one folder a class: decoded, cut, scaled, counted.

What a file holds becomes 8 bits a channel, of one channel or three, and a square:

- An oblong picture is turned upright, as its EXIF data say, cut to the square in its middle, and
  scaled to the size that is asked for.
- Grey of 16 bits is scaled to 8, so that 65,535 is white. Of colours with 16 bits a channel the
  upper eight are kept.
- What is transparent is laid on white.
- A folder whose pictures are all grey has one channel. Else each grey picture becomes one in
  colours with three equal channels. Either can be asked for.
- Of several pictures in one file the first one is taken.
- A picture of floating-point numbers or of 32-bit integers is refused: nothing in its file says
  what its black and white are. So is one that cannot be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fmtutor.images.checkpoint import sha256_of
from fmtutor.images.data import ImageData

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Folder", "list_folder", "read_folder", "read_pictures"]

GREY = ("1", "L", "LA", "La")
COLOURS = ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")


@dataclass(frozen=True)
class Folder:
    """The pictures of a folder, before they are decoded.

    Attributes:
        path: The folder.
        classes: The names of its classes, one folder each.
        train: Files to train with, and their labels.
        test: Files that are kept from training, and their labels.
        size: Side to which the middle square of each picture is scaled.
        channels: Channels of the decoded pictures, 1 or 3.
    """

    path: Path
    classes: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]
    size: int
    channels: int

    def labels(self, part: str) -> Tensor:
        """Return the labels of a part, "train" or "test", int64 `[n]`."""
        return torch.tensor([label for _, label in getattr(self, part)])

    def sha256(self) -> str:
        """Return a hash of the names and lengths of all files: other files have another one."""
        listed = [(p.relative_to(self.path).as_posix(), p.stat().st_size) for p, _ in self._all()]
        return sha256_of(repr(listed).encode())

    def _all(self) -> tuple[tuple[Path, int], ...]:
        return self.train + self.test


def list_folder(folder: Path, size: int, channels: int = 0) -> Folder:
    """Return what pictures there are in a folder, in one folder a class; none is decoded.

    Every tenth picture of a class, by the order of the names, is kept from training.

    Args:
        folder: The folder.
        size: Side to which the middle square of each picture is to be scaled.
        channels: 1 for grey, 3 for colours; 0 takes one channel if all pictures are grey, which
            the beginnings of their files say.

    Raises:
        ValueError: If there are no classes, a class has less than two pictures, or a picture
            cannot be opened.
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
    if channels == 0:
        bar = tqdm(train + test, desc="look for colours", leave=False, disable=None)
        channels = 3 if any(_in_colours(path) for path, _ in bar) else 1
    return Folder(folder, tuple(classes), tuple(train), tuple(test), size, channels)


def read_pictures(folder: Folder, part: str, start: int, stop: int) -> Tensor:
    """Decode some pictures of a folder, those from `start` to `stop` − 1 of a part.

    Args:
        folder: The folder, as `list_folder` gives it.
        part: "train" or "test".
        start: Number of the first picture.
        stop: Number after that of the last one.

    Returns:
        Pictures, uint8 `[stop − start c size size]`.

    Raises:
        ValueError: If a picture cannot be read, or has values whose range its file does not tell.
    """
    chosen = getattr(folder, part)[start:stop]
    return torch.stack([_picture(path, folder.size, folder.channels) for path, _ in chosen])


def read_folder(folder: Path, size: int, flip: bool, channels: int = 0) -> ImageData:
    """Read the pictures of a folder into memory.

    Args:
        folder: The folder.
        size: Side to which the middle square of each picture is scaled.
        flip: Whether pictures may be mirrored.
        channels: 1 for grey, 3 for colours; 0 takes one channel if all pictures are grey.

    Raises:
        ValueError: As in `list_folder` and `read_pictures`.
    """
    found = list_folder(folder, size, channels)
    pixels = {}
    for part in ("train", "test"):
        n = len(getattr(found, part))
        pixels[part] = torch.empty(n, found.channels, size, size, dtype=torch.uint8)
        for k in tqdm(range(n), desc=f"read {part}", disable=None):
            pixels[part][k] = read_pictures(found, part, k, k + 1)[0]
    return ImageData(
        folder.name, pixels["train"], found.labels("train"), pixels["test"], found.labels("test"),
        found.classes, flip,
    )  # fmt: skip


def _in_colours(path: Path) -> bool:
    """Whether a picture is not grey, by the beginning of its file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.mode not in GREY and not image.mode.startswith("I;16")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error


def _picture(path: Path, size: int, channels: int) -> Tensor:
    """Read a picture upright, cut to its middle square and scaled, `[channels size size]`."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            plain = _eight_bits(ImageOps.exif_transpose(image), path)
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

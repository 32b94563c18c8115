"""Data sets of pictures, checked as they are read: pixels as uint8, labels as int64."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["ImageData", "load_images", "to_float", "to_uint8"]


@dataclass(frozen=True)
class ImageData:
    """Labelled pictures in memory.

    Attributes:
        name: What the data set is called.
        train: Pictures to train with, uint8 `[n c h w]`.
        train_labels: Their labels, int64 `[n]`, in {0, ..., len(classes) − 1}.
        test: Pictures that are kept from training, uint8 `[m c h w]`.
        test_labels: Their labels, int64 `[m]`.
        classes: The names of the labels.
        flip: Whether a mirrored picture is as good as the picture itself.

    Chapter: images
    """

    name: str
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    flip: bool


def to_float(pixels: Tensor) -> Tensor:
    """Map pixels 0, ..., 255 of dtype uint8 to [−1, 1], float32, in the same shape."""
    return pixels.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Map [−1, 1] to the nearest pixels 0, ..., 255; what lies outside is clamped."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def load_images(name: str, *, data_dir: str | Path | None = None) -> ImageData:
    """Load a data set.

    Args:
        name: Its name.
        data_dir: A directory with its files.

    Returns:
        The data set.

    Chapter: images
    """
    if name == "digits":
        return _digits()
    return _fashion_mnist(Path(data_dir or "/usr/share/datasets/fashion-mnist"))


def _digits() -> ImageData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(digits.images).unsqueeze(1)  # 0, ..., 16
    pixels = (pixels * (255 / 16)).round().to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()
    return ImageData(
        "digits", pixels[:-300], labels[:-300], pixels[-300:], labels[-300:],
        tuple("0123456789"), flip=False,
    )  # fmt: skip


def _fashion_mnist(folder: Path) -> ImageData:
    def read(name: str, header: int, shape: tuple[int, ...]) -> Tensor:
        content = gzip.decompress((folder / name).read_bytes())[header:]
        return torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(shape)

    classes = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
    return ImageData(
        "fashion-mnist",
        read("train-images-idx3-ubyte.gz", 16, (-1, 1, 28, 28)),
        read("train-labels-idx1-ubyte.gz", 8, (-1,)).long(),
        read("t10k-images-idx3-ubyte.gz", 16, (-1, 1, 28, 28)),
        read("t10k-labels-idx1-ubyte.gz", 8, (-1,)).long(),
        classes,
        flip=False,
    )

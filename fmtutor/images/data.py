"""Labelled pictures in memory: what a data set is to the trainer and to the evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import as_generator, check_labels

__all__ = ["ImageData", "balanced", "check_images", "to_float", "to_uint8"]


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
        autoencoder: What made latents of the pictures: its file and SHA-256; None for pixels. With
            one, `train` and `test` are float32, of any number of channels.

    Chapter: images
    """

    name: str
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    flip: bool
    autoencoder: Mapping[str, str] | None = None


def check_images(data: ImageData) -> None:
    """Refuse pictures that are not uint8 `[n c s s]`, and labels that do not fit them.

    Raises:
        TypeError: If pictures are not uint8, latents not float32, or labels not int64.
        ValueError: If a shape does not fit, or a label is out of range.

    Chapter: images
    """
    parts = {"train": (data.train, data.train_labels), "test": (data.test, data.test_labels)}
    for name, (pixels, labels) in parts.items():
        if data.autoencoder is None and pixels.dtype != torch.uint8:
            raise TypeError(
                f"{name} must be pixels 0, ..., 255 of dtype uint8, but {pixels.dtype} came"
            )
        if data.autoencoder is not None and pixels.dtype != torch.float32:
            raise TypeError(f"{name} must be latents of dtype float32, but {pixels.dtype} came")
        if pixels.ndim != 4 or pixels.numel() == 0 or pixels.shape[1:] != data.train.shape[1:]:
            raise ValueError(f"{name} must be pictures [n c h w], but {[*pixels.shape]} came")
        if pixels.shape[2] != pixels.shape[3]:
            raise ValueError(
                f"{name} must be square pictures, but their height and width are "
                f"{pixels.shape[2]} and {pixels.shape[3]}: cut them"
            )
        check_labels(labels, len(pixels), len(data.classes))


def to_float(pixels: Tensor) -> Tensor:
    """Map pixels 0, ..., 255 of dtype uint8 to [−1, 1], float32, in the same shape."""
    return pixels.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Map [−1, 1] to the nearest pixels 0, ..., 255; what lies outside is clamped."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def balanced(labels: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """Return `count` row numbers, as many of each label as there can be, chosen at random.

    Args:
        labels: Labels `[n]`.
        count: Number of rows, at most n.
        seed: Seed of the choice.

    Returns:
        Row numbers `[count]`, each once.

    Raises:
        ValueError: If there are fewer rows.

    Chapter: images
    """
    if not 1 <= count <= len(labels):
        raise ValueError(f"count must lie in [1, {len(labels)}], but {count} came")
    order = torch.randperm(len(labels), generator=as_generator(seed))
    # The how manieth of its label each row is: the first ones of all labels come first.
    rank = torch.empty_like(order)
    for label in torch.unique(labels):
        own = (labels[order] == label).nonzero()[:, 0]
        rank[own] = torch.arange(len(own))
    return order[rank.argsort(stable=True)[:count]]

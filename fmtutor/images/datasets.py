"""Data sets of pictures, checked as they are read: pixels as uint8, labels as int64.

They are small enough to lie in memory whole, and to be sent to a GPU once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from fmtutor.images.data import ImageData, to_float, to_uint8
from fmtutor.images.folder import read_folder
from fmtutor.images.published import cifar10, fashion_mnist, read_idx

__all__ = [
    "ImageData",
    "load_images",
    "read_idx",
    "to_float",
    "to_uint8",
]


def load_images(
    name: str,
    *,
    data_dir: str | Path | None = None,
    size: int = 32,
    flip: bool = False,
    channels: int = 0,
) -> ImageData:
    """Load a data set, from a directory or, once, from where it is published.

    Without a directory the digits come with scikit-learn, Fashion-MNIST from Debian's package
    where it is installed, and else from the cache of the user, to which it is downloaded.

    Args:
        name: "digits" (8 × 8), "fashion-mnist" (28 × 28), "cifar10" (32 × 32, colours), or "folder"
            for pictures in `data_dir`, in one folder a class.
        data_dir: A directory with the files as published (the IDX files may be unpacked); they are
            used as they are, and nothing is downloaded.
        size: Side to which the middle square of a folder's pictures is scaled.
        flip: Whether pictures may be mirrored; those of CIFAR-10 always may.
        channels: Channels of a folder's pictures: 1 grey, 3 colours, 0 for grey if all are grey.
            What is transparent is laid on white.

    Returns:
        The data set.

    Raises:
        FileNotFoundError: If a file is not in `data_dir`.
        OSError: If a download fails on all mirrors.
        ValueError: If there is no such data set, a directory comes for the digits, or a file is not
            what it should be: the error names it and the hash that was expected.

    Reference: xiao2017, krizhevsky2009
    Chapter: images
    """
    folder = None if data_dir is None else Path(data_dir)
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"there is no directory {folder}")
    if name == "digits":
        if folder is not None:
            raise ValueError(
                f"the digits come with scikit-learn: {folder} would not be looked at. "
                "Name the data set of the directory, folder for pictures of your own"
            )
        return replace(_digits(), flip=flip)
    if name == "fashion-mnist":
        return replace(fashion_mnist(folder), flip=flip)
    if name == "cifar10":
        return cifar10(folder)
    if name == "folder":
        if folder is None:
            raise ValueError("pictures of a folder: give its data_dir")
        return read_folder(folder, size, flip, channels)
    raise ValueError(f"{name!r} is none of the data sets digits, fashion-mnist, cifar10, folder")


def _digits() -> ImageData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(digits.images).unsqueeze(1)  # [n 1 8 8], 0, ..., 16
    pixels = (pixels * (255 / 16)).round().to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()
    return ImageData(
        "digits", pixels[:-300], labels[:-300], pixels[-300:], labels[-300:],
        tuple("0123456789"), flip=False,
    )  # fmt: skip

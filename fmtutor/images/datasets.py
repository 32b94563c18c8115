"""Data sets of pictures, checked as they are read: pixels as uint8, labels as int64.

All but the packed ones are read into memory whole. A packed one, which `fmtutor pack` makes of any
other, is mapped, and may be larger than that.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from fmtutor.images.data import ImageData, to_float, to_uint8
from fmtutor.images.folder import read_folder
from fmtutor.images.packed import load_packed
from fmtutor.images.published import cifar10, fashion_mnist, read_idx

__all__ = [
    "ImageData",
    "find_directory",
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
        name: "digits" (8 × 8), "fashion-mnist" (28 × 28), "cifar10" (32 × 32, colours), "folder"
            for pictures in `data_dir`, in one folder a class, or "packed" for a packed set there.
        data_dir: A directory with the files as published (the IDX files may be unpacked); they are
            used as they are, and nothing is downloaded.
        size: Side to which the middle square of a folder's pictures is scaled.
        flip: Whether pictures may be mirrored; those of CIFAR-10 always may, and packed ones if
            they were packed with it.
        channels: Channels of a folder's pictures: 1 grey, 3 colours, 0 for grey if all are grey.
            What is transparent is laid on white; 16 bits become 8.

    Returns:
        The data set.

    Raises:
        FileNotFoundError: If a file is not in `data_dir`, or a packed set is unfinished.
        OSError: If a download fails on all mirrors.
        ValueError: If there is no such data set, a directory comes for the digits, a setting comes
            that the data set does not follow, or a file is not what it should be: the error names
            it and the hash that was expected.

    Reference: xiao2017, krizhevsky2009
    Chapter: images
    """
    data = _load(name, data_dir, size, flip, channels)
    _, own_channels, _, own_size = data.train.shape
    for what, asked, default, own in (
        ("size", size, 32, own_size), ("channels", channels, 0, own_channels),
    ):  # fmt: skip
        if name != "folder" and asked not in (default, own):
            raise ValueError(f"{what} {asked} came, but {name} has {what} {own} of its own")
    if flip and not data.flip:
        raise ValueError(
            f"flip came, but what is in {data_dir} was packed without: say it to fmtutor pack"
        )
    return data


def _load(
    name: str, data_dir: str | Path | None, size: int, flip: bool, channels: int
) -> ImageData:
    """Load a data set, which follows those settings that it has."""
    folder = None if data_dir is None else find_directory(name, data_dir)
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
        return read_folder(find_directory(name, folder), size, flip, channels)
    if name == "packed":
        return load_packed(find_directory(name, folder))
    raise ValueError(
        f"{name!r} is none of the data sets digits, fashion-mnist, cifar10, folder, packed"
    )


def find_directory(name: str, data_dir: str | Path | None) -> Path:
    """Return the directory of a data set that cannot be without one.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If none came.

    Chapter: images
    """
    if data_dir is None:
        which = "a packed set" if name == "packed" else "pictures of a folder"
        raise ValueError(f"{which}: give its data_dir")
    if not Path(data_dir).is_dir():
        raise FileNotFoundError(f"there is no directory {data_dir}")
    return Path(data_dir)


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

"""Data sets of pictures, checked as they are read: pixels as uint8, labels as int64.

They are small enough to lie in memory whole, and to be sent to a GPU once.
"""

from __future__ import annotations

import io
import math
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fmtutor.images.download import RemoteFile, find_file, read_checked, read_gzip

__all__ = [
    "CIFAR10",
    "FASHION_MNIST",
    "ImageData",
    "load_images",
    "read_idx",
    "to_float",
    "to_uint8",
]


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


FASHION_MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
FASHION_MNIST = {
    RemoteFile(
        "train-images-idx3-ubyte.gz",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        FASHION_MIRRORS,
    ): "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    RemoteFile(
        "train-labels-idx1-ubyte.gz",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        FASHION_MIRRORS,
    ): "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    RemoteFile(
        "t10k-images-idx3-ubyte.gz",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        FASHION_MIRRORS,
    ): "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    RemoteFile(
        "t10k-labels-idx1-ubyte.gz",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        FASHION_MIRRORS,
    ): "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""The files of Fashion-MNIST, in the order of `ImageData`, each with the hash of its content."""

CIFAR10 = RemoteFile(
    "cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
)
"""The binary version of CIFAR-10: a label and 3 · 32 · 32 pixels a record, no pickle."""

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer",
    "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def to_float(pixels: Tensor) -> Tensor:
    """Map pixels 0, ..., 255 of dtype uint8 to [−1, 1], float32, in the same shape."""
    return pixels.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Map [−1, 1] to the nearest pixels 0, ..., 255; what lies outside is clamped."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def load_images(
    name: str, *, data_dir: str | Path | None = None, size: int = 32, flip: bool = False
) -> ImageData:
    """Load a data set, from a directory or, once, from where it is published.

    Without a directory the digits come with scikit-learn, Fashion-MNIST from Debian's package
    where it is installed, and else from the cache of the user, to which it is downloaded.

    Args:
        name: "digits" (8 × 8), "fashion-mnist" (28 × 28), "cifar10" (32 × 32, colours), or "folder"
            for pictures in `data_dir`, in one folder a class.
        data_dir: A directory with the files as published (the IDX files may be unpacked); they are
            used as they are, and nothing is downloaded.
        size: Side to which the pictures of a folder are cut and scaled.
        flip: Whether the pictures of a folder may be mirrored.

    Returns:
        The data set.

    Raises:
        FileNotFoundError: If a file is not in `data_dir`.
        OSError: If a download fails on all mirrors.
        ValueError: If there is no such data set, or a file is not what it should be: the error
            names it and the hash that was expected.

    Reference: xiao2017, krizhevsky2009
    Chapter: images
    """
    folder = None if data_dir is None else Path(data_dir)
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"there is no directory {folder}")
    if name == "digits":
        return _digits()
    if name == "fashion-mnist":
        return _fashion_mnist(folder)
    if name == "cifar10":
        return _cifar10(folder)
    if name == "folder":
        if folder is None:
            raise ValueError("pictures of a folder: give its data_dir")
        return _folder(folder, size, flip)
    raise ValueError(f"{name!r} is none of the data sets digits, fashion-mnist, cifar10, folder")


def read_idx(content: bytes, name: str) -> Tensor:
    """Read an IDX file of bytes: two zeros, type 8, the number of axes, their lengths, the bytes.

    Args:
        content: What is in the file.
        name: Its name, for errors.

    Returns:
        The values, uint8, in the shape that the file tells.

    Raises:
        ValueError: If the content is of another kind, or its length is not what its head says.

    Chapter: images
    """
    axes = content[3] if len(content) > 3 else 0
    if content[:3] != b"\0\0\x08" or not 1 <= axes <= 4 or len(content) < 4 + 4 * axes:
        raise ValueError(f"{name} is no IDX file of bytes: it begins with {content[:4].hex()!r}")
    shape = struct.unpack_from(f">{axes}I", content, 4)
    if len(content) != 4 + 4 * axes + math.prod(shape):
        raise ValueError(
            f"{name} says that its shape is {[*shape]}, but it is {len(content)} bytes long"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * axes).view(shape)


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


def _fashion_mnist(folder: Path | None) -> ImageData:
    """Not mirrored: the shoes all point to the left."""
    if folder is None and all((DEBIAN / file.name).is_file() for file in FASHION_MNIST):
        folder = DEBIAN
    train, train_labels, test, test_labels = (
        read_idx(read_gzip(find_file(file, folder), content), file.name)
        for file, content in FASHION_MNIST.items()
    )
    return ImageData(
        "fashion-mnist",
        train.unsqueeze(1),
        train_labels.long(),
        test.unsqueeze(1),
        test_labels.long(),
        GARMENTS,
        flip=False,
    )


def _cifar10(folder: Path | None) -> ImageData:
    packed = read_checked(find_file(CIFAR10, folder), CIFAR10.sha256)
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        names = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
        files = [archive.extractfile(f"cifar-10-batches-bin/{name}.bin") for name in names]
        records = [file.read() for file in files if file is not None]
    *batches, test = (
        torch.frombuffer(bytearray(batch), dtype=torch.uint8).view(-1, 1 + 3 * 32 * 32)
        for batch in records
    )
    train = torch.cat(batches)
    return ImageData(
        "cifar10",
        train[:, 1:].reshape(-1, 3, 32, 32).contiguous(),
        train[:, 0].long(),
        test[:, 1:].reshape(-1, 3, 32, 32).contiguous(),
        test[:, 0].long(),
        CIFAR_CLASSES,
        flip=True,
    )


def _folder(folder: Path, size: int, flip: bool) -> ImageData:
    """Every tenth picture of a class, by the order of the names, is kept from training."""
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
    pixels = [
        torch.stack([_picture(path, size) for path, _ in tqdm(part, desc=desc, disable=None)])
        for part, desc in ((train, "read train"), (test, "read test"))
    ]
    labels = [torch.tensor([label for _, label in part]) for part in (train, test)]
    return ImageData(folder.name, pixels[0], labels[0], pixels[1], labels[1], tuple(classes), flip)


def _picture(path: Path, size: int) -> Tensor:
    """Read a picture upright, cut to its middle square and scaled, `[3 size size]`."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            small = ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error
    pixels = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
    return pixels.view(size, size, 3).permute(2, 0, 1).contiguous()

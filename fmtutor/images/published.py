"""Fashion-MNIST and CIFAR-10 as they are published, checked as they are read."""

from __future__ import annotations

import io
import math
import struct
import tarfile
from pathlib import Path

import torch
from torch import Tensor

from fmtutor.images.data import ImageData
from fmtutor.images.download import RemoteFile, find_file, read_checked, read_gzip

__all__ = ["CIFAR10", "FASHION_MNIST", "cifar10", "fashion_mnist", "read_idx"]

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


def fashion_mnist(folder: Path | None) -> ImageData:
    """Read Fashion-MNIST; it is not mirrored: the shoes all point to the left."""
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


def cifar10(folder: Path | None) -> ImageData:
    """Read CIFAR-10."""
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

"""What a packed data set says of itself, in its manifest."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmtutor.images.checkpoint import sha256_of

__all__ = ["DTYPES", "MANIFEST", "PARTS", "UNFINISHED", "Manifest", "read_manifest"]

FORMAT = "fmtutor.packed 1"
MANIFEST = "manifest.json"
"""The file that makes a directory a packed set."""

UNFINISHED = "unfinished.jsonl"
"""The file in its place as long as a set is being packed."""

PARTS = ("train", "test")
"""The parts of a set."""

DTYPES = {"uint8": "u1", "float16": "<f2", "float32": "<f4"}
"""What numbers there may be, and how they lie in a file."""


@dataclass(frozen=True)
class Manifest:
    """What describes a packed set; `fmtutor.images.packed` says what the fields mean.

    Attributes:
        name: What the data set is called.
        classes: The names of the labels.
        flip: Whether the pictures may be mirrored.
        autoencoder: What made the latents; None for pictures.
        dtype: uint8 for pictures, float16 or float32 for latents.
        shape: Channels, height, width.
        chunk: Pictures that one hash covers.
        files: Rows and hashes of each file.
        about: What else the writer has said.
    """

    name: str
    classes: tuple[str, ...]
    flip: bool
    autoencoder: Mapping[str, str] | None
    dtype: str
    shape: tuple[int, ...]
    chunk: int
    files: Mapping[str, Mapping[str, Any]]
    about: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """What the set is known by: other pictures, labels or names have another one."""
        return sha256_of(json.dumps(asdict(self), sort_keys=True).encode())

    def row_bytes(self, file: str) -> int:
        """Return the length of a row of a file."""
        numbers = np.dtype(DTYPES[self.dtype]).itemsize * math.prod(self.shape)
        return 8 if file.endswith("-labels.bin") else numbers

    def chunk_rows(self, file: str) -> int:
        """Return how many rows of a file one hash covers."""
        rows: int = self.files[file]["rows"]
        return rows if file.endswith("-labels.bin") else self.chunk

    def as_bytes(self) -> bytes:
        """Return the content of the file."""
        content = {"format": FORMAT, **asdict(self), "sha256": self.sha256}
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def read_manifest(folder: Path) -> Manifest:
    """Read what a packed set says of itself.

    Raises:
        FileNotFoundError: If there is no manifest: the set is unfinished, or there is none.
        ValueError: If it is damaged, or of another kind or version.

    Chapter: scale
    """
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / UNFINISHED).is_file():
            raise FileNotFoundError(
                f"the packed set in {folder} is unfinished: the command that packs goes on with it"
            )
        raise FileNotFoundError(f"there is no packed set in {folder}: it has no {MANIFEST}")
    content = path.read_bytes()
    try:
        stored = json.loads(content)
        version = stored.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ValueError(f"{path} is damaged, or no manifest: expected was {FORMAT!r}") from None
    if version != FORMAT:
        raise ValueError(f"{path} has the format {version!r}, but {FORMAT!r} was expected")
    expected = stored.pop("sha256", None)
    try:
        stored |= {name: tuple(stored[name]) for name in ("classes", "shape")}
        manifest = Manifest(**stored)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    # Byte by byte: what is written otherwise has been written by something else.
    if manifest.as_bytes() != content:
        raise ValueError(
            f"{path} is damaged: its content has SHA-256 {manifest.sha256}, expected was {expected}"
        )
    return manifest

"""Packed data sets: files that are mapped into memory, so that a step reads its own rows alone.

A packed set is a directory of five files. `fmtutor.images.pack` writes them.

- `train.bin` and `test.bin`: the pictures (uint8) or latents (float16 or float32), one after the
  other, each `[c h w]` in C order, numbers little-endian, nothing before, between or after them.
- `train-labels.bin` and `test-labels.bin`: their labels in the same order, int64, little-endian.
- `manifest.json`, written last: a directory without it is unfinished, or no packed set. One JSON
  object with the keys

  - `format`: "fmtutor.packed 1",
  - `name`, `classes`, `flip`: as in `ImageData`,
  - `autoencoder`: of latents the file and the SHA-256 of what made them, of pictures null,
  - `dtype`, `shape`: the type of a number and the shape `[c, h, w]` of a picture,
  - `chunk`: how many pictures one hash covers,
  - `files`: for each of the four files its number of `rows` and a list of SHA-256: one of all
    labels, or one of each `chunk` pictures, the last ones being fewer,
  - `about`: what else the writer wants to be known,
  - `sha256`: the SHA-256 of the manifest without this key. The set is known by it.

When a set is opened, the manifest, the lengths of all files and the hashes of the labels are
checked. Pictures are not read, so that a terabyte opens at once; `verify_packed` reads them all.
The files are mapped for reading only: who writes into such a tensor ends the process.
"""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from fmtutor.images.checkpoint import sha256_of
from fmtutor.images.data import ImageData
from fmtutor.images.manifest import DTYPES, PARTS, Manifest, read_manifest

__all__ = ["ask_for", "load_packed", "verify_packed"]


def load_packed(folder: Path) -> ImageData:
    """Open a packed set: labels are read, pictures are mapped.

    Args:
        folder: Its directory.

    Returns:
        The data set. Its pictures are read from the files row by row, when they are looked at.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not what the manifest says: the error names it.

    Chapter: scale
    """
    manifest = read_manifest(folder)
    for file in manifest.files:
        _check_length(folder / file, manifest)
    pixels, labels = {}, {}
    for part in PARTS:
        for _ in _check_chunks(folder, f"{part}-labels.bin", manifest):
            pass
        found = np.fromfile(folder / f"{part}-labels.bin", "<i8").astype(np.int64, copy=False)
        labels[part] = torch.from_numpy(found)
        pixels[part] = _mapped(folder / f"{part}.bin", manifest)
    return ImageData(
        manifest.name, pixels["train"], labels["train"], pixels["test"], labels["test"],
        manifest.classes, manifest.flip, manifest.autoencoder, manifest.sha256,
    )  # fmt: skip


def verify_packed(folder: Path, *, progress: bool = True) -> Manifest:
    """Read all of a packed set, and compare it with its hashes.

    Args:
        folder: Its directory.
        progress: Whether to show a progress bar.

    Returns:
        The manifest, where everything is as it says.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not what the manifest says: the error names it and the rows.

    Chapter: scale
    """
    manifest = read_manifest(folder)
    total = sum(_check_length(folder / file, manifest) for file in manifest.files)
    with tqdm(
        desc="verify", total=total, unit="B", unit_scale=True, disable=None if progress else True
    ) as bar:
        for file in manifest.files:
            for length in _check_chunks(folder, file, manifest):
                bar.update(length)
    return manifest


def ask_for(pixels: Tensor, rows: Tensor) -> None:
    """Let the system read rows of a mapped file ahead, all at once; nobody waits for them.

    Args:
        pixels: Rows of a packed set, as `load_packed` gives them; others are left alone.
        rows: Which ones will be looked at, `[b]`.

    Chapter: scale
    """
    mapping = getattr(pixels, "mapping", None)
    if mapping is None or not hasattr(mmap, "MADV_WILLNEED"):  # as on Windows
        return
    length = pixels[0].nbytes
    for row in rows.tolist():
        start = row * length // mmap.PAGESIZE * mmap.PAGESIZE
        mapping.madvise(mmap.MADV_WILLNEED, start, (row + 1) * length - start)


def _check_length(path: Path, manifest: Manifest) -> int:
    """Return the length of a file if it is the one that the manifest says."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path.name} in {path.parent}, a packed set")
    found, rows = path.stat().st_size, manifest.files[path.name]["rows"]
    expected: int = rows * manifest.row_bytes(path.name)
    if found != expected:
        raise ValueError(
            f"{path} is {'truncated' if found < expected else 'another file'}: it has {found} "
            f"bytes, expected were {expected}, {rows} rows of {manifest.row_bytes(path.name)}"
        )
    return expected


def _check_chunks(folder: Path, file: str, manifest: Manifest) -> Iterator[int]:
    """Compare a file with its hashes; yield the length of each chunk that is right."""
    row, rows = manifest.row_bytes(file), manifest.chunk_rows(file)
    with (folder / file).open("rb") as opened:
        for k, expected in enumerate(manifest.files[file]["sha256"]):
            content = opened.read(rows * row)
            if (found := sha256_of(content)) != expected:
                first = k * rows
                raise ValueError(
                    f"{folder / file} is damaged or another file: its rows {first} to "
                    f"{first + len(content) // row - 1} have SHA-256 {found}, expected was "
                    f"{expected}"
                )
            yield len(content)


def _mapped(path: Path, manifest: Manifest) -> Tensor:
    """Return the rows of a file, `[n c h w]`, of which none is read before it is looked at."""
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    rows = np.frombuffer(mapping, DTYPES[manifest.dtype]).reshape(-1, *manifest.shape)
    with warnings.catch_warnings():
        # That one should not write into it. A private copy of each page would allow it, but a
        # mapping of that kind has to fit the memory: torch.from_file makes no other.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        pixels = torch.from_numpy(rows)
    pixels.mapping = mapping  # type: ignore[attr-defined]
    return pixels

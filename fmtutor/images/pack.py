"""Packing: a data set becomes a directory of files that are mapped, whatever its size.

Rows are asked for in chunks, written, pushed to the disk and noted with their hash, so that packing
needs the memory of one chunk, and a process that was killed is followed by one that goes on after
the last chunk noted. The manifest comes last. `fmtutor.images.packed` says what the files are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmtutor.checking import check_labels
from fmtutor.images.checkpoint import load_autoencoder, sha256_of, write_atomically
from fmtutor.images.chunks import Rows, begin_packing, little_endian, write_file
from fmtutor.images.data import ImageData
from fmtutor.images.datasets import find_directory, load_images
from fmtutor.images.folder import list_folder, read_pictures
from fmtutor.images.latents import encode_all, identity
from fmtutor.images.manifest import DTYPES, MANIFEST, PARTS, UNFINISHED, Manifest

__all__ = ["pack_arrays", "pack_images"]

CHUNK_BYTES, CHUNK_ROWS = 1 << 24, 1 << 13


def pack_images(
    out: str | Path,
    name: str,
    *,
    data_dir: str | Path | None = None,
    size: int = 32,
    flip: bool = False,
    channels: int = 0,
    autoencoder: str | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Manifest:
    """Pack a data set of `load_images`; a folder is decoded picture by picture.

    Args:
        out: The directory to write, new or one in which the same packing was interrupted.
        name: The data set, as in `load_images`.
        data_dir: A directory with its files.
        size: Side to which the middle square of a folder's pictures is scaled.
        flip: Whether pictures may be mirrored, as in `load_images`.
        channels: Channels of a folder's pictures: 1 grey, 3 colours, 0 for grey if all are grey.
        autoencoder: File of an autoencoder whose latents, in float16, are packed in the place of
            the pictures.
        device: Where it encodes.
        progress: Whether to show a progress bar.

    Returns:
        What describes the packed set.

    Raises:
        FileExistsError: If there is a packed set in the directory, or something else.
        FileNotFoundError: If there is no such data set.
        OSError: If the disk is too small.
        ValueError: If the data set is none or latents already, or does not follow a setting,
            latents are to be mirrored, or an interrupted packing was one of other data.

    Chapter: scale
    """
    if flip and autoencoder is not None:
        raise ValueError("flip is for pictures: mirrored latents are not those of mirrored ones")
    encode, made_by = _encoder(autoencoder, device)
    labels: Mapping[str, Tensor]
    about = {"data": name}
    if name == "folder":
        folder = list_folder(find_directory(name, data_dir), size, channels)
        labels = {part: folder.labels(part) for part in PARTS}
        about["files"] = folder.sha256()
        known, pictures = folder.path.name, partial(read_pictures, folder)
        classes = folder.classes
    else:
        data = load_images(name, data_dir=data_dir, size=size, flip=flip, channels=channels)
        if data.autoencoder is not None:
            raise ValueError(f"{data_dir} holds packed latents already")
        labels = {"train": data.train_labels, "test": data.test_labels}
        known, pictures = data.name, partial(_rows_of, data)
        classes, flip = data.classes, data.flip

    def rows(part: str, start: int, stop: int) -> Tensor:
        return encode(pictures(part, start, stop))

    return pack_arrays(
        out, rows, labels, name=known, classes=classes, flip=flip and made_by is None,
        autoencoder=made_by, about=about, progress=progress,
    )  # fmt: skip


def pack_arrays(
    out: str | Path,
    rows: Rows,
    labels: Mapping[str, Tensor],
    *,
    name: str,
    classes: tuple[str, ...],
    flip: bool = False,
    autoencoder: Mapping[str, str] | None = None,
    about: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Manifest:
    """Pack pictures, uint8, or latents, float16 or float32, that a function gives.

    Args:
        out: The directory to write, new or one in which the same packing was interrupted.
        rows: Called as `rows(part, start, stop)` it gives the rows `[stop − start c h w]` of
            "train" or "test": chunk by chunk, in order, and after an interruption what is missing.
        labels: The labels of "train" and "test", int64 `[n]` and `[m]`.
        name: What the data set is called.
        classes: The names of the labels.
        flip: Whether pictures may be mirrored; latents may not.
        autoencoder: What made the latents: its file and its SHA-256; None for pictures.
        about: What else is to be known, in types that JSON knows.
        progress: Whether to show a progress bar.

    Returns:
        What describes the packed set.

    Raises:
        FileExistsError: If there is a packed set in the directory, or something else.
        OSError: If the disk is too small.
        TypeError: If rows are of another dtype, or labels not int64.
        ValueError: If rows have another shape or are not finite, labels are out of range, latents
            are to be mirrored or come without an autoencoder, or an interrupted packing was one of
            other data.

    Chapter: scale
    """
    out = Path(out)
    for part in PARTS:
        check_labels(labels[part], len(labels[part]), len(classes))
        if len(labels[part]) == 0:
            raise ValueError(f"there must be at least 1 picture in {part}, but 0 came")
    first = rows("train", 0, 1)
    # Through JSON and back: what is compared and hashed is what a reader will find.
    said = json.loads(json.dumps([autoencoder, about or {}], allow_nan=False))
    manifest = _describe(first, labels, name, classes, flip, *said)
    marks = {part: sha256_of(little_endian(labels[part])) for part in PARTS}
    begin_packing(out, manifest, marks | {"first": sha256_of(little_endian(first))})
    files = {
        file: {**entry, "sha256": write_file(out, file, manifest, rows, labels, progress)}
        for file, entry in manifest.files.items()
    }
    manifest = replace(manifest, files=files)
    write_atomically(out / MANIFEST, manifest.as_bytes())
    (out / UNFINISHED).unlink()
    return manifest


def _describe(
    first: Tensor,
    labels: Mapping[str, Tensor],
    name: str,
    classes: tuple[str, ...],
    flip: bool,
    autoencoder: dict[str, str] | None,
    about: dict[str, Any],
) -> Manifest:
    """Return the manifest of a set before anything is written, by its first row `[1 c h w]`."""
    dtype = str(first.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise TypeError(f"rows must be {', '.join(DTYPES)}, but {first.dtype} came")
    if first.ndim != 4 or first.numel() == 0 or first.shape[2] != first.shape[3]:
        raise ValueError(f"rows must be square pictures [n c s s], but {[*first.shape]} came")
    if (autoencoder is None) != (dtype == "uint8"):
        raise ValueError(
            f"latents come with their autoencoder, pictures without, but {dtype} and "
            f"{autoencoder} came"
        )
    if flip and autoencoder is not None:
        raise ValueError("mirrored latents are not the latents of mirrored pictures: pack those")
    row = first.element_size() * first[0].numel()
    files = {
        file: {"rows": len(labels[part]), "sha256": []}
        for part in PARTS
        for file in (f"{part}-labels.bin", f"{part}.bin")
    }
    shape, chunk = tuple(first.shape[1:]), max(1, min(CHUNK_ROWS, CHUNK_BYTES // row))
    return Manifest(name, classes, flip, autoencoder, dtype, shape, chunk, files, about)


def _encoder(
    file: str | None, device: torch.device | str
) -> tuple[Callable[[Tensor], Tensor], dict[str, str] | None]:
    """Return what is packed of pictures, and what made it: latents in 16 bits, or as they are."""
    if file is None:
        return lambda pictures: pictures, None
    model, _ = load_autoencoder(file, device)
    return lambda pictures: encode_all(model, pictures).half(), identity(file)


def _rows_of(data: ImageData, part: str, start: int, stop: int) -> Tensor:
    pixels: Tensor = getattr(data, part)
    return pixels[start:stop]

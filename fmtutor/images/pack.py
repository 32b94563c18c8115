"""Packing: a data set becomes a directory of files that are mapped, whatever its size.

Rows are asked for in chunks, written, pushed to the disk and noted with their hash, so that packing
needs the memory of one chunk, and a process that was killed is followed by one that goes on after
the last chunk noted. The manifest comes last. `fmtutor.images.packed` says what the files are.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fmtutor.checking import check_labels
from fmtutor.images.checkpoint import sync_directory, write_atomically
from fmtutor.images.data import LATENTS
from fmtutor.images.datasets import find_directory, load_images
from fmtutor.images.folder import list_folder, read_pictures
from fmtutor.images.packed import (
    DTYPES,
    MANIFEST,
    PARTS,
    UNFINISHED,
    Manifest,
    sha256_of,
)  # fmt: skip

__all__ = ["Rows", "pack_arrays", "pack_images"]

CHUNK_BYTES = 1 << 24

Rows = Callable[[str, int, int], Tensor]
"""Gives the rows `[stop − start c h w]` of a part, "train" or "test": called as
`rows(part, start, stop)`, in order, but after an interruption not from the start."""


def pack_images(
    out: str | Path,
    name: str,
    *,
    data_dir: str | Path | None = None,
    size: int = 32,
    flip: bool = False,
    channels: int = 0,
    progress: bool = True,
) -> Manifest:
    """Pack a data set of `load_images`; a folder is decoded picture by picture.

    Args:
        out: The directory to write, new or one in which the same packing was interrupted.
        name: The data set, as in `load_images`.
        data_dir: A directory with its files.
        size: Side to which the middle square of a folder's pictures is scaled.
        flip: Whether the pictures of a folder may be mirrored.
        channels: Channels of a folder's pictures: 1 grey, 3 colours, 0 for grey if all are grey.
        progress: Whether to show a progress bar.

    Returns:
        What describes the packed set.

    Raises:
        FileExistsError: If there is a packed set in the directory, or something else.
        FileNotFoundError: If there is no such data set.
        OSError: If the disk is too small.
        ValueError: If the data set is none, or an interrupted packing was one of other data.

    Chapter: images
    """
    if name != "folder":
        data = load_images(name, data_dir=data_dir)
        return pack_arrays(
            out,
            lambda part, start, stop: getattr(data, part)[start:stop],
            {"train": data.train_labels, "test": data.test_labels},
            name=data.name, classes=data.classes, flip=data.flip, about={"data": name},
            progress=progress,
        )  # fmt: skip
    folder = list_folder(find_directory(name, data_dir), size, channels)
    return pack_arrays(
        out,
        lambda part, start, stop: read_pictures(folder, part, start, stop),
        {part: folder.labels(part) for part in PARTS},
        name=folder.path.name, classes=folder.classes, flip=flip,
        about={"data": name, "files": folder.sha256()}, progress=progress,
    )  # fmt: skip


def pack_arrays(
    out: str | Path,
    rows: Rows,
    labels: Mapping[str, Tensor],
    *,
    name: str,
    classes: tuple[str, ...],
    flip: bool = False,
    about: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Manifest:
    """Pack pictures, uint8, or latents, float16 or float32, that a function gives.

    An autoencoder's latents, for instance, are packed by
    `pack_arrays(out, lambda part, i, j: encode(getattr(data, part)[i:j]), ...)`.

    Args:
        out: The directory to write, new or one in which the same packing was interrupted.
        rows: Gives the rows of a part.
        labels: The labels of "train" and "test", int64 `[n]` and `[m]`.
        name: What the data set is called.
        classes: The names of the labels.
        flip: Whether pictures may be mirrored; latents may not.
        about: What else is to be known, in types that JSON knows.
        progress: Whether to show a progress bar.

    Returns:
        What describes the packed set.

    Raises:
        FileExistsError: If there is a packed set in the directory, or something else.
        OSError: If the disk is too small.
        TypeError: If rows are of another dtype, or labels not int64.
        ValueError: If rows have another shape or are not finite, labels are out of range, latents
            are to be mirrored, or an interrupted packing was one of other data.

    Chapter: images
    """
    out = Path(out)
    for part in PARTS:
        check_labels(labels[part], len(labels[part]), len(classes))
    manifest = _describe(rows("train", 0, 1), labels, name, classes, flip, dict(about or {}))
    _begin(out, manifest, {part: sha256_of(_little_endian(labels[part])) for part in PARTS})
    files = {
        file: {**entry, "sha256": _write_file(out, file, manifest, rows, labels, progress)}
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
    about: dict[str, Any],
) -> Manifest:
    """Return the manifest of a set before anything is written, by its first row `[1 c h w]`."""
    dtype = str(first.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise TypeError(f"rows must be {', '.join(DTYPES)}, but {first.dtype} came")
    if first.ndim != 4 or first.numel() == 0 or first.shape[2] != first.shape[3]:
        raise ValueError(f"rows must be square pictures [n c s s], but {[*first.shape]} came")
    if flip and first.dtype in LATENTS:
        raise ValueError("mirrored latents are not the latents of mirrored pictures: pack those")
    row = first.element_size() * first[0].numel()
    files = {
        file: {"rows": len(labels[part]), "sha256": []}
        for part in PARTS
        for file in (f"{part}-labels.bin", f"{part}.bin")
    }
    shape, chunk = tuple(first.shape[1:]), max(1, CHUNK_BYTES // row)
    # Through JSON and back: what is compared and hashed is what a reader will find.
    about = json.loads(json.dumps(about, allow_nan=False))
    return Manifest(name, classes, flip, dtype, shape, chunk, files, about)


def _begin(out: Path, manifest: Manifest, labels: Mapping[str, str]) -> None:
    """Make the directory that of this packing, new or interrupted, and refuse any other one."""
    note = out / UNFINISHED
    if (out / MANIFEST).exists():
        raise FileExistsError(f"there is a packed set in {out}: choose another directory")
    begins = json.dumps(asdict(manifest) | {"labels": labels}, sort_keys=True)
    if not note.exists():
        if out.exists() and any(out.iterdir()):
            raise FileExistsError(f"{out} is not empty, and no packing was interrupted in it")
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(note, f"{begins}\n".encode())
    lines = note.read_text("utf-8").splitlines(keepends=True)
    if lines[0] != f"{begins}\n":
        raise FileExistsError(
            f"{out} has the beginning of another packing (other data, sizes or labels, see "
            f"{UNFINISHED}): remove it, or choose another directory"
        )
    # A last line that is not whole: the process was killed at it.
    write_atomically(note, "".join(line for line in lines if line[-1] == "\n").encode())
    needed = sum(entry["rows"] * manifest.row_bytes(file) for file, entry in manifest.files.items())
    needed -= sum(path.stat().st_size for path in out.glob("*.bin"))
    if needed > (free := shutil.disk_usage(out).free):
        raise OSError(errno.ENOSPC, f"{needed} bytes are needed, but {free} are free", str(out))


def _write_file(
    out: Path,
    file: str,
    manifest: Manifest,
    rows: Rows,
    labels: Mapping[str, Tensor],
    progress: bool,
) -> list[str]:
    """Write what a file lacks, chunk by chunk, and return the hashes of all its chunks."""
    part, row = file.removesuffix(".bin").removesuffix("-labels"), manifest.row_bytes(file)
    total, hashes = manifest.files[file]["rows"], _noted(out, file)
    done = min(total, len(hashes) * manifest.chunk)
    with (
        tqdm(
            desc=f"pack {file}", total=total, initial=done, unit="rows",
            disable=None if progress else True,
        ) as bar,
        (out / file).open("ab") as opened,
    ):  # fmt: skip
        if opened.tell() < done * row:
            raise ValueError(
                f"{out / file} was changed: it has {opened.tell()} bytes, but {done * row} were "
                f"written. Remove {out}, and pack again"
            )
        opened.truncate(done * row)  # the rest was written, but not noted
        for start in range(done, total, manifest.chunk):
            stop = min(total, start + manifest.chunk)
            if file == f"{part}.bin":
                found = _checked(rows(part, start, stop), manifest, part, start, stop)
            else:
                found = labels[part][start:stop]
            content = _little_endian(found)
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
            hashes.append(sha256_of(content))
            _note(out, file, hashes[-1])
            bar.update(stop - start)
    return hashes


def _checked(found: Tensor, manifest: Manifest, part: str, start: int, stop: int) -> Tensor:
    """Return rows if they are as the first one, and all of them numbers."""
    expected, which = [stop - start, *manifest.shape], f"rows {start} to {stop - 1} of {part}"
    if str(found.dtype) != f"torch.{manifest.dtype}" or [*found.shape] != expected:
        raise ValueError(
            f"{which} must be {manifest.dtype} {expected}, but {found.dtype} {[*found.shape]} came"
        )
    if not bool(torch.isfinite(found).all()):
        raise ValueError(f"{which} are not all finite")
    return found


def _noted(out: Path, file: str) -> list[str]:
    """Return the hashes of the chunks of a file that were written before."""
    _, *lines = (out / UNFINISHED).read_text("utf-8").splitlines()
    return [entry["sha256"] for entry in map(json.loads, lines) if entry["file"] == file]


def _note(out: Path, file: str, sha256: str) -> None:
    """Note that a chunk is on the disk."""
    with (out / UNFINISHED).open("a", encoding="utf-8") as note:
        note.write(json.dumps({"file": file, "sha256": sha256}) + "\n")
        note.flush()
        os.fsync(note.fileno())
    sync_directory(out)


def _little_endian(values: Tensor) -> bytes:
    array = values.detach().cpu().contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()

"""The files of a packed set, written chunk by chunk, with a note of what is on the disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fmtutor.images.checkpoint import sha256_of, sync_directory, write_atomically
from fmtutor.images.manifest import MANIFEST, UNFINISHED, Manifest

__all__ = ["Rows", "begin_packing", "little_endian", "write_file"]

Rows = Callable[[str, int, int], Tensor]
"""Gives the rows `[stop − start c h w]` of a part, "train" or "test": called as
`rows(part, start, stop)`, in order, but after an interruption not from the start."""


def begin_packing(out: Path, manifest: Manifest, marks: Mapping[str, str]) -> None:
    """Make a directory that of a packing, new or interrupted.

    Args:
        out: The directory.
        manifest: What the set will be, still without hashes.
        marks: Hashes that tell it from other sets of that kind.

    Raises:
        FileExistsError: If there is a packed set in it, or the beginning of another, or more.
        OSError: If the disk is too small.
    """
    note = out / UNFINISHED
    if (out / MANIFEST).exists():
        raise FileExistsError(f"there is a packed set in {out}: choose another directory")
    begins = json.dumps(asdict(manifest) | {"marks": marks}, sort_keys=True)
    if not note.exists():
        if out.exists() and any(path.suffix != ".part" for path in out.iterdir()):
            raise FileExistsError(f"{out} is not empty, and no packing was interrupted in it")
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(note, f"{begins}\n".encode())
    lines = note.read_text("utf-8").splitlines(keepends=True)
    if lines[0] != f"{begins}\n":
        raise FileExistsError(
            f"{out} has the beginning of another packing (other data, labels or settings, "
            f"see {UNFINISHED}): remove it, or take another directory"
        )
    # A last line that is not whole: the process was killed at it.
    write_atomically(note, "".join(line for line in lines if line[-1] == "\n").encode())
    needed = sum(entry["rows"] * manifest.row_bytes(file) for file, entry in manifest.files.items())
    needed -= sum(path.stat().st_size for path in out.glob("*.bin"))
    if needed > (free := shutil.disk_usage(out).free):
        raise OSError(errno.ENOSPC, f"{needed} bytes are needed, but {free} are free", str(out))


def write_file(
    out: Path,
    file: str,
    manifest: Manifest,
    rows: Rows,
    labels: Mapping[str, Tensor],
    progress: bool,
) -> list[str]:
    """Write what a file lacks, chunk by chunk, and return the hashes of all its chunks.

    Args:
        out: The directory.
        file: The name of the file, one of labels or one of rows.
        manifest: What the set will be.
        rows: Gives the rows of a part.
        labels: The labels of each part.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If the file is shorter than it was, or rows do not fit the manifest.
    """
    part, row = file.removesuffix(".bin").removesuffix("-labels"), manifest.row_bytes(file)
    total, hashes = manifest.files[file]["rows"], _noted(out, file)
    chunk = manifest.chunk_rows(file)
    done = min(total, len(hashes) * chunk)
    _cut(out / file, done * row)
    bar = tqdm(
        desc=f"pack {file}", total=total, initial=done, unit="rows",
        disable=None if progress else True,
    )  # fmt: skip
    with bar, (out / file).open("ab") as opened:
        for start in range(done, total, chunk):
            stop = min(total, start + chunk)
            if file == f"{part}.bin":
                found = _checked(rows(part, start, stop), manifest, part, start, stop)
            else:
                found = labels[part][start:stop]
            content = little_endian(found)
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
            hashes.append(sha256_of(content))
            _note(out, file, hashes[-1])
            bar.update(stop - start)
    return hashes


def little_endian(values: Tensor) -> bytes:
    """Return numbers as they lie in a file."""
    array = values.detach().cpu().contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _cut(path: Path, length: int) -> None:
    """Take from a file what was written to it, but not noted."""
    with path.open("ab") as file:
        if file.tell() < length:
            raise ValueError(
                f"{path} was changed: it has {file.tell()} bytes, but {length} were written. "
                f"Remove {path.parent}, and pack again"
            )
        file.truncate(length)


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

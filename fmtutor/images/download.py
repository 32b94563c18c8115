"""Published files: found in a directory or downloaded once, and checked by their hashes."""

from __future__ import annotations

import gzip
import hashlib
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

__all__ = ["RemoteFile", "download", "find_file", "read_checked", "read_gzip"]


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: Its name.
        sha256: The hash of the file as it is published.
        mirrors: The directories in which it is published, with a slash at the end.

    Chapter: images
    """

    name: str
    sha256: str
    mirrors: tuple[str, ...]


def find_file(file: RemoteFile, folder: Path | None) -> Path:
    """Return a file of a directory or, without one, of the cache, downloaded if it is not there.

    Args:
        file: The file. If it ends in .gz, the directory may have it unpacked, without that ending.
        folder: The directory.

    Returns:
        Its path. A downloaded file has the published hash, one of a directory is not looked at.

    Raises:
        FileNotFoundError: If it is not in the directory.
        OSError: If it cannot be downloaded from any mirror; what each has answered is told.

    Chapter: images
    """
    if folder is None:
        return _fetch(file)
    names = dict.fromkeys((file.name, file.name.removesuffix(".gz")))
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise FileNotFoundError(f"there is no {' or '.join(names)} in {folder}")
    return found[0]


def read_checked(path: Path, sha256: str) -> bytes:
    """Return the bytes of a file with this SHA-256; raise a ValueError if it has another."""
    return _checked(path, path.read_bytes(), sha256)


def read_gzip(path: Path, sha256: str) -> bytes:
    """Return what is in a gzip file, or in the same file unpacked, checked by its SHA-256.

    The hash of the content stays the same where a distribution has compressed it anew.

    Args:
        path: The file; it is taken as compressed if its name ends in .gz.
        sha256: The hash of the content.

    Returns:
        The content.

    Raises:
        ValueError: If it cannot be unpacked, or has another hash.

    Chapter: images
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"{path} is damaged ({error}): its content should have SHA-256 {sha256}"
            ) from error
    return _checked(path, content, sha256)


def download(url: str, target: str | Path, pooch: object = None) -> None:
    """Download a file, going on where an earlier try has stopped: a downloader for pooch.

    What has come so far is kept beside the target, as NAME.part.

    Args:
        url: The address, which ends in the file's name.
        target: Where to put the file once it is complete.
        pooch: What pooch passes on; not used.

    Raises:
        OSError: If the server does not answer, or breaks off.

    Chapter: images
    """
    part = Path(target).with_name(f"{url.rsplit('/', 1)[-1]}.part")
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            start = start if answer.status == 206 else 0  # 200 is the whole file, again
            total = start + int(answer.headers["Content-Length"])
            bar = tqdm(
                desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=None
            )
            with bar, part.open("ab" if start else "wb") as file:
                while block := answer.read(1 << 16):
                    file.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is left to send: the part is the file
            raise
        total = start
    size = part.stat().st_size
    if size < total:
        raise OSError(f"the connection broke off after {size} of {total} bytes")
    part.replace(target)


def _fetch(file: RemoteFile) -> Path:
    import pooch

    failures = []
    for mirror in file.mirrors:
        try:
            path = pooch.retrieve(
                mirror + file.name,
                known_hash=f"sha256:{file.sha256}",
                fname=file.name,
                path=pooch.os_cache("fmtutor"),
                downloader=download,
            )
        except (OSError, ValueError) as error:
            failures.append(f"{mirror}: {error}")
        else:
            return Path(path)
    raise OSError(f"{file.name} could not be downloaded from {'; '.join(failures)}")


def _checked(path: Path, content: bytes, sha256: str) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path} is damaged or another file: its content has SHA-256 {found}, "
            f"expected was {sha256}"
        )
    return content

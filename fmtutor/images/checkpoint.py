"""A trained network in one safetensors file: weights, and as JSON what they are weights of.

Files are written whole or not at all: under another name first, pushed to the disk, then renamed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fmtutor.networks import Autoencoder, PictureNetwork, kind_of
from fmtutor.networks.registry import AUTOENCODERS, NETWORKS, TWO_TIMES, new_network

__all__ = [
    "as_json",
    "autoencoder_file",
    "load_autoencoder",
    "load_model",
    "network_from_json",
    "save_model",
    "sha256_of",
    "shipped_checkpoint",
    "sync_directory",
    "with_tuples",
    "write_atomically",
]

FORMAT = "fmtutor.images 1"


def save_model(
    path: str | Path,
    model: PictureNetwork | Autoencoder,
    *,
    metadata: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a network to a safetensors file.

    Args:
        path: The file; one that is there is replaced at once or not at all.
        model: A network of `NETWORKS`, or an autoencoder.
        metadata: What else to keep, as JSON: the names of the data set and its classes, the path.
        dtype: How to store the weights; float16 halves the file.
        weights: Its weights by name, where the network holds only a part of them.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If the network is none of the registry.

    Chapter: images
    """
    own = model.state_dict() if weights is None else weights
    stored = {k: w.detach().to("cpu", dtype).contiguous() for k, w in own.items()}
    header = {
        "format": FORMAT,
        "kind": kind_of(model),
        "network": json.dumps(asdict(model.config)),
        "metadata": json.dumps(dict(metadata)),
    }
    write_atomically(path, save(stored, metadata=header))


def load_model(
    path: str | Path, device: torch.device | str = "cpu"
) -> tuple[PictureNetwork, dict[str, Any]]:
    """Read a network that `save_model` has written, in float32 and ready to be evaluated.

    Args:
        path: The file.
        device: Where the network goes.

    Returns:
        The network and the metadata.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or not of this package.

    Chapter: images
    """
    model, about = _load(path, device, NETWORKS)
    return model, about


def load_autoencoder(
    path: str | Path, device: torch.device | str = "cpu"
) -> tuple[Autoencoder, dict[str, Any]]:
    """Read an autoencoder that `save_model` has written, in float32 and ready to be used.

    Args:
        path: The file; "fashion-mnist" is the one that comes with the package.
        device: Where the autoencoder goes.

    Returns:
        The autoencoder and the metadata.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or holds another network.

    Chapter: images
    """
    model, about = _load(autoencoder_file(path), device, AUTOENCODERS)
    return model.requires_grad_(False), about


def _load(
    path: str | Path,
    device: torch.device | str,
    networks: Mapping[str, tuple[type[Any], type[nn.Module]]],
) -> tuple[Any, dict[str, Any]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of fmtutor.images (expected {FORMAT!r})")
    kind = header.get("kind", "unet")  # the first edition had no other
    plain = kind.removeprefix(TWO_TIMES)
    if plain not in networks:
        raise ValueError(f"{path} holds a {kind}, but known are {', '.join(networks)}")
    with torch.random.fork_rng(devices=[]):  # the weights are drawn, and then replaced
        model: Any = new_network(kind, network_from_json(header["network"], plain)).to(device)
    try:
        model.load_state_dict({key: w.float() for key, w in weights.items()})
    except RuntimeError as error:
        raise ValueError(f"{path} has other weights than its network needs: {error}") from error
    return model.eval(), json.loads(header["metadata"])


def shipped_checkpoint() -> Path:
    """Return the file of the network that comes with the package, trained on Fashion-MNIST.

    Chapter: images
    """
    return Path(__file__).parent / "weights" / "fashion-mnist.safetensors"


def autoencoder_file(path: str | Path) -> Path:
    """Return the file of an autoencoder; "fashion-mnist" is the one that comes with the package."""
    if str(path) == "fashion-mnist":
        return Path(__file__).parent / "weights" / "fashion-autoencoder.safetensors"
    return Path(path)


def network_from_json(text: str, kind: str = "unet") -> Any:
    """Read the description of a network of `NETWORKS`, or of an autoencoder."""
    return (NETWORKS | AUTOENCODERS)[kind][0](**with_tuples(json.loads(text)))


def with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a dataclass, of which JSON has made lists, with tuples again."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def as_json(value: Any, **options: Any) -> str:
    """Return a value as JSON, which has no NaN and no infinity: they become null."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: finite(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [finite(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(value), allow_nan=False, **options)


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all: a file that was there stays as it was until it is replaced.

    Raises:
        OSError: If it cannot be written, as on a full disk.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sync_directory(folder: Path) -> None:
    """Push the names in a directory to the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

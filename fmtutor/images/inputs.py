"""What a command reads: a trained network and what it was trained on, or the data of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmtutor.images.config import TrainConfig, read_config

if TYPE_CHECKING:
    import torch

    from fmtutor.images.data import ImageData
    from fmtutor.images.processes import Ranks
    from fmtutor.networks import PictureNetwork

__all__ = ["data_of", "guide_of", "network_file", "shared_data", "stored_settings"]


def network_file(path: Path | None) -> Path:
    """Return the file of a network: the given one, a run's newest, or the one of the package."""
    from fmtutor.images.checkpoint import shipped_checkpoint
    from fmtutor.images.run import find_model

    found = shipped_checkpoint() if path is None else find_model(path)
    if not found.is_file():
        raise FileNotFoundError(f"there is no checkpoint {found}")
    return found


def data_of(model: PictureNetwork, about: dict[str, Any], data_dir: Path | None) -> ImageData:
    """Return the data on which a network was trained; its settings say which, not its name."""
    from fmtutor.images.datasets import load_images

    config = read_config(about["train"])
    size, channels = config.size, config.channels
    if config.data == "folder" and not about.get("autoencoder"):
        size, channels = model.config.size, model.config.channels
    data = load_images(
        config.data, data_dir=data_dir, size=size, flip=config.flip, channels=channels
    )
    if list(data.classes) != about["classes"]:
        raise ValueError(
            f"the network was trained on the classes {', '.join(about['classes'])}, "
            f"but {', '.join(data.classes)} came"
        )
    if data.autoencoder is not None:
        raise ValueError(
            f"{data_dir} holds latents: what is measured are pictures, so give the --data-dir of a "
            "packed set of those that they were made of"
        )
    if not about.get("autoencoder") and about.get("sha256") not in (None, "", data.sha256):
        raise ValueError(
            f"the network was trained on the packed set with SHA-256 {about['sha256']}, "
            f"but {data.sha256} came"
        )
    return data


def guide_of(
    path: Path | None, about: dict[str, Any], device: torch.device
) -> tuple[PictureNetwork | None, str | None]:
    """Return the network that guides, of the same pictures or latents, and its SHA-256."""
    from fmtutor.images.checkpoint import load_model, sha256_of

    if path is None:
        return None, None
    file = network_file(path)
    sha256 = sha256_of(file.read_bytes())
    guide, its = load_model(file, device)
    one, other = ((told.get("autoencoder") or {}).get("sha256") for told in (about, its))
    if one != other:
        raise ValueError(f"{file} knows the latents of another autoencoder than the network")
    return guide, sha256


def shared_data(config: TrainConfig, data_dir: Path | None, ranks: Ranks) -> ImageData:
    """Return the data of a run: each process maps a packed set, the first reads any other for all.

    So a packed set lies where all processes see it, or a copy of it on each machine.
    """
    from fmtutor.images.datasets import find_directory, load_images
    from fmtutor.images.latents import encoded
    from fmtutor.images.manifest import read_manifest
    from fmtutor.images.processes import from_first

    def load() -> ImageData:
        pictures = load_images(
            config.data, data_dir=data_dir, size=config.size, flip=config.flip,
            channels=config.channels,
        )  # fmt: skip
        name = config.autoencoder
        return encoded(pictures, name, ranks.device) if name else pictures

    if config.data != "packed":
        return from_first(load, ranks)
    first = from_first(lambda: read_manifest(find_directory("packed", data_dir)), ranks)
    if config.autoencoder and first.autoencoder is None:
        return from_first(load, ranks)  # encoded once, and not once in each process
    data = load()
    if data.sha256 != first.sha256:
        raise ValueError(
            f"process {ranks.rank} finds another packed set in {data_dir} than process 0: "
            f"sha256 {data.sha256}, expected was {first.sha256}"
        )
    return data


def stored_settings(out: Path) -> TrainConfig:
    """Return the settings of the run in a directory."""
    from fmtutor.images.checkpoint import load_model
    from fmtutor.images.run import find_model

    _, about = load_model(find_model(out))
    return read_config(about["train"])

"""Runs that begin where another one has stopped: at its checkpoint, or with its weights."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fmtutor.images.checkpoint import load_model
from fmtutor.images.config import TrainConfig, read_config
from fmtutor.images.run import Run, find_model, newest_checkpoint
from fmtutor.networks import PictureNetwork

__all__ = ["SCHEDULE", "restore_run", "start_from"]

SCHEDULE = (
    "steps", "lr", "warmup", "decay", "clip", "weight_decay", "ema", "precision", "compile",
    "log_every", "sample_every", "save_every",
)  # fmt: skip
"""The settings with which a run may be told to go on otherwise; no other one is ever changed."""


def restore_run(run: Run, out: Path, *, reschedule: bool = False) -> None:
    """Bring a new run to where the newest checkpoint is.

    Args:
        run: The run, changed in place.
        out: Its directory.
        reschedule: Whether the settings of `SCHEDULE` may be others than before.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it is damaged, or of a run with other settings or other data.

    Chapter: images
    """
    folder = newest_checkpoint(out)
    if folder is None:
        raise FileNotFoundError(f"there is no checkpoint in {out} to resume from")
    average, about = load_model(folder / "model.safetensors")
    _refuse_other_settings(about, run.metadata, out, SCHEDULE if reschedule else ())
    _take_weights(run.average, average, folder)
    _take_weights(run.model, load_model(folder / "weights.safetensors")[0], folder)
    try:
        # On the CPU first: the device may be another one than the one that has saved it.
        state = torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
        decay = run.optimizer.param_groups[0]["weight_decay"]
        run.optimizer.load_state_dict(state["optimizer"])
        run.optimizer.param_groups[0]["weight_decay"] = decay
    except (RuntimeError, EOFError, KeyError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"{folder / 'optimizer.pt'} is damaged: {error}") from error
    run.step, run.seconds = state["step"], state["seconds"]


def start_from(run: Run, path: Path) -> None:
    """Let a new run begin with the weights of a network, a file or the newest of a run.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, or another network.

    Chapter: images
    """
    path = find_model(path)
    model, _ = load_model(path)
    for network in (run.model, run.average):
        _take_weights(network, model, path)


def _take_weights(network: PictureNetwork, other: PictureNetwork, path: Path) -> None:
    if network.config != other.config:
        raise ValueError(f"{path} has the network {other.config}, but {network.config} is trained")
    network.load_state_dict(other.state_dict())


def _refuse_other_settings(
    stored: dict[str, Any], given: dict[str, Any], out: Path, free: tuple[str, ...]
) -> None:
    before, now = (_flat(read_config(about["train"])) for about in (stored, given))
    for key, value in before.items():
        if now.get(key) != value and key not in free:
            hint = "; --reschedule allows it" if key in SCHEDULE else ""
            raise ValueError(f"the run in {out} has {key} = {value}, but {now.get(key)} came{hint}")
    for key in ("classes", "pictures", "autoencoder"):
        if stored.get(key, given[key]) != given[key]:
            raise ValueError(f"the run in {out} has {key} {stored[key]}, but {given[key]} came")


def _flat(config: TrainConfig) -> dict[str, Any]:
    """Return all settings side by side, those of the network among the others."""
    settings = asdict(config)
    architecture: dict[str, Any] = settings.pop("architecture")
    return settings | architecture

"""Runs that begin where another one has stopped: at its checkpoint, or with its weights."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fmtutor.images.checkpoint import load_model
from fmtutor.images.config import TrainConfig, read_config
from fmtutor.images.parallel import part_like
from fmtutor.images.run import Run, find_model, newest_checkpoint
from fmtutor.images.shards import load_shards
from fmtutor.networks import PictureNetwork, TwoTimes, kind_of

__all__ = ["SCHEDULE", "restore_run", "start_from"]

SCHEDULE = (
    "steps", "lr", "warmup", "decay", "clip", "weight_decay", "ema", "precision", "compile",
    "parallel", "activation_checkpointing", "log_every", "sample_every", "save_every",
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
    if (folder / "shards").is_dir():
        load_shards(run, folder / "shards")
        return
    _take_weights(run.model, load_model(folder / "weights.safetensors")[0], folder)
    try:
        # On the CPU first: the device may be another one than the one that has saved it.
        state = torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
        decay = run.optimizer.param_groups[0]["weight_decay"]
        weights = [*run.model.parameters()]
        for k, moments in state["optimizer"]["state"].items():
            for key in ("exp_avg", "exp_avg_sq"):
                moments[key] = part_like(moments[key], weights[k])
        run.optimizer.load_state_dict(state["optimizer"])
        run.optimizer.param_groups[0]["weight_decay"] = decay
    except (RuntimeError, EOFError, KeyError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"{folder / 'optimizer.pt'} is damaged: {error}") from error
    run.step, run.seconds = state["step"], state["seconds"]


def start_from(run: Run, path: Path) -> None:
    """Let a new run begin with the weights of a network, a file or the newest of a run.

    One that learns to jump may begin with a velocity field, whatever span it is told of.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, or another network.

    Chapter: images
    """
    path = find_model(path)
    model, _ = load_model(path)
    for network in (run.model, run.average):
        given = isinstance(network, TwoTimes) and not isinstance(model, TwoTimes)
        _take_weights(network.network if given else network, model, path)


def _take_weights(network: Any, other: PictureNetwork, path: Path) -> None:
    if kind_of(network) != kind_of(other):
        raise ValueError(f"{path} holds a {kind_of(other)}, but a {kind_of(network)} is trained")
    if network.config != other.config:
        raise ValueError(f"{path} has the network {other.config}, but {network.config} is trained")
    own = network.state_dict()
    network.load_state_dict({k: part_like(w, own[k]) for k, w in other.state_dict().items()})


def _refuse_other_settings(
    stored: dict[str, Any], given: dict[str, Any], out: Path, free: tuple[str, ...]
) -> None:
    before, now = (_flat(read_config(about["train"])) for about in (stored, given))
    for key, value in before.items():
        if key == "autoencoder":  # known by what it holds, below, wherever it lies
            continue
        if now.get(key) != value and key not in free:
            hint = "; --reschedule allows it" if key in SCHEDULE else ""
            raise ValueError(f"the run in {out} has {key} = {value}, but {now.get(key)} came{hint}")
    made_by = [(about.get("autoencoder") or {}).get("sha256") for about in (stored, given)]
    if made_by[0] != made_by[1]:
        raise ValueError(
            f"the run in {out} has autoencoder {stored.get('autoencoder')}, "
            f"but {given['autoencoder']} came"
        )
    for key in ("classes", "pictures", "sha256"):
        if stored.get(key, given[key]) != given[key]:
            raise ValueError(f"the run in {out} has {key} {stored[key]}, but {given[key]} came")


def _flat(config: TrainConfig) -> dict[str, Any]:
    """Return all settings side by side, those of the network among the others."""
    settings = asdict(config)
    architecture: dict[str, Any] = settings.pop("architecture")
    return settings | architecture

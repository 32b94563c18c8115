"""What a run leaves on the disk: checkpoints that are whole.

A checkpoint is a directory that gets its name once all of its files are written. There is always
one: the run begins with it, and an old one goes when the next is there. A run draws everything from
its seed and the number of the step, so no random state is in it.
"""

from __future__ import annotations

import copy
import io
import os
import pickle
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fmtutor.images.checkpoint import (
    load_model,
    save_model,
    sync_directory,
    with_tuples,
    write_atomically,
)
from fmtutor.images.config import TrainConfig
from fmtutor.networks import UNet, UNetConfig

__all__ = [
    "Run",
    "find_model",
    "new_run",
    "newest_checkpoint",
    "restore_run",
    "save_average",
    "save_run",
]


@dataclass
class Run:
    """What changes in the course of a run.

    Attributes:
        model: The network that is trained.
        average: The running average of its weights.
        optimizer: The optimizer of the network.
        metadata: What to write beside the average: the data set, its classes, the settings.
        step: Number of steps that were taken.
        seconds: Time that they took.
    """

    model: UNet
    average: UNet
    optimizer: torch.optim.AdamW
    metadata: dict[str, Any]
    step: int = 0
    seconds: float = 0.0


def new_run(
    config: TrainConfig,
    network: UNetConfig,
    *,
    seed: int,
    device: torch.device,
    metadata: dict[str, Any],
) -> Run:
    """Return a run before its first step.

    Args:
        config: Its settings.
        network: The network to train.
        seed: Seed of the initial weights.
        device: Where to train.
        metadata: What is known of the data.

    Returns:
        The run.

    Chapter: images
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = UNet(network)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    about = {**metadata, "path": "CondOT(sigma_min=0.0)", "train": asdict(config)}
    return Run(model, average, optimizer, about)


def newest_checkpoint(out: str | Path) -> Path | None:
    """Return the newest checkpoint in the directory of a run, None if there is none."""
    found = Path(out).glob("checkpoints/step-*")
    return max(found, key=lambda folder: int(folder.name.removeprefix("step-")), default=None)


def find_model(path: str | Path) -> Path:
    """Return the file of a trained network: the given one, or the newest in a run's directory.

    Raises:
        FileNotFoundError: If there is none.

    Chapter: images
    """
    path = Path(path)
    checkpoint = newest_checkpoint(path)
    if path.is_dir() and checkpoint is None:
        raise FileNotFoundError(f"there is no checkpoint in {path}")
    return path if checkpoint is None else checkpoint / "model.safetensors"


def save_run(run: Run, out: Path) -> None:
    """Write a checkpoint, whole or not at all, and remove the older ones.

    Args:
        run: The run.
        out: Its directory.

    Raises:
        OSError: If it cannot be written, as on a full disk; the one before is left as it is.

    Chapter: images
    """
    final = out / "checkpoints" / f"step-{run.step:07d}"
    if final.exists():  # stopped just after it was saved
        return
    part = final.with_name(f".{final.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_average(run, part / "model.safetensors")
        save_model(part / "weights.safetensors", run.model, metadata={})
        state = {"optimizer": run.optimizer.state_dict(), "step": run.step, "seconds": run.seconds}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(part / "optimizer.pt", buffer.getvalue())
        os.rename(part, final)
        sync_directory(final.parent)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise OSError(
            error.errno,
            f"step {run.step} could not be saved, {error.strerror}; "
            f"the last checkpoint is {newest_checkpoint(out)}",
        ) from error
    for old in final.parent.iterdir():
        if old != final:
            shutil.rmtree(old)


def save_average(run: Run, path: Path) -> None:
    """Write the averaged network, the one to sample from, to a file."""
    save_model(path, run.average, metadata={**run.metadata, "step": run.step})


def restore_run(run: Run, out: Path) -> None:
    """Bring a new run to where the newest checkpoint is.

    Args:
        run: The run, changed in place.
        out: Its directory.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it is damaged, or of a run with other settings.

    Chapter: images
    """
    folder = newest_checkpoint(out)
    if folder is None:
        raise FileNotFoundError(f"there is no checkpoint in {out} to resume from")
    average, about = load_model(folder / "model.safetensors")
    _refuse_other_settings(about["train"], run.metadata["train"], out)
    run.average.load_state_dict(average.state_dict())
    model, _ = load_model(folder / "weights.safetensors")
    run.model.load_state_dict(model.state_dict())
    try:
        state = torch.load(folder / "optimizer.pt", weights_only=True)
        run.optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, EOFError, KeyError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"{folder / 'optimizer.pt'} is damaged: {error}") from error
    run.step, run.seconds = state["step"], state["seconds"]


def _refuse_other_settings(before: dict[str, Any], now: dict[str, Any], out: Path) -> None:
    for key, value in with_tuples(before).items():
        if now.get(key, value) != value:
            raise ValueError(f"the run in {out} has {key} = {value}, but {now[key]} came")

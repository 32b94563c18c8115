"""What a run leaves on the disk: checkpoints that are whole.

A checkpoint is a directory that gets its name once all of its files are written. There is always
one: the run begins with it, and an old one goes when the next is there. A run draws everything from
its seed and the number of the step, so no random state is in it.
"""

from __future__ import annotations

import copy
import io
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmtutor.images.batches import in_bfloat16
from fmtutor.images.checkpoint import (
    save_model,
    sync_directory,
    write_atomically,
)
from fmtutor.images.config import TrainConfig
from fmtutor.images.objectives import VELOCITY
from fmtutor.images.parallel import gathered, is_sharded, recompute_activations, shard
from fmtutor.images.processes import Ranks, by_first, largest
from fmtutor.images.shards import list_shards, save_shards
from fmtutor.networks import PictureNetwork
from fmtutor.networks.registry import TWO_TIMES, new_network

__all__ = [
    "Run",
    "find_model",
    "new_run",
    "newest_checkpoint",
    "save_average",
    "save_run",
]


ALONE = Ranks(0, 1, torch.device("cpu"))


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

    model: PictureNetwork
    average: PictureNetwork
    optimizer: torch.optim.AdamW
    metadata: dict[str, Any]
    step: int = 0
    seconds: float = 0.0


def new_run(
    config: TrainConfig,
    network: Any,
    *,
    seed: int,
    device: torch.device,
    metadata: dict[str, Any],
    world: int = 1,
) -> Run:
    """Return a run before its first step.

    Args:
        config: Its settings.
        network: The description of the network to train, of the kind `config.network`.
        seed: Seed of the initial weights.
        device: Where to train.
        metadata: What is known of the data.
        world: Number of processes; under fsdp each holds a part of the network.

    Returns:
        The run.

    Chapter: images
    """
    times = "" if config.objective == VELOCITY else TWO_TIMES
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = new_network(times + config.network, network)
    if world > 1 and config.parallel == "fsdp":
        model, average = shard(model, config, device)
    else:
        model = _laid_out(model, config, device)
        average = copy.deepcopy(model)
        if config.activation_checkpointing:
            recompute_activations(model)
    average.eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.lr,
        weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
    about = {**metadata, "path": "CondOT(sigma_min=0.0)", "train": asdict(config)}
    return Run(model, average, optimizer, about)


def _laid_out(model: Any, config: TrainConfig, device: torch.device) -> Any:
    """Send a network to its device, in the layout that is fastest there."""
    # Convolutions are fastest with the channels of a pixel side by side. GroupNorm keeps that
    # layout on a CPU; on CUDA torch's own kernel knows channels first only, so that each norm would
    # copy its input there and the next convolution copy it back: two passes over memory for a norm
    # that is one. The compiler writes a kernel of its own, in the layout that it finds. On a CPU
    # bfloat16 is faster with channels first: a step of fashion-cpu takes .6 of the time. The
    # forward derivative of GroupNorm exists with channels first only.
    keeps = config.compile if device.type == "cuda" else not in_bfloat16(config, device)
    last = keeps and config.objective == VELOCITY
    layout = torch.channels_last if last else torch.contiguous_format
    return model.to(device, memory_format=layout)


def newest_checkpoint(out: str | Path) -> Path | None:
    """Return the newest checkpoint in the directory of a run, None if there is none."""
    found = Path(out).glob("checkpoints/step-*")
    return max(found, key=lambda folder: int(folder.name.removeprefix("step-")), default=None)


def find_model(path: str | Path) -> Path:
    """Return the file of a trained network: the given one, or the newest in a run's directory.

    A finished run needs no more than its `model.safetensors`.

    Raises:
        FileNotFoundError: If there is none.

    Chapter: images
    """
    path = Path(path)
    checkpoint = newest_checkpoint(path)
    if not path.is_dir():
        return path
    file = (path if checkpoint is None else checkpoint) / "model.safetensors"
    if checkpoint is None and not file.is_file():
        raise FileNotFoundError(f"there is no checkpoint in {path}")
    return file


def save_run(run: Run, out: Path, crew: Ranks = ALONE) -> None:
    """Write a checkpoint, whole or not at all, and remove the older ones.

    Args:
        run: The run.
        out: Its directory.
        crew: The processes that save together, see `crew_of`.

    Raises:
        OSError: If it cannot be written, as on a full disk; the one before is left as it is.

    Chapter: images
    """
    final = out / "checkpoints" / f"step-{run.step:07d}"
    if largest(int(final.exists()), crew):  # stopped just after it was saved
        return
    part = final.with_name(f".{final.name}.part")
    try:
        by_first(lambda: _empty(part), crew)
        if is_sharded(run.model):
            save_shards(run, part / "shards")
        average = gathered(run.average, crew)
        by_first(lambda: _finish(run, average, part, final), crew)
    except OSError as error:
        by_first(lambda: shutil.rmtree(part, ignore_errors=True), crew)
        raise OSError(
            error.errno,
            f"step {run.step} could not be saved, {error.strerror}; "
            f"the last checkpoint is {newest_checkpoint(out)}",
        ) from error


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _finish(run: Run, average: dict[str, Tensor], part: Path, final: Path) -> None:
    """Write what the first process writes, give the checkpoint its name, remove the others."""
    _write_average(run, part / "model.safetensors", average)
    if is_sharded(run.model):
        list_shards(run, part / "shards")
    else:
        save_model(part / "weights.safetensors", run.model, metadata={})
        state = {"optimizer": run.optimizer.state_dict(), "step": run.step, "seconds": run.seconds}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(part / "optimizer.pt", buffer.getvalue())
    os.rename(part, final)
    sync_directory(final.parent)
    for old in final.parent.iterdir():
        if old != final:
            shutil.rmtree(old)


def save_average(run: Run, path: Path, crew: Ranks = ALONE) -> None:
    """Write the averaged network, the one to sample from, to a file."""
    average = gathered(run.average, crew)
    by_first(lambda: _write_average(run, path, average), crew)


def _write_average(run: Run, path: Path, weights: dict[str, Tensor]) -> None:
    save_model(path, run.average, metadata={**run.metadata, "step": run.step}, weights=weights)

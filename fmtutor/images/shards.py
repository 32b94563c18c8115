"""Checkpoints of runs in which each process holds a part: every process writes and reads its own.

`torch.distributed.checkpoint` saves on N processes what M processes read. Its files here are those
of safetensors, not of pickle: a checkpoint holds no code.
"""

from __future__ import annotations

import errno
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch import distributed as dist

from fmtutor.images.checkpoint import sync_directory, write_atomically

if TYPE_CHECKING:
    from fmtutor.images.run import Run

__all__ = ["list_shards", "load_shards", "save_shards", "state_of_run"]

LIST = "shards.json"


def state_of_run(run: Run) -> dict[str, Tensor]:
    """Return the run's own tensors, or parts of them, by name: weights and AdamW's moments.

    Before the first step the moments are made, as AdamW makes them.
    """
    state = {f"weights.{name}": value for name, value in run.model.state_dict().items()}
    for name, weight in run.model.named_parameters():
        of_weight = run.optimizer.state[weight]
        if not of_weight:
            of_weight["step"] = torch.zeros((), device=weight.device)
            of_weight["exp_avg"], of_weight["exp_avg_sq"] = (
                torch.zeros_like(weight, requires_grad=False) for _ in range(2)
            )
        state |= {f"{key}.{name}": of_weight[key] for key in ("exp_avg", "exp_avg_sq")}
    return state


def save_shards(run: Run, folder: Path) -> None:
    """Let every process write its parts to a directory.

    Raises:
        OSError: In all processes, if one of them cannot write.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        save(state_of_run(run), storage_writer=writer)
    except CheckpointException as failed:
        cause: Any = next(iter(failed.failures.values()))[0]
        raise OSError(
            getattr(cause, "errno", None) or errno.EIO,
            getattr(cause, "strerror", None) or str(cause),
        ) from failed


def list_shards(run: Run, folder: Path) -> None:
    """Write which files there are, and to which step they belong; what lacks is seen by it."""
    files = {path.name: path.stat().st_size for path in sorted(folder.glob("*.safetensors"))}
    about = {"step": run.step, "seconds": run.seconds, "files": files}
    write_atomically(folder / LIST, json.dumps(about).encode())
    sync_directory(folder)


def load_shards(run: Run, folder: Path) -> None:
    """Read what belongs to this process, whatever the number of those that have written.

    Raises:
        ValueError: If a file is missing or damaged.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    try:
        about = json.loads((folder / LIST).read_text("utf-8"))
        for name, size in about["files"].items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{folder / name} is damaged: it had {size} bytes")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            load(
                state_of_run(run),
                storage_reader=HuggingFaceStorageReader(str(folder)),
                no_dist=not dist.is_initialized(),
            )
    except (OSError, KeyError, json.JSONDecodeError, CheckpointException) as error:
        raise ValueError(f"{folder} is damaged: {error}") from error
    run.step, run.seconds = about["step"], about["seconds"]
    for weight in run.model.parameters():
        run.optimizer.state[weight]["step"].fill_(run.step)

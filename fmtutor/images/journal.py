"""What a run tells while it goes on: a log in lines of JSON, a test loss, grids of samples."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from fmtutor.images.batches import autocast, batch_loss
from fmtutor.images.checkpoint import as_json, write_atomically
from fmtutor.images.config import TrainConfig, learning_rate
from fmtutor.images.data import ImageData, balanced, to_uint8
from fmtutor.images.objectives import VELOCITY, velocity_of
from fmtutor.images.pictures import draw_pictures, picture_grid, save_png, shown_classes
from fmtutor.images.processes import Ranks, mean_over_ranks
from fmtutor.images.run import Run

__all__ = [
    "Listener", "Stretch", "add_to_log", "begin_log", "cut_log", "describe_machine", "draw_grid",
    "due", "loss_on_test", "tell",
]  # fmt: skip

TEST_PICTURES = 1000

Listener = Callable[[dict[str, Any]], None]
"""Gets each line of a log that measures the run, once it is written."""


class Stretch:
    """The steps since the last line of the log: their losses and the time that they took.

    Args:
        run: The run, as it is when the stretch begins.
    """

    def __init__(self, run: Run) -> None:
        self._step, self._seconds = run.step, run.seconds
        self._loss: Tensor | float = 0.0

    def add(self, loss: Tensor) -> None:
        """Add the loss of a step, 0-d; an accelerator is not waited for."""
        self._loss = self._loss + loss

    def record(
        self, run: Run, config: TrainConfig, pictures: int, ranks: Ranks, norm: Tensor
    ) -> dict[str, Any]:
        """Return a line of the log: means over the stretch, the rest as it is at its end."""
        steps, loss = run.step - self._step, torch.as_tensor(self._loss)
        rate = steps * config.batch_size / (run.seconds - self._seconds)
        return {
            "step": run.step,
            "epoch": round(run.step * config.batch_size / pictures, 3),
            "loss": round(mean_over_ranks(loss / steps, ranks), 5),
            "lr": round(learning_rate(config, run.step - 1), 8),
            "gradient_norm": round(norm.item(), 4),
            "images_per_second": round(rate, 1),
            "seconds": round(run.seconds, 1),
            "memory_mb": _memory(ranks.device),
        }


def describe_machine(run: Run, ranks: Ranks) -> dict[str, Any]:
    """Return the first line of a log, and of its part after a resumption: settings and machine."""
    gpu = ranks.device.type == "cuda"
    return {
        "config": run.metadata["train"],
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "device": torch.cuda.get_device_name(ranks.device) if gpu else "cpu",
        "processes": ranks.world,
        "backend": dist.get_backend() if dist.is_initialized() else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "step": run.step,
    }


def due(config: TrainConfig, done: int) -> set[str]:
    """Return what is due after so many steps; after the last one everything is."""
    every = {"log": config.log_every, "sample": config.sample_every, "save": config.save_every}
    return {name for name, n in every.items() if done % n == 0 or done == config.steps}


@torch.no_grad()
def loss_on_test(run: Run, config: TrainConfig, data: ImageData) -> float:
    """Return the average's loss on test pictures of all classes, with the same draws each time.

    It is the loss of flow matching, of a network that jumps that of its velocity u(x, t, t), at
    uniform times, on the pictures as they are, so that runs can be compared. They pass through the
    network in parts no larger than a batch.

    Chapter: images
    """
    device = next(run.average.parameters()).device
    g = torch.Generator(device=device).manual_seed(0)
    rows = balanced(data.test_labels, min(TEST_PICTURES, len(data.test)))
    given = replace(
        config, objective=VELOCITY, label_dropout=0.0, augment=0, dequantise=False,
        times="uniform", times_mean=0.0, times_std=1.0, shift=1.0,
    )  # fmt: skip
    total, v = torch.zeros((), device=device), velocity_of(run.average)
    for part in torch.split(rows, config.batch_size // config.accumulate):
        labels = data.test_labels[part].to(device) if config.conditional else None
        with autocast(config, device):
            loss = batch_loss(v, data.test[part].to(device), labels, given, generator=g)
        total += loss * len(part)
    return round(total.item() / len(rows), 5)


def draw_grid(run: Run, path: Path | None, decode: Callable[[Tensor], Tensor] = to_uint8) -> None:
    """Write a grid of samples of the averaged network to a PNG file, from the same noise always.

    Args:
        run: The run; with classes each column is one, eight pictures of it. One that learns to jump
            draws them by one jump.
        path: The file; None draws for the sake of those that hold other parts of the network.
        decode: Makes pictures, uint8, of what the network draws.

    Chapter: images
    """
    shown = shown_classes(run.model.classes)
    columns = len(shown) or 10
    labels = shown.repeat(8) if len(shown) else None
    pictures = draw_pictures(run.average, labels, count=8 * columns, decode=decode)
    if path is not None:
        path.parent.mkdir(exist_ok=True)
        save_png(path, picture_grid(pictures, columns), zoom=2)


def add_to_log(out: Path, record: dict[str, Any]) -> None:
    """Append a line to the log of a run."""
    with (out / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(as_json(record) + "\n")


def tell(record: dict[str, Any], out: Path, ranks: Ranks, listen: Listener | None = None) -> None:
    """Append a line to the log, and let a listener have it, in the one process that writes."""
    if ranks.rank == 0:
        add_to_log(out, record)
        if listen is not None:
            listen(record)


def begin_log(out: Path, step: int | None) -> None:
    """Make the log end at a step; None is a new run, killed before its first checkpoint or none."""
    out.mkdir(parents=True, exist_ok=True)
    if step is None:
        (out / "log.jsonl").unlink(missing_ok=True)
    else:
        cut_log(out, step)


def cut_log(out: Path, step: int) -> None:
    """Take out of the log what it says of later steps, which are about to be taken again.

    A last line that is not whole, since the process was killed at it, goes too.
    """
    kept = []
    for line in (out / "log.jsonl").read_text("utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record.get("step", 0) <= step:
            kept.append(line + "\n")
    write_atomically(out / "log.jsonl", "".join(kept).encode())


def _memory(device: torch.device) -> int | None:
    """Return the most memory in use so far, in MB: the GPU's, or else that of the process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6)
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)

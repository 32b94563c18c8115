"""A run watched in TensorBoard, beside its log in JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmtutor.images.journal import Listener

__all__ = ["tensorboard"]


@contextlib.contextmanager
def tensorboard(folder: Path) -> Iterator[Listener]:
    """Write what a run says of itself for TensorBoard (`pip install tensorboard`), too.

    A run that is resumed goes on in the same folder: what was written of steps that are taken again
    is hidden.

    Args:
        folder: Where TensorBoard looks.

    Yields:
        What gets each line of the log. The folder is made when the first one comes: only the
        process that writes the log is given any.

    Raises:
        ModuleNotFoundError: If TensorBoard is not installed.

    Chapter: scale
    """
    from torch.utils.tensorboard import SummaryWriter

    writers: list[Any] = []

    def listen(record: dict[str, Any]) -> None:
        step = record["step"]
        if not writers:
            writers.append(SummaryWriter(folder, purge_step=step))
        for name, value in record.items():
            if name != "step" and value is not None:
                writers[0].add_scalar(name, value, step)
        writers[0].flush()

    try:
        yield listen
    finally:
        for writer in writers:
            writer.close()

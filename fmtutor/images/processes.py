"""A run among processes: those of torchrun, and the system that may want it to end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = ["Ranks", "catch_signals", "join_processes", "largest", "mean_over_ranks"]


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run.

    Attributes:
        rank: Its number; 0 is the one that writes.
        world: How many there are.
        device: Its device.
    """

    rank: int
    world: int
    device: torch.device


@contextlib.contextmanager
def join_processes(device: torch.device | str | None = None) -> Iterator[Ranks]:
    """Join the other processes of torchrun, if it has started this one.

    A process that has joined them already stays with them; it cannot leave and join again.

    Args:
        device: Where to compute; None takes a GPU if there is one. Under torchrun each process
            takes the GPU of its local rank.

    Yields:
        Which process this is.

    Chapter: images
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if not dist.is_torchelastic_launched():
        yield Ranks(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    joins = not dist.is_initialized()
    if joins:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        if joins:
            dist.destroy_process_group()


@contextlib.contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT, so that a run can save; a second one has its usual effect.

    Outside of the main thread, where Python allows no handlers, nothing is collected.

    Yields:
        The signals that have come, a list that grows.

    Chapter: images
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def catch(number: int, frame: object) -> None:
        caught.append(number)
        restore()

    for number in usual:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        restore()


def largest(number: int, ranks: Ranks) -> int:
    """Return the largest of the processes' numbers, in each of them."""
    if ranks.world == 1:
        return number
    shared = torch.tensor(number, device=ranks.device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return int(shared)


def mean_over_ranks(value: Tensor, ranks: Ranks) -> float:
    """Return the mean of the processes' values, each 0-d, in each of them."""
    if ranks.world > 1:
        value = value / ranks.world
        dist.all_reduce(value)
    return value.item()

"""A run among processes: those of torchrun or srun, and the system that may want it to end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from fmtutor.images.launch import place_of_process, store_of_attempt

__all__ = [
    "Ranks",
    "by_first",
    "catch_signals",
    "choose_device",
    "from_first",
    "gradients_shared",
    "join_processes",
    "largest",
    "mean_over_ranks",
    "own_state",
]

PATIENCE = timedelta(hours=2)
"""How long processes wait for each other: the first one may have to read and decode pictures."""

_Data = TypeVar("_Data")


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


def choose_device(name: torch.device | str | None = None) -> torch.device:
    """Return a device by its name; None and "auto" are a GPU if there is one, else the CPU.

    Raises:
        ValueError: If there is no such device, or no GPU that torch can use.
    """
    if name is None or name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"device must be auto, cpu, cuda, cuda:1, ..., but {name!r} came"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name} came, but there is no GPU that torch can use")
    return device


@contextlib.contextmanager
def join_processes(device: torch.device | str | None = None) -> Iterator[Ranks]:
    """Join the other processes of torchrun or of srun, if one of them has started this one.

    A process that has joined them already stays with them; it cannot leave and join again.

    Args:
        device: Where to compute; None takes a GPU if there is one. Among several processes each
            takes the GPU of its local rank; where torchrun has started more than there are GPUs,
            they share them, and speak over gloo, as NCCL takes one process for each.

    Yields:
        Which process this is.

    Raises:
        ValueError: If srun has started several tasks and does not say where the first one runs.

    Chapter: images
    """
    chosen = choose_device(device)
    place = place_of_process()
    if place is None:
        yield Ranks(0, 1, chosen)
        return
    if chosen.type == "cuda":  # srun may show each task one GPU only
        chosen = torch.device("cuda", place.pop("local") % torch.cuda.device_count())
        torch.cuda.set_device(chosen)
    joins = not dist.is_initialized()
    if joins:
        place.pop("local", None)
        # srun, which may hide the other GPUs of a node, does not set this variable.
        crowded = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > torch.cuda.device_count()
        backend = "nccl" if chosen.type == "cuda" and not crowded else "gloo"
        if dist.is_torchelastic_launched():
            place = store_of_attempt(PATIENCE)
        dist.init_process_group(backend, timeout=PATIENCE, **place)
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


def from_first(make: Callable[[], _Data], ranks: Ranks) -> _Data:
    """Return a dataclass, with tensors among its fields, that the first process makes for all.

    Args:
        make: Makes it, as from files that not every process has to decode.
        ranks: Which process this is.

    Raises:
        Exception: What `make` has raised, in all processes.

    Chapter: images
    """
    if ranks.world == 1:
        return make()
    message: list[Any] = [None]
    tensors: dict[str, Tensor] = {}
    if ranks.rank == 0:
        try:
            made: Any = make()
            tensors = {
                f.name: v for f in fields(made) if isinstance(v := getattr(made, f.name), Tensor)
            }
            empty = {
                name: torch.empty(v.shape, dtype=v.dtype, device="meta")
                for name, v in tensors.items()
            }
            message = [replace(made, **empty)]
        except Exception as error:
            message = [error]
    dist.broadcast_object_list(message, device=ranks.device)
    found = message[0]
    if isinstance(found, Exception):
        raise found
    for name, like in {f.name: getattr(found, f.name) for f in fields(found)}.items():
        if isinstance(like, Tensor):
            own = tensors.get(name, torch.empty(like.shape, dtype=like.dtype))
            sent = own.to(ranks.device)
            dist.broadcast(sent, 0)
            tensors[name] = own if ranks.rank == 0 else sent.cpu()
    shared: _Data = replace(found, **tensors)
    return shared


def by_first(act: Callable[[], None], ranks: Ranks) -> None:
    """Let the first process act while the others wait for it.

    Raises:
        Exception: What it has raised, in all processes.
    """
    message: list[Exception | None] = [None]
    if ranks.rank == 0:
        try:
            act()
        except Exception as error:
            message = [error]
    if ranks.world > 1:
        dist.broadcast_object_list(message, device=ranks.device)
    if message[0] is not None:
        raise message[0]


def gradients_shared(net: nn.Module, last: bool) -> contextlib.AbstractContextManager[None]:
    """Keep gradients in the process while there are more parts of the batch to come."""
    if isinstance(net, DistributedDataParallel) and not last:
        return net.no_sync()
    share: Any = getattr(net, "set_requires_gradient_sync", None)
    if share is not None:  # FSDP, which keeps them in whole meanwhile
        share(last)
    return contextlib.nullcontext()


@contextlib.contextmanager
def own_state(device: torch.device) -> Iterator[None]:
    """Put torch back in the end as it was: the random state, of which dropout draws, and cuDNN.

    cuDNN may try which of its convolutions is the fastest one, since all batches have one shape.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        torch.backends.cudnn.benchmark = before

"""Who has started this process, and which of how many it is: torchrun, srun, or nobody."""

from __future__ import annotations

import os
import re
import time
import uuid
from datetime import timedelta
from typing import Any

from torch import distributed as dist

__all__ = ["place_of_process", "store_of_attempt"]

KEY = "fmtutor/store"


def place_of_process() -> dict[str, Any] | None:
    """Return which of several processes this is, and where they meet; None for one that is alone.

    torchrun says it in variables that torch reads by itself. srun has others; taken for one that is
    alone, each of its tasks would train the whole run and write over the others.
    """
    if dist.is_torchelastic_launched():
        return {"local": int(os.environ["LOCAL_RANK"])}
    world = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if world == 1:
        return None
    # rack1n[07-09,12],other: the first name, with the first number of each pair of brackets
    nodes = os.environ.get("SLURM_STEP_NODELIST", "")
    first = re.match(r"(?:[^\[,]|\[[^\]]*\])*", nodes)
    host = os.environ.get("MASTER_ADDR") or re.sub(
        r"\[(\w+)[^\]]*\]", r"\1", first[0] if first else ""
    )
    if not host:
        raise ValueError(
            f"srun has started {world} tasks, but neither MASTER_ADDR nor SLURM_STEP_NODELIST says "
            "where the first one is"
        )
    job = int(os.environ.get("SLURM_JOB_ID", 0)) + int(os.environ.get("SLURM_STEP_ID", 0))
    port = os.environ.get("MASTER_PORT") or 20_000 + job % 20_000
    return {
        "init_method": f"tcp://{host}:{port}",
        "rank": int(os.environ["SLURM_PROCID"]),
        "world_size": world,
        "local": int(os.environ["SLURM_LOCALID"]),
    }


def store_of_attempt(patience: timedelta) -> dict[str, Any]:
    """Return where the processes of torchrun meet, this time: a store of their own.

    torchrun has one store for all its attempts. What dead processes have left in it, as addresses
    at which nobody answers, the processes of the next attempt may take for each other's. So the
    first one opens a new store, and the others look for it until they find one that is alive.
    """
    place = {"rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return place
    host, end = os.environ["MASTER_ADDR"], time.monotonic() + patience.total_seconds()
    shared = _open(host, int(os.environ["MASTER_PORT"]), patience)
    if place["rank"] == 0:
        name = uuid.uuid4().hex
        store = _open(host, 0, patience, is_master=True)
        store.set(name, "here")
        shared.set(KEY, f"{store.port} {name}")
        return {"store": store, **place}
    while time.monotonic() < end:
        port, name = shared.get(KEY).decode().split()
        try:
            store = _open(host, int(port), timedelta(seconds=2))
            if store.check([name]):
                store.set_timeout(patience)
                return {"store": store, **place}
        except RuntimeError:  # nobody is there: it was one of an earlier attempt
            pass
        time.sleep(0.1)
    raise TimeoutError(f"rank 0 has opened no store on {host} for {patience}")


def _open(host: str, port: int, patience: timedelta, *, is_master: bool = False) -> Any:
    return dist.TCPStore(  # type: ignore[attr-defined]
        host, port, is_master=is_master, wait_for_workers=False, timeout=patience
    )

"""Who has started this process, and which of how many it is: torchrun, srun, or nobody."""

from __future__ import annotations

import os
import re
from typing import Any

from torch import distributed as dist

__all__ = ["place_of_process"]


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

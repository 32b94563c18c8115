"""What a result must say about the machine and the programs that made it."""

import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def instructions() -> str:
    """The widest instructions that torch uses here: `AVX2`, `AVX512`."""
    return torch.backends.cpu.get_cpu_capability()


def processor() -> str:
    """Its name and instructions: in rows of one result that several machines made."""
    return f"{cpu_name()}, {instructions()}"


def recorded(result: Path) -> dict[str, Any]:
    """Return what a result holds now, with its `rows`: another process may have added to it."""
    found: dict[str, Any] = json.loads(result.read_text("utf-8")) if result.exists() else {}
    return {"rows": []} | found


def is_recorded(result: Path, key: dict[str, object]) -> bool:
    """Whether a result has a row with these entries, which is not to be made again."""
    return any(key.items() <= row.items() for row in recorded(result)["rows"])


def rounded(value: Any, digits: int = 4) -> Any:
    """Return a value as a result keeps it: so many digits, and None for what JSON cannot say."""
    if isinstance(value, dict):
        return {key: rounded(part, digits) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part, digits) for part in value]
    if not isinstance(value, float):
        return value
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def steps_within(run: Callable[[int], object], minutes: float) -> int:
    """Return how many steps of `run(steps)` fit into so many minutes of a processor."""
    stamps = [time.process_time()]
    for _ in range(4):
        run(40)
        stamps.append(time.process_time())
    return int(60 * minutes * 40 / statistics.median(b - a for a, b in pairwise(stamps)))


def machine() -> dict[str, object]:
    return {
        "cpu": cpu_name(),
        "instructions": instructions(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def slug() -> str:
    """The processor's name as the name of a file: `intel-xeon-processor`."""
    name = re.sub(r"\(.*?\)", "", cpu_name()).lower()
    return "-".join(re.findall(r"[a-z0-9]+", name))


def revision() -> str:
    """The commit that was measured."""
    command = ["git", "rev-parse", "--short=10", "HEAD"]
    run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    return run.stdout.strip() or "unknown"


def versions(*packages: str) -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), "torch": torch.__version__, **found}

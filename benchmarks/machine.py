"""What a result must say about the machine and the programs that made it."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import torch


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def instructions() -> str:
    """The widest instructions that torch uses here: `AVX2`, `AVX512`."""
    return torch.backends.cpu.get_cpu_capability()


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

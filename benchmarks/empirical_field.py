"""The exact marginal field of 60,000 images: one fused kernel against the plain ways to compute it.

For a batch of 64 points, each with its own time, three programs compute the same velocities:

fused       `EmpiricalField`: attention with the data as keys and as values.
per sample  for each point: `torch.cdist` to α(t)·data, softmax, weights @ data.
one cdist   `torch.cdist` of all x/α(t) to the data at once, softmax, weights @ data; the most
            favourable of the plain ways, since the data is neither scaled nor copied.

    python benchmarks/empirical_field.py [--data FILE] [--out FILE]

FILE is an IDX file as Fashion-MNIST comes in (train-images-idx3-ubyte, .gz or not); without it the
data is uniform. Runs alternate, so that a change of the machine's speed meets all of them. Memory
is measured apart (on Linux), in one process for each program: what it keeps beside the data, and
the peak of a run beyond that. Errors are against the plain formula in float64.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from machine import machine, versions
from torch import Tensor

from fmtutor import CondOT, EmpiricalField

N, D, BATCH = 60_000, 784, 64
PATH = CondOT()


def load(file: str | None) -> Tensor:
    """Return the data `[n d]`, float32, with values in [-1, 1]."""
    if file is None:
        return torch.empty(N, D).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    with gzip.open(file) if file.endswith(".gz") else open(file, "rb") as stream:
        content = stream.read()
    if content[:4] != b"\x00\x00\x08\x03":
        raise SystemExit(f"{file} is not an IDX file of images (unsigned bytes, three axes)")
    n, height, width = (int.from_bytes(content[i : i + 4], "big") for i in (4, 8, 12))
    pixels = np.frombuffer(content, np.uint8, offset=16).reshape(n, height * width)
    return torch.from_numpy(pixels.astype(np.float32)).div_(127.5).sub_(1)


def batch(data: Tensor) -> tuple[Tensor, Tensor]:
    """Return points `[b d]` on the path, at times spread over [0.02, 0.95]."""
    generator = torch.Generator().manual_seed(1)
    x1 = data[torch.randperm(len(data), generator=generator)[:BATCH]]
    t = torch.linspace(0.02, 0.95, BATCH)
    x0 = torch.randn(x1.shape, generator=generator)
    return PATH.sample(x0, x1, t).xt, t


def velocity(x: Tensor, mean: Tensor, t: Tensor) -> Tensor:
    return mean + (PATH.d_sigma(t) / PATH.sigma(t))[:, None] * (x - PATH.alpha(t)[:, None] * mean)


def per_sample(data: Tensor, x: Tensor, t: Tensor) -> Tensor:
    means = []
    for row, time_ in zip(x, t, strict=True):
        distance = torch.cdist(row[None], PATH.alpha(time_) * data)
        weights = (-0.5 * (distance / PATH.sigma(time_)).square()).softmax(1)
        means.append(weights @ data)
    return velocity(x, torch.cat(means), t)


def one_cdist(data: Tensor, x: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = PATH.alpha(t)[:, None], PATH.sigma(t)[:, None]
    distance = torch.cdist(x / alpha, data)
    weights = (-0.5 * (alpha / sigma * distance).square()).softmax(1)
    return velocity(x, weights @ data, t)


def exact(data: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The plain formula, distances without cancellation, in float64; data taken in pieces."""
    x, t, pieces = x.double(), t.double(), data.split(5000)
    alpha, sigma = PATH.alpha(t)[:, None], PATH.sigma(t)[:, None]
    mode = "donot_use_mm_for_euclid_dist"
    distance = torch.cat([torch.cdist(x / alpha, p.double(), compute_mode=mode) for p in pieces], 1)
    weights = (-0.5 * (alpha / sigma * distance).square()).softmax(1)
    parts = zip(weights.split(5000, dim=1), pieces, strict=True)
    return velocity(x, sum(w @ p.double() for w, p in parts), t)


PROGRAMS = {"fused": None, "per sample": per_sample, "one cdist": one_cdist}


def prepare(name: str, data: Tensor):
    """Return a program as a function of x and t; what it keeps of the data is made here."""
    if name == "fused":
        return EmpiricalField(PATH, data)
    return lambda x, t: PROGRAMS[name](data, x, t)


def measure_memory(name: str, file: str | None) -> None:
    """Print what a program keeps of the data and what running it takes beyond that, in MiB."""
    data = load(file)
    x, t = batch(data)
    torch.cdist(x, x) @ x  # the libraries' own buffers
    before = resident_mib("VmRSS")
    program = prepare(name, data)
    kept = resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    program(x, t)
    print(json.dumps({"keep": kept - before, "run": resident_mib("VmHWM") - kept}))


def resident_mib(field: str) -> float:
    # Not resource.getrusage: its peak starts from the size of the parent process.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def memory_in_a_process(name: str, file: str | None) -> dict[str, float]:
    if sys.platform != "linux":
        return {"keep": math.nan, "run": math.nan}
    command = [sys.executable, __file__, "--memory", name, *(["--data", file] if file else [])]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_time(data: Tensor, x: Tensor, t: Tensor, repeats: dict[str, int]) -> dict[str, list]:
    """Return seconds of each run, the programs taking turns."""
    programs = {name: prepare(name, data) for name in PROGRAMS}
    for program in programs.values():
        program(x[:8], t[:8])  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for turn in range(max(repeats.values())):
        for name, program in programs.items():
            if turn < repeats[name]:
                start = time.perf_counter()
                program(x, t)
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="an IDX file of images; default: uniform numbers")
    default = Path(__file__).parent / "results" / "empirical_field.json"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--memory", choices=[*PROGRAMS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        measure_memory(options.memory, options.data)
        return

    data = load(options.data)
    x, t = batch(data)
    with torch.inference_mode():
        seconds = measure_time(data, x, t, {"fused": 15, "per sample": 3, "one cdist": 15})
        truth = exact(data, x, t)
        error = {
            name: ((prepare(name, data)(x, t) - truth).abs().max() / truth.abs().max()).item()
            for name in PROGRAMS
        }
    memory = {name: memory_in_a_process(name, options.data) for name in PROGRAMS}

    median = {name: statistics.median(values) for name, values in seconds.items()}
    rows = {
        name: {
            "median_ms": round(1e3 * median[name], 1),
            "runs_ms": [round(1e3 * value, 1) for value in seconds[name]],
            "times_slower_than_fused": round(median[name] / median["fused"], 2),
            "peak_extra_mib": round(memory[name]["run"], 1),
            "kept_beside_the_data_mib": round(memory[name]["keep"], 1),
            "relative_error": float(f"{error[name]:.2e}"),
        }
        for name in PROGRAMS
    }
    result = {
        "command": "make bench",
        "data": Path(options.data).name if options.data else "uniform in [-1, 1]",
        "points": len(data),
        "dimensions": data.shape[1],
        "batch": BATCH,
        "dtype": "float32",
        "machine": machine(),
        "versions": versions(),
        "programs": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")

    print(f"{len(data)} points of {data.shape[1]} dimensions, batch {BATCH}, float32")
    print(f"{'':<12}{'median ms':>12}{'ratio':>9}{'extra MiB':>12}{'kept MiB':>11}{'error':>11}")
    for name, row in rows.items():
        print(
            f"{name:<12}{row['median_ms']:>12.1f}{row['times_slower_than_fused']:>9.2f}"
            f"{row['peak_extra_mib']:>12.1f}{row['kept_beside_the_data_mib']:>11.1f}"
            f"{row['relative_error']:>11.1e}"
        )
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()

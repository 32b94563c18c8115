"""Pictures for the same CPU minutes: our preset, one change of it at a time, and a peer's example.

Everybody trains on Fashion-MNIST with classes, on one thread, until the same processor time is
spent, and is judged alike: pictures of the same labels from the same noise by the same solver, in
the features of the package's classifier. Rows that the result holds are not made again.

    python benchmarks/images.py ours --minutes 10 30
    python benchmarks/images.py changes --minutes 10 --seeds 1
    .venv-bench/bin/python benchmarks/images.py torchcfm --minutes 10 30  # as in its example
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions
from torch import Tensor

from fmtutor import sample
from fmtutor.guidance import conditioned, guided
from fmtutor.images.config import PRESETS
from fmtutor.images.data import ImageData, to_float, to_uint8
from fmtutor.images.datasets import load_images
from fmtutor.images.features import choose_features
from fmtutor.images.judge import Judge
from fmtutor.images.measures import embed
from fmtutor.images.trainer import train
from fmtutor.notation import Field

OUT = Path(__file__).parent / "results" / "images.json"
PICTURES, STEPS = 1000, 16  # judged, of the midpoint method: 32 evaluations
SCALES = (1.0, 1.5)

OURS = PRESETS["fashion-cpu"]
UNET = dict(OURS.architecture)
CHANGES: dict[str, dict[str, Any]] = {
    "preset": {},
    "bfloat16": {"precision": "bfloat16"},
    "no patches": {"architecture": UNET | {"patch": 1}},
    "patch 4": {"architecture": UNET | {"patch": 4, "mults": (1,), "width": 128}},
    "width 32": {"architecture": UNET | {"width": 32}},
    "width 64": {"architecture": UNET | {"width": 64}},
    "lr halved": {"lr": OURS.lr / 2},
    "lr doubled": {"lr": OURS.lr * 2},
    "longer average": {"ema": 0.9997},
    "shorter average": {"ema": 0.995},
    "batch 32": {"batch_size": 32},
    "batch 128": {"batch_size": 128},
    "constant lr": {"decay": 0.0},
    "minibatch OT within classes": {"coupling": "ot-within"},
}
"""What differs from the preset, in one thing each."""


def train_ours(
    data: ImageData, minutes: float, seed: int, change: dict[str, Any]
) -> tuple[Field | None, dict[str, Any]]:
    """Train the preset with a change for as many steps as fit, by the time of its first ones."""
    config = replace(OURS, seed=seed, **change)
    quiet = dict.fromkeys(("log_every", "sample_every", "save_every"), 10**9)

    def run(steps: int) -> tuple[Field, float]:
        short = replace(config, steps=steps, warmup=min(config.warmup, steps - 1), **quiet)
        with tempfile.TemporaryDirectory() as out:
            start = time.process_time()
            net = train(short, data, out, device="cpu", progress=False)
            return net, time.process_time() - start

    _, begun = run(2)
    _, more = run(42)
    steps = int((60 * minutes - begun) / ((more - begun) / 40))
    net, seconds = run(steps)
    return net, {"steps": steps, "batch_size": config.batch_size, "cpu_seconds": round(seconds)}


def train_torchcfm(
    data: ImageData, minutes: float, seed: int
) -> tuple[Field | None, dict[str, Any]]:
    """Train as the example `conditional_mnist.ipynb` of torchcfm does, on these pictures."""
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
    from torchcfm.models.unet import UNetModel

    torch.manual_seed(seed)
    model = UNetModel(
        dim=(1, 28, 28), num_channels=32, num_res_blocks=1, num_classes=10, class_cond=True
    )
    optimizer = torch.optim.Adam(model.parameters())
    matcher = ConditionalFlowMatcher(sigma=0.0)
    x, labels, batch, steps = to_float(data.train), data.train_labels, 128, 0
    start = time.process_time()
    while time.process_time() - start < 60 * minutes:
        for rows in torch.randperm(len(x)).split(batch):
            if len(rows) < batch or time.process_time() - start >= 60 * minutes:
                break
            optimizer.zero_grad()
            x1 = x[rows]
            t, xt, ut = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
            ((model(t, xt, labels[rows]) - ut) ** 2).mean().backward()
            optimizer.step()
            steps += 1
    seconds = time.process_time() - start
    model.eval()

    def v(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        velocity: Tensor = model(t, x, label)
        return velocity

    return v, {"steps": steps, "batch_size": batch, "cpu_seconds": round(seconds)}


def judged(v: Field, scale: float, judge: Judge) -> dict[str, float]:
    labels = torch.arange(PICTURES) % 10
    x0 = torch.randn(PICTURES, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    drawn = []
    for rows in torch.arange(PICTURES).split(250):
        field = conditioned(v, labels[rows])
        if scale != 1:
            field = guided(field, v, scale)
        drawn.append(to_uint8(sample(field, x0[rows], method="midpoint", steps=STEPS)))
    scores = judge.score(torch.cat(drawn), labels)
    return {name: float(f"{value:.4g}") for name, value in scores.items()}


def recorded() -> dict[str, Any]:
    """Return what the result holds now: another process may have added to it."""
    found: dict[str, Any] = json.loads(OUT.read_text("utf-8")) if OUT.exists() else {"rows": []}
    return found


ENTRANTS: dict[str, dict[str, Callable[..., tuple[Field, dict[str, Any]]]]] = {
    "ours": {"preset": partial(train_ours, change={})},
    "changes": {name: partial(train_ours, change=change) for name, change in CHANGES.items()},
    "torchcfm": {"torchcfm": train_torchcfm},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("entrants", choices=ENTRANTS)
    parser.add_argument("--minutes", type=float, nargs="+", default=[10.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="names of entrants")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_images("fashion-mnist")
    features = choose_features(data)
    train_features = embed(data.train, features.embedding)
    judge = Judge(data, features.embedding, train_features, features.classifier, 3, 0)
    for minutes in options.minutes:
        for seed in range(options.seeds):
            for name, entrant in ENTRANTS[options.entrants].items():
                key = {"entrant": name, "minutes": minutes, "seed": seed}
                done = any(key.items() <= row.items() for row in recorded()["rows"])
                if done or (options.only and name not in options.only):
                    continue
                v, facts = entrant(data, minutes, seed)
                packages = ("fmtutor", *(["torchcfm"] if name == "torchcfm" else []))
                row = key | facts | {"versions": versions(*packages), "machine": machine()["cpu"]}
                scales = SCALES[:1] if name == "torchcfm" else SCALES
                row["scores"] = {f"{scale:g}": judged(v, scale, judge) for scale in scales}
                result = recorded() | {"floor": judge.floor(PICTURES)}
                result["rows"].append(row)
                OUT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
                print(name, minutes, seed, facts, row["scores"], flush=True)


if __name__ == "__main__":
    main()

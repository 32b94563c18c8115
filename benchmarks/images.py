"""Pictures for the same CPU minutes: our preset, changes of it in one thing each, a peer's example.

Everybody trains on Fashion-MNIST with classes, on one thread, until the same processor time is
spent, and is judged alike: 1,000 pictures of the same labels from the same noise by the midpoint
method with 16 evaluations, without guidance, in the features of the package's classifier. Rows that
the result holds are not made again, so that a start that was cut off goes on; several processes may
share the work.

    python benchmarks/images.py fashion-cpu --minutes 10 --seeds 0 1 2
    .venv-bench/bin/python benchmarks/images.py torchcfm --minutes 10 --seeds 0 1 2
    python benchmarks/images.py fashion-cpu changes --minutes 5 --precision bfloat16

Only processors with instructions for bfloat16 gain by it (a step takes half the time); others are
ten times slower.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from machine import is_recorded, processor, recorded, rounded, versions
from torch import Tensor

from fmtutor import conditioned, sample
from fmtutor.images.batches import on_device
from fmtutor.images.config import TrainConfig
from fmtutor.images.data import ImageData, to_float, to_uint8
from fmtutor.images.datasets import load_images
from fmtutor.images.features import choose_features
from fmtutor.images.judge import Judge
from fmtutor.images.latents import decoder_of, encoded
from fmtutor.images.measures import embed
from fmtutor.images.pictures import draw_pictures
from fmtutor.images.prepare import begin_run, shared_network
from fmtutor.images.presets import PRESETS
from fmtutor.images.run import ALONE
from fmtutor.images.trainer import take_step, train

OUT = Path(__file__).parent / "results" / "images.json"
PICTURES, STEPS, SEED = 1000, 8, 0  # judged: how many, steps of the midpoint method, their noise
INTERVALS = ("log_every", "sample_every", "save_every")
PEER = "torchcfm"

PRESET = PRESETS["fashion-cpu"]


def unet(**change: Any) -> TrainConfig:
    return replace(PRESET, architecture=PRESET.architecture | change)


def other(preset: str, **change: Any) -> TrainConfig:
    found = PRESETS[preset]
    return replace(found, architecture=found.architecture | change)


ENTRANTS = {
    "fashion-cpu": PRESET,
    # Changes of the entrant above:
    "patches of 1": unet(patch=1, mults=(1, 2, 2)),
    "patches of 4": unet(patch=4, mults=(1,), width=128),
    "width 32": unet(width=32),
    "width 64": unet(width=64),
    "no attention": unet(attention=()),
    "learning rate halved": replace(PRESET, lr=PRESET.lr / 2),
    "learning rate doubled": replace(PRESET, lr=PRESET.lr * 2),
    "learning rate kept to the end": replace(PRESET, decay=0.0),
    "batches of 32": replace(PRESET, batch_size=32),
    "batches of 128": replace(PRESET, batch_size=128),
    "average of a tenth the length": replace(PRESET, ema=0.99),
    "average of three times the length": replace(PRESET, ema=0.9997),
    "logit-normal times": replace(PRESET, times="logit-normal"),
    "logit-normal times, nearer to the noise": replace(
        PRESET, times="logit-normal", times_mean=-0.5
    ),
    "logit-normal times, nearer to the pictures": replace(
        PRESET, times="logit-normal", times_mean=0.5
    ),
    "pictures moved by a pixel": replace(PRESET, augment=1),
    "dequantised": replace(PRESET, dequantise=True),
    "noise paired within classes": replace(PRESET, coupling="ot-within"),
    # Other networks, other spaces:
    "transformer": other("fashion-transformer-cpu"),
    "transformer, patches of 2": other("fashion-transformer-cpu", patch=2, width=96),
    "transformer, patches of 7": other("fashion-transformer-cpu", patch=7, width=192),
    "transformer of latents": other("fashion-latents-cpu"),
    "U-Net of latents": replace(
        PRESET,
        autoencoder="fashion-mnist",
        architecture={"patch": 1, "width": 64, "mults": (1,), "blocks": 2, "attention": (7,)},
    ),
}
"""What is trained by us."""


class Trained(NamedTuple):
    """What came out: how to draw pictures of labels, and what it took."""

    draw: Callable[[Tensor], Tensor]
    steps: int
    batch_size: int
    seconds: float


def train_ours(data: ImageData, minutes: float, config: TrainConfig) -> Trained:
    """Train for as many steps as fit, by the time that the first ones of another run take."""
    config = replace(config, **dict.fromkeys(INTERVALS, 10**9))
    if config.autoencoder:
        data = encoded(data, config.autoencoder)
    run = begin_run(config, data, ALONE)
    net, pictures = shared_network(run, config, ALONE), on_device(data, config, ALONE.device)
    stamps = [time.process_time()]
    for _ in range(28):
        take_step(run, net, pictures, config, ALONE, torch.Generator())
        stamps.append(time.process_time())
    median = statistics.median(b - a for a, b in pairwise(stamps[8:]))
    steps = int(60 * minutes / median)
    with tempfile.TemporaryDirectory() as out:
        start = time.process_time()
        average = train(
            replace(config, steps=steps, warmup=min(config.warmup, steps - 1)),
            data,
            out,
            device="cpu",
            progress=False,
        )
        seconds = time.process_time() - start
    decode = decoder_of({"autoencoder": data.autoencoder})

    def draw(labels: Tensor) -> Tensor:
        return draw_pictures(average, labels, steps=STEPS, seed=SEED, decode=decode)

    return Trained(draw, steps, config.batch_size, seconds)


def train_torchcfm(data: ImageData, minutes: float, seed: int) -> Trained:
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

    def draw(labels: Tensor) -> Tensor:
        x0 = torch.randn(len(labels), 1, 28, 28, generator=torch.Generator().manual_seed(SEED))
        rows = torch.arange(len(labels)).split(250)
        drawn = (
            sample(conditioned(v, labels[k]), x0[k], method="midpoint", steps=STEPS) for k in rows
        )
        return torch.cat([to_uint8(x) for x in drawn])

    return Trained(draw, steps, batch, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("entrants", nargs="+", choices=[*ENTRANTS, PEER, "changes"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_images("fashion-mnist")
    features = choose_features(data)
    train_features = embed(data.train, features.embedding)
    judge = Judge(data, features.embedding, train_features, features.classifier, 3, 0)
    labels = torch.arange(PICTURES) % len(data.classes)
    names = [name for name in options.entrants if name != "changes"]
    names += [*ENTRANTS][1:] if "changes" in options.entrants else []
    for seed in options.seeds:
        for name in names:
            key = {
                "entrant": name,
                "precision": options.precision,
                "minutes": options.minutes,
                "seed": seed,
                "machine": processor(),
            }
            if is_recorded(OUT, key):
                continue
            if name == PEER:
                trained = train_torchcfm(data, options.minutes, seed)
            else:
                config = replace(ENTRANTS[name], precision=options.precision, seed=seed)
                trained = train_ours(data, options.minutes, config)
            start = time.process_time()
            drawn = trained.draw(labels)
            seconds = time.process_time() - start
            scores = rounded(judge.score(drawn, labels))
            row = key | {
                "steps": trained.steps,
                "batch_size": trained.batch_size,
                "cpu_seconds": round(trained.seconds),
                "milliseconds_per_picture": round(1000 * seconds / PICTURES, 1),
                "scores": scores,
                "versions": versions("fmtutor", *([PEER] if name == PEER else [])),
            }
            result = recorded(OUT) | {"floor": rounded(judge.floor(PICTURES))}
            result["rows"].append(row)
            OUT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
            print({k: v for k, v in row.items() if k != "versions"}, flush=True)


if __name__ == "__main__":
    main()

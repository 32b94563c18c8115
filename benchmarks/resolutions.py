"""Which times at which resolution: Fashion-MNIST with 28 × 28 and with 7 × 7 pixels.

The small pictures are means of blocks. The networks are alike but for the first and the last layer:
one sees patches of 4 × 4 pixels, the other pixels. Each is trained with times that are shifted by
one ratio, and sampled by Euler's method with 8 steps at times that are shifted by another. Pictures
are judged at their own resolution, the small ones magnified, as the data they are compared with.
Rows that the result holds are not made again.

    python benchmarks/resolutions.py [--seeds SEED ...]

Forty minutes on one core, for one seed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from machine import is_recorded, machine, recorded, versions
from torch import Tensor
from torch.nn.functional import avg_pool2d

from fmtutor.images.config import TrainConfig
from fmtutor.images.data import ImageData
from fmtutor.images.datasets import load_images
from fmtutor.images.features import choose_features
from fmtutor.images.measures import embed
from fmtutor.images.pictures import draw_pictures
from fmtutor.images.presets import PRESETS
from fmtutor.images.trainer import train
from fmtutor.metrics import frechet_distance

OUT = Path(__file__).parent / "results" / "resolutions.json"
PICTURES, STEPS = 1000, 8
SIZES = (28, 7)
TRAINED = (1.0, 2.0)
SAMPLED = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def settings(size: int, shift: float, seed: int) -> TrainConfig:
    return replace(
        PRESETS["fashion-cpu"],
        architecture={"patch": size // 7, "width": 96, "mults": (1,), "attention": (7,)},
        steps=1000,
        batch_size=32,
        shift=shift,
        seed=seed,
        **dict.fromkeys(("log_every", "sample_every", "save_every"), 10**9),
    )


def made_small(pictures: Tensor, size: int) -> Tensor:
    """Return means of blocks of pictures, uint8 `[n 1 size size]`."""
    return avg_pool2d(pictures.float(), 28 // size).round().to(torch.uint8)


def magnified(pictures: Tensor) -> Tensor:
    """Return pictures, uint8, with 28 × 28 pixels again, in equal blocks."""
    k = 28 // pictures.shape[-1]
    return pictures.repeat_interleave(k, 2).repeat_interleave(k, 3)


def at_size(data: ImageData, size: int) -> ImageData:
    return replace(data, train=made_small(data.train, size), test=made_small(data.test, size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    full = load_images("fashion-mnist")
    embedding = choose_features(full).embedding
    sets = {size: at_size(full, size) for size in SIZES}
    real = {size: embed(magnified(data.train), embedding) for size, data in sets.items()}
    labels = torch.arange(PICTURES) % len(full.classes)
    for seed in options.seeds:
        for shift in TRAINED:
            for size in SIZES:
                key = {"size": size, "trained": shift, "seed": seed}
                if is_recorded(OUT, key):
                    continue
                with tempfile.TemporaryDirectory() as out:
                    config = settings(size, shift, seed)
                    net = train(config, sets[size], out, device="cpu", progress=False)
                rows = []
                for at in SAMPLED:
                    x = draw_pictures(net, labels, method="euler", steps=STEPS, shift=at, seed=seed)
                    value = frechet_distance(embed(magnified(x), embedding), real[size]).item()
                    rows.append(key | {"sampled": at, "frechet": float(f"{value:.4g}")})
                    print(rows[-1], flush=True)
                result = {
                    "command": "python benchmarks/resolutions.py",
                    "pictures": PICTURES,
                    "evaluations": STEPS,
                    "steps": config.steps,
                    "machine": machine(),
                    "versions": versions("fmtutor"),
                    "rows": [*recorded(OUT)["rows"], *rows],
                }
                OUT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""How far the recorded distances of the shipped network's pictures can be trusted.

The pictures behind each row of `fashion_cpu.json` are drawn again, from the same noise, and beside
them those of Heun's method whose last step is left to Euler's. For each row are written:

frechet     The Fréchet distance to all training pictures.
left_out    The same with a twentieth of the pictures left out, for each twentieth in turn (as many
            of each label in all). From it follow the row's standard error and, since equal numbers
            leave out the same noise in all rows of one count, that of the difference of two rows.
contrast    Mean square of the difference of neighbouring pixels, over that of training pictures:
            below 1 for pictures that are too soft.

The last rows are real test pictures: as they are, softened with a small blur, and with a faint
noise on them. They say what the distance sees of either.

    python benchmarks/fashion_errors.py [--data-dir DIR] [--out FILE]

Twenty minutes on one core that is shared, most of them for the pictures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions
from torch import Tensor

from fmtutor import conditioned, sample
from fmtutor.images.checkpoint import load_model, shipped_checkpoint
from fmtutor.images.config import steps_for
from fmtutor.images.datasets import load_images, to_float, to_uint8
from fmtutor.images.features import choose_features
from fmtutor.images.judge import held_out_rows
from fmtutor.images.measures import embed
from fmtutor.images.pictures import draw_pictures
from fmtutor.metrics import frechet_distance
from fmtutor.networks import UNet

RESULTS = Path(__file__).parent / "results"
GROUPS = 20
SEED = 0  # that of fashion_cpu.json
BLUR = 0.04  # weight of each of the two neighbours, along rows and then along columns
NOISE = 0.06  # standard deviation, pixels in [-1, 1]


def settings() -> list[dict[str, Any]]:
    """Return what was drawn for `fashion_cpu.json`, each setting once, and the mended Heun."""
    recorded = json.loads((RESULTS / "fashion_cpu.json").read_text("utf-8"))
    keys = ("method", "nfe", "guidance", "count")
    rows = {
        tuple(row[key] for key in keys): None
        for row in [*recorded["nfe"], *recorded["guidance"], recorded["samples"]]
    }
    count = recorded["nfe"][0]["count"]
    mended = [("heun, last step euler", nfe, 1.0, count) for nfe in (3, 7, 15, 31)]
    return [dict(zip(keys, row, strict=True)) for row in [*rows, *mended]]


def draw(model: UNet, row: dict[str, Any]) -> Tensor:
    labels = torch.arange(row["count"]) % model.classes
    if row["method"] in ("euler", "midpoint", "heun", "rk4"):
        steps = steps_for(row["method"], row["nfe"])
        return draw_pictures(
            model, labels, scale=row["guidance"], method=row["method"], steps=steps, seed=SEED
        )
    steps = (row["nfe"] + 1) // 2  # the last one costs one evaluation
    noise = torch.randn(row["count"], 1, 28, 28, generator=torch.Generator().manual_seed(SEED))
    drawn = []
    for x, y in zip(noise.split(250), labels.split(250), strict=True):
        v = conditioned(model, y)
        if steps > 1:
            x = sample(v, x, method="heun", steps=steps - 1, t1=1 - 1 / steps)
        drawn.append(to_uint8(sample(v, x, method="euler", steps=1, t0=1 - 1 / steps)))
    return torch.cat(drawn)


def contrast(pictures: Tensor) -> float:
    x = to_float(pictures)
    return sum(x.diff(dim=axis).square().mean().item() for axis in (2, 3)) / 2


def spoiled(pictures: Tensor) -> dict[str, Tensor]:
    """Return the pictures as they are, soft, and noisy."""
    x = to_float(pictures)
    kernel = torch.tensor([BLUR, 1 - 2 * BLUR, BLUR])
    soft = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    soft = torch.nn.functional.conv2d(soft, kernel.view(1, 1, 1, 3))
    soft = torch.nn.functional.conv2d(soft, kernel.view(1, 1, 3, 1))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(SEED))
    return {"as they are": pictures, "soft": to_uint8(soft), "noisy": to_uint8(x + NOISE * noise)}


def distances(features: Tensor, train: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return the distance of all pictures, and of all but each group."""
    group = torch.empty_like(labels)
    group[labels.argsort(stable=True)] = torch.arange(len(labels)) % GROUPS
    rest = [frechet_distance(features[group != k], train).item() for k in range(GROUPS)]
    whole = frechet_distance(features, train).item()
    return {"frechet": round(whole, 6), "left_out": [round(value, 6) for value in rest]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=RESULTS / "fashion_errors.json")
    options = parser.parse_args()
    data = load_images("fashion-mnist", data_dir=options.data_dir)
    model, _ = load_model(shipped_checkpoint())
    model.to(memory_format=torch.channels_last)  # a third faster
    embedding = choose_features(data).embedding
    train, unit = embed(data.train, embedding), contrast(data.train)

    def measure(pictures: Tensor, labels: Tensor) -> dict[str, Any]:
        numbers = distances(embed(pictures, embedding), train, labels)
        return numbers | {"contrast": round(contrast(pictures) / unit, 4)}

    rows = []
    for row in settings():
        pictures = draw(model, row)
        rows.append(row | measure(pictures, torch.arange(row["count"]) % model.classes))
        print({key: value for key, value in rows[-1].items() if key != "left_out"}, flush=True)
    real = []
    for count in sorted({row["count"] for row in rows}):
        chosen = held_out_rows(data, count, SEED)
        for kind, pictures in spoiled(data.test[chosen]).items():
            numbers = measure(pictures, data.test_labels[chosen])
            real.append({"kind": kind, "count": count} | numbers)
            print({key: value for key, value in real[-1].items() if key != "left_out"})
    result = {
        "command": "python benchmarks/fashion_errors.py",
        "groups": GROUPS,
        "seed": SEED,
        "blur": BLUR,
        "noise": NOISE,
        "machine": machine(),
        "versions": versions(),
        "rows": rows,
        "test_pictures": real,
    }
    options.out.write_text(json.dumps(result) + "\n", "utf-8")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()

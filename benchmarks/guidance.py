"""Ways to guide the shipped network: constant, in an interval, rescaled, away from a weaker one.

Each way draws 2,000 pictures of Fashion-MNIST, of the same labels from the same noise, by the
midpoint method with 16 evaluations. The weaker network is of the same family, half as wide, and
trained for 3,000 steps here; it lies beside the build afterwards. Rows that the result holds for
this network are not made again.

    python benchmarks/guidance.py [--only WAY ...]

An hour and a half on one core with AVX2 (two thirds of it with AVX512), a quarter of an hour of it
for the weaker network.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fashion_errors import distances
from machine import machine, recorded, versions

from fmtutor.images.checkpoint import load_model, sha256_of, shipped_checkpoint
from fmtutor.images.datasets import load_images
from fmtutor.images.features import choose_features
from fmtutor.images.judge import Judge
from fmtutor.images.measures import embed
from fmtutor.images.pictures import draw_pictures
from fmtutor.images.presets import PRESETS
from fmtutor.images.trainer import train
from fmtutor.networks import PictureNetwork

OUT = Path(__file__).parent / "results" / "guidance.json"
PICTURES, STEPS, SEED = 2000, 8, 0
SCALES = (1.25, 1.5, 2.0, 3.0)
PRESET = PRESETS["fashion-cpu"]
WEAKER = replace(
    PRESET,
    architecture=PRESET.architecture | {"width": 24},
    steps=3000,
)

WAYS: dict[str, dict[str, Any]] = {
    "constant": {},
    "not before t = 0.2": {"within": (0.2, 1.0)},
    "not before t = 0.4": {"within": (0.4, 1.0)},
    "between t = 0.2 and 0.8": {"within": (0.2, 0.8)},
    "rescaled by 0.7": {"rescale": 0.7},
    "away from a weaker network": {"guide": True},
}
"""What `draw_pictures` is told beside the scale."""


def weaker_network(folder: Path) -> PictureNetwork:
    if not (folder / "model.safetensors").exists():
        train(WEAKER, load_images("fashion-mnist"), folder, device="cpu", progress=False)
    return load_model(folder / "model.safetensors")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--weaker", type=Path, default=Path("_build/guidance"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_images("fashion-mnist")
    model, _ = load_model(shipped_checkpoint())
    network = sha256_of(shipped_checkpoint().read_bytes())
    features = choose_features(data)
    train_features = embed(data.train, features.embedding)
    judge = Judge(data, features.embedding, train_features, features.classifier, 3, SEED)
    labels = torch.arange(PICTURES) % len(data.classes)

    def present() -> list[dict[str, Any]]:
        """Return the rows that the result holds of this network."""
        found = recorded(OUT)
        return found["rows"] if found.get("network") == network else []

    rows = [("none", 1.0), *((way, scale) for way in options.only for scale in SCALES)]
    for way, scale in rows:
        key = {"way": way, "scale": scale}
        if any(key.items() <= row.items() for row in present()):
            continue
        more = dict(WAYS.get(way, {}))
        if more.pop("guide", False):
            more["guide"] = weaker_network(options.weaker)
        pictures = draw_pictures(
            model, labels, scale=scale, method="midpoint", steps=STEPS, seed=SEED, **more
        )
        scores = judge.score(pictures, labels)
        named = {name: round(scores[name], 4) for name in ("precision", "recall", "class_accuracy")}
        row = key | distances(embed(pictures, features.embedding), train_features, labels) | named
        result = {
            "command": "python benchmarks/guidance.py",
            "network": network,
            "pictures": PICTURES,
            "evaluations": 2 * STEPS,
            "weaker": {"width": WEAKER.architecture["width"], "steps": WEAKER.steps},
            "machine": machine(),
            "versions": versions("fmtutor"),
            "floor": {name: round(value, 6) for name, value in judge.floor(PICTURES).items()},
            "rows": [*present(), row],
        }
        OUT.write_text(json.dumps(result) + "\n", "utf-8")
        print({name: value for name, value in row.items() if name != "left_out"}, flush=True)


if __name__ == "__main__":
    main()

"""Fashion-MNIST in one step: a network that learned to jump beside the many steps of a velocity.

The network that comes with the package goes on as a flow map, by one objective or another. Its
jumps are judged as the pictures of `fashion_cpu.json` are: Fréchet distance in the features of the
classifier to all training pictures, precision, recall, and how often the classifier sees the class
that was asked for; three times, from other noise, 2,000 pictures each. Beside them the velocity
field's own few steps. Ten pictures of each, all from the same noise, are kept for a figure.

    fmtutor train --preset fashion-jump-cpu --steps 4500 --out runs/jump \\
        --weights fmtutor/images/weights/fashion-mnist.safetensors
    python benchmarks/few_steps_fashion.py runs/jump

An hour of one core for a run, five minutes for the pictures. Rows that the result holds are not
made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from machine import is_recorded, processor, recorded, rounded, versions
from safetensors.torch import load_file, save_file

from fmtutor.images.checkpoint import load_model, shipped_checkpoint
from fmtutor.images.datasets import load_images
from fmtutor.images.features import choose_features
from fmtutor.images.judge import Judge
from fmtutor.images.measures import embed
from fmtutor.images.objectives import JUMP
from fmtutor.images.pictures import draw_pictures

OUT = Path(__file__).parent / "results" / "few_steps_fashion.json"
SHOWN = OUT.with_suffix(".safetensors")
COUNT, SEEDS, EVALUATIONS = 2000, (0, 1, 2), (1, 2, 4)


def training(run: Path) -> dict[str, Any]:
    """Return what a run's log says of it: its objective, its steps, and the minutes it took."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    last = [line for line in lines if "seconds" in line][-1]
    about = {"objective": lines[0]["config"]["objective"], "steps": last["step"]}
    return about | {"minutes": round(last["seconds"] / 60, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", help="directories of runs that ended")
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_images("fashion-mnist", data_dir=options.data_dir)
    features = choose_features(data)
    judge = Judge(
        data, features.embedding, embed(data.train, features.embedding), features.classifier, 3, 0
    )
    networks: list[tuple[dict[str, Any], Path]] = [
        ({"objective": "velocity"}, shipped_checkpoint())
    ]
    networks += [(training(run), run / "model.safetensors") for run in options.runs]
    result = {"command": "python benchmarks/few_steps_fashion.py RUN ...", "count": COUNT}
    result |= {"floor": rounded(judge.floor(COUNT))} | recorded(options.out)
    shown = {}
    for about, file in networks:
        model = load_model(file)[0].to(memory_format=torch.channels_last)
        labels = torch.arange(COUNT) % model.classes
        method = "euler" if about["objective"] == "velocity" else JUMP
        ways = [(method, n) for n in EVALUATIONS]
        for way, steps in ways if method == JUMP else [*ways, ("midpoint", 16)]:
            ten = draw_pictures(model, labels[:10], method=way, steps=steps, seed=SEEDS[0])
            shown[f"{about['objective']} {way} {steps}"] = ten
        for evaluations in EVALUATIONS:
            for seed in SEEDS:
                key = {"objective": about["objective"], "nfe": evaluations, "seed": seed}
                if is_recorded(options.out, key):
                    continue
                drawn = draw_pictures(model, labels, method=method, steps=evaluations, seed=seed)
                row = key | about | rounded(judge.score(drawn, labels))
                row |= {"machine": processor(), "versions": versions("fmtutor")}
                result["rows"].append(row)
                options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
                print(row, flush=True)
    kept = load_file(SHOWN) if SHOWN.exists() else {}
    save_file(kept | shown, SHOWN, metadata={"command": str(result["command"])})


if __name__ == "__main__":
    main()

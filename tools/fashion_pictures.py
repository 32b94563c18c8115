"""Write the few pictures of Fashion-MNIST that the last chapter shows: it needs no download then.

For one sample of each class the three nearest training pictures, with their distances; and two test
pictures of each class. They go to benchmarks/results/fashion_pictures.safetensors.

    python tools/fashion_pictures.py [--data-dir DIR]
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save

from fmtutor.images.checkpoint import load_model, shipped_checkpoint, write_atomically
from fmtutor.images.datasets import load_images, to_float
from fmtutor.images.evaluate import balanced
from fmtutor.images.measures import nearest_neighbours
from fmtutor.images.pictures import draw_pictures

OUT = Path(__file__).parents[1] / "benchmarks" / "results" / "fashion_pictures.safetensors"
SEED, STEPS = 3, 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    data = load_images("fashion-mnist", data_dir=parser.parse_args().data_dir)
    model, about = load_model(shipped_checkpoint())
    samples = draw_pictures(model, torch.arange(model.classes), steps=STEPS, seed=SEED)
    distances, rows = nearest_neighbours(to_float(samples), to_float(data.train), k=3)
    chosen = balanced(data.test_labels, 2 * model.classes, seed=0)
    chosen = chosen[data.test_labels[chosen].argsort(stable=True)]
    tensors = {
        "samples": samples,
        "neighbours": data.train[rows],
        "distances": distances.float(),
        "test": data.test[chosen],
        "test_labels": data.test_labels[chosen],
    }
    origin = {
        "command": "python tools/fashion_pictures.py",
        "drawn": f"midpoint, {STEPS} steps, seed {SEED}",
        "network_steps": str(about["step"]),
        "licence": "Fashion-MNIST, Zalando SE, MIT",
    }
    write_atomically(OUT, save(tensors, metadata=origin))
    print(f"written to {OUT}")


if __name__ == "__main__":
    main()

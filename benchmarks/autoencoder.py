"""Train the small autoencoder that comes with the package, and measure what it loses.

The reconstructions of the test pictures are compared with the pictures themselves (root mean square
error and peak signal-to-noise ratio, of pixels), with the training pictures (Fréchet distance,
beside that of the test pictures as they are), and by whether the classifier still takes them for
what they are.

    OMP_NUM_THREADS=1 python benchmarks/autoencoder.py [--data-dir DIR]

Eight minutes of one core, and one more to measure.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions
from torch import Tensor

from fmtutor.images.checkpoint import autoencoder_file, load_autoencoder, save_model
from fmtutor.images.classifier import accuracy
from fmtutor.images.data import ImageData, to_float
from fmtutor.images.datasets import load_images
from fmtutor.images.features import choose_features
from fmtutor.images.latents import autoencoder_loss, decode_all, encode_all, standardise
from fmtutor.images.measures import embed
from fmtutor.metrics import frechet_distance
from fmtutor.networks import Autoencoder, AutoencoderConfig
from fmtutor.training import minimise

RESULTS = Path(__file__).parent / "results"


def trained(data: ImageData, config: AutoencoderConfig, options: argparse.Namespace) -> Autoencoder:
    torch.manual_seed(options.seed)
    model = Autoencoder(config).to(memory_format=torch.channels_last)
    minimise(
        model,
        to_float(data.train),
        partial(autoencoder_loss, kl=options.kl),
        steps=options.steps,
        batch_size=options.batch_size,
        lr=options.lr,
        warmup=100,
        seed=options.seed,
        progress=sys.stderr.isatty(),
    )
    model.eval().requires_grad_(False)
    standardise(model, data.train)
    return model


def measured(model: Autoencoder, data: ImageData) -> dict[str, Any]:
    """Return what the reconstructions of the test pictures keep, and what latents are like."""
    latents = encode_all(model, data.test)
    again = decode_all(model, latents)
    error = (to_float(again) - to_float(data.test)).square().mean().sqrt().item()
    features = choose_features(data)
    train = embed(data.train, features.embedding)

    def scores(pictures: Tensor) -> dict[str, Any]:
        found: dict[str, Any] = {"count": len(pictures)}
        found["frechet"] = frechet_distance(embed(pictures, features.embedding), train).item()
        if features.classifier is not None:
            found["class_accuracy"] = accuracy(features.classifier, pictures, data.test_labels)
        return found

    deviation = posterior_deviation(model, data.test)
    return {
        "latent_shape": [*latents.shape[1:]],
        "numbers_per_picture": {"pixels": data.test[0].numel(), "latents": latents[0].numel()},
        "rmse": error,
        "psnr": -20 * math.log10(error / 2),  # pixels from -1 to 1
        "reconstructions": scores(again),
        "test_pictures": scores(data.test),
        "features": features.about["kind"],
        "seen_alike": seen_alike(features.classifier, again, data.test),
        "latent_deviation": latents.std((0, 2, 3)).tolist(),
        "latent_mean": latents.mean((0, 2, 3)).tolist(),
        "posterior_deviation": deviation.mean((0, 2, 3)).tolist(),
    }


@torch.no_grad()
def posterior_deviation(model: Autoencoder, pixels: Tensor) -> Tensor:
    """Return the deviation of each latent given its picture, beside 1 over all pictures."""
    parts = torch.split(pixels, 500)
    return torch.cat([model.posterior(to_float(part))[1].exp() / model.scale for part in parts])


@torch.no_grad()
def seen_alike(classifier: Any, pictures: Tensor, others: Tensor) -> float | None:
    """Return the share of pictures that the classifier takes for the same as the others."""
    if classifier is None:
        return None
    guesses = [classifier(to_float(part)).argmax(1) for part in torch.split(others, 500)]
    return accuracy(classifier, pictures, torch.cat(guesses))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="fashion-mnist", help="fashion-mnist, cifar10 or folder")
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--size", type=int, default=32, help="of a folder's pictures")
    parser.add_argument("--latents", type=int, default=AutoencoderConfig.latents)
    parser.add_argument("--patch", type=int, default=AutoencoderConfig.patch)
    parser.add_argument("--width", type=int, default=AutoencoderConfig.width)
    parser.add_argument("--mults", type=int, nargs="+", default=AutoencoderConfig.mults)
    parser.add_argument("--blocks", type=int, default=AutoencoderConfig.blocks)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--kl", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, default=autoencoder_file("fashion-mnist"))
    parser.add_argument("--out", type=Path, default=RESULTS / "autoencoder.json")
    options = parser.parse_args()
    data = load_images(options.data, data_dir=options.data_dir, size=options.size)
    config = AutoencoderConfig(
        data.train.shape[1], options.latents, options.patch, options.width, (*options.mults,),
        options.blocks,
    )  # fmt: skip
    wall, cpu = time.perf_counter(), time.process_time()
    model = trained(data, config, options)
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    settings = {
        name: getattr(options, name) for name in ("steps", "batch_size", "lr", "kl", "seed")
    }
    command = shlex.join(["python", "benchmarks/autoencoder.py", *sys.argv[1:]])
    about = {
        "data": data.name,
        "network": asdict(config),
        "parameters": sum(p.numel() for p in model.parameters()),
        **settings,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "command": command,
        "versions": versions(),
        "machine": machine(),
    }
    save_model(options.weights, model, metadata=about, dtype=torch.float16)
    shipped, _ = load_autoencoder(options.weights)  # as it is read: rounded
    result = {**about, "bytes": options.weights.stat().st_size, **measured(shipped, data)}
    options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps({key: result[key] for key in ("rmse", "psnr", "seen_alike", "seconds")}))
    for name in ("reconstructions", "test_pictures"):
        print(name, json.dumps(result[name]))
    print("deviation of a latent given its picture", result["posterior_deviation"])


if __name__ == "__main__":
    main()

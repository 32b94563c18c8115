"""Few steps raced: one network, one number of gradient steps, one loss after another.

Every entrant is the network of two times, trained on the same data with the same batches, and
asked for 1, 2 and 4 evaluations; what learned nothing but the whole way, for one. Rows that the
result holds already are not made again, so that a run that was cut off goes on; the weights lie
beside it meanwhile. Seeds come one after the other: what is there after the first seed is a race
already.

    python benchmarks/few_steps.py plane   # checkerboard, clusters, moons: an hour of a core
    python benchmarks/few_steps.py plane --data "eight Gaussians"
    python benchmarks/few_steps.py digits  # with classes: a quarter of an hour
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import is_recorded, processor, recorded, rounded, versions
from safetensors import safe_open
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from fmtutor import MLP, CondOT, GaussianMixture, cfm_loss, data, minimise, sample
from fmtutor.few_steps import (
    consistency_loss,
    lagrangian_loss,
    meanflow_loss,
    regression_loss,
    semigroup_loss,
)
from fmtutor.flow_maps import follow, jump, simulate_pairs, tangent
from fmtutor.images.data import to_float
from fmtutor.images.datasets import load_images
from fmtutor.metrics import frechet_distance, sliced_wasserstein
from fmtutor.networks import TwoTimes
from fmtutor.training import logit_normal

SEEDS = (0, 1, 2)
JUMPS = (1, 2, 4)
MANY = 100  # steps of Euler's method for the field beside them


# Entrants: what is minimised, and what is asked for samples.


def published_pairs(x1: Tensor, g: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Two times, each logit-normal and nearer to the data, as MeanFlow was published for ImageNet.

    Its clock runs from data to noise, with a mean of -0.4.
    """
    both = torch.stack([logit_normal(x1, g, mean=0.4, std=1.0) for _ in range(2)])
    s, t = both.sort(dim=0).values
    return s, t


def again(u: nn.Module, x1: Tensor, x0: Tensor, *cond: Tensor, generator: Any = None) -> Tensor:
    """Flow matching on pairs: what reflow does once it has them."""
    return cfm_loss(tangent(u), x1, x0=x0, cond=cond, generator=generator)


def jumps(u: nn.Module, x0: Tensor, n: int, *cond: Tensor) -> Tensor:
    return jump(u, x0, torch.linspace(0, 1, n + 1), cond=cond)


def euler(u: nn.Module, x0: Tensor, n: int, *cond: Tensor) -> Tensor:
    return sample(tangent(u), x0, steps=n, cond=cond)


def renoised(u: nn.Module, x0: Tensor, n: int, *cond: Tensor) -> Tensor:
    """Jump to the data, mix with new noise, jump again: what consistency models do for more."""
    g, x = torch.Generator().manual_seed(11), jump(u, x0, cond=cond)
    for k in range(1, n):
        noise = torch.randn(x.shape, generator=g)
        x = jump(u, CondOT().sample(noise, x, k / n).xt, (k / n, 1.0), cond=cond)
    return x


@dataclass(frozen=True)
class Entrant:
    """A loss and a sampler; `pairs` says that it learns from pairs that flow matching simulated."""

    loss: Callable[..., Tensor]
    sampler: Callable[..., Tensor] = jumps
    pairs: bool = False


FLOW, REGRESSION = "flow matching", "regression on pairs"
ENTRANTS = {
    FLOW: Entrant(partial(lagrangian_loss, share=1.0), euler),
    "Lagrangian": Entrant(lagrangian_loss),
    "semigroup": Entrant(semigroup_loss),
    "consistency": Entrant(consistency_loss, renoised),
    REGRESSION: Entrant(regression_loss, pairs=True),
    "reflow": Entrant(again, euler, pairs=True),
    "MeanFlow": Entrant(meanflow_loss),
    "MeanFlow, adaptive weight": Entrant(partial(meanflow_loss, power=1.0)),
    "MeanFlow, as for ImageNet": Entrant(
        partial(meanflow_loss, power=1.0, share=0.75, pairs=published_pairs)
    ),
}


# Data.


@dataclass(frozen=True)
class Track:
    """A data set with its network, its training and its yardsticks."""

    x1: Tensor
    cond: tuple[Tensor, ...]
    network: Callable[[], MLP]
    steps: int
    x0: Tensor
    conditions: tuple[Tensor, ...]
    measure: Callable[[Tensor], dict[str, float]]
    floor: dict[str, float]
    pairs: int = 20_000


def shares_off(name: str, x: Tensor) -> float:
    """The share of points where there is no data."""
    if name == "checkerboard":
        square = ((x + 3) / 1.5).floor()
        dark = ((square.sum(1) % 2) == 0) & (square >= 0).all(1) & (square <= 3).all(1)
        return (~dark).double().mean().item()
    if name == "moons":
        gaps = []
        for centre, up in (((-1.0, -0.5), 1), ((1.0, 0.5), -1)):
            y = x - torch.tensor(centre)
            tips = torch.stack(
                [(y - torch.tensor([side, 0.0])).norm(dim=1) for side in (-2.0, 2.0)]
            ).amin(0)
            gaps.append(torch.where(up * y[:, 1] > 0, (y.norm(dim=1) - 2).abs(), tips))
        return (torch.stack(gaps).amin(0) > 4 * 0.16).double().mean().item()
    centres, std = MIXTURES[name]
    return (torch.cdist(x, centres).amin(1) > 4 * std).double().mean().item()


MIXTURES = {
    "four clusters": (data.cluster_means(4, math.sqrt(8)), 0.3),
    "eight Gaussians": (data.cluster_means(8, 3.0), 0.2),
}


def plane(name: str) -> Track:
    draw = data.DATASETS[name]
    x1, real = draw(50_000, seed=0), draw(4_000, seed=1)
    x0, exact = data.standard_normal(4_000, seed=3), None
    if name in MIXTURES:
        centres, std = MIXTURES[name]
        field = GaussianMixture(centres.double(), std).velocity(CondOT())
        with torch.no_grad():
            exact = follow(field, x0.double(), 0.0, 1.0, steps=400).float()

    def measure(x: Tensor) -> dict[str, float]:
        found = {"distance": sliced_wasserstein(x, real, seed=0).item(), "off": shares_off(name, x)}
        if exact is not None:
            error, centres = (x - exact).norm(dim=1), MIXTURES[name][0]
            counts = torch.bincount(torch.cdist(x, centres).argmin(1), minlength=len(centres))
            found |= {
                "map": error.square().mean().sqrt().item(),
                "median": error.median().item(),
                # Of the samples nearest to one centre, over an equal share.
                "rarest": counts.min().item() * len(centres) / len(x),
            }
        return found

    floor = measured_floor([draw(4_000, seed=k) for k in range(2, 12)], measure)
    if exact is not None:
        floor |= {f"exact_{key}": value for key, value in measure(exact).items()}
    return Track(
        x1=x1, cond=(), network=lambda: MLP(2, width=128, depth=3, max_frequency=2.0),
        steps=3000, x0=x0, conditions=(), measure=measure, floor=floor,
    )  # fmt: skip


def measured_floor(
    others: list[Tensor], measure: Callable[[Tensor], dict[str, float]]
) -> dict[str, float]:
    """Return what other data make of the yardsticks: means, and how far one draw of it is off."""
    found = [measure(x) for x in others]
    distances = torch.tensor([row["distance"] for row in found])
    return {
        "distance": distances.mean().item(),
        "distance_deviation": distances.std().item(),
        "off": sum(row["off"] for row in found) / len(found),
    }


def digits(name: str) -> Track:
    from sklearn.svm import SVC

    images = load_images(name)
    train, test = (to_float(part).flatten(1) for part in (images.train, images.test))
    labels, wanted = images.train_labels, images.test_labels
    judge = SVC().fit(train.numpy(), labels.numpy())

    def deviation(x: Tensor, y: Tensor) -> float:
        """The root mean square distance of a coordinate from the mean of its class."""
        parts = [x[y == k] - x[y == k].mean(0) for k in range(10)]
        return torch.cat(parts).square().mean().sqrt().item()

    def measure(x: Tensor) -> dict[str, float]:
        """Fréchet distance in the mean of sets as large as the test set, which has the floor's."""
        y, sets = wanted.repeat(len(x) // len(wanted)), x.clamp(-1, 1).split(len(wanted))
        right = judge.predict(x.clamp(-1, 1).numpy()) == y.numpy()
        distances = [frechet_distance(part, train).item() for part in sets]
        return {
            "frechet": sum(distances) / len(distances),
            "classes": float(right.mean()),
            "spread": deviation(x.clamp(-1, 1), y) / deviation(train, labels),
        }

    x0 = data.standard_normal(5 * len(wanted), 64, seed=3)
    return Track(
        x1=train, cond=(labels,),
        network=lambda: MLP(64, width=256, depth=3, classes=10, max_frequency=2.0),
        steps=3000, x0=x0, conditions=(wanted.repeat(5),), measure=measure, floor=measure(test),
    )  # fmt: skip


TRACKS: dict[str, dict[str, Callable[[], Track]]] = {
    "plane": {
        name: partial(plane, name)
        for name in ("eight Gaussians", "checkerboard", "four clusters", "moons")
    },
    "digits": {"digits": partial(digits, "digits")},
}


# The race.


def trained(
    track: Track, entrant: Entrant, seed: int, file: Path, teacher: Path
) -> tuple[nn.Module, float]:
    """Return a network and the seconds of its training, which its file remembers."""
    torch.manual_seed(seed)
    start = time.process_time()
    net: nn.Module = TwoTimes(track.network())
    if file.exists():
        load_model(net, file)
        with safe_open(file, framework="pt") as stored:
            return net.eval(), float(stored.metadata()["seconds"])
    x1, cond = track.x1, track.cond
    if entrant.pairs:
        flow = TwoTimes(track.network())
        load_model(flow, teacher)
        g = torch.Generator().manual_seed(100 + seed)
        rows = torch.randint(len(x1), (track.pairs,), generator=g)
        cond = tuple(c[rows] for c in cond)
        noise = torch.randn(track.pairs, x1.shape[1], generator=g)
        x0, x1 = simulate_pairs(tangent(flow), noise, cond=cond)
        cond = (x0, *cond)
    net = minimise(
        net, x1, entrant.loss, cond=cond, steps=track.steps, batch_size=512, lr=2e-3, warmup=100,
        seed=seed, progress=False,
    ).model  # fmt: skip
    seconds = round(time.process_time() - start, 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_model(net, file, {"seconds": str(seconds)})
    return net, seconds


def measured(track: Track, label: str, net: nn.Module) -> list[dict[str, object]]:
    """Return what a few evaluations make of a network, and many of flow matching."""
    entrant, rows = ENTRANTS[label], []
    counts = {FLOW: (*JUMPS, MANY), REGRESSION: JUMPS[:1]}.get(label, JUMPS)
    for n in counts:
        x = entrant.sampler(net, track.x0, n, *track.conditions)
        finite = bool(x.isfinite().all())
        rows.append({"nfe": n} | (rounded(track.measure(x)) if finite else {}))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("race", choices=[*TRACKS])
    parser.add_argument("--data", nargs="+", help="of the plane's data sets; default: all")
    parser.add_argument("--weights", type=Path, default=Path("_build/few_steps"))
    parser.add_argument("--out", type=Path, help="default: results/few_steps_RACE.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options = parser.parse_args()
    out = options.out or Path(__file__).parent / "results" / f"few_steps_{options.race}.json"
    torch.set_num_threads(1)
    about = {"machine": processor(), "versions": versions("fmtutor")}
    known = TRACKS[options.race]
    if unknown := set(options.data or ()) - set(known):
        parser.error(f"--data must be of {', '.join(known)}, but {', '.join(unknown)} came")
    tracks = {name: known[name]() for name in options.data or known}
    for seed in options.seeds:
        for name, track in tracks.items():
            for label, entrant in ENTRANTS.items():
                key = {"data": name, "entrant": label, "seed": seed}
                if is_recorded(out, key):
                    continue
                files = [
                    options.weights / f"{name}-{k}-{seed}.safetensors".replace(" ", "_")
                    for k in (label, FLOW)
                ]
                net, seconds = trained(track, entrant, seed, *files)
                rows = [
                    key | row | {"seconds": seconds} | about for row in measured(track, label, net)
                ]
                result = {"floors": {}} | recorded(out)
                result["floors"][name] = rounded(track.floor)
                result["rows"] += rows
                out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
                print(f"{name}, {label}, seed {seed}: {seconds} s, {rows[0]}", flush=True)


if __name__ == "__main__":
    main()

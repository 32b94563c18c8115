"""Bridges between Gaussians, digits and snapshots of cells, with three seeds each.

python benchmarks/bridges.py gaussians   # against the closed form, and the fitting of pairs
python benchmarks/bridges.py digits      # threes to eights under several couplings
python benchmarks/bridges.py snapshots   # leave one time out
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from machine import machine, versions
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch import Tensor, nn

from fmtutor import MLP, cfm_loss, minibatch_ot, minimise, sample
from fmtutor.branching import NOISE, grow
from fmtutor.bridges import (
    BridgeField,
    LineAndScore,
    bridge_loss,
    interval,
    iterative_markovian_fitting,
    simulate,
    snapshot_loss,
)
from fmtutor.couplings import independent, sinkhorn
from fmtutor.exact_bridges import GaussianBridge
from fmtutor.losses import Coupling
from fmtutor.metrics import wasserstein
from fmtutor.paths import BrownianBridge

SEEDS = (0, 1, 2)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


# Gaussians.

COV0 = torch.tensor([[1.0, 0.3], [0.3, 0.5]])
COV1 = torch.tensor([[0.6, -0.2], [-0.2, 1.5]])
MEAN1 = torch.tensor([1.5, 1.0])
SIGMAS = (0.5, 1.0, 2.0)
QUARTERS = (0.25, 0.5, 0.75, 1.0)


def gaussian(n: int, cov: Tensor, generator: torch.Generator) -> Tensor:
    """Draw n points whose mean and covariance are exact, so that only the method errs."""
    x = torch.randn(n, 2, generator=generator)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T
    return x @ torch.linalg.cholesky(cov).T


def two_networks(seed: int, width: int, depth: int) -> LineAndScore:
    torch.manual_seed(seed)
    return LineAndScore(MLP(width=width, depth=depth), MLP(width=width, depth=depth))


def against_closed_form(sigma: float, seed: int) -> dict[str, object]:
    exact = GaussianBridge.schroedinger(
        torch.zeros(2).double(), COV0.double(), MEAN1.double(), COV1.double(), sigma
    )
    g = torch.Generator().manual_seed(seed)
    x0, x1 = gaussian(16_384, COV0, g), gaussian(16_384, COV1, g) + MEAN1
    coupling = sinkhorn(2 * sigma**2, tol=1e-3, generator=g)
    pairs = [coupling(*batch) for batch in zip(x0.split(1024), x1.split(1024), strict=True)]
    x0, x1 = (torch.cat([pair[k] for pair in pairs]) for k in (0, 1))
    path = BrownianBridge(sigma)

    def loss(
        model: nn.Module, x1: Tensor, x0: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        return bridge_loss(model, x1, x0=x0, path=path, generator=generator)

    model = minimise(
        two_networks(seed, 64, 2), x1, loss, cond=x0, steps=2000, batch_size=1024, lr=5e-3,
        ema=0.995, seed=seed, progress=False,
    ).model  # fmt: skip
    field, start = BridgeField(model, path), gaussian(20_000, COV0, g)
    ways = {
        "ODE": sample(field.velocity, start, method="heun", steps=40, return_path=True),
        "SDE": simulate(field, start, steps=200, return_path=True, generator=g),
    }
    rows = {}
    for name, way in ways.items():
        at = [way[round(t * (len(way) - 1))] for t in QUARTERS]
        rows[name] = {
            "covariance": [
                relative(x.T.cov(), exact.covariance(t)) for x, t in zip(at, QUARTERS, strict=True)
            ],
            "cross": relative(torch.cat([start, at[-1]], 1).T.cov()[:2, 2:], exact.cross),
        }
    return rows


def fitting(seed: int, sigma: float = 1.0, rounds: int = 5) -> list[float]:
    """Return the error of Cov(x0, x1) after each round, that of independent pairs first."""
    exact = GaussianBridge.schroedinger(
        torch.zeros(2).double(), COV0.double(), MEAN1.double(), COV1.double(), sigma
    )
    g = torch.Generator().manual_seed(seed)
    x0, x1 = gaussian(10_000, COV0, g), gaussian(10_000, COV1, g) + MEAN1
    errors = [relative(torch.cat([x0, x1], 1).T.cov()[:2, 2:], exact.cross)]
    for _, start, end in iterative_markovian_fitting(
        two_networks(seed, 64, 2), x0, x1, BrownianBridge(sigma), rounds=rounds, steps=600,
        batch_size=1024, lr=5e-3, simulation_steps=100, seed=seed,
    ):  # fmt: skip
        errors.append(relative(torch.cat([start, end], 1).T.cov()[:2, 2:], exact.cross))
    return errors


def exact_fitting(sigma: float = 1.0, rounds: int = 5) -> list[float]:
    """Return the same errors where every round is solved exactly."""
    arguments = (torch.zeros(2), COV0, MEAN1, COV1)
    best = GaussianBridge.schroedinger(*(a.double() for a in arguments), sigma)
    now = GaussianBridge(*(a.double() for a in arguments), 0 * best.cross, sigma)
    errors = [relative(now.cross, best.cross)]
    for _ in range(rounds):
        now = now.projected()
        errors.append(relative(now.cross, best.cross))
    return errors


def gaussians() -> dict[str, object]:
    return {
        "sigmas": SIGMAS,
        "times": QUARTERS,
        "bridge": [
            {"sigma": sigma, "seed": seed} | timed(partial(against_closed_form, sigma, seed))
            for sigma in SIGMAS
            for seed in SEEDS
        ],
        "fitting": {"sigma": 1.0, "exact": exact_fitting(), "learned": [fitting(s) for s in SEEDS]},
    }


# Digits.


class SourceTold(nn.Module):
    """A network that is told the source of its trajectory as well."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MLP(128, width=256)

    def forward(self, x: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        return self.net(torch.cat([x, x0], 1), t)[:, :64]


def digit_split(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, SVC]:
    """Return threes and eights to train on, those to test with, and a judge of all ten classes."""
    images, labels = load_digits(return_X_y=True)
    judge = SVC(C=10.0, gamma="scale").fit(images / 8 - 1, labels)
    x, g = torch.tensor(images / 8 - 1, dtype=torch.float32), torch.Generator().manual_seed(seed)
    parts = []
    for digit in (3, 8):
        points = x[torch.tensor(labels) == digit]
        points = points[torch.randperm(len(points), generator=g)]
        parts.append((points[:120], points[120:]))
    return parts[0][0], parts[1][0], parts[0][1], parts[1][1], judge


def translated(kind: str, seed: int, data: tuple[Tensor, ...]) -> Tensor:
    threes, eights, start = data
    told = kind.startswith("told")
    coupling = {"independent": independent, "optimal in the batch": minibatch_ot}.get(kind)
    if kind.endswith("fixed pairs"):
        threes, eights = minibatch_ot(threes, eights)  # once, for all of the data

    def loss(model: nn.Module, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        row = rows[:, 0].long()
        drawn = torch.randint(len(threes), row.shape, generator=generator)
        x0, x1 = threes[row if kind.endswith("fixed pairs") else drawn], eights[row]
        return cfm_loss(
            model, x1, x0=x0, cond=(x0,) if told else (), coupling=coupling, generator=generator
        )

    torch.manual_seed(seed)
    model = SourceTold() if told else MLP(64, width=256)
    rows = torch.arange(120, dtype=torch.float32)[:, None]
    net = minimise(
        model, rows, loss, steps=2000, batch_size=120, lr=1e-3, seed=seed, progress=False
    ).model
    return sample(net, start, cond=(start,) if told else (), method="midpoint", steps=50)


def digits() -> dict[str, object]:
    rows, pictures = [], {}
    for seed in SEEDS:
        threes, eights, start, unseen, judge = digit_split(seed)
        g = torch.Generator().manual_seed(seed)
        among = eights[torch.randint(len(eights), (len(start),), generator=g)]
        nearest = eights[torch.cdist(start, eights).argmin(1)]
        results = {"random eight": among, "nearest eight": nearest}
        for kind in (
            "independent",
            "optimal in the batch",
            "fixed pairs",
            "told the source, independent",
            "told the source, fixed pairs",
        ):
            results[kind] = translated(kind, seed, (threes, eights, start))
        for kind, made in results.items():
            rows.append(
                {
                    "kind": kind,
                    "seed": seed,
                    "distance": float((made - start).norm(dim=1).mean()),
                    "eights": float(np.mean(judge.predict(made.double().numpy()) == 8)),
                    "to unseen eights": float(torch.cdist(made, unseen).min(1).values.mean()),
                }
            )
            print(rows[-1], flush=True)
            if seed == 0:
                shown = ((made[:8] + 1) * 8).round().clamp(0, 16).int()
                pictures[kind] = shown.tolist()
        if seed == 0:
            pictures["source"] = ((start[:8] + 1) * 8).round().int().tolist()
    return {"rows": rows, "pictures": pictures}


# Snapshots.

TIMES = [0.0, 0.25, 0.5, 0.75, 1.0]
CELLS = 400


def straight(before: Tensor, after: Tensor) -> Tensor:
    """Learn nothing: go halfway along the lines of the cheapest pairing."""
    _, end = minibatch_ot(before, after)
    return (before + end) / 2


def learned(
    snapshots: list[Tensor],
    times: list[float],
    out: int,
    coupling: Coupling,
    sigma: float,
    seed: int,
) -> dict[str, Tensor]:
    """Train on all snapshots but one; return the population predicted there."""
    kept = [k for k in range(len(times)) if k != out]

    def loss(model: nn.Module, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return snapshot_loss(
            model, [snapshots[k] for k in kept], [times[k] for k in kept], sigma=sigma,
            coupling=coupling, batch_size=128, generator=generator,
        )  # fmt: skip

    model = minimise(
        two_networks(seed, 64, 2), torch.zeros(1, 1), loss, steps=800, batch_size=1, lr=3e-3,
        ema=0.995, seed=seed, progress=False,
    ).model  # fmt: skip
    field = interval(model, times[out - 1], times[out + 1], sigma)
    start = snapshots[out - 1]
    way = {"ODE": sample(field.velocity, start, method="heun", steps=20, t1=0.5)}
    if sigma > 0:
        way["SDE"] = simulate(field, start, steps=50, until=0.5, seed=seed)
    return way


def snapshots() -> dict[str, object]:
    rows = []
    for seed in SEEDS:
        seen = [*grow(CELLS, TIMES, seed=10 * seed).points]
        truth, other = (grow(CELLS, TIMES, seed=10 * seed + k).points for k in (1, 2))
        for out in (1, 2, 3):
            made = {
                "floor: another sample": other[out],
                "stay where they were": seen[out - 1],
                "straight lines, nothing learned": straight(seen[out - 1], seen[out + 1]),
            }
            for name, coupling, sigma in (
                ("independent pairs", independent, 0.0),
                ("optimal pairs", minibatch_ot, 0.0),
                ("bridge", sinkhorn(NOISE**2, tol=1e-3, seed=seed), NOISE),
            ):
                found = learned(seen, TIMES, out, coupling, sigma, seed)
                made |= {f"{name}, {way}": points for way, points in found.items()}
            for name, points in made.items():
                w = float(wasserstein(points, truth[out], p=1))
                rows.append({"method": name, "seed": seed, "left out": TIMES[out], "W1": w})
            print(rows[-len(made) :], flush=True)
    return {"times": TIMES, "cells": CELLS, "rows": rows}


def timed(run: Callable[[], dict[str, object]]) -> dict[str, object]:
    start = time.process_time()
    result = run() | {"cpu_seconds": round(time.process_time() - start, 1)}
    print(result, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["gaussians", "digits", "snapshots"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "command": f"python benchmarks/bridges.py {options.part}",
        "seeds": SEEDS,
        "machine": machine(),
        "versions": versions("fmtutor", "scikit-learn"),
    } | {"gaussians": gaussians, "digits": digits, "snapshots": snapshots}[options.part]()
    out = Path(__file__).parent / "results" / f"bridges_{options.part}.json"
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""Bridges between digits and between snapshots of cells, with three seeds each.

python benchmarks/bridges.py gaussians   # against the closed form, and the fitting of pairs
python benchmarks/bridges.py digits      # threes to eights under several couplings
python benchmarks/bridges.py snapshots   # leave one time out
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from machine import machine, versions
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch import Tensor, nn

from fmtutor import MLP, cfm_loss, minibatch_ot, minimise, sample
from fmtutor.branching import NOISE, grow
from fmtutor.bridge_losses import snapshot_loss
from fmtutor.bridges import LineAndScore, interval, simulate
from fmtutor.couplings import independent
from fmtutor.entropic import entropic_plan
from fmtutor.metrics import wasserstein
from fmtutor.paths import BridgePath

SEEDS = (0, 1, 2)


# Digits.

TUBE = 0.3  # without a width a network knows the field on the lines of 120 pictures only


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


def spread(x: Tensor) -> float:
    """Return the mean distance between two of the points."""
    return float(torch.pdist(x).mean())


def translated(kind: str, seed: int, data: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Train; return translations from the source itself, and from it with the width of the path.

    Training starts with the width, so that the second is what the flow means, and it ends with the
    width, too. The first leaves it out at both ends.
    """
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
            model,
            x1,
            x0=x0,
            cond=(x0,) if told else (),
            path=BridgePath(TUBE),
            coupling=coupling,
            generator=generator,
        )

    torch.manual_seed(seed)
    model = SourceTold() if told else MLP(64, width=256)
    rows = torch.arange(120, dtype=torch.float32)[:, None]  # of the eights
    net = minimise(
        model, rows, loss, steps=600, batch_size=60, lr=1e-3, seed=seed, progress=False
    ).model
    g = torch.Generator().manual_seed(seed)
    begin = start + TUBE * torch.randn(start.shape, generator=g)
    from_where = {kind: start, f"{kind}, started with the width": begin}
    cond = (start,) if told else ()
    return {
        name: sample(net, x0, cond=cond, method="midpoint", steps=50)
        for name, x0 in from_where.items()
    }


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
            results |= translated(kind, seed, (threes, eights, start))
        for kind, made in results.items():
            rows.append(
                {
                    "kind": kind,
                    "seed": seed,
                    "distance": float((made - start).norm(dim=1).mean()),
                    "eights": float(np.mean(judge.predict(made.double().numpy()) == 8)),
                    "to unseen eights": float(torch.cdist(made, unseen).min(1).values.mean()),
                    "spread": spread(made) / spread(unseen),
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


Plan = Callable[[Tensor, Tensor, float], Tensor]


def uniform(x0: Tensor, x1: Tensor, h: float) -> Tensor:
    return torch.ones(len(x0), len(x1))


def optimal(x0: Tensor, x1: Tensor, h: float) -> Tensor:
    _, _, column = minibatch_ot(x0, x1, torch.arange(len(x1)))
    return torch.nn.functional.one_hot(column, len(x1)).float()


def entropic(x0: Tensor, x1: Tensor, h: float) -> Tensor:
    return entropic_plan(x0, x1, 2 * NOISE**2 * h, tol=1e-4)


def learned(
    snapshots: list[Tensor], times: list[float], out: int, plan: Plan, sigma: float, seed: int
) -> dict[str, Tensor]:
    """Train on all snapshots but one; return the population predicted there."""
    kept = [k for k in range(len(times)) if k != out]
    g, rows = torch.Generator().manual_seed(seed), []
    for a, b in pairwise(kept):
        weights = plan(snapshots[a], snapshots[b], times[b] - times[a])
        drawn = torch.multinomial(weights, 20, True, generator=g).flatten()
        when = torch.tensor([times[a], times[b]]).expand(len(drawn), 2)
        x0 = snapshots[a].repeat_interleave(20, 0)
        rows.append((snapshots[b][drawn], x0, when[:, 0], when[:, 1]))
    x1, *cond = (torch.cat(column) for column in zip(*rows, strict=True))

    def loss(
        model: nn.Module,
        x1: Tensor,
        x0: Tensor,
        first: Tensor,
        last: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return snapshot_loss(
            model, x1, x0=x0, first=first, last=last, sigma=sigma, generator=generator
        )

    torch.manual_seed(seed)
    networks = LineAndScore(MLP(width=64), MLP(width=64))
    model = minimise(
        networks, x1, loss, cond=cond, steps=800, batch_size=384, lr=3e-3, ema=0.99, seed=seed,
        progress=False,
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
        # Other cells at each time: what is measured is destroyed.
        seen = [grow(CELLS, TIMES, seed=100 * seed + 10 + k).points[k] for k in range(len(TIMES))]
        truth, other = (grow(CELLS, TIMES, seed=10 * seed + k).points for k in (1, 2))
        for out in (1, 2, 3):
            made = {
                "floor: another sample": other[out],
                "stay where they were": seen[out - 1],
                "straight lines, nothing learned": straight(seen[out - 1], seen[out + 1]),
            }
            for name, plan, sigma in (
                ("independent pairs", uniform, 0.0),
                ("optimal pairs", optimal, 0.0),
                ("bridge", entropic, NOISE),
            ):
                found = learned(seen, TIMES, out, plan, sigma, seed)
                made |= {f"{name}, {way}": points for way, points in found.items()}
            for name, points in made.items():
                w = float(wasserstein(points, truth[out], p=1))
                rows.append({"method": name, "seed": seed, "left out": TIMES[out], "W1": w})
            print(rows[-len(made) :], flush=True)
    return {"times": TIMES, "cells": CELLS, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["digits", "snapshots"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "command": f"python benchmarks/bridges.py {options.part}",
        "seeds": SEEDS,
        "machine": machine(),
        "versions": versions("fmtutor", "scikit-learn"),
    } | {"digits": digits, "snapshots": snapshots}[options.part]()
    out = Path(__file__).parent / "results" / f"bridges_{options.part}.json"
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()

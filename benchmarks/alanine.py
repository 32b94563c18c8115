"""Alanine dipeptide from its own simulation: a flow of 60 internal coordinates, and its weights.

Each row trains for the given minutes of one core on the molecules of `alanine.safetensors` but the
last fifth, and on those of `alanine_right.safetensors`, which have φ > 0 much too often. It draws
molecules with their exact log-densities and weighs them by the energy: effective sample sizes both
ways, log Z both ways, and the free energy along φ beside that of the simulation, both with their
errors. With no minutes the starting law itself is weighed: normal numbers with the right
covariance, uniform torsions. Rows that the result holds are not made again.

    python benchmarks/alanine.py --minutes 10 --seeds 0 1 2 --ship
    python benchmarks/alanine.py --minutes 2
    python benchmarks/alanine.py --minutes 0

Nine minutes a row beside the training.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from machine import is_recorded, processor, recorded, rounded, steps_within, versions
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fmtutor import fit, log_prob, sample_with_log_prob
from fmtutor.molecules import (
    ForceField,
    WhitenedCoordinates,
    alanine_coordinates,
    backbone_torsions,
    effective_sample_size,
    forward_effective_sample_size,
    log_z,
    log_z_from_data,
    reweighted,
)
from fmtutor.molecules.alanine import TURNING
from fmtutor.molecules.alanine_flow import save_alanine
from fmtutor.networks import TangentMLP
from fmtutor.paths import GeodesicPath

RESULTS = Path(__file__).parent / "results"
DATA, RIGHT = RESULTS / "alanine.safetensors", RESULTS / "alanine_right.safetensors"
OUT = RESULTS / "alanine.json"
SAMPLES = RESULTS / "alanine_samples.safetensors"
NETWORK = {"width": 256, "depth": 3}
SETTINGS = {"batch_size": 512, "lr": 2e-3, "ema": 0.999}
JUDGED, HELD, SOLVER = 10_000, 2000, {"steps": 20, "batch_size": 1000}
BINS, BLOCKS = 36, 10


def simulated(file: Path) -> tuple[Tensor, dict[str, str]]:
    """Return the molecules of a simulation in their order, `[n 22 3]`, and what it was told."""
    with safe_open(file, framework="pt") as stored:
        told = dict(sorted(stored.metadata().items()))  # they come in another order each time
        return stored.get_tensor("positions").double() * float(told["unit"]), told


def in_bins(phi: Tensor) -> Tensor:
    """Return of each angle in which bin it lies, as a row of zeros and a one, `[n bins]`."""
    k = ((phi + math.pi) / (2 * math.pi) * BINS).long().clamp(0, BINS - 1)
    return torch.nn.functional.one_hot(k, BINS).double()


def free_energy(share: Tensor, error: Tensor) -> dict[str, list[float | None]]:
    """Return −log of densities over φ in kT, and their errors; None where there is nothing."""
    value = -(share / (2 * math.pi / BINS)).log()
    listed = {"value": value, "error": error / share}
    return {
        key: [float(f"{v:.4g}") if math.isfinite(v) else None for v in each.tolist()]
        for key, each in listed.items()
    }


def of_simulation(phi: Tensor) -> dict[str, list[float | None]]:
    """Return the free energy along φ with errors from blocks of the simulation in its order."""
    inside = in_bins(phi)
    blocks = torch.stack([part.mean(0) for part in inside.tensor_split(BLOCKS)])
    return free_energy(inside.mean(0), blocks.std(0) / BLOCKS**0.5)


def of_weights(phi: Tensor, log_w: Tensor) -> dict[str, list[float | None]]:
    estimates = [reweighted(column, log_w) for column in in_bins(phi).T]
    share, error = torch.tensor(estimates, dtype=torch.float64).T
    return free_energy(share, error)


def furthest(flow: dict[str, Any], truth: dict[str, Any], trusted: float = 1.0) -> dict[str, Any]:
    """Return how far two free energies are apart where the second's error is below `trusted`."""
    gaps = [
        (abs(a - b) if a is not None else math.inf, k)
        for k, (a, b, e) in enumerate(
            zip(flow["value"], truth["value"], truth["error"], strict=True)
        )
        if b is not None and e is not None and e < trusted
    ]
    gap, where = max(gaps, default=(math.nan, 0))
    return {
        "gap": gap,
        "at_degrees": (where + 0.5) * 360 / BINS - 180,
        "bins": len(gaps),
    }


def train(points: Tensor, white: WhitenedCoordinates, minutes: float, seed: int) -> Any:
    """Train for as many steps as fit; return the network, the steps and the seconds."""

    def run(steps: int) -> TangentMLP:
        torch.manual_seed(seed)
        network, space = TangentMLP(white.space, **NETWORK), white.space
        return fit(
            network, points, path=GeodesicPath(space), noise=space.noise, steps=steps, seed=seed,
            progress=False, **SETTINGS,
        ).model  # fmt: skip

    steps, start = steps_within(run, minutes), time.process_time()
    return run(steps), steps, time.process_time() - start


def judged(white: WhitenedCoordinates, held: Tensor, network: Any) -> tuple[dict[str, Any], Any]:
    """Return what weights say of a network, or of the noise, and the samples by which they do."""
    energy, space = ForceField.alanine(), white.space
    g = torch.Generator().manual_seed(1)
    x0 = space.noise(torch.zeros(JUDGED, space.dim), g)
    held_points = white.points(held).float()
    if network is None:
        points, log_q, log_q_held = x0, *map(space.noise_log_prob, (x0, held_points))
    else:
        how = {"base": space.noise_log_prob, "manifold": space} | SOLVER
        points, log_q = sample_with_log_prob(network, x0, **how)
        log_q_held = log_prob(network, held_points, **how)
    positions = white.positions(points.double())
    log_w = -energy(positions) + white.log_volume(points.double()) - log_q
    log_w_held = -energy(held) + white.log_volume(held_points.double()) - log_q_held
    phi, psi = backbone_torsions(positions)
    right = (phi > 0).double()
    if not bool(white.inside(points).all()):
        raise RuntimeError("a sample is outside the law that is meant: its weight must be zero")
    row = {
        "ess": effective_sample_size(log_w),
        "forward_ess": forward_effective_sample_size(log_w_held),
        "log_z": [*log_z(log_w)],
        "log_z_from_data": [*log_z_from_data(log_w_held)],
        "nll": -log_q_held.mean().item(),
        "energy_median": energy(positions).median().item(),
        "energy_reweighted": [*reweighted(energy(positions), log_w)],
        "right": right.mean().item(),
        "right_reweighted": [*reweighted(right, log_w)],
        "raw": of_weights(phi, torch.zeros_like(log_w)),
        "weighted": of_weights(phi, log_w),
    }
    kept = {
        "angles": torch.stack([phi, psi], dim=1), "log_w": log_w - log_w.max(),
        "energy": energy(positions),
    }  # fmt: skip
    return row, {key: value.float() for key, value in kept.items()}


def write(result: dict[str, Any]) -> None:
    OUT.write_text(json.dumps(result) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="0: the noise itself")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ship", action="store_true", help="store the network of seed 0")
    options = parser.parse_args()
    if options.ship and not options.minutes:
        parser.error("--ship stores a network, and with --minutes 0 there is none")
    torch.set_num_threads(1)
    (x, told), (right, told_right) = simulated(DATA), simulated(RIGHT)
    whole = len(x) * 4 // 5
    trained_on = torch.cat([x[:whole], right])
    white = WhitenedCoordinates.of(trained_on, alanine_coordinates(), TURNING)
    rest = x[whole:]
    held = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(1))[:HELD]]
    phi, energies = backbone_torsions(x)[0], ForceField.alanine()(x)
    crossings = int(((phi > 0)[1:] != (phi > 0)[:-1]).sum())
    simulation = {
        "told": [told, told_right], "molecules": [len(x), len(right)],
        "phi": of_simulation(phi), "crossings": crossings,
        "right": (phi > 0).double().mean().item(),
        "energy": energies.mean().item(), "energy_median": energies.median().item(),
    }  # fmt: skip
    about = {
        "judged": JUDGED, "held": HELD, "bins": BINS, "simulation": rounded(simulation, digits=5),
    }  # fmt: skip
    write(recorded(OUT) | about)
    for seed in options.seeds:
        key = {"minutes": options.minutes, "seed": seed}
        if is_recorded(OUT, key):
            continue
        network, steps, seconds = (
            train(white.points(trained_on).float(), white, options.minutes, seed)
            if options.minutes
            else (None, 0, 0.0)
        )
        row, samples = judged(white, held, network)
        row["furthest"] = furthest(row["weighted"], simulation["phi"])
        row = key | {"steps": steps, "cpu_seconds": round(seconds), **rounded(row, digits=5)}
        row |= {"machine": processor(), "versions": versions("fmtutor")}
        if options.ship and seed == 0:
            save_alanine(network, white, **NETWORK)
            seen = torch.stack(backbone_torsions(x), dim=1).float()
            save_file(samples | {"simulated": seen}, SAMPLES)
        write(about | {"rows": [*recorded(OUT)["rows"], row]})
        shown = {k: v for k, v in row.items() if k not in ("versions", "raw", "weighted")}
        print(shown, flush=True)


if __name__ == "__main__":
    main()

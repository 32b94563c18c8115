"""Flows of particles as Boltzmann generators: what a minute of training is worth.

Each row trains on reference samples for the given minutes of one core and draws as many samples as
it judges by, with their exact log-densities: effective sample sizes both ways, log Z both ways, the
energies raw and reweighted, and how the paths bend. With `--ship` the network of seed 0 goes into
the package, so that the chapter draws from it. Rows that the result holds are not made again.

    python benchmarks/molecules.py dw4 butane butane-plain --ship
    python benchmarks/molecules.py dw4 dw4-plain butane --seeds 0 1 2
    python benchmarks/molecules.py dw4 --minutes 10 --seeds 0 1 2
    python benchmarks/molecules.py butane --minutes 10
    python benchmarks/molecules.py lj13 --minutes 60
    python benchmarks/molecules.py lj13 --minutes 30 --depth 8 --compile --seeds 0 1 2

Some rows are from fewer samples: `--samples 100000`. `--compile` needs a C++ compiler.

Beside its training a row takes two minutes of one core for DW4, four for butane, twenty for lj13.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch._functorch.config as compiler
from machine import is_recorded, processor, recorded, rounded, steps_within, versions
from torch import Tensor

from fmtutor import cfm_loss, log_prob, minimise, sample, sample_with_log_prob
from fmtutor.couplings import aligned, independent
from fmtutor.losses import Coupling
from fmtutor.molecules import (
    Butane,
    DoubleWell,
    Energy,
    InHelmert,
    LennardJones,
    centred_noise,
    effective_sample_size,
    forward_effective_sample_size,
    hmc,
    log_z,
    log_z_from_data,
    pair_distances,
    r_hat,
    relaxed,
    reweighted,
    torsion,
)
from fmtutor.molecules.shipped_flows import save_shipped
from fmtutor.networks import EGNN

OUT = Path(__file__).parent / "results" / "molecules.json"
HELD_OUT = 100_000  # of which as many are judged by as the system says
CHAINS = 200  # of which reference samples come
NEAR = 1.3  # below which a pair of atoms of LJ13 touches
CLUSTER = LennardJones(13, epsilon=2.0)  # the convention of the literature's data


class System(NamedTuple):
    """What is learned, by which network and settings, and by what it is judged."""

    energy: Energy
    data: Callable[[int, int], Tensor]  # of a seed, so many
    network: dict[str, Any]
    coupling: Coupling
    settings: dict[str, Any]
    steps: int  # of RK4
    judged: int  # samples


def chains(energy: DoubleWell | LennardJones, seed: int, samples: int) -> Tensor:
    """Return reference samples; refuse those of chains that disagree."""
    draws = samples // CHAINS * 2  # of which every other one is kept
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(CHAINS, energy.particles, energy.dim, generator=generator)
    settings = {"draws": draws, "warmup": 500, "leapfrog": 20, "seed": seed}
    kept = hmc(energy, relaxed(energy, start), **settings).samples[::2].flatten(0, 1)
    disagreement = agreement(energy, kept)["r_hat_energy"]
    if not disagreement < 1.02:
        raise RuntimeError(f"R-hat of the reference is {disagreement:.3f}")
    return kept


def agreement(energy: DoubleWell | LennardJones, samples: Tensor) -> dict[str, float]:
    """Return R-hat of the energy, and of how many pairs are near, which changes more slowly."""
    near = energy.r0 if isinstance(energy, DoubleWell) else NEAR
    told = {"energy": energy(samples), "near_pairs": (pair_distances(samples) < near).sum(1)}
    return {f"r_hat_{k}": r_hat(v.double().view(-1, CHAINS)) for k, v in told.items()}


def record_reference(
    out: Path, name: str, energy: DoubleWell | LennardJones, samples: Tensor, seed: int
) -> None:
    """Write how far the chains of these samples agree, once."""
    key = {"system": name, "samples": len(samples), "seed": seed}
    result = recorded(out)
    references = result.get("references", [])
    if not any(key.items() <= reference.items() for reference in references):
        references.append(key | {"chains": CHAINS} | rounded(agreement(energy, samples), digits=5))
        text = json.dumps({"references": references} | result, indent=1)
        out.write_text(text + "\n", "utf-8")


def butane(seed: int, samples: int) -> Tensor:
    return Butane().sample(samples, seed=seed)


WIDTH, DEPTH = 32, 3
DW4 = {"particles": 4, "dim": 2}
ATOMS = {"particles": 13, "dim": 3}
CHAIN = {"particles": 4, "dim": 3, "kinds": (0, 1, 2, 3)}
FAST, SLOW = {"batch_size": 128, "lr": 6e-3}, {"batch_size": 256, "lr": 3e-3}
MANY = {"batch_size": 128, "lr": 3e-3}
ALIKE = aligned(rounds=2, mirrors=True)
SYSTEMS = {
    "dw4": System(DoubleWell(), partial(chains, DoubleWell()), DW4, ALIKE, FAST, 20, 4000),
    "dw4-plain": System(
        DoubleWell(), partial(chains, DoubleWell()), DW4, independent, FAST, 20, 4000
    ),
    "lj13": System(CLUSTER, partial(chains, CLUSTER), ATOMS, ALIKE, MANY, 20, 2000),
    "butane": System(Butane(), butane, CHAIN, aligned(range(4)), SLOW, 40, 8000),
    "butane-plain": System(Butane(), butane, CHAIN, independent, SLOW, 40, 8000),
}


def compiled(network: EGNN) -> EGNN:
    """Compile a network for the shapes that it meets, and for more than one backward pass each."""
    compiler.donated_buffer = False
    network.compile(dynamic=False)
    return network


def train(
    system: System, data: Tensor, minutes: float, seed: int, *, compile: bool = False
) -> tuple[EGNN, int, float]:
    """Train for as many steps as fit; return the network, the steps and the seconds."""

    def loss(model: EGNN, x1: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return cfm_loss(
            model, x1, noise=centred_noise, coupling=system.coupling, generator=generator
        )

    def run(steps: int) -> EGNN:
        torch.manual_seed(seed)
        model = EGNN(**system.network)
        model = compiled(model) if compile else model
        settings = {"steps": steps, "seed": seed, "progress": False} | system.settings
        return minimise(model, data, loss, **settings).model

    steps, start = steps_within(run, minutes), time.process_time()
    return run(steps), steps, time.process_time() - start


def detour(network: EGNN, x0: Tensor) -> float:
    """Return how much longer the ways are than straight lines, on average."""
    path = sample(network, x0, steps=50, return_path=True)
    length = (path[1:] - path[:-1]).flatten(2).norm(dim=2).sum(0)
    return (length / (path[-1] - path[0]).flatten(1).norm(dim=1)).mean().item()


def judged(
    system: System, held: Tensor, unit: float, network: EGNN, *, compile: bool = False
) -> dict[str, Any]:
    """Return what weights, energies and paths say of a network; `held` is not trained on."""
    n, d = held.shape[1:]
    network = network.requires_grad_(False)
    fast = compiled(copy.deepcopy(network)) if compile else network
    field, settings = InHelmert(fast, n), {"steps": system.steps, "batch_size": 200}
    x0 = centred_noise(held, torch.Generator().manual_seed(1))
    volume = (n - 1) * d * math.log(unit)
    y, log_q = sample_with_log_prob(field, field.coordinates(x0), **settings)
    x = field.positions(y) * unit
    log_q_data = log_prob(field, field.coordinates(held), **settings)
    log_w = -system.energy(x) - (log_q - volume)
    log_w_data = -system.energy(held * unit) - (log_q_data - volume)
    few = sample(network, x0, method="euler", steps=5) * unit
    energies = {
        "data": system.energy(held * unit), "raw": system.energy(x), "euler": system.energy(few)
    }  # fmt: skip
    row: dict[str, Any] = {
        "ess": effective_sample_size(log_w),
        "forward_ess": forward_effective_sample_size(log_w_data),
        "log_z": [*log_z(log_w)],
        "log_z_from_data": [*log_z_from_data(log_w_data)],
        "energy": {name: e.mean().item() for name, e in energies.items()},
        "energy_reweighted": [*reweighted(energies["raw"], log_w)],
        "detour": detour(network, x0[:500]),
    }
    row |= {
        f"energy_w1_{name}": (
            energies[name].sort().values - energies["data"].sort().values
        ).abs().mean().item()
        for name in ("raw", "euler")
    }  # fmt: skip
    if isinstance(system.energy, Butane):
        trans = (torsion(x).abs() > 2 * math.pi / 3).double()
        row |= {"trans": trans.mean().item(), "trans_reweighted": [*reweighted(trans, log_w)]}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("systems", nargs="+", choices=SYSTEMS)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--width", type=int, default=WIDTH, help="of the network")
    parser.add_argument("--depth", type=int, default=DEPTH, help="of the network")
    parser.add_argument("--samples", type=int, default=400_000, help="to train on")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--compile", action="store_true", help="the network, with Inductor")
    parser.add_argument("--ship", action="store_true", help="store the network of seed 0")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.systems:
        system = SYSTEMS[name]
        shape = {"width": options.width, "depth": options.depth}
        system = system._replace(network=system.network | shape)
        data, held = system.data(0, options.samples), system.data(1, HELD_OUT)
        if not isinstance(system.energy, Butane):
            for seed, drawn in enumerate((data, held)):
                record_reference(options.out, name.split("-")[0], system.energy, drawn, seed)
        order = torch.randperm(len(held), generator=torch.Generator().manual_seed(1))
        held = held[order[: system.judged]]
        unit = (data.square().sum((1, 2)).mean() / (data[0].numel() - data.shape[2])).sqrt().item()
        for seed in options.seeds:
            key = {"system": name, "minutes": options.minutes, "seed": seed}
            key |= {"samples": options.samples} | shape | {"compiled": options.compile}
            if is_recorded(options.out, key):
                continue
            means = {"compile": options.compile}
            network, steps, seconds = train(system, data / unit, options.minutes, seed, **means)
            if options.ship and seed == 0:
                save_shipped(name, network, unit, **system.network)
            row = key | {
                "judged": system.judged,
                "unit": unit,
                "steps": steps,
                "cpu_seconds": round(seconds),
                **rounded(judged(system, held / unit, unit, network, **means), digits=5),
                "machine": processor(),
                "versions": versions("fmtutor"),
            }
            result = recorded(options.out)
            result = result | {"rows": [*result["rows"], row]}
            options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
            print({k: v for k, v in row.items() if k != "versions"}, flush=True)


if __name__ == "__main__":
    main()

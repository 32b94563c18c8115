"""Alanine dipeptide in implicit water, simulated by OpenMM: what `alanine.py` learns.

    pip install openmm==8.6.1
    python benchmarks/alanine_data.py field     # the numbers of the force field, a few energies
    python benchmarks/alanine_data.py simulate  # 15 ns: half an hour of a core
    python benchmarks/alanine_data.py right     # 15 short ones: three minutes
    python benchmarks/alanine_data.py metadynamics  # three times 4 ns: 25 minutes

The force field is Amber's ff14SB with the Born model OBC2 at 300 K. A Langevin thermostat (1/ps)
takes steps of 2 fs without constraints, so that all 66 coordinates have a density; hydrogens weigh
4 u instead of 1 and what they are bound to as much less, which no law of positions knows of. It
starts from a relaxed chain and keeps a molecule every 1.5 ps after the first hundred. Beside the
samples goes what the force field says of each term: `fmtutor.molecules.ForceField` needs no OpenMM.

The short ones start where φ is positive, which the long one hardly ever sees: molecules to learn
from, of which the share is wrong on purpose. Metadynamics is another way to the free energy
along φ, by OpenMM's own code: wherever the molecule has been it is pushed away, less and less,
until the sum of pushes has made the valleys flat.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch
from openmm import app, unit
from safetensors.torch import save_file

from fmtutor.molecules.alanine import ELEMENTS, alanine_coordinates

RESULTS = Path(__file__).parent / "results"
DATA, RIGHT = RESULTS / "alanine.safetensors", RESULTS / "alanine_right.safetensors"
PUSHED = RESULTS / "alanine_metadynamics.json"
ENERGIES = RESULTS / "alanine_energies.json"
FIELD = Path(__file__).parents[1] / "fmtutor" / "molecules" / "alanine.json"
PHI, GRID = (4, 6, 8, 14), 180
RESIDUES = [("ACE", range(6)), ("ALA", range(6, 16)), ("NME", range(16, 22))]
BONDS = [
    (0, 1), (2, 1), (3, 1), (1, 4), (4, 5), (4, 6), (6, 7), (6, 8), (8, 9), (8, 10),
    (10, 11), (10, 12), (10, 13), (8, 14), (14, 15), (14, 16), (16, 17), (16, 18),
    (18, 19), (18, 20), (18, 21),
]  # fmt: skip
FILES = ("amber14/protein.ff14SB.xml", "implicit/obc2.xml")
KELVIN, FRICTION, STEP, EVERY = 300.0, 1.0, 2e-3, 750  # K, 1/ps, ps, steps
HEAVY, OFFSET, WATER = 4.0, 0.009, 78.5  # u, nm, the dielectric constant
UNIT = 1e-3  # ångström: positions are stored as multiples of it


def topology() -> Any:
    made = app.Topology()
    chain, atoms = made.addChain(), []
    for name, members in RESIDUES:
        residue = made.addResidue(name, chain)
        for k in members:
            element = app.Element.getBySymbol(ELEMENTS[k])
            atoms.append(made.addAtom(f"{ELEMENTS[k]}{k}", element, residue))
    for i, j in BONDS:
        made.addBond(atoms[i], atoms[j])
    return made


def start(right: bool = False) -> np.ndarray:
    """Return a chain of life's hand in nanometres, to be relaxed: stretched, or with φ > 0."""
    coordinates = alanine_coordinates()
    flat, side = math.pi, math.radians(120)
    backbone = [1.0, 0.7] if right else [-1.4, 2.5]
    peptides, hand, groups = [flat] * 6, [-side, side], [flat, side, -side] * 3
    phi = [*backbone, *peptides, *hand, *groups]
    light = [ELEMENTS[row[0]] == "H" for row in coordinates.rows[1:]]
    bonds = [1.05 if h else 1.4 for h in light]
    q = torch.tensor([[*bonds, *[math.radians(115)] * 20, *phi]], dtype=torch.float64)
    return coordinates.positions(q)[0].numpy() / 10


def system() -> Any:
    """Return OpenMM's system, its Born model in the form that is fastest on a processor."""
    made = app.ForceField(*FILES).createSystem(
        topology(), nonbondedMethod=app.NoCutoff, constraints=None, removeCMMotion=False
    )
    (k, custom), *_ = [
        (k, f) for k, f in enumerate(made.getForces()) if isinstance(f, openmm.CustomGBForce)
    ]
    born = openmm.GBSAOBCForce()
    born.setSolventDielectric(WATER)
    for i in range(custom.getNumParticles()):
        charge, radius, scaled = custom.getParticleParameters(i)
        born.addParticle(charge, radius + OFFSET, scaled / radius)
    made.removeForce(k)
    made.addForce(born)
    for i, j in BONDS:
        for light, bound in ((i, j), (j, i)):
            if ELEMENTS[light] == "H":
                extra = HEAVY - made.getParticleMass(light).value_in_unit(unit.dalton)
                mass = made.getParticleMass(bound).value_in_unit(unit.dalton)
                made.setParticleMass(light, HEAVY)
                made.setParticleMass(bound, mass - extra)
    return made


def terms(made: Any) -> dict[str, Any]:
    """Return the force field's numbers in nm, kJ/mol, rad and e: what its energy is made of."""
    told: dict[str, Any] = {"temperature": KELVIN, "files": [*FILES], "openmm": openmm.__version__}

    def plain(value: Any) -> float:
        """A number in OpenMM's own units, which are those."""
        value = (
            value.value_in_unit_system(unit.md_unit_system) if unit.is_quantity(value) else value
        )
        return float(f"{value:.10g}")

    for force in made.getForces():
        name = type(force).__name__
        if name == "HarmonicBondForce":
            rows = [force.getBondParameters(k) for k in range(force.getNumBonds())]
            told["bonds"] = [[i, j, plain(r), plain(k)] for i, j, r, k in rows]
        elif name == "HarmonicAngleForce":
            rows = [force.getAngleParameters(k) for k in range(force.getNumAngles())]
            told["angles"] = [[*r[:3], plain(r[3]), plain(r[4])] for r in rows]
        elif name == "PeriodicTorsionForce":
            rows = [force.getTorsionParameters(k) for k in range(force.getNumTorsions())]
            told["torsions"] = [[*r[:5], plain(r[5]), plain(r[6])] for r in rows if plain(r[6])]
        elif name == "NonbondedForce":
            atoms = [
                [plain(v) for v in force.getParticleParameters(k)]
                for k in range(force.getNumParticles())
            ]
            special = {}
            for k in range(force.getNumExceptions()):
                i, j, *values = force.getExceptionParameters(k)
                special[min(i, j), max(i, j)] = [plain(v) for v in values]
            pairs = []
            for i in range(len(atoms)):
                for j in range(i + 1, len(atoms)):
                    (q, s, e), (p, t, f) = atoms[i], atoms[j]
                    usual = [plain(q * p), plain((s + t) / 2), plain(math.sqrt(e * f))]
                    charge, sigma, depth = special.get((i, j), usual)
                    if charge or depth:
                        pairs.append([i, j, charge, sigma, depth])
            told["pairs"] = pairs
        elif name == "GBSAOBCForce":
            told["born"] = [
                [plain(v) for v in force.getParticleParameters(k)]
                for k in range(force.getNumParticles())
            ]
            told["water"] = WATER
    return told


def simulation(seed: int, right: bool = False, made: Any = None) -> Any:
    integrator = openmm.LangevinMiddleIntegrator(
        KELVIN * unit.kelvin, FRICTION / unit.picosecond, STEP * unit.picoseconds
    )
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("CPU")
    run = app.Simulation(topology(), made or system(), integrator, platform, {"Threads": "1"})
    run.context.setPositions(start(right))
    run.minimizeEnergy()
    run.context.setVelocitiesToTemperature(KELVIN, seed)
    return run


def energies() -> dict[str, Any]:
    """Return OpenMM's energies in kT of molecules of the simulation, and of shaken ones."""
    run = simulation(seed=1)
    exact = openmm.Context(
        system(), openmm.VerletIntegrator(STEP), openmm.Platform.getPlatformByName("Reference")
    )
    noise, kt = np.random.default_rng(0), unit.MOLAR_GAS_CONSTANT_R * KELVIN * unit.kelvin
    positions, found = [], []
    for k in range(12):
        run.step(500)
        x = run.context.getState(positions=True).getPositions(asNumpy=True)
        x = x.value_in_unit(unit.angstrom)
        x = (x - x.mean(0) + (k % 3) * 0.15 * noise.normal(size=x.shape)).round(4)
        exact.setPositions(x * unit.angstrom)
        energy = exact.getState(energy=True).getPotentialEnergy()
        positions.append(x.tolist())
        found.append(float(f"{energy / kt:.10g}"))
    return {"openmm": openmm.__version__, "energies": found, "positions": positions}


def metadynamics(nanoseconds: float, seed: int) -> dict[str, Any]:
    """Return the free energy along φ in kT on a grid of a full turn, its least value 0."""
    made, began = system(), time.process_time()
    angle = openmm.CustomTorsionForce("theta")
    angle.addTorsion(*PHI)
    variable = app.metadynamics.BiasVariable(angle, -math.pi, math.pi, 0.2, True, GRID + 1)
    pushes = app.Metadynamics(
        made, [variable], KELVIN * unit.kelvin, 8.0, 1.0 * unit.kilojoules_per_mole, 250
    )
    run = simulation(seed, made=made)
    pushes.step(run, round(nanoseconds * 1000 / STEP))
    kt = unit.MOLAR_GAS_CONSTANT_R * KELVIN * unit.kelvin
    found = (pushes.getFreeEnergy() / kt)[:-1]  # the last point is the first again
    return {
        "nanoseconds": nanoseconds,
        "seed": seed,
        "free_energy": [float(f"{v:.4g}") for v in found - found.min()],
        "cpu_minutes": round((time.process_time() - began) / 60, 1),
    }


def kept(run: Any, count: int, every: int, name: str) -> list[np.ndarray]:
    """Go on with a simulation and keep so many molecules, in ångström."""
    frames, began = [], time.process_time()
    for k in range(count):
        run.step(every)
        x = run.context.getState(positions=True).getPositions(asNumpy=True)
        x = x.value_in_unit(unit.angstrom)
        frames.append(x - x.mean(0))
        if (k + 1) % 1000 == 0:
            minutes = (time.process_time() - began) / 60
            print(f"{name}: {(k + 1) * every * STEP:g} ps, {minutes:.1f} minutes", flush=True)
    return frames


def simulate(nanoseconds: float) -> None:
    """Keep a molecule every 1.5 ps of one long simulation, after its first hundred."""
    run, began = simulation(seed=0), time.process_time()
    run.step(round(100 / STEP))
    frames = kept(run, round(nanoseconds * 1000 / (EVERY * STEP)), EVERY, "left")
    store(frames, DATA, f"simulate --nanoseconds {nanoseconds:g}", began)


def simulate_right(times: int) -> None:
    """Keep molecules of short simulations, a hundred of each, one every 0.75 ps after the fifth."""
    began, frames = time.process_time(), []
    for seed in range(times):
        run = simulation(seed, right=True)
        run.step(round(5 / STEP))
        frames += kept(run, 100, EVERY // 2, "right")
    store(frames, RIGHT, f"right --times {times}", began)


def store(frames: list[np.ndarray], out: Path, command: str, began: float) -> None:
    told = {
        "command": f"alanine_data.py {command}",
        "force_field": " ".join(FILES),
        "openmm": openmm.__version__,
        "kelvin": f"{KELVIN:g}",
        "step": f"{STEP:g} ps",
        "unit": f"{UNIT:g}",
        "cpu_minutes": f"{(time.process_time() - began) / 60:.1f}",
    }
    x = torch.from_numpy(np.array(frames))
    save_file({"positions": (x / UNIT).round().to(torch.int16)}, out, metadata=told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["field", "simulate", "right", "metadynamics"])
    parser.add_argument("--nanoseconds", type=float, default=15.0)
    parser.add_argument("--times", type=int, default=15, help="short simulations")
    options = parser.parse_args()
    if options.what == "field":
        FIELD.write_text(json.dumps(terms(system())) + "\n", "utf-8")
        ENERGIES.write_text(json.dumps(energies()) + "\n", "utf-8")
    elif options.what == "simulate":
        simulate(options.nanoseconds)
    elif options.what == "right":
        simulate_right(options.times)
    else:
        runs = [metadynamics(4.0, seed) for seed in range(3)]
        result = {"openmm": openmm.__version__, "grid": GRID, "runs": runs}
        PUSHED.write_text(json.dumps(result) + "\n", "utf-8")


if __name__ == "__main__":
    main()

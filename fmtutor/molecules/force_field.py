"""The energy of a molecule by a force field of Amber's kind in implicit water.

Chapter: molecules
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmtutor.checking import check_points, check_positive
from fmtutor.molecules.internal import bond_angle, torsion
from fmtutor.molecules.positions import check_positions

__all__ = ["ForceField"]

_GAS = 8.31446261815324e-3  # kJ/mol/K
_COULOMB = 138.93545764438198  # kJ/mol nm/e²
_OFFSET, _PROBE = 0.009, 0.14  # nm
_SURFACE = 28.3919551  # kJ/mol/nm²
_TANH = (1.0, 0.8, 4.85)  # of Onufriev, Bashford and Case, their second set


class ForceField:
    """The energy in kT of a molecule, positions in ångström, by the numbers of a force field.

    E is a sum of springs for bonds and angles, waves for torsions, Lennard-Jones and Coulomb terms
    for pairs, and, for the water around, the generalised Born energy of the charges with a term for
    the surface. It is what OpenMM computes from the same numbers, to seven digits.

    Args:
        terms: In nm, kJ/mol, rad and e: `bonds` (i, j, length, constant), `angles` (i, j, k, angle,
            constant), `torsions` (i, j, k, l, period, phase, constant), `pairs` (i, j, product of
            charges, σ, ε) and `born` (charge, radius, scale), one for each atom; `water`, its
            dielectric constant.
        temperature: In kelvin.

    Raises:
        ValueError: If a term is missing, or a row of it is not what is said above.

    Equation: eq-molecules-force-field
    Reference: maier2015, onufriev2004

    Example:
        >>> energy = ForceField.alanine()
        >>> energy.atoms, energy(10 * torch.randn(2, 22, 3)).shape
        (22, torch.Size([2]))
    """

    def __init__(self, terms: dict[str, Any], temperature: float = 300.0) -> None:
        check_positive("temperature", temperature)
        missing = {"bonds", "angles", "torsions", "pairs", "born", "water"} - terms.keys()
        if missing:
            raise ValueError(f"terms must have {', '.join(sorted(missing))}, but came without")
        check_positive("water", terms["water"])
        self.temperature, self.water = temperature, float(terms["water"])
        self.atoms = len(terms["born"])
        _, self._born = _table("born", terms["born"], 0, 3, self.atoms)
        if not bool((self._born[1] > _OFFSET).all()):
            raise ValueError(
                f"radii of born must be above {_OFFSET} nm, but {self._born[1].min().item():g} came"
            )
        self._bonds = _table("bonds", terms["bonds"], 2, 2, self.atoms)
        self._angles = _table("angles", terms["angles"], 3, 2, self.atoms)
        self._torsions = _table("torsions", terms["torsions"], 4, 3, self.atoms)
        self._pairs = _table("pairs", terms["pairs"], 2, 3, self.atoms)

    @classmethod
    def alanine(cls, temperature: float = 300.0) -> ForceField:
        """Return the force field of alanine dipeptide: Amber's ff14SB with the Born model OBC2."""
        file = Path(__file__).with_name("alanine.json")
        return cls(json.loads(file.read_text("utf-8")), temperature)

    def __call__(self, x: Tensor) -> Tensor:
        """Return energies `[b]` at positions `[b n 3]`; infinite where two atoms are at one place.

        Computed in float64 on the CPU.
        """
        check_positions(x, n=self.atoms, dim=3)
        check_points(x, finite=True)
        r = x.double() / 10
        parts = (self.bonded(r), self.between(r), self.solvent(r))
        energy = torch.stack(parts).sum(0) / (_GAS * self.temperature)
        return energy.nan_to_num(nan=float("inf"), posinf=float("inf")).to(x.dtype)

    def bonded(self, r: Tensor) -> Tensor:
        """Return the energy of bonds, angles and torsions in kJ/mol, positions `r` in nm."""
        (i, j), (length, constant) = self._bonds
        stretched = torch.linalg.vector_norm(r[:, i] - r[:, j], dim=2) - length
        bonds: Tensor = (0.5 * constant * stretched.square()).sum(1)
        atoms, (angle, constant) = self._angles
        bent = bond_angle(r[:, atoms.T]) - angle
        angles: Tensor = (0.5 * constant * bent.square()).sum(1)
        atoms, (period, phase, constant) = self._torsions
        wave = (period * torsion(r[:, atoms.T]) - phase).cos()
        turns: Tensor = (constant * (1 + wave)).sum(1)
        return bonds + angles + turns

    def between(self, r: Tensor) -> Tensor:
        """Return the energy of pairs in kJ/mol: Lennard-Jones and Coulomb."""
        (i, j), (charges, sigma, depth) = self._pairs
        apart = torch.linalg.vector_norm(r[:, i] - r[:, j], dim=2)
        sixth = (sigma / apart) ** 6
        energy: Tensor = (4 * depth * (sixth.square() - sixth) + _COULOMB * charges / apart).sum(1)
        return energy

    def solvent(self, r: Tensor) -> Tensor:
        """Return the energy that water adds in kJ/mol: the Born model's and the surface's."""
        charge, radius, _ = self._born
        born = self.born_radii(r)
        square = (r[:, :, None] - r[:, None]).square().sum(3)
        product = born[:, :, None] * born[:, None]
        screened = (square + product * (-square / (4 * product)).exp()).sqrt()
        pull = (charge[:, None] * charge / screened).sum((1, 2))
        surface = ((radius + _PROBE) ** 2 * (radius / born) ** 6).sum(1)
        energy: Tensor = _SURFACE * surface - 0.5 * _COULOMB * (1 - 1 / self.water) * pull
        return energy

    def born_radii(self, r: Tensor) -> Tensor:
        """Return how deep each atom lies in the molecule, as a radius in nm, `[b n]`."""
        _, radius, scale = self._born
        own = radius - _OFFSET
        other = own * scale
        n = self.atoms
        off = ~torch.eye(n, dtype=torch.bool)
        square = (r[:, :, None] - r[:, None]).square().sum(3)
        d = torch.where(off, square, 1.0).sqrt()
        upper, lower = d + other, torch.maximum(own[:, None], (d - other).abs())
        integral = (
            1 / lower - 1 / upper
            + 0.25 * (d - other**2 / d) * (upper**-2 - lower**-2)
            + 0.5 * (lower / upper).log() / d
        )  # fmt: skip
        inside = other - d > own[:, None]  # the atom lies within the other's sphere
        integral = integral + torch.where(inside, 2 * (1 / own[:, None] - 1 / lower), 0.0)
        reached = off & (d + other > own[:, None])
        psi = 0.5 * own * torch.where(reached, integral, 0.0).sum(2)
        one, two, three = _TANH
        bent = (one * psi - two * psi**2 + three * psi**3).tanh()
        born: Tensor = 1 / (1 / own - bent / radius)
        return born


def _table(
    name: str, rows: list[list[float]], atoms: int, numbers: int, count: int
) -> tuple[Tensor, Tensor]:
    """Split rows into indices of atoms `[atoms m]`, below `count`, and numbers `[numbers m]`."""
    for k, row in enumerate(rows):
        known = all(isinstance(i, int) and 0 <= i < count for i in row[:atoms])
        if len(row) != atoms + numbers or not known or not all(map(math.isfinite, row)):
            raise ValueError(
                f"row {k} of {name} must be {atoms} atoms of 0 to {count - 1} and {numbers} finite "
                f"numbers, but {row} came"
            )
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, atoms + numbers).T
    return table[:atoms].long(), table[atoms:]

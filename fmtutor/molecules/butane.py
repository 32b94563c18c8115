"""n-Butane of four united atoms: a molecule of which everything is known exactly.

Bonds, angles and torsion do not know of each other, so that their laws are those of one number
each: samples, the normaliser and the share of each shape need no simulation.

Chapter: molecules
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import as_generator, check_count, check_positive
from fmtutor.manifolds import Rotations
from fmtutor.molecules.internal import InternalCoordinates
from fmtutor.molecules.positions import centred

__all__ = ["Butane"]

_GRID = 20_001


_CHAIN = InternalCoordinates([(0,), (1, 0), (2, 1, 0), (3, 2, 1, 0)])


@dataclass(frozen=True)
class Butane:
    """The energy of n-butane in kT, positions in ångström: bonds, angles, torsion.

    E = ½ Σ k_r(r − r₀)² + ½ Σ k_θ(θ − θ₀)² + u(φ), the three constants over the temperature, with
    the angles and the torsion of TraPPE and springs for its rigid bonds. Nothing keeps the ends
    apart but the torsion.

    Args:
        temperature: In kelvin.

    Equation: eq-molecules-butane
    Reference: martin1998

    Example:
        >>> butane = Butane()
        >>> x = butane.sample(1000, seed=0)
        >>> x.shape, f"{butane(x).mean():.1f} kT"
        (torch.Size([1000, 4, 3]), '3.6 kT')
    """

    temperature: float = 300.0

    bond, bond_constant = 1.54, 452_900.0  # Å, K/Å²
    angle, angle_constant = math.radians(114), 62_500.0  # rad, K/rad²
    torsion_constants = (355.03, -68.19, 791.32)  # K

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature)

    def __call__(self, x: Tensor) -> Tensor:
        """Return energies `[b]` at positions `[b 4 3]`, infinite where two neighbours coincide."""
        r, theta, phi = _CHAIN.parts(_CHAIN(x))
        e = self._bond(r).sum(1) + self._angle(theta).sum(1) + self._torsion(phi).sum(1)
        return torch.where((r == 0).any(1), math.inf, e)

    def sample(
        self, n: int, *, seed: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw `n` independent molecules, centred and turned at random, `[n 4 3]` in ångström."""
        n, g = check_count("n", n), as_generator(seed, generator)
        laws = [self._bond_law()] * 3 + [self._angle_law()] * 2 + [self._torsion_law()]
        x = _CHAIN.positions(torch.stack([_draw(*law, n, g) for law in laws], dim=1))
        return centred(x @ Rotations().noise(x[:, :3], g)).float()

    def log_z(self) -> float:
        """Return the log of Z = ∫ exp(−E) over centred positions, by three integrals of one number.

        A bond vector has the volume r² dr sin θ dθ dφ; all turns together 8π²; and centred
        positions have 4^(3/2) = 8 times less volume than the three bond vectors.
        """
        parts = [self._bond_law(), self._angle_law(), self._torsion_law()]
        bond, angle, turn = (torch.trapezoid(density, at).item() for at, density in parts)
        return math.log(bond**3 * angle**2 * turn * 8 * math.pi**2 / 8)

    def trans_share(self) -> float:
        """Return the share of molecules with |φ| > 2π/3."""
        phi = torch.linspace(2 * math.pi / 3, math.pi, _GRID, dtype=torch.float64)
        trans = 2 * torch.trapezoid((-self._torsion(phi)).exp(), phi)
        at, density = self._torsion_law()
        return (trans / torch.trapezoid(density, at)).item()

    def _bond(self, r: Tensor) -> Tensor:
        return 0.5 * self.bond_constant / self.temperature * (r - self.bond).square()

    def _angle(self, theta: Tensor) -> Tensor:
        return 0.5 * self.angle_constant / self.temperature * (theta - self.angle).square()

    def _torsion(self, phi: Tensor) -> Tensor:
        one, two, three = self.torsion_constants
        u = one * (1 + phi.cos()) + two * (1 - (2 * phi).cos()) + three * (1 + (3 * phi).cos())
        return u / self.temperature

    def _bond_law(self) -> tuple[Tensor, Tensor]:
        far = 10 * (self.temperature / self.bond_constant) ** 0.5
        r = torch.linspace(max(0.0, self.bond - far), self.bond + far, _GRID, dtype=torch.float64)
        return r, r.square() * (-self._bond(r)).exp()

    def _angle_law(self) -> tuple[Tensor, Tensor]:
        theta = torch.linspace(0, math.pi, _GRID, dtype=torch.float64)
        return theta, theta.sin() * (-self._angle(theta)).exp()

    def _torsion_law(self) -> tuple[Tensor, Tensor]:
        phi = torch.linspace(-math.pi, math.pi, _GRID, dtype=torch.float64)
        return phi, (-self._torsion(phi)).exp()


def _draw(at: Tensor, density: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """Draw n numbers by the inverse of the distribution function, linear between grid points."""
    mass = torch.cumulative_trapezoid(density, at)
    mass = torch.cat([mass.new_zeros(1), mass]) / mass[-1]
    u = torch.rand(n, generator=generator, dtype=at.dtype)
    k = torch.searchsorted(mass, u, right=True).clamp(1, len(at) - 1)
    share = (u - mass[k - 1]) / (mass[k] - mass[k - 1])
    return at[k - 1] + share * (at[k] - at[k - 1])

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
from fmtutor.molecules.positions import centred, check_positions

__all__ = ["Butane", "torsion"]

_GRID = 20_001


def torsion(x: Tensor) -> Tensor:
    """Return the torsion φ in (−π, π], `[b]`, of chains of four atoms `x` `[b 4 3]`.

    It is the angle between the plane of the first three atoms and that of the last three: π where
    the chain is a zigzag (trans), 0 where its ends are on one side (cis). A mirror changes its
    sign.

    Equation: eq-molecules-torsion

    Example:
        >>> zigzag = torch.tensor([[[-1.0, 1, 0], [-1, 0, 0], [0, 0, 0], [0, -1, 0]]])
        >>> torsion(zigzag)
        tensor([3.1416])
    """
    check_positions(x, n=4, dim=3)
    a, b, c = (x[:, 1:] - x[:, :-1]).unbind(1)
    n, m = torch.linalg.cross(a, b), torch.linalg.cross(b, c)
    across = torch.linalg.cross(b, n) / torch.linalg.vector_norm(b, dim=1, keepdim=True)
    # −0 + 0 is 0: the zigzag has the torsion π, not −π.
    return torch.atan2((across * m).sum(1) + 0.0, (n * m).sum(1))


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
        """Return energies `[b]` at positions `[b 4 3]`."""
        phi = torsion(x)
        steps = x[:, 1:] - x[:, :-1]
        r = torch.linalg.vector_norm(steps, dim=2)
        back, on = -steps[:, :-1], steps[:, 1:]
        area = torch.linalg.vector_norm(torch.linalg.cross(back, on), dim=2)
        theta = torch.atan2(area, (back * on).sum(2))
        return self._bond(r).sum(1) + self._angle(theta).sum(1) + self._torsion(phi)

    def sample(
        self, n: int, *, seed: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw `n` independent molecules, centred and turned at random, `[n 4 3]` in ångström."""
        n, g = check_count("n", n), as_generator(seed, generator)
        r = torch.stack([_draw(*self._bond_law(), n, g) for _ in range(3)], dim=1)
        theta = torch.stack([_draw(*self._angle_law(), n, g) for _ in range(2)], dim=1)
        x = _chain(r, theta, _draw(*self._torsion_law(), n, g))
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


def _chain(r: Tensor, theta: Tensor, phi: Tensor) -> Tensor:
    """Return chains of four atoms `[n 4 3]` with these bonds `[n 3]`, angles `[n 2]`, torsions."""
    zero = torch.zeros_like(phi)
    second = torch.zeros(len(r), 3, dtype=r.dtype)
    third = torch.stack([r[:, 1], zero, zero], dim=1)
    first = r[:, :1] * torch.stack([theta[:, 0].cos(), theta[:, 0].sin(), zero], dim=1)
    side = theta[:, 1].sin()
    end = torch.stack([-theta[:, 1].cos(), side * phi.cos(), side * phi.sin()], dim=1)
    return torch.stack([first, second, third, third + r[:, 2:] * end], dim=1)

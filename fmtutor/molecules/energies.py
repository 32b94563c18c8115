"""Energies of particles in units of kT, so that their law is exp(−E(x))/Z on centred positions.

An energy is called on positions `[b n d]` and returns `[b]`. Where particles lie upon each other it
is infinite if they repel.

Chapter: molecules
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import check_count, check_positive
from fmtutor.molecules.positions import centred, check_positions

__all__ = ["DoubleWell", "Energy", "LennardJones", "force", "pair_distances"]

Energy = Callable[[Tensor], Tensor]
"""Positions `[b n d]` to energies in kT, `[b]`."""


def pair_distances(x: Tensor) -> Tensor:
    """Return the distances of all pairs i < j of positions `x` `[b n d]`, `[b n(n−1)/2]`.

    Example:
        >>> pair_distances(torch.tensor([[[0.0], [1.0], [4.0]]]))
        tensor([[1., 4., 3.]])
    """
    check_positions(x)
    i, j = torch.triu_indices(x.shape[1], x.shape[1], offset=1, device=x.device)
    distances: Tensor = torch.linalg.vector_norm(x[:, i] - x[:, j], dim=2)
    return distances


def force(energy: Energy, x: Tensor) -> Tensor:
    """Return −∇E at positions `x` `[b n d]`, `[b n d]`.

    Example:
        >>> force(lambda x: x.square().sum((1, 2)) / 2, torch.ones(1, 2, 1))[0, :, 0]
        tensor([-1., -1.])
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return -torch.autograd.grad(energy(x).sum(), x)[0]


@dataclass(frozen=True)
class DoubleWell:
    """Particles of which each pair has two distances that it likes: E = Σ a(r − r₀)⁴ + b(r − r₀)².

    The sum is over pairs i < j. With the values given here and four particles in the plane it is
    the DW4 of the literature: wells 2.5 and 5.5 apart, an equal triangle has no place for four.

    Args:
        particles: Their number n.
        dim: Their dimension d.

    Equation: eq-molecules-dw4
    Reference: kohler2020

    Example:
        >>> line = torch.tensor([[[0.0, 0.0], [4.0, 0.0]]])
        >>> DoubleWell(particles=2)(line)
        tensor([0.])
    """

    particles: int = 4
    dim: int = 2
    a: float = 0.9
    b: float = -4.0
    r0: float = 4.0

    def __post_init__(self) -> None:
        check_count("particles", self.particles, least=2)
        check_count("dim", self.dim)
        if not self.a > 0:
            raise ValueError(f"a must be positive, or nothing holds a pair, but {self.a} came")
        if not all(map(math.isfinite, (self.a, self.b, self.r0))):
            raise ValueError(f"a, b and r0 must be finite, but {self.a}, {self.b}, {self.r0} came")

    def __call__(self, x: Tensor) -> Tensor:
        """Return energies `[b]` at positions `[b n d]`."""
        check_positions(x, n=self.particles, dim=self.dim)
        r = pair_distances(x) - self.r0
        return (self.a * r**4 + self.b * r**2).sum(1)


@dataclass(frozen=True)
class LennardJones:
    """Atoms that repel when near, attract when far, in a bowl: E = ε Σ (r⁻¹² − 2r⁻⁶) + ½ Σ‖x_i‖².

    The first sum is over pairs i < j, the second over particles, about their centre. Two
    conventions are in use: papers write the sum over all i ≠ j with a half or without one; with
    `epsilon=1` this is the first, with `epsilon=2` the second.

    Args:
        particles: Their number n.
        dim: Their dimension d.
        epsilon: Depth of the well of a pair, at distance 1, in kT.

    Equation: eq-molecules-lj
    Reference: kohler2020, klein2023

    Example:
        >>> pair = torch.tensor([[[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]]])
        >>> LennardJones(particles=2)(pair)  # −1 and ¼
        tensor([-0.7500])
    """

    particles: int = 13
    dim: int = 3
    epsilon: float = 1.0

    def __post_init__(self) -> None:
        check_count("particles", self.particles, least=2)
        check_count("dim", self.dim)
        check_positive("epsilon", self.epsilon)

    def __call__(self, x: Tensor) -> Tensor:
        """Return energies `[b]` at positions `[b n d]`."""
        check_positions(x, n=self.particles, dim=self.dim)
        near = pair_distances(x) ** -6
        bowl = 0.5 * centred(x).square().sum((1, 2))
        # (r⁻⁶ − 1)² − 1 is the well without the difference of two infinities.
        return self.epsilon * ((near - 1).square() - 1).sum(1) + bowl

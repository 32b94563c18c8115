"""Random numbers that Python and the page draw alike: the twin of `Random` in js/rng.js."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Random"]

_MASK = 0xFFFFFFFF


class Random:
    """The generator xoshiro128**, seeded by splitmix32, as js/rng.js has it.

    The same seed gives the same bits, uniform numbers and integers; normal numbers agree up to the
    last bit of the logarithm and the cosine. It is there so that a figure and Python can start from
    the same noise; everything else in the package draws from torch.

    Args:
        seed: An integer, taken modulo 2³².
    """

    def __init__(self, seed: int) -> None:
        self._state = []
        z = seed & _MASK
        for _ in range(4):
            z = (z + 0x9E3779B9) & _MASK
            s = ((z ^ (z >> 16)) * 0x21F0AAAD) & _MASK
            s = ((s ^ (s >> 15)) * 0x735A2D97) & _MASK
            self._state.append(s ^ (s >> 15))
        self._spare: float | None = None

    def bits(self) -> int:
        """Return 32 random bits."""
        a, b, c, d = self._state
        result = (_rotate((b * 5) & _MASK, 7) * 9) & _MASK
        c ^= a
        d ^= b
        self._state = [a ^ d, b ^ c, c ^ ((b << 9) & _MASK), _rotate(d, 11)]
        return result

    def uniform(self) -> float:
        """Return a number uniform in (0, 1), the ends left out."""
        return (self.bits() + 0.5) * 2.0**-32

    def integer(self, n: int) -> int:
        """Return one of 0, ..., n − 1."""
        return math.floor(self.uniform() * n)

    def normal(self) -> float:
        """Return a standard normal number, by Box and Muller."""
        if self._spare is not None:
            kept, self._spare = self._spare, None
            return kept
        radius = math.sqrt(-2 * math.log(self.uniform()))
        angle = 2 * math.pi * self.uniform()
        self._spare = radius * math.sin(angle)
        return radius * math.cos(angle)

    def normals(self, *shape: int) -> Tensor:
        """Return standard normal numbers of a shape, float32, filled row by row."""
        values = [self.normal() for _ in range(math.prod(shape))]
        return torch.tensor(values, dtype=torch.float64).float().reshape(shape)


def _rotate(x: int, k: int) -> int:
    return ((x << k) | (x >> (32 - k))) & _MASK

"""Several manifolds side by side.

Chapter: manifolds
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checking import check_same
from fmtutor.manifolds.protocol import Manifold, check_shape

__all__ = ["Product"]


class Product:
    """The product of manifolds: points `[b n]`, those of the `factors` flattened and joined.

    What is added up over the factors are squares of lengths, log-densities and dimensions; all else
    is done in each by itself.

    Reference: chen2024riemannian

    Example:
        >>> from fmtutor.manifolds import Euclidean, Rotations
        >>> space = Product(Rotations(), Euclidean(3))  # the position of a rigid body
        >>> space.shape, space.dim
        ((12,), 6)
    """

    def __init__(self, *factors: Manifold) -> None:
        if not factors:
            raise ValueError("a product needs at least one factor, but none came")
        self.factors = factors
        self._sizes = [math.prod(factor.shape) for factor in factors]
        self._starts = [*itertools.accumulate(self._sizes)][:-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one point."""
        return (sum(self._sizes),)

    @property
    def dim(self) -> int:
        """The sum of the dimensions."""
        return sum(factor.dim for factor in self.factors)

    def parts(self, x: Tensor) -> list[Tensor]:
        """Return the points `[... b n]` as those of the factors, each in its own shape."""
        pieces = torch.tensor_split(x, self._starts, dim=-1)
        return [
            piece.reshape(*x.shape[:-1], *factor.shape)
            for piece, factor in zip(pieces, self.factors, strict=True)
        ]

    def check(self, x: Tensor, name: str = "x") -> None:
        """Refuse points of which a part is off its factor."""
        check_shape(x, self.shape, name)
        for k, (factor, part) in enumerate(zip(self.factors, self.parts(x), strict=True)):
            factor.check(part, f"part {k} of {name}")

    def check_tangent(self, x: Tensor, u: Tensor, name: str = "u") -> None:
        """Refuse vectors of which a part is not tangent."""
        check_same(name, u, "x", x)
        pairs = zip(self.factors, self.parts(x), self.parts(u), strict=True)
        for k, (factor, point, vector) in enumerate(pairs):
            factor.check_tangent(point, vector, f"part {k} of {name}")

    def project(self, x: Tensor) -> Tensor:
        """Return the nearest points, part by part."""
        return self._each(lambda f, p: f.project(p), x)

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the nearest tangent vectors, part by part."""
        return self._each(lambda f, p, w: f.tangent(p, w), x, u)

    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the ends of the geodesics, part by part."""
        return self._each(lambda f, p, w: f.exp(p, w), x, u)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the velocities of the shortest geodesics, part by part."""
        return self._each(lambda f, p, q: f.log(p, q), x, y)

    def inner(self, x: Tensor, u: Tensor, w: Tensor) -> Tensor:
        """Return the sum of the inner products of the parts, `[b]`."""
        parts = zip(self.factors, *map(self.parts, (x, u, w)), strict=True)
        return torch.stack([f.inner(p, a, b) for f, p, a, b in parts]).sum(0)

    def frame(self, x: Tensor) -> Tensor:
        """Return the frames of the parts, each filled up with zeros, `[dim b n]`."""
        blocks, start = [], 0
        for factor, part, size in zip(self.factors, self.parts(x), self._sizes, strict=True):
            block = x.new_zeros(factor.dim, *x.shape)
            block[..., start : start + size] = factor.frame(part).reshape(factor.dim, len(x), size)
            blocks.append(block)
            start += size
        return torch.cat(blocks)

    def embed(self, x: Tensor) -> Tensor:
        """Return the coordinates of all parts."""
        return self._each(lambda f, p: f.embed(p), x)

    def noise(self, x1: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw the parts independently, each from the law of its factor."""
        return self._each(lambda f, p: f.noise(p, generator), x1)

    def noise_log_prob(self, x: Tensor) -> Tensor:
        """Return the sum of the log-densities of the parts, `[b]`."""
        pairs = zip(self.factors, self.parts(x), strict=True)
        return torch.stack([f.noise_log_prob(p) for f, p in pairs]).sum(0)

    def _each(self, function: Callable[..., Tensor], x: Tensor, *others: Tensor) -> Tensor:
        """Call a function with each factor and its parts; return the results, flattened."""
        results, batch_dims = [], max(a.ndim for a in (x, *others)) - 1
        for factor, *parts in zip(self.factors, *map(self.parts, (x, *others)), strict=True):
            result = function(factor, *parts)
            results.append(result.flatten(batch_dims))
        return torch.cat(results, dim=-1)

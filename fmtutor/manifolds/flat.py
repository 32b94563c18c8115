"""The spaces without curvature: that of all vectors, and the torus of angles.

Chapter: manifolds
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import check_count, check_same
from fmtutor.manifolds.protocol import check_shape, refuse_far

__all__ = ["Euclidean", "Torus", "wrap"]


def wrap(x: Tensor) -> Tensor:
    """Return angles `x` modulo 2π, in [−π, π).

    Example:
        >>> wrap(torch.tensor([3.5, -3.5]))
        tensor([-2.7832,  2.7832])
    """
    turned = torch.remainder(x + math.pi, 2 * math.pi) - math.pi
    # A number just below −π is rounded to π.
    return torch.where(turned >= math.pi, turned - 2 * math.pi, turned)


class _Flat:
    """What holds where all vectors `[d]` are tangent everywhere."""

    dim: int

    def __post_init__(self) -> None:
        check_count("dim", self.dim)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one point."""
        return (self.dim,)

    def check_tangent(self, x: Tensor, u: Tensor, name: str = "u") -> None:
        """Refuse vectors `u` of another shape or dtype than `x`."""
        check_same(name, u, "x", x)

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """Return `u`: every vector is tangent."""
        return u

    def inner(self, x: Tensor, u: Tensor, w: Tensor) -> Tensor:
        """Return Σ_i u_i w_i, `[b]`."""
        return (u * w).sum(-1)

    def frame(self, x: Tensor) -> Tensor:
        """Return the unit vectors, `[d b d]`."""
        unit = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        return unit[:, None].expand(-1, len(x), -1)


@dataclass(frozen=True)
class Euclidean(_Flat):
    """The flat space R^d itself: points `[b d]`, geodesics are straight lines.

    Example:
        >>> plane = Euclidean(2)
        >>> plane.exp(torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    dim: int

    def check(self, x: Tensor, name: str = "x") -> None:
        """Refuse points of another shape."""
        check_shape(x, self.shape, name)

    def project(self, x: Tensor) -> Tensor:
        """Return `x`."""
        return x

    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """Return x + u."""
        self.check_tangent(x, u)
        return x + u

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Return y − x."""
        check_same("x", x, "y", y)
        return y - x

    def embed(self, x: Tensor) -> Tensor:
        """Return `x`."""
        return x

    def noise(self, x1: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw N(0, I): there is no uniform law."""
        return torch.randn(x1.shape, generator=generator, dtype=x1.dtype, device=x1.device)

    def noise_log_prob(self, x: Tensor) -> Tensor:
        """Return log N(x; 0, I), `[b]`."""
        return -0.5 * (x.square().sum(-1) + self.dim * math.log(2 * math.pi))


@dataclass(frozen=True)
class Torus(_Flat):
    """The flat torus of d angles, in radians: points `[b d]`, −π and π are one place.

    Its volume is (2π)^d. Opposite angles, π apart, have two shortest ways; the log is −π there.

    Reference: chen2024riemannian

    Example:
        >>> torus = Torus(1)
        >>> torus.log(torch.tensor([[3.0]]), torch.tensor([[-3.0]]))  # across the seam
        tensor([[0.2832]])
    """

    dim: int

    def check(self, x: Tensor, name: str = "x") -> None:
        """Refuse points of another shape, and angles outside [−π, π]."""
        check_shape(x, self.shape, name)
        refuse_far(x, x.abs() - math.pi, f"{name} must be angles in [−π, π), as `project` gives")

    def project(self, x: Tensor) -> Tensor:
        """Return the angles modulo 2π, in [−π, π)."""
        return wrap(x)

    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """Return x + u, modulo 2π."""
        self.check(x)
        self.check_tangent(x, u)
        return wrap(x + u)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Return y − x, the short way round."""
        self.check(x)
        self.check(y, "y")
        check_same("x", x, "y", y)
        return wrap(y - x)

    def embed(self, x: Tensor) -> Tensor:
        """Return cosines and sines, `[b 2d]`: an angle itself jumps at the seam."""
        return torch.cat([x.cos(), x.sin()], dim=-1)

    def noise(self, x1: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw uniform angles."""
        u = torch.rand(x1.shape, generator=generator, dtype=x1.dtype, device=x1.device)
        return math.pi * (2 * u - 1)

    def noise_log_prob(self, x: Tensor) -> Tensor:
        """Return −d log 2π, `[b]`."""
        return x.new_full((len(x),), -self.dim * math.log(2 * math.pi))

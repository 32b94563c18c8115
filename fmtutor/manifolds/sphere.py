"""The sphere.

Chapter: manifolds
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import check_count, check_same
from fmtutor.manifolds.protocol import check_shape, refuse_far

__all__ = ["Sphere"]


@dataclass(frozen=True)
class Sphere:
    """The unit sphere of dimension d in R^(d+1): points `[b d+1]` of length 1.

    Geodesics are great circles, distances angles in radians. To the antipode −x all directions
    from x are equally short; the log takes one of them, of length π.

    Reference: chen2024riemannian

    Example:
        >>> sphere, north = Sphere(2), torch.tensor([[0.0, 0.0, 1.0]])
        >>> sphere.exp(north, torch.tensor([[1.0, 0.0, 0.0]]))
        tensor([[0.8415, 0.0000, 0.5403]])
        >>> sphere.log(north, -north).norm()
        tensor(3.1416)
    """

    dim: int = 2

    def __post_init__(self) -> None:
        check_count("dim", self.dim)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one point."""
        return (self.dim + 1,)

    def check(self, x: Tensor, name: str = "x") -> None:
        """Refuse points of another shape, or of another length than 1."""
        check_shape(x, self.shape, name)
        refuse_far(x, (x.norm(dim=1) - 1).abs(), f"{name} must lie on the unit sphere")

    def check_tangent(self, x: Tensor, u: Tensor, name: str = "u") -> None:
        """Refuse vectors that are not orthogonal to their points."""
        check_same(name, u, "x", x)
        off = (x * u).sum(1).abs() / (1 + u.norm(dim=1))
        refuse_far(x, off, f"{name} must be tangent, orthogonal to x")

    def project(self, x: Tensor) -> Tensor:
        """Return x/‖x‖."""
        length: Tensor = x.norm(dim=-1, keepdim=True)
        return x / length

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """Return u − (x·u) x."""
        return u - (x * u).sum(-1, keepdim=True) * x

    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """Return cos‖u‖ x + sin‖u‖ u/‖u‖."""
        self.check(x)
        self.check_tangent(x, u)
        angle = u.norm(dim=1, keepdim=True)
        # torch.sinc(a) is sin(πa)/(πa), finite at 0.
        return self.project(angle.cos() * x + torch.sinc(angle / math.pi) * u)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the angle between x and y times the direction from x to y."""
        self.check(x)
        self.check(y, "y")
        check_same("x", x, "y", y)
        # By both chords: the arc cosine of x·y has lost half the digits near 0 and π.
        near, far = ((y + sign * x).norm(dim=1, keepdim=True) for sign in (-1, 1))
        angle = 2 * torch.atan2(near, far)
        way = self.tangent(x, y)
        length = way.norm(dim=1, keepdim=True)
        lost = length < 4 * torch.finfo(x.dtype).eps  # rounding alone
        way = torch.where(lost, self.frame(x)[0], way / length.where(~lost, 1))
        return torch.where(near == 0, 0, angle) * way

    def inner(self, x: Tensor, u: Tensor, w: Tensor) -> Tensor:
        """Return Σ_i u_i w_i, `[b]`."""
        return (u * w).sum(-1)

    def frame(self, x: Tensor) -> Tensor:
        """Return the d first columns of the reflection that takes ∓e_(d+1) to x, `[d b d+1]`."""
        last = torch.eye(self.dim + 1, dtype=x.dtype, device=x.device)[-1]
        mirror = x + torch.where(x[:, -1:] < 0, -1, 1) * last  # the longer one of two
        basis = torch.eye(self.dim + 1, dtype=x.dtype, device=x.device)[:-1, None]
        scale = 2 * mirror[:, :-1] / mirror.square().sum(1, keepdim=True)  # [b d]
        return basis - scale.T[..., None] * mirror

    def embed(self, x: Tensor) -> Tensor:
        """Return `x`."""
        return x

    def noise(self, x1: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw uniform points: a normal vector has no preferred direction."""
        z = torch.randn(x1.shape, generator=generator, dtype=x1.dtype, device=x1.device)
        return self.project(z)

    def noise_log_prob(self, x: Tensor) -> Tensor:
        """Return minus the log of the area 2 π^((d+1)/2)/Γ((d+1)/2), `[b]`."""
        half = (self.dim + 1) / 2
        return x.new_full((len(x),), math.lgamma(half) - math.log(2) - half * math.log(math.pi))

"""What flow matching asks of a curved space.

Chapter: manifolds
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from fmtutor.checking import check_points, readable

__all__ = ["Manifold", "check_shape", "distance", "refuse_far", "tolerance"]


class Manifold(Protocol):
    """A surface in a flat space: its points `[b ...]` are those of that space, with a condition.

    A tangent vector at x is a vector of the flat space that points along the surface, `[b ...]`.
    Functions of a point take x, y on the surface and u, w tangent at x, and refuse others.

    Chapter: manifolds
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one point."""
        ...

    @property
    def dim(self) -> int:
        """The dimension of the surface, that of its tangent planes."""
        ...

    def check(self, x: Tensor, name: str = "x") -> None:
        """Refuse points `x` that are not on the surface; an error calls them `name`."""
        ...

    def check_tangent(self, x: Tensor, u: Tensor, name: str = "u") -> None:
        """Refuse vectors `u` that are not tangent at `x`."""
        ...

    def project(self, x: Tensor) -> Tensor:
        """Return the point of the surface nearest to a point `x` of the flat space."""
        ...

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the tangent vector at `x` nearest to a vector `u` `[... b ...]`."""
        ...

    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """Return where the geodesic from `x` with velocity `u` is after one unit of time."""
        ...

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the velocity of the shortest geodesic that leads from `x` to `y` in that time."""
        ...

    def inner(self, x: Tensor, u: Tensor, w: Tensor) -> Tensor:
        """Return the inner product of tangent vectors `u` and `w`, `[b]`."""
        ...

    def frame(self, x: Tensor) -> Tensor:
        """Return a basis of each tangent plane, orthonormal in the flat space, `[dim b ...]`."""
        ...

    def embed(self, x: Tensor) -> Tensor:
        """Return coordinates `[b n]` without a seam, those that a network is shown."""
        ...

    def noise(self, x1: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw the law that a flow starts from, one point for each of `x1`.

        It is the uniform one where there is one, on flat space N(0, I).
        """
        ...

    def noise_log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of that law with respect to the surface's volume, `[b]`."""
        ...


def distance(manifold: Manifold, x: Tensor, y: Tensor) -> Tensor:
    """Return the length of the shortest way from points `x` to `y` on a `manifold`, `[b]`.

    Example:
        >>> from fmtutor.manifolds import Sphere
        >>> north, east = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> distance(Sphere(2), north, east)
        tensor([1.5708])
    """
    u = manifold.log(x, y)
    return manifold.inner(x, u, u).sqrt()


def tolerance(x: Tensor) -> float:
    """Return how far points in the dtype of `x` may be off a surface: the root of its precision.

    Example:
        >>> f"{tolerance(torch.zeros(1)):.1e}"
        '3.5e-04'
    """
    return math.sqrt(torch.finfo(x.dtype).eps)


def check_shape(x: Tensor, shape: tuple[int, ...], name: str = "x") -> None:
    """Refuse what is not a batch of finite points `x` of a `shape`, calling them `name`.

    Example:
        >>> check_shape(torch.zeros(5, 2), (3,))
        Traceback (most recent call last):
        ValueError: x must have shape [b 3], but [5, 2] came
    """
    check_points(x, name, finite=True)
    if x.shape[1:] != shape:
        expected = " ".join(["b", *map(str, shape)])
        raise ValueError(f"{name} must have shape [{expected}], but {[*x.shape]} came")


def refuse_far(x: Tensor, off: Tensor, what: str) -> None:
    """Refuse tensors `x` of which some are `off` by more than their tolerance.

    The error begins with `what`.

    Example:
        >>> refuse_far(torch.ones(1), torch.tensor([0.1]), "x must lie on the unit sphere")
        Traceback (most recent call last):
        ValueError: x must lie on the unit sphere, but it is off by up to 0.1
    """
    if readable(off) and bool((off.detach() > tolerance(x)).any()):
        raise ValueError(f"{what}, but it is off by up to {off.detach().max().item():.3g}")

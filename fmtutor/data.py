"""Distributions in the plane, small enough to see what a method does.

Each is a seeded sampler of `n` points, `[n 2]`, of a spread of about two, so that the same network
and the same axes serve for all. `std` and `noise` are standard deviations.

Chapter: quickstart
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checking import as_generator, check_count

__all__ = [
    "DATASETS",
    "checkerboard",
    "cluster_means",
    "eight_gaussians",
    "four_clusters",
    "moons",
    "rings",
    "spiral",
    "standard_normal",
]


def standard_normal(
    n: int, d: int = 2, *, seed: int | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw noise x0 ~ N(0, I), `[n d]`, of a `dtype`.

    Example:
        >>> x0 = standard_normal(1000, seed=0)
        >>> x0.shape, f"{x0.std():.1f}"
        (torch.Size([1000, 2]), '1.0')
    """
    check_count("n", n)
    return torch.randn(n, d, generator=as_generator(seed), dtype=dtype)


def cluster_means(k: int, radius: float, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Place `k` means `[k 2]` evenly on a circle of a `radius`, in a `dtype`.

    The first one stands at 45 degrees for k = 4, else at 0.

    Example:
        >>> cluster_means(4, 8**0.5)[:2].round()
        tensor([[ 2.,  2.],
                [-2.,  2.]])
    """
    offset = math.pi / 4 if k == 4 else 0.0
    angle = torch.arange(k, dtype=torch.float64) * (2 * math.pi / k) + offset
    return (radius * torch.stack([angle.cos(), angle.sin()], dim=1)).to(dtype)


def four_clusters(n: int, *, seed: int | None = None, std: float = 0.3) -> Tensor:
    """Draw from four Gaussian clusters at the corners (±2, ±2) of a square.

    The density is that of `GaussianMixture(cluster_means(4, 8**0.5), std)`.

    Example:
        >>> x1 = four_clusters(1000, seed=0)
        >>> f"{x1.abs().mean():.1f}"  # each coordinate is near 2 or −2
        '2.0'
    """
    return _clusters(cluster_means(4, math.sqrt(8)), n, seed, std)


def eight_gaussians(n: int, *, seed: int | None = None, std: float = 0.2) -> Tensor:
    """Draw from eight Gaussian clusters on a circle of radius three.

    Example:
        >>> f"{eight_gaussians(1000, seed=0).norm(dim=1).mean():.1f}"  # the radius
        '3.0'
    """
    return _clusters(cluster_means(8, 3.0), n, seed, std)


def moons(n: int, *, seed: int | None = None, noise: float = 0.08) -> Tensor:
    """Draw from two interleaved half circles, widened by Gaussian noise before they are scaled.

    Example:
        >>> moons(1000, seed=0).shape
        torch.Size([1000, 2])
    """
    check_count("n", n)
    g = as_generator(seed)
    angle = math.pi * torch.rand(n, generator=g)
    lower = torch.rand(n, generator=g) < 0.5
    x = torch.where(lower, 1 - angle.cos(), angle.cos())
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    points = torch.stack([x - 0.5, y - 0.25], dim=1)
    return 2 * (points + noise * torch.randn(n, 2, generator=g))


def spiral(n: int, *, seed: int | None = None, noise: float = 0.08) -> Tensor:
    """Draw from a spiral of one and a half turns, even in arc length, widened by Gaussian noise.

    Example:
        >>> f"{spiral(1000, seed=0, noise=0.0).norm(dim=1).max():.1f}"  # the radius at its end
        '3.0'
    """
    check_count("n", n)
    g = as_generator(seed)
    radius = (0.04 + 0.96 * torch.rand(n, generator=g)).sqrt()  # arc length grows like r²
    angle = 3 * math.pi * radius
    points = 3 * radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return points + noise * torch.randn(n, 2, generator=g)


def checkerboard(n: int, *, seed: int | None = None) -> Tensor:
    """Draw uniformly from the eight dark squares of a 4 by 4 board of side six.

    Example:
        >>> square = ((checkerboard(1000, seed=0) + 3) / 1.5).floor()
        >>> (square.sum(1) % 2 == 0).all()  # dark ones only
        tensor(True)
    """
    check_count("n", n)
    g = as_generator(seed)
    column = torch.randint(0, 4, (n,), generator=g)
    row = 2 * torch.randint(0, 2, (n,), generator=g) + column % 2
    corner = torch.stack([column, row], dim=1)
    return 1.5 * (corner + torch.rand(n, 2, generator=g)) - 3.0


def rings(n: int, *, seed: int | None = None, noise: float = 0.06) -> Tensor:
    """Draw from two concentric circles of radius one and two and a half, even in arc length.

    Example:
        >>> rings(1000, seed=0, noise=0.0).norm(dim=1).round(decimals=1).unique()
        tensor([1.0000, 2.5000])
    """
    check_count("n", n)
    g = as_generator(seed)
    outer = torch.rand(n, generator=g) < 2.5 / 3.5
    radius = torch.where(outer, 2.5, 1.0) + noise * torch.randn(n, generator=g)
    angle = 2 * math.pi * torch.rand(n, generator=g)
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)


DATASETS: dict[str, Callable[..., Tensor]] = {
    "four clusters": four_clusters,
    "eight Gaussians": eight_gaussians,
    "moons": moons,
    "spiral": spiral,
    "checkerboard": checkerboard,
    "rings": rings,
}
"""The samplers by the name that a figure shows; each is called as `sampler(n, seed=...)`."""


def _clusters(means: Tensor, n: int, seed: int | None, std: float) -> Tensor:
    check_count("n", n)
    g = as_generator(seed)
    label = torch.randint(0, len(means), (n,), generator=g)
    return means[label] + std * torch.randn(n, 2, generator=g)

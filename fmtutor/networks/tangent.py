"""A small network for velocity fields on curved spaces.

Chapter: manifolds
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fmtutor.checking import check_points
from fmtutor.manifolds import Manifold
from fmtutor.networks.embedding import TimeEmbedding
from fmtutor.networks.layers import layers_of
from fmtutor.notation import Time, batch_time

__all__ = ["TangentMLP"]


class TangentMLP(nn.Module):
    """A multilayer perceptron whose velocities are tangent to a manifold.

    The point is put on the manifold, shown to the layers as the coordinates of `manifold.embed`,
    and what they answer is projected onto the tangent plane. So the field is defined near the
    manifold, too, where the stages of a solver look. To the coordinates z join cos and sin of w·z
    with fixed normal vectors w, which make detail easier to learn.

    Args:
        manifold: Where the points are.
        width: Units of a hidden layer.
        depth: Number of hidden layers.
        time_dim: Number of time features.
        scales: Standard deviations of the vectors w, larger for finer detail.
        frequencies: Number of vectors w for each of the `scales`.

    Reference: chen2024riemannian, tancik2020

    Example:
        >>> from fmtutor.manifolds import Sphere
        >>> sphere = Sphere(2)
        >>> x = sphere.noise(torch.zeros(5, 3))
        >>> u = TangentMLP(sphere, scales=(2.0,))(x, 0.5)
        >>> bool(((u * x).sum(1).abs() < 1e-6).all())
        True
    """

    directions: Tensor

    def __init__(
        self,
        manifold: Manifold,
        width: int = 128,
        depth: int = 3,
        time_dim: int = 16,
        *,
        scales: tuple[float, ...] = (),
        frequencies: int = 32,
    ) -> None:
        super().__init__()
        if min(width, depth, frequencies) < 1 or min(scales, default=1) <= 0:
            raise ValueError(
                "width, depth and frequencies must be at least 1 and scales positive, but "
                f"{width}, {depth}, {frequencies} and {scales} came"
            )
        self.manifold = manifold
        self.embedding = TimeEmbedding(time_dim)
        n = manifold.embed(torch.zeros(1, *manifold.shape)).shape[1]
        blocks = [scale * torch.randn(n, frequencies) for scale in scales]
        self.register_buffer("directions", torch.cat([torch.zeros(n, 0), *blocks], dim=1))
        n_in = n + 2 * self.directions.shape[1] + time_dim
        self.layers = layers_of(n_in, math.prod(manifold.shape), width, depth)

    def forward(self, x: Tensor, t: Time) -> Tensor:
        """Return tangent velocities `[b ...]` at points `[b ...]` on the manifold or near it."""
        check_points(x)
        if x.shape[1:] != self.manifold.shape:
            raise ValueError(
                f"x must hold points of shape {[*self.manifold.shape]}, but {[*x.shape]} came"
            )
        x = self.manifold.project(x)
        z = self.manifold.embed(x)
        angle = z @ self.directions
        time = self.embedding(batch_time(t, x, unit=False))
        u: Tensor = self.layers(torch.cat([z, angle.cos(), angle.sin(), time], dim=1))
        return self.manifold.tangent(x, u.reshape(x.shape).to(x.dtype))

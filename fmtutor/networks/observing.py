"""A small network for velocity fields that depend on what was observed.

Chapter: policies
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fmtutor.checking import check_observation, check_points
from fmtutor.networks.embedding import TimeEmbedding
from fmtutor.networks.layers import layers_of
from fmtutor.notation import Time, batch_time

__all__ = ["ObservingMLP"]


class ObservingMLP(nn.Module):
    """A multilayer perceptron v(x, t, o): a point, an embedded time and an observation.

    Args:
        dim: Dimension d of a point.
        observed: Numbers of an observation.
        width: Units of a hidden layer.
        depth: Number of hidden layers.
        time_dim: Number of time features.

    Reference: chi2023

    Example:
        >>> model = ObservingMLP(dim=8, observed=4)
        >>> model(torch.zeros(5, 8), 0.5, torch.zeros(5, 4)).shape
        torch.Size([5, 8])
    """

    def __init__(
        self, dim: int, observed: int, width: int = 256, depth: int = 3, time_dim: int = 16
    ) -> None:
        super().__init__()
        if min(dim, observed, width, depth) < 1:
            raise ValueError(
                "dim, observed, width and depth must be at least 1, but "
                f"{dim}, {observed}, {width}, {depth} came"
            )
        self.dim, self.observed, self.classes, self.n_embedding = dim, observed, 0, time_dim
        self.embedding = TimeEmbedding(time_dim)
        self.layers = layers_of(dim + observed + time_dim, dim, width, depth)

    def forward(
        self, x: Tensor, t: Time, observation: Tensor, *, also: Tensor | None = None
    ) -> Tensor:
        """Return velocities `[b d]` at points `[b d]`, given observations `[b o]`.

        What the network is told `also`, `[b time_dim]`, is added to the features of time.
        """
        check_points(x)
        if x.shape[1:] != (self.dim,):
            raise ValueError(f"x must have shape [b {self.dim}], but {[*x.shape]} came")
        check_observation(observation, len(x), self.observed)
        time = self.embedding(batch_time(t, x, unit=False))
        time = time if also is None else time + also
        velocity: Tensor = self.layers(torch.cat([x, observation, time], dim=1))
        return velocity

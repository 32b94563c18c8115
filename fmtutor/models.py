"""A small network for velocity fields in the plane."""

from __future__ import annotations

import itertools
import math

import torch
from einops import rearrange
from torch import Tensor, nn

from fmtutor.typing import Time, batch_time, check_labels, check_points

__all__ = ["MLP", "TimeEmbedding"]


class TimeEmbedding(nn.Module):
    r"""Fourier features of time: t ↦ (cos 2πf_j t, sin 2πf_j t), j = 1 ... dim/2.

    The frequencies f_j rise geometrically from ½ to `max_frequency`, so that the slowest feature
    tells t = 0 from t = 1 and the fastest resolves what changes quickly.

    Args:
        dim: Number of features, even.
        max_frequency: Fastest frequency, in cycles per unit of time.

    Raises:
        ValueError: If `dim` is not a positive even number.

    Reference: tancik2020
    Chapter: training
    """

    frequencies: Tensor

    def __init__(self, dim: int, max_frequency: float = 8.0) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"dim must be a positive even number, but {dim} came")
        exponent = torch.linspace(0, 1, dim // 2)
        frequencies = 0.5 * (2 * max_frequency) ** exponent
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times `[b]` as `[b dim]`."""
        angle = 2 * math.pi * rearrange(t, "b -> b 1") * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], dim=1)


class MLP(nn.Module):
    """A multilayer perceptron v(x, t): the point and an embedded time in, a velocity out.

    With `classes` it is also called as v(x, t, label). The labels are 0, ..., classes − 1; one
    more, the null label `classes`, stands for "no label". Each has a learned vector, as long as the
    time features, that joins the input.

    Args:
        dim: Dimension d of a point.
        width: Units of a hidden layer.
        depth: Number of hidden layers.
        time_dim: Number of time features.
        classes: Number of labels, without the null label; 0 for a network that takes none.

    Raises:
        TypeError: When called, if labels are not int64.
        ValueError: If a size is below 1 or `classes` below 0; when called, if x is not `[b d]`, the
            labels do not fit it or do not exist, or come to a network without classes.

    Chapter: training
    """

    def __init__(
        self,
        dim: int = 2,
        width: int = 128,
        depth: int = 3,
        time_dim: int = 16,
        *,
        classes: int = 0,
    ) -> None:
        super().__init__()
        if min(dim, width, depth) < 1:
            raise ValueError(
                f"dim, width and depth must be at least 1, but {dim}, {width}, {depth} came"
            )
        if classes < 0:
            raise ValueError(f"classes must be at least 0, but {classes} came")
        self.dim, self.classes = dim, classes
        self.embedding = TimeEmbedding(time_dim)
        self.labels = nn.Embedding(classes + 1, time_dim) if classes else None
        sizes = [dim + time_dim * (2 if classes else 1), *[width] * depth]
        hidden = [
            layer
            for n_in, n_out in itertools.pairwise(sizes)
            for layer in (nn.Linear(n_in, n_out), nn.SiLU())
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, dim))

    def forward(self, x: Tensor, t: Time, label: Tensor | int | None = None) -> Tensor:
        """Return velocities `[b d]` at points `[b d]` and times (a float, 0-d or `[b]`).

        The label is an int, a 0-d tensor or `[b]`, int64; None is the null label for all.
        """
        check_points(x)
        if x.shape[1:] != (self.dim,):
            raise ValueError(f"x must have shape [b {self.dim}], but {[*x.shape]} came")
        # A network may be asked slightly outside [0, 1], by finite differences in time, say.
        features = [x, self.embedding(batch_time(t, x, unit=False))]
        if self.labels is not None:
            features.append(self.labels(self._label(label, x)))
        elif label is not None:
            raise ValueError("a label came to a network without classes: give MLP(classes=...)")
        velocity: Tensor = self.layers(torch.cat(features, dim=1))
        return velocity

    def _label(self, label: Tensor | int | None, x: Tensor) -> Tensor:
        label = torch.as_tensor(self.classes if label is None else label, device=x.device)
        labels = label.expand(len(x)) if label.ndim == 0 else label
        check_labels(labels, len(x), self.classes + 1)
        return labels

"""A small network for velocity fields in the plane.

Chapter: training
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fmtutor.checking import check_points
from fmtutor.networks.embedding import TimeEmbedding
from fmtutor.networks.layers import layers_of
from fmtutor.networks.mlp_divergence import is_changed, is_plain, mlp_with_divergence
from fmtutor.notation import Time, batch_label, batch_time

__all__ = ["MLP"]


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
        max_frequency: The fastest of the time features, in turns between noise and data.

    Example:
        >>> model = MLP(classes=10)
        >>> model(torch.zeros(5, 2), 0.5, label=3).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        dim: int = 2,
        width: int = 128,
        depth: int = 3,
        time_dim: int = 16,
        *,
        classes: int = 0,
        max_frequency: float = 8.0,
    ) -> None:
        super().__init__()
        if min(dim, width, depth) < 1:
            raise ValueError(
                f"dim, width and depth must be at least 1, but {dim}, {width}, {depth} came"
            )
        if classes < 0:
            raise ValueError(f"classes must be at least 0, but {classes} came")
        self.dim, self.classes, self.n_embedding = dim, classes, time_dim
        self.embedding = TimeEmbedding(time_dim, max_frequency)
        self.labels = nn.Embedding(classes + 1, time_dim) if classes else None
        n_in = dim + time_dim * (2 if classes else 1)
        self.layers = layers_of(n_in, dim, width, depth)

    def forward(
        self, x: Tensor, t: Time, label: Tensor | int | None = None, *, also: Tensor | None = None
    ) -> Tensor:
        """Return velocities `[b d]` at points `[b d]`.

        The label is an int, a 0-d tensor or `[b]`, int64; None is the null label for all. What the
        network is told `also`, `[b time_dim]`, is added to the features of time.
        """
        self._check(x)
        # A network may be asked slightly outside [0, 1], by finite differences in time, say.
        context = self._context(batch_time(t, x, unit=False), label, also)
        velocity: Tensor = self.layers(torch.cat([x, context], dim=1))
        return velocity.to(x.dtype)  # under autocast the layers compute in another one

    def with_divergence(self) -> Callable[..., tuple[Tensor, Tensor]] | None:
        """Return the function (x, t, label) ↦ (v, ∇·v), for the weights as they are now.

        It costs no backward pass (`mlp_with_divergence`). None where a subclass, a hook or another
        layer has changed what the network computes: there the closed form does not hold.
        """
        if type(self) is not MLP or is_changed(self) or not is_plain(self.layers):
            return None
        closed_form = mlp_with_divergence(self.layers, self.dim)

        @torch.no_grad()
        def field(x: Tensor, t: Time, label: Tensor | int | None = None) -> tuple[Tensor, Tensor]:
            self._check(x)
            context = self._context(batch_time(t, x, unit=False), label)
            return closed_form(x, context[:1] if context.stride(0) == 0 else context)

        return field

    def _check(self, x: Tensor) -> None:
        check_points(x)
        if x.shape[1:] != (self.dim,):
            raise ValueError(f"x must have shape [b {self.dim}], but {[*x.shape]} came")

    def _context(self, t: Tensor, label: Tensor | int | None, also: Tensor | None = None) -> Tensor:
        """Return what joins the points at the input: features of times `[b]`, vectors of labels."""
        # One time for all points, as a solver gives it: its features are made once.
        features: Tensor = self.embedding(t[:1] if t.stride(0) == 0 else t).expand(len(t), -1)
        features = features if also is None else features + also
        if self.labels is not None:
            vectors = self.labels(batch_label(label, t, self.classes))
            return torch.cat([features, vectors], dim=1)
        if label is not None:
            raise ValueError("a label came to a network without classes: give MLP(classes=...)")
        return features

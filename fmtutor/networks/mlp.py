"""A small network for velocity fields in the plane."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmtutor.checking import check_points
from fmtutor.networks.embedding import TimeEmbedding
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
        self._check(x)
        # A network may be asked slightly outside [0, 1], by finite differences in time, say.
        context = self._context(batch_time(t, x, unit=False), label)
        velocity: Tensor = self.layers(torch.cat([x, context], dim=1))
        return velocity

    def with_divergence(self) -> Callable[[Tensor, Time], tuple[Tensor, Tensor]]:
        r"""Return the function (x, t) ↦ (v, ∇·v) in closed form, for the weights as they are now.

        The Jacobian of the network is W_out D_L W_L ⋯ D_2 W_2 D_1 W_in, where D_l is diagonal and
        holds the slopes of layer l at the point; the divergence is its trace. One forward pass
        gives all the slopes, and no backward pass is needed.

        Returns:
            A function from points `[b d]` and times to velocities `[b d]` and divergences `[b]`.
            It records nothing for automatic differentiation.

        Chapter: likelihood
        """
        first, *hidden, last = (layer for layer in self.layers if isinstance(layer, nn.Linear))
        of_x, of_context = first.weight[:, : self.dim].T, first.weight[:, self.dim :]
        middle = [layer.weight for layer in hidden]
        with torch.no_grad():
            blocks = [
                _jacobian_trace(w_in, middle, w_out)
                for w_in, w_out in zip(
                    torch.split(of_x, _COORDINATES),
                    torch.split(last.weight, _COORDINATES),
                    strict=True,
                )
            ]

        def of_group(x: Tensor, first_bias: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor]:
            z, slopes = torch.addmm(first_bias, x, of_x), []
            for layer in (*hidden, last):
                s = z.sigmoid()
                h = z.mul_(s)
                slopes.append(s.lerp_(s.new_ones(()), h))  # silu' = σ + silu (1 − σ)
                z = layer(h)
            return z, torch.stack([trace(slopes, scratch) for trace in blocks]).sum(0)

        @torch.no_grad()
        def field(x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
            self._check(x)
            times = batch_time(t, x, unit=False)
            if times.stride(0) == 0:  # One time for all points: its features are made once.
                times = times[:1]
            context = F.linear(self._context(times, None), of_context, first.bias)
            groups = zip(
                torch.split(x, _POINTS),
                torch.split(context.expand(len(x), -1), _POINTS),
                strict=True,
            )
            size = min(len(x), _POINTS) * min(self.dim, _COORDINATES) * first.out_features
            scratch = x.new_empty(2, size)
            velocity, divergence = zip(*(of_group(*g, scratch) for g in groups), strict=True)
            return torch.cat(velocity), torch.cat(divergence)

        return field

    def _check(self, x: Tensor) -> None:
        check_points(x)
        if x.shape[1:] != (self.dim,):
            raise ValueError(f"x must have shape [b {self.dim}], but {[*x.shape]} came")

    def _context(self, t: Tensor, label: Tensor | int | None) -> Tensor:
        """Return what joins the points at the input: features of times `[b]`, vectors of labels."""
        if self.labels is not None:
            vectors = self.labels(batch_label(label, t, self.classes))
            return torch.cat([self.embedding(t), vectors], dim=1)
        if label is not None:
            raise ValueError("a label came to a network without classes: give MLP(classes=...)")
        features: Tensor = self.embedding(t)
        return features


# The divergence is computed for so many points and coordinates at a time: what lies between then
# stays in the cache, and small enough for the allocator to keep.
_POINTS, _COORDINATES = 512, 4


def _jacobian_trace(
    w_in: Tensor, hidden: Sequence[Tensor], w_out: Tensor
) -> Callable[[list[Tensor], Tensor], Tensor]:
    """Return the function that takes the slopes of each layer, `[b w]`, to the trace, `[b]`.

    Its second argument is memory to work in, two rows of at least b d w numbers.

    The product is formed from both ends and they meet at one layer: x to there in `left`, from
    there to v in `right`, `[b d w]` each. At either end, two matrices that do not depend on the
    point stand around one diagonal; their product is made here, once.

    Args:
        w_in: The first layer's weights of x, transposed, `[d w]`; or some of the rows, for the sum
            over these coordinates.
        hidden: Weights of the other hidden layers, `[w w]` each.
        w_out: Weights of the last layer, `[d w]`, or the same rows.
    """
    d, w = w_in.shape
    if hidden:
        into = torch.einsum("kj, ij -> jik", hidden[0], w_in).reshape(w, d * w)
    if len(hidden) > 1:
        out_of = torch.einsum("lk, il -> lik", hidden[-1], w_out).reshape(w, d * w)

    def trace(slopes: list[Tensor], scratch: Tensor) -> Tensor:
        b = len(slopes[0])
        at_left, at_right = scratch[:, : b * d * w].view(2, b, d * w)
        left, right, between = w_in, w_out, list(slopes)
        if hidden:
            left = torch.mm(between.pop(0), into, out=at_left).view(b, d, w)
        if len(hidden) > 1:
            right = torch.mm(between.pop(), out_of, out=at_right).view(b, d, w)
        *passed, meeting = between
        for slope, weight in zip(passed, hidden[1:-1], strict=True):
            left = (slope[:, None] * left) @ weight.T
        product = torch.mul(right, meeting[:, None], out=at_right.view(b, d, w))
        return product.mul_(left).flatten(1).sum(1)

    return trace

"""The divergence of a multilayer perceptron in closed form, beside its value.

Chapter: likelihood
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as _of_modules

__all__ = ["is_changed", "is_plain", "mlp_with_divergence"]

# So many points and coordinates at a time: what lies between then stays in the cache, and small
# enough for the allocator to keep.
_POINTS, _COORDINATES = 512, 4


def is_plain(layers: nn.Sequential) -> bool:
    """Return whether `layers` are linear ones with SiLU between, as built and without hooks.

    Example:
        >>> is_plain(MLP().layers), is_plain(torch.nn.Sequential(torch.nn.Tanh()))
        (True, False)
    """
    kinds = [type(layer) for layer in layers]
    expected = [nn.Linear, *[nn.SiLU, nn.Linear] * (len(kinds) // 2)]
    return kinds == expected and not any(is_changed(part) for part in (layers, *layers))


def is_changed(module: nn.Module) -> bool:
    """Return whether a `module` has hooks or another forward than its class.

    Example:
        >>> module = torch.nn.Linear(2, 2)
        >>> module.forward = lambda x: x
        >>> is_changed(module)
        True
    """
    of_all = (_of_modules._global_forward_hooks, _of_modules._global_forward_pre_hooks)
    hooks = (module._forward_hooks, module._forward_pre_hooks, *of_all)
    return any(hooks) or "forward" in vars(module)


def mlp_with_divergence(
    layers: nn.Sequential, dim: int
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the function (x, context) ↦ (v, ∇·v) of `layers`, for their weights as they are now.

    The Jacobian of the network is W_out D_L W_L ⋯ D_2 W_2 D_1 W_in, where D_l is diagonal and
    holds the slopes of layer l at the point; the divergence is its trace. The layers are
    `is_plain`, the first takes `dim` coordinates and a context. The function takes points `[b d]`
    and contexts `[b c]` or `[1 c]`; it records nothing, and autocast does not touch it.

    Example:
        >>> field = mlp_with_divergence(MLP(2, time_dim=16).layers, dim=2)
        >>> v, divergence = field(torch.zeros(5, 2), torch.zeros(1, 16))
        >>> v.shape, divergence.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """
    first, *hidden, last = (layer for layer in layers if isinstance(layer, nn.Linear))
    of_x, of_context = first.weight[:, :dim].T, first.weight[:, dim:]
    middle = [layer.weight for layer in hidden]
    with torch.no_grad(), _without_autocast(of_x.device.type):
        blocks = [
            _jacobian_trace(w_in, middle, w_out)
            for w_in, w_out in zip(
                torch.split(of_x, _COORDINATES), torch.split(last.weight, _COORDINATES), strict=True
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
    def field(x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        with _without_autocast(x.device.type):
            shift = F.linear(context, of_context, first.bias).expand(len(x), -1)
            groups = zip(torch.split(x, _POINTS), torch.split(shift, _POINTS), strict=True)
            size = min(len(x), _POINTS) * min(dim, _COORDINATES) * first.out_features
            scratch = x.new_empty(2, size)
            velocity, divergence = zip(*(of_group(*g, scratch) for g in groups), strict=True)
        return torch.cat(velocity), torch.cat(divergence)

    return field


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


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

"""Classifier-free guidance: away from what would be generated anyway, towards what is asked for.

Chapter: guidance
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checking import check_callable, check_labels, check_same, readable
from fmtutor.notation import Field, align_time, conditioned

__all__ = ["conditioned", "drop_labels", "guided", "interval"]


def drop_labels(
    labels: Tensor, rate: float, *, null: int, generator: torch.Generator | None = None
) -> Tensor:
    """Replace each of `labels` `[b]`, int64, by the `null` label with probability `rate`.

    A network trained on such labels learns the conditional fields and the unconditional one.

    Reference: ho2022

    Example:
        >>> drop_labels(torch.tensor([3, 1, 4]), 1.0, null=10)
        tensor([10, 10, 10])
    """
    check_labels(labels, labels.numel() if isinstance(labels, Tensor) else 0)
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must lie in [0, 1], but {rate} came")
    drop = torch.rand(labels.shape, generator=generator, device=labels.device) < rate
    return torch.where(drop, null, labels)


def guided(
    v_cond: Field,
    v_uncond: Field,
    scale: float | Callable[[Tensor], Tensor],
    *,
    rescale: float = 0.0,
) -> Field:
    """Return the guided field v_uncond + scale (v_cond − v_uncond), called as `v(x, t, *cond)`.

    Conditions go to `v_cond` alone. A field that is not needed, at scale 1 or 0, is not evaluated.
    The scale may be a function of the times `[b]`, such as an `interval`; a weight w of the
    convention (1 + w) v_cond − w v_uncond is the scale 1 + w here. A share `rescale` of the result
    is scaled to the deviation that v_cond has over the coordinates of the same point.

    The other field may be that of a weaker network, asked for the same (autoguidance).

    Equation: eq-guidance-field
    Reference: ho2022, karras2024, lin2024

    Example:
        >>> v = guided(lambda x, t: 0 * x + 2, lambda x, t: 0 * x + 1, scale=3.0)
        >>> v(torch.zeros(1, 2), torch.zeros(1))
        tensor([[4., 4.]])
        >>> strong, weak, label = MLP(classes=2), MLP(width=16, classes=2), torch.tensor([0, 1])
        >>> v = guided(conditioned(strong, label), conditioned(weak, label), scale=2.0)
    """
    check_callable("v_cond", v_cond, "a field")
    check_callable("v_uncond", v_uncond, "a field")
    if not callable(scale) and not math.isfinite(scale):
        raise ValueError(f"the guidance scale must be finite, but {scale} came")
    if not 0 <= rescale <= 1:
        raise ValueError(f"rescale must lie in [0, 1], but {rescale} came")
    if scale == 1:
        return v_cond

    def v(x: Tensor, t: Tensor, *cond: Tensor) -> Tensor:
        if callable(scale) and readable(t) and bool((scale(t) == 1).all()):
            return v_cond(x, t, *cond)
        u = v_uncond(x, t)
        if scale == 0 and not rescale:
            return u
        u = u.clone()  # the other field may be the same network and write to the same memory
        u_cond = v_cond(x, t, *cond)
        check_same("v_cond(x, t)", u_cond, "v_uncond(x, t)", u)
        s = align_time(scale(t), x) if callable(scale) else scale
        u = u + s * (u_cond - u)
        return torch.lerp(u, u * _deviation(u_cond) / _deviation(u), rescale) if rescale else u

    return v


def interval(scale: float, first: float, last: float) -> Callable[[Tensor], Tensor]:
    """Return the function of times that is `scale` in [first, last), and 1 at other times.

    With a `last` of 1 the end belongs to it. Outside of the interval nothing is guided; on a CPU,
    where a look at the time costs nothing, the other field is not evaluated there either.

    Reference: kynkaanniemi2024

    Example:
        >>> interval(3.0, 0.25, 0.75)(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
        tensor([1., 3., 3., 1., 1.])
    """
    if not math.isfinite(scale):
        raise ValueError(f"the guidance scale must be finite, but {scale} came")
    if not 0 <= first <= last <= 1:
        raise ValueError(f"0 ≤ first ≤ last ≤ 1 must hold, but first {first} and last {last} came")
    end = math.inf if last == 1 > first else last  # a solver's last stage asks at 1

    def at(t: Tensor) -> Tensor:
        return torch.where((t >= first) & (t < end), scale, 1.0).to(t.dtype)

    return at


def _deviation(u: Tensor) -> Tensor:
    """Return the standard deviation over the coordinates of each point, `[b 1 ...]`, above 0."""
    if u[0].numel() < 2:
        raise ValueError(f"to rescale, points must have 2 coordinates, but {[*u.shape]} came")
    deviation = u.flatten(1).std(dim=1).clamp_min(torch.finfo(u.dtype).tiny)
    return align_time(deviation, u)

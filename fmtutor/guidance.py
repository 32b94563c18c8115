"""Classifier-free guidance: away from what would be generated anyway, towards what is asked for.

Chapter: guidance
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checking import check_callable, check_labels, check_same
from fmtutor.notation import Field, align_time, conditioned

__all__ = ["conditioned", "drop_labels", "guided"]


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
) -> Field:
    """Return the guided field v_uncond + scale (v_cond − v_uncond), called as `v(x, t, *cond)`.

    Conditions go to `v_cond` alone. A field that is not needed, at scale 1 or 0, is not evaluated.
    The scale may be a function of the times `[b]`; a weight w of the convention
    (1 + w) v_cond − w v_uncond is the scale 1 + w here.

    Equation: eq-guidance-field
    Reference: ho2022

    Example:
        >>> v = guided(lambda x, t: 0 * x + 2, lambda x, t: 0 * x + 1, scale=3.0)
        >>> v(torch.zeros(1, 2), torch.zeros(1))
        tensor([[4., 4.]])
    """
    check_callable("v_cond", v_cond, "a field")
    check_callable("v_uncond", v_uncond, "a field")
    if not callable(scale) and not math.isfinite(scale):
        raise ValueError(f"the guidance scale must be finite, but {scale} came")
    if scale == 1:
        return v_cond

    def v(x: Tensor, t: Tensor, *cond: Tensor) -> Tensor:
        u = v_uncond(x, t)
        if scale == 0:
            return u
        u = u.clone()  # the other field may be the same network and write to the same memory
        u_cond = v_cond(x, t, *cond)
        check_same("v_cond(x, t)", u_cond, "v_uncond(x, t)", u)
        s = align_time(scale(t), x) if callable(scale) else scale
        return u + s * (u_cond - u)

    return v

"""Classifier-free guidance: away from what would be generated anyway, towards what is asked for."""

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
    """Replace each label, independently of the others, by the null label with probability `rate`.

    A network trained on such labels learns the conditional fields and the unconditional one.

    Args:
        labels: Labels `[b]`, int64.
        rate: The probability, in [0, 1].
        null: The null label.
        generator: Source of randomness; None is torch's global state.

    Returns:
        Labels `[b]`; the argument is not changed.

    Raises:
        TypeError: If the labels are not an int64 tensor.
        ValueError: If they are not `[b]`, or the rate lies outside [0, 1].

    Reference: ho2022
    Chapter: guidance
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
    """Return the guided field v_uncond + scale (v_cond − v_uncond).

    Scale 1 is the plain conditional field, 0 the unconditional one, above 1 the difference is
    exaggerated. A field that is not needed, at scale 1 or 0, is not evaluated.

    Args:
        v_cond: The field that knows the condition.
        v_uncond: The field that does not.
        scale: The scale, finite, or a function of the times `[b]` that returns one. A weight w of
            the convention (1 + w) v_cond − w v_uncond is the scale 1 + w here.

    Returns:
        The guided field. Called as `v(x, t, *cond)`, it gives the conditions to `v_cond` alone.

    Raises:
        TypeError: If a field cannot be called.
        ValueError: If the scale is not finite; when called, if the two fields differ in shape.

    Reference: ho2022
    Chapter: guidance
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

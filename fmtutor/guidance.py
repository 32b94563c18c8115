"""Classifier-free guidance: away from what would be generated anyway, towards what is asked for."""

from __future__ import annotations

import math

from torch import Tensor

from fmtutor.typing import VelocityField, check_same

__all__ = ["guided"]


def guided(v_cond: VelocityField, v_uncond: VelocityField, scale: float) -> VelocityField:
    """Return the guided field v_uncond + scale (v_cond − v_uncond).

    Scale 1 is the plain conditional field, 0 the unconditional one, above 1 the difference is
    exaggerated. A field that is not needed, at scale 1 or 0, is not evaluated.

    Args:
        v_cond: The field that knows the condition.
        v_uncond: The field that does not.
        scale: The scale, finite. A weight w of the convention (1 + w) v_cond − w v_uncond is the
            scale 1 + w here.

    Returns:
        The guided field, called as `v(x, t)`.

    Raises:
        ValueError: If the scale is not finite; when called, if the two fields differ in shape.

    Reference: ho2022
    Chapter: guidance
    """
    if not math.isfinite(scale):
        raise ValueError(f"the guidance scale must be finite, but {scale} came")
    if scale == 1:
        return v_cond
    if scale == 0:
        return v_uncond

    def v(x: Tensor, t: Tensor) -> Tensor:
        u, u_cond = v_uncond(x, t), v_cond(x, t)
        check_same("v_cond(x, t)", u_cond, "v_uncond(x, t)", u)
        return u + scale * (u_cond - u)

    return v

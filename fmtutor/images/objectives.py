"""What a run of pictures can minimise: the loss of flow matching, or one that learns to jump."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from fmtutor.few_steps import lagrangian_loss, meanflow_loss, semigroup_loss
from fmtutor.flow_maps import tangent
from fmtutor.networks import PictureNetwork, TwoTimes
from fmtutor.notation import Field

__all__ = ["JUMP", "JUMP_LOSSES", "VELOCITY", "velocity_of"]

VELOCITY = "velocity"
"""The name of the objective that is flow matching."""

JUMP = "jump"
"""Stands where a solver is named, for the jumps of a network that has learned them."""

JUMP_LOSSES: dict[str, Callable[..., Tensor]] = {
    "lagrangian": lagrangian_loss,
    # The weight and the share with which it was published for ImageNet.
    "meanflow": partial(meanflow_loss, power=1.0, share=0.75),
    "semigroup": semigroup_loss,
}
"""The losses of few steps that need nothing but data, by name: `loss(u, x1, *cond, generator=)`.

Their network is the U-Net with two times. A consistency model is not among them: it learns jumps to
the end alone, and no velocity.
"""


def velocity_of(model: PictureNetwork) -> Field:
    """Return the velocity field v(x, t, label) that a network is, or u(x, t, t) of one that jumps.

    Chapter: few_steps
    """
    return tangent(model) if isinstance(model, TwoTimes) else model

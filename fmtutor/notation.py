"""What a velocity field, a time and a batch of points are, and how bad ones are refused.

Everything else in the package builds on the four conventions settled here: time runs from noise
(`t = 0`) to data (`t = 1`), a field is called as `v(x, t)`, times are aligned to points from the
left, and randomness comes from an explicit generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from fmtutor.checking import check_labels, check_points, check_same

__all__ = [
    "ConditionalField",
    "KnowsDivergence",
    "PathSample",
    "Time",
    "VelocityField",
    "align_time",
    "batch_label",
    "batch_points",
    "batch_time",
]

Time = float | Tensor


@runtime_checkable
class VelocityField(Protocol):
    """A time-dependent velocity `v(x, t)`: points `[b ...]`, times `[b]` to velocities `[b ...]`.

    Any callable of this shape is one: a trained network, a closed form, a lambda.

    Chapter: notation
    """

    def __call__(self, x: Tensor, t: Tensor, /) -> Tensor:
        """Return the velocity at points `x` `[b ...]` and times `t` `[b]`, as `[b ...]`."""
        ...


@runtime_checkable
class KnowsDivergence(Protocol):
    """A velocity field that can give its divergence along with its value.

    Chapter: likelihood
    """

    def with_divergence(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return a function (x, t) -> (velocities `[b ...]`, divergences `[b]`)."""
        ...


class ConditionalField(Protocol):
    """A velocity field that also takes a label: `v(x, t, label)`, without one unconditional.

    Chapter: guidance
    """

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | int | None = None, /) -> Tensor:
        """Return the velocity `[b ...]` for a label, an int or `[b]`; for none with None."""
        ...


class PathSample(NamedTuple):
    """One draw from a path: the two ends, the time, the point between and its velocity.

    Attributes:
        x0: Noise `[b ...]`.
        x1: Data `[b ...]`.
        t: Times `[b]`.
        xt: Points on the path `[b ...]`.
        ut: The regression target, the velocity of the path at `xt`, `[b ...]`.
    """

    x0: Tensor
    x1: Tensor
    t: Tensor
    xt: Tensor
    ut: Tensor


def batch_time(t: Time, x: Tensor, *, unit: bool = True) -> Tensor:
    """Bring a time to the form `[b]` that belongs to the points `x` `[b ...]`.

    Args:
        t: A float, a 0-d tensor or a tensor `[b]`, in [0, 1].
        x: Points `[b ...]`; the result takes their dtype and device.
        unit: Whether values outside [0, 1] are refused. Tensors on an accelerator are not
            looked at, since that would stall the device.

    Returns:
        Times `[b]`.

    Raises:
        ValueError: If the shape is neither `[]` nor `[b]`, or a time is NaN or outside [0, 1].

    Chapter: notation
    """
    t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    if t.ndim > 1 or (t.ndim == 1 and t.shape != x.shape[:1]):
        raise ValueError(
            f"t has shape {list(t.shape)}, expected a float, a 0-d tensor or [{x.shape[0]}], "
            f"one time for each of the {x.shape[0]} points in x of shape {list(x.shape)}"
        )
    if unit and t.device.type == "cpu" and not torch.compiler.is_compiling():
        inside = (t >= 0) & (t <= 1)  # false for NaN, too
        if not bool(inside.all()):
            bad = t.detach().reshape(-1)[~inside.reshape(-1)][0].item()
            raise ValueError(f"t must lie in [0, 1] (0 is noise, 1 is data), but t = {bad:g} came")
    return t.expand(x.shape[0])


def batch_points(x: Tensor, name: str, other: Tensor, t: Time, other_name: str = "x1") -> Tensor:
    """Refuse two batches of points that do not match; return the times `[b]` that belong to them.

    Args:
        x: Points `[b ...]`.
        name: Their name in an error.
        other: Points of the same shape, dtype and device.
        t: A float, a 0-d tensor or `[b]`, in [0, 1].
        other_name: The name of `other` in an error.

    Returns:
        Times `[b]`.

    Raises:
        TypeError: If a dtype is not floating point, or the dtypes differ.
        ValueError: If shapes or devices differ, or a time lies outside [0, 1].

    Chapter: notation
    """
    check_points(x, name)
    check_points(other, other_name)
    check_same(name, x, other_name, other)
    return batch_time(t, x)


def batch_label(label: Tensor | int | None, x: Tensor, classes: int) -> Tensor:
    """Bring a label to the form `[b]` that belongs to the points `x` `[b ...]`.

    Args:
        label: An int, a 0-d tensor or `[b]`, int64; None is the null label for all.
        x: Points `[b ...]`; the result is on their device.
        classes: Number of labels, which is also the null label.

    Returns:
        Labels `[b]`, in {0, ..., classes}.

    Raises:
        TypeError: If the labels are not int64.
        ValueError: If the shape is neither `[]` nor `[b]`, or a label does not exist.

    Chapter: guidance
    """
    label = torch.as_tensor(classes if label is None else label, device=x.device)
    labels = label.expand(len(x)) if label.ndim == 0 else label
    check_labels(labels, len(x), classes + 1)
    return labels


def align_time(t: Tensor, x: Tensor) -> Tensor:
    """Align times to points from the left: `[b]` to `[b 1 ... 1]`, with as many axes as `x`.

    Broadcasting aligns shapes from the right. A time `[b]` times points `[b d]` therefore raises,
    or where b equals d multiplies along the wrong axis without a word. All of the package goes
    through this function instead.

    Args:
        t: A 0-d tensor or times `[b]`.
        x: Points `[b ...]`.

    Returns:
        Times `[b 1 ... 1]`, ready to be multiplied with `x`.

    Raises:
        ValueError: If `t` has another shape.

    Chapter: notation
    """
    if t.ndim > 1 or (t.ndim == 1 and t.shape != x.shape[:1]):
        raise ValueError(
            f"t has shape {[*t.shape]}, expected a 0-d tensor or [{len(x)}] "
            f"for x of shape {[*x.shape]}"
        )
    return t.reshape(-1, *[1] * (x.ndim - 1)) if t.ndim == 1 else t

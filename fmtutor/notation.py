"""What a velocity field, a path, a time and a condition are, and how they are aligned to points.

Everything else in the package builds on the conventions settled here: time runs from noise
(`t = 0`) to data (`t = 1`), a field is called as `v(x, t)`, with conditions as `v(x, t, *cond)`,
times are aligned to points from the left, and randomness comes from an explicit generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from fmtutor.checking import check_labels, check_points, check_same, readable

__all__ = [
    "ROUNDING",
    "ConditionalField",
    "Field",
    "KnowsDivergence",
    "Path",
    "PathSample",
    "Time",
    "VelocityField",
    "align_time",
    "batch_label",
    "batch_points",
    "batch_time",
    "conditioned",
]

Time = float | Tensor
"""A time for all points, a float or a 0-d tensor, or one for each, `[b]`."""

ROUNDING = 1e-5
"""By how much times that were added up in float32 may miss the ends of [0, 1]."""


@runtime_checkable
class VelocityField(Protocol):
    """A time-dependent velocity `v(x, t)`: points `[b ...]`, times `[b]` to velocities `[b ...]`.

    Any callable of this shape is one: a trained network, a closed form, a lambda.

    Chapter: notation
    """

    def __call__(self, x: Tensor, t: Tensor, /) -> Tensor:
        """Return the velocity at points `x` `[b ...]` and times `t` `[b]`, as `[b ...]`."""
        ...


class ConditionalField(Protocol):
    """A velocity field that is also told something: `v(x, t, *cond)`, without it unconditional.

    Conditions are tensors whose rows belong to those of x: labels, observations, a second time.

    Chapter: guidance
    """

    def __call__(self, x: Tensor, t: Tensor, /, *cond: Tensor | int) -> Tensor:
        """Return the velocity `[b ...]` at points `[b ...]`, times `[b]`, conditions `[b ...]`."""
        ...


Field = VelocityField | ConditionalField
"""What is called as `v(x, t, *cond)`, with as many conditions as it is given, perhaps none."""


@runtime_checkable
class KnowsDivergence(Protocol):
    """A velocity field that can give its divergence along with its value.

    Chapter: likelihood
    """

    def with_divergence(self) -> Callable[..., tuple[Tensor, Tensor]] | None:
        """Return a function (x, t, *cond) -> (velocities `[b ...]`, divergences `[b]`).

        None says that the closed form does not hold for this object.
        """
        ...


class PathSample(NamedTuple):
    """One draw from a path: the two ends, the time, the point between and its velocity.

    Attributes:
        x0: Noise `[b ...]`.
        x1: Data `[b ...]`.
        t: Times `[b]`.
        xt: Points on the path `[b ...]`.
        ut: The regression target, the velocity of the path at `xt`, `[b ...]`.

    Chapter: paths
    """

    x0: Tensor
    x1: Tensor
    t: Tensor
    xt: Tensor
    ut: Tensor


class Path(Protocol):
    """What a loss needs of a path, and no more: the point between two ends, and its target.

    Chapter: paths
    """

    def sample(
        self, x0: Tensor, x1: Tensor, t: Time, *, generator: torch.Generator | None = None
    ) -> PathSample:
        """Draw the point between `x0` and `x1` `[b ...]` at `t` (a float, 0-d or `[b]`)."""
        ...


def batch_time(t: Time, x: Tensor, *, unit: bool = True) -> Tensor:
    """Bring a time to the form `[b]` that belongs to the points `x` `[b ...]`.

    Args:
        t: A float, a 0-d tensor or a tensor `[b]`, in [0, 1].
        x: Points `[b ...]`; the result takes their dtype and device.
        unit: Whether values outside [0, 1] are refused, those within 1e-5 of it moved to its end.

    Returns:
        Times `[b]`.

    Raises:
        ValueError: If the shape is neither `[]` nor `[b]`, or a time is NaN or outside [0, 1].

    Chapter: notation
    """
    t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    _check_time_shape(t, x)
    if unit and readable(t):
        low, high = (value.item() for value in t.detach().aminmax())
        if not (low >= 0 and high <= 1):  # true for NaN, too
            if not (low >= -ROUNDING and high <= 1 + ROUNDING):
                bad = low if not low >= -ROUNDING else high
                raise ValueError(
                    f"t must lie in [0, 1] (0 is noise, 1 is data), but t = {bad!r} came"
                )
            t = t.clamp(0, 1)
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


def conditioned(model: Field, *cond: Tensor | int) -> VelocityField:
    """Return the field v(x, t) that a model gives under conditions.

    Args:
        model: A network that is called as `v(x, t, *cond)`.
        cond: Tensors `[b ...]`, a row for each point that the field will be asked about, or what
            else the model takes, such as one label for all.

    Returns:
        The field, called as `v(x, t)`; the model itself if there are no conditions.

    Reference: ho2022
    Chapter: guidance
    """
    if not cond:
        return model

    def v(x: Tensor, t: Tensor) -> Tensor:
        return cast("ConditionalField", model)(x, t, *cond)

    return v


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
    _check_time_shape(t, x)
    return t.reshape(-1, *[1] * (x.ndim - 1)) if t.ndim == 1 else t


def _check_time_shape(t: Tensor, x: Tensor) -> None:
    if t.ndim > 1 or (t.ndim == 1 and t.shape != x.shape[:1]):
        raise ValueError(
            f"t has shape {[*t.shape]}, expected a float, a 0-d tensor or [{x.shape[0]}], "
            f"one time for each of the {x.shape[0]} points in x of shape {[*x.shape]}"
        )

"""What a velocity field, a path, a time and a condition are, and how they are aligned to points.

Chapter: notation
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
    "as_time",
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
    """

    def __call__(self, x: Tensor, t: Tensor, /) -> Tensor:
        """Return the velocity."""
        ...


class ConditionalField(Protocol):
    """A velocity field that is also told something: `v(x, t, *cond)`, without it unconditional.

    Chapter: guidance
    """

    def __call__(self, x: Tensor, t: Tensor, /, *cond: Tensor | int) -> Tensor:
        """Return the velocity under conditions."""
        ...


Field = VelocityField | ConditionalField
"""What is called as `v(x, t, *cond)`, with as many conditions as it is given, perhaps none."""


@runtime_checkable
class KnowsDivergence(Protocol):
    """A velocity field that can give its divergence along with its value.

    Chapter: likelihood
    """

    def with_divergence(self) -> Callable[..., tuple[Tensor, Tensor]] | None:
        """Return the function (x, t, *cond) -> (velocities, divergences `[b]`), or None."""
        ...


class PathSample(NamedTuple):
    """One draw from a path: `x0`, `x1`, times `t`, points between `xt` and their velocities `ut`.

    Chapter: paths

    Example:
        >>> s = CondOT().sample(torch.zeros(1, 2), torch.ones(1, 2), 0.25)
        >>> s.xt, s.ut
        (tensor([[0.2500, 0.2500]]), tensor([[1., 1.]]))
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
        """Draw the point between `x0` and `x1` `[b ...]` at `t`."""
        ...


def as_time(t: Time) -> Tensor:
    """Return a time `t` as a tensor, a float in torch's default dtype.

    Example:
        >>> as_time(0.5)
        tensor(0.5000)
    """
    return t if isinstance(t, Tensor) else torch.tensor(float(t))


def batch_time(t: Time, x: Tensor, *, unit: bool = True) -> Tensor:
    """Bring a time `t` to the form `[b]` that belongs to points `x`, in their dtype.

    With `unit`, times outside [0, 1] are refused, those within 1e-5 of it moved to its end.

    Example:
        >>> batch_time(0.5, torch.zeros(3, 2))
        tensor([0.5000, 0.5000, 0.5000])
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
    """Return the times `[b]` that belong to points `x` and `other`, once the two match.

    An error calls them `name` and `other_name`.

    Example:
        >>> batch_points(torch.zeros(2, 3), "x0", torch.ones(2, 3), 0.5)
        tensor([0.5000, 0.5000])
    """
    check_points(other, other_name)
    check_same(name, x, other_name, other)
    return batch_time(t, x)


def batch_label(label: Tensor | int | None, x: Tensor, classes: int) -> Tensor:
    """Bring a `label` in {0, ..., `classes`} to the form `[b]` that belongs to points `x`.

    The last one is the null label, which None stands for.

    Chapter: guidance

    Example:
        >>> batch_label(None, torch.zeros(3, 2), classes=10)
        tensor([10, 10, 10])
    """
    label = classes if label is None else label
    if isinstance(label, int):  # copied to a GPU, a number would be waited for; filled in, not
        label = torch.full((), label, device=x.device)
    label = torch.as_tensor(label, device=x.device)
    labels = label.expand(len(x)) if label.ndim == 0 else label
    check_labels(labels, len(x), classes + 1)
    return labels


def conditioned(model: Field, *cond: Tensor | int) -> VelocityField:
    """Return the field `v(x, t)` that a `model` gives under conditions `cond`.

    Numbers are conditions, too, where the model takes them; without any it comes back as it is.

    Reference: ho2022
    Chapter: guidance

    Example:
        >>> v = conditioned(MLP(classes=10), torch.tensor([3, 4]))
        >>> v(torch.zeros(2, 2), torch.zeros(2)).shape
        torch.Size([2, 2])
    """
    if not cond:
        return model

    def v(x: Tensor, t: Tensor) -> Tensor:
        return cast("ConditionalField", model)(x, t, *cond)

    return v


def align_time(t: Tensor, x: Tensor) -> Tensor:
    """Align times `t` to points `x` from the left: `[b]` to `[b 1 ... 1]`.

    Broadcasting aligns from the right: it raises, or for b = d multiplies along the wrong axis.

    Example:
        >>> align_time(torch.tensor([0.0, 0.5]), torch.ones(2, 2)) * torch.ones(2, 2)
        tensor([[0.0000, 0.0000],
                [0.5000, 0.5000]])
    """
    _check_time_shape(t, x)
    return t.reshape(-1, *[1] * (x.ndim - 1)) if t.ndim == 1 else t


def _check_time_shape(t: Tensor, x: Tensor) -> None:
    if t.ndim > 1 or (t.ndim == 1 and t.shape != x.shape[:1]):
        raise ValueError(
            f"t has shape {[*t.shape]}, expected a float, a 0-d tensor or [{x.shape[0]}], "
            f"one time for each of the {x.shape[0]} points in x of shape {[*x.shape]}"
        )

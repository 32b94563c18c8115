"""What a velocity field, a time and a batch of points are, and how bad ones are refused.

Everything else in the package builds on the four conventions settled here: time runs from noise
(`t = 0`) to data (`t = 1`), a field is called as `v(x, t)`, times are aligned to points from the
left, and randomness comes from an explicit generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = [
    "ConditionalField",
    "KnowsDivergence",
    "Time",
    "VelocityField",
    "align_time",
    "as_generator",
    "batch_label",
    "batch_time",
    "check_labels",
    "check_points",
    "check_same",
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


def check_points(x: Tensor, name: str = "x", *, finite: bool = False) -> None:
    """Refuse what is not a non-empty batch of floating-point points `[b ...]`.

    Args:
        x: The tensor to look at.
        name: Its name in the error.
        finite: Whether NaN and infinity are refused, too (reads every value).

    Raises:
        TypeError: If `x` is not a floating-point tensor.
        ValueError: If it has no batch axis or no element, or a value is not finite.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, but a {type(x).__name__} came")
    if not x.is_floating_point():
        raise TypeError(f"{name} must be floating point, but its dtype is {x.dtype}")
    if x.ndim < 1 or x.numel() == 0:
        raise ValueError(f"{name} must be a non-empty batch [b ...], but its shape is {[*x.shape]}")
    if finite and not bool(x.isfinite().all()):
        count = int((~x.isfinite()).sum())
        raise ValueError(f"{name} must be finite, but {count} of {x.numel()} values are NaN or inf")


def check_labels(labels: Tensor, count: int, classes: int | None = None) -> None:
    """Refuse what is not one whole number for each of `count` points, in {0, ..., classes − 1}.

    Args:
        labels: The tensor to look at.
        count: Number of points.
        classes: Number of labels that exist; None does not look at the values. Nor are they
            looked at on an accelerator, since that would stall the device.

    Raises:
        TypeError: If `labels` is not an int64 tensor.
        ValueError: If its shape is not `[count]`, or a label is out of range.

    Chapter: guidance
    """
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        found = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels must be an int64 tensor, but {found} came")
    if labels.shape != (count,):
        raise ValueError(
            f"labels must be [{count}], one for each point, but {[*labels.shape]} came"
        )
    if classes is not None and labels.device.type == "cpu" and not torch.compiler.is_compiling():
        outside = (labels < 0) | (labels >= classes)
        if bool(outside.any()):
            bad = labels[outside][0].item()
            raise ValueError(f"labels must be 0, ..., {classes - 1}, but {bad} came")


def check_same(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Refuse two tensors that differ in shape, dtype or device.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or the devices differ.
    """
    if x.shape != other.shape:
        raise ValueError(
            f"{name} and {other_name} must have one shape, "
            f"but {name} is {[*x.shape]} and {other_name} is {[*other.shape]}"
        )
    if x.dtype != other.dtype:
        raise TypeError(
            f"{name} and {other_name} must have one dtype, "
            f"but {name} is {x.dtype} and {other_name} is {other.dtype}"
        )
    if x.device != other.device:
        raise ValueError(
            f"{name} and {other_name} must be on one device, "
            f"but {name} is on {x.device} and {other_name} on {other.device}"
        )


def as_generator(
    seed: int | None, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> torch.Generator | None:
    """Return `generator`, or a new one seeded with `seed`; the global state is never touched.

    Args:
        seed: A seed, or None.
        generator: A generator, or None.
        device: Where a new generator lives.

    Returns:
        A generator; None (torch's global one) if neither is given.

    Raises:
        ValueError: If both are given.
    """
    if seed is None:
        return generator
    if generator is not None:
        raise ValueError("give either seed= or generator=, not both")
    return torch.Generator(device=device).manual_seed(seed)

"""How bad input is refused, at the public entrances of the package and nowhere else."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["as_generator", "check_labels", "check_points", "check_same"]


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

"""How bad input is refused, at the public entrances of the package and nowhere else.

Values are looked at where that is free. On an accelerator a look would stall the device, in code
that is being compiled or mapped (`torch.vmap`) there is nothing to look at yet: only shapes, dtypes
and devices are checked there.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

__all__ = [
    "as_float64",
    "as_generator",
    "check_callable",
    "check_cond",
    "check_count",
    "check_has",
    "check_labels",
    "check_model",
    "check_points",
    "check_same",
    "readable",
]


def readable(x: Tensor) -> bool:
    """Return whether the values of a tensor may be looked at without a cost."""
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def as_float64(x: Tensor) -> Tensor:
    """Return a tensor in float64, on the CPU where its device has no such numbers."""
    try:
        return x.double()
    except TypeError:
        return x.cpu().double()


def check_points(
    x: Tensor, name: str = "x", *, finite: bool = False, floating: bool = True
) -> None:
    """Refuse what is not a non-empty batch of floating-point points `[b ...]`.

    Args:
        x: The tensor to look at.
        name: Its name in the error.
        finite: Whether NaN and infinity are refused, too (reads every value, where it may).
        floating: Whether whole numbers, such as tokens, are refused.

    Raises:
        TypeError: If `x` is not a floating-point tensor.
        ValueError: If it has no batch axis or no element, or a value is not finite.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, but a {type(x).__name__} came")
    if floating and not x.is_floating_point():
        raise TypeError(f"{name} must be floating point, but its dtype is {x.dtype}")
    if x.ndim < 1 or x.numel() == 0:
        raise ValueError(f"{name} must be a non-empty batch [b ...], but its shape is {[*x.shape]}")
    if finite and readable(x) and not bool(x.isfinite().all()):
        count = int((~x.isfinite()).sum())
        raise ValueError(f"{name} must be finite, but {count} of {x.numel()} values are NaN or inf")


def check_same(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Refuse what is not a tensor of the shape, dtype and device of another.

    Raises:
        TypeError: If `x` is not a tensor, or the dtypes differ.
        ValueError: If the shapes or the devices differ.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, but a {type(x).__name__} came")
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


def check_labels(labels: Tensor, count: int, classes: int | None = None) -> None:
    """Refuse what is not one whole number for each of `count` points, in {0, ..., classes − 1}.

    Args:
        labels: The tensor to look at.
        count: Number of points.
        classes: Number of labels that exist; None does not look at the values.

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
    if classes is not None and readable(labels):
        outside = (labels < 0) | (labels >= classes)
        if bool(outside.any()):
            bad = labels[outside][0].item()
            raise ValueError(f"labels must be 0, ..., {classes - 1}, but {bad} came")


def check_cond(cond: Tensor | Sequence[Tensor], count: int) -> tuple[Tensor, ...]:
    """Return the conditions as a tuple, each a tensor with one row for each of `count` points.

    Args:
        cond: The conditions; a single tensor is one condition.
        count: Number of points.

    Raises:
        TypeError: If one is not a tensor.
        ValueError: If one has another number of rows.
    """
    cond = (cond,) if isinstance(cond, Tensor) else tuple(cond)
    for k, c in enumerate(cond):
        if not isinstance(c, Tensor):
            raise TypeError(f"cond[{k}] must be a torch.Tensor, but a {type(c).__name__} came")
        if c.ndim < 1 or len(c) != count:
            raise ValueError(
                f"cond[{k}] must be [{count} ...], one row for each point, but {[*c.shape]} came"
            )
    return cond


def check_count(name: str, value: SupportsIndex, least: int = 1) -> int:
    """Return a whole number (numpy's, too) that is at least `least`.

    Raises:
        TypeError: If `value` is not a whole number.
        ValueError: If it is too small.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be a whole number, but {value!r} came, a {type(value).__name__}"
        ) from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, but {number} came")
    return number


def check_has(name: str, value: Any, method: str, expected: str) -> None:
    """Refuse what lacks a method, or is a class of which no object was made.

    Args:
        name: The argument's name.
        value: Its value.
        method: The method.
        expected: What was expected, for the error.

    Raises:
        TypeError: If there is no such method.
    """
    if isinstance(value, type) or not hasattr(value, method):
        came = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
        raise TypeError(f"{name} must be {expected}, but {came} came")


def check_callable(name: str, f: Any, expected: str) -> None:
    """Refuse what cannot be called, or is a class that should have been made an object.

    Args:
        name: The argument's name.
        f: Its value.
        expected: What was expected, for the error.

    Raises:
        TypeError: If `f` is not a callable object.
    """
    check_has(name, f, "__call__", expected)


def check_model(v: Callable[..., Tensor], x: Tensor, name: str = "x") -> None:
    """Refuse what cannot be called, and a network whose weights have another dtype than the points.

    Raises:
        TypeError: If `v` is no callable object, or the dtypes differ.
    """
    check_callable("the field", v, "called as v(x, t)")
    if not isinstance(v, nn.Module) or not x.is_floating_point():
        return
    weight = next(v.parameters(), None)
    if weight is None or not weight.is_floating_point() or weight.dtype == x.dtype:
        return
    kind = x.device.type
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        raise TypeError(
            f"the model's weights are {weight.dtype}, but {name} is {x.dtype}: "
            f"convert {name}.to({weight.dtype}), or the model"
        )


def as_generator(
    seed: SupportsIndex | None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> torch.Generator | None:
    """Return `generator`, or a new one seeded with `seed`; the global state is never touched.

    Args:
        seed: A seed, or None.
        generator: A generator, or None.
        device: Where a new generator lives.

    Returns:
        A generator; None (torch's global one) if neither is given.

    Raises:
        TypeError: If the seed is not a whole number.
        ValueError: If both are given.
    """
    if seed is None:
        return generator
    if generator is not None:
        raise ValueError("give either seed= or generator=, not both")
    return torch.Generator(device=device).manual_seed(check_count("seed", seed, least=-(2**63)))

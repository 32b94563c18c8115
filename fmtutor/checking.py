"""How bad input is refused, at the public entrances of the package and nowhere else.

Values are looked at where that is free: on an accelerator it would stall the device, in code that
is being compiled or mapped there is nothing to look at yet. `name` is an argument's in the error.

Chapter: notation
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

__all__ = [
    "as_float64",
    "as_generator",
    "check_callable",
    "check_centred",
    "check_cond",
    "check_count",
    "check_has",
    "check_labels",
    "check_laws",
    "check_model",
    "check_observation",
    "check_points",
    "check_positive",
    "check_same",
    "check_samples",
    "check_tokens",
    "readable",
]


def readable(x: Tensor) -> bool:
    """Return whether the values of a tensor `x` may be looked at without a cost.

    Example:
        >>> readable(torch.zeros(2)), readable(torch.zeros(2, device="meta"))
        (True, False)
    """
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def as_float64(x: Tensor) -> Tensor:
    """Return a tensor `x` in float64, on the CPU where its device has no such numbers.

    Example:
        >>> as_float64(torch.ones(1))
        tensor([1.], dtype=torch.float64)
    """
    try:
        return x.double()
    except TypeError:
        return x.cpu().double()


def check_points(
    x: Tensor, name: str = "x", *, finite: bool = False, floating: bool = True
) -> None:
    """Refuse what is not a non-empty batch of points `x` `[b ...]`.

    They must be `floating` point, and with `finite` neither NaN nor infinite.

    Example:
        >>> check_points(torch.zeros(0, 2))
        Traceback (most recent call last):
        ValueError: x must be a non-empty batch [b ...], but its shape is [0, 2]
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


def check_tokens(x: Tensor, count: int, name: str = "x") -> None:
    """Refuse as tokens `x`, for the error `name`, what is not 0, ..., `count` − 1, int64 `[b ...]`.

    Example:
        >>> check_tokens(torch.tensor([[0, 7]]), 5)
        Traceback (most recent call last):
        ValueError: x must hold tokens 0, ..., 4, but 7 came
    """
    check_points(x, name, floating=False)
    if x.dtype != torch.int64:
        raise TypeError(f"{name} must be tokens of dtype int64, but {x.dtype} came")
    if readable(x):
        low, high = int(x.min()), int(x.max())
        if low < 0 or high >= count:
            worst = low if low < 0 else high
            raise ValueError(f"{name} must hold tokens 0, ..., {count - 1}, but {worst} came")


def check_laws(name: str, told: Tensor, x: Tensor, count: int) -> None:
    """Refuse what are not `count` numbers for each token of `x` `[b n]`: `told` `[b n count]`.

    Example:
        >>> check_laws("logits", torch.zeros(1, 2, 5), torch.zeros(1, 2).long(), 4)
        Traceback (most recent call last):
        ValueError: logits must have shape [1, 2, 4], but [1, 2, 5] came
    """
    wanted = (*x.shape, count)
    if told.shape != wanted:
        raise ValueError(f"{name} must have shape {[*wanted]}, but {[*told.shape]} came")


def check_centred(x: Tensor, name: str = "x") -> None:
    """Refuse positions `x` `[b n d]` whose mean over the particles is not zero, up to rounding.

    Example:
        >>> check_centred(torch.tensor([[[1.0], [2.0]]]))
        Traceback (most recent call last):
        ValueError: x must be centred (`centred`, `centred_noise`), but its means are up to 1.5
    """
    if readable(x) and (off := x.mean(1).abs().max()) > 1e-3 * x.abs().max():
        raise ValueError(
            f"{name} must be centred (`centred`, `centred_noise`), "
            f"but its means are up to {off:.2g}"
        )


def check_same(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Refuse what is not a tensor `x` of the shape, dtype and device of `other`, `other_name`.

    Example:
        >>> check_same("x0", torch.zeros(2), "x1", torch.zeros(3))
        Traceback (most recent call last):
        ValueError: x0 and x1 must have one shape, but x0 is [2] and x1 is [3]
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


def check_samples(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Refuse what are not finite sets of points of one shape, `x` and `other`, `other_name`.

    Example:
        >>> check_samples("x", torch.zeros(5, 2), "y", torch.zeros(7, 3))
        Traceback (most recent call last):
        ValueError: x and y must hold points of one shape, but x is [5, 2] and y is [7, 3]
    """
    check_points(x, name, finite=True)
    check_points(other, other_name, finite=True)
    if x.shape[1:] != other.shape[1:]:
        raise ValueError(
            f"{name} and {other_name} must hold points of one shape, "
            f"but {name} is {[*x.shape]} and {other_name} is {[*other.shape]}"
        )


def check_labels(labels: Tensor, count: int, classes: int | None = None) -> None:
    """Refuse `labels` that are not int64 `[count]`, in {0, ..., `classes` − 1} if that is given.

    Example:
        >>> check_labels(torch.tensor([0, 10]), 2, classes=10)
        Traceback (most recent call last):
        ValueError: labels must be 0, ..., 9, but 10 came
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


def check_observation(observation: Tensor, count: int, observed: int) -> None:
    """Refuse an `observation` that is not floating point of shape `[count observed]`.

    Example:
        >>> check_observation(torch.zeros(5, 3), 5, 4)
        Traceback (most recent call last):
        ValueError: observation must have shape [5 4], but [5, 3] came
    """
    if not isinstance(observation, Tensor) or not observation.is_floating_point():
        kind = observation.dtype if isinstance(observation, Tensor) else type(observation).__name__
        raise TypeError(f"observation must be a floating-point tensor, but {kind} came")
    if observation.shape != (count, observed):
        raise ValueError(
            f"observation must have shape [{count} {observed}], but {[*observation.shape]} came"
        )


def check_cond(cond: Tensor | Sequence[Tensor], count: int) -> tuple[Tensor, ...]:
    """Return conditions `cond` as a tuple, each a tensor with a row for each of `count` points.

    Example:
        >>> len(check_cond(torch.zeros(2, 5), 2))
        1
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
    """Return a whole number `value` (numpy's, too) that is at least `least`.

    Example:
        >>> check_count("steps", 0)
        Traceback (most recent call last):
        ValueError: steps must be at least 1, but 0 came
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


def check_positive(name: str, value: float, *, zero: bool = False) -> None:
    """Refuse a number `value` that is not positive, or with `zero` at least 0, and finite.

    Example:
        >>> check_positive("sigma", -1.0, zero=True)
        Traceback (most recent call last):
        ValueError: sigma must be finite and at least 0, but -1.0 came
    """
    if not (0 < value < math.inf or (zero and value == 0)):
        wanted = "finite and at least 0" if zero else "positive and finite"
        raise ValueError(f"{name} must be {wanted}, but {value} came")


def check_has(name: str, value: Any, method: str, expected: str) -> None:
    """Refuse a `value` without a `method`, or a class of which no object was made.

    `expected` says in the error what was.

    Example:
        >>> check_has("path", CondOT, "sample", "a path such as CondOT()")
        Traceback (most recent call last):
        TypeError: path must be a path such as CondOT(), but the class CondOT came
    """
    if isinstance(value, type) or not hasattr(value, method):
        came = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
        raise TypeError(f"{name} must be {expected}, but {came} came")


def check_callable(name: str, f: Any, expected: str) -> None:
    """Refuse an `f` that cannot be called, or is a class; `expected` says what was.

    Example:
        >>> check_callable("coupling", "OT", "a function such as minibatch_ot")
        Traceback (most recent call last):
        TypeError: coupling must be a function such as minibatch_ot, but 'OT' came
    """
    check_has(name, f, "__call__", expected)


def check_model(v: Callable[..., Tensor], x: Tensor, name: str = "x") -> None:
    """Refuse what is no field `v`, and a network of another dtype than points `x`.

    Example:
        >>> check_model(MLP(), torch.zeros(1, 2, dtype=torch.float64))
        Traceback (most recent call last):
        TypeError: the model's weights are torch.float32, but x is torch.float64: convert ...
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
    """Return `generator`, or a new one on `device` seeded with `seed`, or None if neither is given.

    Example:
        >>> torch.rand(2, generator=as_generator(0)).equal(torch.rand(2, generator=as_generator(0)))
        True
    """
    if seed is None:
        return generator
    if generator is not None:
        raise ValueError("give either seed= or generator=, not both")
    return torch.Generator(device=device).manual_seed(check_count("seed", seed, least=-(2**63)))

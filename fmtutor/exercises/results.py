"""What came back from an answer, and in which usual way it differs from what should have."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_result", "close", "difference"]


def as_result(value: Any) -> Tensor:
    """Return a result in double precision, as a copy; a tuple or list of results is stacked.

    Raises:
        TypeError: If it is nothing that can be compared; the message says what it is.

    Example:
        >>> as_result((1, torch.tensor(2.0)))
        tensor([1., 2.], dtype=torch.float64)
    """
    unfit = f"a tensor or a number is expected, but a {type(value).__name__} came back"
    if isinstance(value, tuple | list):
        parts = [as_result(part) for part in value]
        if len({part.shape for part in parts}) > 1:
            shapes = ", ".join(str([*part.shape]) for part in parts)
            raise TypeError(f"{unfit} whose parts have the shapes {shapes}")
        return torch.stack(parts) if parts else torch.zeros(0, dtype=torch.float64)
    try:
        if isinstance(value, numbers.Real):
            value = float(value)
        elif not isinstance(value, Tensor):
            value = np.array(value)  # copied, since torch takes no negative strides
        result = torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(unfit) from error
    if result.is_complex():
        if bool((result.imag.abs() > 1e-6 * (1 + result.real.abs())).any()):
            raise TypeError("the result is complex, a real one is expected")
        result = result.real
    return result.to(torch.float64, copy=True)


def close(given: Tensor, expected: Tensor, tol: float) -> bool:
    """Whether two results agree, NaN with NaN; where nothing is finite, nothing can be told.

    Example:
        >>> close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1]), tol=0.1)
        True
    """
    finite = expected.isfinite()
    if given.shape != expected.shape or (finite.numel() > 0 and not bool(finite.any())):
        return False
    # Relative to the largest entry; where all are zero there is none, and `tol` is absolute.
    scale = (float(expected[finite].abs().max()) if finite.numel() else 0.0) or 1.0
    return torch.allclose(given, expected, rtol=0.0, atol=tol * scale, equal_nan=True)


def difference(given: Tensor, expected: Tensor, backward: Tensor | None, tol: float) -> str | None:
    """Return the usual way in which a result is wrong, or None if it is in no usual way.

    Args:
        given: What came back.
        expected: What should have.
        backward: What is right at 1 − t, where there is a time.
        tol: Tolerance, relative to the largest entry.

    Example:
        >>> difference(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0]), None, 1e-4)
        'the sign is flipped'
    """
    if given.shape != expected.shape:
        if given.numel() == expected.numel():
            hint = "the entries are there, the axes are not"
        else:
            hint = "did a time [b] broadcast along the wrong axis, or a sum run over too many?"
        return f"the result has shape {[*given.shape]}, expected {[*expected.shape]}: {hint}"
    if not bool(given.isfinite().all()):
        return "the result is NaN or infinite; what is divided by, and can it be zero?"
    if close(-given, expected, tol):
        return "the sign is flipped"
    if backward is not None and close(given, backward, tol):
        return "time runs backward: this is the right answer at 1 − t; noise is at t = 0"
    if given.numel() < 2:  # one number is always a multiple of another
        return None
    factor = (given * expected).sum() / expected.square().sum()
    if factor != 0 and close(given, factor * expected, tol):
        return f"right up to a constant factor: yours is {factor.item():.4g} times the right value"
    if close(given - given.mean(), expected - expected.mean(), tol):
        offset = (given - expected).mean().item()
        return f"right up to a constant: yours is {offset:.4g} too large"
    return None

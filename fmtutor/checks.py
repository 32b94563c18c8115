"""Claims that are verified as they are printed.

Chapter: quickstart
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["CheckError", "check"]


class CheckError(AssertionError):
    """A claim of the book that does not hold."""


def check(
    claim: str,
    value: Any,
    *,
    below: float | None = None,
    above: float | None = None,
    equal: Any = None,
    tol: float = 0.0,
) -> None:
    """Print `✓ claim` if it holds, raise if it does not: how the book states a fact.

    The line shows the claim and its bound, never the measured value, so that it is the same on
    every machine. With no bound, `value` itself must be true.

    Args:
        claim: What is claimed, as a phrase that the bound completes.
        value: A number, a tensor or a bool; every entry of a tensor must satisfy the bound.
        below: The value must be strictly below this; or
        above: strictly above this (both may be given); or
        equal: equal to this, to within `tol` in absolute value.
        tol: Tolerance of `equal`.

    Raises:
        CheckError: If the claim does not hold; NaN satisfies no claim.

    Example:
        >>> check("the mean of the noise", 0.02, above=-0.1, below=0.1)
        ✓ the mean of the noise above -0.1 and below 0.1
        >>> check("two and two", 2 + 2, equal=5)
        Traceback (most recent call last):
        fmtutor.checks.CheckError: ✗ two and two equals 5: the value is 4
    """
    if equal is not None and (below is not None or above is not None):
        raise ValueError("give either equal= or below= and above=, not both")
    if tol and equal is None:
        raise ValueError("tol= is the tolerance of equal=, which was not given")
    number = _number(value)
    holds, bounds = torch.ones_like(number, dtype=torch.bool), []
    if above is not None:
        holds &= number > above
        bounds.append(f"above {above:g}")
    if below is not None:
        holds &= number < below
        bounds.append(f"below {below:g}")
    if equal is not None:
        target = _number(equal)
        if target.ndim == 0:
            target = target.to(number.dtype) if number.is_floating_point() else target
        elif target.shape != number.shape:
            raise CheckError(
                f"✗ {claim}: the value has shape {[*number.shape]}, expected {[*target.shape]}"
            )
        holds &= (number.double() - target.double()).abs() <= tol
        shown = f"{target.item():g}" if target.ndim == 0 else _brief(target)
        bounds.append(f"equals {shown}" + (f" to within {tol:g}" if tol else ""))
    if not bounds:
        if number.dtype != torch.bool:
            raise ValueError("a claim without below=, above= or equal= needs a bool")
        holds &= number
    line = " ".join([claim, " and ".join(bounds)]).strip()
    if holds.numel() == 0 or not bool(holds.all()):
        raise CheckError(f"✗ {line}: the value is {_worst(number, holds)}")
    print(f"✓ {line}")


def _number(value: Any) -> Tensor:
    """Return a value as a tensor; a Python float in full, not rounded to float32."""
    number = torch.as_tensor(value).detach().cpu()
    if number.is_floating_point() and not hasattr(value, "dtype"):
        number = torch.as_tensor(value, dtype=torch.float64)
    return number


def _brief(target: Tensor) -> str:
    if target.numel() > 6:
        return f"{target.numel()} expected values"
    return "[" + ", ".join(f"{value:.3g}" for value in target.reshape(-1).tolist()) + "]"


def _worst(number: Tensor, holds: Tensor) -> str:
    if number.numel() == 0:
        return "empty"
    if number.ndim == 0:
        return f"{number.item():.6g}"
    bad = number[~holds]
    return f"{bad[0].item():.6g} in {len(bad)} of {number.numel()} entries"

"""Claims that are verified as they are printed, and graders that say what is wrong.

`check` is how the book states a fact: the cell prints one stable line where the fact holds and
raises where it does not. `grade` compares a reader's function with a reference on inputs the
reader has not seen, and where they differ looks for the usual reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["CheckError", "GradeError", "check", "grade"]


class CheckError(AssertionError):
    """A claim of the book that does not hold."""


class GradeError(AssertionError):
    """An answer to an exercise that is not right yet; the message says why."""


def check(
    claim: str,
    value: Any,
    *,
    below: float | None = None,
    above: float | None = None,
    equal: Any = None,
    tol: float = 0.0,
) -> None:
    """Print `✓ claim` if it holds, raise if it does not.

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
        ValueError: If the bounds contradict each other, or `tol` comes without `equal`.

    Chapter: quickstart
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


def grade(
    exercise: str,
    answer: Callable[..., Any],
    reference: Callable[..., Any],
    inputs: Sequence[tuple[Any, ...]],
    *,
    mistakes: Sequence[tuple[str, Callable[..., Any]]] = (),
    tol: float = 1e-4,
) -> None:
    """Compare an answer with a reference; print `✓`, or raise and say what is wrong.

    An answer that raises NotImplementedError or returns None or ... counts as not attempted: a
    line says so, and nothing is raised.

    Args:
        exercise: The exercise's name, as the line shows it.
        answer: The reader's function.
        reference: The right one.
        inputs: Argument tuples; the reader has not seen them.
        mistakes: Pairs of a diagnosis and the function that this mistake would give; they are
            tried before the general diagnoses (shape, sign, factor, offset, time reversed).
        tol: Tolerance, relative to the largest entry of the reference.

    Raises:
        GradeError: If the answer is wrong; the message holds the diagnosis.

    Chapter: quickstart
    """
    for arguments in inputs:
        expected = _tensor(reference(*arguments))
        try:
            given = answer(*(a.clone() if isinstance(a, Tensor) else a for a in arguments))
        except NotImplementedError:
            given = None
        except Exception as error:
            hint = "; align times with align_time" if "size of tensor" in str(error) else ""
            raise GradeError(
                f"✗ {exercise}: your function raised {type(error).__name__}: {error}{hint}"
                f" (it was called with {_describe(arguments)})"
            ) from error
        if given is None or given is ...:
            print(f"○ {exercise}: not attempted yet")
            return
        problem = _diagnose(given, expected, reference, arguments, mistakes, tol)
        if problem:
            raise GradeError(f"✗ {exercise}: {problem}")
    print(f"✓ {exercise}")


def _diagnose(
    given: Any,
    expected: Tensor,
    reference: Callable[..., Any],
    arguments: tuple[Any, ...],
    mistakes: Sequence[tuple[str, Callable[..., Any]]],
    tol: float,
) -> str | None:
    """Return what is wrong with a result, or None if nothing is."""
    try:
        given = _tensor(given)
    except (TypeError, ValueError, RuntimeError):
        return f"a tensor or a number is expected, but a {type(given).__name__} came back"
    if given.shape != expected.shape:
        if given.numel() == expected.numel():
            hint = "the entries are there, the axes are not"
        else:
            hint = "did a time [b] broadcast along the wrong axis, or a sum run over too many?"
        return f"the result has shape {[*given.shape]}, expected {[*expected.shape]}: {hint}"
    if _close(given, expected, tol):
        return None
    for diagnosis, mistake in mistakes:
        wrong = _tensor(mistake(*arguments))
        if wrong.shape == given.shape and _close(given, wrong, tol):
            return diagnosis
    if not bool(given.isfinite().all()):
        return "the result is NaN or infinite; what is divided by, and can it be zero?"
    if _close(-given, expected, tol):
        return "the sign is flipped"
    backward = _backward(reference, arguments)
    if backward is not None and _close(given, backward, tol):
        return "time runs backward: this is the right answer at 1 − t; noise is at t = 0"
    if given.numel() > 1:  # one number is always a multiple of another
        factor = (given * expected).sum() / expected.square().sum()
        if factor != 0 and _close(given, factor * expected, tol):
            return (
                f"right up to a constant factor: yours is {factor.item():.4g} times the right value"
            )
        if _close(given - given.mean(), expected - expected.mean(), tol):
            offset = (given - expected).mean().item()
            return f"right up to a constant: yours is {offset:.4g} too large"
    worst = (given - expected).abs().max().item()
    return f"some values are off, by up to {worst:.3g} (called with {_describe(arguments)})"


def _backward(reference: Callable[..., Any], arguments: tuple[Any, ...]) -> Tensor | None:
    """Return the reference at 1 − t, where the last argument can be a time and that exists."""
    t = arguments[-1] if arguments else None
    if isinstance(t, float) or (isinstance(t, Tensor) and t.ndim <= 1 and len(arguments) > 1):
        try:
            return _tensor(reference(*arguments[:-1], 1 - t))
        except Exception:  # no time after all, or one where the reference has no value
            return None
    return None


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().double()


def _close(a: Tensor, b: Tensor, tol: float) -> bool:
    if not torch.equal(a.isfinite(), b.isfinite()):
        return False
    a, b = a[a.isfinite()], b[b.isfinite()]
    # Relative to the largest entry; where all are zero there is none, and `tol` is absolute.
    scale = (float(b.abs().max()) if b.numel() else 0.0) or 1.0
    return bool(((a - b).abs() <= tol * scale).all())


def _describe(arguments: tuple[Any, ...]) -> str:
    return ", ".join(
        f"a tensor of shape {[*a.shape]}" if isinstance(a, Tensor) else repr(a) for a in arguments
    )

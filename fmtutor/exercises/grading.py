"""The machinery of the graders: an exercise is data, and what is wrong with an answer follows.

The reference and the mistakes of an `Exercise` are answers themselves, with the signature that the
reader's function has. So a grader can try them beside the reader's, and so can a test.
"""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fmtutor.exercises.results import as_result, close, difference

__all__ = ["Exercise", "GradeError", "grade", "grader", "normal", "returned", "uniform"]

Answer = Callable[..., Any]
Arguments = tuple[Any, ...]


class GradeError(AssertionError):
    """An answer to an exercise that is not right yet; the message says why."""


def _call(answer: Answer, *arguments: Any) -> Any:
    """Return what an answer gives."""
    return answer(*arguments)


@dataclass(frozen=True)
class Exercise:
    """What is asked, where an answer is tried, and what usually goes wrong with it.

    Attributes:
        name: The name that the printed line shows.
        task: The reader's function with its arguments, and what it is.
        takes: What it takes and returns.
        reference: A right answer.
        inputs: Argument tuples; the reader has not seen them.
        mistakes: Pairs of a diagnosis and the answer that this mistake gives. The first one that
            agrees is told, before the usual diagnoses (shape, sign, time reversed, factor, offset).
        probe: Called with an answer and arguments, returns what is compared with the reference, or
            raises GradeError with a diagnosis: for exercises with many right answers.
        tol: Tolerance, relative to the largest entry of the reference.

    Example:
        >>> circle = Exercise(
        ...     name="diameter",
        ...     task="`diameter(r)` of a circle",
        ...     takes="the radius; returns the diameter",
        ...     reference=lambda r: 2 * r,
        ...     inputs=[(1.5,), (0.2,)],
        ...     mistakes=[("this is the radius", lambda r: r)],
        ... )
    """

    name: str
    task: str
    takes: str
    reference: Answer
    inputs: Sequence[Arguments]
    mistakes: Sequence[tuple[str, Answer]] = ()
    probe: Callable[..., Any] = _call
    tol: float = 1e-4


def grader(name: str, exercise: Exercise) -> Callable[[Answer], None]:
    """Return the function `name(answer)` that grades an exercise; its `help` says what is asked.

    The exercise stays at hand as the function's attribute `exercise`.

    Example:
        >>> doubles = Exercise("double", "`double(a)`", "a; returns 2a", lambda a: 2 * a, [(3,)])
        >>> grade_double = grader("grade_double", doubles)
        >>> grade_double(lambda a: a + a)
        ✓ double
    """

    def grade_answer(answer: Callable[..., Any]) -> None:
        _grade(exercise, answer)

    module = exercise.reference.__module__
    task = textwrap.fill(f"Grade {exercise.task}.", 90, break_on_hyphens=False)
    takes = textwrap.fill(
        f"answer: Takes {exercise.takes}.", 90, subsequent_indent=" " * 8, break_on_hyphens=False
    )
    grade_answer.__name__ = grade_answer.__qualname__ = name
    grade_answer.__module__ = module
    grade_answer.__doc__ = (
        f"{task}\n\nArgs:\n    {takes}\n\nRaises:\n"
        "    GradeError: If the answer is wrong; the message says why.\n\n"
        f"Chapter: {module.rpartition('.')[2]}\n"
    )
    vars(grade_answer)["exercise"] = exercise
    return grade_answer


def grade(
    exercise: str,
    answer: Answer,
    reference: Answer,
    inputs: Sequence[Arguments],
    *,
    mistakes: Sequence[tuple[str, Answer]] = (),
    tol: float = 1e-4,
) -> None:
    """Compare an answer with a reference; print `✓`, or raise and say what is wrong.

    An answer that raises NotImplementedError or returns None or ... wherever it is called counts as
    not attempted: a line says so, and nothing is raised.

    Args:
        exercise: The exercise's name, as the line shows it.
        answer: The reader's function.
        reference: The right one.
        inputs: Argument tuples; the reader has not seen them.
        mistakes: Pairs of a diagnosis and the function that this mistake would give.
        tol: Tolerance, relative to the largest entry of the reference.

    Raises:
        GradeError: If the answer is wrong; the message holds the diagnosis.

    Example:
        >>> mistakes = [("this is the radius", lambda a: a)]
        >>> grade("diameter", lambda a: a + a, lambda a: 2 * a, [(1.5,)], mistakes=mistakes)
        ✓ diameter
        >>> grade("diameter", lambda a: a, lambda a: 2 * a, [(1.5,)], mistakes=mistakes)
        Traceback (most recent call last):
        fmtutor.exercises.grading.GradeError: ✗ diameter: this is the radius
    """
    _grade(Exercise(exercise, "", "", reference, inputs, mistakes, tol=tol), answer)


def returned(points: int) -> Callable[..., Any]:
    """Return the probe of an answer that returns a function, called with the last `points`.

    Example:
        >>> returned(1)(lambda factor: lambda x: factor * x, 3, 2.0)  # f(3)(2.0)
        6.0
    """

    def probe(answer: Answer, *arguments: Any) -> Any:
        function = answer(*arguments[:-points])
        if _missing(function):
            return None
        if not callable(function):
            raise GradeError(f"a function is expected, but a {type(function).__name__} came back")
        return function(*arguments[-points:])

    return probe


def normal(seed: int, *shape: int) -> Tensor:
    """Draw standard normal numbers, in double precision.

    Example:
        >>> normal(0, 4, 2).shape
        torch.Size([4, 2])
    """
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


def uniform(seed: int, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Draw uniform numbers from [low, high), in double precision.

    Example:
        >>> uniform(0, 5, low=0.1, high=0.9).shape
        torch.Size([5])
    """
    g = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)


def _grade(exercise: Exercise, answer: Answer) -> None:
    outcomes = [_outcome(exercise, answer, arguments) for arguments in exercise.inputs]
    if all(outcome is None for outcome in outcomes):
        print(f"○ {exercise.name}: not attempted yet")
        return
    for arguments, outcome in zip(exercise.inputs, outcomes, strict=True):
        problem = _problem(exercise, outcome, arguments)
        if problem:
            cause = outcome if isinstance(outcome, Exception) else None
            raise GradeError(f"✗ {exercise.name}: {problem}") from cause
    print(f"✓ {exercise.name}")


def _outcome(
    exercise: Exercise, answer: Answer, arguments: Arguments
) -> Tensor | str | Exception | None:
    """Return a result, what is wrong with it, the error that was raised, or None if nothing is."""
    try:
        given = exercise.probe(answer, *_fresh(arguments))
    except GradeError as problem:
        return str(problem)
    except NotImplementedError as error:
        return None if _unwritten(error) else error
    except Exception as error:
        return error
    try:
        return None if _missing(given) else as_result(given)
    except TypeError as problem:
        return str(problem)


def _fresh(arguments: Arguments) -> list[Any]:
    """Return arguments that a function may write to."""
    return [a.clone() if isinstance(a, Tensor) else a for a in arguments]


def _missing(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return len(value) > 0 and all(_missing(part) for part in value)
    return value is None or value is ...


def _unwritten(error: NotImplementedError) -> bool:
    """Tell a `raise NotImplementedError` from torch, which raises it for want of a kernel."""
    line = traceback.extract_tb(error.__traceback__)[-1].line
    return not line or "NotImplementedError" in line


def _problem(
    exercise: Exercise, outcome: Tensor | str | Exception | None, arguments: Arguments
) -> str | None:
    """Return what is wrong with an outcome, or None if nothing is."""
    if isinstance(outcome, str):
        return outcome
    if isinstance(outcome, Tensor):
        return _diagnose(exercise, outcome, arguments)
    where = f"(it was called with {_describe(arguments)})"
    if outcome is None:
        return (
            "your function returns nothing here, though it does elsewhere; is a return missing in"
            f" one of its branches? {where}"
        )
    hint = "; align times with align_time" if "size of tensor" in str(outcome) else ""
    return f"your function raised {type(outcome).__name__}: {outcome}{hint} {where}"


def _diagnose(exercise: Exercise, given: Tensor, arguments: Arguments) -> str | None:
    """Return what is wrong with a result, or None if nothing is."""

    def result(answer: Answer, called_with: Arguments = arguments) -> Tensor:
        return as_result(exercise.probe(answer, *_fresh(called_with)))

    expected, backward, tol = result(exercise.reference), None, exercise.tol
    if close(given, expected, tol):
        return None
    for diagnosis, mistake in exercise.mistakes:
        with suppress(Exception):  # a mistake that raises here is not the reader's
            if close(given, result(mistake), tol):
                return diagnosis
    t = arguments[-1] if arguments else None
    if isinstance(t, float) or (isinstance(t, Tensor) and t.ndim <= 1 and len(arguments) > 1):
        with suppress(Exception):  # no time after all, or one where the reference has no value
            backward = result(exercise.reference, (*arguments[:-1], 1 - t))
    if usual := difference(given, expected, backward, tol):
        return usual
    worst = (given - expected).abs().max().item()
    return f"some values are off, by up to {worst:.3g} (called with {_describe(arguments)})"


def _describe(arguments: Arguments) -> str:
    """Show tensors by their shape, functions by their name and all else as it is."""
    return ", ".join(
        f"a tensor of shape {[*a.shape]}"
        if isinstance(a, Tensor)
        else getattr(a, "__name__", repr(a))
        for a in arguments
    )

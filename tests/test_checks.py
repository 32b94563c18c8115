"""Claims and graders: what they print, when they raise, and what they say then."""

import math

import numpy as np
import pytest
import torch

from fmtutor import check
from fmtutor.checks import CheckError, GradeError, grade

F64 = torch.float64


# check: claims that hold print one line, and the measured value is not in it.


@pytest.mark.parametrize(
    ("value", "bounds", "line"),
    [
        (1e-9, {"below": 1e-6}, "✓ it is below 1e-06"),
        (torch.tensor(0.5), {"below": 1}, "✓ it is below 1"),
        (torch.tensor([0.1, -0.2]), {"below": 1.0}, "✓ it is below 1"),
        (3, {"above": 2}, "✓ it is above 2"),
        (3.0, {"above": 2, "below": 4}, "✓ it is above 2 and below 4"),
        (np.float64(3.0), {"above": 2.5}, "✓ it is above 2.5"),
        (np.array([3.0, 4.0]), {"above": 2.5}, "✓ it is above 2.5"),
        (torch.tensor([1, 2]), {"above": 0}, "✓ it is above 0"),
        (2, {"equal": 2}, "✓ it is equals 2"),
        (0.1, {"equal": 0.1}, "✓ it is equals 0.1"),
        (torch.tensor(0.1), {"equal": 0.1}, "✓ it is equals 0.1"),
        (torch.tensor(0.1, dtype=F64), {"equal": 0.1}, "✓ it is equals 0.1"),
        (1.05, {"equal": 1, "tol": 0.1}, "✓ it is equals 1 to within 0.1"),
        (0.95, {"equal": 1, "tol": 0.1}, "✓ it is equals 1 to within 0.1"),
        (torch.ones(3), {"equal": 1.0}, "✓ it is equals 1"),
        (torch.ones(3), {"equal": [1, 1, 1]}, "✓ it is equals [1, 1, 1]"),
        (torch.ones(7), {"equal": torch.ones(7)}, "✓ it is equals 7 expected values"),
        (
            torch.ones(3, dtype=F64),
            {"equal": torch.tensor([1.0, 1.05, 0.95]), "tol": 0.1},
            "✓ it is equals [1, 1.05, 0.95] to within 0.1",
        ),
        (True, {"equal": True}, "✓ it is equals 1"),
        (True, {}, "✓ it is"),
        (torch.tensor([True, True]), {}, "✓ it is"),
        (torch.tensor(1.0, requires_grad=True), {"above": 0}, "✓ it is above 0"),
        (math.inf, {"above": 1}, "✓ it is above 1"),
    ],
)
def test_a_claim_that_holds(value, bounds, line, capsys):
    assert check("it is", value, **bounds) is None
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (2.0, {"below": 1}, "✗ it is below 1: the value is 2"),
        (1.0, {"below": 1}, "✗ it is below 1: the value is 1"),  # strictly
        (1.0, {"above": 1}, "✗ it is above 1: the value is 1"),
        (5.0, {"above": 2, "below": 4}, "✗ it is above 2 and below 4: the value is 5"),
        (1.0, {"above": 2, "below": 4}, "✗ it is above 2 and below 4: the value is 1"),
        (1.2, {"equal": 1, "tol": 0.1}, "✗ it is equals 1 to within 0.1: the value is 1.2"),
        (0.8, {"equal": 1, "tol": 0.1}, "✗ it is equals 1 to within 0.1: the value is 0.8"),
        (3, {"equal": 2}, "✗ it is equals 2: the value is 3"),
        (1 / 3, {"equal": 0.333}, "✗ it is equals 0.333: the value is 0.333333"),
        (torch.tensor([0.0, 2.0, 3.0]), {"below": 1}, "the value is 2 in 2 of 3 entries"),
        (torch.tensor([1.0, 5.0]), {"equal": [1.0, 2.0]}, "the value is 5 in 1 of 2 entries"),
        (False, {}, "✗ it is: the value is 0"),
        (torch.tensor([True, False]), {}, "✗ it is: the value is 0 in 1 of 2 entries"),
        (math.nan, {"below": 1}, "✗ it is below 1: the value is nan"),
        (math.nan, {"above": 1}, "the value is nan"),
        (math.nan, {"equal": math.nan}, "the value is nan"),
        (math.nan, {"equal": 1.0, "tol": math.inf}, "the value is nan"),
        (torch.tensor([0.5, math.nan]), {"below": 1}, "the value is nan in 1 of 2 entries"),
        (1.0, {"below": math.nan}, "✗ it is below nan: the value is 1"),
        (1.0, {"equal": math.nan}, "✗ it is equals nan"),
        (torch.zeros(0), {"below": 1}, "✗ it is below 1: the value is empty"),
        (torch.zeros(3), {"equal": torch.zeros(2)}, r"the value has shape [3], expected [2]"),
        (torch.zeros(3, 1), {"equal": torch.zeros(3)}, r"the value has shape [3, 1], expected [3]"),
        (0.0, {"equal": torch.zeros(2)}, r"the value has shape [], expected [2]"),
    ],
)
def test_a_claim_that_does_not_hold(value, bounds, message, capsys):
    with pytest.raises(CheckError) as error:
        check("it is", value, **bounds)
    assert message in str(error.value)
    assert capsys.readouterr().out == ""


def test_numbers_are_compared_in_double_precision():
    check("it is", 1 + 1e-12, above=1.0)
    check("it is", [1 + 1e-12, 2.0], above=1.0)
    check("it is", 1e-60, above=0, below=1e-50)
    with pytest.raises(CheckError):
        check("it is", 1 + 1e-12, equal=1.0)
    check("it is", 2**53 + 2, above=2**53)


def test_claims_that_make_no_sense_are_refused():
    for bounds in ({"below": 1}, {"above": 1}, {"below": 2, "above": 1}):
        with pytest.raises(ValueError, match="either equal= or below= and above=, not both"):
            check("it is", 1.0, equal=1.0, **bounds)
    with pytest.raises(ValueError, match="tol= is the tolerance of equal="):
        check("it is", 1.0, below=2.0, tol=0.1)
    with pytest.raises(ValueError, match="needs a bool"):
        check("it is", 1.0)


def test_both_errors_are_assertions():
    assert issubclass(CheckError, AssertionError)
    assert issubclass(GradeError, AssertionError)


# grade: one diagnosis after the other.


def reference(x, t):
    return x**2 + t[:, None]


X = torch.tensor([[0.5, -1.0], [2.0, 0.3], [1.5, 0.7]], dtype=F64)
T = torch.tensor([0.1, 0.4, 0.8], dtype=F64)
INPUTS = [(X, T), (2 * X, 1 - T**2)]


def test_a_right_answer(capsys):
    grade("exercise 1", reference, reference, INPUTS)
    grade("exercise 1", lambda x, t: reference(x, t).float(), reference, INPUTS)  # dtype is free
    grade("exercise 1", lambda x, t: reference(x, t) * (1 + 1e-6), reference, INPUTS)
    assert capsys.readouterr().out == "✓ exercise 1\n" * 3


def test_numbers_are_graded_too(capsys):
    grade("e", lambda a: a * 2, lambda a: a * 2.0, [(1.5,), (3,)])
    grade("e", lambda: 4.0, lambda: 4, [()])
    grade("e", lambda a: np.array([a, a]), lambda a: [a, a], [(1.5,)])
    assert capsys.readouterr().out == "✓ e\n" * 3


def raises_not_implemented(x, t):
    raise NotImplementedError


@pytest.mark.parametrize("answer", [raises_not_implemented, lambda x, t: None, lambda x, t: ...])
def test_an_exercise_not_attempted_is_no_error(answer, capsys):
    grade("exercise 1", answer, reference, INPUTS)
    assert capsys.readouterr().out == "○ exercise 1: not attempted yet\n"


def broken(x, t):
    raise KeyError("alpha")


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (broken, "your function raised KeyError: 'alpha' .* tensor of shape \\[3, 2\\]"),
        (lambda x, t: "two", "a tensor or a number is expected, but a str came back"),
        (lambda x, t: {}, "a tensor or a number is expected, but a dict came back"),
        (lambda x, t: (x, x[0]), "a tensor or a number is expected, but a tuple came back"),
        (
            lambda x, t: reference(x, t).T,
            r"\[2, 3\], expected \[3, 2\]: the entries are there",
        ),
        (lambda x, t: reference(x, t).sum(1), r"shape \[3\], expected \[3, 2\]: did a time \[b\]"),
        (lambda x, t: reference(x, t) * math.nan, "NaN or infinite; what is divided by"),
        (lambda x, t: reference(x, t) / 0, "NaN or infinite; what is divided by"),
        (lambda x, t: -reference(x, t), "the sign is flipped"),
        (
            lambda x, t: 2 * reference(x, t),
            "up to a constant factor: yours is 2 times the right value",
        ),
        (
            lambda x, t: -0.5 * reference(x, t),
            "constant factor: yours is -0.5 times the right value",
        ),
        (lambda x, t: reference(x, t) + 3, "right up to a constant: yours is 3 too large"),
        (lambda x, t: reference(x, t) - 3, "right up to a constant: yours is -3 too large"),
        (lambda x, t: reference(x, 1 - t), "time runs backward: this is the right answer at 1 − t"),
        (lambda x, t: x.abs() + t[:, None], r"some values are off, by up to 2 \(called with a"),
        (lambda x, t: x**3 + t[:, None], "you cubed it"),
        (lambda x, t: 0 * x, "some values are off"),
    ],
)
def test_a_wrong_answer_is_told_why(answer, diagnosis, capsys):
    mistakes = [
        ("you halved it", lambda x, t: x / 2),
        ("you cubed it", lambda x, t: x**3 + t[:, None]),
    ]
    with pytest.raises(GradeError, match="✗ exercise 1: ") as error:
        grade("exercise 1", answer, reference, INPUTS, mistakes=mistakes)
    assert error.match(diagnosis)
    assert capsys.readouterr().out == ""


def test_an_error_in_an_answer_keeps_its_traceback():
    with pytest.raises(GradeError) as error:
        grade("e", broken, reference, INPUTS)
    assert isinstance(error.value.__cause__, KeyError)


def test_a_known_mistake_comes_before_the_general_diagnoses():
    mistakes = [("you forgot that noise comes first", lambda x, t: -reference(x, t))]
    with pytest.raises(GradeError, match="you forgot that noise comes first"):
        grade("e", lambda x, t: -reference(x, t), reference, INPUTS, mistakes=mistakes)


def test_every_input_counts():
    def right_at_first(x, t):
        return reference(x, t) * (1 if torch.equal(t, T) else 2)

    with pytest.raises(GradeError, match="2 times the right value"):
        grade("e", right_at_first, reference, INPUTS)


def test_the_tolerance_is_relative_to_the_largest_entry():
    def large(x, t):
        return 1e6 * reference(x, t)

    grade("e", lambda x, t: large(x, t) + 10, large, INPUTS)
    with pytest.raises(GradeError):
        grade("e", lambda x, t: large(x, t) + 10, large, INPUTS, tol=1e-7)


def test_an_answer_cannot_change_the_inputs():
    def greedy(x, t):
        result = reference(x, t)
        x.zero_()
        return result

    x = X.clone()
    grade("e", greedy, reference, [(x, T)])
    assert torch.equal(x, X)


def test_reversed_time_is_not_looked_for_where_the_reference_has_no_value():
    def root(a, t):
        return math.sqrt(t - 1.0)  # 1 − t is below it

    with pytest.raises(GradeError, match="off, by up to"):
        grade("e", lambda a, t: 7.0 * t, root, [(1.0, 5.0)], tol=1e-12)

    def singular(x, t):
        if (t == 1).any():
            raise ValueError("no limit at t = 1")
        return x / (1 - t)[:, None]

    with pytest.raises(GradeError, match="off, by up to"):
        grade("e", lambda x, t: x.sin(), singular, [(X, torch.tensor([0.0, 0.2, 0.5], dtype=F64))])


def test_a_function_without_arguments_can_be_wrong():
    with pytest.raises(GradeError, match=r"off, by up to 1 \(called with \)"):
        grade("e", lambda: 5.0, lambda: 4.0, [()])


def test_a_float_time_can_run_backward():
    with pytest.raises(GradeError, match="time runs backward"):
        grade("e", lambda x, t: x + (1 - t) ** 2 * x**2, lambda x, t: x + t**2 * x**2, [(X, 0.2)])


def test_arguments_are_described():
    with pytest.raises(GradeError, match=r"called with a tensor of shape \[3, 2\], 0\.25, 'abc'"):
        grade("e", lambda x, t, s: x.sin(), lambda x, t, s: x, [(X, 0.25, "abc")])

"""How an answer is graded: what is printed, when it raises, and what it says then."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from fmtutor.exercises.grading import GradeError, grade, normal, uniform

F64 = torch.float64


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


# What came back: whatever holds the right numbers is right, and all else is named.

VALUES = [[0.5, -1.0], [2.0, 0.25]]


@pytest.mark.parametrize(
    "given",
    [
        VALUES,
        tuple(map(tuple, VALUES)),
        torch.tensor(VALUES),
        torch.tensor(VALUES, requires_grad=True),
        torch.nn.Parameter(torch.tensor(VALUES)),
        list(torch.tensor(VALUES, requires_grad=True)),
        [[torch.tensor(v, requires_grad=True) for v in row] for row in VALUES],
        torch.tensor(VALUES, dtype=torch.complex64),
        torch.tensor(VALUES, dtype=torch.bfloat16),
        torch.tensor(VALUES).to_sparse().to_dense(),
        np.array(VALUES),
        np.array(VALUES, dtype=np.float32),
        np.array(VALUES)[:, ::-1][:, ::-1],
        np.array([row[::-1] for row in VALUES])[:, ::-1],
        list(np.array(VALUES)),
        [[Fraction(v) for v in row] for row in VALUES],
        [[np.float32(v) for v in row] for row in VALUES],
    ],
)
def test_every_kind_of_result_is_compared(given, capsys):
    grade("e", lambda: given, lambda: torch.tensor(VALUES, dtype=F64), [()])
    assert capsys.readouterr().out == "✓ e\n"
    with pytest.raises(GradeError, match="the sign is flipped"):
        grade("e", lambda: given, lambda: -torch.tensor(VALUES, dtype=F64), [()])


def test_a_result_that_may_not_be_written_to_is_compared(capsys):
    frozen = np.array(VALUES)
    frozen.setflags(write=False)
    grade("e", lambda: frozen, lambda: VALUES, [()])
    with torch.inference_mode():
        inference = torch.tensor(VALUES)
    grade("e", lambda: inference, lambda: VALUES, [()])
    assert capsys.readouterr().out == "✓ e\n" * 2


@pytest.mark.parametrize("given", [True, 1, np.int64(1), Fraction(1), 1 + 0j, np.bool_(True), [1]])
def test_every_kind_of_number_is_compared(given, capsys):
    expected = [1.0] if isinstance(given, list) else 1.0
    grade("e", lambda: given, lambda: expected, [()])
    grade("e", lambda a: a * 10**30, lambda a: a * 1e30, [(2,)])  # beyond 64 bits
    assert capsys.readouterr().out == "✓ e\n" * 2


@pytest.mark.parametrize(
    ("given", "diagnosis"),
    [
        (1 + 1j, "the result is complex, a real one is expected"),
        (1 - 1e-3j, "the result is complex, a real one is expected"),
        (torch.tensor([1.0, 1j]), "the result is complex, a real one is expected"),
        (math.sin, "but a builtin_function_or_method came back"),
        ({1.0}, "but a set came back"),
        (np.array([1.0, None]), "but a ndarray came back"),
        ([1.0, "two"], "but a str came back"),
        ((torch.ones(2), None), "but a NoneType came back"),
        ((torch.ones(2), torch.ones(3)), "a tuple came back whose parts have the shapes [2], [3]"),
        ([], "the result has shape [0], expected [2]"),
        (torch.ones(2, device="meta"), "a tensor or a number is expected, but a Tensor came back"),
    ],
)
def test_what_cannot_be_compared_is_named(given, diagnosis):
    with pytest.raises(GradeError) as error:
        grade("e", lambda: given, lambda: [1.0, 1.0], [()])
    assert diagnosis in str(error.value)


# Not attempted means that nothing came back anywhere.


@pytest.mark.parametrize(
    "nothing", [lambda: None, lambda: ..., lambda: raises_not_implemented(1, 1)]
)
@pytest.mark.parametrize("empty", [{0}, {1}, {2}, {0, 1}, {1, 2}])
def test_nothing_for_some_inputs_is_wrong(nothing, empty):
    inputs = [(0, 1.5), (1, 2.5), (2, 3.5)]

    def partly(i, a):
        return nothing() if i in empty else 2 * a

    with pytest.raises(GradeError) as error:
        grade("e", partly, lambda i, a: 2 * a, inputs)
    first = inputs[min(empty)]
    assert "your function returns nothing here, though it does elsewhere" in str(error.value)
    assert f"(it was called with {first[0]}, {first[1]})" in str(error.value)


def test_nothing_in_different_ways_is_not_attempted(capsys):
    ways = iter(
        [lambda: None, lambda: (..., None), lambda: [...], lambda: raises_not_implemented(1, 1)]
    )
    grade("e", lambda a: next(ways)(), lambda a: a, [(1,), (2,), (3,), (4,)])
    assert capsys.readouterr().out == "○ e: not attempted yet\n"


def test_what_comes_first_is_told_first():
    def answer(a):
        return {1: 7.0, 2: None, 3: 3.0}[a]

    with pytest.raises(GradeError, match="off, by up to 6"):
        grade("e", answer, lambda a: a, [(1,), (2,), (3,)])


def test_an_operation_that_torch_lacks_is_an_error():
    with pytest.raises(
        GradeError, match=r"raised NotImplementedError: .*not implemented for 'Long'"
    ):
        grade("e", lambda x: x.softmax(0), lambda x: x, [(torch.arange(3),)])


# Nothing that a function does to its arguments or its results afterwards counts.


def test_an_answer_may_use_one_buffer_for_all_its_results(capsys):
    buffer = torch.zeros(2, dtype=F64)
    grade("e", lambda a: buffer.fill_(a), lambda a: [a, a], [(1.0,), (2.0,)])
    assert capsys.readouterr().out == "✓ e\n"


def test_neither_reference_nor_mistakes_change_the_inputs():
    x = X.clone()
    with pytest.raises(GradeError, match="halved"):
        grade(
            "e",
            lambda x: x / 2,
            lambda x: x.mul_(1),
            [(x,)],
            mistakes=[("cleared", lambda x: x.zero_()), ("halved", lambda x: x.div_(2))],
        )
    assert torch.equal(x, X)


def test_where_the_right_result_is_zero_the_tolerance_is_absolute(capsys):
    grade("e", lambda: [1e-5, 0.0], lambda: [0.0, 0.0], [()])
    grade("e", list, list, [()])  # no entry, no largest one
    assert capsys.readouterr().out == "✓ e\n" * 2
    for off in (1.5e-4, 1.0):
        with pytest.raises(GradeError, match=r"right up to a constant|off, by up to"):
            grade("e", lambda off=off: [off, 0.0], lambda: [0.0, 0.0], [()])


def test_two_numbers_can_have_a_common_factor_and_one_cannot():
    with pytest.raises(GradeError, match="yours is 3 times"):
        grade("e", lambda: [3.0, 6.0], lambda: [1.0, 2.0], [()])
    with pytest.raises(GradeError, match="off, by up to 2"):
        grade("e", lambda: [3.0], lambda: [1.0], [()])


def test_a_wrong_axis_is_hinted_at():
    with pytest.raises(
        GradeError, match=r"size of tensor .*; align times with align_time \(it was"
    ):
        grade("e", lambda x, t: x + t, reference, INPUTS)


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


# Mistakes are answers, too.


def test_a_mistake_that_raises_is_passed_over():
    def impossible(x, t):
        raise RuntimeError

    with pytest.raises(GradeError, match="you doubled it"):
        grade(
            "e",
            lambda x, t: 2 * reference(x, t),
            reference,
            INPUTS,
            mistakes=[("?", impossible), ("you doubled it", lambda x, t: 2 * reference(x, t))],
        )


def test_a_mistake_may_give_another_shape():
    with pytest.raises(GradeError, match="you took the mean"):
        grade(
            "e",
            lambda x, t: x.mean(),
            reference,
            INPUTS,
            mistakes=[("you took the mean", lambda x, t: x.mean())],
        )


def magnitude(x):
    return x / x.sign()  # NaN at 0


@pytest.mark.parametrize(
    ("answer", "mistake", "message"),
    [
        (magnitude, magnitude, "you divided"),
        (magnitude, lambda x: x.abs().masked_fill(x == 0, math.inf), "NaN or infinite"),
        (lambda x: x.abs() / (x == 0).logical_not(), lambda x: -1 / x.abs(), "NaN or infinite"),
        (lambda x: x * math.nan, lambda x: x * math.nan, "NaN or infinite"),  # it tells nothing
    ],
)
def test_a_mistake_agrees_where_the_same_entries_are_not_finite(answer, mistake, message):
    mistakes = [("you divided", mistake)]
    with pytest.raises(GradeError, match=message):
        grade("e", answer, lambda x: x, [(torch.tensor([0.0, 0.5, -2.0]),)], mistakes=mistakes)


def test_functions_among_the_arguments_are_named():
    with pytest.raises(GradeError, match=r"called with reference, a tensor of shape \[3, 2\]\)"):
        grade("e", lambda v, x: x.sin(), lambda v, x: x, [(reference, X)])


def test_draws_are_seeded_and_in_double_precision():
    for draw in (normal, uniform):
        assert draw(1, 3, 2).dtype == F64
        assert torch.equal(draw(1, 3, 2), draw(1, 3, 2))
        assert not torch.equal(draw(1, 3, 2), draw(2, 3, 2))
    assert abs(normal(0, 10_000).std() - 1) < 0.03
    u = uniform(0, 10_000, low=-1.0, high=0.5)
    assert -1 <= u.min() < -0.99
    assert 0.49 < u.max() < 0.5
    assert 0 <= uniform(0, 10_000).min() < 0.01
    assert 0.99 < uniform(0, 10_000).max() < 1

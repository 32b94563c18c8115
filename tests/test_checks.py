"""Claims: what they print, when they raise, and what they say then."""

import math

import numpy as np
import pytest
import torch

from fmtutor import check
from fmtutor.checks import CheckError

F64 = torch.float64


# Claims that hold print one line, and the measured value is not in it.


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


def test_the_error_is_an_assertion():
    assert issubclass(CheckError, AssertionError)

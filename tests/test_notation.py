"""Times, points and generators: what is accepted, how it is aligned, what is refused."""

import math

import numpy as np
import pytest
import torch
from devices import NoFloat64
from hypothesis import given
from hypothesis import strategies as st

import fmtutor
from fmtutor import MLP, CondOT, sample
from fmtutor.checking import (
    as_float64,
    as_generator,
    check_count,
    check_labels,
    check_model,
    check_points,
    check_same,
    readable,
)
from fmtutor.notation import VelocityField, align_time, batch_time

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


# Alignment: from the left, also where trailing broadcasting would go through silently.


def test_align_time_multiplies_rows_where_b_equals_d():
    x, t = torch.ones(3, 3), torch.tensor([0.0, 0.5, 1.0])
    assert torch.equal(align_time(t, x) * x, torch.tensor([[0.0] * 3, [0.5] * 3, [1.0] * 3]))
    assert not torch.equal(t * x, align_time(t, x) * x)  # what broadcasting would have done


@given(shapes)
def test_align_time_has_as_many_axes_as_x_and_scales_each_row(shape):
    x = torch.ones(shape)
    t = torch.linspace(0.1, 1, shape[0])
    aligned = align_time(t, x)
    assert aligned.shape == (shape[0], *[1] * (len(shape) - 1))
    for row, time in zip(aligned * x, t, strict=True):
        assert torch.equal(row, time.expand(row.shape))


def test_align_time_leaves_one_time_for_all_alone():
    assert align_time(torch.tensor(0.3), torch.ones(2, 3)).shape == ()


@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (4,), (1,)])
def test_align_time_refuses_what_is_not_one_time_a_point(shape):
    with pytest.raises(ValueError, match=r"t has shape \["):
        align_time(torch.zeros(shape), torch.ones(3, 3))


# Every form of a time becomes [b], in the dtype of the points.


@given(shapes, st.sampled_from([torch.float32, torch.float64]))
def test_batch_time_of_every_form(shape, dtype):
    x = torch.zeros(shape, dtype=dtype)
    forms = [0.25, torch.tensor(0.25), torch.full(shape[:1], 0.25, dtype=torch.float64)]
    for t in forms:
        result = batch_time(t, x)
        assert result.shape == shape[:1]
        assert result.dtype == dtype
        assert (result == 0.25).all()


@pytest.mark.parametrize("t", [0, 1, 0.0, 1.0, torch.tensor(1), torch.tensor([0, 1])])
def test_batch_time_accepts_the_ends_and_whole_numbers(t):
    assert batch_time(t, torch.zeros(2, 3)).tolist() in ([0, 0], [1, 1], [0, 1])


def test_batch_time_keeps_gradients():
    t = torch.tensor(0.5, requires_grad=True)
    batch_time(t, torch.zeros(3, 2)).sum().backward()
    assert t.grad == 3


@pytest.mark.parametrize("shape", [(2,), (1,), (3, 1), (1, 3), (3, 3)])
def test_batch_time_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"t has shape .* expected a float, a 0-d tensor or \[3\]"):
        batch_time(torch.zeros(shape), torch.zeros(3, 3))


@pytest.mark.parametrize("bad", [-1e-3, 1.001, 17.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("form", ["float", "0-d", "[b]"])
def test_batch_time_refuses_times_outside_the_unit_interval(bad, form):
    t = {"float": bad, "0-d": torch.tensor(bad), "[b]": torch.tensor([0.5, bad])}[form]
    with pytest.raises(ValueError, match=r"\[0, 1\] \(0 is noise, 1 is data\), but t = ") as error:
        batch_time(t, torch.zeros(2, 3))
    assert f"{torch.tensor(bad).item():g}" in str(error.value)


def test_batch_time_can_be_told_to_look_beyond():
    assert batch_time(1.5, torch.zeros(2), unit=False).tolist() == [1.5, 1.5]


# Points.


def test_check_points_accepts_every_floating_batch():
    for shape in [(1,), (3, 2), (2, 1, 4, 4)]:
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            check_points(torch.zeros(shape, dtype=dtype), finite=True)


@pytest.mark.parametrize("x", [[1.0], 1.0, None, "x"])
def test_check_points_refuses_what_is_no_tensor(x):
    with pytest.raises(TypeError, match=rf"y must be a torch.Tensor, but a {type(x).__name__} "):
        check_points(x, "y")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_check_points_refuses_other_dtypes(dtype):
    with pytest.raises(TypeError, match=f"floating point, but its dtype is {dtype}"):
        check_points(torch.zeros(2, 2, dtype=dtype))


@pytest.mark.parametrize("shape", [(), (0,), (0, 2), (3, 0)])
def test_check_points_refuses_an_empty_batch(shape):
    with pytest.raises(ValueError, match=r"non-empty batch \[b \.\.\.\], but its shape is"):
        check_points(torch.zeros(shape))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_check_points_counts_what_is_not_finite(bad):
    x = torch.tensor([[0.0, bad], [bad, 1.0]])
    check_points(x)  # only looked at when asked
    with pytest.raises(ValueError, match="2 of 4 values are NaN or inf"):
        check_points(x, finite=True)


def test_check_same_names_both_sides():
    x = torch.zeros(2, 3)
    check_same("x", x, "y", x)
    with pytest.raises(ValueError, match=r"x is \[2, 3\] and y is \[3, 2\]"):
        check_same("x", x, "y", x.T)
    with pytest.raises(TypeError, match=r"x is torch.float32 and y is torch.float64"):
        check_same("x", x, "y", x.double())
    with pytest.raises(ValueError, match="x is on cpu and y on meta"):
        check_same("x", x, "y", x.to("meta"))


def test_labels_are_one_whole_number_a_point_below_the_number_of_classes():
    labels = torch.tensor([0, 1, 2])
    check_labels(labels, 3, 3)
    check_labels(labels - 5, 3)  # the values are looked at only when asked
    check_labels(labels.to("meta"), 3, 3)  # nor anywhere but on the CPU
    for bad, classes, message in [
        (labels, 2, r"labels must be 0, ..., 1, but 2 came"),
        (labels - 1, 3, r"labels must be 0, ..., 2, but -1 came"),
        (labels[:2], 3, r"labels must be \[3\], one for each point, but \[2\] came"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_labels(bad, 3, classes)
    for bad, found in [(labels.int(), "torch.int32"), ([0, 1, 2], "list")]:
        with pytest.raises(TypeError, match=f"labels must be an int64 tensor, but {found} came"):
            check_labels(bad, 3)


# The protocol.


def test_a_velocity_field_is_whatever_can_be_called():
    assert isinstance(lambda x, t: x, VelocityField)
    assert isinstance(fmtutor.MLP(), VelocityField)
    assert isinstance(fmtutor.EmpiricalField(fmtutor.CondOT(), torch.zeros(1, 2)), VelocityField)
    assert isinstance(fmtutor.CountedField(lambda x, t: x), VelocityField)
    assert not isinstance(3.0, VelocityField)


# Randomness.


def test_as_generator(global_rng_untouched):
    generator = torch.Generator().manual_seed(1)
    assert as_generator(None) is None
    assert as_generator(None, generator) is generator
    assert as_generator(5).initial_seed() == 5
    assert as_generator(0).initial_seed() == 0  # zero is a seed, not "none"
    with pytest.raises(ValueError, match="either seed= or generator=, not both"):
        as_generator(1, generator)


# Times that miss an end by a rounding error.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rounding_error_beyond_an_end_is_moved_to_it(dtype):
    x = torch.zeros(3, 2, dtype=dtype)
    given = torch.tensor([-1e-6, 0.5, 1 + 2e-7], dtype=dtype)
    assert batch_time(given, x).tolist() == [0.0, 0.5, 1.0]
    assert batch_time(1 + 2e-7, x).tolist() == [1.0] * 3
    s = CondOT().sample(x, x + 1, 1 + 2e-7)
    assert torch.equal(s.xt, s.x1)
    for bad, told in ((1 + 1.2345e-5, r"t = 1\.000012[34]\d*"), (-2e-5, r"t = -[12]\.?\d*e-05")):
        with pytest.raises(ValueError, match=rf"t must lie in \[0, 1\] .* but {told}"):
            batch_time(bad, x)
    with pytest.raises(ValueError, match="t = nan came"):
        batch_time(torch.tensor([0.5, math.nan, 0.0], dtype=dtype), x)
    assert batch_time(given, x, unit=False).tolist() == given.tolist()


# What may be looked at.


def test_values_are_looked_at_only_where_that_is_free():
    x = torch.zeros(3)
    assert readable(x)
    assert not readable(x.to("meta"))
    seen = []
    torch.vmap(lambda row: seen.append(readable(row)) or row)(x)
    assert seen == [False]
    bad = torch.tensor([0.0, math.nan], device="meta")
    check_points(bad[:, None], finite=True)
    check_labels(torch.tensor([7, 8], device="meta"), 2, classes=3)
    batch_time(torch.tensor([5.0], device="meta"), torch.zeros(1, 2, device="meta"))


# Small helpers at the entrances.


def test_whole_numbers_are_told_from_others():
    assert check_count("n", np.int64(3)) == 3
    assert check_count("n", True) == 1
    for bad in (3.0, "3", None, torch.tensor(0.5)):
        with pytest.raises(TypeError, match="n must be a whole number, but"):
            check_count("n", bad)
    with pytest.raises(ValueError, match="n must be at least 2, but 1 came"):
        check_count("n", 1, least=2)


def test_a_seed_may_be_any_whole_number():
    first, second = (torch.rand(3, generator=as_generator(seed)) for seed in (np.int64(3), 3))
    assert torch.equal(first, second)
    with pytest.raises(TypeError, match=r"seed must be a whole number, but 3\.0 came"):
        as_generator(3.0)


def test_under_autocast_points_and_weights_may_differ():
    x, model = torch.zeros(3, 2, dtype=torch.bfloat16), MLP(width=8)
    with pytest.raises(TypeError, match=r"weights are torch\.float32, but x is torch\.bfloat16"):
        check_model(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        check_model(model, x)
        assert sample(model, x, steps=2).dtype == torch.bfloat16


def test_float64_is_found_on_the_cpu_where_a_device_has_none():
    x = torch.tensor([1.0, 2.0]).as_subclass(NoFloat64)
    with pytest.raises(TypeError, match="MPS"):
        x.double()
    converted = as_float64(x)
    assert type(converted) is torch.Tensor
    assert converted.dtype == torch.float64
    assert as_float64(torch.ones(2)).dtype == torch.float64

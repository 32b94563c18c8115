"""Solvers: the order by regression, tables by their order conditions, and what a field is asked."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fmtutor import (
    MLP,
    CondOT,
    CountedField,
    GaussianMixture,
    sample,
    sample_stochastic,
    solvers,
)
from fmtutor.solvers import METHODS, TABLEAUX, Tableau, runge_kutta_step, shift, shifted_grid

F64 = torch.float64
FIXED = tuple(TABLEAUX)
every_method = pytest.mark.parametrize("method", METHODS)
every_tableau = pytest.mark.parametrize("method", FIXED)


def field(x, t):
    """Nonlinear, not symmetric, coupled, time-dependent: x' = c x², y' = c x y + e^t x."""
    c = torch.cos(t + 0.3)
    return torch.stack([c * x[:, 0] ** 2, c * x[:, 0] * x[:, 1] + t.exp() * x[:, 0]], dim=1)


def solution(x0, t):
    """1/x falls like ∫c, and (y/x)' = e^t."""
    x = 1 / (1 / x0[:, 0] - math.sin(t + 0.3) + math.sin(0.3))
    return torch.stack([x, x * (x0[:, 1] / x0[:, 0] + math.exp(t) - 1)], dim=1)


START = torch.tensor([[0.8, -0.5], [0.5, 1.0], [-0.7, 0.2], [0.3, -1.2]], dtype=F64)


class Spy:
    """A field that keeps the times it is asked for."""

    def __init__(self, v):
        self.v, self.times, self.shapes = v, [], []

    def __call__(self, x, t):
        self.times.append(t.detach().clone())
        self.shapes.append((x.shape, t.shape))
        return self.v(x, t)


# Accuracy.


def test_the_closed_form_is_a_solution():
    for t in (0.0, 0.3, 1.0):
        eps = 1e-6
        slope = (solution(START, t + eps) - solution(START, t - eps)) / (2 * eps)
        torch.testing.assert_close(
            slope, field(solution(START, t), torch.full((4,), t, dtype=F64)), rtol=1e-7, atol=1e-7
        )
    torch.testing.assert_close(solution(START, 0.0), START)


def slope_of_error(solve, counts):
    errors = [float((solve(n) - solution(START, 1.0)).abs().max()) for n in counts]
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@every_tableau
def test_order_of_convergence(method):
    counts = [40, 80, 160, 320] if method == "euler" else [16, 32, 64, 128]
    order = slope_of_error(lambda n: sample(field, START, method=method, steps=n), counts)
    assert order == pytest.approx(TABLEAUX[method].order, abs=0.15)


@every_tableau
def test_order_of_convergence_backward_and_on_unequal_steps(method):
    counts = [40, 80, 160, 320] if method == "euler" else [16, 32, 64, 128]

    def backward(n):  # there and back: the error is that of the way back
        end = solution(START, 1.0)
        back = sample(field, end, method=method, steps=n, t0=1.0, t1=0.0)
        return solution(START, 1.0) + (back - START)

    def graded(n):
        return sample(
            field, START, method=method, times=torch.linspace(0, 1, n + 1, dtype=F64) ** 2
        )

    for solve in (backward, graded):
        assert slope_of_error(solve, counts) == pytest.approx(TABLEAUX[method].order, abs=0.2)


def test_the_order_is_that_of_the_literature():
    orders = {name: tableau.order for name, tableau in TABLEAUX.items()}
    assert orders == {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}
    assert METHODS == ("euler", "midpoint", "heun", "rk4", "dopri5")


# reference-values.md: m = 2, s0 = 1, s1 = 0.5, x = 1, error of the flow map 2 + x/2.
TABLE = {
    "euler": [0.1595, 0.0852, 0.0443, 0.0226, 0.01144, 0.00576],
    "midpoint": [1.709e-3, 2.236e-4, 2.835e-5, 3.557e-6, 4.45e-7, 5.57e-8],
    "heun": [4.84e-3, 2.44e-3, 7.64e-4, 2.10e-4, 5.49e-5, 1.40e-5],
}


@pytest.mark.parametrize("method", TABLE)
def test_errors_on_gaussian_to_gaussian_are_the_reference_values(method):
    v = GaussianMixture(torch.tensor([[2.0]], dtype=F64), 0.5).velocity(CondOT())
    x0 = torch.tensor([[1.0]], dtype=F64)
    for steps, error in zip([4, 8, 16, 32, 64, 128], TABLE[method], strict=True):
        x1 = sample(v, x0, method=method, steps=steps)
        assert abs(x1.item() - 2.5) == pytest.approx(error, rel=5e-3)


# Tableaux.


@every_tableau
def test_order_conditions(method):
    tableau = TABLEAUX[method]
    s = len(tableau.b)
    assert [len(row) for row in tableau.a] == list(range(s))  # explicit
    a = np.array([[*row, *[0.0] * (s - len(row))] for row in tableau.a])
    b, c = np.array(tableau.b), a.sum(1)
    conditions = {
        1: [(b.sum(), 1)],
        2: [(b @ c, 1 / 2)],
        3: [(b @ c**2, 1 / 3), (b @ a @ c, 1 / 6)],
        4: [
            (b @ c**3, 1 / 4),
            ((b * c) @ a @ c, 1 / 8),
            (b @ a @ c**2, 1 / 12),
            (b @ a @ a @ c, 1 / 24),
        ],
    }
    for order in range(1, tableau.order + 1):
        for got, expected in conditions[order]:
            assert got == pytest.approx(expected, abs=1e-15)
    if tableau.order < 4:  # and no better than it says
        following = conditions[tableau.order + 1]
        assert any(abs(got - expected) > 1e-3 for got, expected in following)


def test_one_step_of_a_tableau_by_hand():
    # Ralston's method, which is not in the table: x + h (¼ k1 + ¾ k2), k2 at ⅔ of the step
    ralston = Tableau(((), (2 / 3,)), (0.25, 0.75), order=2)
    t, h = torch.tensor(0.2, dtype=F64), torch.tensor(0.3, dtype=F64)
    k1 = field(START, t.expand(4))
    k2 = field(START + h * 2 / 3 * k1, (t + 2 / 3 * h).expand(4))
    torch.testing.assert_close(
        runge_kutta_step(field, START, t, h, ralston), START + h * (k1 / 4 + 3 * k2 / 4)
    )


def test_one_step_of_a_tableau_with_full_rows_by_hand():
    # Kutta's third-order method: its last stage uses both of those before it
    kutta = Tableau(((), (0.5,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6), order=3)
    t, h = torch.tensor(0.2, dtype=F64), torch.tensor(0.3, dtype=F64)
    k1 = field(START, t.expand(4))
    k2 = field(START + h / 2 * k1, (t + h / 2).expand(4))
    k3 = field(START + h * (2 * k2 - k1), (t + h).expand(4))
    expected = START + h * (k1 + 4 * k2 + k3) / 6
    torch.testing.assert_close(runge_kutta_step(field, START, t, h, kutta), expected)


@pytest.mark.parametrize(("a", "b"), [(((), ()), (0.5, 0.5)), (((),), (0.5, 0.5))])
def test_a_tableau_whose_rows_do_not_fit_is_refused(a, b):
    t, h = torch.tensor(0.2, dtype=F64), torch.tensor(0.3, dtype=F64)
    with pytest.raises(ValueError, match=r"rows of a must have 0, ..., 1 entries"):
        runge_kutta_step(field, START, t, h, Tableau(a, b, order=1))


# What the field is asked.


@every_tableau
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_evaluations_are_stages_times_steps(method, steps):
    counted = CountedField(field)
    assert counted.count == 0
    result = sample(counted, START, method=method, steps=steps)
    assert counted.count == len(TABLEAUX[method].b) * steps
    assert torch.equal(result, sample(field, START, method=method, steps=steps))


def test_a_counted_field_passes_its_conditions_on():
    counted = CountedField(lambda x, t, rate, shift: rate * x + shift)
    rate, shift = torch.rand(4, 1, dtype=F64), torch.rand(4, 2, dtype=F64)
    given = sample(counted, START, cond=(rate, shift), steps=1)
    torch.testing.assert_close(given, START + rate * START + shift)
    assert counted.count == 1


def test_evaluations_of_each_method_in_numbers():
    def evaluations(method):
        counted = CountedField(field)
        sample(counted, START, method=method, steps=10)
        return counted.count

    assert [evaluations(method) for method in FIXED] == [10, 20, 20, 40]
    assert 7 <= evaluations("dopri5") < 100


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("steps", [1, 3, 10, 100])
def test_an_euler_step_is_one_over_steps(steps, dtype):
    spy = Spy(lambda x, t: torch.ones_like(x))
    x1 = sample(spy, torch.zeros(2, 1, dtype=dtype), steps=steps)
    torch.testing.assert_close(x1, torch.ones(2, 1, dtype=dtype))  # not steps/(steps − 1)
    times = torch.stack(spy.times)[:, 0]
    torch.testing.assert_close(times, torch.arange(steps, dtype=dtype) / steps)


@every_method
def test_by_default_time_runs_from_noise_to_data(method):
    spy = Spy(lambda x, t: t[:, None] * torch.ones_like(x))  # ∫ t dt = ½
    x1 = sample(spy, torch.zeros(2, 1, dtype=F64), method=method, steps=50)
    assert x1[0].item() == pytest.approx(0.5, abs=0.011)
    times = torch.stack(spy.times)[:, 0]
    assert times[0] == 0
    assert (times.diff() >= 0).all() or method in ("heun", "rk4", "dopri5")
    back = sample(spy, torch.zeros(2, 1, dtype=F64), method=method, steps=50, t0=1.0, t1=0.0)
    assert back[0].item() == pytest.approx(-0.5, abs=0.011)


@every_tableau
def test_the_stages_of_each_method_are_where_they_belong(method):
    expected = {
        "euler": [0.0, 0.5],
        "midpoint": [0.0, 0.25, 0.5, 0.75],
        "heun": [0.0, 0.5, 0.5, 1.0],
        "rk4": [0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0],
    }
    spy = Spy(field)
    sample(spy, START, method=method, steps=2)
    assert torch.stack(spy.times)[:, 0].tolist() == expected[method]


@every_method
@pytest.mark.parametrize("shape", [(5,), (3, 2), (3, 3), (2, 1, 4, 4)])
def test_the_field_gets_one_time_a_point_and_any_shape_of_point(method, shape):
    x0 = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    spy = Spy(lambda x, t: -x * t.reshape(-1, *[1] * (x.ndim - 1)))
    x1 = sample(spy, x0, method=method, steps=40)
    assert x1.shape == shape
    assert x1.dtype == torch.float32
    assert set(spy.shapes) == {(torch.Size(shape), torch.Size(shape[:1]))}
    torch.testing.assert_close(x1, x0 * math.exp(-0.5), rtol=0.02, atol=1e-3)


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("steps", [1, 3, 7, 49, 93])
def test_no_method_asks_outside_the_unit_interval(method, dtype, backward, steps):
    spy = Spy(lambda x, t: 3 * x * t[:, None])
    ends = {"t0": 1.0, "t1": 0.0} if backward else {}
    sample(spy, torch.ones(1, 1, dtype=dtype), method=method, steps=steps, **ends)
    times = torch.stack(spy.times)
    assert times.min() >= 0
    assert times.max() <= 1
    assert times.dtype == dtype


@every_tableau
@pytest.mark.parametrize(("t", "h"), [(0.9, 0.1 + 1e-9), (0.1, -0.1 - 1e-9)])
def test_a_step_that_rounds_beyond_an_end_asks_at_the_end(method, t, h):
    spy = Spy(field)
    time, step = torch.tensor(t, dtype=F64), torch.tensor(h, dtype=F64)
    runge_kutta_step(spy, START, time, step, TABLEAUX[method])
    assert all(0 <= t.min() <= t.max() <= 1 for t in spy.times)


# The adaptive method.


@pytest.mark.parametrize("tol", [1e-4, 1e-7, 1e-10])
def test_dopri5_is_as_accurate_as_asked(tol):
    counted = CountedField(field)
    x1 = sample(counted, START, method="dopri5", rtol=tol, atol=tol)
    assert (x1 - solution(START, 1.0)).abs().max() < 50 * tol
    path = sample(field, START, method="dopri5", steps=5, rtol=tol, atol=tol, return_path=True)
    for t, points in zip(torch.linspace(0, 1, 6).tolist(), path, strict=True):
        assert (points - solution(START, t)).abs().max() < 1000 * tol  # interpolated


def test_dopri5_takes_more_steps_when_asked_for_more():
    def evaluations(rtol, atol):
        counted = CountedField(field)
        sample(counted, START, method="dopri5", rtol=rtol, atol=atol)
        return counted.count

    assert evaluations(1e-3, 1e-3) < evaluations(1e-6, 1e-6) < evaluations(1e-9, 1e-9)
    assert evaluations(1e-9, 1e-3) < evaluations(1e-9, 1e-9)  # each of the two counts
    assert evaluations(1e-3, 1e-9) < evaluations(1e-9, 1e-9)


@pytest.mark.parametrize("backward", [False, True])
def test_dopri5_ends_at_the_last_time_and_does_not_step_over_it(backward):
    # Two of the seven stages lie at the end of a step. A step over the last time would put more.
    spy = Spy(field)
    start = solution(START, 1.0) if backward else START
    ends = {"t0": 1.0, "t1": 0.0} if backward else {}
    sample(spy, start, method="dopri5", **ends)
    last = 0.0 if backward else 1.0
    times = torch.stack(spy.times)[:, 0]
    assert 1 <= ((times - last).abs() < 1e-9).sum() <= 2


@pytest.mark.parametrize(("t0", "t1"), [(0.99, 1.0), (0.01, 0.0)])
def test_dopri5_does_not_look_beyond_a_short_stretch(t0, t1):
    # To choose its first step it tries a point ahead; on a slow field that is far ahead.
    spy = Spy(lambda x, t: 1e-3 * x)
    sample(spy, START, method="dopri5", t0=t0, t1=t1)
    times = torch.stack(spy.times)
    assert times.min() >= 0
    assert times.max() <= 1


# Times, paths, ends.


@every_method
def test_there_and_back_again(method):
    there = sample(field, START, method=method, steps=400)
    back = sample(field, there, method=method, steps=400, t0=1.0, t1=0.0)
    tolerance = {"euler": 0.05, "midpoint": 1e-4, "heun": 1e-4, "rk4": 1e-8, "dopri5": 1e-4}
    assert (back - START).abs().max() < tolerance[method]
    assert (there - START).abs().max() > 0.5


@every_method
def test_return_path(method):
    path = sample(field, START, method=method, steps=7, return_path=True)
    assert path.shape == (8, 4, 2)
    assert torch.equal(path[0], START)
    assert torch.equal(path[-1], sample(field, START, method=method, steps=7))
    third = sample(field, START, method=method, times=[0.0, 1 / 7, 2 / 7, 3 / 7])
    torch.testing.assert_close(path[3], third, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("return_path", [False, True])
@pytest.mark.parametrize("method", FIXED)
def test_points_in_groups_arrive_where_all_together_do(method, return_path):
    sizes = []

    def v(x, t):
        sizes.append(len(x))
        return field(x, t)

    arguments = {"method": method, "steps": 7, "return_path": return_path}
    groups = sample(v, START, batch_size=3, **arguments)
    assert set(sizes) == {3, 1}
    torch.testing.assert_close(groups, sample(field, START, **arguments), rtol=1e-13, atol=0)


def test_dopri5_chooses_its_steps_for_each_group():
    groups = sample(field, START, method="dopri5", batch_size=3, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(groups, solution(START, 1.0), rtol=1e-6, atol=1e-6)


@every_method
def test_own_times(method):
    times = [0.1, 0.15, 0.4, 0.9]
    forms = [times, tuple(times), torch.tensor(times, dtype=F64), np.array(times)]
    paths = [sample(field, START, method=method, times=t, return_path=True) for t in forms]
    for path in paths:
        assert path.shape == (4, 4, 2)
        assert torch.equal(path, paths[0])
    uniform = sample(field, START, method=method, steps=5, t0=0.0, t1=0.5)
    same = sample(field, START, method=method, times=torch.linspace(0, 0.5, 6, dtype=F64))
    assert torch.equal(uniform, same)


def test_no_gradient_flows_to_the_times():
    times = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    assert not sample(field, START, times=times, differentiable=True).requires_grad


def test_a_part_of_the_way_by_fine_steps():
    start = solution(START, 0.25)
    x = sample(field, start, method="rk4", steps=50, t0=0.25, t1=0.75)
    torch.testing.assert_close(x, solution(START, 0.75), rtol=1e-7, atol=1e-7)


def test_a_shift_divides_the_signal_to_noise_ratio():
    t = torch.linspace(0, 1, 101, dtype=F64)
    for ratio in (0.25, 1.0, 3.0):
        moved = shift(t, ratio)
        torch.testing.assert_close((moved / (1 - moved))[:-1], (t / (1 - t))[:-1] / ratio)
        assert moved[[0, -1]].tolist() == [0.0, 1.0]
        torch.testing.assert_close(shift(moved, 1 / ratio), t)
        torch.testing.assert_close(shift(shift(t, 2.0), ratio), shift(t, 2 * ratio))
    assert torch.equal(shift(t, 1.0), t)


@every_method
@pytest.mark.parametrize("ratio", [0.2, 1.0, 4.0])
def test_a_shifted_grid_is_a_grid_of_sample(method, ratio):
    grid = shifted_grid(40, ratio)
    assert (grid.dtype, len(grid), grid[0].item(), grid[-1].item()) == (F64, 41, 0.0, 1.0)
    shortest = 0 if ratio > 1 else -1
    assert ratio == 1 or grid.diff()[shortest] == grid.diff().min()
    end = sample(field, START, method=method, times=grid)
    assert (end - solution(START, 1.0)).abs().max() < (0.3 if method == "euler" else 0.02)


def test_bad_shifts_are_refused():
    for ratio in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="ratio must be positive and finite"):
            shift(torch.rand(3), ratio)
        with pytest.raises(ValueError, match="ratio must be positive and finite"):
            shifted_grid(3, ratio)
    with pytest.raises(TypeError, match="t must be floating point"):
        shift(torch.tensor([0, 1]), 2.0)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        shifted_grid(0, 2.0)


# Gradients.


@every_method
def test_gradients_flow_when_asked(method):
    # x1 = x0 exp(w/2) for v = w t x: ∂x1/∂x0 = exp(w/2), ∂x1/∂w = x1/2
    w = torch.tensor(0.8, dtype=F64, requires_grad=True)
    x0 = torch.tensor([[1.0, -2.0]], dtype=F64, requires_grad=True)
    x1 = sample(lambda x, t: w * t[:, None] * x, x0, method=method, steps=300, differentiable=True)
    to_x0, to_w = torch.autograd.grad(x1.sum(), (x0, w))
    torch.testing.assert_close(to_x0, torch.full_like(x0, math.exp(0.4)), rtol=5e-3, atol=0)
    torch.testing.assert_close(to_w, (x1 / 2).sum().detach(), rtol=1e-2, atol=0)


@every_method
def test_nothing_is_recorded_otherwise(method):
    model = MLP(2, 8, 1)
    x0 = torch.randn(3, 2, requires_grad=True)
    assert not sample(model, x0, method=method, steps=2).requires_grad
    assert sample(model, x0, method=method, steps=2, differentiable=True).requires_grad
    with torch.no_grad():
        assert not sample(model, x0, method=method, steps=2, differentiable=True).requires_grad


@every_method
def test_the_starting_points_are_left_alone(method):
    x0 = START.clone()
    sample(field, x0, method=method, steps=3)
    assert torch.equal(x0, START)


# Bad input.


def test_an_unknown_method_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="one of euler, midpoint, heun, rk4, dopri5, but 'rk5'"):
        sample(field, START, method="rk5")


@every_method
@pytest.mark.parametrize("steps", [0, -1])
def test_steps_below_one_are_refused(method, steps):
    with pytest.raises(ValueError, match=f"steps must be at least 1, but {steps} came"):
        sample(field, START, method=method, steps=steps)


@pytest.mark.parametrize("batch_size", [0, -3])
def test_groups_below_one_point_are_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, but {batch_size} came"):
        sample(field, START, batch_size=batch_size)
    assert torch.equal(sample(field, START, batch_size=1), sample(field, START))


@every_method
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": [0.5]}, r"times must be \[k\] with k at least 2, but shape \[1\]"),
        ({"times": []}, r"times must be \[k\] with k at least 2, but shape \[0\]"),
        ({"times": torch.zeros(2, 2)}, r"times must be \[k\] with k at least 2"),
        ({"times": [0.0, 0.5, 0.5, 1.0]}, "strictly monotone, but 0, 0.5, 0.5, 1 came"),
        ({"times": [0.0, 0.6, 0.5]}, "strictly monotone"),
        ({"times": [0.0, math.nan, 1.0]}, "strictly monotone, but 0, nan, 1 came"),
        ({"times": [0.0, 1.5]}, r"times must lie in \[0, 1\]"),
        ({"times": [-0.5, 1.0]}, r"times must lie in \[0, 1\]"),
        ({"t0": 0.5, "t1": 0.5}, "strictly monotone"),
        ({"t1": 2.0, "steps": 1}, r"times must lie in \[0, 1\] .* but 0, 2 came"),
        ({"t0": -1.0}, r"times must lie in \[0, 1\] .* but -1, -0.98, -0.96, ..., 0.98, 1 came"),
        ({"t0": math.nan}, "strictly monotone"),
        ({"t1": 2.0, "steps": 5}, "but 0, 0.4, 0.8, 1.2, 1.6, 2 came"),
        ({"t1": 3.0, "steps": 6}, "but 0, 0.5, 1, ..., 2.5, 3 came"),
    ],
)
def test_bad_times_are_refused(method, arguments, message):
    with pytest.raises(ValueError, match=message):
        sample(field, START, method=method, **arguments)


@every_method
def test_bad_points_are_refused(method):
    with pytest.raises(TypeError, match="x0 must be floating point"):
        sample(field, START.long(), method=method)
    with pytest.raises(TypeError, match=r"x0 must be a torch.Tensor"):
        sample(field, [[0.0]], method=method)
    with pytest.raises(ValueError, match="x0 must be a non-empty batch"):
        sample(field, START[:0], method=method)
    with pytest.raises(ValueError, match="x0 must be finite, but 1 of 2"):
        sample(field, torch.tensor([[0.0, math.nan]]), method=method)


@every_method
def test_a_field_of_another_shape_or_dtype_is_refused(method):
    for bad in (lambda x, t: x[:, 0], lambda x, t: x[:, :1], lambda x, t: x.sum()):
        with pytest.raises(ValueError, match=r"v\(x, t\) and x must have one shape"):
            sample(bad, torch.ones(2, 2), method=method, steps=2)
    with pytest.raises(TypeError, match=r"v\(x, t\) and x must have one dtype"):
        sample(lambda x, t: x.double(), torch.ones(2, 2), method=method, steps=2)


def test_every_stage_is_checked():
    def second_one_bad(x, t):
        return x if t[0] == 0 else x[:, :1]  # which would be broadcast

    with pytest.raises(ValueError, match=r"v\(x, t\) and x must have one shape"):
        sample(second_one_bad, START, method="midpoint", steps=1)


# The stochastic sampler.

PATH = CondOT()


def stochastic(v, x0, diffusion=lambda t: (2 * (1 - t)).sqrt(), **settings):
    return sample_stochastic(v, x0, score=PATH.score_from_velocity, diffusion=diffusion, **settings)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_without_noise_it_is_eulers_method_to_the_bit(dtype):
    v = GaussianMixture(torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=dtype), 0.5).velocity(PATH)
    x0 = START.to(dtype)
    for settings in ({"steps": 7}, {"times": [0.1, 0.15, 0.4, 1.0]}, {"steps": 3, "t1": 0.7}):
        points = stochastic(v, x0, lambda t: 0.0, return_path=True, seed=0, **settings)
        assert torch.equal(points, sample(v, x0, return_path=True, **settings))


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_every_noise_has_the_marginals_of_the_flow(scale):
    v = GaussianMixture(torch.tensor([[2.0]], dtype=F64), 0.5).velocity(PATH)
    x0 = torch.randn(40_000, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    points = stochastic(
        v, x0, lambda t: scale * (1 - t).sqrt(), steps=200, seed=1, return_path=True
    )
    for k in (50, 100, 150, 200):
        t = k / 200
        assert points[k].mean().item() == pytest.approx(2 * t, abs=0.02)
        std = math.sqrt((1 - t) ** 2 + t**2 / 4)
        assert points[k].std().item() == pytest.approx(std, rel=0.02)
    flow = sample(v, x0, steps=200)
    agreement = torch.corrcoef(torch.stack([points[-1, :, 0], flow[:, 0]]))[0, 1].item()
    assert agreement < 0.97  # and yet not the same points


def test_one_stochastic_step_by_hand():
    x0, g = START, torch.Generator().manual_seed(3)
    noise = torch.randn(x0.shape, generator=g, dtype=F64)
    u = field(x0, torch.full((4,), 0.2, dtype=F64))
    score = PATH.score_from_velocity(u, x0, 0.2)
    expected = x0 + 0.3 * (u + 0.7**2 / 2 * score) + 0.7 * math.sqrt(0.3) * noise
    got = stochastic(field, x0, lambda t: 0.7, times=[0.2, 0.5], seed=3)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_the_stochastic_sampler_makes_everything_on_the_device_of_the_points():
    with torch.device("meta"):  # what is made without device= would not fit
        points = stochastic(field, START, lambda t: 0.5, times=[0.0, 0.5, 0.9], seed=0)
    assert points.device == START.device


def test_stochastic_samples_are_seeded_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    first = stochastic(field, START, steps=5, seed=0)
    assert torch.equal(first, stochastic(field, START, steps=5, seed=0))
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(first, stochastic(field, START, steps=5, generator=generator))
    assert not torch.equal(first, stochastic(field, START, steps=5, seed=1))
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match="either seed= or generator="):
        stochastic(field, START, seed=0, generator=generator)


def test_a_stochastic_step_costs_one_evaluation_and_never_asks_at_the_data():
    spy, counted = Spy(field), CountedField(field)
    points = stochastic(counted, START, steps=9, seed=0, return_path=True)
    assert points.shape == (10, 4, 2)
    assert torch.equal(points[0], START)
    assert torch.equal(points[-1], stochastic(spy, START, steps=9, seed=0))
    assert counted.count == 9
    stochastic(counted, START, seed=0)
    assert counted.count == 9 + 100
    torch.testing.assert_close(torch.stack(spy.times)[:, 0], torch.arange(9, dtype=F64) / 9)


@pytest.mark.parametrize("shape", [(5,), (3, 2), (2, 1, 4, 4)])
def test_the_stochastic_sampler_takes_any_shape_and_records_nothing(shape):
    x0 = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    x1 = stochastic(lambda x, t: -x, x0, steps=3, seed=0)
    assert x1.shape == shape
    assert x1.dtype == torch.float32
    assert not x1.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_times_of_the_stochastic_sampler_have_the_dtype_of_the_points(dtype):
    seen = set()

    def diffusion(t):
        seen.add((t.dtype, t.shape))
        return 0.1

    spy = Spy(lambda x, t: x)
    sample_stochastic(spy, START.to(dtype), score=lambda v, x, t: x, diffusion=diffusion, seed=0)
    assert {t.dtype for t in spy.times} == {dtype}
    assert seen == {(dtype, ())}


def test_one_diffusion_a_point_is_refused():
    with pytest.raises(ValueError, match="diffusion must be finite and at least 0"):
        stochastic(field, START, lambda t: torch.ones(4, 1, dtype=F64), seed=0)
    with pytest.raises(ValueError, match="diffusion must be finite and at least 0"):
        stochastic(field, START[:1], lambda t: torch.ones(1, dtype=F64), seed=0)


@pytest.mark.parametrize("g", [-0.1, math.inf, math.nan])
def test_a_bad_diffusion_is_refused(g):
    with pytest.raises(ValueError, match=r"diffusion must be finite and at least 0, but g\(0\) ="):
        stochastic(field, START, lambda t: g, seed=0)


def test_the_stochastic_sampler_refuses_what_sample_refuses_and_the_way_back():
    with pytest.raises(ValueError, match=r"to the data, but times 1, 0\.5, 0 came"):
        stochastic(field, START, steps=2, t0=1.0, t1=0.0, seed=0)
    with pytest.raises(ValueError, match="to the data, but times 1, 0 came"):
        stochastic(field, START, steps=1, t0=1.0, t1=0.0, seed=0)
    with pytest.raises(ValueError, match="x0 must be finite"):
        stochastic(field, START / 0, seed=0)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        stochastic(field, START, steps=0, seed=0)
    with pytest.raises(TypeError, match="x0 must be floating point"):
        stochastic(field, START.long(), seed=0)
    with pytest.raises(ValueError, match=r"v\(x, t\) and x must have one shape"):
        stochastic(lambda x, t: x[:, 0], START, steps=2, seed=0)


# Conditions and groups.


@every_method
@pytest.mark.parametrize("size", [None, 1, 3, 100])
def test_each_row_keeps_its_condition_in_groups(method, size):
    rate = torch.tensor([[-1.0], [0.5], [0.2], [1.0]], dtype=F64)
    shift = torch.arange(8, dtype=F64).reshape(4, 2)

    def v(x, t, rate, shift):
        return rate * (x - shift)

    given = sample(v, START, cond=(rate, shift), method=method, steps=60, batch_size=size)
    expected = shift + rate.exp() * (START - shift)
    tolerance = 0.08 if method == "euler" else 1e-3
    torch.testing.assert_close(given, expected, rtol=tolerance, atol=tolerance)


def test_one_label_a_point_in_groups():
    torch.manual_seed(0)
    model, label = MLP(width=8, classes=4), torch.arange(4)
    x0 = START.float()
    one_by_one = torch.cat(
        [sample(model, x0[k : k + 1], cond=label[k : k + 1], steps=3) for k in range(4)]
    )
    torch.testing.assert_close(sample(model, x0, cond=label, batch_size=3, steps=3), one_by_one)
    for bad, message in ((label[:3], r"cond\[0\] must be \[4 ...\]"), (label[0], r"but \[\] came")):
        with pytest.raises(ValueError, match=message):
            sample(model, x0, cond=bad, batch_size=3)
    with pytest.raises(TypeError, match=r"cond\[0\] must be a torch.Tensor, but a int"):
        sample(model, x0, cond=(3,))


def test_the_stochastic_sampler_takes_conditions_and_a_projection():
    shift = torch.arange(8, dtype=F64).reshape(4, 2)
    given = sample_stochastic(
        lambda x, t, s: s - x, START, cond=shift, score=lambda v, x, t: x, diffusion=0.0, steps=40,
        project=lambda x: x.clamp(max=3),
    )  # fmt: skip
    expected = sample(lambda x, t: shift - x, START, steps=40, project=lambda x: x.clamp(max=3))
    torch.testing.assert_close(given, expected)
    assert given.max() == 3


# Precision.


@every_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_no_steps(method, dtype):
    seen = set()

    def v(x, t):
        seen.add((x.dtype, t.dtype))
        return torch.ones_like(x)

    x0 = torch.full((2, 1), 4.0, dtype=dtype)
    for steps in (10, 100, 400):
        end = sample(v, x0, method=method, steps=steps)
        assert end.dtype == dtype
        assert end.tolist() == [[5.0], [5.0]]
    assert seen == {(dtype, dtype)}
    path = sample(v, x0, method=method, steps=4, return_path=True)
    assert path[:, 0, 0].tolist() == [4.0, 4.25, 4.5, 4.75, 5.0]


def test_half_precision_loses_no_steps_of_the_stochastic_sampler():
    x0 = torch.full((2, 1), 4.0, dtype=torch.bfloat16)
    end = sample_stochastic(
        lambda x, t: torch.ones_like(x), x0, score=lambda v, x, t: x, diffusion=0.0, steps=400
    )
    assert end.tolist() == [[5.0], [5.0]]
    assert end.dtype == torch.bfloat16


@pytest.mark.parametrize("method", [*METHODS, None])  # None: the stochastic one
def test_a_field_answers_in_the_half_precision_that_it_is_asked_in(method):
    def solve(v):
        if method is not None:
            return sample(v, START.bfloat16(), method=method, steps=2)
        x0 = START.bfloat16()
        return sample_stochastic(v, x0, score=lambda v, x, t: x, diffusion=0.0, steps=2)

    assert solve(lambda x, t: x).dtype == torch.bfloat16
    with pytest.raises(TypeError, match=r"v\(x, t\) is torch.float32 and x is torch.bfloat16"):
        solve(lambda x, t: x.float())


def test_dtypes_that_differ_are_named():
    for call in (
        lambda v: sample(v, START),
        lambda v: sample_stochastic(v, START, score=lambda v, x, t: x, diffusion=0.1),
    ):
        with pytest.raises(TypeError, match=r"weights are torch.float32, but x0 is torch.float64"):
            call(MLP())


# What a field may do with its memory, and what it must return.


@every_method
def test_a_field_may_reuse_the_memory_of_its_result(method):
    buffer = torch.empty_like(START)

    def reusing(x, t):
        return buffer.copy_(field(x, t))

    expected = sample(field, START, method=method, steps=8)
    assert torch.equal(sample(reusing, START, method=method, steps=8), expected)


@pytest.mark.parametrize("result", [None, (START, START), "x"], ids=str)
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_a_field_that_returns_no_tensor_is_refused(method, result):
    with pytest.raises(TypeError, match=r"v\(x, t\) must be a torch.Tensor, but a \w+ came"):
        sample(lambda x, t: result, START, method=method)


def test_the_shape_of_the_score_is_looked_at():
    for bad, error in ((lambda v, x, t: x[:, :1], ValueError), (lambda v, x, t: None, TypeError)):
        with pytest.raises(error, match=r"score\(v, x, t\)"):
            sample_stochastic(lambda x, t: x, START, score=bad, diffusion=1.0, steps=2)


# Arguments of another kind.


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": 1e3}, TypeError, "steps must be a whole number, but 1000.0 came, a float"),
        ({"steps": 0}, ValueError, "steps must be at least 1, but 0 came"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be a whole number"),
        ({"times": [0.0, 1.0], "steps": 100}, ValueError, "either times=, or steps=, t0= and t1="),
        ({"times": [0.0, 1.0], "t0": 0.0}, ValueError, "not both"),
        ({"times": [0.0, 1.0], "t1": 1.0}, ValueError, "not both"),
        ({"v": MLP}, TypeError, "the field must be called as v.x, t., but the class MLP came"),
        ({"v": 3}, TypeError, "the field must be called as v.x, t., but 3 came"),
    ],
)
def test_arguments_of_another_kind_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        sample(**({"v": field, "x0": START} | arguments))
    stochastic = {"score": lambda v, x, t: x, "diffusion": 0.1, "seed": 0}
    if "batch_size" not in arguments:
        with pytest.raises(error, match=message):
            sample_stochastic(**({"v": field, "x0": START} | stochastic | arguments))


def test_whole_numbers_and_constants_of_any_kind_will_do():
    sample(field, START, steps=np.int64(3), batch_size=np.int32(2))
    drawn = [
        sample_stochastic(
            field, START, score=lambda v, x, t: x, diffusion=g, steps=3, seed=np.int64(3)
        )
        for g in (0.5, lambda t: 0.5, lambda t: torch.tensor(0.5))
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    with pytest.raises(TypeError, match=r"score must be a function score\(v, x, t\)"):
        sample_stochastic(field, START, score=None, diffusion=0.5)
    with pytest.raises(TypeError, match=r"seed must be a whole number, but 0\.5 came"):
        sample_stochastic(field, START, score=lambda v, x, t: x, diffusion=0.5, seed=0.5)


def test_times_that_were_added_up_are_good_enough():
    added, t = [0.0], 0.0
    for _ in range(1000):
        t += 0.001
        added.append(t)
    assert added[-1] > 1
    given = sample(field, START, times=added, method="rk4")
    torch.testing.assert_close(given, solution(START, 1.0), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match=r"but 0, 1\.00002 came"):
        sample(field, START, times=[0.0, 1.00002])


# dopri5 says why it cannot go on, and keeps no more than it returns.


@pytest.mark.parametrize(
    ("v", "near", "cause"),
    [
        (lambda x, t: x / (1 - t)[:, None], 1.0, "singular or stiff"),
        (lambda x, t: x / (0.5 - t).abs()[:, None], 0.5, "singular or stiff"),
        (lambda x, t: torch.where(t[:, None] > 0.9, torch.nan, x), 0.95, "NaN or infinite"),
        (lambda x, t: torch.full_like(x, torch.inf), 0.0, "NaN or infinite"),
        (lambda x, t: -1e6 * (x - t[:, None].cos()), None, "singular or stiff"),
    ],
)
def test_dopri5_names_the_time_and_the_cause(v, near, cause, monkeypatch):
    monkeypatch.setattr(solvers, "_MOST_STEPS", 200)
    with pytest.raises(RuntimeError, match=rf"cannot go on near t = .*{cause}") as caught:
        sample(v, START, method="dopri5")
    if near is not None:
        told = float(str(caught.value).split("t = ")[1].split(":")[0])
        assert told == pytest.approx(near, abs=0.06)


def test_dopri5_keeps_no_times_that_nobody_asked_for(monkeypatch):
    import torchdiffeq

    asked = []
    odeint = torchdiffeq.odeint
    monkeypatch.setattr(
        torchdiffeq, "odeint", lambda f, x, t, **o: asked.append(len(t)) or odeint(f, x, t, **o)
    )
    last = sample(field, START, method="dopri5", steps=50)
    path = sample(field, START, method="dopri5", steps=50, return_path=True)
    assert asked == [2, 51]
    torch.testing.assert_close(last, path[-1], rtol=1e-5, atol=1e-5)


# An accelerator is never waited for.


@every_tableau
def test_nothing_is_read_back_from_an_accelerator(method):
    model, x0 = MLP(width=8, classes=3).to("meta"), torch.empty(6, 2, device="meta")
    label = torch.empty(6, dtype=torch.long, device="meta")
    settings = {"cond": label, "method": method, "steps": 3, "return_path": True}
    assert sample(model, x0, **settings, batch_size=4).shape == (4, 6, 2)
    half = sample(model.bfloat16(), x0.bfloat16(), **settings)
    assert half.dtype == torch.bfloat16


def test_the_stochastic_sampler_reads_nothing_back_either():
    model, x0 = MLP(width=8).to("meta"), torch.empty(6, 2, device="meta")
    for diffusion in (0.3, lambda t: (1 - t).sqrt()):
        end = sample_stochastic(
            model, x0, score=CondOT(0.1).score_from_velocity, diffusion=diffusion, steps=3
        )
        assert end.shape == (6, 2)


class WithoutFloat64(TorchDispatchMode):
    """Fails where a number in double precision is made, as on a device that has none."""

    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        result = f(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            assert not isinstance(value, torch.Tensor) or value.dtype != F64, f"{f} makes float64"
        return result


def test_dopri5_needs_no_double_precision_on_the_device():
    grid = torch.linspace(0, 1, 3)
    with WithoutFloat64():
        path = solvers._dopri5(field, START.float(), grid, 1e-5, 1e-5)
    torch.testing.assert_close(path[-1], solution(START, 1.0).float(), atol=1e-3, rtol=0)

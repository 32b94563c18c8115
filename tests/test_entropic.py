"""Entropic plans: the marginals, the form, the judge of a linear program, and what is refused."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from fmtutor.couplings import sinkhorn
from fmtutor.data import moons, standard_normal
from fmtutor.entropic import entropic_plan, unbalanced_plan

F64 = torch.float64


def clouds(n=40, m=30):
    return standard_normal(n, seed=0, dtype=F64), 2 * standard_normal(m, seed=1, dtype=F64) + 1


def cost(x, y):
    return torch.cdist(x, y).square()


@pytest.mark.parametrize("epsilon", [0.3, 5.0, 300.0])
@pytest.mark.parametrize("sizes", [(40, 30), (30, 40), (1, 5), (7, 7)], ids=str)
def test_the_marginals_hold_and_the_plan_has_the_form_of_two_potentials(epsilon, sizes):
    x, y = clouds(*sizes)
    plan = entropic_plan(x, y, epsilon, tol=1e-9)
    n, m = sizes
    torch.testing.assert_close(plan.sum(1), torch.full((n,), 1 / n, dtype=F64), rtol=1e-12, atol=0)
    assert (plan.sum(0) - 1 / m).abs().sum() <= 1e-9
    # log P + c/ε is a sum of a function of the row and one of the column, where P is no rounding.
    potential = plan.log() + cost(x, y) / epsilon
    mixed = potential - potential[:1] - potential[:, :1] + potential[0, 0]
    seen = (plan > 1e-200) & (plan[:1] > 1e-200) & (plan[:, :1] > 1e-200) & (plan[0, 0] > 1e-200)
    assert mixed[seen].abs().max() < 1e-7


def test_it_minimises_what_it_says():
    x, y = clouds(6, 5)
    epsilon = 10.0
    plan = entropic_plan(x, y, epsilon, tol=1e-12)

    def objective(p):
        return float((p * cost(x, y)).sum() + epsilon * (p * p.log()).sum())

    g = torch.Generator().manual_seed(2)
    for _ in range(20):  # directions that keep rows and columns
        step = torch.randn(6, 5, generator=g, dtype=F64)
        step = step - step.mean(0) - step.mean(1, keepdim=True) + step.mean()
        step = 0.1 * plan.min() * step
        assert objective(plan + step) > objective(plan)
        assert objective(plan - step) > objective(plan)


def test_without_entropy_it_is_the_optimum_of_the_linear_program():
    x, y = clouds(9, 6)
    rows = np.kron(np.eye(9), np.ones(6))
    columns = np.kron(np.ones(9), np.eye(6))
    best = linprog(
        cost(x, y).flatten().numpy(), A_eq=np.vstack([rows, columns]),
        b_eq=np.concatenate([np.full(9, 1 / 9), np.full(6, 1 / 6)]),
    ).fun  # fmt: skip
    for epsilon in (0.5, 0.1):
        plan = entropic_plan(x, y, epsilon, tol=1e-8)
        more = float((plan * cost(x, y)).sum()) - best
        # The entropy of a plan is at most log(nm): the cost is off by no more than ε times that.
        assert -1e-7 < more < epsilon * math.log(54)


def test_much_entropy_makes_pairs_independent():
    plan = entropic_plan(*clouds(), 1e7)
    torch.testing.assert_close(plan, torch.full_like(plan, 1 / 1200), rtol=1e-4, atol=0)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_the_unit_of_the_points_does_not_matter(scale):
    x, y = clouds()
    plan = entropic_plan(scale * x, scale * y, 0.5 * scale**2, tol=1e-9)
    torch.testing.assert_close(plan, entropic_plan(x, y, 0.5, tol=1e-9), rtol=1e-6, atol=1e-12)


def test_an_epsilon_far_below_the_costs_does_not_underflow():
    x, y = clouds(20, 20)
    plan = entropic_plan(x, y, 1e-3, tol=1e-2)
    assert plan.isfinite().all()
    assert cost(x, y).max() / 1e-3 > 5000  # exp(−c/ε) itself is 0 in float64


def test_points_that_coincide_and_pictures_will_do():
    x = torch.zeros(4, 1, 3, 3)
    torch.testing.assert_close(entropic_plan(x, x, 1.0), torch.full((4, 4), 1 / 16, dtype=F64))


@pytest.mark.parametrize("most", [1, 11, 12, 34])
def test_what_has_not_converged_is_refused_with_what_to_do(most):
    x, y = clouds(50, 50)
    told = rf"not converged: after {most} iterations the columns' error is \d.* take a larger"
    with pytest.raises(RuntimeError, match=told):
        entropic_plan(x, y, 1e-3, tol=1e-12, most=most)


@pytest.mark.parametrize(
    ("arguments", "settings", "text"),
    [
        ((torch.zeros(2, 2), torch.zeros(2, 3), 1.0), {}, "points of one shape"),
        ((torch.zeros(2, 2), torch.zeros(2, 2), 0.0), {}, "epsilon must be positive and finite"),
        ((torch.zeros(2, 2), torch.zeros(2, 2), math.inf), {}, "epsilon must be positive"),
        ((torch.zeros(2, 2), torch.full((2, 2), math.nan), 1.0), {}, "x1 must be finite"),
        ((torch.zeros(2, 2), torch.zeros(2, 2), 1.0), {"tol": 0.0}, "tol must be positive"),
        ((torch.zeros(2, 2), torch.zeros(2, 2), 1.0), {"tol": math.inf}, "tol must be positive"),
        ((torch.zeros(2, 2), torch.zeros(2, 2), 1.0), {"most": 0}, "most must be at least 1"),
        ((torch.zeros(2, 2), torch.full((2, 2), 1e200, dtype=F64), 1.0), {}, "distances overflow"),
    ],
)
def test_bad_input_is_refused(arguments, settings, text):
    with pytest.raises(ValueError, match=text):
        entropic_plan(*arguments, **settings)


# Mass that is made or lost.


def test_an_unbalanced_plan_satisfies_its_conditions():
    x, y = clouds(8, 6)
    epsilon, reach = 0.4, 1.5
    plan = unbalanced_plan(x, y, epsilon, reach, tol=1e-10)

    def objective(p):
        a, b = torch.full((8,), 1 / 8, dtype=F64), torch.full((6,), 1 / 6, dtype=F64)
        kl = lambda p, q: (p * (p / q).log() - p + q).sum()  # noqa: E731
        return (
            (p * cost(x, y)).sum() + epsilon * kl(p, a[:, None] * b)
            + reach * (kl(p.sum(1), a) + kl(p.sum(0), b))
        )  # fmt: skip

    p = plan.clone().requires_grad_()
    (slope,) = torch.autograd.grad(objective(p), p)
    assert slope.abs().max() < 1e-9


def test_a_far_reach_prescribes_the_marginals_again():
    x, y = clouds(8, 6)
    torch.testing.assert_close(
        unbalanced_plan(x, y, 0.4, 1e5, tol=1e-4), entropic_plan(x, y, 0.4, tol=1e-10),
        rtol=2e-3, atol=1e-9,
    )  # fmt: skip


def test_an_unbalanced_plan_is_as_near_to_its_conditions_as_it_says_or_an_error():
    x, y = clouds(8, 6)
    exact = unbalanced_plan(x, y, 0.4, 30.0, tol=1e-12)
    last = 1.0
    for tol in (1e-2, 1e-5):
        off = (unbalanced_plan(x, y, 0.4, 30.0, tol=tol) / exact - 1).abs().max()
        assert 0 < off < min(last, 100 * tol)
        last = float(off)
    with pytest.raises(RuntimeError, match=r"after 3 rounds the rows' error is .*, above tol"):
        unbalanced_plan(x, y, 0.4, 30.0, most=3)
    with pytest.raises(ValueError, match="tol must be positive"):
        unbalanced_plan(x, y, 0.4, 30.0, tol=0.0)


@pytest.mark.parametrize("reach", [0.0, -1.0, math.inf])
def test_a_bad_reach_is_refused(reach):
    with pytest.raises(ValueError, match="reach must be positive and finite"):
        unbalanced_plan(*clouds(), 1.0, reach)


# The coupling.


def test_the_coupling_draws_from_the_rows_of_the_plan(global_rng_untouched):
    x0, x1 = clouds(3, 3)
    coupling, counts = sinkhorn(2.0, seed=0), torch.zeros(3, 3, dtype=F64)
    number = torch.arange(3)
    for _ in range(4000):
        y0, y1, order = coupling(x0, x1, number)
        assert torch.equal(y0, x0)
        assert torch.equal(y1, x1[order])
        counts[number, order] += 1
    plan = entropic_plan(x0, x1, 2.0)
    error = (counts / 12_000 - plan).abs() / (plan / 12_000).sqrt()
    assert error.max() < 4


def test_the_coupling_is_seeded_and_says_when_it_does_not_converge():
    x0, x1 = moons(50, seed=0), moons(50, seed=1)
    first, again, other = (sinkhorn(0.5, seed=k)(x0, x1)[1] for k in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(ValueError, match="epsilon must be positive"):
        sinkhorn(-1.0)(x0, x1)
    with pytest.raises(ValueError, match=r"cond\[0\] must be \[50"):
        sinkhorn(1.0)(x0, x1, torch.zeros(3))

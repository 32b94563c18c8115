"""Laws on sequences of tokens: the theorems of the chapter, to the last digit."""

import pytest
import torch
from torch.autograd.functional import jacobian

from fmtutor.finite_law import FiniteLaw, product_of_marginals, total_variation
from fmtutor.jumps import sample_tokens
from fmtutor.paths import CosineSchedule, MixturePath, Power

PATHS = [
    MixturePath(5, masked, schedule)
    for masked in (True, False)
    for schedule in (Power(), Power(2.0), CosineSchedule())
]
F64 = torch.float64


def table(k=5, n=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand([k] * n, generator=g, dtype=F64) ** 3


LAW = FiniteLaw(table())


def law_and_change(law, path, t):
    t = torch.tensor(t, dtype=F64)
    return law.at(path, t).flatten(), jacobian(lambda t: law.at(path, t).flatten(), t)


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("renewal", [0.0, 1.7])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_marginal_rates_carry_the_marginal_law(path, renewal, n):
    path = MixturePath(3, path.masked, path.schedule)
    law = FiniteLaw(table(3, n))
    p, change = law_and_change(law, path, 0.37)
    rates = law.generator(path, 0.37, renewal=renewal)
    assert (p @ rates - change).abs().max() < 1e-14
    assert rates.sum(1).abs().max() < 1e-12
    assert change.abs().max() > 1e-3


def test_other_rates_do_not():
    path = PATHS[0]
    p, change = law_and_change(LAW, path, 0.37)
    wrong = FiniteLaw(table(seed=1)).generator(path, 0.37)
    assert (p @ wrong - change).abs().max() > 1e-3


def test_the_chain_of_the_matrix_exponential_ends_at_the_law():
    path, steps = PATHS[3], 400
    p = LAW.at(path, 0.0).flatten()
    for k in range(steps - 1):
        p = p @ torch.matrix_exp(LAW.generator(path, (k + 0.5) / steps) / steps)
    assert total_variation(p, LAW.at(path, 1 - 1 / steps).flatten()) < 1e-4


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_the_law_goes_from_the_source_to_the_data(path):
    first, last = LAW.at(path, 0.0), LAW.at(path, 1.0)
    source = path.source()
    torch.testing.assert_close(first, torch.outer(source, source))
    assert total_variation(LAW.table, last) < 1e-15
    assert LAW.at(path, 0.4).sum() == pytest.approx(1, abs=1e-14)


def test_the_law_is_that_of_the_paths_draws():
    path, g = MixturePath(5, masked=False), torch.Generator().manual_seed(0)
    x1 = LAW.sample(40_000, generator=g)
    xt = path.sample(path.noise(x1, g), x1, 0.6, generator=g).xt
    assert total_variation(counted(xt, 5), LAW.at(path, 0.6)) < 0.012


def counted(x, states):
    ones = torch.ones(len(x), dtype=F64)
    return torch.zeros([states] * x.shape[1], dtype=F64).index_put_(
        tuple(x.T), ones, accumulate=True
    ) / len(x)


@pytest.mark.parametrize("masked", [True, False])
def test_the_posterior_is_bayes_rule(masked):
    path, t = MixturePath(5, masked), torch.tensor([0.3], dtype=F64)
    x = torch.tensor([[2, 4 + masked]])
    every = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    likelihood = path.law(every, t.expand(25)).gather(2, x.expand(25, 2).unsqueeze(-1)).prod(1)
    joint = (LAW.table.flatten() * likelihood.squeeze(-1)).view(5, 5)
    joint = joint / joint.sum()
    told = LAW.posterior(path)(x, t).exp()[0]
    torch.testing.assert_close(told[0], joint.sum(1))
    torch.testing.assert_close(told[1], joint.sum(0))


def test_what_cannot_be_reached_is_known_nothing_of():
    equal = FiniteLaw(torch.eye(3))
    told = equal.posterior(MixturePath(3))(torch.tensor([[0, 1]]), torch.tensor([0.5]))
    torch.testing.assert_close(told.exp(), torch.full((1, 2, 3), 1 / 3, dtype=F64))


@pytest.mark.parametrize("schedule", [Power(), Power(2.0), CosineSchedule()], ids=str)
@pytest.mark.parametrize("n", [1, 4, 16])
def test_two_masked_tokens_err_by_the_formula(schedule, n):
    path, times = MixturePath(5, True, schedule), torch.linspace(0, 1, n + 1, dtype=F64)
    off = total_variation(LAW.table, product_of_marginals(LAW.table))
    step = schedule.kappa(times).diff().square().sum()
    found = total_variation(LAW.table, LAW.propagated(path, times))
    assert found / (off * step) == pytest.approx(1, abs=1e-12)
    assert off > 0.05


def test_plain_euler_leaves_masks_where_the_schedule_is_late():
    path, times = MixturePath(5, True, Power(2.0)), torch.linspace(0, 1, 5, dtype=F64)
    by = {m: LAW.propagated(path, times, method=m) for m in ("exact", "euler")}
    left = {m: 1 - law[:5, :5].sum().item() for m, law in by.items()}
    assert left["exact"] == pytest.approx(0, abs=1e-14)
    assert 0.1 < left["euler"] < 0.4


def test_renewal_mends_a_wrong_posterior_and_harms_a_right_one():
    path, times = MixturePath(5), torch.linspace(0, 1, 33, dtype=F64)
    tilted = FiniteLaw(LAW.table * torch.linspace(0.5, 1.5, 5, dtype=F64))

    def error(**more):
        return total_variation(LAW.table, LAW.propagated(path, times, **more)).item()

    assert error(renewal=4.0) > error()
    assert error(logits=tilted.posterior(path)) > 0.05


@pytest.mark.parametrize("path", [PATHS[0], PATHS[4]], ids=str)
@pytest.mark.parametrize("renewal", [0.0, 2.0])
def test_the_sampler_draws_from_the_propagated_law(path, renewal):
    x0 = path.noise(torch.zeros(40_000, 2, dtype=torch.long), torch.Generator().manual_seed(1))
    drawn = sample_tokens(LAW.posterior(path), x0, path, steps=3, seed=0, renewal=renewal)
    exact = LAW.propagated(path, torch.linspace(0, 1, 4, dtype=F64), renewal=renewal)
    assert total_variation(counted(drawn, path.states), exact) < 0.012
    assert total_variation(exact, LAW.at(path, 1.0)) > 0.02


def test_samples_of_a_law_are_as_likely_as_it_says():
    drawn = LAW.sample(40_000, generator=torch.Generator().manual_seed(0))
    assert total_variation(counted(drawn, 5), LAW.table) < 0.012


def test_the_marginals_of_a_product_are_those_of_the_table():
    three = FiniteLaw(table(3, 3)).table
    product = product_of_marginals(three)
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        torch.testing.assert_close(product.sum(others), three.sum(others))
    assert product_of_marginals(torch.tensor([0.25, 0.75])).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FiniteLaw(torch.ones(2, 3)), r"table must have shape \[k ... k\], but \[2, 3\]"),
        (lambda: FiniteLaw(torch.ones(1)), r"table must have shape \[k ... k\], but \[1\] came"),
        (lambda: FiniteLaw(-torch.ones(2)), "table must hold probabilities"),
        (lambda: FiniteLaw(torch.zeros(2)), "table must hold probabilities"),
        (lambda: FiniteLaw(torch.full((2,), torch.nan)), "table must be finite"),
        (lambda: LAW.at(MixturePath(4), 0.5), "the path has 4 tokens, but the law 5"),
        (lambda: LAW.generator(MixturePath(4), 0.5), "the path has 4 tokens, but the law 5"),
        (
            lambda: FiniteLaw(torch.ones([2] * 8)).generator(MixturePath(2), 0.5),
            r"at most 4096 states can be looked at, but 3\^8 came",
        ),
        (lambda: total_variation(torch.ones(3), torch.ones(2)), "laws must fit each other"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

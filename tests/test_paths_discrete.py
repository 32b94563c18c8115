"""The mixture path of tokens: its draws, its law, its rates, what it refuses."""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch.autograd.functional import jacobian

from fmtutor.checking import check_tokens
from fmtutor.paths import CosineSchedule, MixturePath, Power

SCHEDULES = [Power(), Power(2.0), Power(0.5), CosineSchedule()]
X1 = torch.tensor([[0, 3, 1], [2, 2, 0]])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_schedule_rises_from_0_to_1_as_its_derivative_and_inverse_say(schedule):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    kappa = schedule.kappa(t)
    assert kappa[0] == pytest.approx(0, abs=1e-15)
    assert kappa[-1] == 1
    assert (kappa.diff() > 0).all()
    inner = t[1:]
    slope = jacobian(lambda t: schedule.kappa(t).sum(), inner)
    torch.testing.assert_close(schedule.d_kappa(inner), slope, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(schedule.time_of(kappa[1:]), inner, rtol=1e-7, atol=1e-7)
    assert schedule.kappa(0.5).dtype == torch.float32


@pytest.mark.parametrize("exponent", [0.0, -1.0, math.inf, math.nan])
def test_a_schedule_that_does_not_rise_is_refused(exponent):
    with pytest.raises(ValueError, match="exponent must be positive and finite"):
        Power(exponent)


@pytest.mark.parametrize(
    "kappa",
    [
        lambda t: 1 - t,
        lambda t: t / 2,
        lambda t: 0.5 + t / 2,
        lambda t: t + 0.2 * torch.sin(4 * math.pi * t),
        lambda t: (2 * t).clamp(max=1),
        lambda t: t + math.nan,
    ],
)
def test_a_path_refuses_a_schedule_that_does_not_rise_to_one(kappa):
    schedule = type("Own", (), {"kappa": staticmethod(kappa), "d_kappa": 0, "time_of": 0})()
    with pytest.raises(ValueError, match="the schedule must rise from 0 to 1"):
        MixturePath(4, schedule=schedule)


@pytest.mark.parametrize("schedule", [Power(0.1), Power(30.0), CosineSchedule()])
def test_a_path_takes_any_schedule_that_rises(schedule):
    assert MixturePath(4, schedule=schedule).schedule == schedule


@pytest.mark.parametrize("change", [{"schedule": "cosine"}, {"schedule": Power}, {"masked": 2}])
def test_a_path_refuses_what_is_no_schedule(change):
    with pytest.raises(TypeError, match=next(iter(change))):
        MixturePath(4, **change)


def test_what_is_told_of_a_token_that_is_seen_is_not_asked():
    told = torch.full((2, 3, 4), math.nan)
    assert torch.equal(MixturePath(4).posterior(told, X1).argmax(-1), X1)


def test_a_rate_without_a_limit_at_the_start_is_refused():
    path = MixturePath(4, schedule=Power(0.5))
    with pytest.raises(ValueError, match="the rate is infinite"):
        path.rate(X1, P, 0.0)
    assert path.rate(X1, P, 0.1).isfinite().all()


def test_a_mask_is_one_token_more():
    path = MixturePath(4)
    assert path.states == 5
    assert path.noise(X1).tolist() == [[4] * 3] * 2
    assert path.source().tolist() == [0, 0, 0, 0, 1]
    with pytest.raises(FrozenInstanceError):
        path.tokens = 3


def test_a_uniform_source_draws_all_tokens_alike():
    path = MixturePath(4, masked=False)
    drawn = path.noise(torch.zeros(2000, 10, dtype=torch.long), generator())
    assert path.states == 4
    shares = torch.bincount(drawn.flatten(), minlength=4) / drawn.numel()
    assert (shares - 0.25).abs().max() < 0.01
    assert path.source().tolist() == [0.25] * 4
    assert torch.equal(drawn, path.noise(torch.zeros(2000, 10, dtype=torch.long), generator()))


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_tokens_are_the_datas_with_probability_kappa(masked, schedule):
    path = MixturePath(4, masked, schedule)
    x1 = X1.repeat(20_000, 1)
    x0 = path.noise(x1, generator())
    t = torch.tensor([0.3, 0.8]).repeat(20_000)
    s = path.sample(x0, x1, t, generator=generator(1))
    assert torch.equal(s.ut, x1)
    assert torch.equal(s.t, t)
    assert ((s.xt == x1) | (s.xt == x0)).all()
    law = path.law(X1, torch.tensor([0.3, 0.8]))
    for row in range(2):
        for place in range(3):
            counts = torch.bincount(s.xt[row::2, place], minlength=path.states)
            assert (counts / 20_000 - law[row, place]).abs().max() < 0.015


def test_the_ends_of_the_path_are_its_ends():
    path = MixturePath(4, masked=False)
    x0 = path.noise(X1, generator())
    assert torch.equal(path.sample(x0, X1, 0.0).xt, x0)
    assert torch.equal(path.sample(x0, X1, 1.0).xt, X1)


@pytest.mark.parametrize("renewal", [0.0, 1.7])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_the_conditional_rate_carries_the_conditional_law(masked, schedule, renewal):
    path, x1 = MixturePath(4, masked, schedule), torch.tensor([[2]])
    t = torch.tensor([0.37], dtype=torch.float64)
    law = path.law(x1, t)[0, 0]
    change = jacobian(lambda t: path.law(x1, t)[0, 0], t).squeeze(-1)
    every = torch.arange(path.states).unsqueeze(1)
    known = torch.nn.functional.one_hot(torch.tensor(2), 4).double().expand(len(every), 1, 4)
    rates = path.rate(every, known, t.expand(len(every)), renewal=renewal)[:, 0]
    torch.testing.assert_close(law @ rates, change, rtol=1e-12, atol=1e-12)
    assert rates.sum(1).abs().max() < 1e-12
    off = rates - rates.diag().diag()
    assert (off >= 0).all()
    assert bool(rates.diag().min() < -0.5)


def test_renewal_jumps_back_to_the_mask():
    path = MixturePath(4)
    known = torch.nn.functional.one_hot(torch.tensor([[2]]), 4).double()
    still, anew = (path.rate(torch.tensor([[2]]), known, 0.25, renewal=r)[0, 0] for r in (0.0, 2.0))
    assert still.tolist() == [0] * 5
    assert anew[4] == pytest.approx(2 * 0.75)


def test_a_posterior_leaves_known_tokens_alone():
    path, x = MixturePath(3), torch.tensor([[3, 1]])
    p = path.posterior(torch.zeros(1, 2, 3), x)
    assert p.dtype == torch.float64
    torch.testing.assert_close(p[0, 0], torch.full((3,), 1 / 3, dtype=torch.float64))
    assert p[0, 1].tolist() == [0, 1, 0]
    free = MixturePath(3, masked=False).posterior(torch.zeros(1, 2, 3), torch.tensor([[0, 1]]))
    torch.testing.assert_close(free, torch.full((1, 2, 3), 1 / 3, dtype=torch.float64))


P = torch.full((2, 3, 4), 0.25, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: MixturePath(1), ValueError, "tokens must be at least 2, but 1 came"),
        (lambda p: p.noise(X1.float()), TypeError, "x1 must be tokens of dtype int64, but torch.f"),
        (lambda p: p.noise(X1 + 1), ValueError, "x1 must hold tokens 0, ..., 3, but 4 came"),
        (lambda p: p.noise(X1 - 1), ValueError, "x1 must hold tokens 0, ..., 3, but -1 came"),
        (lambda p: p.sample(X1 + 2, X1, 0.5), ValueError, "x0 must hold tokens 0, ..., 4, but 5"),
        (lambda p: p.sample(X1[:, :2], X1, 0.5), ValueError, "x0"),
        (lambda p: p.sample(X1, X1, 1.5), ValueError, "t must lie in"),
        (lambda p: p.rate(X1, P[..., :3], 0.5), ValueError, "posterior must have shape"),
        (lambda p: p.rate(X1, P, 1.0), ValueError, "the rate has no limit where κ"),
        (lambda p: p.rate(X1, P, 0.5, renewal=-1.0), ValueError, "renewal must be at least 0"),
        (lambda p: p.rate(X1, P, 0.5, renewal=math.inf), ValueError, "renewal must be at least 0"),
        (lambda p: p.posterior(P[0], X1), ValueError, r"logits must have shape \[2, 3, 4\]"),
        (lambda p: p.posterior(P * math.nan, p.noise(X1)), ValueError, "logits .* at 6 of 6"),
        (lambda p: p.posterior(P * 0 - math.inf, p.noise(X1)), ValueError, "logits .* at 6 of 6"),
        (lambda p: p.law(X1 + 1, 0.5), ValueError, "x1 must hold tokens"),
        (lambda p: check_tokens([1], 3), TypeError, "x must be a torch.Tensor"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(MixturePath(4))

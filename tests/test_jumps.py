"""Sampling tokens: the kernel, the chain, infilling, guidance, the bound in bits."""

import math

import pytest
import torch

from fmtutor import cfm_loss, guided
from fmtutor.finite_law import FiniteLaw
from fmtutor.jumps import (
    bits_bound,
    bits_loss,
    bits_of_orders,
    cross_entropy,
    draw,
    jump_kernel,
    only_masked,
    sample_in_random_order,
    sample_tokens,
)
from fmtutor.paths import MixturePath, Power

PATH = MixturePath(4)
X0 = PATH.noise(torch.zeros(6, 3, dtype=torch.long))


def knows(*tokens):
    """A network that is sure of each place's token, whatever it sees."""
    p = torch.nn.functional.one_hot(torch.tensor(tokens), 4).float().log()
    return lambda x, t: p.expand(*x.shape, 4)


def undecided(x, t):
    return torch.zeros(*x.shape, 4)


def one_more(x, t):
    """A logit for the mask, too."""
    return torch.zeros(*x.shape, 5)


def test_rare_tokens_are_drawn_as_often_as_they_should():
    p = torch.tensor([1 - 1e-3, 1e-3 - 1e-9, 1e-9, 0.0]).expand(400_000, -1)
    counts = torch.bincount(draw(p, torch.Generator().manual_seed(0)), minlength=4)
    assert counts[3] == 0
    assert counts[2] <= 1
    assert abs(counts[1].item() - 400) < 80


def test_a_law_that_does_not_add_up_to_one_is_scaled():
    drawn = draw(torch.tensor([1.0, 3.0]).expand(40_000, -1), torch.Generator().manual_seed(0))
    assert drawn.double().mean() == pytest.approx(0.75, abs=0.01)
    assert torch.equal(draw(torch.tensor([[0.0, 5.0, 0.0]] * 1000)), torch.ones(1000).long())


def test_the_exact_step_is_what_constant_beliefs_come_to():
    path = MixturePath(4, masked=False, schedule=Power(2.0))
    x, p = torch.tensor([[1]]), torch.tensor([[[0.1, 0.2, 0.3, 0.4]]], dtype=torch.float64)
    whole = jump_kernel(path, x, p, 0.2, 0.9)
    law = torch.nn.functional.one_hot(x, 4).double()[0, 0]
    for k in range(2000):
        t = 0.2 + 0.7 * (k + 0.5) / 2000
        pace = path.schedule.d_kappa(torch.tensor(t, dtype=torch.float64))
        pace = pace / (1 - path.schedule.kappa(torch.tensor(t, dtype=torch.float64)))
        share = -torch.expm1(-pace * 0.7 / 2000)
        law = (1 - share) * law + share * p[0, 0]
    torch.testing.assert_close(whole[0, 0], law, rtol=0, atol=1e-6)
    assert whole.sum() == pytest.approx(1)


def test_eulers_step_is_the_rate_times_the_step():
    x, p = torch.tensor([[4]]), torch.tensor([[[0.1, 0.2, 0.3, 0.4]]], dtype=torch.float64)
    for renewal in (0.0, 1.5):
        euler = jump_kernel(PATH, x, p, 0.2, 0.2 + 1e-6, method="euler", renewal=renewal)
        rate = PATH.rate(x, p, 0.2, renewal=renewal)
        here = torch.nn.functional.one_hot(x, 5)
        torch.testing.assert_close((euler - here) / 1e-6, rate, rtol=1e-4, atol=1e-4)
    late = jump_kernel(PATH, x, p, 0.9, 1.0, method="euler")
    assert late[0, 0].min() >= 0


def test_renewal_puts_a_share_of_the_tokens_back():
    x, p = torch.tensor([[2]]), torch.nn.functional.one_hot(torch.tensor([[2]]), 4).double()
    kernel = jump_kernel(PATH, x, p, 0.2, 0.6, renewal=3.0)[0, 0]
    assert kernel[4] == pytest.approx((1 - math.exp(-3 * 0.4)) * (1 - 0.6))
    assert kernel[2] == pytest.approx(1 - kernel[4].item())
    assert jump_kernel(PATH, x, p, 0.2, 1.0, renewal=3.0)[0, 0, 4] == 0


@pytest.mark.parametrize("path", [PATH, MixturePath(4, masked=False)], ids=str)
@pytest.mark.parametrize("steps", [1, 7])
def test_a_network_that_knows_the_end_gets_there(path, steps):
    x0 = path.noise(torch.zeros(6, 3, dtype=torch.long), torch.Generator().manual_seed(0))
    assert sample_tokens(knows(2, 0, 3), x0, path, steps=steps).tolist() == [[2, 0, 3]] * 6


def test_tokens_appear_when_the_schedule_says():
    path = MixturePath(4, schedule=Power(2.0))
    x0 = path.noise(torch.zeros(20_000, 3, dtype=torch.long))
    passed = sample_tokens(undecided, x0, path, steps=4, return_path=True, seed=0)
    assert passed.shape == (5, 20_000, 3)
    shown = (passed != 4).double().mean((1, 2))
    assert (shown - torch.tensor([0, 1 / 16, 1 / 4, 9 / 16, 1]).double()).abs().max() < 0.01
    stays = passed[:-1] != 4
    assert torch.equal(passed[1:][stays], passed[:-1][stays])


def test_the_seed_decides_the_chain():
    first, same, other = (sample_tokens(undecided, X0, PATH, steps=3, seed=s) for s in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    g = torch.Generator().manual_seed(0)
    assert torch.equal(sample_tokens(undecided, X0, PATH, steps=3, generator=g), first)


def test_in_a_random_order_the_samples_have_the_law_of_the_data():
    g = torch.Generator().manual_seed(0)
    law = FiniteLaw(torch.rand(4, 4, 4, generator=g, dtype=torch.float64) ** 3)
    x0 = PATH.noise(torch.zeros(100_000, 3, dtype=torch.long))
    cells = law.table.flatten() * len(x0)
    squares = {}
    for calls in (3, 9, 2):
        x = sample_in_random_order(law.posterior(PATH), x0, PATH, calls=calls, seed=1)
        found = torch.bincount(x @ torch.tensor([16, 4, 1]), minlength=64)
        squares[calls] = ((found - cells) ** 2 / cells).sum().item()  # 63 ± 11.2
    assert 25 < squares[3] < 105
    assert 25 < squares[9] < 105
    assert squares[2] > 200  # two of three tokens do not see each other


def test_each_call_writes_as_many_and_any_place_may_be_the_first():
    seen = []

    def logits(x, t, label):
        seen.append((x == 4, t, label))
        return torch.zeros(*x.shape, 4)

    x0 = PATH.noise(torch.zeros(4000, 5, dtype=torch.long))
    x0[::2, 1] = 2
    label = torch.arange(4000)
    path = MixturePath(4, schedule=Power(2.0))
    x = sample_in_random_order(logits, x0, path, cond=label, calls=3, seed=0)
    assert (x[::2, 1] == 2).all()
    assert x.max() < 4
    hidden, times, labels = zip(*seen, strict=True)
    counts = [torch.unique(h.sum(1)[k::2]).tolist() for h in hidden for k in (0, 1)]
    assert counts == [[4], [5], [3], [4], [2], [2]]
    shares = [1 - h.double().mean(1) for h in hidden]
    torch.testing.assert_close(torch.stack(times).double() ** 2, torch.stack(shares))
    assert all(torch.equal(told, label) for told in labels)
    first = (hidden[0] & ~hidden[1]).double()
    torch.testing.assert_close(
        first[1::2].mean(0), torch.full((5,), 0.2).double(), atol=0.03, rtol=0
    )
    torch.testing.assert_close(
        first[::2].mean(0), torch.tensor([0.25, 0, 0.25, 0.25, 0.25]).double(), atol=0.03, rtol=0
    )


def test_a_call_for_each_mask_if_nothing_is_said():
    asked = []

    def logits(x, t):
        asked.append((x == 4).sum(1).tolist())
        return torch.zeros(*x.shape, 4)

    x0 = torch.tensor([[4, 4, 4], [4, 1, 4], [0, 1, 2]])
    x = sample_in_random_order(logits, x0, PATH, seed=0)
    assert asked == [[3, 2, 0], [2, 2, 0], [1, 1, 0]]
    assert x[1, 1] == 1
    assert x[2].tolist() == [0, 1, 2]
    assert torch.equal(sample_in_random_order(logits, x0[2:], PATH), x0[2:])
    first, same, other = (sample_in_random_order(undecided, X0, PATH, seed=s) for s in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_network_is_asked_for_a_time_for_each_sequence_and_told_conditions():
    seen = []

    def logits(x, t, label):
        seen.append((x.shape, t.tolist(), label.tolist()))
        return torch.zeros(*x.shape, 4)

    sample_tokens(logits, X0, PATH, steps=2, cond=torch.arange(6))
    assert seen == [(X0.shape, [0.0] * 6, [*range(6)]), (X0.shape, [0.5] * 6, [*range(6)])]


def test_given_tokens_stay():
    x0 = X0.clone()
    x0[:, 1] = 3
    fixed = torch.tensor([False, True, False])
    for mask in (fixed, fixed.expand(6, 3)):
        passed = sample_tokens(
            undecided, x0, PATH, steps=5, fixed=mask, renewal=5.0, return_path=True, seed=0
        )
        assert (passed[:, :, 1] == 3).all()
        assert len(passed[-1, :, 0].unique()) > 1


def test_guidance_multiplies_laws():
    told, free = torch.tensor([0.7, 0.1, 0.1, 0.1]), torch.tensor([0.4, 0.4, 0.1, 0.1])
    v = guided(
        lambda x, t: told.log().expand(*x.shape, 4),
        lambda x, t: free.log().expand(*x.shape, 4),
        2.0,
    )
    x0 = PATH.noise(torch.zeros(20_000, 1, dtype=torch.long))
    drawn = sample_tokens(v, x0, PATH, steps=1, seed=0)
    expected = told**2 / free
    shares = torch.bincount(drawn.flatten(), minlength=4) / 20_000
    assert (shares - expected / expected.sum()).abs().max() < 0.01


def test_the_loss_of_the_book_takes_tokens():
    x1 = torch.randint(4, (500, 3), generator=torch.Generator().manual_seed(0))
    p = torch.tensor([0.1, 0.2, 0.3, 0.4])

    def loss(**more):
        g = torch.Generator().manual_seed(1)
        return cfm_loss(
            lambda x, t: p.log().expand(*x.shape, 4),
            x1,
            path=PATH,
            noise=PATH.noise,
            distance=cross_entropy,
            generator=g,
            **more,
        ).item()

    assert loss() == pytest.approx(-p[x1].log().mean().item(), rel=1e-6)
    hidden = loss(target=only_masked(PATH))
    assert hidden == pytest.approx(-p[x1].log().mean().item(), rel=0.05)
    assert hidden != pytest.approx(loss(), rel=1e-6)


def test_the_loss_without_any_mask_is_zero():
    logits = torch.zeros(1, 2, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 2), -100))
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("schedule", [Power(), Power(2.0)], ids=str)
def test_the_bound_in_bits_is_reached_by_the_true_posterior(schedule):
    g = torch.Generator().manual_seed(0)
    law = FiniteLaw(torch.rand(4, 4, 4, generator=g, dtype=torch.float64) ** 3)
    path, x1 = MixturePath(4, schedule=schedule), law.sample(4000, generator=g)
    bits = bits_bound(law.posterior(path), x1, path, seed=1)
    exact = -law.table[tuple(x1.T)].log2()
    off = (bits - exact).mean() / (bits - exact).std() * len(x1) ** 0.5
    assert abs(off.item()) < 3
    many = bits_bound(law.posterior(path), x1[:200], path, draws=30, seed=1)
    assert (many - exact[:200]).abs().mean() < 0.35 * (bits - exact)[:200].abs().mean()


def test_by_the_true_posterior_every_order_gives_the_bits():
    g = torch.Generator().manual_seed(0)
    law = FiniteLaw(torch.rand(4, 4, 4, generator=g, dtype=torch.float64) ** 3)
    x1 = law.sample(200, generator=g)
    for orders in (1, 3):
        bits = bits_of_orders(law.posterior(PATH), x1, PATH, orders=orders, seed=1)
        torch.testing.assert_close(bits, -law.table[tuple(x1.T)].log2(), rtol=0, atol=1e-9)


def test_many_orders_give_the_bits_of_what_is_drawn():
    law, path = FiniteLaw(torch.tensor([[0.5, 0.1], [0.1, 0.3]])), MixturePath(2)

    def net(x, t):  # the two orders of writing disagree
        wrong = (x[:, :1] == 2) & (x[:, 1:] != 2)
        return law.posterior(path)(x, t) + wrong.unsqueeze(2) * torch.tensor([0.0, 3.0])

    x0 = path.noise(torch.zeros(400_000, 2, dtype=torch.long))
    drawn = sample_in_random_order(net, x0, path, seed=0)
    shares = torch.bincount(drawn @ torch.tensor([2, 1]), minlength=4) / len(drawn)
    x1 = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    many = bits_of_orders(net, x1, path, orders=4000, seed=0)
    torch.testing.assert_close((-many * math.log(2)).exp().float(), shares, rtol=0, atol=0.01)
    data = law.sample(20_000, generator=torch.Generator().manual_seed(0))
    one, two = (bits_of_orders(net, data, path, orders=k, seed=1).mean() for k in (1, 2))
    bound = bits_bound(net, data, path, draws=20, seed=0).mean()
    assert one.item() == pytest.approx(bound.item(), rel=0.01)
    limit = many[data @ torch.tensor([2, 1])].mean()
    assert limit + 0.01 < two < one - 0.01


def test_orders_are_told_the_share_of_masks_and_conditions():
    seen = []

    def logits(x, t, label):
        seen.append(((x != 4).double().mean(1).tolist(), (t**2).tolist(), label.tolist()))
        return torch.zeros(*x.shape, 4)

    path, x1 = MixturePath(4, schedule=Power(2.0)), torch.tensor([[0, 1, 2, 3]])
    bits = bits_of_orders(logits, x1, path, cond=torch.tensor([7]), orders=1, seed=0)
    assert bits.item() == pytest.approx(8)
    for k, (shares, times, label) in enumerate(seen):
        assert shares == [k / 4]
        assert times == pytest.approx(shares)
        assert label == [7]


def test_the_bound_of_a_wrong_network_is_larger_by_its_error():
    law = FiniteLaw(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    x1 = law.sample(100_000, generator=torch.Generator().manual_seed(0))
    bits = bits_bound(undecided, x1, PATH, seed=0)
    torch.testing.assert_close(bits, torch.full_like(bits, 2.0))


def test_the_loss_is_the_mean_of_the_bound_with_less_chance():
    law = FiniteLaw(torch.tensor([[0.3, 0.1, 0.0], [0.1, 0.1, 0.2], [0.0, 0.1, 0.1]]))
    path, g = MixturePath(3), torch.Generator().manual_seed(0)
    x1 = law.sample(64, generator=g)

    def net(x, t):  # is most mistaken where all is masked
        wrong = (x == 3).all(1).view(-1, 1, 1) * torch.tensor([0.0, 1.0, 3.0])
        return (law.posterior(path)(x, t).double() + wrong).clamp(min=-30)

    loss = bits_loss(path)
    found = torch.stack([loss(net, x1, generator=g) for _ in range(400)])
    alone = torch.stack([bits_bound(net, x1, path, seed=k).mean() for k in range(400)])
    expected = bits_bound(net, x1, path, draws=2000, seed=1).mean()
    assert abs(found.mean() - expected) < 4 * found.std() / 20
    assert found.std() < 0.9 * alone.std()


def test_the_loss_has_a_gradient_and_takes_conditions():
    scale = torch.ones(3, requires_grad=True)

    def net(x, t, label):
        return (scale * label.view(-1, 1, 1)).expand(*x.shape, 3)

    x1, g = torch.tensor([[0, 1], [2, 1]]), torch.Generator().manual_seed(0)
    loss = bits_loss(MixturePath(3))(net, x1, torch.tensor([1, 2]), generator=g)
    assert loss.item() == pytest.approx(2 * math.log2(3))
    (gradient,) = torch.autograd.grad(loss, scale)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x0": X0.float()}, TypeError, "x0 must be tokens of dtype int64"),
        ({"x0": X0 + 1}, ValueError, "x0 must hold tokens 0, ..., 4, but 5 came"),
        ({"steps": 0}, ValueError, "steps"),
        ({"steps": None, "times": [0.0, 0.5]}, ValueError, "times must rise to 1"),
        ({"steps": None, "times": [1.0, 0.0]}, ValueError, "times must rise to 1"),
        ({"method": "heun"}, ValueError, "method must be one of exact, euler, but 'heun' came"),
        ({"renewal": -1.0}, ValueError, "renewal must be at least 0 and finite, but -1.0 came"),
        ({"fixed": torch.ones(3)}, TypeError, "fixed must be a tensor of dtype bool"),
        ({"fixed": torch.ones(2, dtype=torch.bool)}, ValueError, "fixed must have shape"),
        ({"fixed": torch.ones(3, dtype=torch.bool)}, ValueError, "a fixed place holds the mask"),
        ({"logits": lambda x, t: torch.zeros(6, 3, 5)}, ValueError, "logits must have shape"),
        ({"logits": lambda x, t: torch.full((6, 3, 4), math.nan)}, ValueError, "18 of 18 places"),
        ({"logits": 3}, TypeError, "logits"),
        ({"path": None}, TypeError, "path must be a MixturePath, but NoneType came"),
        ({"fixed": [True] * 3}, TypeError, "fixed must be a tensor of dtype bool, but list came"),
        ({"cond": torch.zeros(4)}, ValueError, "cond"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    arguments = {"logits": undecided, "x0": X0, "path": PATH, "steps": 2} | change
    with pytest.raises(error, match=message):
        sample_tokens(
            arguments.pop("logits"), arguments.pop("x0"), arguments.pop("path"), **arguments
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cross_entropy(torch.zeros(2, 3, 4), torch.zeros(2, 4).long()), "logits must have"),
        (lambda: bits_bound(undecided, X0, PATH), "x1 must hold tokens 0, ..., 3, but 4 came"),
        (lambda: bits_bound(undecided, X0, MixturePath(5, masked=False)), "must be a masked one"),
        (lambda: bits_of_orders(undecided, X0, PATH), "x1 must hold tokens 0, ..., 3, but 4 came"),
        (
            lambda: bits_of_orders(undecided, torch.zeros(2, 3).long(), PATH, orders=0),
            "orders must be at least 1, but 0 came",
        ),
        (lambda: bits_loss(PATH)(undecided, X0), "x1 must hold tokens 0, ..., 3, but 4 came"),
        (lambda: bits_loss(MixturePath(5, masked=False)), "must be a masked one"),
        (
            lambda: sample_in_random_order(undecided, X0, MixturePath(5, masked=False)),
            "must be a masked one",
        ),
        (lambda: sample_in_random_order(undecided, X0 + 1, PATH), "x0 must hold tokens 0, ..., 4"),
        (lambda: sample_in_random_order(undecided, X0, PATH, calls=0), "calls must be at least 1"),
        (
            lambda: sample_in_random_order(lambda x, t: torch.zeros(6, 3, 5), X0, PATH),
            "logits must have shape",
        ),
        (lambda: draw(torch.full((1, 2), math.nan)), "p must be finite"),
        (lambda: draw(torch.tensor([[0.5, 0.5], [1.5, -0.5]])), "p must hold probabilities"),
        (lambda: draw(torch.tensor([[0.5, 0.5], [0.0, 0.0]])), "p must hold probabilities"),
        (lambda: jump_kernel(PATH, X0 + 1, torch.zeros(6, 3, 4), 0.0, 0.5), "x must hold tokens"),
        (lambda: jump_kernel(PATH, X0, torch.zeros(6, 3, 5), 0.0, 0.5), "posterior must have"),
        (lambda: only_masked(MixturePath(5, masked=False)), "must be a masked one"),
        (lambda: bits_bound(undecided, X0 * 0, PATH, draws=0), "draws must be at least 1"),
        (lambda: bits_bound(undecided, X0[0] * 0, PATH), r"x1 must have shape \[b n\], but \[3\]"),
        (lambda: bits_bound(one_more, X0 * 0, PATH), r"logits must have shape \[6, 3, 4\], but"),
        (lambda: bits_of_orders(one_more, X0 * 0, PATH), r"logits must have shape \[6, 3, 4\]"),
        (lambda: bits_loss(PATH)(one_more, X0 * 0), r"logits must have shape \[6, 3, 4\], but"),
        (lambda: jump_kernel(PATH, X0, torch.zeros(6, 3, 4), 0.5, 0.5), "times must rise within"),
    ],
)  # fmt: skip
def test_bad_calls_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

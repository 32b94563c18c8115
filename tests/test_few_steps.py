"""The losses of few steps: where their gradient vanishes, what they need, what they learn."""

from functools import partial

import pytest
import torch
from torch import nn

from fmtutor import MLP, CondOT, GaussianMixture, minimise
from fmtutor.few_steps import (
    consistency_loss,
    lagrangian_loss,
    meanflow_loss,
    regression_loss,
    semigroup_loss,
    uniform_pairs,
)
from fmtutor.flow_maps import average_of, follow, jump, simulate_pairs
from fmtutor.networks import TwoTimes

F64 = torch.float64
MEAN, STD = torch.tensor([[1.0, -0.5]], dtype=F64), 0.6
SELF_TRAINED = {
    "lagrangian": lagrangian_loss,
    "meanflow": meanflow_loss,
    "semigroup": semigroup_loss,
}
LOSSES = SELF_TRAINED | {"consistency": consistency_loss}


def gaussian_map(x, s, t, shift=0.0):
    """The average velocity of N(0, I) to N(m, σ² I) in closed form, plus an error."""
    s, t = s[:, None], t[:, None]
    width = [((1 - r) ** 2 + (r * STD) ** 2).sqrt() for r in (s, t)]
    landed = t * MEAN + width[1] / width[0] * (x - s * MEAN)
    span = torch.where(t == s, 1, t - s)
    v = MEAN + (s * STD**2 - (1 - s)) / width[0] ** 2 * (x - s * MEAN)
    return torch.where(t == s, v, (landed - x) / span) + shift


class Perturbed(nn.Module):
    """The exact map plus small amounts of a few functions: its gradient at 0 tells a minimiser."""

    def __init__(self):
        super().__init__()
        self.amounts = nn.Parameter(torch.zeros(6, dtype=F64))

    def forward(self, x, s, t):
        one, span = torch.ones_like(x), (t - s)[:, None]
        parts = (one, x, s[:, None] * one, span * one, span * x, span**2 * one)
        return gaussian_map(x, s, t) + sum(a * p for a, p in zip(self.amounts, parts, strict=True))


def data(n, seed=0):
    return GaussianMixture(MEAN, STD).sample(n, seed=seed)


def gradient(loss, n=40_000):
    u = Perturbed()
    value = loss(u, data(n), generator=torch.Generator().manual_seed(1))
    value.backward()
    return u.amounts.grad


def test_the_closed_form_is_the_flow():
    v = GaussianMixture(MEAN, STD).velocity(CondOT())
    x, g = data(50), torch.Generator().manual_seed(0)
    s, t = uniform_pairs(x, g)
    torch.testing.assert_close(gaussian_map(x, s, t), average_of(v)(x, s, t), atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(gaussian_map(x, s, s), v(x, s))


@pytest.mark.parametrize(("name", "bound"), [("lagrangian", 1e-12), ("meanflow", 0.02),
                                             ("semigroup", 1e-12)])  # fmt: skip
def test_the_exact_map_is_stationary(name, bound):
    """Off the diagonal: two of the targets have no noise, MeanFlow's has that of the sample."""
    assert gradient(partial(SELF_TRAINED[name], share=0.0)).abs().max() < bound


@pytest.mark.parametrize("name", SELF_TRAINED)
def test_with_the_diagonal_it_is_stationary_to_the_error_of_flow_matching(name):
    assert gradient(SELF_TRAINED[name]).abs().max() < 0.025


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("name", ["lagrangian", "semigroup"])
def test_without_the_conditional_velocity_the_exact_map_has_no_error(name, share):
    value = SELF_TRAINED[name](Perturbed(), data(2000), share=share)
    if share == 0:
        assert value.item() < 1e-20
    else:  # what is left is the floor of flow matching, (π/2) σ
        assert value.item() == pytest.approx(torch.pi / 2 * STD, abs=0.06)


def test_the_teacher_is_the_target():
    v = GaussianMixture(MEAN, STD).velocity(CondOT())
    exact = lagrangian_loss(Perturbed(), data(500), teacher=v, share=0.0)
    assert exact.item() < 1e-20
    off = lagrangian_loss(Perturbed(), data(500), teacher=lambda x, t: v(x, t) + 2, share=0.0)
    assert off.item() == pytest.approx(4)


@pytest.mark.parametrize("name", LOSSES)
def test_a_wrong_map_is_noticed_by_every_loss(name):
    """Also one whose diagonal is right: an error that grows with the span."""

    def off(x, s, t):
        return gaussian_map(x, s, t) + 2 * (t - s)[:, None]

    values = [
        LOSSES[name](u, data(4000), generator=torch.Generator().manual_seed(0)).item()
        for u in (off, gaussian_map)
    ]
    assert values[0] > values[1] + 0.005


def test_the_consistency_loss_misses_by_its_step():
    """Its minimiser is the map up to O(1/steps): the gradient at the map falls with it."""
    sizes = [gradient(partial(consistency_loss, steps=n)).abs().max() for n in (4, 64)]
    assert sizes[0] > 0.03
    assert sizes[1] < 0.02


@pytest.mark.parametrize("name", LOSSES)
def test_no_gradient_flows_through_a_target(name):
    torch.manual_seed(0)
    x1 = data(64).float()
    u = TwoTimes(MLP(2, width=8, depth=1))
    nn.init.normal_(u.span[-1].weight)
    seen = []

    def watched(x, s, t):
        value = u(x, s, t)
        seen.append(torch.is_grad_enabled())
        return value

    LOSSES[name](watched, x1, generator=torch.Generator().manual_seed(0)).backward()
    calls = {"lagrangian": [True, True, False], "meanflow": [True, True],
             "semigroup": [True, False, False, True], "consistency": [False, True]}  # fmt: skip
    assert seen == calls[name]


def test_the_target_of_meanflow_is_detached():
    """Its gradient is that of |u − sg target|², here by hand for one row."""
    weight = torch.tensor(0.7, dtype=F64, requires_grad=True)

    def u(x, s, t):
        return weight * x * (t - s)[:, None]

    x1, g = data(256), torch.Generator().manual_seed(3)
    meanflow_loss(u, x1, share=0.0, generator=g).backward()
    g = torch.Generator().manual_seed(3)
    x0 = torch.randn(x1.shape, generator=g, dtype=F64)
    torch.rand(len(x1), generator=g, dtype=F64)
    s, t = uniform_pairs(x1, g)
    span = (t - s)[:, None]
    x, v = x0 + s[:, None] * (x1 - x0), x1 - x0
    w = weight.detach()
    target = v + span * (w * v * span - w * x)  # v + (t − s)(∂_x u · v + ∂_s u)
    by_hand = (2 * (w * x * span - target) * x * span).mean()
    torch.testing.assert_close(weight.grad, by_hand)


def test_the_power_weighs_each_point():
    def value(**settings):
        u, g = partial(gaussian_map, shift=0.3), torch.Generator().manual_seed(0)
        return meanflow_loss(u, data(512), generator=g, **settings).item()

    assert value() < 0.9
    assert 0.95 < value(power=1.0) < 1  # each weighed error is r/(r + c)


def test_shares_and_conditions_belong_to_their_rows():
    x1 = data(10)
    label = torch.arange(10)
    seen = []

    def u(x, s, t, c):
        seen.append((len(x), c.tolist(), bool((s == t).all())))
        return 0 * x

    semigroup_loss(u, x1, label, share=0.3)
    assert seen[0] == (3, [0, 1, 2], True)
    assert all(rows == [*range(3, 10)] and not same for _, rows, same in seen[1:])
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\], but 1.5 came"):
        semigroup_loss(u, x1, label, share=1.5)


def test_pairs_are_uniform_and_sorted():
    s, t = uniform_pairs(torch.zeros(20_000, 2), torch.Generator().manual_seed(0))
    assert bool((s <= t).all())
    assert s.mean().item() == pytest.approx(1 / 3, abs=0.01)
    assert t.mean().item() == pytest.approx(2 / 3, abs=0.01)


def test_simulated_pairs_are_learned():
    v = GaussianMixture(MEAN, STD).velocity(CondOT())
    x0 = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    _, end = simulate_pairs(v, x0, steps=40)
    assert regression_loss(gaussian_map, MEAN + STD * x0, x0).item() < 1e-20
    off = regression_loss(partial(gaussian_map, shift=0.5), MEAN + STD * x0, x0)
    assert off.item() == pytest.approx(0.25)
    torch.manual_seed(0)
    net = TwoTimes(MLP(2, width=16, depth=2)).double()
    fitted = minimise(net, end, regression_loss, cond=x0, steps=400, batch_size=128, lr=1e-2,
                      ema=0.9, progress=False)  # fmt: skip
    assert fitted.losses[-20:].mean() < 0.01
    torch.testing.assert_close(jump(fitted.model, x0[:50]), end[:50], atol=0.2, rtol=0)


def test_self_training_learns_the_map_of_a_gaussian():
    x1, x0 = data(4000), torch.randn(200, 2, generator=torch.Generator().manual_seed(4), dtype=F64)
    v = GaussianMixture(MEAN, STD).velocity(CondOT())
    torch.manual_seed(0)
    net = TwoTimes(MLP(2, width=24, depth=2)).double()
    net = minimise(net, x1, lagrangian_loss, steps=500, batch_size=256, lr=1e-2, ema=0.95,
                   progress=False).model  # fmt: skip
    error = (jump(net, x0) - follow(v, x0, 0.0, 1.0)).norm(dim=1).mean()
    assert error < 0.2


@pytest.mark.parametrize("name", LOSSES)
def test_an_answer_that_would_spread_over_the_points_is_refused(name):
    def one_number(x, s, t):
        return x[:, :1] * (1 + s + t)[:, None]

    with pytest.raises((ValueError, RuntimeError), match=r"shape|[Ss]izes? "):
        LOSSES[name](one_number, data(8))


def test_a_teacher_that_would_spread_is_refused():
    with pytest.raises(ValueError, match="the velocity and x must have one shape"):
        lagrangian_loss(Perturbed(), data(8), teacher=lambda x, t: x[:, :1], share=0.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lagrangian_loss("a", data(4)), TypeError, r"u must be .*called as u\(x, s, t\)"),
        (lambda: meanflow_loss(gaussian_map, data(4), power=-1.0), ValueError, "power"),
        (lambda: meanflow_loss(gaussian_map, data(4), power=float("nan")), ValueError, "power"),
        (
            lambda: semigroup_loss(gaussian_map, data(4) * torch.nan),
            ValueError,
            "x1 must be finite",
        ),
        (lambda: regression_loss(gaussian_map, data(4)[:, :1], data(4)), ValueError, "x0 and x1"),
        (
            lambda: semigroup_loss(
                gaussian_map, data(4), pairs=lambda x1, g: uniform_pairs(x1, g)[::-1]
            ),
            ValueError,
            "pairs must draw times 0 <= s <= t <= 1",
        ),
    ],
)
def test_what_would_go_on_with_a_wrong_number_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_diagonal_has_the_times_that_the_pairs_have():
    """Both times of a pair are one there, in the law that they had before they were ordered."""
    seen = []

    def u(x, s, t):
        if bool((s == t).all()):
            seen.append(s)
        return gaussian_map(x, s, t)

    def early(x1, generator=None):
        times = torch.rand(2, len(x1), generator=generator, dtype=x1.dtype).square()
        return tuple(times.sort(dim=0).values)

    for pairs, mean in ((uniform_pairs, 1 / 2), (early, 1 / 3)):
        seen.clear()
        semigroup_loss(u, data(40_000), pairs=pairs, generator=torch.Generator().manual_seed(0))
        assert len(seen[0]) == 20_000
        assert seen[0].mean().item() == pytest.approx(mean, abs=0.01)
    seen.clear()
    semigroup_loss(u, data(1))
    assert len(seen) == 1, "a single row lies on the diagonal"


def test_an_adaptive_weight_moves_the_fixed_point():
    """Between two points the target is one of two: its mean is a bad mode."""
    two = GaussianMixture(torch.tensor([[-1.0], [1.0]], dtype=F64), 0.2)
    field, x1 = two.velocity(CondOT()), two.sample(20_000, seed=0)
    found = []
    for power in (0.0, 1.0):
        a = torch.zeros(2, dtype=F64, requires_grad=True)

        def u(x, s, t, a=a):
            return field(x, s) + a[0] * x + a[1] * s[:, None] * x

        g = torch.Generator().manual_seed(1)  # other noise than that of the data
        meanflow_loss(u, x1, power=power, share=1.0, generator=g).backward()
        found.append(a.grad.abs().max())
    assert found[0] < 0.05
    assert found[1] > 0.3

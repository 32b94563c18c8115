"""The losses of bridges: what they literally are, where they are least, the times they draw."""

import math

import pytest
import torch
from gaussian_ends import exact, network_of

from fmtutor import MLP
from fmtutor.bridge_losses import arcsine, bridge_loss, snapshot_loss
from fmtutor.bridges import LineAndScore
from fmtutor.couplings import minibatch_ot
from fmtutor.data import moons, rings
from fmtutor.paths import BrownianBridge


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_the_loss_is_least_at_the_exact_network_and_bounded_at_the_ends(sigma):
    bridge, path = exact(sigma), BrownianBridge(sigma)
    x0, x1 = bridge.sample_ends(20_000, seed=0)

    def loss(t, wrong=0.0):
        g = torch.Generator().manual_seed(1)
        return float(bridge_loss(network_of(bridge, wrong), x1, x0=x0, path=path, t=t, generator=g))

    for t in (0.2, 0.5, 0.9):
        assert loss(t) < min(loss(t, 0.2), loss(t, -0.2))
    ends = [loss(t) for t in (0.0, 1e-6, 1 - 1e-6, 1.0)]
    assert all(0.1 < value < 10 for value in ends)


def test_the_loss_is_literally_that_of_line_and_noise():
    x0, x1 = moons(50, seed=0), rings(50, seed=1)
    model, path, t = LineAndScore(MLP(), MLP()), BrownianBridge(0.7), torch.full((50,), 0.3)
    g = torch.Generator().manual_seed(3)
    z = torch.randn(50, 2, generator=torch.Generator().manual_seed(3))
    width = 0.7 * math.sqrt(0.21)
    xt = 0.7 * x0 + 0.3 * x1 + width * z
    line, score = model(xt, t).chunk(2, 1)
    expected = ((line - (x1 - x0)).square().mean() + (width * score + z).square().mean()) / 2
    value = bridge_loss(model, x1, x0=x0, path=path, t=t, generator=g)
    torch.testing.assert_close(value, expected)


def test_the_loss_pairs_by_the_coupling():
    x0, x1 = moons(50, seed=0), rings(50, seed=1)
    path, seen = BrownianBridge(0.0, width=1e-3), {}

    def nothing(x, t):
        return torch.zeros(len(x), 4)

    for name, coupling in (("as they come", None), ("optimal", minibatch_ot)):
        g = torch.Generator().manual_seed(0)
        seen[name] = float(
            bridge_loss(nothing, x1, x0=x0, path=path, coupling=coupling, generator=g)
        )
    assert seen["optimal"] < 0.9 * seen["as they come"]


def test_arcsine_times_have_their_density(global_rng_untouched):
    t = arcsine(torch.zeros(50_000, 2, dtype=torch.float64), torch.Generator().manual_seed(0))
    for level in (0.01, 0.25, 0.5, 0.9):
        expected = 2 / math.pi * math.asin(math.sqrt(level))
        assert abs((t < level).double().mean() - expected) < 4 * 0.5 / math.sqrt(50_000)


# Snapshots.


def test_the_loss_of_snapshots_is_literally_that_of_each_interval():
    x0, x1 = moons(40, seed=0), rings(40, seed=1)
    first = torch.tensor([0.0, 0.25]).repeat(20)
    last = torch.tensor([0.25, 1.0]).repeat(20)
    model, sigma = LineAndScore(MLP(), MLP()), 0.8
    value = snapshot_loss(
        model, x1, x0=x0, first=first, last=last, sigma=sigma,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    g = torch.Generator().manual_seed(0)
    t, z = arcsine(x0, g), torch.randn(40, 2, generator=g)
    each = []
    for k in range(40):
        h = float(last[k] - first[k])
        path = BrownianBridge(sigma * math.sqrt(h))
        gamma = path.gamma(t[k])
        xt = (1 - t[k]) * x0[k] + t[k] * x1[k] + gamma * z[k]
        line, score = model(xt[None], first[k] + h * t[k]).chunk(2, 1)
        # The network's velocity is in its own time: displacement over h.
        each.append((h * line[0] - (x1 - x0)[k]).square().mean())
        each.append((gamma * score[0] + z[k]).square().mean())
    torch.testing.assert_close(value, torch.stack(each).mean())


def test_bad_times_are_refused():
    model, x = LineAndScore(MLP(), MLP()), moons(5, seed=0)
    early, late = torch.full((5,), 0.2), torch.full((5,), 0.4)
    with pytest.raises(ValueError, match="last time of each pair must be above"):
        snapshot_loss(model, x, x0=x, first=late, last=early, sigma=1.0)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        snapshot_loss(model, x, x0=x, first=early, last=late + 1, sigma=1.0)


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_a_size_that_no_motion_has_is_refused(sigma):
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="sigma must be finite and at least 0"):
        snapshot_loss(
            lambda x, t: x, x, x0=x, first=torch.zeros(3), last=torch.ones(3), sigma=sigma
        )

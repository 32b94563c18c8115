"""Bridges that are learned: the loss, what its minimiser means, both directions, the fitting."""

import math

import pytest
import torch
from torch import nn

from fmtutor import MLP, sample
from fmtutor.bridges import (
    BridgeField,
    LineAndScore,
    arcsine,
    bridge_loss,
    interval,
    iterative_markovian_fitting,
    simulate,
    snapshot_loss,
)
from fmtutor.couplings import minibatch_ot
from fmtutor.data import moons, rings
from fmtutor.exact_bridges import GaussianBridge
from fmtutor.paths import BrownianBridge

F64 = torch.float64
COV0 = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=F64)
COV1 = torch.tensor([[0.6, -0.2], [-0.2, 1.5]], dtype=F64)
ENDS = (torch.zeros(2, dtype=F64), COV0, torch.tensor([1.5, 1.0], dtype=F64), COV1)


def exact(sigma, cross=None):
    bridge = GaussianBridge.schroedinger(*ENDS, sigma)
    return bridge if cross is None else GaussianBridge(*ENDS, cross, sigma)


def network_of(bridge, wrong=0.0):
    """The perfect network of a Gaussian bridge, with its score off by a factor."""
    return lambda x, t: torch.cat([bridge.line(x, t), (1 + wrong) * bridge.score(x, t)], 1)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_velocity_and_drifts_are_those_of_the_closed_form(sigma):
    bridge = exact(sigma)
    field = BridgeField(network_of(bridge), BrownianBridge(sigma))
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    for t in (0.0, 0.2, 0.5, 1.0):
        forward, back = field.drift(x, t), field.backward_drift(x, t)
        torch.testing.assert_close(field.velocity(x, t), bridge.velocity(x, t))
        torch.testing.assert_close((forward + back) / 2, field.velocity(x, t))
        torch.testing.assert_close(forward - back, sigma**2 * field.score(x, t))
        linear = (x - bridge.mean(t)) @ bridge.drift_matrix(t).T + ENDS[2]
        torch.testing.assert_close(forward, linear)


@pytest.mark.parametrize("backward", [False, True])
def test_the_diffusion_has_the_marginals_and_the_coupling_of_the_bridge(backward):
    bridge = exact(1.0)
    field = BridgeField(network_of(bridge), BrownianBridge(1.0))
    x0, x1 = bridge.sample_ends(20_000, seed=0)
    start = x1 if backward else x0
    way = simulate(field, start, backward=backward, steps=100, return_path=True, seed=1)
    for k in (25, 50, 100):
        t = 1 - k / 100 if backward else k / 100
        error = (way[k].T.cov() - bridge.covariance(t)).norm() / bridge.covariance(t).norm()
        assert error < 0.03
    ends = torch.cat([way[-1], start] if backward else [start, way[-1]], 1)
    assert (ends.T.cov() - bridge.joint()).norm() / bridge.joint().norm() < 0.03


def test_the_ode_arrives_where_the_diffusion_does_and_not_by_the_same_pairs():
    bridge = exact(1.0)
    field = BridgeField(network_of(bridge), BrownianBridge(1.0))
    x0, _ = bridge.sample_ends(20_000, seed=0)
    end = sample(field.velocity, x0, method="rk4", steps=50)
    assert (end.T.cov() - COV1).norm() / COV1.norm() < 0.03
    cross = torch.cat([x0, end], 1).T.cov()[:2, 2:]
    assert (cross - bridge.cross).norm() / bridge.cross.norm() > 0.2


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
    t = arcsine(torch.zeros(50_000, 2, dtype=F64), torch.Generator().manual_seed(0))
    for level in (0.01, 0.25, 0.5, 0.9):
        expected = 2 / math.pi * math.asin(math.sqrt(level))
        assert abs((t < level).double().mean() - expected) < 4 * 0.5 / math.sqrt(50_000)


class Linear(nn.Module):
    """A field that is linear in the point, with coefficients that are polynomials in time."""

    def __init__(self, degree=4):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(degree + 1, 3, 4))

    def forward(self, x, t):
        powers = torch.stack([t**k for k in range(len(self.weight))], 1)
        inputs = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        return torch.einsum("bk,bi,kio->bo", powers, inputs, self.weight)


def test_the_fitting_of_pairs_approaches_the_schroedinger_bridge():
    best = exact(1.0)
    ends = [exact(1.0, 0 * COV0).sample_ends(20_000, seed=0)[k].float() for k in (0, 1)]
    errors, exact_ends = [], []
    for field, x0, x1 in iterative_markovian_fitting(
        Linear(), *ends, BrownianBridge(1.0), rounds=4, steps=200, lr=0.05, seed=0
    ):
        assert isinstance(field, BridgeField)
        cross = torch.cat([x0, x1], 1).double().T.cov()[:2, 2:]
        errors.append(float((cross - best.cross).norm() / best.cross.norm()))
        exact_ends.append((x0 is ends[0], x1 is ends[1]))
    assert exact_ends == [(True, False), (False, True)] * 2
    assert 0.08 < errors[0] < 0.25
    assert errors[-1] < 0.08


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


def test_an_interval_runs_in_its_own_time():
    model = lambda x, t: torch.cat([torch.ones_like(x), 0 * x], 1)  # noqa: E731
    between = interval(model, 0.25, 0.75, sigma=1.0)
    x = torch.zeros(5, 2)
    torch.testing.assert_close(sample(between.velocity, x, steps=4), torch.full((5, 2), 0.5))
    halfway = simulate(between, torch.zeros(20_000, 2), until=0.5, seed=0)
    torch.testing.assert_close(halfway.mean(), torch.tensor(0.25), rtol=0, atol=0.01)
    torch.testing.assert_close(halfway.var(0), torch.full((2,), 0.25), rtol=0.05, atol=0)


def test_bad_times_are_refused():
    model, x = LineAndScore(MLP(), MLP()), moons(5, seed=0)
    early, late = torch.full((5,), 0.2), torch.full((5,), 0.4)
    with pytest.raises(ValueError, match="last time of each pair must be above"):
        snapshot_loss(model, x, x0=x, first=late, last=early, sigma=1.0)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        snapshot_loss(model, x, x0=x, first=early, last=late + 1, sigma=1.0)


def test_bad_samples_are_refused():
    model, path = LineAndScore(MLP(), MLP()), BrownianBridge(1.0)
    with pytest.raises(ValueError, match="x1 and x0 must have one shape"):
        next(iterative_markovian_fitting(model, moons(5, seed=0), moons(4, seed=0), path))
    x = moons(5, seed=0)
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        next(iterative_markovian_fitting(model, x, x, path, rounds=0))

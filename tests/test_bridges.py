"""What the network of a bridge means: the velocity, and the drifts in both directions."""

import pytest
import torch
from gaussian_ends import COV1, ENDS, F64, exact, network_of

from fmtutor import sample
from fmtutor.bridges import BridgeField, interval, simulate
from fmtutor.paths import BridgePath, BrownianBridge


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


def test_an_interval_runs_in_its_own_time():
    model = lambda x, t: torch.cat([torch.ones_like(x), 0 * x], 1)  # noqa: E731
    between = interval(model, 0.25, 0.75, sigma=1.0)
    x = torch.zeros(5, 2)
    torch.testing.assert_close(sample(between.velocity, x, steps=4), torch.full((5, 2), 0.5))
    halfway = simulate(between, torch.zeros(20_000, 2), until=0.5, seed=0)
    torch.testing.assert_close(halfway.mean(), torch.tensor(0.25), rtol=0, atol=0.01)
    torch.testing.assert_close(halfway.var(0), torch.full((2,), 0.25), rtol=0.05, atol=0)


def test_a_path_without_the_size_of_a_brownian_motion_is_refused():
    with pytest.raises(TypeError, match="path must be a BrownianBridge, but BridgePath"):
        BridgeField(lambda x, t: x, BridgePath(0.3))


@pytest.mark.parametrize(("first", "last"), [(0.5, 0.25), (0.5, 0.5), (float("nan"), 1.0)])
def test_an_interval_that_does_not_end_after_it_begins_is_refused(first, last):
    with pytest.raises(ValueError, match="first must be before last"):
        interval(lambda x, t: x, first, last, 1.0)

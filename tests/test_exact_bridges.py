"""Bridges in closed form, against what characterises them and against simulation."""

import pytest
import torch

from fmtutor import GaussianMixture, continuity_residual, sample
from fmtutor.entropic import entropic_plan
from fmtutor.exact_bridges import (
    GaussianBridge,
    InterpolatedMixtures,
    PairedPoints,
    schroedinger_cross,
)
from fmtutor.paths import BridgePath, BrownianBridge

F64 = torch.float64
COV0 = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=F64)
COV1 = torch.tensor([[0.6, -0.2], [-0.2, 1.5]], dtype=F64)
MEAN0, MEAN1 = torch.zeros(2, dtype=F64), torch.tensor([1.5, 1.0], dtype=F64)
ENDS = (MEAN0, COV0, MEAN1, COV1)
sigmas = pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0, 10.0])


@sigmas
def test_the_coupling_is_the_one_of_the_form_f_g_exp(sigma):
    # Its log-density mixes x0 and x1 in ⟨x0, x1⟩/σ² alone: so says the off-diagonal precision.
    precision = torch.linalg.inv(GaussianBridge.schroedinger(*ENDS, sigma).joint())
    expected = -torch.eye(2, dtype=F64) / sigma**2
    torch.testing.assert_close(precision[:2, 2:], expected, rtol=1e-6, atol=1e-6 / sigma**2)


def test_without_noise_it_is_optimal_transport_and_with_much_independent():
    root = torch.linalg.cholesky(COV0)
    values, vectors = torch.linalg.eigh(root.T @ COV1 @ root)
    # tr C of the optimal coupling is the trace of (S0^½ S1 S0^½)^½, whichever root is taken.
    torch.testing.assert_close(schroedinger_cross(COV0, COV1, 0.0).trace(), values.sqrt().sum())
    assert schroedinger_cross(COV0, COV1, 100.0).abs().max() < 2e-4
    assert vectors.shape == (2, 2)


def test_sinkhorn_on_many_points_tends_to_it():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1500, 1, generator=g, dtype=F64)
    x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    plan = entropic_plan(x[0], 2 * x[1], 2 * 0.8**2, tol=1e-8)
    cross = x[0].T @ plan @ (2 * x[1])
    one = torch.eye(1, dtype=F64)
    torch.testing.assert_close(cross, schroedinger_cross(one, 4 * one, 0.8), rtol=0.02, atol=0)


@sigmas
def test_velocity_and_score_fit_the_marginals(sigma):
    bridge = GaussianBridge.schroedinger(*ENDS, sigma)
    g = torch.Generator().manual_seed(1)
    x = 2 * torch.randn(50, 2, generator=g, dtype=F64)

    def log_p(x, t):
        t = t.mean()  # one time for all, as the bridge takes it, and with a gradient
        offset = x - bridge.mean(t)
        cov = bridge.covariance(t)
        return -0.5 * ((offset @ torch.linalg.inv(cov)) * offset).sum(1) - 0.5 * cov.logdet()

    for t in (0.0, 0.3, 0.5, 0.9, 1.0):
        leaf = x.clone().requires_grad_()
        (score,) = torch.autograd.grad(log_p(leaf, torch.tensor(t, dtype=F64)).sum(), leaf)
        torch.testing.assert_close(bridge.score(x, t), score)
    # The flow of the velocity carries the Gaussian: covariance by a linear map of its points.
    start = torch.linalg.cholesky(COV0).T
    start = torch.cat([start, -start])  # four points: mean 0, second moments 2 S0
    if sigma <= 2:  # beyond it the field is stiff at the ends
        end = sample(bridge.velocity, start, method="rk4", steps=400)
        centred = end - end.mean(0)
        torch.testing.assert_close(centred.T @ centred / 2, COV1, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(end.mean(0), MEAN1, rtol=1e-5, atol=1e-5)


@sigmas
def test_the_schroedinger_bridge_is_the_fixed_point_of_the_fitting(sigma):
    bridge = GaussianBridge.schroedinger(*ENDS, sigma)
    error = (bridge.projected(steps=1000).cross - bridge.cross).norm() / bridge.cross.norm()
    assert error < 1e-5


def test_the_fitting_of_pairs_tends_to_the_bridge():
    best = GaussianBridge.schroedinger(*ENDS, 1.0)
    now = GaussianBridge(*ENDS, torch.zeros_like(COV0), 1.0)
    errors = []
    for _ in range(5):
        now = now.projected()
        errors.append(float((now.cross - best.cross).norm() / best.cross.norm()))
    assert errors == sorted(errors, reverse=True)
    assert 0.1 < errors[0] < 0.2
    assert errors[4] < 0.01


def test_drawn_ends_have_the_joint_law(global_rng_untouched):
    bridge = GaussianBridge.schroedinger(*ENDS, 1.0)
    x0, x1 = bridge.sample_ends(100_000, seed=0)
    joint = torch.cat([x0, x1], 1)
    torch.testing.assert_close(joint.T.cov(), bridge.joint(), rtol=0, atol=0.03)
    torch.testing.assert_close(joint.mean(0), torch.cat([MEAN0, MEAN1]), rtol=0, atol=0.02)


def test_one_time_for_all():
    bridge, x = GaussianBridge.schroedinger(*ENDS, 1.0), torch.zeros(3, 2, dtype=F64)
    half = bridge.velocity(x, 0.5)
    assert torch.equal(bridge.velocity(x, torch.full((3,), 0.5, dtype=F64)), half)
    with pytest.raises(ValueError, match="one time for all points"):
        bridge.velocity(x, torch.tensor([0.1, 0.2, 0.3], dtype=F64))


@pytest.mark.parametrize(
    ("cov", "text"),
    [
        (torch.zeros(2, 3), r"must be \[d d\]"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "symmetric and positive definite"),
        (torch.diag(torch.tensor([1.0, -1.0])), "symmetric and positive definite"),
        (torch.zeros(2, 2), "symmetric and positive definite"),
    ],
)
def test_a_bad_covariance_is_refused(cov, text):
    for arguments in ((cov, torch.eye(2)), (torch.eye(2), cov)):
        with pytest.raises(ValueError, match=text):
            schroedinger_cross(*arguments, 1.0)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="sigma must be finite and at least 0"):
        schroedinger_cross(COV0, COV1, -1.0)
    with pytest.raises(ValueError, match="cross and cov0 must have one shape"):
        GaussianBridge(*ENDS, torch.zeros(1, 1, dtype=F64), 1.0)
    with pytest.raises(ValueError, match="mean1 and the first row of cov0"):
        GaussianBridge(MEAN0, COV0, torch.zeros(3, dtype=F64), COV1, COV0, 1.0)


# Two mixtures.


def mixtures():
    source = GaussianMixture(
        torch.tensor([[-2.0, 0.0], [1.0, 1.5]], dtype=F64), torch.tensor([0.4, 0.6]),
        torch.tensor([0.3, 0.7]),
    )  # fmt: skip
    target = GaussianMixture(
        torch.tensor([[3.0, 1.0], [2.0, -2.0], [0.0, -1.0]], dtype=F64),
        torch.tensor([0.5, 0.3, 0.7]),
    )
    return source, target


paths = pytest.mark.parametrize(
    "path", [BrownianBridge(1.0), BrownianBridge(0.3, width=0.2), BridgePath(0.5), BridgePath(0.0)]
)


@paths
def test_the_continuity_equation_between_two_mixtures(path):
    bridge = InterpolatedMixtures(*mixtures(), path)
    g = torch.Generator().manual_seed(2)
    x = 3 * torch.randn(300, 2, generator=g, dtype=F64)
    t = torch.rand(300, generator=g, dtype=F64)
    size = 1 + bridge.velocity(x, t).norm(dim=1) * (1 + bridge.score(x, t).norm(dim=1))
    residual = continuity_residual(bridge.log_prob_t, bridge.velocity, x, t)
    assert (residual.abs() / size).max() < 1e-8
    leaf = x.clone().requires_grad_()
    (score,) = torch.autograd.grad(bridge.log_prob_t(leaf, t).sum(), leaf)
    torch.testing.assert_close(bridge.score(x, t), score)


@paths
def test_the_ends_of_the_mixtures_are_source_and_target(path):
    source, target = mixtures()
    bridge = InterpolatedMixtures(source, target, path)
    width = float(path.gamma(torch.tensor(0.0, dtype=F64)))
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(3), dtype=F64)
    for t, mixture in ((0.0, source), (1.0, target)):
        wide = GaussianMixture(
            mixture.means, (mixture.stds.square() + width**2).sqrt(), mixture.weights
        )
        torch.testing.assert_close(bridge.log_prob_t(x, t), wide.log_prob(x))


# Finitely many pairs.


def test_the_field_of_pairs_is_that_of_their_mixture():
    g = torch.Generator().manual_seed(4)
    x0, x1, x = torch.randn(3, 30, 2, generator=g, dtype=F64)
    weights, path = torch.rand(30, generator=g, dtype=F64), BrownianBridge(1.0, width=0.2)
    field = PairedPoints(path, x0, x1, weights)

    def log_p(x, t):
        each = [
            path.log_prob(x, q.expand_as(x), t, x0=p.expand_as(x))
            for p, q in zip(x0, x1, strict=True)
        ]
        return (torch.stack(each) + weights.log()[:, None]).logsumexp(0)

    t = torch.rand(30, generator=g, dtype=F64)
    assert continuity_residual(log_p, field.velocity, x, t).abs().max() < 1e-8
    leaf = x.clone().requires_grad_()
    (score,) = torch.autograd.grad(log_p(leaf, t).sum(), leaf)
    torch.testing.assert_close(field.score(x, t), score)


def test_a_pair_of_no_weight_does_not_count():
    x0, x1 = torch.zeros(2, 1), torch.tensor([[1.0], [5.0]])
    field = PairedPoints(BrownianBridge(1.0), x0, x1, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(field.velocity(torch.zeros(1, 1), 0.5), torch.ones(1, 1))


def test_pairs_refuse_bad_weights_and_vanishing_widths():
    x = torch.zeros(2, 1)
    for weights in (torch.ones(3), torch.tensor([1.0, -1.0]), torch.zeros(2)):
        with pytest.raises(ValueError, match=r"weights must be \[2\]"):
            PairedPoints(BrownianBridge(1.0), x, x, weights)
    field = PairedPoints(BrownianBridge(1.0), x, x)
    for t in (0.0, 1.0):
        with pytest.raises(ValueError, match="no limit where γ"):
            field.score(x, t)

"""The Schrödinger bridge between two Gaussians, against what characterises it and simulation."""

import pytest
import torch
from gaussian_ends import COV0, COV1, ENDS, F64, MEAN0, MEAN1

from fmtutor import sample
from fmtutor.entropic import entropic_plan
from fmtutor.gaussian_bridge import GaussianBridge, schroedinger_cross

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
    for sigma in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="sigma must be finite and at least 0"):
            schroedinger_cross(COV0, COV1, sigma)
    with pytest.raises(ValueError, match="cov0 and cov1 must have one shape"):
        schroedinger_cross(COV0, torch.eye(3, dtype=F64), 1.0)
    with pytest.raises(ValueError, match="cross and cov0 must have one shape"):
        GaussianBridge(*ENDS, torch.zeros(1, 1, dtype=F64), 1.0)
    with pytest.raises(ValueError, match="mean1 and the first row of cov0"):
        GaussianBridge(MEAN0, COV0, torch.zeros(3, dtype=F64), COV1, COV0, 1.0)


def test_pairs_that_no_law_has_are_refused():
    m, eye = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    GaussianBridge(m, eye, m, eye, eye, 1.0)  # x1 = x0: just possible
    with pytest.raises(ValueError, match="positive semidefinite, but its least eigenvalue is -4"):
        GaussianBridge(m, eye, m, eye, 5 * eye, 1.0)
    for sigma in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="sigma must be finite and at least 0"):
            GaussianBridge(m, eye, m, eye, 0 * eye, sigma)
    for mean, cross in ((m + float("nan"), 0 * eye), (m, eye * float("nan"))):
        with pytest.raises(ValueError, match="must be finite"):
            GaussianBridge(m, eye, mean, eye, cross, 1.0)

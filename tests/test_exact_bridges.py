"""The exact field between two mixtures and over finitely many pairs."""

import pytest
import torch

from fmtutor import GaussianMixture, continuity_residual
from fmtutor.exact_bridges import InterpolatedMixtures, PairedPoints
from fmtutor.paths import BridgePath, BrownianBridge

F64 = torch.float64


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


def test_pairs_that_are_no_points_are_refused():
    x = torch.zeros(3, 2)
    for x0, x1, message in (
        (x, x + float("nan"), "x1 must be finite"),
        (x.reshape(3, 1, 2), x.reshape(3, 1, 2), r"x0 and x1 must be points \[n d\]"),
    ):
        with pytest.raises(ValueError, match=message):
            PairedPoints(BridgePath(0.3), x0, x1)
    listed = PairedPoints(BridgePath(0.3), x, x, weights=[1, 0, 1])
    assert torch.equal(listed.velocity(x, 0.5), 0 * x)

"""RealNVP: it inverts, its determinant is the Jacobian's, and it learns."""

import math

import pytest
import torch

from fmtutor.data import moons
from fmtutor.networks.coupling_layers import RealNVP
from fmtutor.training import minimise

F64 = torch.float64


def stirred(dim, layers=4, seed=0):
    torch.manual_seed(seed)
    flow = RealNVP(dim, layers=layers, width=16).double()
    for weight in flow.parameters():
        weight.data = 0.4 * torch.randn_like(weight)
    return flow


@pytest.mark.parametrize("dim", [2, 3, 5, 8])
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_there_and_back(dim, layers):
    flow, x = stirred(dim, layers), torch.randn(6, dim, dtype=F64)
    z, _ = flow(x)
    torch.testing.assert_close(flow.inverse(z), x, rtol=0, atol=1e-9)
    torch.testing.assert_close(flow(flow.inverse(x))[0], x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_the_determinant_is_that_of_the_jacobian(dim):
    flow, x = stirred(dim), torch.randn(4, dim, dtype=F64)
    _, log_det = flow(x)
    for row, value in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda p: flow(p[None])[0][0], row)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, value)


def test_its_density_has_mass_one():
    flow = stirred(2, layers=2)
    edge = torch.linspace(-12, 12, 600, dtype=F64)
    grid = torch.cartesian_prod(edge, edge)
    mass = flow.log_prob(grid).exp().sum() * (edge[1] - edge[0]) ** 2
    assert abs(mass - 1) < 1e-2


def test_every_coordinate_moves_after_two_layers():
    flow, x = stirred(5, layers=2), torch.randn(3, 5, dtype=F64)
    assert (flow(x)[0] != x).all()


def test_at_first_it_is_a_permutation_of_noise():
    x = torch.randn(50, 4)
    expected = -0.5 * x.square().sum(1) - 2 * math.log(2 * math.pi)
    torch.testing.assert_close(RealNVP(4, layers=3).log_prob(x), expected)


def test_a_layer_stretches_by_at_most_e_squared():
    flow = stirred(2, layers=1)
    for weight in flow.parameters():
        weight.data *= 100
    _, log_det = flow(10 * torch.randn(1000, 2, dtype=F64))
    assert log_det.abs().max() <= 2
    assert log_det.abs().max() > 1.5


def test_it_learns():
    torch.manual_seed(0)

    def loss(flow, x1, generator=None):
        return -flow.log_prob(x1).mean()

    x = moons(2000, seed=0)
    flow, losses = minimise(RealNVP(layers=4, width=32), x, loss, steps=150, progress=False)
    assert losses[-20:].mean() < losses[:5].mean() - 0.5
    drawn = flow.sample(500, seed=0)
    assert drawn.shape == (500, 2)
    assert not drawn.requires_grad
    assert torch.equal(drawn, flow.sample(500, seed=0))


@pytest.mark.parametrize("settings", [{"dim": 1}, {"layers": 0}])
def test_bad_sizes_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        RealNVP(**settings)


def test_points_of_another_dimension_are_refused():
    for call in (RealNVP(3), RealNVP(3).inverse, RealNVP(3).log_prob):
        with pytest.raises(ValueError, match=r"x must have shape \[b 3\], but \[5, 2\] came"):
            call(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="n must be at least 1"):
        RealNVP().sample(0)

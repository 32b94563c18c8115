"""The network of particles: what it commutes with, and that it sees what it is told."""

import pytest
import torch

from fmtutor import fit, log_prob
from fmtutor.molecules import centred, centred_noise
from fmtutor.networks import EGNN

N, D = 5, 3
KINDS = (0, 0, 1, 1, 1)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    v = EGNN(N, D, kinds=KINDS, width=16, depth=3).double()
    for p in v.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return v


@pytest.fixture
def x():
    return centred(torch.randn(7, N, D, generator=torch.Generator().manual_seed(1)).double())


def rotation(mirror=False):
    q, r = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(2)).double())
    q = q * r.diagonal().sign()
    wanted = -1 if mirror else 1
    return q if q.det().sign() == wanted else -q


@pytest.mark.parametrize("mirror", [False, True])
def test_it_turns_with_the_particles(network, x, mirror):
    r = rotation(mirror)
    v = network(x, 0.3)
    assert v.abs().max() > 0.1
    torch.testing.assert_close(network(x @ r.T, 0.3), v @ r.T, rtol=0, atol=1e-10)


def test_it_moves_with_them_and_keeps_their_centre(network, x):
    v = network(x, 0.3)
    far = network(x + torch.tensor([3.0, -2.0, 5.0]).double(), 0.3)
    torch.testing.assert_close(far, v, rtol=0, atol=1e-10)
    assert v.sum(1).abs().max() < 1e-15 * v.abs().max()


def test_particles_of_one_kind_may_change_names_and_others_not(network, x):
    v = network(x, 0.3)
    for order, same in (([1, 0, 3, 4, 2], True), ([2, 1, 0, 3, 4], False)):
        gap = (network(x[:, order], 0.3) - v[:, order]).abs().max()
        assert (gap < 1e-10) == same


def test_it_sees_the_time_the_kinds_and_each_row_its_own(network, x):
    t = torch.linspace(0, 1, len(x)).double()
    each = network(x, t)
    for k in (0, 3, 6):
        torch.testing.assert_close(each[k : k + 1], network(x[k : k + 1], t[k].item()))
    assert (network(x, 0.1) - network(x, 0.9)).abs().max() > 1e-2


def test_it_is_smooth_where_particles_meet(network, x):
    x = x.clone()
    x[:, 1] = x[:, 0]
    x.requires_grad_()
    (grad,) = torch.autograd.grad(network(x, 0.5).square().sum(), x)
    assert grad.isfinite().all()


def test_no_bump_is_a_denormal_number():
    """Some processors multiply those many times more slowly."""
    v = EGNN(N, D, radial=40, reach=4.0)
    heard = []
    v.layers[0].message.register_forward_hook(lambda layer, args, out: heard.append(args[0]))
    v(centred(0.4 * torch.randn(50, N, D, generator=torch.Generator().manual_seed(1))), 0.5)
    bumps = heard[0][..., -40:]
    assert 1e-20 < bumps.min() < 1e-15
    assert 0.9 < bumps.max() <= 1


def test_every_weight_matters(network, x):
    network.zero_grad()
    network(x, torch.linspace(0, 1, len(x)).double()).square().sum().backward()
    last = {"layers.2.update.0.weight", "layers.2.update.0.bias"}
    last |= {"layers.2.update.2.weight", "layers.2.update.2.bias"}  # features after the last layer
    for name, p in network.named_parameters():
        assert name in last or p.grad.abs().max() > 0, name


def test_it_trains_and_keeps_its_density_where_particles_turn():
    g = torch.Generator().manual_seed(0)
    data = centred(torch.randn(64, 3, 2, generator=g)) * 0.5
    model = fit(EGNN(3, 2, width=8), data, noise=centred_noise, steps=3, progress=False).model
    x = data[:4].double()
    a, b = (log_prob(model.double(), y, steps=5) for y in (x, x.flip(2)))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_it_takes_half_precision_and_gives_it_back(network, x):
    v = EGNN(N, D, kinds=KINDS)
    with torch.autocast("cpu", torch.bfloat16):
        u = v(x.float(), 0.5)
    assert u.dtype == torch.float32
    assert EGNN(2, 2).bfloat16()(torch.ones(1, 2, 2).bfloat16(), 0.5).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"particles": 1}, "at least"),
        ({"particles": 3, "dim": 0}, "at least"),
        ({"particles": 3, "depth": 0}, "at least"),
        ({"particles": 3, "reach": 0.0}, "positive"),
        ({"particles": 3, "reach": float("nan")}, "positive"),
        ({"particles": 3, "reach": float("inf")}, "positive"),
        ({"particles": 3, "kinds": (0, 1)}, r"kinds must be 3 numbers .* \[0, 1\] came"),
        ({"particles": 2, "kinds": (0, -1)}, "kinds"),
    ],
    ids=str,
)
def test_what_makes_no_network_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EGNN(**arguments)


def test_half_a_particle_is_refused():
    with pytest.raises(TypeError, match=r"particles must be a whole number, but 2\.5 came"):
        EGNN(2.5)


@pytest.mark.parametrize("shape", [(7, N, 2), (7, 4, D), (7, N * D), (N, D)], ids=str)
def test_other_shapes_are_refused(network, shape):
    with pytest.raises(ValueError, match=r"x must have shape \[b 5 3\], but"):
        network(torch.zeros(shape).double(), 0.5)

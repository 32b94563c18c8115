"""The geodesic path: its point, its velocity by finite differences, its ends, what it refuses."""

import math

import pytest
import torch
from test_manifolds import F64, SPACES, each, points

from fmtutor import CondOT, cfm_loss, fit, sample
from fmtutor.manifolds import Euclidean, Sphere, Torus, distance
from fmtutor.networks import TangentMLP
from fmtutor.paths import GeodesicPath


def ends(space, n=100):
    return points(space, n), points(space, n, seed=3)


@each
def test_it_leads_from_end_to_end(space):
    x0, x1 = ends(space)
    path = GeodesicPath(space)
    for t, end in ((0.0, x0), (1.0, x1)):
        gap = distance(space, path.sample(x0, x1, t).xt, end)
        assert gap.max() < 1e-7
    half = path.sample(x0, x1, 0.5).xt
    torch.testing.assert_close(distance(space, x0, half), distance(space, half, x1))


@each
def test_the_velocity_is_the_derivative_of_the_point(space):
    x0, x1 = ends(space)
    path, h = GeodesicPath(space), 1e-6
    for t in (0.02, 0.3, 0.5, 0.7, 0.98):
        s = path.sample(x0, x1, t)
        back, ahead = (path.sample(x0, x1, t + d).xt for d in (-h, h))
        expected = (space.log(s.xt, ahead) - space.log(s.xt, back)) / (2 * h)
        torch.testing.assert_close(s.ut, expected, atol=1e-7, rtol=0)
        space.check_tangent(s.xt, s.ut)


@each
def test_at_the_ends_the_velocity_is_that_of_the_whole_way(space):
    x0, x1 = ends(space)
    path = GeodesicPath(space)
    start, end = (path.sample(x0, x1, t).ut for t in (0.0, 1.0))
    torch.testing.assert_close(start, space.log(x0, x1), atol=1e-9, rtol=0)
    torch.testing.assert_close(end, -space.log(x1, x0), atol=1e-9, rtol=0)


@each
def test_as_a_function_of_place_it_is_the_same(space):
    x0, x1 = ends(space)
    path = GeodesicPath(space)
    t = torch.linspace(0, 0.95, len(x0), dtype=F64)
    s = path.sample(x0, x1, t)
    torch.testing.assert_close(path.conditional_velocity(s.xt, x1, t), s.ut, atol=1e-9, rtol=0)


def test_on_flat_space_it_is_the_straight_path():
    x0, x1 = ends(Euclidean(3))
    t = torch.rand(100, dtype=F64)
    flat, straight = GeodesicPath(Euclidean(3)).sample(x0, x1, t), CondOT().sample(x0, x1, t)
    for ours, theirs in zip(flat, straight, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-13, rtol=0)


def test_it_takes_the_short_way_round():
    path = GeodesicPath(Torus(1))
    s = path.sample(torch.tensor([[3.0]]), torch.tensor([[-3.0]]), 0.5)
    assert s.xt.abs().item() == pytest.approx(math.pi, abs=1e-6)
    assert s.ut.item() == pytest.approx(2 * math.pi - 6, abs=1e-5)


def test_antipodes_have_a_way_of_length_pi():
    x0 = points(Sphere(2), 50)
    s = GeodesicPath(Sphere(2)).sample(x0, -x0, torch.linspace(0, 1, 50, dtype=F64))
    torch.testing.assert_close(s.ut.norm(dim=1), torch.full((50,), math.pi, dtype=F64))
    assert s.xt.isfinite().all()


def test_no_target_is_lost_in_float32():
    """The speed is that of the whole way, at every time, to what float32 can say."""
    sphere = Sphere(2)
    x0, x1 = (points(sphere, 5000, seed=k, dtype=torch.float32) for k in (0, 3))
    t = torch.rand(5000, generator=torch.Generator().manual_seed(0))
    s = GeodesicPath(sphere).sample(x0, x1, t)
    error = (s.ut.norm(dim=1) - distance(sphere, x0, x1)).abs()
    assert error.max() < 1e-4


def test_what_it_refuses():
    sphere = Sphere(2)
    x0, x1 = ends(sphere)
    with pytest.raises(ValueError, match="unit sphere"):
        GeodesicPath(sphere).sample(2 * x0, x1, 0.5)
    with pytest.raises(ValueError, match="no limit at t = 1"):
        GeodesicPath(sphere).conditional_velocity(x0, x1, 1.0)
    with pytest.raises(ValueError, match="one shape"):
        GeodesicPath(sphere).sample(x0[:3], x1, 0.5)


@pytest.mark.parametrize("name", ["sphere", "torus", "rotations", "product"])
def test_the_readers_one_line_trains_on_it(name):
    space = SPACES[name]
    near = points(space, 1, dtype=torch.float32)
    g = torch.Generator().manual_seed(0)
    spread = space.tangent(
        near.expand(1000, *space.shape), 0.2 * torch.randn(1000, *space.shape, generator=g)
    )
    data = space.exp(near.expand(1000, *space.shape).contiguous(), spread)
    path = GeodesicPath(space)
    torch.manual_seed(0)
    model = TangentMLP(space, width=32, depth=2)
    first = cfm_loss(model, data, path=path, noise=space.noise, generator=g)
    settings = {"path": path, "noise": space.noise, "steps": 300, "batch_size": 128, "lr": 5e-3}
    model, losses = fit(model, data, **settings, ema=0.9, progress=False)
    assert losses[-50:].mean() < 0.5 * first
    x1 = sample(model, space.noise(data, g), steps=20, project=space.project)
    space.check(x1)
    away = distance(space, near.expand_as(x1), x1).median()
    own = distance(space, near.expand_as(data), data).median()
    assert 0.6 * own < away < 1.8 * own


@each
def test_the_network_is_tangent_and_sees_only_the_point_below(space):
    torch.manual_seed(0)
    model = TangentMLP(space, width=16, scales=(1.0, 3.0), frequencies=8).double()
    x = points(space)
    u = model(x, 0.3)
    space.check_tangent(x, u)
    if not isinstance(space, Euclidean | Torus):
        off = 1.1 * x + 0.05 * space.tangent(x, torch.ones_like(x))
        below = space.project(off)
        assert (off - below).abs().max() > 0.05
        torch.testing.assert_close(model(off, 0.3), model(below, 0.3))


def test_the_network_refuses_what_it_cannot_take():
    with pytest.raises(ValueError, match="scales positive"):
        TangentMLP(Sphere(2), scales=(0.0,))
    with pytest.raises(ValueError, match=r"points of shape \[3\], but \[4, 2\] came"):
        TangentMLP(Sphere(2))(torch.zeros(4, 2), 0.5)

"""The toy distributions: seeded, of the stated shape, and where their docstrings put them."""

import math

import pytest
import torch
from scipy.stats import kstest

from fmtutor import GaussianMixture
from fmtutor.data import (
    DATASETS,
    checkerboard,
    cluster_means,
    eight_gaussians,
    four_clusters,
    moons,
    rings,
    spiral,
    standard_normal,
)

samplers = pytest.mark.parametrize("sampler", [*DATASETS.values(), standard_normal])


@samplers
def test_shape_dtype_and_spread(sampler):
    for n in (1, 2, 4000):
        x = sampler(n, seed=0)
        assert x.shape == (n, 2)
        assert x.dtype == torch.float32
        assert x.isfinite().all()
    if sampler is not standard_normal:
        assert 1.0 < x.std(0).mean() < 2.6  # "a spread of about two"
        assert x.abs().max() < 4.5
        assert x.mean(0).norm() < 0.8


@samplers
def test_the_seed_decides_and_the_global_state_is_left_alone(sampler, global_rng_untouched):
    assert torch.equal(sampler(50, seed=3), sampler(50, seed=3))
    assert not torch.equal(sampler(50, seed=3), sampler(50, seed=4))


@samplers
def test_without_a_seed_the_global_state_is_used(sampler):
    torch.manual_seed(1)
    first = sampler(20)
    assert not torch.equal(first, sampler(20))
    torch.manual_seed(1)
    assert torch.equal(first, sampler(20))


@samplers
@pytest.mark.parametrize("n", [0, -3])
def test_a_count_below_one_is_refused(sampler, n):
    with pytest.raises(ValueError, match=f"n must be at least 1, but {n} came"):
        sampler(n, seed=0)


def test_standard_normal_has_the_dimension_and_dtype_asked_for():
    x = standard_normal(20_000, 5, seed=0, dtype=torch.float64)
    assert x.shape == (20_000, 5)
    assert x.dtype == torch.float64
    assert x.mean(0).abs().max() < 5 / math.sqrt(20_000)
    assert (x.T.cov() - torch.eye(5)).abs().max() < 0.05


@pytest.mark.parametrize("k", [1, 3, 4, 8])
def test_cluster_means_lie_evenly_on_the_circle(k):
    means = cluster_means(k, 2.5, dtype=torch.float64)
    assert means.shape == (k, 2)
    torch.testing.assert_close(means.norm(dim=1), torch.full((k,), 2.5, dtype=torch.float64))
    if k > 1:
        assert means.sum(0).norm() < 1e-12
        gaps = (means - means.roll(1, 0)).norm(dim=1)
        torch.testing.assert_close(gaps, torch.full_like(gaps, 5 * math.sin(math.pi / k)))


def test_four_clusters_is_the_mixture_of_its_docstring():
    corners = cluster_means(4, 8**0.5)
    torch.testing.assert_close(corners.abs(), torch.full((4, 2), 2.0))
    assert {tuple(row) for row in corners.sign().tolist()} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    x = four_clusters(40_000, seed=0)
    nearest = torch.cdist(x, corners).argmin(1)
    assert (torch.bincount(nearest, minlength=4) / 40_000 - 0.25).abs().max() < 0.01
    assert ((x - corners[nearest]).T.cov() - 0.3**2 * torch.eye(2)).abs().max() < 0.005
    # E log q is the same over samples of the closed form
    mixture = GaussianMixture(corners, 0.3)
    other = mixture.sample(40_000, seed=1)
    a, b = mixture.log_prob(x), mixture.log_prob(other)
    assert (a.mean() - b.mean()).abs() < 5 * math.hypot(a.std(), b.std()) / 200


def test_eight_gaussians_lie_on_a_circle_of_radius_three():
    means = cluster_means(8, 3.0)
    x = eight_gaussians(20_000, seed=0)
    nearest = torch.cdist(x, means).argmin(1)
    assert (torch.bincount(nearest, minlength=8) / 20_000 - 0.125).abs().max() < 0.01
    assert (x - means[nearest]).std() == pytest.approx(0.2, abs=0.005)
    assert four_clusters(5000, seed=0, std=0.01).sub(2).abs().min() < 1e-2  # std is passed on
    assert torch.cdist(eight_gaussians(500, seed=0, std=1e-4), means).min(1).values.max() < 1e-3


def test_moons_without_noise_are_two_half_circles():
    x = moons(4000, seed=0, noise=0.0) / 2 + torch.tensor([0.5, 0.25])
    upper = (x.norm(dim=1) - 1).abs() < 1e-5
    lower = ((x - torch.tensor([1.0, 0.5])).norm(dim=1) - 1).abs() < 1e-5
    assert (upper | lower).all()
    assert upper.float().mean() == pytest.approx(0.5, abs=0.05)
    assert (x[upper & ~lower, 1] >= -1e-5).all()
    assert (x[lower & ~upper, 1] <= 0.5 + 1e-5).all()


def test_spiral_without_noise_is_its_curve_even_in_arc_length():
    x = spiral(20_000, seed=0, noise=0.0)
    radius = x.norm(dim=1) / 3
    angle = 3 * math.pi * radius
    torch.testing.assert_close(
        x, 3 * radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1), atol=1e-4, rtol=0
    )
    squares = radius.square()  # uniform
    assert squares.mean() == pytest.approx(0.52, abs=0.01)
    assert squares.std() == pytest.approx(0.96 / math.sqrt(12), abs=0.01)


def test_checkerboard_fills_the_eight_dark_squares_evenly():
    x = checkerboard(20_000, seed=0)
    assert x.abs().max() <= 3
    column, row = ((x + 3) / 1.5).floor().clamp(0, 3).long().unbind(1)
    assert ((column + row) % 2 == 0).all()
    counts = torch.bincount(4 * column + row, minlength=16)
    assert (counts > 0).sum() == 8
    assert (counts[counts > 0] / 20_000 - 0.125).abs().max() < 0.01
    within = (x + 3) / 1.5 % 1  # uniform in its square, every point in its own place
    assert (12 * within.T.cov() - torch.eye(2)).abs().max() < 0.05


def test_rings_without_noise_have_two_radii_in_proportion_to_their_length():
    x = rings(20_000, seed=0, noise=0.0)
    radius, angle = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    assert kstest((angle / (2 * math.pi) + 0.5).numpy(), "uniform").pvalue > 0.01
    outer = (radius - 2.5).abs() < 1e-5
    assert (outer | ((radius - 1).abs() < 1e-5)).all()
    assert outer.float().mean() == pytest.approx(2.5 / 3.5, abs=0.02)


@pytest.mark.parametrize(("sampler", "scale"), [(moons, 2.0), (spiral, 1.0)])
def test_every_point_has_noise_of_its_own_in_each_coordinate(sampler, scale):
    noise = (sampler(20_000, seed=0, noise=0.2) - sampler(20_000, seed=0, noise=0.0)) / scale
    assert (noise.T.cov() / 0.2**2 - torch.eye(2)).abs().max() < 0.05
    assert noise.mean(0).abs().max() < 0.01


def test_every_data_set_is_listed_once():
    assert list(DATASETS) == [
        "four clusters",
        "eight Gaussians",
        "moons",
        "spiral",
        "checkerboard",
        "rings",
    ]
    assert len(set(DATASETS.values())) == 6

"""Distances between samples, against closed forms and other people's implementations."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats

from fmtutor.metrics import (
    bending,
    energy_distance,
    frechet_distance,
    sliced_wasserstein,
    straightness,
    wasserstein,
)

F64 = torch.float64
DISTANCES = [sliced_wasserstein, wasserstein, energy_distance, frechet_distance]
every_distance = pytest.mark.parametrize("distance", DISTANCES, ids=lambda f: f.__name__)
seeds = st.integers(0, 10_000)


def normal(seed, *shape, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# What holds for every distance.


@every_distance
@pytest.mark.parametrize("shape", [(40, 1), (40, 3), (40, 1, 2, 2)])
def test_zero_for_equal_samples_in_any_order_and_symmetric(distance, shape):
    x, y = normal(0, *shape), normal(1, *shape) + 1
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    # the root of a rounding error, for the energy distance
    assert distance(x, x[order]).item() == pytest.approx(0, abs=1e-4)
    value = distance(x, y)
    assert value.shape == ()
    assert value.item() > 0.3
    assert distance(y, x).item() == pytest.approx(value.item(), rel=1e-9)
    assert distance(x[order], y).item() == pytest.approx(value.item(), rel=1e-9)


@every_distance
def test_the_dtype_is_that_of_the_points_and_single_precision_agrees(distance):
    x, y = normal(0, 100, 2), normal(1, 100, 2) + 1
    single = distance(x.float(), y.float())
    assert single.dtype == torch.float32
    many = {"projections": 20_000} if distance is sliced_wasserstein else {}
    single = distance(x.float(), y.float(), **many)  # other directions in another dtype
    assert single.item() == pytest.approx(distance(x, y, **many).item(), rel=0.01 if many else 1e-4)
    assert torch.equal(distance(x.float(), y), distance(x.float(), y.float()))


@every_distance
def test_the_unit_of_the_result(distance):
    x, y = normal(0, 50, 2), normal(1, 50, 2) + 1
    power = {energy_distance: 0.5, frechet_distance: 2.0}.get(distance, 1.0)
    assert distance(3 * x, 3 * y).item() == pytest.approx(
        3**power * distance(x, y).item(), rel=1e-8
    )
    shift = torch.tensor([5.0, -2.0], dtype=F64)
    assert distance(x + shift, y + shift).item() == pytest.approx(distance(x, y).item(), rel=1e-8)


@every_distance
def test_bad_samples_are_refused(distance):
    good = torch.randn(5, 2)
    with pytest.raises(TypeError, match="x must be floating point"):
        distance(good.long(), good)
    with pytest.raises(TypeError, match=r"y must be a torch.Tensor, but a ndarray"):
        distance(good, np.zeros((5, 2)))
    with pytest.raises(ValueError, match="y must be a non-empty batch"):
        distance(good, good[:0])
    for bad in (math.nan, -math.inf):
        with pytest.raises(ValueError, match="x must be finite, but 1 of 2"):
            distance(torch.tensor([[bad, 0.0]]), good)
        with pytest.raises(ValueError, match="y must be finite, but 1 of 2"):
            distance(good, torch.tensor([[bad, 0.0]]))
    with pytest.raises(
        ValueError, match=r"points of one shape, but x is \[5, 2\] and y is \[5, 3\]"
    ):
        distance(good, torch.zeros(5, 3))
    with pytest.raises(ValueError, match="points of one shape"):
        distance(good, torch.zeros(5, 2, 1))


# Wasserstein.


@given(seeds, st.sampled_from([1, 2, 3]), st.sampled_from([1.0, 2.0, 3.0]))
def test_a_translation_costs_its_length(seed, d, p):
    x, shift = normal(seed, 20, d), normal(seed + 1, d)
    length = shift.norm().item()
    assert wasserstein(x, x + shift, p=p).item() == pytest.approx(length, rel=1e-8)
    if d == 1:  # every direction of a line is the line
        sliced = sliced_wasserstein(x, x + shift, p=p)
        assert sliced.item() == pytest.approx(length, rel=1e-8)
    # E_θ |θ·c|² = |c|²/d
    sliced = sliced_wasserstein(x, x + shift, projections=20_000, seed=seed)
    assert sliced.item() == pytest.approx(length / math.sqrt(d), rel=0.03)


@pytest.mark.parametrize(("m", "s1"), [(2.0, 0.5), (0.0, 3.0), (-1.5, 1.0)])
def test_between_gaussians_on_a_line(m, s1):
    # reference-values.md: W2² = m² + (s0 − s1)². The distance is reported, not its square.
    quantiles = torch.tensor(stats.norm.ppf((np.arange(2000) + 0.5) / 2000))[:, None]
    x, y = quantiles, m + s1 * quantiles.flip(0)
    expected = math.sqrt(m**2 + (1 - s1) ** 2)
    assert wasserstein(x[::4], y[::4]).item() == pytest.approx(expected, rel=0.02)
    assert sliced_wasserstein(x, y, projections=3).item() == pytest.approx(expected, rel=0.01)


def test_w2_and_its_square_are_told_apart():
    x, y = torch.zeros(4, 2), torch.full((4, 2), 3.0)
    assert wasserstein(x, y).item() == pytest.approx(math.sqrt(18))
    assert wasserstein(x, y, p=1).item() == pytest.approx(math.sqrt(18))
    assert sliced_wasserstein(x[:, :1], y[:, :1]).item() == pytest.approx(3.0)


def test_between_gaussians_in_the_plane():
    n, m = 800, torch.tensor([3.0, 4.0], dtype=F64)
    x, y = normal(0, n, 2), m + 0.5 * normal(1, n, 2)
    expected = math.sqrt(25 + 2 * 0.25)
    assert wasserstein(x, y).item() == pytest.approx(expected, rel=0.02)
    # a projection on θ has mean θ·m and the widths 1 and ½: E_θ gives |m|²/2 + ¼
    sliced = sliced_wasserstein(x, y, projections=2000)
    assert sliced.item() == pytest.approx(math.sqrt(12.5 + 0.25), rel=0.03)


@given(seeds, st.sampled_from([1.0, 2.0, 4.0]))
def test_the_optimum_over_all_permutations(seed, p):
    x, y = normal(seed, 5, 2), normal(seed + 1, 5, 2)
    cost = (x[:, None] - y).norm(dim=2).pow(p)
    orders = torch.tensor(list(itertools.permutations(range(5))))
    best = cost[torch.arange(5), orders].mean(1).min()
    assert wasserstein(x, y, p=p).item() == pytest.approx(best.item() ** (1 / p))
    assert sliced_wasserstein(x, y).item() <= wasserstein(x, y).item() + 1e-9


def test_near_points_are_told_apart_beside_far_ones():
    x = 1e-3 * torch.arange(40.0)[:, None]
    x = torch.cat([x - 10, x + 10])
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    assert wasserstein(x, x[order]).item() < 1e-6


@given(seeds, st.integers(1, 30), st.integers(1, 30))
def test_unequal_sizes_on_a_line_are_close_to_scipy(seed, n, m):
    x, y = normal(seed, n, 1), normal(seed + 1, m, 1) + 1
    expected = stats.wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy())
    result = sliced_wasserstein(x, y, p=1, projections=2).item()
    if max(n, m) % min(n, m) == 0:  # then the two quantile functions are compared without rest
        assert result == pytest.approx(expected, rel=1e-9)
    spread = float(torch.cat([x, y]).max() - torch.cat([x, y]).min())
    assert abs(result - expected) <= spread * min(n, m) / max(n, m)


@pytest.mark.parametrize("n", [10, 333])
def test_repeating_every_point_does_not_change_a_sample(n):
    x, y = normal(0, n, 2), normal(1, n, 2) + 1
    assert sliced_wasserstein(x, x.repeat(3, 1)).item() == pytest.approx(0, abs=1e-12)
    expected = sliced_wasserstein(x, y).item()
    assert sliced_wasserstein(x, y.repeat(3, 1)).item() == pytest.approx(expected, rel=1e-9)
    assert sliced_wasserstein(x.repeat(2, 1), y).item() == pytest.approx(expected, rel=1e-9)


def test_unequal_sizes_are_compared_without_a_bias_to_one_side():
    x, y = normal(0, 7, 1), normal(1, 5, 1)
    assert sliced_wasserstein(-x, -y).item() == pytest.approx(sliced_wasserstein(x, y).item())


def test_unequal_sizes_of_one_distribution_are_near():
    near = sliced_wasserstein(normal(0, 3000, 2), normal(1, 2000, 2))
    assert near.item() < 0.1
    far = sliced_wasserstein(normal(0, 3000, 2), normal(1, 2000, 2) + 2)
    assert far.item() == pytest.approx(2.0, rel=0.1)


def test_directions_are_seeded(global_rng_untouched):
    x, y = normal(0, 50, 3), normal(1, 50, 3) + 1
    assert sliced_wasserstein(x, y, seed=1) == sliced_wasserstein(x, y, seed=1)
    assert sliced_wasserstein(x, y) == sliced_wasserstein(x, y, seed=0, projections=500, p=2.0)
    with torch.device("meta"):  # what is made without device= would not fit
        assert sliced_wasserstein(x, y[:30]).isfinite()
    assert sliced_wasserstein(x, y, seed=1) != sliced_wasserstein(x, y, seed=2)
    several = [sliced_wasserstein(x, y, seed=s, projections=2000).item() for s in range(4)]
    assert max(several) < 1.1 * min(several)


def test_bad_settings_of_the_wasserstein_distances():
    x = torch.randn(5, 2)
    with pytest.raises(ValueError, match=r"p must be at least 1, but 0\.5 came"):
        sliced_wasserstein(x, x, p=0.5)
    with pytest.raises(ValueError, match="projections must be at least 1, but 0 came"):
        sliced_wasserstein(x, x, projections=0)
    with pytest.raises(ValueError, match=r"p must be at least 1, but 0\.5 came"):
        wasserstein(x, x, p=0.5)
    with pytest.raises(ValueError, match="equally many points, but 5 and 3 came"):
        wasserstein(x, x[:3])


# Energy distance.


@given(seeds, st.integers(1, 40), st.integers(1, 40))
def test_energy_distance_on_a_line_is_that_of_scipy(seed, n, m):
    x, y = normal(seed, n, 1), 2 * normal(seed + 1, m, 1) + 0.5
    expected = stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert energy_distance(x, y).item() == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_energy_distance_in_the_plane_by_loops():
    x, y = normal(0, 7, 2), normal(1, 9, 2) + 1

    def mean(a, b):
        return sum((p - q).norm().item() for p in a for q in b) / (len(a) * len(b))

    expected = math.sqrt(2 * mean(x, y) - mean(x, x) - mean(y, y))
    assert energy_distance(x, y).item() == pytest.approx(expected, rel=1e-9)


def test_energy_distance_of_single_precision_far_from_the_origin():
    x, y = normal(0, 200, 2), normal(1, 200, 2)
    far = energy_distance((x + 100).float(), (y + 100).float()).item()
    assert far == pytest.approx(energy_distance(x, y).item(), rel=0.02)


# Fréchet distance.


def exact_moments(mean, root, n=50, seed=0):
    """Points whose sample mean and sample covariance are `mean` and root rootᵀ exactly."""
    z = normal(seed, n, len(mean))
    z = z - z.mean(0)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov().reshape(len(mean), -1))).T
    return mean + z @ root.T


def test_frechet_of_diagonal_gaussians():
    m0, m1 = torch.tensor([1.0, -2.0, 0.5], dtype=F64), torch.tensor([0.0, 1.0, 0.5], dtype=F64)
    s0, s1 = torch.tensor([1.0, 2.0, 0.3], dtype=F64), torch.tensor([0.5, 3.0, 1.3], dtype=F64)
    x = exact_moments(m0, s0.diag(), seed=0)
    y = exact_moments(m1, s1.diag(), n=80, seed=1)
    expected = (m0 - m1).square().sum() + (s0 - s1).square().sum()
    assert frechet_distance(x, y).item() == pytest.approx(expected.item(), rel=1e-9)


@given(seeds, st.integers(2, 6))
def test_frechet_against_the_matrix_root_of_scipy(seed, d):
    x = normal(seed, 40, d) @ normal(seed + 1, d, d)
    y = normal(seed + 2, 60, d) @ normal(seed + 3, d, d) + 1
    c_x, c_y = np.cov(x.numpy().T), np.cov(y.numpy().T)
    root = linalg.sqrtm(c_x @ c_y).real
    mean = ((x.mean(0) - y.mean(0)) ** 2).sum().item()
    expected = mean + np.trace(c_x) + np.trace(c_y) - 2 * np.trace(root)
    assert frechet_distance(x, y).item() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_frechet_on_a_line_is_the_squared_wasserstein_distance():
    x = exact_moments(torch.tensor([0.0], dtype=F64), torch.tensor([[1.0]], dtype=F64))
    y = exact_moments(torch.tensor([2.0], dtype=F64), torch.tensor([[0.5]], dtype=F64), seed=1)
    assert frechet_distance(x, y).item() == pytest.approx(4.25)  # squared, as the FID is


def test_frechet_with_fewer_points_than_dimensions():
    x, y = normal(0, 5, 20), normal(1, 6, 20)
    value = frechet_distance(x, y)
    assert value.isfinite()
    assert value.item() > 1
    assert frechet_distance(x, x).item() == pytest.approx(0, abs=1e-5)


def test_frechet_needs_two_points():
    with pytest.raises(ValueError, match="a covariance needs 2 points, but 1 and 5 came"):
        frechet_distance(torch.zeros(1, 2), torch.randn(5, 2))
    x = torch.tensor([[0.0], [2.0]])  # variance 2
    assert frechet_distance(x, 2 * x).item() == pytest.approx(1 + 2, rel=1e-6)


# Bending.


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 1, 2, 2)])
@pytest.mark.parametrize("times", [[0.0, 1.0], [0.0, 0.1, 0.5, 1.0], [0.2, 0.3, 0.9]])
def test_straight_lines_at_constant_speed(shape, times):
    t = torch.tensor(times, dtype=F64)
    start, v = normal(0, *shape), normal(1, *shape)
    path = torch.stack([start + time * v for time in t])
    assert bending(path, t).item() == pytest.approx(0, abs=1e-12)


def test_a_parabola():
    # x = (t, t²): ∫ (2t − 1)² dt = ⅓; piecewise linear on k equal steps: ⅓ (1 − 1/k²)
    for k in (2, 5, 400):
        t = torch.linspace(0, 1, k + 1, dtype=F64)
        path = torch.stack([t, t**2], dim=1)[:, None]
        assert bending(path, t).item() == pytest.approx((1 - 1 / k**2) / 3, rel=1e-9)


def test_bending_is_a_sum_over_dimensions_and_a_mean_over_the_batch():
    t = torch.linspace(0, 1, 201, dtype=F64)
    bent, straight = t**2, t
    path = torch.stack([torch.stack([bent, bent, bent], 1), torch.stack([straight] * 3, 1)], dim=1)
    assert path.shape == (201, 2, 3)
    assert bending(path, t).item() == pytest.approx(3 * (1 / 3) / 2, rel=1e-3)
    scaled = bending(10 * path, t).item()
    assert scaled == pytest.approx(100 * bending(path, t).item())


def test_a_straight_line_at_uneven_speed_counts():
    t = torch.linspace(0, 1, 201, dtype=F64)
    assert bending((t**2)[:, None, None], t).item() == pytest.approx(1 / 3, rel=1e-3)
    uneven = t**2  # the same curve, on times that are not equally spaced
    path = uneven[:, None, None]
    assert bending(path, uneven).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_uneven_times_and_points_by_loops(dtype):
    path, t = normal(0, 4, 5, 2).to(dtype), torch.tensor([0.1, 0.2, 0.6, 1.0], dtype=F64)
    chord = (path[-1] - path[0]) / 0.9
    expected = sum(
        (t[k + 1] - t[k]) * ((path[k + 1] - path[k]) / (t[k + 1] - t[k]) - chord)[i].square().sum()
        for k in range(3)
        for i in range(5)
    )
    for times in (t, t.float()):
        result = bending(path, times)
        assert result.dtype == dtype
        assert result.item() == pytest.approx(expected.item() / 5, rel=1e-5)


def test_on_a_part_of_the_time():
    t = torch.linspace(0.5, 1, 401, dtype=F64)  # ẋ = 2t, chord 1.5: ∫ (2t − 1.5)² = 1/24
    assert bending((t**2)[:, None, None], t).item() == pytest.approx(1 / 24, rel=1e-3)


def test_bad_paths_are_refused():
    path = torch.zeros(4, 3, 2)
    good = torch.linspace(0, 1, 4)
    bending(path, good)
    for times in (torch.linspace(0, 1, 3), good[:, None], torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"times must be \[k\] with k at least 2"):
            bending(path, times)
    with pytest.raises(ValueError, match=r"times must be \[k\] with k at least 2"):
        bending(path[:1], good[:1])
    for times in (good.flip(0), torch.tensor([0.0, 0.5, 0.5, 1.0]), good * math.nan):
        with pytest.raises(ValueError, match="times must be strictly increasing"):
            bending(path, times)
    with pytest.raises(TypeError, match="path must be floating point"):
        bending(path.long(), good)
    with pytest.raises(ValueError, match="path must be finite"):
        bending(path / 0, good)


# Numbers whose squares overflow, or that lose their digits to a common offset.


@pytest.mark.parametrize("distance", [energy_distance, wasserstein, sliced_wasserstein])
@pytest.mark.parametrize("offset", [1e5, -3e4])
def test_a_common_offset_changes_nothing(distance, offset):
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(400, 2, generator=g), 1.3 * torch.randn(400, 2, generator=g) + 0.2
    a, b = (a * 64).round() / 64, (b * 64).round() / 64  # exact beside the offset
    assert distance(a + offset, b + offset).item() == pytest.approx(distance(a, b).item(), rel=0.02)
    assert distance(a, b).item() > 0.1


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(1e-25, torch.float32), (1e25, torch.float32), (1e-250, F64), (1e250, F64)],
    ids=str,
)
def test_the_unit_of_the_points_does_not_matter(size, dtype):
    a, b = normal(0, 60, 2, dtype=dtype), normal(1, 60, 2, dtype=dtype) + 1
    for distance, power in ((wasserstein, 1), (sliced_wasserstein, 1), (energy_distance, 0.5)):
        scaled = distance(size * a, size * b).item()
        assert scaled == pytest.approx(size**power * distance(a, b).item(), rel=1e-4)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_the_exact_distance_has_a_gradient(p):
    x = torch.tensor([[0.0, 0.0], [5.0, 0.0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[5.0, 3.0], [0.0, 4.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: wasserstein(x, y, p=p), x)
    assert wasserstein(x, y, p=1.0).item() == pytest.approx(3.5)


def test_the_frechet_distance_is_not_negative():
    for n, d in itertools.product((2, 3, 50), (1, 2, 20)):  # few points have singular covariances
        x = normal(1, n, d)
        assert 0 <= frechet_distance(x, x).item() < 1e-5


def test_the_first_edition_s_name_is_the_same_measure():
    assert straightness is bending

"""The exact fields against other ways to the same numbers: quadrature, loops and autograd."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.profiler import ProfilerActivity, profile

from fmtutor import CondOT, Cosine, EmpiricalField, GaussianMixture, VariancePreserving

F64 = torch.float64
PATHS = [CondOT(), CondOT(0.1), Cosine(), VariancePreserving()]
every_path = pytest.mark.parametrize("path", PATHS, ids=str)
paths, seeds = st.sampled_from(PATHS), st.integers(0, 10_000)


def random_mixture(seed, k=3, d=2):
    g = torch.Generator().manual_seed(seed)
    means = 2 * torch.randn(k, d, generator=g, dtype=F64)
    stds, weights = (0.2 + torch.rand(k, generator=g, dtype=F64) for _ in range(2))
    return GaussianMixture(means, stds, weights)


def as_distribution(mixture, alpha=1.0, sigma=0.0):
    std = (alpha**2 * mixture.stds**2 + sigma**2).sqrt()[:, None].expand(mixture.means.shape)
    components = Independent(Normal(alpha * mixture.means, std), 1)
    return MixtureSameFamily(Categorical(mixture.weights), components)


def points(seed, *shape, low=0.0, high=1.0):
    g = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(*shape, generator=g, dtype=F64)
    return x, low + (high - low) * torch.rand(shape[0], generator=g, dtype=F64)


# GaussianMixture: the density and its samples.


@given(seeds, st.integers(1, 5), st.integers(1, 4))
def test_log_prob_is_that_of_a_mixture_distribution(seed, k, d):
    mixture = random_mixture(seed, k, d)
    x, _ = points(seed, 6, d)
    result = mixture.log_prob(x)
    assert result.shape == (6,)
    torch.testing.assert_close(result, as_distribution(mixture).log_prob(x))


@given(seeds, paths)
def test_log_prob_t_is_the_widened_mixture(seed, path):
    mixture = random_mixture(seed)
    x, t = points(seed, 5, 2)
    result = mixture.log_prob_t(path, x, t)
    for i in range(5):
        law = as_distribution(mixture, path.alpha(t[i]), path.sigma(t[i]))
        torch.testing.assert_close(result[i], law.log_prob(x[i]))


def test_the_ends_are_noise_and_data():
    mixture = random_mixture(0)
    x, _ = points(0, 5, 2)
    normal = Independent(Normal(torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64)), 1)
    for path in (CondOT(), Cosine()):
        torch.testing.assert_close(mixture.log_prob_t(path, x, 0.0), normal.log_prob(x))
        torch.testing.assert_close(mixture.log_prob_t(path, x, 1.0), mixture.log_prob(x))


def test_samples_have_the_moments_of_the_mixture():
    n, mixture = 100_000, random_mixture(7, k=3, d=2)
    x = mixture.sample(n, seed=0)
    assert x.shape == (n, 2)
    assert x.dtype == F64
    mean = (mixture.weights[:, None] * mixture.means).sum(0)
    offset = mixture.means - mean
    between = torch.einsum("k,ki,kj->ij", mixture.weights, offset, offset)
    covariance = between + (mixture.weights * mixture.stds**2).sum() * torch.eye(2, dtype=F64)
    spread = covariance.diagonal().sqrt()
    assert ((x.mean(0) - mean).abs() < 5 * spread / math.sqrt(n)).all()
    assert (x.T.cov() - covariance).abs().max() < 0.02 * covariance.trace()
    # the entropy sees the shape of each component, too
    gap = -mixture.log_prob(x).mean() + mixture.log_prob(mixture.sample(n, seed=1)).mean()
    assert gap.abs() < 5 * math.sqrt(2 / n) * mixture.log_prob(x).std()


def test_each_component_is_sampled_with_its_own_width_and_weight():
    means = torch.tensor([[-50.0], [50.0]], dtype=F64)
    weights = torch.tensor([1.0, 3.0], dtype=F64)  # divided by their sum
    mixture = GaussianMixture(means, torch.tensor([0.5, 2.0], dtype=F64), weights)
    x = mixture.sample(40_000, seed=0)[:, 0]
    assert (x > 0).double().mean() == pytest.approx(0.75, abs=0.01)
    assert x[x < 0].std() == pytest.approx(0.5, rel=0.03)
    assert x[x > 0].std() == pytest.approx(2.0, rel=0.03)
    torch.testing.assert_close(mixture.weights.sum(), torch.tensor(1.0, dtype=F64))


def test_sampling_is_seeded(global_rng_untouched):
    mixture = random_mixture(0)
    first = mixture.sample(9, seed=3)
    assert torch.equal(first, mixture.sample(9, seed=3))
    assert torch.equal(first, mixture.sample(9, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(first, mixture.sample(9, seed=4))
    assert mixture.sample(1, seed=3).shape == (1, 2)


def test_a_mixture_has_the_dtype_and_the_device_of_its_means():
    means = torch.zeros(2, 3, dtype=F64)
    two = torch.tensor([1, 2])
    with torch.device("meta"):  # what is made without device= would not fit
        mixture = GaussianMixture(means, 1.0)
        x = mixture.sample(9, seed=0)
    assert not torch.equal(x, x.float().double())
    assert x.device == mixture.stds.device == means.device
    mixture = GaussianMixture(means, two, two)
    assert mixture.stds.dtype == mixture.weights.dtype == F64


def test_one_number_serves_for_all_widths():
    means = torch.zeros(3, 2)
    for std in (0.5, torch.tensor(0.5), torch.full((3,), 0.5)):
        assert GaussianMixture(means, std).stds.tolist() == [0.5] * 3
    assert GaussianMixture(means.double(), 0.3).stds.tolist() == [0.3] * 3  # not float32's 0.3
    assert GaussianMixture(means, 1).weights.tolist() == pytest.approx([1 / 3] * 3)


# GaussianMixture: the velocity.


@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_gaussian_to_gaussian(t):
    # reference-values.md: u = m + (t s1² − (1 − t) s0²)/v_t (x − t m), with s0 = 1
    m, s1 = torch.tensor([2.0, -1.0], dtype=F64), 0.5
    x, _ = points(1, 6, 2)
    v_t = (1 - t) ** 2 + t**2 * s1**2
    expected = m + (t * s1**2 - (1 - t)) / v_t * (x - t * m)
    field = GaussianMixture(m[None], s1).velocity(CondOT())
    torch.testing.assert_close(field(x, t), expected)


@every_path
@pytest.mark.parametrize("t", [0.15, 0.5, 0.85])
def test_velocity_is_the_posterior_mean_of_the_target_by_quadrature(path, t):
    # u_t(x) = ∫ u_t(x|x1) p_t(x|x1) q(x1) dx1 / ∫ p_t(x|x1) q(x1) dx1, on a fine grid of x1
    mixture = random_mixture(5, k=3, d=1)
    x = torch.tensor([[-2.0], [-0.3], [0.4], [2.5]], dtype=F64)
    grid = torch.linspace(-14, 14, 40_001, dtype=F64)[:, None]
    q = mixture.log_prob(grid)
    for row in x:
        here = row.expand(grid.shape)
        log_w = path.log_prob(here, grid, t) + q
        u = path.conditional_velocity(here, grid, t)
        w = (log_w - log_w.max()).exp()
        mean = (w[:, None] * u).sum(0) / w.sum()
        variance = (w[:, None] * (u - mean).square()).sum(0) / w.sum()
        velocity = mixture.velocity(path)(row[None], t)[0]
        torch.testing.assert_close(velocity, mean, rtol=1e-7, atol=1e-7)
        floor = mixture.target_variance(path)(row[None], t)
        torch.testing.assert_close(floor, variance, rtol=1e-6, atol=1e-8)
        log_p = torch.logsumexp(log_w, 0) + math.log(28 / 40_000)
        torch.testing.assert_close(mixture.log_prob_t(path, row[None], t)[0], log_p)


@every_path
def test_velocity_in_the_plane_by_monte_carlo(path):
    # Weighted by p_t(x|x1), samples of x1 ~ q are samples of the posterior.
    mixture, t = random_mixture(3), 0.4
    x1 = mixture.sample(200_000, seed=0)
    for row in torch.tensor([[0.5, -0.5], [-1.0, 1.0]], dtype=F64):
        here = row.expand(x1.shape)
        w = path.log_prob(here, x1, t).softmax(0)[:, None]
        u = path.conditional_velocity(here, x1, t)
        mean = (w * u).sum(0)
        error = (w.square() * (u - mean).square()).sum(0).sqrt()
        assert ((mixture.velocity(path)(row[None], t)[0] - mean).abs() < 5 * error).all()
        variance = (w * (u - mean).square()).sum(0).mean()
        floor = mixture.target_variance(path)(row[None], t)[0]
        assert floor.item() == pytest.approx(variance.item(), rel=0.1)


@given(seeds, paths)
def test_score_is_the_gradient_of_the_log_density(seed, path):
    mixture = random_mixture(seed)
    x, t = points(seed, 5, 2)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_prob_t(path, x, t).sum(), x)
    torch.testing.assert_close(mixture.score(path)(x.detach(), t), gradient)


@given(seeds, paths)
def test_score_and_velocity_convert_into_each_other(seed, path):
    mixture = random_mixture(seed)
    x, t = points(seed, 5, 2, low=0.05, high=0.95)
    v, s = mixture.velocity(path)(x, t), mixture.score(path)(x, t)
    torch.testing.assert_close(path.score_from_velocity(v, x, t), s, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(path.velocity_from_score(s, x, t), v, rtol=1e-8, atol=1e-8)


@every_path
def test_the_mixture_is_finite_at_both_ends(path):
    mixture = random_mixture(2)
    x, _ = points(2, 5, 2)
    for t in (0.0, 1.0, torch.tensor([0.0, 1.0, 0.5, 0.0, 1.0], dtype=F64)):
        assert mixture.velocity(path)(x, t).isfinite().all()
        assert mixture.score(path)(x, t).isfinite().all()
        assert mixture.log_prob_t(path, x, t).isfinite().all()
    near, end = mixture.velocity(path)(x, 1 - 1e-9), mixture.velocity(path)(x, 1.0)
    torch.testing.assert_close(near, end, rtol=1e-5, atol=1e-5)


def test_velocity_at_the_noise_end_points_to_the_mean():
    # At t = 0 on the straight path x_t = x0 tells nothing of x1: u_0(x) = E[x1] − x.
    mixture = random_mixture(4)
    x, _ = points(4, 5, 2)
    mean = (mixture.weights[:, None] * mixture.means).sum(0)
    torch.testing.assert_close(mixture.velocity(CondOT())(x, 0.0), mean - x)
    # and flipped time would be the field at t = 1, which has to be another one
    assert (mixture.velocity(CondOT())(x, 1.0) - (mean - x)).abs().max() > 0.1


@every_path
def test_a_float_time_is_as_exact_as_the_points(path):
    mixture = random_mixture(6)
    x, _ = points(6, 5, 2)
    t = torch.full((5,), 0.3, dtype=F64)  # not float32's 0.3
    for f in (mixture.velocity(path), mixture.score(path), mixture.target_variance(path)):
        torch.testing.assert_close(f(x, 0.3), f(x, t), rtol=1e-13, atol=1e-13)
    field = EmpiricalField(path, mixture.sample(9, seed=0))
    for f in (field, field.posterior, field.posterior_mean, field.target_variance):
        torch.testing.assert_close(f(x, 0.3), f(x, t), rtol=1e-13, atol=1e-13)


def test_far_from_every_mean_nothing_underflows():
    mixture = random_mixture(1)
    x = torch.tensor([[1e3, -1e3]], dtype=F64)
    for path in PATHS:
        assert mixture.velocity(path)(x, 0.7).isfinite().all()
        assert mixture.log_prob_t(path, x, 0.7).isfinite().all()


def test_target_variance_of_one_gaussian_is_the_formula_of_the_floor():
    # Var[x1 − x0 | x_t] = s1²/((1 − t)² + t² s1²) for s0 = 1
    t = torch.linspace(0, 1, 11, dtype=F64)
    x, _ = points(0, 11, 3)
    variance = GaussianMixture(torch.ones(1, 3, dtype=F64), 0.5).target_variance(CondOT())(x, t)
    torch.testing.assert_close(variance, 0.25 / ((1 - t) ** 2 + 0.25 * t**2))


def test_target_variance_of_the_diffusion_path_diverges_at_the_data():
    variance = random_mixture(0).target_variance(VariancePreserving())
    x, _ = points(0, 3, 2)
    assert (variance(x, 1.0) == math.inf).all()
    assert variance(x, 0.999).isfinite().all()


# GaussianMixture: bad input.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3), 1.0), r"means must have shape \[k d\], but \[3\] came"),
        ((torch.zeros(2, 2, 2), 1.0), r"means must have shape \[k d\]"),
        ((torch.zeros(0, 2), 1.0), "means must be a non-empty batch"),
        ((torch.tensor([[math.nan, 0.0]]), 1.0), "means must be finite"),
        ((torch.zeros(3, 2), torch.ones(2)), r"stds must have shape \[3\], .* but \[2\] came"),
        ((torch.zeros(3, 2), torch.ones(3, 2)), r"stds must have shape \[3\]"),
        ((torch.zeros(3, 2), 0.0), "stds must be positive and finite"),
        ((torch.zeros(3, 2), -1.0), "stds must be positive and finite"),
        ((torch.zeros(1, 2), math.inf), "stds must be positive and finite"),
        ((torch.zeros(1, 2), math.nan), "stds must be positive and finite"),
        ((torch.zeros(3, 2), 1.0, torch.ones(2)), r"weights must have shape \[3\]"),
        ((torch.zeros(2, 2), 1.0, torch.tensor([1.0, 0.0])), "weights must be positive"),
        ((torch.zeros(2, 2), 1.0, torch.tensor([1.0, -1.0])), "weights must be positive"),
    ],
)
def test_bad_mixtures_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(*arguments)


def test_means_must_be_floating_point():
    with pytest.raises(TypeError, match="means must be floating point"):
        GaussianMixture(torch.zeros(3, 2, dtype=torch.long), 1.0)
    with pytest.raises(TypeError, match=r"means must be a torch.Tensor, but a list"):
        GaussianMixture([[0.0, 1.0]], 1.0)


def test_bad_points_and_times_are_refused_by_the_mixture():
    mixture, path, good = random_mixture(0), CondOT(), torch.zeros(3, 2, dtype=F64)
    calls = [
        mixture.velocity(path),
        mixture.score(path),
        mixture.target_variance(path),
        lambda x, t: mixture.log_prob_t(path, x, t),
    ]
    for call in [*calls, lambda x, t: mixture.log_prob(x)]:
        call(good, 0.5)
        with pytest.raises(ValueError, match=r"x must have shape \[b 2\] as the means do"):
            call(torch.zeros(3, 3, dtype=F64), 0.5)
        with pytest.raises(ValueError, match=r"x must have shape \[b 2\]"):
            call(torch.zeros(3, dtype=F64), 0.5)
        with pytest.raises(TypeError, match="x and means must have one dtype"):
            call(good.float(), 0.5)
        with pytest.raises(ValueError, match="non-empty"):
            call(good[:0], 0.5)
    for call in calls:
        with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
            call(good, 1.5)
        with pytest.raises(ValueError, match="t has shape"):
            call(good, torch.zeros(2))
    for n in (0, -1):
        with pytest.raises(ValueError, match=f"n must be at least 1, but {n} came"):
            mixture.sample(n)


# EmpiricalField: against the loop that says what it is.


def naive(path, data, x, t):
    """Velocity, weights and variance of the target, one point and one data point at a time."""
    velocities, weights, variances = [], [], []
    for row, time in zip(x.double(), t.double(), strict=True):
        alpha, sigma = path.alpha(time), path.sigma(time)
        d_alpha, d_sigma = path.d_alpha(time), path.d_sigma(time)
        difference = (row - alpha * data.double()).flatten(1)
        w = (-difference.square().sum(1) / (2 * sigma**2)).softmax(0)
        u = (d_sigma / sigma) * difference + d_alpha * data.double().flatten(1)  # [n d]
        mean = w @ u
        velocities.append(mean.reshape(row.shape))
        weights.append(w)
        variances.append((w @ (u - mean).square()).mean())
    return torch.stack(velocities), torch.stack(weights), torch.stack(variances)


@given(paths, st.sampled_from([(1,), (2,), (3,), (1, 4, 4), (3, 2, 2)]), seeds)
def test_empirical_field_is_the_naive_loop(path, shape, seed):
    g = torch.Generator().manual_seed(seed)
    data = 3 + torch.randn(17, *shape, generator=g, dtype=F64)  # not centred
    x, t = points(seed, 5, *shape, low=0.0, high=0.95)
    velocity, weights, variance = naive(path, data, x, t)
    field = EmpiricalField(path, data)
    close = {"rtol": 1e-8, "atol": 1e-8}
    result = field(x, t)
    assert result.shape == x.shape
    torch.testing.assert_close(result, velocity, **close)
    torch.testing.assert_close(field.posterior(x, t), weights, **close)
    torch.testing.assert_close(
        field.posterior_mean(x, t), (weights @ data.flatten(1)).reshape(x.shape), **close
    )
    torch.testing.assert_close(field.target_variance(x, t), variance, rtol=1e-6, atol=1e-7)


def test_points_may_be_numbers():
    data = torch.tensor([-1.0, 2.0], dtype=F64)
    x, t = torch.tensor([0.3, -0.2, 1.0], dtype=F64), torch.full((3,), 0.6, dtype=F64)
    expected = EmpiricalField(CondOT(), data[:, None])(x[:, None], t)[:, 0]
    torch.testing.assert_close(EmpiricalField(CondOT(), data)(x, t), expected)


@every_path
@pytest.mark.parametrize("shape", [(2,), (1, 3, 3)])
def test_posterior_rows_sum_to_one(path, shape):
    x, t = points(3, 8, *shape, high=0.99)
    weights = EmpiricalField(path, points(4, 50, *shape)[0]).posterior(x, t)
    assert weights.shape == (8, 50)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(8, dtype=F64))


@every_path
def test_empirical_field_is_the_limit_of_narrow_components(path):
    data, _ = points(0, 20, 2)
    x, t = points(1, 6, 2, high=0.9)
    narrow = GaussianMixture(data, 1e-7)
    empirical = EmpiricalField(path, data)
    torch.testing.assert_close(empirical(x, t), narrow.velocity(path)(x, t), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        empirical.target_variance(x, t), narrow.target_variance(path)(x, t), rtol=1e-5, atol=1e-6
    )


def test_one_data_point_gives_the_conditional_velocity():
    for path in PATHS:
        data, _ = points(0, 1, 3)
        x, t = points(1, 6, 3, high=0.9)
        expected = path.conditional_velocity(x, data.expand(6, 3), t)
        torch.testing.assert_close(EmpiricalField(path, data)(x, t), expected)
        assert EmpiricalField(path, data).target_variance(x, t).abs().max() < 1e-10


def test_order_and_repetition_of_the_data_do_not_count():
    data, _ = points(0, 20, 2)
    x, t = points(1, 6, 2, high=0.9)
    expected = EmpiricalField(CondOT(), data)(x, t)
    torch.testing.assert_close(EmpiricalField(CondOT(), data.flip(0))(x, t), expected)
    torch.testing.assert_close(EmpiricalField(CondOT(), data.repeat(3, 1))(x, t), expected)


def test_shifting_data_and_points_together_shifts_the_field_by_a_known_velocity():
    # Adding c to the data adds α c to x_t and α' c to the velocity.
    data, _ = points(0, 20, 2)
    x, t = points(1, 6, 2, high=0.9)
    c = torch.tensor([100.0, -40.0], dtype=F64)
    for path in PATHS:
        alpha, d_alpha = path.alpha(t)[:, None], path.d_alpha(t)[:, None]
        moved = EmpiricalField(path, data + c)(x + alpha * c, t)
        expected = EmpiricalField(path, data)(x, t) + d_alpha * c
        torch.testing.assert_close(moved, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_single_precision_at_scale(offset):
    # Images as they are used: in [0, 1] (off centre) or in [-½, ½].
    g = torch.Generator().manual_seed(0)
    data = torch.rand(2000, 784, generator=g) - offset
    t = torch.linspace(0, 0.95, 16)
    x0 = torch.randn(16, 784, generator=g)
    x = CondOT().sample(x0, data[:16], t).xt
    exact = EmpiricalField(CondOT(), data.double())(x.double(), t.double())
    result = EmpiricalField(CondOT(), data)(x, t)
    assert result.dtype == torch.float32
    assert ((result - exact).norm(dim=1) / exact.norm(dim=1)).max() < 2e-5
    expected, _, _ = naive(CondOT(), data, x, t)
    torch.testing.assert_close(exact, expected, rtol=1e-9, atol=1e-9)


def test_the_data_may_lie_anywhere_in_single_precision():
    data, _ = points(0, 20, 2)
    data = (data + torch.tensor([1e3, -1e3], dtype=F64)).float()
    x = CondOT().sample(torch.randn(20, 2, generator=torch.Generator().manual_seed(0)), data, 0.9)
    exact = EmpiricalField(CondOT(), data.double()).posterior_mean(x.xt.double(), 0.9)
    result = EmpiricalField(CondOT(), data).posterior_mean(x.xt, 0.9)
    assert (result - exact).abs().max() < 0.05  # of a spread of 2; the points are rounded by 1e-4


def test_a_variance_is_never_negative():
    data = points(0, 200, 3)[0].float()
    x = CondOT().sample(torch.zeros_like(data), data, 0.9).xt
    variance = EmpiricalField(CondOT(), data).target_variance(x, 0.9)  # nearly 0: it may round
    assert (variance >= 0).all()


@pytest.mark.parametrize("call", ["__call__", "posterior", "target_variance"])
def test_no_array_of_all_differences_is_ever_held(call):
    b, n, d = 64, 1500, 256
    data, x = torch.rand(n, d), torch.rand(b, d)
    field = EmpiricalField(CondOT(), data)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        getattr(field, call)(x, torch.rand(b) * 0.9)
    peak = running = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            running += event.nbytes()
            peak = max(peak, running)
    assert 4 * b * d <= peak < 4 * b * n * d / 10  # it has seen something, and far from [b n d]
    if call == "__call__":
        assert peak < 4 * b * n * 4  # nor more than a few [b n]


def test_the_field_can_be_differentiated():
    data, _ = points(0, 20, 2)
    x, _ = points(1, 4, 2)
    eps = 1e-6 * torch.eye(2, dtype=F64)
    field = EmpiricalField(CondOT(), data)
    numeric = torch.stack([(field(x[:1] + e, 0.5) - field(x[:1] - e, 0.5))[0] / 2e-6 for e in eps])
    x = x.requires_grad_()
    (row_gradient,) = torch.autograd.grad(field(x, 0.5)[0, 0], x)
    torch.testing.assert_close(row_gradient[0], numeric[:, 0], rtol=1e-5, atol=1e-5)
    assert (row_gradient[1:] == 0).all()


def test_the_empirical_field_at_both_ends():
    data, _ = points(0, 20, 2)
    x, _ = points(1, 4, 2)
    for path in (CondOT(), CondOT(0.1), Cosine()):  # at t = 0 nothing is known of x1
        expected = (
            path.d_alpha(torch.tensor(0.0)) * data.mean(0)
            + path.d_sigma(torch.tensor(0.0, dtype=F64)) * x
        )
        torch.testing.assert_close(EmpiricalField(path, data)(x, 0.0), expected, rtol=1e-6, atol=0)
    assert EmpiricalField(CondOT(0.1), data)(x, 1.0).isfinite().all()
    for path in (CondOT(), Cosine(), VariancePreserving()):
        field = EmpiricalField(path, data)
        for call in (field, field.posterior, field.posterior_mean, field.target_variance):
            for t in (1.0, torch.tensor([0.0, 0.5, 1.0, 0.2], dtype=F64)):
                with pytest.raises(ValueError, match=r"no limit where σ\(t\) = 0 \(t = 1"):
                    call(x, t)


def test_bad_input_is_refused_by_the_empirical_field():
    with pytest.raises(ValueError, match="data must be a non-empty batch"):
        EmpiricalField(CondOT(), torch.zeros(0, 2))
    with pytest.raises(ValueError, match="data must be finite, but 1 of 4"):
        EmpiricalField(CondOT(), torch.tensor([[0.0, 1.0], [math.nan, 0.0]]))
    with pytest.raises(TypeError, match="data must be floating point"):
        EmpiricalField(CondOT(), torch.zeros(3, 2, dtype=torch.uint8))
    field, good = EmpiricalField(CondOT(), torch.zeros(5, 2)), torch.zeros(3, 2)
    for call in (field, field.posterior, field.posterior_mean, field.target_variance):
        call(good, 0.5)
        with pytest.raises(ValueError, match=r"x must hold points of shape \[2\] as the data does"):
            call(torch.zeros(3, 3), 0.5)
        with pytest.raises(ValueError, match=r"x must hold points of shape \[2\]"):
            call(torch.zeros(3), 0.5)
        with pytest.raises(TypeError, match="x and data must have one dtype"):
            call(good.double(), 0.5)
        with pytest.raises(ValueError, match="non-empty"):
            call(good[:0], 0.5)
        with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
            call(good, -0.5)
        with pytest.raises(ValueError, match="t has shape"):
            call(good, torch.zeros(2))

"""Conditional paths: one formula for the field, one for the target, and every way between them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal

from fmtutor import (
    AffinePath,
    BridgePath,
    CondOT,
    Cosine,
    PathSample,
    VariancePreserving,
    continuity_residual,
)
from fmtutor.paths import BrownianBridge

F64 = torch.float64
PATHS = [
    CondOT(),
    CondOT(0.1),
    CondOT(1e-4),
    Cosine(),
    VariancePreserving(),
    VariancePreserving(0.5, 3.0),
    VariancePreserving(2.0, 2.0),
]
SHAPES = [(3,), (1,), (2, 3), (3, 3), (2, 1, 4, 2), (2, 3, 2, 2)]
every_path = pytest.mark.parametrize("path", PATHS, ids=str)
paths, shapes, seeds = st.sampled_from(PATHS), st.sampled_from(SHAPES), st.integers(0, 10_000)


def draw(shape, seed, dtype=F64, low=0.0, high=1.0):
    g = torch.Generator().manual_seed(seed)
    x0, x1 = (torch.randn(shape, generator=g, dtype=dtype) for _ in range(2))
    return x0, x1, low + (high - low) * torch.rand(shape[0], generator=g, dtype=dtype)


def left(t, x):
    return t.reshape(-1, *[1] * (x.ndim - 1))


# The path and its target.


@given(paths, shapes, seeds)
def test_sample_is_the_definition_row_by_row(path, shape, seed):
    x0, x1, t = draw(shape, seed, high=0.999)
    s = path.sample(x0, x1, t)
    assert isinstance(s, PathSample)
    assert s.x0 is x0
    assert s.x1 is x1
    assert torch.equal(s.t, t)
    assert s.xt.shape == s.ut.shape == x1.shape
    for i, time in enumerate(t):
        xt = path.alpha(time) * x1[i] + path.sigma(time) * x0[i]
        ut = path.d_alpha(time) * x1[i] + path.d_sigma(time) * x0[i]
        torch.testing.assert_close(s.xt[i], xt, rtol=0, atol=1e-12)
        torch.testing.assert_close(s.ut[i], ut, rtol=1e-12, atol=1e-12)


@given(paths, shapes, seeds)
def test_general_formula_and_target_agree(path, shape, seed):
    x0, x1, t = draw(shape, seed, high=0.99)
    s = path.sample(x0, x1, t)
    assert (path.conditional_velocity(s.xt, x1, t) - s.ut).abs().max() < 1e-10


@given(paths, shapes, seeds)
def test_the_target_is_the_time_derivative_of_the_path(path, shape, seed):
    x0, x1, t = draw(shape, seed, high=0.99)
    _, ut = torch.autograd.functional.jvp(
        lambda time: path.sample(x0, x1, time).xt, t, torch.ones_like(t)
    )
    torch.testing.assert_close(path.sample(x0, x1, t).ut, ut, rtol=1e-10, atol=1e-10)


@given(st.sampled_from([0.0, 1e-4, 0.1, 0.9]), shapes, seeds)
def test_the_target_of_the_straight_path_literally(sigma_min, shape, seed):
    x0, x1, t = draw(shape, seed)
    ut = CondOT(sigma_min).sample(x0, x1, t).ut
    torch.testing.assert_close(ut, x1 - (1 - sigma_min) * x0, rtol=0, atol=1e-14)


@every_path
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_dtype_is_kept_and_a_time_may_take_every_form(path, dtype):
    x0, x1, _ = draw((3, 2), 0, dtype)
    expected = path.sample(x0, x1, torch.full((3,), 0.25, dtype=dtype))
    for t in (0.25, torch.tensor(0.25), torch.full((3,), 0.25, dtype=F64)):
        s = path.sample(x0, x1, t)
        assert s.t.shape == (3,)
        for got, want in zip(s, expected, strict=True):
            assert got.dtype == dtype
            assert torch.equal(got, want)
        assert path.conditional_velocity(s.xt, x1, t).dtype == dtype
        assert path.log_prob(s.xt, x1, t).dtype == dtype


@every_path
def test_a_float_time_is_as_exact_as_the_points(path):
    a, b, _ = draw((3, 2), 0)
    t = torch.full((3,), 0.3, dtype=F64)  # not float32's 0.3
    for call in calls(path):
        torch.testing.assert_close(call(a, b, 0.3), call(a, b, t), rtol=1e-13, atol=1e-13)


# The two functions of time.


@every_path
def test_derivatives_are_exact(path):
    t = torch.linspace(0, 0.999, 101, dtype=F64, requires_grad=True)
    for f, df in ((path.alpha, path.d_alpha), (path.sigma, path.d_sigma)):
        (by_autograd,) = torch.autograd.grad(f(t).sum(), t)
        torch.testing.assert_close(df(t).detach(), by_autograd, rtol=1e-10, atol=1e-12)
    (half,) = torch.autograd.grad(0.5 * path.sigma(t).square().sum(), t)
    torch.testing.assert_close(path.half_d_variance(t).detach(), half, rtol=1e-9, atol=1e-12)


@every_path
def test_alpha_rises_and_sigma_falls(path):
    t = torch.linspace(0, 1, 201, dtype=F64)
    assert (path.alpha(t).diff() > 0).all()
    assert (path.sigma(t).diff() < 0).all()


@every_path
def test_functions_of_time_keep_shape_and_take_floats(path):
    for f in (path.alpha, path.sigma, path.d_alpha, path.d_sigma, path.half_d_variance):
        assert f(0.5).shape == ()
        for shape in [(), (1,), (4,)]:
            assert f(torch.full(shape, 0.5)).shape == shape
        assert f(torch.full((4,), 0.5))[0] == pytest.approx(f(0.5).item())
        assert f(torch.full((4,), 0.5, dtype=F64)).dtype == F64


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_boundary_values(dtype):
    zero, one = torch.tensor(0.0, dtype=dtype), torch.tensor(1.0, dtype=dtype)
    for path in (CondOT(), CondOT(0.1), Cosine()):
        assert path.alpha(zero) == 0
        assert path.sigma(zero) == 1
        assert path.alpha(one) == 1
    assert CondOT().sigma(one) == 0
    assert Cosine().sigma(one) == 0  # not the rounding error of a cosine
    vp = VariancePreserving()
    assert vp.alpha(one) == 1
    assert vp.sigma(one) == 0
    assert vp.alpha(zero).item() == pytest.approx(math.exp(-20.1 / 4), rel=1e-5)
    assert vp.alpha(zero).item() == pytest.approx(0.0066, abs=5e-5)
    assert VariancePreserving(1.0, 3.0).alpha(zero).item() == pytest.approx(math.exp(-1), rel=1e-6)


@pytest.mark.parametrize("sigma_min", [1e-1, 1e-3, 1e-5, 1e-9])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_width_left_at_the_end_is_sigma_min_in_every_dtype(sigma_min, dtype):
    sigma = CondOT(sigma_min).sigma(torch.tensor(1.0, dtype=dtype))
    assert sigma.item() == pytest.approx(sigma_min, rel=1e-6, abs=0)


def test_variances():
    t = torch.linspace(0, 1, 50, dtype=F64)
    for path in (Cosine(), VariancePreserving(), VariancePreserving(0.5, 3.0)):
        square = path.alpha(t).square() + path.sigma(t).square()
        torch.testing.assert_close(square, torch.ones_like(t), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_sigma_of_the_diffusion_path_does_not_cancel_near_the_data(dtype):
    s = 2.0**-22  # 1 − s is exact in both dtypes
    sigma = VariancePreserving().sigma(torch.tensor(1 - s, dtype=dtype))
    assert sigma.item() == pytest.approx(math.sqrt(0.1 * s), rel=1e-4)


def test_beta_is_linear_in_the_noise_time():
    path = VariancePreserving(0.3, 5.0)  # β(t) = 2 d log α / dt
    t = torch.linspace(0, 1, 11, dtype=F64)
    beta = 2 * path.d_alpha(t) / path.alpha(t)
    torch.testing.assert_close(beta, 5.0 - 4.7 * t)


def test_a_constant_rate_is_a_rate():
    t = torch.linspace(0, 1, 11, dtype=F64)
    torch.testing.assert_close(VariancePreserving(3.0, 3.0).alpha(t), (-1.5 * (1 - t)).exp())


# Densities.


@given(paths, shapes, seeds)
def test_log_prob_is_that_of_a_normal_distribution(path, shape, seed):
    x0, x1, t = draw(shape, seed, high=0.99)
    xt = path.sample(x0, x1, t).xt + 0.1
    alpha, sigma = left(path.alpha(t), x1), left(path.sigma(t), x1)
    normal = Independent(Normal(alpha * x1, sigma.expand(x1.shape)), x1.ndim - 1)
    result = path.log_prob(xt, x1, t)
    assert result.shape == shape[:1]
    torch.testing.assert_close(result, normal.log_prob(xt), rtol=1e-10, atol=1e-10)


@given(paths, st.sampled_from([(3, 1), (2, 3), (3, 3), (2, 2, 2)]), seeds)
def test_each_conditional_path_satisfies_the_continuity_equation(path, shape, seed):
    x0, x1, t = draw(shape, seed, low=0.05, high=0.95)
    x = path.sample(x0, x1, t).xt.requires_grad_()
    t = t.requires_grad_()
    score, d_t = torch.autograd.grad(path.log_prob(x, x1, t).sum(), (x, t))
    u = path.conditional_velocity(x, x1, t)
    divergence = (path.d_sigma(t) / path.sigma(t)) * x1[0].numel()  # u is affine in x
    residual = d_t + divergence + (u * score).flatten(1).sum(1)
    scale = 1 + d_t.abs() + divergence.abs()
    assert (residual / scale).abs().max() < 1e-10
    # the conditional score, by hand, is −x0/σ
    torch.testing.assert_close(score, -x0 / left(path.sigma(t), x), rtol=1e-8, atol=1e-8)


# Conversions: two equations, two unknowns, solved every way round.


@given(paths, shapes, seeds)
def test_velocity_holds_both_ends(path, shape, seed):
    x0, x1, t = draw(shape, seed, high=0.99)
    s = path.sample(x0, x1, t)
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(path.data_from_velocity(s.ut, s.xt, t), x1, **close)
    torch.testing.assert_close(path.noise_from_velocity(s.ut, s.xt, t), x0, **close)


@given(paths, shapes, seeds)
def test_velocity_and_score_round_trip(path, shape, seed):
    x, v, t = draw(shape, seed, low=0.05, high=0.95)
    score = path.score_from_velocity(v, x, t)
    torch.testing.assert_close(path.velocity_from_score(score, x, t), v, rtol=1e-9, atol=1e-9)
    back = path.velocity_from_score(v, x, t)
    torch.testing.assert_close(path.score_from_velocity(back, x, t), v, rtol=1e-8, atol=1e-8)


@given(paths, shapes, seeds)
def test_the_score_of_the_conditional_path_gives_its_velocity(path, shape, seed):
    x0, x1, t = draw(shape, seed, low=0.05, high=0.95)
    s = path.sample(x0, x1, t)
    score = -x0 / left(path.sigma(t), x0)
    close = {"rtol": 1e-8, "atol": 1e-8}
    torch.testing.assert_close(path.velocity_from_score(score, s.xt, t), s.ut, **close)
    torch.testing.assert_close(path.score_from_velocity(s.ut, s.xt, t), score, **close)


@given(paths, shapes, seeds)
def test_round_trips_in_single_precision(path, shape, seed):
    x0, x1, t = draw(shape, seed, torch.float32, low=0.1, high=0.9)
    s = path.sample(x0, x1, t)
    close = {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(path.data_from_velocity(s.ut, s.xt, t), x1, **close)
    torch.testing.assert_close(path.noise_from_velocity(s.ut, s.xt, t), x0, **close)
    score = path.score_from_velocity(s.ut, s.xt, t)
    assert score.dtype == torch.float32
    torch.testing.assert_close(path.velocity_from_score(score, s.xt, t), s.ut, **close)


# The ends of time: finite where there is a limit, a clear error where there is none.


@every_path
def test_at_the_noise_end_everything_but_the_velocity_from_the_score_is_finite(path):
    x0, x1, _ = draw((4, 3), 1)
    s = path.sample(x0, x1, 0.0)
    alpha = path.alpha(torch.tensor(0.0, dtype=F64))
    torch.testing.assert_close(s.xt, alpha * x1 + (1 - alpha**2).sqrt() * x0)
    assert s.ut.isfinite().all()
    torch.testing.assert_close(path.conditional_velocity(s.xt, x1, 0.0), s.ut)
    torch.testing.assert_close(path.noise_from_velocity(s.ut, s.xt, 0.0), x0)
    torch.testing.assert_close(path.data_from_velocity(s.ut, s.xt, 0.0), x1)
    torch.testing.assert_close(
        path.score_from_velocity(s.ut, s.xt, 0.0), -x0 / (1 - alpha**2).sqrt()
    )
    assert path.log_prob(s.xt, x1, 0.0).isfinite().all()
    if alpha == 0:
        with pytest.raises(ValueError, match=r"does not determine the velocity of .* α\(t\) = 0"):
            path.velocity_from_score(s.xt, s.xt, 0.0)
    else:
        assert path.velocity_from_score(s.xt, s.xt, 0.0).isfinite().all()


@pytest.mark.parametrize("path", [CondOT(), Cosine()], ids=str)
@pytest.mark.parametrize("t", [1.0, torch.tensor([0.5, 1.0, 0.2, 0.3], dtype=F64)], ids=str)
def test_at_the_data_end_the_target_is_finite_and_what_is_singular_raises(path, t):
    x0, x1, _ = draw((4, 3), 2)
    s = path.sample(x0, x1, t)
    assert s.ut.isfinite().all()
    assert torch.equal(path.sample(x0, x1, 1.0).xt, x1)
    torch.testing.assert_close(path.data_from_velocity(s.ut, s.xt, t), x1)
    torch.testing.assert_close(path.noise_from_velocity(s.ut, s.xt, t), x0)
    assert path.velocity_from_score(torch.ones_like(x1), s.xt, t).isfinite().all()
    message = r"has no limit where σ\(t\) = 0 \(t = 1\).* take CondOT\(sigma_min > 0\)"
    for singular in (
        lambda: path.conditional_velocity(s.xt, x1, t),
        lambda: path.log_prob(s.xt, x1, t),
        lambda: path.score_from_velocity(s.ut, s.xt, t),
    ):
        with pytest.raises(ValueError, match=message):
            singular()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("sigma_min", [1e-6, 1e-3, 0.5])
def test_with_a_width_left_everything_is_finite_at_the_data_end(sigma_min, dtype):
    path = CondOT(sigma_min)
    x0, x1, _ = draw((4, 3), 3, dtype)
    s = path.sample(x0, x1, 1.0)
    torch.testing.assert_close(s.xt, x1 + sigma_min * x0)
    assert path.log_prob(s.xt, x1, 1.0).isfinite().all()
    tolerance = {"atol": 1e-6 / sigma_min if dtype == torch.float32 else 1e-8, "rtol": 1e-4}
    torch.testing.assert_close(path.conditional_velocity(s.xt, x1, 1.0), s.ut, **tolerance)
    torch.testing.assert_close(
        path.score_from_velocity(s.ut, s.xt, 1.0) * sigma_min, -x0, **tolerance
    )


def test_the_diffusion_path_at_the_data_end():
    path = VariancePreserving()
    x0, x1, _ = draw((4, 3), 4)
    one = torch.tensor(1.0, dtype=F64)
    assert path.d_sigma(one) == -math.inf
    assert path.half_d_variance(one).item() == pytest.approx(-0.05)  # −αα' = −½β(1)
    for singular, message in (
        (lambda: path.sample(x0, x1, 1.0), "target .* no finite limit at t = 1, where σ' diverges"),
        (lambda: path.conditional_velocity(x0, x1, 1.0), "conditional velocity .* no limit"),
        (lambda: path.log_prob(x0, x1, 1.0), "density .* no limit"),
        (lambda: path.data_from_velocity(x0, x1, 1.0), "cannot be solved .* t = 1"),
        (lambda: path.noise_from_velocity(x0, x1, 1.0), "cannot be solved .* t = 1"),
        (lambda: path.score_from_velocity(x0, x1, 1.0), "cannot be solved .* t = 1"),
    ):
        with pytest.raises(ValueError, match=message):
            singular()
    # v = α'/α x − σσ's is finite even here, where σ² s does not count
    score = torch.ones_like(x1)
    torch.testing.assert_close(path.velocity_from_score(score, x1, 1.0), 0.05 * (x1 + score))


# The bridge.


def test_the_bridge_has_the_mean_and_width_it_says():
    n, path = 40_000, BridgePath(0.3)
    x0, x1 = torch.tensor([[1.0, -2.0]]).expand(n, 2), torch.tensor([[4.0, 1.0]]).expand(n, 2)
    for t in (0.0, 0.25, 1.0):  # a tube of constant width
        s = path.sample(x0, x1, t, seed=0)
        error = s.xt - ((1 - t) * x0 + t * x1)
        assert error.mean(0).abs().max() < 5 * 0.3 / math.sqrt(n)
        assert (error.std(0) - 0.3).abs().max() < 5 * 0.3 / math.sqrt(2 * n)
        assert error.T.corrcoef()[0, 1].abs() < 5 / math.sqrt(n)
        assert torch.equal(s.ut, x1 - x0)


@given(shapes, seeds)
def test_the_dirac_limit_of_the_bridge_is_the_straight_path(shape, seed):
    x0, x1, t = draw(shape, seed)
    bridge, straight = BridgePath(0.0).sample(x0, x1, t), CondOT().sample(x0, x1, t)
    torch.testing.assert_close(bridge.xt, straight.xt)
    torch.testing.assert_close(bridge.ut, straight.ut)
    narrow = BridgePath(1e-12).sample(x0, x1, t, seed=0)
    torch.testing.assert_close(narrow.xt, straight.xt, rtol=0, atol=1e-10)


def test_the_dirac_limit_draws_nothing_and_has_no_density(global_rng_untouched):
    x0, x1, t = draw((3, 2), 0)
    BridgePath().sample(x0, x1, t)
    with pytest.raises(ValueError, match=r"of BridgePath\(sigma=0.0\) does not .* point mass"):
        BridgePath().log_prob(x0, x1, t, x0=x0)


@given(shapes, seeds, st.sampled_from([0.05, 0.5, 2.0]))
def test_the_density_of_the_bridge(shape, seed, sigma):
    x0, x1, t = draw(shape, seed)
    path = BridgePath(sigma)
    xt = path.sample(x0, x1, t, seed=seed).xt
    time = left(t, x1)
    mean = (1 - time) * x0 + time * x1
    normal = Independent(Normal(mean, sigma), x1.ndim - 1)
    torch.testing.assert_close(path.log_prob(xt, x1, t, x0=x0), normal.log_prob(xt))
    assert torch.equal(path.conditional_velocity(xt, x1, t, x0=x0), x1 - x0)


def test_the_noise_of_the_bridge_is_seeded(global_rng_untouched):
    x0, x1, t = draw((3, 2), 0)
    path = BridgePath(0.5)
    first = path.sample(x0, x1, t, seed=1).xt
    assert torch.equal(first, path.sample(x0, x1, t, seed=1).xt)
    assert not torch.equal(first, path.sample(x0, x1, t, seed=2).xt)
    by_generator = path.sample(x0, x1, t, generator=torch.Generator().manual_seed(1)).xt
    assert torch.equal(first, by_generator)
    with pytest.raises(ValueError, match="either seed= or generator="):
        path.sample(x0, x1, t, seed=1, generator=torch.Generator())


def test_the_noise_of_the_bridge_has_the_dtype_and_the_device_of_the_points():
    x, t = torch.zeros(9, 2, dtype=F64), torch.zeros(9, dtype=F64)
    with torch.device("meta"):  # what is made without device= would not fit
        noise = BridgePath(1.0).sample(x, x, t, seed=0).xt
    assert not torch.equal(noise, noise.float().double())


# Bad input.


def calls(path):
    """Every method of a path that takes two batches of points and a time."""
    if isinstance(path, BridgePath):
        x0 = torch.zeros(3, 2)
        return [
            path.sample,
            lambda a, b, t: path.conditional_velocity(a, b, t, x0=x0),
            lambda a, b, t: path.log_prob(a, b, t, x0=x0),
        ]
    return [
        path.sample,
        path.conditional_velocity,
        path.log_prob,
        path.data_from_velocity,
        path.noise_from_velocity,
        path.score_from_velocity,
        path.velocity_from_score,
    ]


@pytest.mark.parametrize("path", [*PATHS, BridgePath(0.1)], ids=str)
def test_bad_arguments_are_refused_by_every_method(path):
    good = torch.zeros(3, 2)
    for call in calls(path):
        call(good, good, 0.5)
        with pytest.raises(ValueError, match="must have one shape"):
            call(good, torch.zeros(2, 3), 0.5)
        with pytest.raises(ValueError, match="must have one shape"):
            call(good, torch.zeros(3, 1), 0.5)
        with pytest.raises(TypeError, match="must have one dtype"):
            call(good, good.double(), 0.5)
        with pytest.raises(TypeError, match="must be floating point"):
            call(good.long(), good.long(), 0.5)
        with pytest.raises(TypeError, match=r"must be a torch.Tensor, but a list"):
            call([[1.0]], good, 0.5)
        with pytest.raises(ValueError, match="non-empty"):
            call(good[:0], good[:0], 0.5)
        with pytest.raises(ValueError, match="must be on one device"):
            call(good, good.to("meta"), 0.5)
        with pytest.raises(ValueError, match="t has shape"):
            call(good, good, torch.zeros(2))
        with pytest.raises(ValueError, match="t has shape"):
            call(good, good, torch.zeros(3, 1))
        for bad in (-0.1, 1.1, math.nan):
            with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
                call(good, good, bad)


def test_what_is_no_tensor_is_named():
    x, path = torch.zeros(3, 2), CondOT()
    for a, b, call, name in [
        ([0.0], x, path.sample, "x0"),
        (x, [0.0], path.sample, "x1"),
        ([0.0], x, path.score_from_velocity, "v"),
        (x, [0.0], path.score_from_velocity, "xt"),
    ]:
        with pytest.raises(TypeError, match=f"^{name} must be a torch.Tensor, but a list came"):
            call(a, b, 0.5)


def test_the_bridge_checks_its_other_end():
    x, path = torch.zeros(3, 2), BridgePath(0.1)
    for call in (path.conditional_velocity, path.log_prob):
        with pytest.raises(ValueError, match="x0 and x1 must have one shape"):
            call(x, x, 0.5, x0=torch.zeros(2, 3))
        with pytest.raises(TypeError, match="x0 and x1 must have one dtype"):
            call(x, x, 0.5, x0=x.double())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CondOT(-0.1), r"sigma_min must lie in \[0, 1\), but -0.1"),
        (lambda: CondOT(1.0), r"sigma_min must lie in \[0, 1\), but 1.0"),
        (lambda: CondOT(math.nan), r"sigma_min must lie in \[0, 1\), but nan"),
        (lambda: BridgePath(-1.0), "sigma must be finite and at least 0, but -1.0"),
        (lambda: BridgePath(math.inf), "sigma must be finite and at least 0, but inf"),
        (lambda: BridgePath(math.nan), "sigma must be finite and at least 0, but nan"),
        (lambda: VariancePreserving(0.0, 1.0), "0 < beta_min <= beta_max, .* beta_min = 0.0"),
        (lambda: VariancePreserving(3.0, 1.0), "0 < beta_min <= beta_max"),
        (lambda: VariancePreserving(1.0, math.inf), "0 < beta_min <= beta_max"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_path_is_abstract_and_frozen():
    with pytest.raises(TypeError, match="abstract"):
        AffinePath()
    with pytest.raises(AttributeError):
        CondOT().sigma_min = 0.5
    assert CondOT(0.1) == CondOT(0.1)
    assert hash(Cosine()) == hash(Cosine())


# Interpolants whose width changes.


def interpolants():
    return [BrownianBridge(0.7), BrownianBridge(2.0, width=0.3), BridgePath(0.4)]


@pytest.mark.parametrize("path", interpolants(), ids=str)
@given(shapes, seeds)
def test_an_interpolant_moves_as_its_width_does(path, shape, seed):
    x0, x1, t = draw(shape, seed)
    t = 0.05 + 0.9 * t
    s = path.sample(x0, x1, t, seed=seed)
    z = path.noise(s)
    later = left(t + 1e-6, x1)
    earlier = left(t - 1e-6, x1)
    ways = [(1 - w) * x0 + w * x1 + path.gamma(w) * z for w in (earlier, later)]
    torch.testing.assert_close(s.ut, (ways[1] - ways[0]) / 2e-6, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(path.conditional_velocity(s.xt, x1, t, x0=x0), s.ut)
    width = path.gamma(left(t, x1))
    torch.testing.assert_close(path.conditional_score(s.xt, x1, t, x0=x0), -z / width)


@pytest.mark.parametrize("path", interpolants(), ids=str)
def test_an_interpolant_satisfies_the_continuity_equation(path):
    x0, x1, t = draw((40, 2), 3)
    t = 0.05 + 0.9 * t
    xt = path.sample(x0, x1, t, seed=0).xt
    residual = continuity_residual(
        lambda x, t: path.log_prob(x, x1, t, x0=x0),
        lambda x, t: path.conditional_velocity(x, x1, t, x0=x0), xt, t,
    )  # fmt: skip
    assert residual.abs().max() < 1e-8


def test_the_brownian_bridge_is_pinned_at_both_ends():
    x0, x1, _ = draw((200, 2), 4)
    path = BrownianBridge(1.5)
    for t, end in ((0.0, x0), (1.0, x1)):
        s = path.sample(x0, x1, t, seed=0)
        torch.testing.assert_close(s.xt, end)
        assert not s.ut.isfinite().any()  # its target has no bound
        assert not path.noise(s).any()
        with pytest.raises(ValueError, match=r"the density of BrownianBridge.* where γ\(t\) = 0"):
            path.log_prob(s.xt, x1, t, x0=x0)
    half = path.sample(x0, x1, 0.5, seed=0).xt - (x0 + x1) / 2
    assert abs(half.std() - 0.75) < 5 * 0.75 / math.sqrt(800)
    line = BrownianBridge(0.0).sample(x0, x1, 0.0, seed=0)
    torch.testing.assert_close(line.ut, x1 - x0)


@pytest.mark.parametrize("settings", [{"sigma": -1.0}, {"sigma": 1.0, "width": math.nan}])
def test_a_brownian_bridge_refuses_bad_sizes(settings):
    with pytest.raises(ValueError, match="must be finite and at least 0"):
        BrownianBridge(**settings)

"""Exponential samplers: clocks that cancel, measured orders, noise that leaves the law alone."""

import itertools
import math

import pytest
import torch
from diffusion_cases import F64, MIXTURE, PATHS

from fmtutor import CondOT, Cosine, CountedField, GaussianMixture, VariancePreserving, sample
from fmtutor.clocks import log_snr
from fmtutor.exponential import EXPONENTIAL, sample_exponential, times_of_log_snr
from fmtutor.paths import Karras

X0 = torch.randn(40, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
methods = pytest.mark.parametrize("method", EXPONENTIAL)


def on_grid(path, n, method, low=-6.0, high=6.0):
    times = times_of_log_snr(path, low, high, n)
    start = path.sigma(times[0]) * X0
    return sample_exponential(
        MIXTURE.velocity(path), start, path=path, method=method, times=times
    ) / path.alpha(times[-1])


@methods
def test_on_one_grid_of_log_snr_every_path_has_the_same_samples(method):
    ends = [on_grid(path, 12, method) for path in PATHS]
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-11)


def test_eulers_method_has_not():
    ends = []
    for path in PATHS[:3]:
        times = times_of_log_snr(path, -6, 6, 12)
        start = path.sigma(times[0]) * X0
        ends.append(sample(MIXTURE.velocity(path), start, times=times) / path.alpha(times[-1]))
    assert min((ends[0] - end).abs().max() for end in ends[1:]) > 0.1


def test_ddim_on_the_straight_path_is_eulers_method():
    u = MIXTURE.velocity(CondOT())
    torch.testing.assert_close(
        sample_exponential(u, X0, steps=7), sample(u, X0, steps=7), rtol=0, atol=1e-12
    )
    times = [0.1, 0.3, 0.8]
    torch.testing.assert_close(
        sample_exponential(u, X0, times=times), sample(u, X0, times=times), rtol=0, atol=1e-12
    )


def test_ddim_as_its_paper_writes_it():
    """x' = √ᾱ' (x − √(1 − ᾱ) ε)/√ᾱ + √(1 − ᾱ') ε, on the variance preserving path."""
    path, times = VariancePreserving(), [0.2, 0.5, 0.7]
    u, x = MIXTURE.velocity(path), X0
    for t, after in itertools.pairwise(times):
        noise = path.noise_from_velocity(u(x, torch.full((40,), t, dtype=F64)), x, t)
        bar, later = (path.alpha(torch.tensor(s, dtype=F64)) ** 2 for s in (t, after))
        x = later.sqrt() * (x - (1 - bar).sqrt() * noise) / bar.sqrt() + (1 - later).sqrt() * noise
    torch.testing.assert_close(
        sample_exponential(u, X0, path=path, times=times), x, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("method", "order"), [("ddim", 1), ("heun", 2), ("2m", 2)])
@pytest.mark.parametrize("path", [CondOT(), VariancePreserving()], ids=str)
def test_orders_as_measured(path, method, order):
    times = times_of_log_snr(path, -6, 6, 600)
    start = path.sigma(times[0]) * X0
    truth = sample(MIXTURE.velocity(path), start, times=times, method="rk4") / path.alpha(times[-1])
    errors = [(on_grid(path, n, method) - truth).norm(dim=1).median().item() for n in (40, 80, 160)]
    for coarse, fine in itertools.pairwise(errors):
        assert abs(math.log2(coarse / fine) - order) < 0.25


@methods
@pytest.mark.parametrize("path", [CondOT(), Cosine()], ids=str)
def test_from_pure_noise_to_the_data(path, method):
    u = MIXTURE.velocity(path)
    truth = sample(u, X0, method="rk4", steps=100)
    end = sample_exponential(u, X0, path=path, method=method, steps=200)
    assert (end - truth).norm(dim=1).median() < 0.04


@pytest.mark.parametrize(("method", "count"), [("ddim", 10), ("2m", 10), ("heun", 18)])
def test_evaluations(method, count):
    """One a step, two for Heun's but at the two open ends."""
    u = CountedField(MIXTURE.velocity(CondOT()))
    sample_exponential(u, X0, method=method, steps=10)
    assert u.count == count


@methods
def test_the_whole_way_is_the_ends_of_its_beginnings(method):
    u, times = MIXTURE.velocity(CondOT()), torch.linspace(0.1, 0.9, 6)
    way = sample_exponential(u, X0, method=method, times=times, return_path=True)
    assert torch.equal(way[0], X0)
    for k in range(1, 6):
        end = sample_exponential(u, X0, method=method, times=times[: k + 1])
        torch.testing.assert_close(way[k], end, rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", [{"method": m} for m in EXPONENTIAL] + [{"eta": 1.0}], ids=str)
def test_half_precision_loses_no_steps(settings):
    """A thousand steps, each of them below the rounding of bfloat16."""
    x0, asked = torch.ones(4, 2, dtype=torch.bfloat16), set()

    def v(x, t):
        asked.add(x.dtype)
        return torch.full_like(x, 0.5)

    x = sample_exponential(v, x0, steps=1000, t0=0.0, t1=0.5, seed=0, **settings)
    assert x.dtype == torch.bfloat16
    assert asked == {torch.bfloat16}
    if not settings.get("eta"):
        torch.testing.assert_close(x.float(), torch.full((4, 2), 1.25), rtol=0, atol=0.01)


# Noise.


def line(n):
    return torch.randn(n, 1, dtype=F64, generator=torch.Generator().manual_seed(1))


GAUSSIAN = GaussianMixture(torch.tensor([[0.5]], dtype=F64), 0.5)


@pytest.mark.parametrize("path", [CondOT(), VariancePreserving(), Karras(0.01, 20.0)], ids=str)
@pytest.mark.parametrize("settings", [{"eta": 1.0}, {"eta": 0.5}, {"churn": 0.1}], ids=str)
def test_noise_leaves_the_law_as_it_is(path, settings):
    times = times_of_log_snr(path, -5.9, 9, 100)
    x = sample_exponential(
        GAUSSIAN.velocity(path),
        path.sigma(times[0]) * line(5_000),
        path=path,
        times=times,
        seed=2,
        **settings,
    ) / path.alpha(times[-1])
    assert abs(x.mean() - 0.5) < 0.04
    assert abs(x.std() - 0.5) < 0.05  # the steps' own error among it


def test_ancestral_sampling_is_ddpms_posterior():
    """One step has the mean and variance of q(x' | x, x1) with x1 predicted."""
    path, t, after = VariancePreserving(), 0.4, 0.5
    x = torch.full((50_000, 1), 0.3, dtype=F64)
    u = GAUSSIAN.velocity(path)
    data = path.data_from_velocity(u(x[:1], torch.tensor([t], dtype=F64)), x[:1], t)
    bar, later = (path.alpha(torch.tensor(s, dtype=F64)) ** 2 for s in (t, after))
    step = bar / later  # what the forward chain keeps, its α
    mean = (later.sqrt() * (1 - step) * data + step.sqrt() * (1 - later) * 0.3) / (1 - bar)
    variance = (1 - later) / (1 - bar) * (1 - step)
    x = sample_exponential(u, x, path=path, times=[t, after], eta=1.0, seed=0)
    assert abs(x.mean() - mean) < 4 * (variance / 50_000).sqrt()
    assert abs(x.var() / variance - 1) < 0.03


def test_churn_raises_the_noise_level_by_its_share():
    path, seen = CondOT(), []

    def v(x, t):
        seen.append(t[0].item())
        return GAUSSIAN.velocity(path)(x, t)

    times = [0.4, 0.5, 0.6]
    sample_exponential(v, line(10), times=times, churn=0.2, seed=0)
    for t, asked in zip(times, seen, strict=False):
        assert (1 - asked) / asked == pytest.approx(1.2 * (1 - t) / t)
    assert len(seen) == 2


@pytest.mark.parametrize("settings", [{"eta": 1.0}, {"churn": 0.3}], ids=str)
def test_a_seed_repeats_the_noise_and_nothing_touches_torchs_own(settings):
    u, state = GAUSSIAN.velocity(CondOT()), torch.random.get_rng_state()
    one, two, other = (
        sample_exponential(u, line(5), steps=5, seed=s, **settings) for s in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("settings", [{"eta": 1.0}, {"churn": 0.3}], ids=str)
def test_from_pure_noise_with_noise(settings):
    x = sample_exponential(GAUSSIAN.velocity(CondOT()), line(5_000), steps=100, seed=0, **settings)
    assert abs(x.mean() - 0.5) < 0.03
    assert abs(x.std() - 0.5) < 0.05


# Entrances.


def test_conditions_reach_the_field():
    def v(x, t, label):
        return label[:, None] - x

    x = sample_exponential(v, torch.zeros(2, 1), cond=torch.tensor([1.0, 2.0]), steps=1)
    assert x.flatten().tolist() == [1, 2]


def test_times_of_log_snr_are_equally_spaced_in_it():
    times = times_of_log_snr(Cosine(), -4.0, 4.0, 8)
    torch.testing.assert_close(
        log_snr(Cosine(), times), torch.linspace(-4, 4, 9, dtype=F64), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"method": "euler"}, ValueError, "method must be one of ddim, heun, 2m, but 'euler'"),
        ({"eta": 1.5}, ValueError, r"eta must lie in \[0, 1\], but 1.5 came"),
        ({"eta": -0.1}, ValueError, "eta must lie"),
        ({"churn": 2.0}, ValueError, "churn must lie"),
        ({"churn": -0.1}, ValueError, "churn must lie"),
        ({"eta": 0.5, "method": "2m"}, ValueError, "eta belongs to the method 'ddim', but '2m'"),
        ({"t0": 1.0, "t1": 0.0}, ValueError, r"noise to the data, but times 1, 0\.99, .* came"),
        ({"path": CondOT}, TypeError, "path must be an affine path"),
        ({"path": None}, TypeError, "path must be an affine path"),
        ({"steps": 0}, ValueError, "steps must be at least 1"),
    ],
    ids=str,
)
def test_bad_input_is_refused(settings, kind, words):
    with pytest.raises(kind, match=words):
        sample_exponential(lambda x, t: x, torch.ones(2, 2), **settings)


def test_points_and_results_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="x0 must be finite"):
        sample_exponential(lambda x, t: x, torch.full((1, 2), math.nan))
    with pytest.raises(ValueError, match=r"v\(x, t\) and x must have one shape"):
        sample_exponential(lambda x, t: x[:, :1], torch.ones(2, 2))

"""Clocks: log-SNR and its inverse, forward SDEs, and networks of other conventions as fields."""

import math

import pytest
import torch
from diffusion_cases import F64, MIXTURE, PATHS

from fmtutor import CondOT, Cosine, VariancePreserving, sample
from fmtutor.clocks import (
    forward_sde,
    from_diffusers,
    from_karras,
    log_snr,
    on_path,
    time_of_log_snr,
)
from fmtutor.paths import Karras, SubVariancePreserving, VarianceExploding

every_path = pytest.mark.parametrize("path", PATHS, ids=str)
FIELD = MIXTURE.velocity(CondOT())


def draw(n=60, low=0.05, high=0.95):
    g = torch.Generator().manual_seed(0)
    t = low + (high - low) * torch.rand(n, generator=g, dtype=F64)
    return 1.5 * torch.randn(n, 2, generator=g, dtype=F64), t


def denoised(x, sigma):
    """E[x1 | x1 + σ x0 = x] of the mixture, by its own responsibilities."""
    variance = MIXTURE.stds.square() + sigma[:, None] ** 2  # [b k]
    far = (x[:, None] - MIXTURE.means).square().sum(2)
    weight = (MIXTURE.weights.log() - variance.log() - far / (2 * variance)).softmax(1)
    pull = (MIXTURE.stds.square() / variance)[..., None]
    return (weight[..., None] * (MIXTURE.means + pull * (x[:, None] - MIXTURE.means))).sum(1)


# Log-SNR.


@every_path
def test_time_and_log_snr_are_inverse(path):
    t = torch.linspace(0.01, 0.99, 25, dtype=F64)
    torch.testing.assert_close(time_of_log_snr(path, log_snr(path, t)), t, rtol=0, atol=1e-12)


def test_log_snr_of_the_straight_path():
    t = torch.tensor([0.2, 0.5, 0.9], dtype=F64)
    expected = 2 * (t / (1 - t)).log()
    torch.testing.assert_close(log_snr(CondOT(), t), expected)
    torch.testing.assert_close(time_of_log_snr(CondOT(), expected), (expected / 2).sigmoid())


@every_path
def test_values_beyond_the_ends_are_given_the_ends(path):
    value = torch.tensor([-math.inf, -1e3, 1e3, math.inf], dtype=F64)
    t = time_of_log_snr(path, value)
    assert t[:2].tolist() == [0, 0]
    torch.testing.assert_close(t[2:], torch.ones(2, dtype=F64), rtol=0, atol=1e-15)


def test_one_value_for_all_is_looked_for_once():
    value = torch.zeros(1, dtype=F64).expand(7)
    t = time_of_log_snr(CondOT(), value)
    assert t.shape == (7,)
    assert t.stride(0) == 0


# Forward SDEs.


@every_path
def test_the_forward_sde_has_the_moments_of_the_path(path):
    """m' = f m and V' = 2 f V + g² in s = 1 − t, by finite differences."""
    h = 1e-5
    for t in (0.2, 0.5, 0.8):
        at = torch.tensor(t, dtype=F64)
        f, g2 = forward_sde(path, at)
        mean = (path.alpha(at - h) - path.alpha(at + h)) / (2 * h)
        variance = (path.sigma(at - h) ** 2 - path.sigma(at + h) ** 2) / (2 * h)
        torch.testing.assert_close(mean, f * path.alpha(at), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(variance, 2 * f * path.sigma(at) ** 2 + g2, rtol=1e-6, atol=1e-8)
        assert g2 > 0


def test_known_forward_sdes():
    t = torch.tensor([0.0, 0.3, 1.0], dtype=F64)
    beta = 0.1 + (1 - t) * 19.9
    f, g2 = forward_sde(VariancePreserving(), t)
    torch.testing.assert_close(f, -beta / 2)
    torch.testing.assert_close(g2, beta)
    f, g2 = forward_sde(SubVariancePreserving(), t)
    alpha = VariancePreserving().alpha(t)
    torch.testing.assert_close(g2, beta * (1 - alpha**4))
    f, g2 = forward_sde(VarianceExploding(0.01, 50.0), t)
    assert not f.any()
    sigma = 50 * (0.01 / 50) ** t
    torch.testing.assert_close(g2, 2 * sigma**2 * math.log(5000))
    f, g2 = forward_sde(Karras(1.0, 4.0, rho=1.0), t)
    torch.testing.assert_close(g2, 2 * 3 * (4 - 3 * t))  # d(σ²)/ds of σ = 1 + 3s


# Networks of other conventions.


@every_path
@pytest.mark.parametrize("target", [CondOT(), VariancePreserving(), Karras(0.1, 5.0)], ids=str)
def test_a_field_is_carried_from_path_to_path(path, target):
    x, t = draw(low=0.2)  # not beyond the most noise of any of them
    v = on_path(MIXTURE.velocity(path), path, target)
    torch.testing.assert_close(v(x, t), MIXTURE.velocity(target)(x, t), rtol=1e-9, atol=1e-9)


def test_a_carried_field_ends_at_the_same_points():
    x0 = torch.randn(50, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    own = sample(MIXTURE.velocity(Cosine()), x0, method="rk4", steps=100)
    moved = on_path(MIXTURE.velocity(Cosine()), Cosine())
    there = sample(moved, x0, method="rk4", steps=100)
    torch.testing.assert_close(there, own, rtol=0, atol=1e-4)


def test_the_convention_of_k_diffusion():
    """Denoised pictures from x + σ noise, told σ itself."""
    x, t = draw()
    torch.testing.assert_close(from_karras(denoised)(x, t), FIELD(x, t), rtol=1e-10, atol=1e-10)
    seen = []
    v = from_karras(lambda x, sigma: seen.append((x, sigma)) or x)
    v(torch.ones(1, 2, dtype=F64), torch.tensor([0.2], dtype=F64))
    torch.testing.assert_close(seen[0][1], torch.tensor([4.0], dtype=F64))  # (1 − t)/t
    torch.testing.assert_close(seen[0][0], torch.full((1, 2), 5.0, dtype=F64))  # x/t


BARS = {
    "ddpm": 1 - torch.linspace(1e-4, 0.02, 1000, dtype=F64),
    "stable diffusion": 1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=F64) ** 2,
}


@pytest.mark.parametrize("bar", [b.cumprod(0) for b in BARS.values()], ids=BARS)
@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_the_conventions_of_diffusers(bar, kind):
    """√ᾱ x1 + √(1 − ᾱ) x0, told the step, from the data at 0 to the noise at 999."""
    step = torch.tensor([30, 250, 500, 800])
    alpha, sigma = bar[step].sqrt(), (1 - bar[step]).sqrt()
    t = alpha / (alpha + sigma)  # where the straight path has the ratio σ/α
    xt = 1.5 * torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(2))
    told = []

    def network(x, at):
        told.append((x, at))
        data = denoised(x / alpha[:, None], sigma / alpha)
        noise = (x - alpha[:, None] * data) / sigma[:, None]
        v = alpha[:, None] * noise - sigma[:, None] * data
        return {"epsilon": noise, "sample": data, "v_prediction": v}[kind]

    u = from_diffusers(network, bar, prediction_type=kind)(xt, t)
    torch.testing.assert_close(u, FIELD(xt, t), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(told[0][1], step.double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(told[0][0], xt * (alpha + sigma)[:, None])


def test_between_two_steps_the_level_is_linear_and_beyond_them_it_stays():
    bar = torch.tensor([0.9, 0.5, 0.1], dtype=F64)
    level = 0.5 * ((1 - bar) / bar).log()
    between = level[1] + 0.25 * (level[2] - level[1])
    t = torch.sigmoid(-torch.stack([between, level[0] - 3, level[2] + 3]))
    told = []
    v = from_diffusers(lambda x, step: told.append(step) or x, bar)
    v(torch.ones(3, 2, dtype=F64), t)
    torch.testing.assert_close(told[0], torch.tensor([1.25, 0.0, 2.0], dtype=F64))


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_the_ends_of_the_path_are_asked_at_the_ends_of_the_clock(end):
    x, _ = draw(5)
    bar = BARS["ddpm"].cumprod(0)
    for v in (
        from_karras(denoised),
        from_diffusers(lambda x, step: x, bar),
        on_path(MIXTURE.velocity(Cosine()), Cosine()),
    ):
        assert v(x, end).isfinite().all()
    torch.testing.assert_close(
        from_karras(denoised, sigma_max=1e6)(x, 0.0), FIELD(x, 0.0), rtol=0, atol=1e-3
    )


def test_conditions_reach_the_network():
    x, label = torch.ones(2, 2), torch.tensor([0.0, 1.0])
    told = []

    def network(x, t, label):
        told.append(label)
        return x

    for v in (
        from_karras(network),
        from_diffusers(network, BARS["ddpm"].cumprod(0)),
        on_path(network, Cosine()),
    ):
        v(x, torch.tensor([0.5, 0.5]), label)
    assert all(seen is label for seen in told)
    assert len(told) == 3


@pytest.mark.parametrize(
    ("bar", "words"),
    [
        (torch.tensor([0.1, 0.5]), "strictly falling, below 1 and above 0, but .* from 0.1 to 0.5"),
        (torch.tensor([0.9, 0.9, 0.1]), "strictly falling"),
        (torch.tensor([1.0, 0.5]), "from 1 to 0.5"),
        (torch.tensor([0.9, 0.0]), "from 0.9 to 0"),
        (torch.tensor([0.9]), "strictly falling"),
        (torch.tensor([[0.9, 0.1]]), r"shape \[1, 2\] came"),
        (torch.tensor([0.9, math.nan]), "nan"),
    ],
    ids=str,
)
def test_schedules_that_are_none_are_refused(bar, words):
    with pytest.raises(ValueError, match=words):
        from_diffusers(lambda x, step: x, bar)


def test_bad_input_is_refused():
    bar = torch.tensor([0.9, 0.1])
    with pytest.raises(ValueError, match=r"prediction_type must be one of epsilon, .*'flow' came"):
        from_diffusers(lambda x, step: x, bar, prediction_type="flow")
    with pytest.raises(TypeError, match="network must be called as network"):
        from_diffusers("unet", bar)
    with pytest.raises(TypeError, match="denoiser must be called"):
        from_karras("unet")
    for low, high in ((0.0, 80.0), (2.0, 1.0), (0.1, math.inf)):
        with pytest.raises(ValueError, match="0 < sigma_min < sigma_max"):
            from_karras(lambda x, s: x, sigma_min=low, sigma_max=high)
    with pytest.raises(ValueError, match="the denoiser's result and x must have one shape"):
        from_karras(lambda x, s: x[:, :1])(torch.ones(2, 2), 0.5)
    with pytest.raises(ValueError, match="the network's result and x must have one shape"):
        from_diffusers(lambda x, s: x[:, :1], bar)(torch.ones(2, 2), 0.5)


@pytest.mark.parametrize("make", [VarianceExploding, Karras])
def test_paths_without_a_limit_are_refused(make):
    for low, high in ((0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (0.1, math.inf)):
        with pytest.raises(ValueError, match="0 < sigma_min < sigma_max, but sigma_min"):
            make(low, high)


def test_a_bad_rho_is_refused():
    for rho in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="rho must be positive"):
            Karras(rho=rho)


@pytest.mark.parametrize("path", PATHS[3:], ids=str)
def test_the_derivatives_of_the_new_paths(path):
    t = torch.linspace(0.05, 0.95, 19, dtype=F64)
    for f, d in ((path.alpha, path.d_alpha), (path.sigma, path.d_sigma)):
        _, slope = torch.autograd.functional.jvp(f, t, torch.ones_like(t))
        torch.testing.assert_close(d(t), slope, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(path.half_d_variance(t), path.sigma(t) * path.d_sigma(t))


def test_the_ends_of_the_new_paths():
    assert VarianceExploding(0.01, 50.0).sigma(0.0) == 50
    torch.testing.assert_close(
        Karras().sigma(torch.tensor([0.0, 1.0], dtype=F64)), torch.tensor([80.0, 0.002], dtype=F64)
    )
    assert SubVariancePreserving().sigma(1.0) == 0
    grid = Karras(rho=7.0).sigma(torch.linspace(0, 1, 18, dtype=F64))
    edm = (
        80 ** (1 / 7) + torch.arange(18, dtype=F64) / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))
    ) ** 7
    torch.testing.assert_close(grid, edm)

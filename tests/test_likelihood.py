"""The log-likelihood of a flow against closed forms, on fields whose divergence is not zero."""

import math

import pytest
import torch

from fmtutor import MLP, CondOT, CountedField, GaussianMixture, VariancePreserving
from fmtutor.likelihood import log_prob, standard_normal_log_prob

A = torch.tensor([[0.4, -0.7], [0.2, -0.1]], dtype=torch.float64)


def linear(x, t):
    return x @ A.T


def gaussian(x):
    return torch.distributions.Normal(0.0, 1.0).log_prob(x).reshape(len(x), -1).sum(1)


def test_standard_normal_matches_torch() -> None:
    x = torch.randn(5, 1, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(standard_normal_log_prob(x), gaussian(x))


@pytest.mark.parametrize(("method", "tol"), [("rk4", 1e-8), ("midpoint", 1e-3), ("dopri5", 1e-4)])
def test_linear_flow_has_its_closed_form(method: str, tol: float) -> None:
    x = torch.randn(20, 2, dtype=torch.float64)
    expected = gaussian(x @ torch.linalg.matrix_exp(-A).T) - A.trace()
    torch.testing.assert_close(
        log_prob(linear, x, method=method, steps=40), expected, atol=tol, rtol=0
    )


@pytest.mark.parametrize("path", [CondOT(), VariancePreserving()])
def test_marginal_field_has_the_likelihood_of_its_mixture(path) -> None:
    means = torch.tensor([[1.0, 2.0], [-2.0, 0.5], [0.0, -1.0]], dtype=torch.float64)
    stds = torch.tensor([0.5, 0.7, 0.4], dtype=torch.float64)
    mixture = GaussianMixture(means, stds, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    x = mixture.sample(100, seed=0)
    # The variance preserving path starts from noise only nearly: its α(0) is 0.0066.
    tol = 1e-4 if path == CondOT() else 0.1
    error = log_prob(mixture.velocity(path), x, steps=200) - mixture.log_prob(x)
    assert error.abs().max() < tol


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_in_both_precisions(dtype: torch.dtype) -> None:
    x = torch.randn(4, 1, 3, 3, dtype=dtype)
    value = log_prob(lambda x, t: -0.5 * x, x, steps=20)
    assert value.dtype == dtype
    torch.testing.assert_close(value, gaussian(x * math.exp(0.5)) + 4.5, atol=1e-4, rtol=1e-5)


def test_density_of_any_network_has_mass_one() -> None:
    torch.manual_seed(0)
    net = MLP(dim=1, width=16, depth=2).double()
    x = torch.linspace(-12, 12, 1201, dtype=torch.float64)[:, None]
    assert abs(log_prob(net, x, steps=20).exp().sum().item() * 0.02 - 1) < 1e-4


def test_hutchinson_is_unbiased_and_not_constant() -> None:
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def field(x, t):
        return torch.sin(x @ torch.tensor([[1.0, 0.8], [0.3, -0.5]], dtype=torch.float64))

    exact = log_prob(field, x, steps=10)
    draws = torch.stack(
        [
            log_prob(
                field,
                x,
                steps=10,
                divergence="hutchinson",
                generator=torch.Generator().manual_seed(k),
            )
            for k in range(200)
        ]
    )
    error = draws.std(0) / math.sqrt(len(draws))
    assert draws.std(0).median() > 0.01
    assert ((draws.mean(0) - exact).abs() / error.clamp(min=1e-3)).median() < 2


class Asked(MLP):
    """A network that counts how often its divergence in closed form is asked for."""

    count = 0

    def with_divergence(self):
        self.count += 1
        return super().with_divergence()


def test_a_field_that_knows_its_divergence_is_asked_once():
    torch.manual_seed(0)
    net, x = Asked(width=16).double(), torch.randn(30, 2, dtype=torch.float64)
    known = log_prob(net, x, steps=5)
    assert net.count == 1
    torch.testing.assert_close(known, log_prob(lambda x, t: net(x, t), x, steps=5))
    # An estimate that was asked for is an estimate, and gradients need the recorded pass.
    assert (log_prob(net, x, steps=5, divergence="hutchinson") - known).abs().max() > 1e-6
    assert log_prob(net, x, steps=5, differentiable=True).requires_grad
    assert net.count == 1


def test_by_default_there_are_a_hundred_steps_of_four_stages() -> None:
    counted = CountedField(linear)
    log_prob(counted, torch.ones(3, 2, dtype=torch.float64))
    assert counted.count == 400


def test_the_generator_is_the_only_source_of_randomness(global_rng_untouched) -> None:
    x = torch.ones(9, 2, dtype=torch.float64)

    def value(seed):
        g = torch.Generator().manual_seed(seed)
        return log_prob(linear, x, steps=1, divergence="hutchinson", generator=g)

    assert torch.equal(value(0), value(0))
    assert not torch.equal(value(0), value(1))


def test_gradients_reach_parameters_and_points() -> None:
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(30, 1, dtype=torch.float64, requires_grad=True)
    log_prob(lambda x, t: scale * x, x, steps=20, differentiable=True).mean().backward()
    s = scale.detach()
    expected = (torch.exp(-2 * s) * x.detach().square()).mean() - 1
    torch.testing.assert_close(scale.grad, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(x.grad, -torch.exp(-2 * s) * x.detach() / 30, atol=1e-6, rtol=0)


def test_nothing_is_recorded_unless_asked() -> None:
    net = MLP()
    assert not log_prob(net, torch.randn(3, 2), steps=2).requires_grad
    assert log_prob(net, torch.randn(3, 2), steps=2, differentiable=True).requires_grad


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"divergence": "trace"}, ValueError, "'exact' or 'hutchinson'"),
        ({"method": "rk5"}, ValueError, "euler, midpoint, heun, rk4, dopri5"),
        ({"steps": 0}, ValueError, "at least 1"),
    ],
)
def test_bad_settings_are_refused(arguments, error, text) -> None:
    with pytest.raises(error, match=text):
        log_prob(linear, torch.randn(3, 2, dtype=torch.float64), **arguments)


def test_bad_points_are_refused() -> None:
    with pytest.raises(ValueError, match="x1 must be finite"):
        log_prob(linear, torch.tensor([[float("nan"), 0.0]], dtype=torch.float64))
    with pytest.raises(TypeError, match="x1 must be floating point"):
        log_prob(linear, torch.ones(3, 2, dtype=torch.long))

"""Training by maximum likelihood: the loss, its gradient, and that it arrives."""

import inspect
import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from fmtutor.data import standard_normal
from fmtutor.likelihood import log_prob
from fmtutor.maximum_likelihood import fit_maximum_likelihood, negative_log_likelihood
from fmtutor.training import constant, minimise


class Scale(nn.Module):
    """v(x, t) = θx: the density at t = 1 is N(0, e^{2θ})."""

    def __init__(self, theta: float = 0.0) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.theta * x


def test_loss_and_gradient_have_their_closed_form() -> None:
    x, model = 1.5 * standard_normal(400, 1, seed=0), Scale(0.2)
    loss = negative_log_likelihood(model, x, method="rk4", steps=10)
    loss.backward()
    m2 = x.square().mean()
    expected = 0.5 * math.exp(-0.4) * m2 + 0.2 + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.theta.grad, 1 - math.exp(-0.4) * m2, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "given",
    [{}, {"method": "euler", "steps": 3}, {"steps": 2, "divergence": "hutchinson"}],
    ids=str,
)
def test_the_loss_is_minus_the_mean_of_log_prob(given) -> None:
    x, rate = standard_normal(7, 2, seed=0), torch.linspace(-1, 1, 7)[:, None]
    turn = torch.tensor([[0.0, 1.0], [0.5, 0.0]])

    def v(x: Tensor, t: Tensor, rate: Tensor) -> Tensor:
        return (rate + t[:, None]) * x @ turn

    def random() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    settings = {"method": "midpoint", "steps": 10, "divergence": "exact"} | given
    expected = -log_prob(v, x, cond=rate, generator=random(), **settings).mean()
    assert torch.equal(negative_log_likelihood(v, x, rate, generator=random(), **given), expected)


@pytest.mark.parametrize(
    "given",
    [{}, {"method": "euler", "solver_steps": 3, "batch_size": 5, "lr": 0.5, "seed": 4}],
    ids=str,
)
def test_it_is_the_loop_with_another_loss(given) -> None:
    data = standard_normal(50, 2, seed=0)
    settings = {"method": "midpoint", "solver_steps": 10, "divergence": "exact"}
    settings |= {"batch_size": 512, "lr": 2e-3, "seed": 0} | given
    names = {"method": "method", "solver_steps": "steps", "divergence": "divergence"}
    loss = partial(
        negative_log_likelihood, **{name: settings.pop(key) for key, name in names.items()}
    )
    loop = {"steps": 2, "schedule": constant, "ema": 0.0, "progress": False}
    expected = minimise(Scale(), data, loss, **settings, **loop)
    result = fit_maximum_likelihood(Scale(), data, steps=2, progress=False, **given)
    assert torch.equal(result.losses, expected.losses)
    assert result.model.theta == expected.model.theta
    assert inspect.signature(fit_maximum_likelihood).parameters["steps"].default == 300


def test_the_bar_is_shown_unless_switched_off(capsys) -> None:
    data = standard_normal(10, 1, seed=0)
    for options, shown in (({}, "2/2"), ({"progress": False}, "")):
        fit_maximum_likelihood(Scale(), data, steps=2, **options)
        err = capsys.readouterr().err
        assert shown in err
        assert bool(err) == bool(shown)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_training_finds_the_scale_of_the_data(divergence: str, global_rng_untouched: None) -> None:
    data = 2.0 * standard_normal(4000, 2, seed=0)
    model = Scale()
    result = fit_maximum_likelihood(
        model,
        data,
        steps=150,
        batch_size=256,
        lr=2e-2,
        divergence=divergence,
        seed=0,
        progress=False,
    )
    assert result.model is model
    assert result.losses.shape == (150,)
    assert abs(model.theta.item() - 0.5 * data.square().mean().log().item()) < 0.05
    assert result.losses[-20:].mean() < result.losses[:20].mean()


def test_a_seed_repeats_a_run() -> None:
    data = standard_normal(100, 1, seed=0)
    runs = [
        fit_maximum_likelihood(Scale(), data, steps=5, seed=3, progress=False).losses
        for _ in range(2)
    ]
    assert torch.equal(*runs)


def test_divergence_to_nan_is_named() -> None:
    with pytest.raises(FloatingPointError, match="at step 0"):
        fit_maximum_likelihood(
            Scale(float("nan")), standard_normal(10, 1, seed=0), steps=3, progress=False
        )


def test_bad_settings_are_refused() -> None:
    data = standard_normal(10, 1, seed=0)
    with pytest.raises(ValueError, match="at least 1"):
        fit_maximum_likelihood(Scale(), data, steps=0, progress=False)
    with pytest.raises(ValueError, match="finite"):
        fit_maximum_likelihood(Scale(), data * float("inf"), progress=False)

"""Training by maximum likelihood: the loss, its gradient, and that it arrives."""

import math

import pytest
import torch
from torch import Tensor, nn

from fmtutor.data import standard_normal
from fmtutor.maximum_likelihood import fit_maximum_likelihood, negative_log_likelihood


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

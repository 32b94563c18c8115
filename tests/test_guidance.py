"""The guided field: what its scale means, and what it evaluates."""

import pytest
import torch

from fmtutor import CondOT, CountedField, GaussianMixture, sample
from fmtutor.data import standard_normal
from fmtutor.guidance import guided


def conditional(x, t):
    return 2 * x + t.reshape(-1, *[1] * (x.ndim - 1))


def unconditional(x, t):
    return torch.sin(x)


@pytest.mark.parametrize("shape", [(5, 2), (4, 1, 3, 3)], ids=str)
@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 3.0])
def test_it_is_the_stated_combination(scale, shape):
    x, t = torch.randn(shape, dtype=torch.float64), torch.rand(shape[0], dtype=torch.float64)
    u, u_cond = unconditional(x, t), conditional(x, t)
    expected = u + scale * (u_cond - u)
    torch.testing.assert_close(guided(conditional, unconditional, scale)(x, t), expected)


def test_the_other_convention_is_shifted_by_one():
    x, t, w = torch.randn(5, 2), torch.rand(5), 1.5
    other = (1 + w) * conditional(x, t) - w * unconditional(x, t)
    torch.testing.assert_close(guided(conditional, unconditional, 1 + w)(x, t), other)


@pytest.mark.parametrize(("scale", "counts"), [(1.0, (1, 0)), (0.0, (0, 1)), (2.0, (1, 1))])
def test_a_field_that_is_not_needed_is_not_evaluated(scale, counts):
    v_cond, v_uncond = CountedField(conditional), CountedField(unconditional)
    guided(v_cond, v_uncond, scale)(torch.zeros(2, 2), torch.zeros(2))
    assert (v_cond.count, v_uncond.count) == counts


def test_larger_scales_move_samples_away_from_the_other_class():
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    both = GaussianMixture(means, 0.6).velocity(CondOT())
    right = GaussianMixture(means[1:], 0.6).velocity(CondOT())
    x0 = standard_normal(500, seed=0, dtype=torch.float64)
    reached = [
        sample(guided(right, both, scale), x0, method="midpoint", steps=20)[:, 0].mean().item()
        for scale in (0.0, 1.0, 3.0)
    ]
    assert reached[0] == pytest.approx(0.0, abs=0.1)
    assert reached[1] == pytest.approx(1.0, abs=0.1)
    assert reached[2] > reached[1] + 0.1


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="must be finite, but nan"):
        guided(conditional, unconditional, float("nan"))
    with pytest.raises(ValueError, match="one shape"):
        guided(lambda x, t: x[:, :1], unconditional, 2.0)(torch.zeros(2, 2), torch.zeros(2))

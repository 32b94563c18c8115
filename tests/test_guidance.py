"""The guided field: what its scale means, and what it evaluates."""

import pytest
import torch

from fmtutor import MLP, CondOT, CountedField, GaussianMixture, sample
from fmtutor.data import standard_normal
from fmtutor.guidance import conditioned, drop_labels, guided


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


# Labels.


def test_dropped_labels_are_null_and_the_others_stay():
    labels = torch.arange(5).repeat(20_000)
    before = labels.clone()
    dropped = drop_labels(labels, 0.2, null=5, generator=torch.Generator().manual_seed(0))
    assert dropped.dtype == torch.int64
    assert torch.equal(labels, before)
    gone = dropped == 5
    assert torch.equal(dropped[~gone], labels[~gone])
    assert gone.double().mean().item() == pytest.approx(0.2, abs=0.005)
    for k in range(5):  # whatever the label
        assert gone[labels == k].double().mean().item() == pytest.approx(0.2, abs=0.015)


def test_labels_are_dropped_one_by_one():
    # The number dropped in a batch is binomial: variance 32 · ¼ · ¾ = 6, not 32² · ¼ · ¾.
    g = torch.Generator().manual_seed(0)
    labels = torch.zeros(32, dtype=torch.long)
    counts = torch.stack(
        [drop_labels(labels, 0.25, null=1, generator=g).sum() for _ in range(4000)]
    )
    assert counts.double().mean().item() == pytest.approx(8, abs=0.2)
    assert counts.double().var().item() == pytest.approx(6, rel=0.1)


def test_rates_zero_and_one():
    labels = torch.arange(50)
    with torch.device("meta"):  # what is made without device= would not fit
        assert torch.equal(drop_labels(labels, 0.0, null=50), labels)
        assert (drop_labels(labels, 1.0, null=50) == 50).all()


def test_dropping_can_be_repeated(global_rng_untouched):
    def draw(seed):
        g = torch.Generator().manual_seed(seed)
        return drop_labels(torch.zeros(99, dtype=torch.long), 0.5, null=1, generator=g)

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_outside_is_refused(rate):
    with pytest.raises(ValueError, match=r"rate must lie in \[0, 1\], but"):
        drop_labels(torch.zeros(3, dtype=torch.long), rate, null=1)


def test_labels_that_are_none_are_refused():
    with pytest.raises(TypeError, match="int64 tensor, but torch"):
        drop_labels(torch.zeros(3), 0.5, null=1)
    with pytest.raises(TypeError, match="int64 tensor, but list came"):
        drop_labels([0, 1], 0.5, null=1)
    with pytest.raises(ValueError, match=r"one for each point, but \[2, 3\] came"):
        drop_labels(torch.zeros(2, 3, dtype=torch.long), 0.5, null=1)


@pytest.mark.parametrize("label", [1, torch.tensor([2, 0, 1, 3])], ids=["int", "tensor"])
def test_a_bound_label_is_given_at_every_call(label):
    torch.manual_seed(0)
    model, x, t = MLP(2, 8, 1, classes=3), torch.randn(4, 2), torch.rand(4)
    field = conditioned(model, label)
    assert torch.equal(field(x, t), model(x, t, label))
    assert not torch.equal(field(x, t), model(x, t))
    u, u_cond = model(x, t), model(x, t, label)
    expected = u + 3 * (u_cond - u)  # the network itself is the unconditional field
    torch.testing.assert_close(guided(field, model, 3.0)(x, t), expected)
    assert sample(field, x, steps=2).shape == (4, 2)


def test_a_scale_may_change_with_time():
    x, t = standard_normal(5, seed=0), torch.linspace(0, 1, 5)
    v = guided(conditional, unconditional, lambda t: 1 + 2 * t)
    for k in range(5):
        alone = guided(conditional, unconditional, 1 + 2 * t[k].item())
        torch.testing.assert_close(v(x, t)[k], alone(x, t)[k])
    step = guided(conditional, unconditional, lambda t: torch.where(t < 0.5, 3.0, 1.0))
    torch.testing.assert_close(step(x, t)[3:], conditional(x, t)[3:])


def test_conditions_go_to_the_conditional_field_alone():
    torch.manual_seed(0)
    model, x, t = MLP(classes=3), standard_normal(4, seed=0), torch.rand(4)
    label = torch.tensor([0, 1, 2, 0])
    for scale in (0.0, 0.5, 1.0, 2.0):
        bound = guided(conditioned(model, label), model, scale)
        torch.testing.assert_close(guided(model, model, scale)(x, t, label), bound(x, t))
        made = sample(guided(model, model, scale), x, cond=label, steps=2, batch_size=3)
        torch.testing.assert_close(made, sample(bound, x, steps=2))


def test_one_network_may_reuse_its_memory_for_both_fields():
    x, t = standard_normal(4, seed=0), torch.rand(4)
    buffer = torch.empty_like(x)

    def model(x, t, label=None):
        return buffer.copy_(x if label is None else 3 * x)

    torch.testing.assert_close(guided(conditioned(model, 1), model, 2.0)(x, t), 5 * x)


def test_a_field_that_cannot_be_called_is_refused():
    for fields in ((MLP, unconditional), (conditional, None)):
        with pytest.raises(TypeError, match=r"must be a field, but .* came"):
            guided(*fields, 2.0)

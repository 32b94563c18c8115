"""The guided field: what its scale means, and what it evaluates."""

import pytest
import torch

from fmtutor import MLP, CondOT, CountedField, GaussianMixture, sample
from fmtutor.data import standard_normal
from fmtutor.guidance import conditioned, drop_labels, guided, interval


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


# A scale that changes with time, another network, a deviation that is kept.

MEANS = torch.tensor([[-1.0, 0.5], [1.0, 0.0]], dtype=torch.float64)
BOTH = GaussianMixture(MEANS, 0.6).velocity(CondOT())
RIGHT = GaussianMixture(MEANS[1:], 0.6).velocity(CondOT())
START = standard_normal(50, seed=0, dtype=torch.float64)


@pytest.mark.parametrize("method", ["euler", "rk4"])
@pytest.mark.parametrize(
    ("first", "last", "scale"),
    [(0.0, 1.0, 3.0), (0.5, 0.5, 1.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)],
)
def test_an_interval_of_all_times_is_the_scale_and_an_empty_one_is_none(method, first, last, scale):
    v = guided(RIGHT, BOTH, interval(3.0, first, last))
    plain = sample(guided(RIGHT, BOTH, scale), START, method=method, steps=10)
    torch.testing.assert_close(sample(v, START, method=method, steps=10), plain)


def test_an_interval_is_guided_and_the_rest_is_not():
    # Euler's method asks at the beginning of each step: three ways, joined, are the same way.
    v = guided(RIGHT, BOTH, interval(3.0, 0.25, 0.75))
    x = sample(RIGHT, START, steps=10, t1=0.25)
    x = sample(guided(RIGHT, BOTH, 3.0), x, steps=20, t0=0.25, t1=0.75)
    x = sample(RIGHT, x, steps=10, t0=0.75)
    torch.testing.assert_close(sample(v, START, steps=40), x)
    t = torch.tensor([0.0, 0.25, 0.74, 0.75, 1.0])
    assert interval(3.0, 0.25, 0.75)(t).tolist() == [1, 3, 3, 1, 1]
    assert interval(3.0, 0.25, 1.0)(t).tolist() == [1, 3, 3, 3, 3]
    assert interval(0.5, 0.0, 1.0)(t.double()).dtype == torch.float64


def test_outside_of_an_interval_one_field_is_enough():
    v_cond, v_uncond = CountedField(RIGHT), CountedField(BOTH)
    sample(guided(v_cond, v_uncond, interval(3.0, 0.25, 0.75)), START, steps=20)
    assert (v_cond.count, v_uncond.count) == (20, 10)
    t = torch.tensor([0.1, 0.5], dtype=torch.float64)  # one of two is guided
    guided(v_cond, v_uncond, interval(3.0, 0.25, 0.75))(START[:2], t)
    assert (v_cond.count, v_uncond.count) == (21, 11)


def test_no_time_is_looked_at_on_an_accelerator():
    x, t = torch.empty(3, 2, device="meta"), torch.empty(3, device="meta")
    for rescale in (0.0, 0.5):
        v = guided(conditional, unconditional, interval(3.0, 0.25, 0.75), rescale=rescale)
        assert v(x, t).is_meta


def test_intervals_that_are_none_are_refused():
    for first, last in ((0.6, 0.4), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="0 ≤ first ≤ last ≤ 1 must hold, but first"):
            interval(2.0, first, last)
    with pytest.raises(ValueError, match="scale must be finite, but inf"):
        interval(float("inf"), 0.0, 1.0)


def test_a_weaker_network_guides_by_the_same_label():
    # The weak one is too wide about the right mean: away from it is towards the mean.
    weak = GaussianMixture(MEANS[1:], 0.9).velocity(CondOT())

    def spread(scale):
        reached = sample(guided(RIGHT, weak, scale), START, method="midpoint", steps=20)
        return reached.std(dim=0).mean().item(), (reached.mean(0) - MEANS[1]).norm().item()

    (wide, off), (narrow, off_guided) = spread(1.0), spread(2.0)
    assert wide == pytest.approx(0.6, abs=0.1)
    assert narrow < 0.8 * wide
    assert off_guided < off + 0.05
    torch.manual_seed(0)
    strong, weak, label = MLP(classes=3), MLP(width=8, classes=3), torch.tensor([0, 1, 2, 0])
    x, t = standard_normal(4, seed=0), torch.rand(4)
    u, u_weak = strong(x, t, label), weak(x, t, label)
    v = guided(conditioned(strong, label), conditioned(weak, label), 2.0)
    torch.testing.assert_close(v(x, t), 2 * u - u_weak)


@pytest.mark.parametrize("shape", [(5, 2), (4, 3, 3, 3)], ids=str)
def test_rescaled_the_deviation_of_each_point_is_that_of_the_condition(shape):
    x, t = torch.randn(shape, dtype=torch.float64), torch.rand(shape[0], dtype=torch.float64)
    plain, u_cond = guided(conditional, unconditional, 4.0)(x, t), conditional(x, t)

    def deviation(u):
        return u.flatten(1).std(dim=1)

    whole = guided(conditional, unconditional, 4.0, rescale=1.0)(x, t)
    torch.testing.assert_close(deviation(whole), deviation(u_cond))
    assert (deviation(plain) - deviation(u_cond)).abs().min() > 0.05
    # and the direction that of guidance: each point is multiplied by one number
    ratio = (whole / plain).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    part = guided(conditional, unconditional, 4.0, rescale=0.25)(x, t)
    torch.testing.assert_close(part, 0.75 * plain + 0.25 * whole)
    assert torch.equal(guided(conditional, unconditional, 1.0, rescale=1.0)(x, t), u_cond)
    none = guided(conditional, unconditional, 0.0, rescale=1.0)(x, t)
    torch.testing.assert_close(deviation(none), deviation(u_cond))


def test_what_cannot_be_rescaled_is_refused():
    for rescale in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"rescale must lie in \[0, 1\], but"):
            guided(conditional, unconditional, 2.0, rescale=rescale)
    with pytest.raises(ValueError, match=r"points must have 2 coordinates, but \[5, 1\] came"):
        guided(conditional, unconditional, 2.0, rescale=0.5)(torch.zeros(5, 1), torch.zeros(5))
    still = guided(lambda x, t: 0 * x, lambda x, t: 0 * x, 2.0, rescale=1.0)
    assert not still(torch.zeros(2, 2), torch.zeros(2)).any()


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

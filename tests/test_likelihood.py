"""The log-likelihood of a flow against closed forms, on fields whose divergence is not zero."""

import math

import pytest
import torch

from fmtutor import MLP, CondOT, CountedField, GaussianMixture, VariancePreserving, sample
from fmtutor.continuity import divergence
from fmtutor.likelihood import log_prob, sample_with_log_prob, standard_normal_log_prob

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


def sampled(*args, **settings):
    return torch.cat([part.flatten() for part in sample_with_log_prob(*args, **settings)])


@pytest.mark.parametrize("f", [log_prob, sampled])
def test_what_nobody_gives(f) -> None:
    x, few = torch.ones(20, 2, dtype=torch.float64), {"method": "euler", "steps": 2}
    given = {"method": "rk4", "steps": 100, "divergence": "exact", "base": standard_normal_log_prob}
    assert torch.equal(f(linear, x), f(linear, x, **given))

    def estimate(**probes):
        g = torch.Generator().manual_seed(0)
        return f(linear, x, divergence="hutchinson", generator=g, **few, **probes)

    assert torch.equal(estimate(), estimate(probes=1))
    assert not torch.equal(estimate(), estimate(probes=2))


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
    for result in sample_with_log_prob(lambda x, t: net(x, t), torch.randn(3, 2), steps=2):
        assert not result.requires_grad


@pytest.mark.parametrize("shape", [(3,), (3, 2, 2)])
def test_sampled_points_keep_their_shape(shape) -> None:
    x0 = torch.randn(shape, dtype=torch.float64)
    x1, values = sample_with_log_prob(lambda x, t: -x, x0, steps=5)
    torch.testing.assert_close(x1, x0 / math.e, rtol=1e-4, atol=0)
    torch.testing.assert_close(values, gaussian(x0) + x0[0].numel())


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


@pytest.mark.parametrize(("f", "name"), [(log_prob, "x1"), (sample_with_log_prob, "x0")])
def test_what_does_not_fit_the_field_is_refused(f, name) -> None:
    x = torch.zeros(3, 2, dtype=torch.float64)
    with pytest.raises(TypeError, match=f"weights are torch.float32, but {name} is torch.float64"):
        f(MLP(), x)
    with pytest.raises(TypeError, match="the field must be called as"):
        f(MLP, x)
    with pytest.raises(TypeError, match="base must be a log-density, but 3 came"):
        f(linear, x, base=3)
    with pytest.raises(ValueError, match="batch_size must be at least 1, but 0 came"):
        f(linear, x, batch_size=0)
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        f(linear, x / 0)


def test_bad_points_are_refused() -> None:
    with pytest.raises(ValueError, match="x1 must be finite"):
        log_prob(linear, torch.tensor([[float("nan"), 0.0]], dtype=torch.float64))
    with pytest.raises(TypeError, match="x1 must be floating point"):
        log_prob(linear, torch.ones(3, 2, dtype=torch.long))


# What the closed form, a graph or inference mode could silently get wrong.


class Doubled(MLP):
    """A subclass that overrides what it computes."""

    def forward(self, x, t, label=None):
        return 2 * super().forward(x, t, label)


def hooked():
    model = MLP(2, 16, 2)
    model.layers[2].register_forward_hook(lambda module, args, output: 0.5 * output)
    return model


def with_layers(change):
    model = MLP(2, 16, 2)
    model.layers = torch.nn.Sequential(*change([*model.layers]))
    return model


def patched():
    model = MLP(2, 16, 2)
    inner = model.forward
    model.forward = lambda x, t: inner(x, t).sin()
    return model


CHANGED = {
    "subclass": lambda: Doubled(2, 16, 2),
    "hook": hooked,
    "tanh": lambda: with_layers(
        lambda ls: [torch.nn.Tanh() if isinstance(m, torch.nn.SiLU) else m for m in ls]
    ),
    "norm": lambda: with_layers(lambda ls: [*ls[:2], torch.nn.LayerNorm(16), *ls[2:]]),
    "weight norm": lambda: with_layers(
        lambda ls: [torch.nn.utils.parametrizations.weight_norm(ls[0]), *ls[1:]]
    ),
    "patched": patched,
}


@pytest.mark.parametrize("kind", [*CHANGED, "plain"])
def test_a_changed_network_has_the_likelihood_of_what_it_computes(kind) -> None:
    torch.manual_seed(0)
    model = CHANGED.get(kind, lambda: MLP(2, 16, 2))()
    x = torch.randn(5, 2)
    settings = {"method": "midpoint", "steps": 5}
    torch.testing.assert_close(
        log_prob(model, x, **settings), log_prob(lambda x, t: model(x, t), x, **settings)
    )
    assert (model.with_divergence() is None) == (kind != "plain")


def test_a_hook_on_all_modules_counts_too() -> None:
    model, x = MLP(2, 16, 2), torch.randn(5, 2)
    handle = torch.nn.modules.module.register_module_forward_hook(lambda m, a, out: 2 * out)
    try:
        assert model.with_divergence() is None
    finally:
        handle.remove()
    assert model.with_divergence() is not None
    assert log_prob(model, x, steps=2).isfinite().all()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_the_mode_of_the_caller_changes_nothing(mode) -> None:
    model = Doubled(2, 8, 1, classes=3)
    x = torch.randn(4, 2)
    label = torch.tensor([0, 1, 2, 3])
    expected = log_prob(model, x, cond=label, steps=3)
    linear_expected = log_prob(lambda x, t: -x, x)
    with mode():
        inside = torch.randn(4, 2).copy_(x)
        torch.testing.assert_close(log_prob(model, inside, cond=label.clone(), steps=3), expected)
        torch.testing.assert_close(log_prob(lambda x, t: -x, inside), linear_expected)
        assert divergence(lambda x, t: -x, inside, 0.5).tolist() == [-2.0] * 4


@torch.no_grad()
def unrecorded(x, t):
    return -x


def in_numpy(x, t):
    return torch.from_numpy(-x.detach().numpy())


@pytest.mark.parametrize("v", [unrecorded, in_numpy])
def test_a_field_that_leaves_no_graph_is_refused(v) -> None:
    with pytest.raises(ValueError, match="was not recorded"):
        log_prob(v, torch.randn(5, 2))


def test_a_field_that_is_constant_in_space_has_divergence_zero() -> None:
    x = torch.randn(5, 2, dtype=torch.float64)
    shifted = log_prob(lambda x, t: t[:, None] * torch.ones_like(x), x)
    torch.testing.assert_close(shifted, gaussian(x - 0.5))


# Conditions, groups, sources, probes.


def test_each_row_keeps_its_condition_in_groups() -> None:
    def v(x, t, rate, shift):
        return rate * x + shift

    x = torch.randn(7, 2, dtype=torch.float64)
    rate = torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]
    cond = (rate, torch.zeros_like(x))
    expected = gaussian(x * (-rate).exp()) - 2 * rate[:, 0]
    for size in (None, 1, 3, 7, 100):
        given = log_prob(v, x, cond=cond, batch_size=size)
        torch.testing.assert_close(given, expected, rtol=1e-8, atol=1e-8)
    with pytest.raises(ValueError, match=r"cond\[0\] must be \[7 ...\]"):
        log_prob(v, x, cond=rate[:3])


def test_the_source_may_have_another_density() -> None:
    laplace = torch.distributions.Laplace(1.0, 0.5)
    x = torch.randn(6, 2, dtype=torch.float64)
    given = log_prob(lambda x, t: -x, x, base=lambda x: laplace.log_prob(x).sum(1))
    torch.testing.assert_close(given, laplace.log_prob(x * math.e).sum(1) + 2)


def test_more_probes_have_less_variance_and_the_same_mean() -> None:
    rotation = torch.tensor([[0.1, 1.0], [0.6, -0.3]], dtype=torch.float64)
    x = torch.zeros(4000, 2, dtype=torch.float64)
    spread = {}
    for probes in (1, 4):
        g = torch.Generator().manual_seed(0)
        values = divergence(lambda x, t: x @ rotation.T, x, 0.5, method="hutchinson", generator=g)
        given = log_prob(
            lambda x, t: x @ rotation.T, x, steps=1, method="euler",
            divergence="hutchinson", probes=probes, generator=g,
        )  # fmt: skip
        assert given.mean().item() == pytest.approx(-math.log(2 * math.pi) + 0.2, abs=0.1)
        spread[probes] = given.std().item()
    assert values.std() > 1
    assert spread[1] / spread[4] == pytest.approx(2, rel=0.1)
    with pytest.raises(ValueError, match="probes must be at least 1, but 0 came"):
        log_prob(linear, x[:2], divergence="hutchinson", probes=0)


@pytest.mark.parametrize("size", [None, 3])
def test_the_likelihood_while_sampling_is_that_of_the_sample(size) -> None:
    torch.manual_seed(0)
    model = MLP(2, 16, 2, classes=2).double()
    x0, label = torch.randn(8, 2, dtype=torch.float64), torch.arange(8) % 2
    x1, values = sample_with_log_prob(model, x0, cond=label, steps=40, batch_size=size)
    torch.testing.assert_close(x1, sample(model, x0, cond=label, method="rk4", steps=40))
    torch.testing.assert_close(values, log_prob(model, x1, cond=label, steps=40), atol=1e-7, rtol=0)
    far, moved = sample_with_log_prob(linear, x0, base=lambda x: x.new_zeros(len(x)))
    torch.testing.assert_close(moved, torch.full_like(moved, -A.trace().item()))
    torch.testing.assert_close(far, x0 @ torch.linalg.matrix_exp(A).T, atol=1e-6, rtol=0)


@pytest.mark.parametrize("differentiable", [False, True])
def test_nothing_is_read_back_from_an_accelerator(differentiable) -> None:
    x = torch.empty(6, 2, device="meta")
    label = torch.empty(6, device="meta", dtype=torch.long)
    model = MLP(2, 8, 2, classes=3).to("meta")
    settings = {"steps": 2, "differentiable": differentiable, "cond": label}
    assert log_prob(model, x, **settings).shape == (6,)
    assert log_prob(Doubled(2, 8, 2).to("meta"), x, steps=2).shape == (6,)
    assert log_prob(model, x, divergence="hutchinson", **settings).shape == (6,)
    assert sample_with_log_prob(model, x, cond=label, steps=2)[0].shape == (6, 2)

"""Divergence and residual on fields whose divergence is known and not zero.

A rotation has divergence zero whatever the sign, so it tests nothing. Every field below is chosen
so that a wrong sign, a missing term or a mixed-up row shows.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmtutor import (
    MLP,
    CondOT,
    Cosine,
    CountedField,
    EmpiricalField,
    GaussianMixture,
    VariancePreserving,
    continuity_residual,
    divergence,
)
from fmtutor.continuity import divergence_probes, velocity_and_divergence

F64 = torch.float64
PATHS = [CondOT(), CondOT(0.1), Cosine(), VariancePreserving()]
every_path = pytest.mark.parametrize("path", PATHS, ids=str)
every_method = pytest.mark.parametrize("method", ["exact", "hutchinson"])
seeds = st.integers(0, 10_000)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def rows(t, x):
    return t.reshape(-1, *[1] * (x.ndim - 1))


# The exact divergence.


@given(seeds, st.integers(1, 5), st.sampled_from([torch.float32, F64]))
def test_of_a_linear_field_is_the_trace(seed, d, dtype):
    a = normal(seed, d, d).to(dtype)
    x = normal(seed + 1, 4, d).to(dtype)
    t = torch.tensor([0.0, 0.3, 0.6, 1.0], dtype=dtype)
    result = divergence(lambda x, t: rows(1 + t, x) * (x @ a.T), x, t)
    assert result.shape == (4,)
    assert result.dtype == dtype
    torch.testing.assert_close(result, (1 + t) * a.trace(), rtol=1e-5, atol=1e-5)


def test_an_expanding_field_has_a_positive_divergence():
    assert divergence(lambda x, t: x, torch.zeros(2, 3), 0.5).tolist() == [3.0, 3.0]
    assert divergence(lambda x, t: -x, torch.zeros(2, 3), 0.5).tolist() == [-3.0, -3.0]


def test_of_a_nonlinear_field():
    # v = (x² y, sin y + x), ∇·v = 2xy + cos y: every point its own value
    def v(x, t):
        return torch.stack([x[:, 0] ** 2 * x[:, 1], x[:, 1].sin() + x[:, 0]], dim=1)

    x = normal(0, 6, 2)
    torch.testing.assert_close(
        divergence(v, x, 0.2), 2 * x[:, 0] * x[:, 1] + x[:, 1].cos(), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("shape", [(3,), (3, 3), (3, 1, 2, 2), (2, 3, 2, 4)])
def test_on_points_of_every_shape(shape):
    x = normal(1, *shape)
    result = divergence(lambda x, t: x.pow(3), x, 0.5)
    torch.testing.assert_close(result, (3 * x.pow(2)).reshape(len(x), -1).sum(1))


def test_of_a_network_is_the_trace_of_its_jacobian():
    model = MLP(3, 16, 2).double()
    x, t = normal(0, 5, 3), torch.linspace(0, 1, 5, dtype=F64)
    for i, value in enumerate(divergence(model, x, t)):
        jacobian = torch.autograd.functional.jacobian(
            lambda row, i=i: model(row[None], t[i : i + 1])[0], x[i]
        )
        torch.testing.assert_close(value, jacobian.trace())


@every_method
def test_of_a_field_that_does_not_depend_on_x_is_zero(method):
    x = normal(0, 4, 2)
    weight = torch.ones(2, dtype=F64, requires_grad=True)
    for v in (lambda x, t: torch.ones_like(x) * 3, lambda x, t: weight * rows(t, x)):
        for differentiable in (False, True):
            result = divergence(v, x, 0.5, method=method, differentiable=differentiable)
            assert result.tolist() == [0.0] * 4


def test_can_be_differentiated_when_asked():
    x = normal(0, 5, 2).requires_grad_()

    def v(x, t):
        return rows(t, x) * x.pow(3)  # ∇·v = 3t Σ x², ∇∇·v = 6t x

    (gradient,) = torch.autograd.grad(divergence(v, x, 0.5, differentiable=True).sum(), x)
    torch.testing.assert_close(gradient, 3 * x)
    assert not divergence(v, x, 0.5).requires_grad
    # and through the parameters of a network
    model = MLP(2, 8, 1).double()
    divergence(model, x.detach(), 0.5, differentiable=True).sum().backward()
    assert model.layers[0].weight.grad.abs().max() > 0


def test_leaves_the_points_and_the_weights_alone():
    x, model = normal(0, 4, 2), MLP(2, 8, 1).double()
    before = x.clone()
    divergence(model, x, 0.5)
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert x.grad is None
    assert all(p.grad is None for p in model.parameters())


@every_method
def test_works_where_gradients_are_switched_off(method):
    with torch.no_grad():
        result = divergence(lambda x, t: 2 * x, torch.ones(3, 2), 0.5, method=method)
    assert result.tolist() == [4.0] * 3


def test_of_an_empirical_field_against_differences():
    field = EmpiricalField(CondOT(), normal(0, 20, 2))
    x, eps = normal(1, 4, 2), 1e-6
    expected = torch.zeros(4, dtype=F64)
    for i, e in enumerate(eps * torch.eye(2, dtype=F64)):
        expected += ((field(x + e, 0.6) - field(x - e, 0.6)) / (2 * eps))[:, i]
    torch.testing.assert_close(divergence(field, x, 0.6), expected, rtol=1e-5, atol=1e-5)


# Hutchinson's estimate.


def test_hutchinson_is_exact_where_the_jacobian_is_diagonal():
    x = normal(0, 5, 2, 3)
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        result = divergence(lambda x, t: x.pow(3), x, 0.5, method="hutchinson", generator=g)
        torch.testing.assert_close(result, 3 * x.square().sum((1, 2)))


def test_hutchinson_is_unbiased():
    n, a = 40_000, normal(3, 4, 4)
    x = normal(0, 1, 4).expand(n, 4)  # one point, n probes
    g = torch.Generator().manual_seed(0)
    estimates = divergence(lambda x, t: x @ a.T, x, 0.5, method="hutchinson", generator=g)
    # for signs the variance is Σ_{i<j} (a_ij + a_ji)²
    spread = (a + a.T).triu(1).square().sum().sqrt()
    assert estimates.std().item() == pytest.approx(spread.item(), rel=0.03)
    assert abs(estimates.mean() - a.trace()) < 4 * spread / math.sqrt(n)


def test_hutchinson_draws_from_the_generator_alone(global_rng_untouched):
    x, a = normal(0, 50, 3), normal(1, 3, 3)

    def estimate(seed):
        g = torch.Generator().manual_seed(seed)
        return divergence(lambda x, t: x @ a.T, x, 0.5, method="hutchinson", generator=g)

    assert torch.equal(estimate(1), estimate(1))
    assert not torch.equal(estimate(1), estimate(2))


# The two halves, for those who need the velocity as well.


@pytest.mark.parametrize("shape", [(4,), (4, 3), (3, 3), (2, 1, 2, 3), (1, 2)])
def test_exact_probes_are_the_unit_vectors(shape):
    x, d = normal(0, *shape), math.prod(shape[1:])
    with torch.device("meta"):  # what is made without device= would not fit
        probes = divergence_probes(x)
    assert probes.dtype == F64
    assert probes.shape == (d, *shape)
    for row in range(shape[0]):
        assert torch.equal(probes[:, row].reshape(d, d), torch.eye(d, dtype=F64))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_hutchinson_probes_are_one_vector_of_signs_a_point(dtype):
    x = torch.zeros(5000, 2, 2, dtype=dtype)
    with torch.device("meta"):  # what is made without device= would not fit
        probes = divergence_probes(x, "hutchinson", torch.Generator("cpu").manual_seed(0))
    assert probes.shape == (1, 5000, 2, 2)
    assert probes.dtype == dtype
    assert probes.unique().tolist() == [-1, 1]
    covariance = probes[0].flatten(1).T.cov(correction=0)
    assert (covariance - torch.eye(4)).abs().max() < 0.06  # E εεᵀ = I
    with pytest.raises(ValueError, match="method must be 'exact' or 'hutchinson', but 'fast'"):
        divergence_probes(x, "fast")


@every_method
def test_velocity_and_divergence_come_from_one_evaluation(method):
    q, x, t = mixture(), normal(0, 5, 2), torch.linspace(0, 1, 5, dtype=F64)
    field = CountedField(q.velocity(CondOT()))
    probes = divergence_probes(x, method, torch.Generator().manual_seed(0))
    u, div = velocity_and_divergence(field, x, t, probes)
    assert field.count == 1
    assert not u.requires_grad
    assert not div.requires_grad
    torch.testing.assert_close(u, q.velocity(CondOT())(x, t))
    g = torch.Generator().manual_seed(0)
    assert torch.equal(div, divergence(field, x, t, method=method, generator=g))
    u, div = velocity_and_divergence(field, x.requires_grad_(), t, probes, differentiable=True)
    assert u.requires_grad
    assert div.requires_grad


# Bad input.


def test_divergence_refuses_bad_input():
    def v(x, t):
        return x

    good = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="method must be 'exact' or 'hutchinson', but 'fast'"):
        divergence(v, good, 0.5, method="fast")
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        divergence(v, good, 1.5)
    with pytest.raises(ValueError, match="t has shape"):
        divergence(v, good, torch.zeros(2))
    with pytest.raises(ValueError, match="non-empty"):
        divergence(v, good[:0], 0.5)
    with pytest.raises(TypeError, match="floating point"):
        divergence(v, good.long(), 0.5)
    with pytest.raises(ValueError, match=r"v\(x, t\) and x must have one shape"):
        divergence(lambda x, t: x[:, :1], good, 0.5)
    with pytest.raises(TypeError, match=r"v\(x, t\) and x must have one dtype"):
        divergence(lambda x, t: x.double(), good, 0.5)


# The residual.


def mixture(d=2):
    return GaussianMixture(
        normal(0, 3, d),
        torch.tensor([0.3, 0.5, 0.8], dtype=F64),
        torch.tensor([1.0, 2.0, 3.0], dtype=F64),
    )


@every_path
@pytest.mark.parametrize("d", [1, 2, 5])
def test_oracles_satisfy_the_continuity_equation(path, d):
    q = mixture(d)
    x, t = 1.5 * normal(1, 64, d), torch.linspace(0.02, 0.98, 64, dtype=F64)
    residual = continuity_residual(lambda x, t: q.log_prob_t(path, x, t), q.velocity(path), x, t)
    assert residual.shape == (64,)
    assert residual.abs().max() < 1e-8


@every_path
def test_the_empirical_field_satisfies_the_continuity_equation(path):
    data = normal(2, 12, 2)

    def log_prob(x, t):  # log 1/n Σ_i p_t(x|x1_i), one data point at a time
        terms = [path.log_prob(x, row.expand(x.shape), t) for row in data]
        return torch.stack(terms).logsumexp(0) - math.log(len(data))

    x, t = normal(3, 32, 2), torch.linspace(0.05, 0.9, 32, dtype=F64)
    residual = continuity_residual(log_prob, EmpiricalField(path, data), x, t)
    assert residual.abs().max() < 1e-8


@every_path
def test_a_flipped_sign_or_a_flipped_time_does_not(path):
    q, x = mixture(), normal(1, 64, 2)
    t = torch.linspace(0.1, 0.9, 64, dtype=F64)
    u = q.velocity(path)

    def log_prob(x, t):
        return q.log_prob_t(path, x, t)

    for wrong in (lambda x, t: -u(x, t), lambda x, t: u(x, 1 - t), lambda x, t: 1.1 * u(x, t)):
        residual = continuity_residual(log_prob, wrong, x, t)
        assert residual.abs().median() > 0.05
        assert residual.abs().max() > 0.5
    backward = continuity_residual(lambda x, t: log_prob(x, 1 - t), u, x, t)
    assert backward.abs().median() > 0.5


def test_each_term_of_the_residual_counts_with_its_sign():
    # log p = −½|x|² + ct, v = ax: ∂_t log p + ∇·v + v·∇log p = c + ad − a|x|²
    a, c, x = 0.7, 0.3, normal(0, 6, 3)

    def log_prob(x, t):
        return -0.5 * x.square().sum(1) + c * t

    result = continuity_residual(log_prob, lambda x, t: a * x, x, 0.5)
    torch.testing.assert_close(result, c + 3 * a - a * x.square().sum(1))


def test_the_field_of_given_densities_is_not_unique():
    # Adding w/p with w free of divergence changes the trajectories, not the densities.
    q, path, x = mixture(), CondOT(), normal(1, 32, 2)

    def v(x, t):
        turn = torch.stack([-x[:, 1], x[:, 0]], dim=1)  # rotation: ∇·turn = 0
        return q.velocity(path)(x, t) + turn / q.log_prob_t(path, x, t).exp()[:, None]

    def log_prob(x, t):
        return q.log_prob_t(path, x, t)

    assert (v(x, 0.5) - q.velocity(path)(x, 0.5)).abs().max() > 1
    relative = continuity_residual(log_prob, v, x, 0.5) * log_prob(x, torch.full((32,), 0.5)).exp()
    assert relative.abs().max() < 1e-10  # the residual of the undivided equation


def test_on_images():
    def log_prob(x, t):  # N(t m, I) moved by the constant velocity m
        return -0.5 * (x - rows(t, x)).square().sum((1, 2, 3))

    x = normal(0, 4, 1, 2, 2)
    assert (
        continuity_residual(log_prob, lambda x, t: torch.ones_like(x), x, 0.4).abs().max() < 1e-12
    )
    assert continuity_residual(log_prob, lambda x, t: -torch.ones_like(x), x, 0.4).abs().max() > 1


def test_residual_works_without_gradients_and_leaves_its_arguments_alone():
    x, t = normal(0, 3, 2), torch.full((3,), 0.5, dtype=F64)
    q = mixture()
    with torch.no_grad():
        residual = continuity_residual(
            lambda x, t: q.log_prob_t(CondOT(), x, t), q.velocity(CondOT()), x, t
        )
    assert residual.abs().max() < 1e-10
    assert not residual.requires_grad
    assert not x.requires_grad
    assert not t.requires_grad
    model = MLP(2, 8, 1).double()
    assert not continuity_residual(lambda x, t: model(x, t).sum(1), model, x, t).requires_grad


def test_residual_refuses_bad_input():
    def log_prob(x, t):
        return x.sum(1)

    def v(x, t):
        return x

    good = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"log_prob must return shape \[3\] .* returned \[3, 1\]"):
        continuity_residual(lambda x, t: x.sum(1, keepdim=True), v, good, 0.5)
    with pytest.raises(ValueError, match=r"v\(x, t\) and x must have one shape"):
        continuity_residual(log_prob, lambda x, t: x[:2], good, 0.5)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        continuity_residual(log_prob, v, good, -0.5)
    with pytest.raises(TypeError, match="floating point"):
        continuity_residual(log_prob, v, good.long(), 0.5)
    with pytest.raises(ValueError, match="t has shape"):
        continuity_residual(log_prob, v, good, torch.zeros(2, 1))


# Probes, and what no graph was left for.


@pytest.mark.parametrize("count", [1, 3])
def test_random_probes_are_signs_whose_squares_add_up_to_one(count):
    x = torch.zeros(500, 2, 3, dtype=F64)
    g = torch.Generator().manual_seed(0)
    probes = divergence_probes(x, "hutchinson", g, count)
    assert probes.shape == (count, *x.shape)
    torch.testing.assert_close(probes.abs(), torch.full_like(probes, count**-0.5))
    torch.testing.assert_close(probes.square().sum(0), torch.ones_like(x))
    assert probes.mean().abs() < 0.05
    assert not torch.equal(probes[0], probes[-1]) or count == 1


def test_the_mode_of_the_caller_changes_no_divergence():
    a = torch.tensor([[0.5, 1.0], [-2.0, 0.25]], dtype=F64)
    with torch.inference_mode():
        x, t = torch.ones(3, 2, dtype=F64), torch.full((3,), 0.5, dtype=F64)
        found = divergence(lambda x, t: t[:, None] * (x @ a.clone().T).square(), x, t)
    with torch.no_grad():
        expected = divergence(lambda x, t: t[:, None] * (x @ a.T).square(), x.clone(), t.clone())
    torch.testing.assert_close(found, expected)
    assert found.abs().min() > 0.1


def test_a_field_without_a_graph_is_told_from_one_that_does_not_depend_on_x():
    x = torch.randn(4, 2, dtype=F64)

    @torch.no_grad()
    def unrecorded(x, t):
        assert not x.requires_grad or not torch.is_grad_enabled()
        return -x

    with pytest.raises(ValueError, match=r"depends on x, .* was not recorded"):
        divergence(unrecorded, x, 0.5)
    seen = []

    def constant(x, t):
        seen.append(x.requires_grad)
        return torch.ones_like(x)

    assert divergence(constant, x, 0.5).tolist() == [0.0] * 4
    assert seen == [True, False]


def test_a_constant_field_is_not_looked_at_on_an_accelerator():
    x = torch.empty(5, 2, device="meta")
    assert divergence(lambda x, t: torch.ones_like(x), x, 0.5).shape == (5,)


def test_a_field_that_cannot_be_called_is_refused():
    with pytest.raises(
        TypeError, match=r"the field must be called as v\(x, t\), but the class MLP"
    ):
        divergence(MLP, torch.zeros(2, 2), 0.5)
    with pytest.raises(TypeError, match=r"v\(x, t\) must be a torch.Tensor, but a NoneType came"):
        divergence(lambda x, t: None, torch.zeros(2, 2), 0.5)

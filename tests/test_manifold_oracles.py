"""The exact fields on the sphere and the torus, and the continuity equation and densities there."""

import math

import pytest
import torch
from test_manifolds import CURVED, F64, points

from fmtutor import continuity_residual, divergence, log_prob, sample, sample_with_log_prob
from fmtutor.manifold_oracles import SphereField, TorusMixture
from fmtutor.manifolds import Product, Rotations, Sphere, Torus
from fmtutor.networks import TangentMLP
from fmtutor.paths import GeodesicPath

SPHERE = Sphere(2)
DATA = points(SPHERE, 5, seed=11)
FIELD = SphereField(DATA)
MIXTURE = TorusMixture(
    torch.tensor([[3.0, -1.0], [-2.0, 2.5], [0.3, 0.2]], dtype=F64),
    torch.tensor([0.4, 0.7, 0.25], dtype=F64),
    torch.tensor([1.0, 2.0, 1.0], dtype=F64),
)


def lattice(n):
    """Points of the sphere and weights that integrate polynomials: Gauss times equal angles."""
    import numpy as np

    z, w = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(n))
    phi = 2 * math.pi * torch.arange(2 * n, dtype=F64) / (2 * n)
    z, phi = (a.reshape(-1) for a in torch.meshgrid(z, phi, indexing="ij"))
    r = (1 - z**2).sqrt()
    weights = (w * math.pi / n).repeat_interleave(2 * n)
    return torch.stack([r * phi.cos(), r * phi.sin(), z], dim=1), weights


def grid(n):
    """Points of the torus, each of which stands for the same area."""
    a = (torch.arange(n, dtype=F64) + 0.5) / n * 2 * math.pi - math.pi
    x = torch.stack([a.reshape(-1) for a in torch.meshgrid(a, a, indexing="ij")], dim=1)
    return x, torch.full((len(x),), (2 * math.pi / n) ** 2, dtype=F64)


def inside(field, n=400, margin=0.02):
    """Random points and times where p_t is smooth: no data point has its edge nearby."""
    x = points(SPHERE, n, seed=4)
    t = 0.9 * torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=F64)
    angle = 2 * torch.atan2(
        (x[:, None] - field.data).norm(dim=2), (x[:, None] + field.data).norm(dim=2)
    )
    edge = (angle - (1 - t[:, None]) * math.pi).abs().min(1).values
    keep = (edge > margin) & field.log_prob_t(x, t).isfinite()
    assert keep.sum() > n / 2
    return x[keep], t[keep]


def test_the_continuity_equation_holds_on_the_sphere():
    x, t = inside(FIELD)
    residual = continuity_residual(FIELD.log_prob_t, FIELD, x, t, manifold=SPHERE)
    assert residual.abs().max() < 1e-10


def test_the_continuity_equation_holds_on_a_sphere_of_dimension_three():
    field = SphereField(points(Sphere(3), 4, seed=2))
    x = points(Sphere(3), 200, seed=1)
    residual = continuity_residual(field.log_prob_t, field, x, 0.1, manifold=Sphere(3))
    assert residual.isfinite().all()
    assert residual.abs().max() < 1e-10


def test_the_continuity_equation_holds_on_the_torus():
    x = points(Torus(2), 400)
    t = 0.98 * torch.rand(400, generator=torch.Generator().manual_seed(0), dtype=F64)
    residual = continuity_residual(MIXTURE.log_prob_t, MIXTURE, x, t, manifold=Torus(2))
    assert residual.abs().max() < 1e-10


def test_the_ambient_divergence_fails():
    """The derivative along the normal counts: −2 x·raw for a projected field, and here as much."""
    x, t = inside(FIELD)
    right = continuity_residual(FIELD.log_prob_t, FIELD, x, t, manifold=SPHERE)

    def raw(x, t):
        return torch.einsum(
            "bn,bnd->bd", torch.ones(len(x), 5, dtype=F64), DATA.expand(len(x), 5, 3)
        )

    def tangent(x, t):
        return SPHERE.tangent(x, raw(x, t))

    gap = divergence(tangent, x, t) - divergence(tangent, x, t, manifold=SPHERE)
    torch.testing.assert_close(gap, -2 * (x * raw(x, t)).sum(1))
    assert right.abs().max() < 1e-10


def test_the_mass_on_the_sphere_is_one():
    x, weight = lattice(60)
    assert FIELD.log_prob_t(x, 0.0).exp().mul(weight).sum().item() == pytest.approx(1, abs=1e-12)
    # One data point, along the angle, where the edge is known.
    one = SphereField(torch.tensor([[0.0, 0.0, 1.0]], dtype=F64))
    for t in (0.1, 0.5, 0.9):
        theta = (torch.arange(20_000, dtype=F64) + 0.5) / 20_000 * math.pi * (1 - t)
        x = torch.stack([theta.sin(), torch.zeros_like(theta), theta.cos()], dim=1)
        ring = 2 * math.pi * theta.sin() * math.pi * (1 - t) / 20_000
        mass = (one.log_prob_t(x, t).exp() * ring).sum().item()
        assert mass == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("t", [0.0, 0.4, 0.8, 0.97])
def test_the_mass_on_the_torus_is_one(t):
    x, weight = grid(120)
    assert (MIXTURE.log_prob_t(x, t).exp() * weight).sum().item() == pytest.approx(1, abs=1e-6)


def test_the_density_of_the_mixture():
    x, weight = grid(120)
    p = MIXTURE.log_prob(x).exp()
    assert (p * weight).sum().item() == pytest.approx(1, abs=1e-12)
    late = MIXTURE.log_prob_t(x, 0.999)
    assert (late.exp() - p).abs().max() < 1e-4
    start = MIXTURE.log_prob_t(x, 0.0)
    torch.testing.assert_close(start, Torus(2).noise_log_prob(x))
    drawn = MIXTURE.sample(100_000, seed=0)
    Torus(2).check(drawn)
    for k in (1, 2):  # Fourier coefficients know nothing of a seam
        for f in (torch.cos, torch.sin):
            expected = (p * weight) @ f(k * x)
            torch.testing.assert_close(f(k * drawn).mean(0), expected, atol=0.01, rtol=0)


def test_the_fields_are_averages_of_the_conditional_ones():
    """By sampling: the mean of the target near a place is the field there."""
    path = GeodesicPath(SPHERE)
    g = torch.Generator().manual_seed(0)
    x1 = DATA[torch.randint(5, (400_000,), generator=g)]
    s = path.sample(SPHERE.noise(x1, g), x1, 0.4)
    place = FIELD.data[0] + 0.7 * FIELD.data[1]
    place = SPHERE.project(place[None])
    near = (s.xt @ place.T)[:, 0] > math.cos(0.08)
    expected, t = FIELD(s.xt[near], 0.4).mean(0), s.ut[near]
    error = t.std(0) / len(t) ** 0.5
    assert len(t) > 300
    assert ((t.mean(0) - expected).abs() < 4 * error + 1e-3).all()
    torus = Torus(2)
    x1 = MIXTURE.sample(400_000, seed=1)
    s = GeodesicPath(torus).sample(torus.noise(x1, g), x1, 0.4)
    near = (
        torus.log(s.xt, torch.tensor([[3.0, -2.9]], dtype=F64).expand_as(s.xt)).norm(dim=1) < 0.15
    )
    expected, t = MIXTURE(s.xt[near], 0.4).mean(0), s.ut[near]
    assert len(t) > 300
    assert ((t.mean(0) - expected).abs() < 4 * t.std(0) / len(t) ** 0.5 + 1e-3).all()


def test_near_the_end_the_field_of_the_mixture_goes_to_nothing():
    x = points(Torus(2), 50)
    assert (MIXTURE(x, 1.0) == 0).all()
    at = [MIXTURE(x, 1 - left) / left for left in (2e-3, 1e-3, 1e-4)]
    torch.testing.assert_close(at[0], at[1], atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(at[1], at[2], atol=1e-6, rtol=1e-6)
    low = MIXTURE(x.clone(), 0.97)
    assert low.isfinite().all()


def test_where_nothing_can_come_from_the_field_leads_to_the_nearest():
    far = SPHERE.project(-DATA.sum(0, keepdim=True))
    assert FIELD.log_prob_t(far, 0.97).item() == -math.inf
    nearest = (far @ DATA.T).argmax()
    u = FIELD(far, 0.97)
    torch.testing.assert_close(u, SPHERE.log(far, DATA[nearest][None]) / 0.03)


def test_the_flow_of_the_sphere_ends_in_the_data():
    x0 = points(SPHERE, 500, seed=6)
    x = sample(FIELD, x0, method="rk4", times=1 - torch.logspace(0, -3, 60), project=SPHERE.project)
    away = (x[:, None] - DATA).norm(dim=2).min(1).values
    assert away.max() < 0.02


@pytest.mark.parametrize(
    ("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)]
)
def test_putting_points_back_costs_no_order(method, order):
    """On a smooth tangent field of the sphere the error falls with the order of the method."""
    torch.manual_seed(0)
    field = TangentMLP(SPHERE, width=16, depth=2, time_dim=2).double()
    x0 = points(SPHERE, 50)

    def end(method, steps):
        return sample(field, x0, method=method, steps=steps, project=SPHERE.project)

    exact = end("rk4", 1000)
    steps = [8, 16, 32]
    errors = [(end(method, n) - exact).norm(dim=1).max().log2().item() for n in steps]
    slope = (errors[0] - errors[-1]) / 2
    assert slope == pytest.approx(order, abs=0.3)


def test_without_putting_back_points_leave():
    x = sample(lambda x, t: torch.stack([-x[:, 1], x[:, 0], 0 * t], 1), DATA, steps=20)
    assert (x.norm(dim=1) - 1).max() > 0.01


def test_the_likelihood_on_the_torus_is_right():
    x = MIXTURE.sample(100, seed=3)
    got = log_prob(
        MIXTURE, x, base=Torus(2).noise_log_prob, manifold=Torus(2), method="rk4", steps=50
    )
    assert (got - MIXTURE.log_prob(x)).abs().max() < 1e-4
    x0 = points(Torus(2), 50)
    x1, there = sample_with_log_prob(
        MIXTURE, x0, base=Torus(2).noise_log_prob, manifold=Torus(2), steps=50
    )
    Torus(2).check(x1)
    assert (there - MIXTURE.log_prob(x1)).abs().max() < 1e-3


@pytest.mark.parametrize("space", CURVED.values(), ids=CURVED.keys())
def test_the_likelihood_of_a_network_integrates_to_one(space):
    """By importance sampling, for any weights: the mean of p/noise over the noise is one."""
    torch.manual_seed(1)
    field = TangentMLP(space, width=32, depth=2, time_dim=4).double()
    with torch.no_grad():
        for weight in field.parameters():
            weight *= 1.6
    x = points(space, 600, seed=5)
    log_p = log_prob(field, x, base=space.noise_log_prob, manifold=space, steps=8)
    ratio = (log_p - space.noise_log_prob(x)).exp()
    error = (ratio.std() / len(x) ** 0.5).item()
    assert ratio.std() > 0.03
    assert ratio.mean().item() == pytest.approx(1, abs=4 * error + 2e-3)


def test_the_likelihood_of_a_field_that_is_only_projected():
    """Up the axis z' = 1 − z², so artanh z grows with t, and areas in proportion to dz."""
    north = torch.tensor([[0.0, 0.0, 1.0]], dtype=F64)

    def up(x, t):
        return SPHERE.tangent(x, north.expand_as(x))

    x = points(SPHERE, 60)
    z = x[:, 2]
    z0 = torch.tanh(torch.atanh(z) - 1)
    expected = SPHERE.noise_log_prob(x) + ((1 - z0**2) / (1 - z**2)).log()
    got = log_prob(up, x, base=SPHERE.noise_log_prob, manifold=SPHERE, steps=30)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    ambient = log_prob(up, x, base=SPHERE.noise_log_prob, steps=30)
    assert (ambient - expected).abs().max() > 0.5


def test_the_change_of_variables_holds_on_rotations():
    """Against the flow itself: the log-determinant of its derivative between tangent planes."""
    space = Rotations()
    torch.manual_seed(1)
    field = TangentMLP(space, width=16, depth=2, time_dim=4).double()
    x0 = points(space, 5)
    x1, log_p = sample_with_log_prob(field, x0, base=space.noise_log_prob, manifold=space, steps=20)

    def flow(x):
        return sample(field, x, method="rk4", steps=20, project=space.project)

    h, columns = 1e-5, []
    for e in space.frame(x0):
        ahead, back = flow(space.exp(x0, h * e)), flow(space.exp(x0, -h * e))
        columns.append((ahead - back) / (2 * h))
    derivative = torch.einsum("ibjk,cbjk->bic", space.frame(x1), torch.stack(columns))
    expected = space.noise_log_prob(x0) - derivative.det().abs().log()
    torch.testing.assert_close(log_p, expected, atol=1e-5, rtol=0)


def test_random_signs_have_the_right_mean():
    torch.manual_seed(1)
    field = TangentMLP(SPHERE, width=16, depth=2).double()
    x = points(SPHERE, 3)
    exact = divergence(field, x, 0.3, manifold=SPHERE)
    many = x.repeat_interleave(4000, 0)
    g = torch.Generator().manual_seed(0)
    estimate = divergence(field, many, 0.3, method="hutchinson", generator=g, manifold=SPHERE)
    estimate = estimate.reshape(3, -1)
    error = estimate.std(1) / 4000**0.5
    assert ((estimate.mean(1) - exact).abs() < 4 * error).all()


def test_the_likelihood_has_gradients():
    torch.manual_seed(1)
    field = TangentMLP(SPHERE, width=8, depth=1)
    x = points(SPHERE, 4, dtype=torch.float32)
    log_prob(
        field, x, base=SPHERE.noise_log_prob, manifold=SPHERE, steps=3, differentiable=True
    ).sum().backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in field.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SphereField(2 * DATA), "data must lie on the unit sphere"),
        (lambda: FIELD(DATA, 1.0), "no limit at t = 1"),
        (lambda: TorusMixture(torch.full((1, 1), 4.0), torch.ones(1)), "means must be angles"),
        (lambda: TorusMixture(torch.zeros(1, 1), torch.zeros(1)), "stds must be positive"),
        (lambda: TorusMixture(torch.zeros(1, 1), torch.full((1,), 3.0)), "stds must be at most 2"),
        (lambda: TorusMixture(torch.zeros(2, 1), torch.ones(3)), "must have one shape"),
        (lambda: log_prob(FIELD, 2 * DATA, manifold=SPHERE), "x1 must lie on the unit sphere"),
        (lambda: divergence(FIELD, 2 * DATA, 0.5, manifold=SPHERE), "x must lie on the unit"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_on_a_product_the_divergence_is_the_sum():
    space = Product(Sphere(2), Torus(2))
    x = points(space, 40)

    def v(x, t):
        p, a = space.parts(x)
        return torch.cat([SPHERE.tangent(p, DATA[:1].expand_as(p)), MIXTURE(a, t)], dim=1)

    p, a = space.parts(x)
    expected = -2 * (p @ DATA[0]) + divergence(MIXTURE, a, 0.3)
    torch.testing.assert_close(divergence(v, x, 0.3, manifold=space), expected)

"""The flow map of a Gaussian mixture, exact to a solver in float64, and derivatives of networks."""

import math

import pytest
import torch

from fmtutor import MLP, CondOT, GaussianMixture, align_time, sample
from fmtutor.flow_maps import average_of, derivative, follow, jump, simulate_pairs, tangent
from fmtutor.networks import TwoTimes, UNet, UNetConfig

F64 = torch.float64


@pytest.fixture
def field():
    means = torch.tensor([[-2.0, 1.0], [1.8, 2.0], [1.0, -1.8]], dtype=F64)
    return GaussianMixture(means, torch.tensor([0.3, 0.4, 0.5])).velocity(CondOT())


@pytest.fixture
def draw():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=g, dtype=F64)
    s, t = torch.rand(2, 60, generator=g, dtype=F64).sort(dim=0).values
    return x, 0.95 * s, 0.95 * t


def test_a_gaussian_moves_by_its_known_map():
    mean, std = torch.tensor([[2.0, -1.0]], dtype=F64), 0.5
    v = GaussianMixture(mean, std).velocity(CondOT())
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    t = torch.linspace(0, 1, 20, dtype=F64)
    width = ((1 - t) ** 2 + (t * std) ** 2).sqrt()[:, None]
    torch.testing.assert_close(follow(v, x, 0.0, t), t[:, None] * mean + width * x, atol=1e-8,
                               rtol=0)  # fmt: skip


def test_each_point_has_times_of_its_own_in_either_order(field, draw):
    x, s, t = draw
    moved = follow(field, x, s, t)
    for k in (0, 7):
        alone = sample(field, x[k : k + 1], method="rk4", steps=100, t0=s[k].item(), t1=t[k].item())
        torch.testing.assert_close(moved[k : k + 1], alone, atol=1e-12, rtol=0)
    torch.testing.assert_close(follow(field, moved, t, s), x, atol=1e-6, rtol=0)


def test_follow_carries_gradients_and_conditions():
    x = torch.ones(3, 2, requires_grad=True)
    label = torch.tensor([0.0, 1.0, 2.0])
    moved = follow(lambda x, t, c: c[:, None] * x, x, 0.0, 1.0, cond=label)
    torch.testing.assert_close(moved.detach(), label.exp()[:, None].expand(3, 2))
    moved.sum().backward()
    torch.testing.assert_close(x.grad, label.exp()[:, None].expand(3, 2))


def test_the_average_velocity_carries_points_along_the_map(field, draw):
    x, s, t = draw
    u = average_of(field)
    torch.testing.assert_close(x + align_time(t - s, x) * u(x, s, t), follow(field, x, s, t))
    torch.testing.assert_close(u(x, s, s), field(x, s))
    torch.testing.assert_close(tangent(u)(x, t), field(x, t))
    near = u(x, s, s + 1e-6)
    torch.testing.assert_close(near, field(x, s), atol=1e-4, rtol=1e-4)


def test_the_identities_hold_on_the_exact_map(field, draw):
    """Tangent above; Lagrangian, Eulerian (MeanFlow's), semigroup here."""
    x, s, t = draw
    u = average_of(field, steps=60)
    span = align_time(t - s, x)
    value, slope = derivative(u, x, s, t, dt=1.0)
    landed = x + span * value
    torch.testing.assert_close(value + span * slope, field(landed, t), atol=1e-5, rtol=1e-5)
    v = field(x, s)
    value, slope = derivative(u, x, s, t, dx=v, ds=1.0)
    torch.testing.assert_close(value, v + span * slope, atol=1e-5, rtol=1e-5)
    middle = 0.3 * s + 0.7 * t
    halfway = follow(field, x, s, middle)
    torch.testing.assert_close(follow(field, halfway, middle, t), landed, atol=1e-6, rtol=0)


def gaussian():
    """A Gaussian of the plane, its field, and points with the places where the field takes them."""
    mean, std = torch.tensor([[1.0, -0.5]], dtype=F64), 0.6
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    return GaussianMixture(mean, std).velocity(CondOT()), x, mean + std * x


def test_jumps_follow_the_exact_map():
    v, x, end = gaussian()
    for times in ((0.0, 1.0), (0.0, 0.3, 1.0), torch.linspace(0, 1, 5)):
        torch.testing.assert_close(jump(average_of(v), x, times), end, atol=1e-6, rtol=0)
    back = jump(average_of(v), end, (1.0, 0.4, 0.0))
    torch.testing.assert_close(back, x, atol=1e-6, rtol=0)


def test_jumps_take_conditions_and_record_nothing():
    u = TwoTimes(MLP(2, width=8, classes=3))
    x = jump(u, torch.zeros(3, 2), cond=torch.tensor([0, 1, 2]))
    assert not x.requires_grad
    with pytest.raises(ValueError, match="strictly monotone"):
        jump(u, torch.zeros(3, 2), (0.0, 0.0))
    with pytest.raises(ValueError, match=r"u\(x, s, t\) and x must have one shape"):
        jump(lambda x, s, t: x[:, :1], torch.zeros(3, 2))


def test_pairs_are_where_the_field_begins_and_ends():
    v, x0, end = gaussian()
    start, found = simulate_pairs(v, x0, steps=40)
    assert start is x0
    torch.testing.assert_close(found, end, atol=2e-3, rtol=0)


def test_a_derivative_in_every_direction():
    def u(x, s, t, c):
        return c[:, None] * x.sin() * (s**2 * t**3)[:, None]

    g = torch.Generator().manual_seed(1)
    x, dx = torch.randn(2, 5, 3, generator=g, dtype=F64)
    s, t, c = torch.rand(3, 5, generator=g, dtype=F64)
    for move, ds, dt in ((dx, 1.0, 0.0), (None, 2.0, -1.0), (dx, 0.0, 0.0), (None, 0.0, 1.0)):
        value, slope = derivative(u, x, s, t, c, dx=move, ds=ds, dt=dt)
        torch.testing.assert_close(value, u(x, s, t, c))
        own = torch.zeros_like(x) if move is None else move
        ahead, behind = (
            u(x + h * own, s + h * ds, t + h * dt, c) for h in (1e-5, -1e-5)
        )  # fmt: skip
        torch.testing.assert_close(slope, (ahead - behind) / 2e-5, atol=1e-8, rtol=1e-6)


def test_a_direction_has_to_be_given():
    with pytest.raises(ValueError, match="a direction must be given: dx, ds or dt"):
        derivative(lambda x, s, t: x, torch.ones(1, 1), torch.zeros(1), torch.ones(1))


NETWORKS = {
    "mlp": (lambda: MLP(2, width=8, depth=2, classes=3), (2,)),
    "unet": (
        lambda: UNet(UNetConfig(size=8, classes=3, width=8, mults=(1, 2), attention=(4,), heads=2)),
        (1, 8, 8),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_with_attention_have_forward_derivatives_that_train(name):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    u = TwoTimes(make()).double().eval()
    for p in u.parameters():  # nothing may be zero, as last layers are at first
        torch.nn.init.normal_(p, std=0.3 / math.sqrt(max(p.shape[-1], 1)))
    x, dx = torch.randn(2, 3, *shape, dtype=F64)
    s, t = torch.rand(2, 3, dtype=F64).sort(dim=0).values
    label = torch.tensor([0, 1, 2])
    value, slope = derivative(u, x, s, t, label, dx=dx, ds=1.0)
    h = 1e-5
    ahead, behind = (u(x + k * dx, s + k, t, label) for k in (h, -h))
    torch.testing.assert_close(value, u(x, s, t, label))
    torch.testing.assert_close(slope, (ahead - behind).detach() / (2 * h), atol=1e-6, rtol=1e-5)
    assert slope.abs().max() > 1e-3
    slope.square().sum().backward()
    gradients = [p.grad for p in u.parameters() if p.grad is not None]
    assert all(bool(g.isfinite().all()) for g in gradients)
    # The gradient of the derivative, against a finite difference in one weight.
    weight = u.span[0].weight
    found = weight.grad[0, 0].item()
    with torch.no_grad():
        losses = []
        for k in (1e-4, -1e-4):
            weight[0, 0] += k
            losses.append(derivative(u, x, s, t, label, dx=dx, ds=1.0)[1].square().sum().item())
            weight[0, 0] -= k
    assert found == pytest.approx((losses[0] - losses[1]) / 2e-4, rel=1e-3, abs=1e-7)


def test_attention_is_taken_apart():
    """Whatever kernel torch would choose by itself: some layouts lead to the fused one."""

    def u(x, s, t):
        return torch.nn.functional.scaled_dot_product_attention(x, x, x) * t[:, None, None, None]

    g = torch.Generator().manual_seed(2)
    x, dx = torch.randn(2, 2, 1, 3, 4, generator=g, dtype=F64)
    s, t = torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64)
    _, slope = derivative(u, x, s, t, dx=dx)
    wanted = (u(x + 1e-5 * dx, s, t) - u(x - 1e-5 * dx, s, t)) / 2e-5
    torch.testing.assert_close(slope, wanted, atol=1e-8, rtol=1e-6)


def gradient_of_slope(layer, forward):
    """The gradient, in a matrix before a layer, of the square of its derivative along d."""
    g = torch.Generator().manual_seed(0)
    x, d = torch.randn(2, 5, 16, generator=g, dtype=F64)
    weight = torch.randn(16, 16, generator=g, dtype=F64).requires_grad_()
    if forward:
        slope = torch.func.jvp(lambda x: layer(x @ weight), (x,), (d,))[1]
    else:
        slope = (layer((x + 1e-5 * d) @ weight) - layer((x - 1e-5 * d) @ weight)) / 2e-5
    return torch.autograd.grad(slope.square().sum(), weight)[0]


def test_what_torch_lacks():
    """What `derivative` and `TwoTimes` work around: once torch has it, their detours can go."""
    q = torch.randn(1, 1, 3, 4)
    with pytest.raises(NotImplementedError, match="forward AD"):
        torch.func.jvp(
            lambda q: torch.nn.functional.scaled_dot_product_attention(q, q, q), (q,), (q,)
        )
    for layer, right in ((torch.nn.LayerNorm(16), False), (torch.nn.GroupNorm(4, 16), True)):
        layer = layer.double()
        found, wanted = (gradient_of_slope(layer, forward) for forward in (True, False))
        error = (found - wanted).abs().max() / wanted.abs().max()
        assert (error < 1e-6) == right

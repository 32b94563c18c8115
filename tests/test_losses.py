"""The two losses by hand, in distribution, against their floor, and their common gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from fmtutor import (
    MLP,
    BridgePath,
    CondOT,
    Cosine,
    GaussianMixture,
    PathSample,
    VariancePreserving,
    cfm_loss,
    fm_loss,
    gaussian_loss_floor,
    loss_floor,
    minibatch_ot,
)

F64 = torch.float64
PATHS = [CondOT(), CondOT(0.1), Cosine(), VariancePreserving()]
every_path = pytest.mark.parametrize("path", PATHS, ids=str)
SHAPES = [(3,), (3, 3), (4, 2), (2, 1, 2, 3)]


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class Spy:
    """A field that keeps what it is called with; its value is zero."""

    def __call__(self, x, t):
        self.x, self.t = x, t
        return torch.zeros_like(x)


def mixture():
    return GaussianMixture(
        normal(0, 3, 2),
        torch.tensor([0.3, 0.5, 0.8], dtype=F64),
        torch.tensor([1.0, 2.0, 3.0], dtype=F64),
    )


# cfm_loss by hand.


@given(st.sampled_from(PATHS), st.sampled_from(SHAPES), st.integers(0, 10_000))
def test_cfm_loss_by_hand(path, shape, seed):
    x0, x1 = normal(seed, *shape), normal(seed + 1, *shape)
    t = torch.linspace(0.1, 0.9, shape[0], dtype=F64)
    total = 0.0
    for i in range(shape[0]):
        xt = path.alpha(t[i]) * x1[i] + path.sigma(t[i]) * x0[i]
        ut = path.d_alpha(t[i]) * x1[i] + path.d_sigma(t[i]) * x0[i]
        total += float(((xt.sin() + t[i]) - ut).square().sum())
    by_hand = total / x1.numel()  # the mean over batch and dimensions

    def v(x, t):
        return x.sin() + t.reshape(-1, *[1] * (x.ndim - 1))

    loss = cfm_loss(v, x1, x0=x0, t=t, path=path)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(by_hand, rel=1e-10)


def test_cfm_loss_in_numbers():
    # x0 = 0, x1 = 2, t = ¼: x_t = ½, u = 2; v = x gives (½ − 2)² = 2.25 in every entry
    x0, x1 = torch.zeros(5, 3), torch.full((5, 3), 2.0)
    assert cfm_loss(lambda x, t: x, x1, x0=x0, t=0.25).item() == pytest.approx(2.25)
    # a mean over dimensions, not a sum
    assert cfm_loss(lambda x, t: x, x1[:, :1], x0=x0[:, :1], t=0.25).item() == pytest.approx(2.25)


def test_the_network_sees_the_point_on_the_path_and_its_time():
    spy, x0, x1 = Spy(), normal(0, 3, 3), normal(1, 3, 3)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    cfm_loss(spy, x1, x0=x0, t=t)
    torch.testing.assert_close(spy.x, (1 - t)[:, None] * x0 + t[:, None] * x1)
    assert torch.equal(spy.t, t)
    for time in (0.25, torch.tensor(0.25)):
        cfm_loss(spy, x1, x0=x0, t=time)
        assert spy.t.tolist() == [0.25] * 3


def test_the_target_belongs_to_the_noise_that_was_mixed_in():
    # On the straight path u = (x1 − x_t)/(1 − t) exactly, but only with the same x0.
    x1 = normal(0, 200, 2)
    times = 0.9 * torch.rand(200, dtype=F64, generator=torch.Generator().manual_seed(0))

    def v(x, t):
        return (x1 - x) / (1 - t)[:, None]

    g = torch.Generator().manual_seed(1)
    assert cfm_loss(v, x1, t=times, generator=g).item() < 1e-20


def test_noise_is_normal_and_independent_of_the_data():
    spy, x1 = Spy(), torch.zeros(20_000, 2)
    cfm_loss(spy, x1, t=0.0, generator=torch.Generator().manual_seed(0))
    assert kstest(spy.x.flatten().numpy(), "norm").pvalue > 0.01
    assert spy.x.T.corrcoef()[0, 1].abs() < 0.03


def test_times_are_uniform():
    spy = Spy()
    cfm_loss(spy, torch.zeros(20_000, 1), generator=torch.Generator().manual_seed(0))
    assert spy.t.shape == (20_000,)
    assert kstest(spy.t.numpy(), "uniform").pvalue > 0.01
    assert kstest(spy.t.numpy(), "norm").pvalue < 1e-6
    assert spy.t.unique().numel() > 19_000  # one time a data point


def test_times_and_noise_are_independent():
    spy = Spy()
    x1 = torch.zeros(20_000, 1)
    cfm_loss(spy, x1, generator=torch.Generator().manual_seed(0))
    x0 = spy.x[:, 0] / (1 - spy.t)
    for a, b in ((x0, spy.t), (x0.abs(), spy.t)):
        assert torch.stack([a, b]).corrcoef()[0, 1].abs() < 0.03


@pytest.mark.parametrize("path", [*PATHS, BridgePath(0.2)], ids=str)
def test_the_generator_is_the_only_source_of_randomness(path, global_rng_untouched):
    x1 = normal(0, 16, 2)

    def loss(seed):
        g = torch.Generator().manual_seed(seed)
        return cfm_loss(lambda x, t: x, x1, path=path, generator=g).item()

    assert loss(0) == loss(0)
    assert loss(0) != loss(1)


def test_without_a_generator_the_global_state_is_used():
    x1 = normal(0, 16, 2)
    torch.manual_seed(0)
    first = cfm_loss(lambda x, t: x, x1)
    assert first != cfm_loss(lambda x, t: x, x1)
    torch.manual_seed(0)
    assert first == cfm_loss(lambda x, t: x, x1)


def test_the_coupling_is_applied_to_point_and_target():
    spy = Spy()
    x0, x1 = normal(0, 6, 2), normal(1, 6, 2)
    order = torch.tensor([3, 1, 4, 0, 5, 2])
    calls = []

    def coupling(a, b):
        calls.append((a, b))
        return a, b[order]

    loss = cfm_loss(spy, x1, x0=x0, t=0.5, coupling=coupling)
    assert len(calls) == 1
    assert torch.equal(calls[0][0], x0)
    assert torch.equal(calls[0][1], x1)
    torch.testing.assert_close(spy.x, 0.5 * (x0 + x1[order]))
    torch.testing.assert_close(loss, (x1[order] - x0).square().mean())


def test_a_bridge_widens_the_point_and_not_the_target():
    spy, n = Spy(), 20_000
    x0, x1 = torch.zeros(n, 1), torch.ones(n, 1)
    g = torch.Generator().manual_seed(0)
    loss = cfm_loss(spy, x1, x0=x0, t=0.5, path=BridgePath(0.3), generator=g)
    assert loss.item() == 1.0
    assert spy.x.mean().item() == pytest.approx(0.5, abs=0.01)
    assert spy.x.std().item() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_loss_has_the_dtype_of_the_data(dtype):
    assert cfm_loss(lambda x, t: x, torch.zeros(4, 2, dtype=dtype)).dtype == dtype


def test_what_is_drawn_has_the_dtype_and_the_device_of_the_data():
    spy, x1 = Spy(), torch.zeros(99, 2, dtype=F64)
    with torch.device("meta"):  # what is made without device= would not fit
        cfm_loss(spy, x1)
    for drawn in (spy.x, spy.t):
        assert not torch.equal(drawn, drawn.float().double())


# What the losses are worth.


@pytest.mark.parametrize("path", [CondOT(), CondOT(0.1), Cosine()], ids=str)
def test_the_exact_field_reaches_the_floor_and_no_other_does(path):
    n, q = 100_000, mixture()
    x1 = q.sample(n, seed=0)
    u = q.velocity(path)

    def loss(v):
        return cfm_loss(v, x1, path=path, generator=torch.Generator().manual_seed(1)).item()

    floor, error = loss_floor(q, path, n=n, seed=2)
    assert 0 < error < 0.02 * floor
    exact = loss(u)
    assert exact == pytest.approx(floor, rel=0.015)
    # a wrong field costs E‖w − u‖² more: a constant offset c costs c²
    assert loss(lambda x, t: u(x, t) + 0.5) == pytest.approx(floor + 0.25, rel=0.03)
    assert loss(lambda x, t: u(x, 1 - t)) > exact + 0.1
    assert loss(lambda x, t: -u(x, t)) > exact + 0.1


def test_an_infinite_floor_is_not_sampled():
    with pytest.raises(ValueError, match=r"VariancePreserving.*is infinite"):
        loss_floor(mixture(), VariancePreserving())


@given(st.floats(0.2, 3.0), st.floats(0.2, 3.0))
def test_gaussian_floor_is_the_integral(s0, s1):
    t = (torch.arange(20_000, dtype=F64) + 0.5) / 20_000
    variance = (s0 * s1) ** 2 / ((1 - t) ** 2 * s0**2 + t**2 * s1**2)
    assert gaussian_loss_floor(s0, s1) == pytest.approx(variance.mean().item(), rel=1e-6)
    assert gaussian_loss_floor(s0, s1) == pytest.approx(math.pi / 2 * s0 * s1)


@pytest.mark.parametrize("d", [1, 3])
def test_the_sampled_floor_of_one_gaussian_is_the_closed_form(d):
    # a mean over dimensions, whatever their number and wherever the mean is
    q = GaussianMixture(torch.full((1, d), 2.0, dtype=F64), 0.5)
    floor, _ = loss_floor(q, n=20_000, seed=0)
    assert floor == pytest.approx(gaussian_loss_floor(1.0, 0.5), rel=1e-4)


def test_floor_and_energy_add_up_to_the_mean_square_distance():
    # reference-values.md: m² + s0² + s1² − (π/2) s0 s1 is the kinetic energy E‖u_t(x_t)‖²
    n, m, s1 = 200_000, 2.0, 0.5
    q = GaussianMixture(torch.full((1, 1), m, dtype=F64), s1)
    x0, x1 = normal(0, n, 1), q.sample(n, seed=1)
    t = (torch.arange(n, dtype=F64) + 0.5) / n
    energy = q.velocity(CondOT())(CondOT().sample(x0, x1, t).xt, t).square().mean().item()
    floor = gaussian_loss_floor(1.0, s1)
    assert energy == pytest.approx(m**2 + 1 + s1**2 - floor, rel=0.01)
    assert energy + floor == pytest.approx((x1 - x0).square().mean().item(), rel=0.01)


def test_loss_floor_is_seeded_and_its_error_is_honest(global_rng_untouched):
    q = mixture()
    assert loss_floor(q, n=100, seed=1) == loss_floor(q, n=100, seed=1)
    assert loss_floor(q, n=100, seed=1) != loss_floor(q, n=100, seed=2)
    assert loss_floor(q, seed=1) == loss_floor(q, n=20_000, seed=1)
    reference, _ = loss_floor(q, n=200_000, seed=0)
    runs = torch.tensor([loss_floor(q, n=500, seed=seed) for seed in range(40)])
    assert ((runs[:, 0] - reference).abs() < 3 * runs[:, 1]).float().mean() > 0.9
    with torch.device("meta"):  # what is made without device= would not fit
        assert all(type(value) is float for value in loss_floor(q, n=2, seed=0))
    with pytest.raises(ValueError, match="n must be at least 2, but 1 came"):
        loss_floor(q, n=1)


@every_path
def test_fm_loss_is_zero_on_the_exact_field_and_the_distance_elsewhere(path):
    q, x = mixture(), normal(0, 32, 2)
    t = torch.linspace(0, 1, 32, dtype=F64)
    u = q.velocity(path)
    assert fm_loss(u, u, x, t).item() == 0
    assert fm_loss(lambda x, t: u(x, t) + 0.5, u, x, t).item() == pytest.approx(0.25)
    assert fm_loss(lambda x, t: 0 * x, u, x, 0.5).item() == pytest.approx(
        u(x, 0.5).square().mean().item()
    )


def test_both_losses_have_one_gradient():
    # On the same draws the two gradients differ by a mean of zero: ∇L_CFM − ∇L_FM → 0.
    n, q, path = 200_000, mixture(), CondOT()
    torch.manual_seed(0)
    model = MLP(2, 4, 1, time_dim=2).double()
    x0, x1 = normal(1, n, 2), q.sample(n, seed=2)
    t = torch.rand(n, generator=torch.Generator().manual_seed(3), dtype=F64)
    xt = path.sample(x0, x1, t).xt

    def gradient(loss):
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, model.parameters())])

    conditional = gradient(cfm_loss(model, x1, x0=x0, t=t))
    marginal = gradient(fm_loss(model, q.velocity(path), xt, t))
    assert conditional.norm() > 0.1
    assert (conditional - marginal).norm() < 0.02 * marginal.norm()
    wrong = gradient(fm_loss(model, lambda x, t: q.velocity(path)(x, 1 - t), xt, t))
    assert (conditional - wrong).norm() > 0.1 * marginal.norm()


# Bad input.


@pytest.mark.parametrize(
    "bad",
    [
        lambda x: x[:, 0],
        lambda x: x[:, :1],
        lambda x: x[:1],
        lambda x: x[None],
        lambda x: x.sum(),
        lambda x: torch.cat([x, x]),
    ],
)
def test_a_field_of_another_shape_is_never_broadcast(bad):
    x1 = torch.zeros(3, 3)
    message = r"the field's result and the target must have one shape, .* the target is \[3, 3\]"
    with pytest.raises(ValueError, match=message):
        cfm_loss(lambda x, t: bad(x), x1)
    with pytest.raises(ValueError, match=message):
        fm_loss(lambda x, t: bad(x), lambda x, t: x, x1, 0.5)
    with pytest.raises(ValueError, match="must have one shape"):
        fm_loss(lambda x, t: x, lambda x, t: bad(x), x1, 0.5)


def test_cfm_loss_refuses_bad_input():
    def v(x, t):
        return x

    good = torch.zeros(3, 2)
    with pytest.raises(TypeError, match="one dtype"):
        cfm_loss(lambda x, t: x.double(), good)
    with pytest.raises(TypeError, match="x1 must be floating point"):
        cfm_loss(v, good.long())
    with pytest.raises(TypeError, match=r"x1 must be a torch.Tensor"):
        cfm_loss(v, [[0.0]])
    with pytest.raises(ValueError, match="x1 must be a non-empty batch"):
        cfm_loss(v, good[:0])
    with pytest.raises(ValueError, match="x0 and x1 must have one shape"):
        cfm_loss(v, good, x0=good[:, :1])
    with pytest.raises(TypeError, match="x0 and x1 must have one dtype"):
        cfm_loss(v, good, x0=good.double())
    with pytest.raises(ValueError, match="x0 and x1 must have one shape"):
        cfm_loss(v, good, coupling=lambda a, b: (a[:2], b))
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        cfm_loss(v, good, t=1.5)
    with pytest.raises(ValueError, match="t has shape"):
        cfm_loss(v, good, t=torch.zeros(3, 1))
    with pytest.raises(ValueError, match="no finite limit at t = 1"):
        cfm_loss(v, good, t=1.0, path=VariancePreserving())


def test_fm_loss_refuses_bad_input():
    def v(x, t):
        return x

    good = torch.zeros(3, 2)
    with pytest.raises(TypeError, match="xt must be floating point"):
        fm_loss(v, v, good.long(), 0.5)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        fm_loss(v, v, good, -1.0)
    with pytest.raises(ValueError, match="t has shape"):
        fm_loss(v, v, good, torch.zeros(2))
    with pytest.raises(ValueError, match="xt must be a non-empty batch"):
        fm_loss(v, v, good[:0], 0.5)


# Labels.


def test_labels_reach_the_field():
    seen, labels = [], torch.tensor([2, 0, 1])

    def v(x, t, label):
        seen.append(label)
        return label.to(x)[:, None].expand_as(x)

    x0, x1 = torch.zeros(3, 2), torch.ones(3, 2)
    loss = cfm_loss(v, x1, x0=x0, labels=labels)
    assert torch.equal(seen[0], labels)
    assert loss.item() == pytest.approx(2 / 3)  # (2 − 1)² + (0 − 1)² + (1 − 1)², over three


def test_a_coupling_permutes_the_labels_along():
    seen, n = {}, 6
    labels, order = torch.arange(n), torch.tensor([3, 1, 4, 0, 5, 2])

    def v(x, t, label):
        seen["x"], seen["label"] = x, label
        return torch.zeros_like(x)

    def coupling(x0, x1, *labels):
        return (x0, x1[order], *(label[order] for label in labels))

    x1 = labels.double()[:, None]
    cfm_loss(v, x1, x0=0 * x1, t=1.0, coupling=coupling, labels=labels)
    assert torch.equal(seen["label"], order)
    assert torch.equal(seen["x"][:, 0], order.double())  # each label is still its point's
    cfm_loss(v, x1, x0=x1.flip(0), t=1.0, coupling=minibatch_ot, labels=labels)
    assert torch.equal(seen["label"], labels.flip(0))


def test_labels_change_no_random_draw():
    x1, spy = normal(0, 5, 2), Spy()
    cfm_loss(spy, x1, generator=torch.Generator().manual_seed(0))
    x, t = spy.x, spy.t

    def v(x, t, label):
        return spy(x, t)

    g = torch.Generator().manual_seed(0)
    cfm_loss(v, x1, labels=torch.zeros(5, dtype=torch.long), generator=g)
    assert torch.equal(spy.x, x)
    assert torch.equal(spy.t, t)


def test_bad_labels_are_refused():
    x1, model = torch.zeros(3, 2), MLP(classes=2)
    with pytest.raises(ValueError, match=r"labels must be \[3\], one for each point, but \[2\]"):
        cfm_loss(lambda x, t, label: x, x1, labels=torch.zeros(2, dtype=torch.long))
    with pytest.raises(TypeError, match="labels must be an int64 tensor, but torch"):
        cfm_loss(lambda x, t, label: x, x1, labels=torch.zeros(3))
    with pytest.raises(ValueError, match=r"labels must be 0, \.\.\., 2, but 3 came"):
        cfm_loss(model, x1, labels=torch.tensor([0, 1, 3]))


# Conditions of any kind, in any number.


def test_conditions_reach_the_network_in_their_order_and_move_with_the_data():
    x0, x1 = normal(0, 6, 2), normal(1, 6, 2)
    labels, where = torch.arange(6), x1.clone()
    seen = {}

    def v(x, t, *cond):
        seen["cond"] = cond
        return torch.zeros_like(x)

    def backward(a, b, *cond):
        return a, b.flip(0), *(c.flip(0) for c in cond)

    cfm_loss(v, x1, x0=x0, cond=where, labels=labels, coupling=backward)
    assert torch.equal(seen["cond"][0], labels.flip(0))
    assert torch.equal(seen["cond"][1], where.flip(0))
    cfm_loss(v, x1, x0=x0, cond=(where, labels))
    assert torch.equal(seen["cond"][0], where)
    cfm_loss(v, x1, x0=x0)
    assert seen["cond"] == ()
    with pytest.raises(ValueError, match=r"cond\[1\] must be \[6 ...\], one row for each point"):
        cfm_loss(v, x1, cond=(where, labels[:5]))


# Arguments of another kind.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": CondOT}, r"path must be a path such as CondOT\(\), but the class CondOT came"),
        ({"path": "CondOT"}, "path must be a path .* but 'CondOT' came"),
        ({"coupling": "ot"}, "coupling must be a function such as minibatch_ot, but 'ot' came"),
        ({"v": MLP}, r"the field must be called as v\(x, t\), but the class MLP came"),
        ({"v": lambda x, t: None}, "the field's result must be a torch.Tensor, but a NoneType"),
        ({"v": lambda x, t: (x, x)}, "the field's result must be a torch.Tensor, but a tuple"),
        ({"v": MLP()}, r"weights are torch\.float32, but x1 is torch\.float64: convert"),
        ({"x1": torch.zeros(3, 2, dtype=torch.long)}, "x1 must be floating point"),
        ({"x1": [[0.0, 1.0]]}, "x1 must be a torch.Tensor, but a list"),
        ({"cond": (3,)}, r"cond\[0\] must be a torch.Tensor, but a int"),
    ],
)
def test_arguments_of_another_kind_are_refused(arguments, message):
    with pytest.raises(TypeError, match=message):
        cfm_loss(**({"v": lambda x, t: x, "x1": normal(0, 3, 2)} | arguments))


# What other parts of torch ask of a loss.


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_gradients_of_single_samples(path):
    torch.manual_seed(0)
    model = MLP(2, 8, 1).double()
    x0, x1 = normal(0, 5, 2), normal(1, 5, 2)
    t = torch.linspace(0.1, 0.9, 5, dtype=F64)
    weights = dict(model.named_parameters())

    def loss(weights, x0, x1, t):
        def v(x, t):
            return torch.func.functional_call(model, weights, (x, t))

        return cfm_loss(v, x1[None], x0=x0[None], t=t[None], path=path)

    mapped = torch.vmap(torch.func.grad(loss), (None, 0, 0, 0))(weights, x0, x1, t)
    for k in range(5):
        alone = torch.func.grad(loss)(weights, x0[k], x1[k], t[k])
        for name, gradient in alone.items():
            torch.testing.assert_close(mapped[name][k], gradient)
    points = torch.vmap(lambda a, b, t: path.sample(a[None], b[None], t).xt[0])(x0, x1, t)
    torch.testing.assert_close(points, path.sample(x0, x1, t).xt)


@pytest.mark.parametrize("path", [*PATHS, BridgePath(0.1)], ids=str)
def test_nothing_is_read_back_from_an_accelerator(path):
    x1 = torch.empty(6, 2, device="meta")
    label = torch.empty(6, dtype=torch.long, device="meta")
    model = MLP(2, 8, 1, classes=3).to("meta")
    loss = cfm_loss(model, x1, labels=label, path=path)
    loss.backward()
    assert loss.device.type == "meta"
    assert all(p.grad is not None for p in model.parameters())


def test_a_loss_under_autocast():
    torch.manual_seed(0)
    model, x1 = MLP(2, 16, 2), normal(0, 64, 2).float()
    x0, t = normal(1, 64, 2).float(), torch.linspace(0, 1, 64)
    with torch.autocast("cpu", torch.bfloat16):
        rough = cfm_loss(model, x1, x0=x0, t=t)
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(cfm_loss(model, x1, x0=x0, t=t).item(), rel=0.02)


def test_what_is_no_batch_is_refused_before_the_field_is_asked():
    def never(x, t):
        raise AssertionError("asked")

    def noise(x1, generator):
        raise AssertionError("drawn")

    for bad, error, message in (
        (torch.zeros(0, 2), ValueError, "x1 must be a non-empty batch"),
        (torch.tensor(1.0), ValueError, r"non-empty batch \[b ...\], but its shape is \[\]"),
        ([1.0], TypeError, "x1 must be a torch.Tensor, but a list"),
    ):
        with pytest.raises(error, match=message):
            cfm_loss(never, bad, noise=noise)
    with pytest.raises(TypeError, match=r"weights are torch.float32, but xt is torch.float64"):
        fm_loss(MLP(), lambda x, t: x, normal(0, 3, 2), 0.5)


def test_tokens_are_data_too():
    class Kept:
        def sample(self, x0, x1, t, *, generator=None):
            assert t.dtype == torch.float32
            return PathSample(x0, x1, t, x0, x1)

    tokens = torch.tensor([[1, 2], [3, 4]])
    loss = cfm_loss(
        lambda x, t: x,
        tokens,
        path=Kept(),
        noise=lambda x1, g: x1 + 1,
        distance=lambda prediction, target: (prediction - target).sum(),
    )
    assert loss.item() == 4

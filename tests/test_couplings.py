"""Minibatch optimal transport: a permutation, the best one, with the labels permuted along."""

import itertools

import numpy as np
import pytest
import torch
from devices import NoFloat64
from scipy.optimize import linear_sum_assignment

from fmtutor import MLP, CondOT, cfm_loss, couplings, fit
from fmtutor.couplings import in_common_unit, independent, minibatch_ot, within_labels
from fmtutor.data import four_clusters, standard_normal


def cost(x0, x1):
    return (x0 - x1).square().sum().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7,), (64, 2), (16, 1, 4, 4)], ids=str)
def test_nothing_is_lost_and_nothing_repeated(shape, dtype, global_rng_untouched):
    g = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, *shape, generator=g, dtype=dtype)
    number = torch.arange(len(x1))
    y0, y1, order = minibatch_ot(x0, x1, number)
    assert torch.equal(y0, x0)
    assert torch.equal(order.sort().values, number)
    assert torch.equal(y1, x1[order])
    assert not torch.equal(order, number)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_permutation_is_cheaper(seed):
    g = torch.Generator().manual_seed(seed)
    x0, x1 = torch.randn(2, 6, 3, generator=g, dtype=torch.float64)
    _, y1 = minibatch_ot(x0, x1)
    best = min(cost(x0, x1[list(order)]) for order in itertools.permutations(range(6)))
    assert cost(x0, y1) == pytest.approx(best, rel=1e-12)


def test_on_a_line_the_order_is_kept():
    g = torch.Generator().manual_seed(1)
    x0, x1 = torch.randn(2, 50, 1, generator=g)
    _, y1 = minibatch_ot(x0, 3 * x1 + 1)
    rank = x0[:, 0].argsort()
    assert bool((y1[rank, 0].diff() >= 0).all())


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
@pytest.mark.parametrize(
    "kind", ["plain", "outlier", "same points", "one place", "twins", "far away", "one"]
)
def test_the_cost_is_that_of_the_assignment_solver_alone(kind, scale):
    g = torch.Generator().manual_seed(3)
    x0, x1 = torch.randn(2, 120, 2, generator=g).double() * torch.tensor([1, 2])[:, None, None]
    if kind == "outlier":
        x1[7] = 1e5
    elif kind == "same points":
        x0 = x1.clone()
    elif kind == "one place":
        x0 = x1 = torch.ones_like(x1)
    elif kind == "twins":
        x1 = x1[:40].repeat(3, 1)
    elif kind == "far away":
        x1 = x1 + 1e3
    elif kind == "one":
        x0, x1 = x0[:1], x1[:1]
    x0, x1 = scale * x0, scale * x1
    cost = torch.cdist(x0, x1).square()
    row, column = linear_sum_assignment(cost.numpy())
    best = (x0[row] - x1[column]).square().sum()
    y0, y1 = minibatch_ot(x0, x1)
    torch.testing.assert_close((y0 - y1).square().sum(), best, rtol=1e-9, atol=0)


@pytest.fixture
def given(monkeypatch):
    """The costs that the assignment solver is given."""
    costs = []

    def solver(cost):
        costs.append(cost)
        return linear_sum_assignment(cost)

    monkeypatch.setattr(couplings, "linear_sum_assignment", solver)
    return costs


def unit_of_cost(x0, x1):
    """The factor between a squared distance and the cost that the solver is given."""
    return max(x0.abs().max(), x1.abs().max()).item() ** 2


@pytest.mark.parametrize("b", [64, 65])
def test_up_to_64_points_the_solver_is_on_its_own(b, given):
    g = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(b, 2, generator=g), torch.randn(b, 2, generator=g)
    minibatch_ot(x0, x1)
    cost = torch.cdist(x0, x1).square().numpy() / unit_of_cost(x0, x1)
    assert np.allclose(given[0], cost, rtol=1e-3, atol=1e-5) == (b == 64)
    assert given[0].dtype == (np.float32 if b == 64 else np.float64)  # no digit is lost to them


@pytest.mark.parametrize("shift", [0.0, 5.0])
@pytest.mark.parametrize(("scale", "dtype"), [(1.0, torch.float32), (1e-25, torch.float64)])
def test_little_search_is_left_to_the_solver(shift, scale, dtype, given):
    # What it is given, less the least entry of each row, is at least 0, and 0 on the best pairs
    # where the potentials are the optimal ones: the cost that remains there says how far they are.
    g = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(128, 2, generator=g), shift + 2 * torch.randn(128, 2, generator=g)
    x0, x1 = scale * x0.to(dtype), scale * x1.to(dtype)
    minibatch_ot(x0, x1)
    cost = torch.cdist(x0.double() / scale, x1.double() / scale).square().numpy()
    cost = cost * scale**2 / unit_of_cost(x0, x1)
    # A potential of each column: the comparison of permutations is the same.
    assert np.ptp(given[0] - cost, axis=0).max() < (1e-5 if dtype == torch.float32 else 1e-12)
    plain, eased = (c[linear_sum_assignment(c)].sum() - c.min(1).sum() for c in (cost, *given))
    assert eased < 0.02 * plain


@pytest.mark.parametrize(("kind", "most"), [("a few outliers", 0.3), ("noise far away", 0.06)])
def test_little_search_is_left_where_sizes_differ(kind, most, given):
    g = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 128, 2, generator=g, dtype=torch.float64)
    if kind == "a few outliers":
        x1[:3] = 1e3
    else:
        x0[:64] += 30
    minibatch_ot(x0, x1)
    cost = torch.cdist(x0, x1).square().numpy() / unit_of_cost(x0, x1)
    plain, eased = (np.sort(c[linear_sum_assignment(c)] - c.min(1)) for c in (cost, *given))
    assert eased[:-8].sum() < most * plain[:-8].sum()  # not of the outliers themselves


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
def test_the_common_unit_is_the_largest_number_and_the_common_mean_the_centre(size, dtype):
    x = torch.tensor([[1.0, -4.0], [3.0, 0.0]], dtype=dtype)
    y = torch.tensor([[-1.0, 2.0]], dtype=dtype)
    for a, b in ((x, y), (y, x), (-x, y), (-y, -x)):
        a, b = size * a, size * b
        a.requires_grad_()
        scaled, other, unit = in_common_unit(a, b)
        torch.testing.assert_close(unit, torch.tensor(4 * size, dtype=dtype))
        torch.testing.assert_close(scaled.mean(0) + other.mean(0), torch.zeros(2, dtype=dtype))
        for points, given in ((scaled, a), (other, b)):
            assert points.dtype == dtype
            torch.testing.assert_close(points.diff(dim=0), given.diff(dim=0) / unit)
        torch.testing.assert_close(scaled[0] - other[0], (a[0] - b[0]) / unit)
        (slope,) = torch.autograd.grad(scaled.sum(), a)  # of the unit and the centre there is none
        torch.testing.assert_close(slope, torch.ones_like(a) / unit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_unit_of_zeros_is_no_zero(dtype):
    x, y, unit = in_common_unit(torch.zeros(2, 1, dtype=dtype), torch.zeros(1, 1, dtype=dtype))
    assert unit.item() == torch.finfo(dtype).tiny
    assert x.tolist() == [[0.0], [0.0]]
    assert y.tolist() == [[0.0]]


def test_every_label_moves_with_its_point():
    x0, x1 = standard_normal(32, seed=0), four_clusters(32, seed=1)
    corner = (x1 > 0).long()
    one_hot = torch.nn.functional.one_hot(corner[:, 0], 2)
    _, y1, moved, moved_one_hot = minibatch_ot(x0, x1, corner, one_hot)
    assert torch.equal(moved, (y1 > 0).long())
    assert torch.equal(moved_one_hot.argmax(1), moved[:, 0])


def test_gradients_and_devices_are_those_of_the_points():
    x0, x1 = standard_normal(16, seed=0).requires_grad_(), four_clusters(16, seed=1)
    with torch.device("meta"):  # what is made without device= would not fit
        _, y1 = minibatch_ot(x0, x1.requires_grad_())
    (gradient,) = torch.autograd.grad((y1 * y1.detach()).sum(), x1)
    assert torch.equal(gradient, x1)


def test_better_pairs_lower_the_loss():
    data = four_clusters(4000, seed=0)
    losses = {}
    for coupling in (independent, minibatch_ot):
        torch.manual_seed(0)
        net = MLP(width=32)
        run = fit(net, data, steps=200, batch_size=128, coupling=coupling, progress=False)
        losses[coupling] = run.losses[-50:].mean()
    assert losses[minibatch_ot] < 0.5 * losses[independent]


def test_it_serves_as_the_coupling_of_the_loss():
    x0, x1 = standard_normal(16, seed=0), four_clusters(16, seed=1)
    _, y1 = minibatch_ot(x0, x1)
    t = torch.full((16,), 0.3)

    def zero(x, t):
        return torch.zeros_like(x)

    given = cfm_loss(zero, x1, x0=x0, t=t, coupling=minibatch_ot)
    expected = CondOT().sample(x0, y1, t).ut.square().mean()
    torch.testing.assert_close(given, expected)


def test_independent_changes_nothing():
    x0, x1, label = torch.zeros(3, 2), torch.ones(3, 2), torch.arange(3)
    assert all(a is b for a, b in zip(independent(x0, x1, label), (x0, x1, label), strict=True))


@pytest.mark.parametrize(
    ("x0", "x1", "labels", "error", "text"),
    [
        (torch.zeros(3, 2), torch.zeros(4, 2), (), ValueError, "one shape"),
        (torch.zeros(3, 2), torch.zeros(3, 2).double(), (), TypeError, "one dtype"),
        (torch.zeros(3, 2), torch.full((3, 2), float("nan")), (), ValueError, "x1 .* finite"),
        (torch.full((3, 2), float("inf")), torch.zeros(3, 2), (), ValueError, "x0 .* finite"),
        (
            torch.zeros(3, 2),
            torch.zeros(3, 2),
            (torch.arange(4),),
            ValueError,
            r"cond\[0\] must be \[3 ...\], .* but \[4\] came",
        ),
        (torch.zeros(3, 2), torch.zeros(3, 2), (torch.tensor(1),), ValueError, r"but \[\] came"),
        (torch.zeros(3, 2).long(), torch.zeros(3, 2).long(), (), TypeError, "floating point"),
    ],
)
def test_bad_input_is_refused(x0, x1, labels, error, text):
    with pytest.raises(error, match=text):
        minibatch_ot(x0, x1, *labels)


@pytest.mark.parametrize("b", [20, 100])
@pytest.mark.parametrize("size", [1e-30, 1e20, 1e37])
def test_large_and_small_numbers_are_paired_as_any_others(b, size):
    g = torch.Generator().manual_seed(4)
    x0, x1 = torch.randn(b, 2, generator=g), torch.randn(b, 2, generator=g)
    _, order = minibatch_ot(x0, x1)
    _, scaled = minibatch_ot(size * x0, size * x1)
    torch.testing.assert_close(scaled, size * order)
    moved = minibatch_ot(x0.double() + 1e6, x1.double() + 1e6)[1] - 1e6
    torch.testing.assert_close(moved.float(), order, atol=1e-4, rtol=0)


@pytest.mark.parametrize("b", [20, 100])
def test_a_device_without_float64_will_do(b):
    g = torch.Generator().manual_seed(5)
    ends = torch.randn(2, b, 2, generator=g)
    _, order = minibatch_ot(*(x.as_subclass(NoFloat64) for x in ends))
    assert torch.equal(order.cpu(), minibatch_ot(*ends)[1])


def test_half_precision_is_paired_as_float32():
    g = torch.Generator().manual_seed(4)
    x0, x1 = torch.randn(2, 30, 2, generator=g).bfloat16()
    _, y1 = minibatch_ot(x0, x1)
    assert y1.dtype == torch.bfloat16
    assert torch.equal(y1.float(), minibatch_ot(x0.float(), x1.float())[1])


@pytest.mark.parametrize("coupling", [minibatch_ot, independent])
def test_pairs_within_each_label(coupling):
    g = torch.Generator().manual_seed(5)
    labels = torch.randint(3, (60,), generator=g)
    x0 = torch.randn(60, 2, generator=g)
    x1 = torch.randn(60, 2, generator=g) + 5 * labels[:, None]
    number = torch.arange(60)
    y0, y1, y, rows = within_labels(coupling)(x0, x1, labels, number)
    assert torch.equal(y, labels[rows])
    assert torch.equal(y1, x1[rows])
    assert torch.equal(rows.sort().values, number)
    for label in range(3):
        a, b = coupling(x0[labels == label], x1[labels == label])
        assert torch.equal(y0[y == label], a)
        assert torch.equal(y1[y == label], b)
    with pytest.raises(ValueError, match="points that come with labels"):
        within_labels(coupling)(x0, x1)


def test_within_labels_leaves_the_noise_of_each_label_normal():
    labels = torch.arange(400) % 2
    x0, x1 = standard_normal(400, seed=0), standard_normal(400, seed=1)
    x1 = x1 + 4 * (2 * labels[:, None] - 1)
    y0, _, y = minibatch_ot(x0, x1, labels)
    assert y0[y == 1, 0].mean() > 0.4  # tied to the label
    y0, _, y = within_labels(minibatch_ot)(x0, x1, labels)
    assert y0[y == 1, 0].mean().abs() < 0.2


class TestAligned:
    def positions(self, b=6, n=5, d=3):
        g = torch.Generator().manual_seed(0)
        x0, x1 = torch.randn(2, b, n, d, generator=g, dtype=torch.float64)
        return x0 - x0.mean(1, keepdim=True), x1 - x1.mean(1, keepdim=True)

    def turns(self, d, mirrors, count=400):
        g = torch.Generator().manual_seed(1)
        q, r = torch.linalg.qr(torch.randn(count, d, d, generator=g, dtype=torch.float64))
        q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
        if not mirrors:
            q[:, :, 0] = q[:, :, 0] * torch.linalg.det(q)[:, None]
        return q

    @pytest.mark.parametrize("d", [2, 3])
    @pytest.mark.parametrize("mirrors", [False, True])
    def test_what_was_only_turned_comes_back(self, d, mirrors):
        _, x1 = self.positions(d=d)
        turn = self.turns(d, mirrors)[7]
        alone = couplings.aligned(range(5), mirrors=mirrors)(x1 @ turn, x1)[0]  # names are fixed
        torch.testing.assert_close(alone, x1)

    @pytest.mark.parametrize("mirrors", [False, True])
    def test_with_fixed_names_no_turn_is_better(self, mirrors):
        x0, x1 = self.positions()
        near, same, number = couplings.aligned(range(5), mirrors=mirrors)(x0, x1, torch.arange(6))
        assert torch.equal(same, x1)
        assert torch.equal(number, torch.arange(6))
        for k in range(6):
            others = (x0[k] @ self.turns(3, mirrors) - x1[k]).square().sum((1, 2))
            assert (near[k] - x1[k]).square().sum() <= others.min() + 1e-9

    def test_a_mirror_is_used_only_where_it_may_be(self):
        _, x1 = self.positions()
        mirrored = x1 * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
        with_it = couplings.aligned(range(5), mirrors=True)(mirrored, x1)[0]
        torch.testing.assert_close(with_it, x1)
        without = couplings.aligned(range(5))(mirrored, x1)[0]
        assert (without - x1).square().sum((1, 2)).min() > 0.1

    def test_names_are_the_best_and_kinds_are_kept(self):
        x0, x1 = self.positions(b=3, n=4)
        kinds = (0, 1, 1, 1)
        near = couplings._renamed(x0, x1, np.not_equal.outer(kinds, kinds))
        for k in range(3):
            each = [[0, *order] for order in itertools.permutations((1, 2, 3))]
            best = min(cost(x0[k][order], x1[k]) for order in each)
            assert cost(near[k], x1[k]) == pytest.approx(best, rel=1e-12)
            assert torch.equal(near[k, 0], x0[k, 0])
        alike = couplings._renamed(x0, x1, np.zeros((4, 4), dtype=bool))
        for k in range(3):
            best = min(cost(x0[k][list(o)], x1[k]) for o in itertools.permutations(range(4)))
            assert cost(alike[k], x1[k]) == pytest.approx(best, rel=1e-12)

    def test_each_round_makes_the_sum_less(self):
        x0, x1 = self.positions(b=40, n=8)
        costs = [cost(couplings.aligned(rounds=k)(x0, x1)[0], x1) for k in (1, 2, 5)]
        assert costs[0] < 0.6 * cost(x0, x1)
        assert costs[0] > costs[1] > costs[2]

    def test_lengths_are_kept_and_half_precision_is_not_lost(self):
        x0, x1 = (x.float() for x in self.positions())
        near = couplings.aligned(rounds=3)(x0, x1)[0]
        assert near.dtype == torch.float32
        lengths = near.square().sum(2).sort(1).values
        torch.testing.assert_close(lengths, x0.square().sum(2).sort(1).values)

    @pytest.mark.parametrize(
        ("kinds", "shape"), [((0, 1), (4, 3, 2)), (None, (4, 3)), ((0, 0, 0), (4, 9))], ids=str
    )
    def test_what_are_no_positions_is_refused(self, kinds, shape):
        with pytest.raises(ValueError, match=r"x0 and x1 must be positions \[b"):
            couplings.aligned(kinds)(torch.zeros(shape), torch.zeros(shape))
        with pytest.raises(ValueError, match="rounds"):
            couplings.aligned(rounds=0)

    @pytest.mark.parametrize("kinds", ["CHHO", 4, (0.5, 1), (float("nan"), 1)], ids=str)
    def test_kinds_that_are_no_numbers_are_refused(self, kinds):
        with pytest.raises(TypeError, match="kinds must be integers, one for each particle, but"):
            couplings.aligned(kinds)

    def test_noise_that_is_not_centred_is_refused(self):
        x0, x1 = self.positions()
        couplings.aligned()(x0, x1 + 5)  # the data may be anywhere
        with pytest.raises(ValueError, match=r"x0 must be centred .* means are up to 0\.1"):
            couplings.aligned()(x0 + 0.1, x1)

"""What reward does to a law, and the loss that has the tilted law as its minimiser."""

import pytest
import torch

from fmtutor import MLP, CondOT, GaussianMixture, cfm_loss
from fmtutor.data import cluster_means
from fmtutor.networks import ObservingMLP
from fmtutor.policies import tilted, weighted_cfm_loss

F64 = torch.float64
B = torch.tensor([0.7, -0.4], dtype=F64)


def behaviour():
    return GaussianMixture(
        cluster_means(3, 1.5).to(F64), torch.tensor([0.3, 0.5, 0.8]), torch.tensor([1.0, 2, 3])
    )


class TestTilted:
    @pytest.mark.parametrize("curvature", [0.0, 0.8])
    @pytest.mark.parametrize("tau", [0.5, 2.0])
    def test_it_is_the_behaviour_times_the_exponential_of_the_reward(self, tau, curvature):
        q = behaviour()
        x = 2 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
        reward = x @ B - 0.5 * curvature * x.square().sum(1)
        law = tilted(q, B, tau, curvature=curvature)
        log_z = q.log_prob(x) + reward / tau - law.log_prob(x)
        assert (log_z - log_z[0]).abs().max() < 1e-12

    def test_a_large_temperature_changes_nothing(self):
        q, x = behaviour(), torch.randn(9, 2, dtype=F64)
        torch.testing.assert_close(tilted(q, B, 1e9).log_prob(x), q.log_prob(x))

    def test_a_tiny_temperature_keeps_the_best_component(self):
        law = tilted(behaviour(), torch.tensor([1.0, 0.0], dtype=F64), 0.02)
        assert law.weights.max() > 1 - 1e-9

    @pytest.mark.parametrize(
        ("slope", "tau", "curvature", "said"),
        [
            (B, 0.0, 0.0, "tau"),
            (B, torch.nan, 0.0, "tau"),
            (torch.zeros(3), 1.0, 0.0, r"slope must have shape \[2\], but \[3\] came"),
            (torch.tensor([1.0, torch.inf]), 1.0, 0.0, "slope"),
            (B, 1.0, -0.1, "curvature must be finite and at least 0, but -0.1 came"),
        ],
    )
    def test_what_means_nothing_is_refused(self, slope, tau, curvature, said):
        with pytest.raises(ValueError, match=said):
            tilted(behaviour(), slope, tau, curvature=curvature)


class TestWeightedLoss:
    def draws(self, n=100_000):
        g = torch.Generator().manual_seed(0)
        x1 = behaviour().sample(n, generator=g)
        return x1, (x1 @ B / 0.5).softmax(0) * n

    def test_equal_weights_are_none(self):
        x1, v = torch.randn(64, 2), MLP()
        g = [torch.Generator().manual_seed(3) for _ in range(2)]
        weighted = weighted_cfm_loss(v, x1, torch.ones(64), generator=g[0])
        torch.testing.assert_close(weighted, cfm_loss(v, x1, generator=g[1]))

    def test_a_point_without_weight_is_not_there(self):
        x1, v = torch.randn(64, 2), MLP()
        w = torch.cat([torch.full((32,), 2.0), torch.zeros(32)])

        def field(x, t):
            return v(x, t)

        losses = []
        for points in (x1, torch.cat([x1[:32], 99 + x1[32:]])):
            g = torch.Generator().manual_seed(3)
            losses.append(weighted_cfm_loss(field, points, w, generator=g))
        assert losses[0] == losses[1]

    def test_weights_may_have_signs(self):
        x1 = behaviour().sample(64, seed=0)

        def loss(weights):
            g = torch.Generator().manual_seed(1)
            v = behaviour().velocity(CondOT())
            return weighted_cfm_loss(lambda x, t: v(x, t) + 1, x1, weights, generator=g)

        w = torch.linspace(-1, 2, 64, dtype=x1.dtype)
        torch.testing.assert_close(loss(w), loss(w.clamp(min=0)) - loss((-w).clamp(min=0)))
        assert loss(-torch.ones_like(w)) < -0.1

    def test_its_minimiser_is_the_field_of_the_tilted_law(self):
        x1, w = self.draws()
        laws = {"tilted": tilted(behaviour(), B, 0.5), "behaviour": behaviour()}
        found = {}
        for name, law in laws.items():
            field = law.velocity(CondOT())
            a = torch.zeros(2, dtype=F64, requires_grad=True)  # how much of cos x is added
            loss = weighted_cfm_loss(
                lambda x, t, a=a, field=field: field(x, t) + a * x.cos(), x1, w,
                generator=torch.Generator().manual_seed(1),
            )  # fmt: skip
            (slope,) = torch.autograd.grad(loss, a)
            found[name] = slope.norm()
        assert found["tilted"] < 0.02
        assert found["behaviour"] > 0.1

    def test_observations_go_to_the_network(self):
        x1, w, o = torch.randn(8, 4), torch.rand(8), torch.randn(8, 3)
        net = ObservingMLP(4, 3, width=16)
        weighted_cfm_loss(net, x1, w, o).backward()
        assert net.layers[0].weight.grad[:, 4:7].abs().sum() > 0

    @pytest.mark.parametrize(
        ("weights", "said"),
        [
            (torch.ones(7), r"weights must have shape \[8\], but \[7\] came"),
            (torch.ones(8, 1), r"\[8, 1\] came"),
            ([1.0] * 8, "list came"),
            (torch.full((8,), torch.nan), "weights must be finite"),
            (torch.full((8,), torch.inf), "weights must be finite"),
        ],
    )
    def test_weights_that_do_not_do_are_refused(self, weights, said):
        with pytest.raises(ValueError, match=said):
            weighted_cfm_loss(MLP(), torch.randn(8, 2), weights)

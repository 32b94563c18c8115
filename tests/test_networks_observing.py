"""Networks that are told what was observed."""

import pytest
import torch

from fmtutor import GaussianMixture
from fmtutor.networks import MLP, MixtureDensity, ObservingMLP, TwoTimes, layers_of


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestLayers:
    def test_they_have_the_depth_and_width_that_were_asked_for(self):
        layers = layers_of(3, 5, width=7, depth=2)
        shapes = [tuple(m.weight.shape) for m in layers if hasattr(m, "weight")]
        assert shapes == [(7, 3), (7, 7), (5, 7)]


class TestObservingMLP:
    def test_point_time_and_observation_count_each_row_by_itself(self):
        net, x, o = ObservingMLP(4, 3, width=16), noise(6, 4), noise(6, 3, seed=1)
        t = torch.linspace(0, 1, 6)
        v = net(x, t, o)
        assert v.shape == (6, 4)
        for k in range(6):
            torch.testing.assert_close(net(x[k : k + 1], t[k], o[k : k + 1])[0], v[k])
        for other in ((x + 1, t, o), (x, t / 2, o), (x, t, o + 1)):
            assert (net(*other) - v).abs().max() > 1e-4

    @pytest.mark.parametrize(
        ("x", "o", "error", "said"),
        [
            (noise(6, 3), noise(6, 3), ValueError, r"x must have shape \[b 4\]"),
            (noise(6, 4), noise(6, 2), ValueError, r"shape \[6 3\], but \[6, 2\] came"),
            (noise(6, 4), noise(5, 3), ValueError, r"shape \[6 3\], but \[5, 3\] came"),
            (
                noise(6, 4),
                torch.zeros(6, 3).long(),
                TypeError,
                "floating-point tensor, but torch.int64 came",
            ),
            (noise(6, 4), 2, TypeError, "but int came"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, x, o, error, said):
        with pytest.raises(error, match=said):
            ObservingMLP(4, 3, width=16)(x, 0.5, o)

    @pytest.mark.parametrize("size", [(0, 3), (4, 0)])
    def test_sizes_below_one_are_refused(self, size):
        with pytest.raises(ValueError, match="at least 1"):
            ObservingMLP(*size)

    def test_it_learns_to_jump(self):
        net = ObservingMLP(4, 3, width=16)
        u, x, o = TwoTimes(net), noise(6, 4), noise(6, 3, seed=1)
        torch.testing.assert_close(u(x, 0.2, 0.7, o), net(x, 0.2, o))
        torch.nn.init.normal_(u.span[-1].weight)
        assert (u(x, 0.2, 0.7, o) - net(x, 0.2, o)).abs().max() > 1e-3

    def test_others_still_do_not(self):
        with pytest.raises(TypeError, match="an ObservingMLP or a UNet, but Linear came"):
            TwoTimes(torch.nn.Linear(2, 2))
        assert TwoTimes(MLP()).classes == 0


class TestMixtureDensity:
    def test_its_density_is_that_of_the_mixture_it_describes(self):
        law, o = MixtureDensity(2, 3, components=4, width=16).double(), noise(1, 3).double()
        with torch.no_grad():
            for layer in law.layers:
                if hasattr(layer, "weight"):
                    layer.weight.mul_(3)
        log_weights, means, spread = law(o)
        spread = spread.mean(2, keepdim=True).expand_as(spread)  # GaussianMixture has one for all
        law.forward = lambda _: (log_weights, means, spread)
        mixture = GaussianMixture(means[0], spread[0, :, 0].exp(), log_weights[0].exp())
        x = noise(50, 2, seed=1).double()
        torch.testing.assert_close(law.log_prob(x, o.expand(50, 3)), mixture.log_prob(x))

    def test_its_samples_have_its_means_and_deviations(self):
        law, o = MixtureDensity(2, 3, components=4, width=16), noise(1, 3)
        with torch.no_grad():
            log_weights, means, spread = law(o)
        x = law.sample(o.expand(200_000, 3), generator=torch.Generator().manual_seed(0))
        w = log_weights.exp()[0, :, None]
        mean = (w * means[0]).sum(0)
        variance = (w * (means[0].square() + (2 * spread[0]).exp())).sum(0) - mean**2
        torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.02)
        torch.testing.assert_close(x.var(0), variance, rtol=0.02, atol=0)

    def test_deviations_stay_above_a_floor(self):
        law = MixtureDensity(2, 3, width=16)
        torch.nn.init.constant_(law.layers[-1].bias, -100.0)
        assert law(noise(4, 3))[2].min() == -5

    @pytest.mark.parametrize("wrong", [{"dim": 0}, {"observed": 0}, {"components": 0}])
    def test_sizes_below_one_are_refused(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            MixtureDensity(**({"dim": 2, "observed": 3} | wrong))

    @pytest.mark.parametrize(
        ("x", "o", "said"),
        [
            (noise(5, 3), noise(5, 3), r"x must have shape \[b 2\], but \[5, 3\] came"),
            (noise(5, 2), noise(4, 3), r"\[5 3\]"),
            (noise(5, 2), noise(5, 2), r"\[5 3\]"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, x, o, said):
        with pytest.raises(ValueError, match=said):
            MixtureDensity(2, 3, width=16).log_prob(x, o)

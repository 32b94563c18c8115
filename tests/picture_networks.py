"""What every network of pictures promises: one class of tests, which each network's file takes."""

import dataclasses
import json

import pytest
import torch

from fmtutor import cfm_loss, conditioned, guided, sample
from fmtutor.images.checkpoint import with_tuples
from fmtutor.networks.registry import NETWORKS
from fmtutor.notation import VelocityField


def random_network(config, seed=0):
    """A network whose layers that start at 0 do not."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = module_of(config)(config)
        for weight in model.parameters():
            if not weight.any():
                torch.nn.init.normal_(weight, std=0.2)
    return model


def points(config, n=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, config.channels, config.size, config.size, generator=g)
    return x, torch.rand(n, generator=g)


def count(config):
    with torch.device("meta"):
        return sum(weight.numel() for weight in module_of(config)(config).parameters())


def module_of(config):
    return next(module for kind, module in NETWORKS.values() if isinstance(config, kind))


def every_pixel_is_reached(config):
    model = random_network(config)
    x, t = points(config, 2)
    x.requires_grad_()
    out = model(x, t)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert (x.grad != 0).all()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


class NetworkOfPictures:
    """The tests; `tiny` describes a network of grey pictures, 8 × 8, of three classes."""

    tiny = None

    def new(self, **change):
        """A network as it is before any training, of `tiny` but for a change."""
        config = dataclasses.replace(self.tiny, **change)
        return module_of(config)(config)

    def test_it_is_a_velocity_field_that_starts_at_zero(self):
        model = self.new()
        assert isinstance(model, VelocityField)
        x, t = points(self.tiny)
        assert model(x, t).shape == x.shape
        assert not model(x, t, 1).any()

    def test_time_label_and_picture_all_count(self):
        model = random_network(self.tiny).eval()
        x, t = points(self.tiny)
        with torch.no_grad():
            v = model(x, t, 1)
            for other in (model(x + 0.1, t, 1), model(x, t / 2, 1), model(x, t, 2), model(x, t)):
                assert (other - v).abs().amax((1, 2, 3)).min() > 1e-3

    def test_pictures_do_not_see_each_other(self):
        model = random_network(self.tiny).eval()
        x, t = points(self.tiny)
        label = torch.tensor([0, 1, 2, 3])
        with torch.no_grad():
            together = model(x, t, label)
            for k in range(4):
                alone = model(x[k : k + 1], t[k], int(label[k]))
                torch.testing.assert_close(alone[0], together[k], atol=1e-5, rtol=1e-5)

    def test_no_label_is_the_null_label(self):
        model = random_network(self.tiny)
        x, t = points(self.tiny)
        assert torch.equal(model(x, t), model(x, t, 3))
        quarter, ones = torch.full((4,), 0.25), torch.tensor([1] * 4)
        assert torch.equal(model(x, 0.25, 1), model(x, quarter, ones))

    def test_the_package_works_on_it_unchanged(self):
        model = random_network(self.tiny)
        x, _ = points(self.tiny)
        g = torch.Generator().manual_seed(0)
        loss = cfm_loss(model, x, labels=torch.tensor([0, 1, 2, 3]), generator=g)
        assert loss.ndim == 0
        v = guided(conditioned(model, 1), model, 2.0)
        assert sample(v, x, steps=2).shape == x.shape

    def test_bad_calls_are_refused(self):
        x, t = points(self.tiny)
        shape = r"must have shape \['b', 1, 8, 8\], but \[4, 1, 8, 4\]"
        with pytest.raises(ValueError, match=shape):
            self.new()(x[..., :4], t)
        with pytest.raises(ValueError, match=r"labels must be 0, \.\.\., 3, but 4 came"):
            self.new()(x, t, 4)
        with pytest.raises(TypeError, match="labels must be an int64 tensor"):
            self.new()(x, t, torch.zeros(4))
        with pytest.raises(ValueError, match="a label came to a network without classes"):
            self.new(classes=0)(x, t, 1)
        with pytest.raises(ValueError, match="t has shape"):
            self.new()(x, t[:3])
        with pytest.raises(TypeError, match=r"x must be floating point, .* is torch\.int64"):
            self.new()(x.long(), t)

    def test_times_outside_of_the_unit_interval_are_no_error(self):
        # A solver's last stage may ask there by a rounding error.
        model, (x, _) = random_network(self.tiny), points(self.tiny)
        assert model(x, 1.0000001).isfinite().all()
        assert model(x, -0.5).isfinite().all()

    def test_a_description_survives_json(self):
        fields = json.loads(json.dumps(dataclasses.asdict(self.tiny)))
        assert type(self.tiny)(**with_tuples(fields)) == self.tiny

    def test_dropout_is_for_training_only(self):
        model = random_network(dataclasses.replace(self.tiny, dropout=0.5))
        x, t = points(self.tiny)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            assert not torch.equal(model(x, t), model(x, t))
        model.eval()
        assert torch.equal(model(x, t), model(x, t))

    def test_under_autocast_the_result_is_that_of_the_points(self):
        model = random_network(self.tiny).eval()
        x, t = points(self.tiny)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            v = model(x, t, 1)
        assert v.dtype == torch.float32
        assert 0 < (v - model(x, t, 1)).abs().max() < 0.2 * v.abs().max()

    def test_gradients_under_autocast_are_those_of_float32(self):
        model = random_network(self.tiny).eval()
        x, t = points(self.tiny)
        label = torch.tensor([0, 1, 2, 3])
        gradients = []
        for enabled in (False, True):
            model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                loss = cfm_loss(model, x, t=t, x0=x.flip(0), labels=label)
            assert loss.dtype == torch.float32
            loss.backward()
            gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
        assert 0 < (gradients[1] - gradients[0]).norm() < 0.1 * gradients[0].norm()

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_the_dtype_is_that_of_the_weights(self, dtype):
        model = random_network(self.tiny).to(dtype)
        x, t = points(self.tiny)
        assert model(x.to(dtype), t.to(dtype), 1).dtype == dtype

    def test_nothing_is_looked_at(self):
        with torch.device("meta"):
            model = self.new()
            x, t = torch.empty(4, 1, 8, 8), torch.empty(4)
            v = model(x, t, torch.empty(4, dtype=torch.long))
        v.sum().backward()
        assert (v.shape, v.is_meta) == (x.shape, True)

    def test_compiling_breaks_no_graph_and_changes_nothing(self):
        # Traced in full, forward and backward, and refused if a graph breaks; only the generation
        # of C++ code, which takes a minute, is left out.
        model = random_network(self.tiny)
        x, t = points(self.tiny)
        label = torch.tensor([0, 1, 2, 3])
        eager = model(x, t, label)
        eager.square().sum().backward()
        gradient = [weight.grad.clone() for weight in model.parameters()]
        model.zero_grad()
        out = torch.compile(model, fullgraph=True, backend="aot_eager")(x, t, label)
        torch.testing.assert_close(out, eager, atol=1e-5, rtol=1e-5)
        out.square().sum().backward()
        for weight, expected in zip(model.parameters(), gradient, strict=True):
            torch.testing.assert_close(weight.grad, expected, atol=1e-3, rtol=1e-3)

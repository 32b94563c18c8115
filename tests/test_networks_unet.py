"""The U-Net: a velocity field like any other, in eager and compiled, in either memory layout."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from fmtutor import cfm_loss, conditioned, guided, sample
from fmtutor.images.checkpoint import load_model, shipped_checkpoint
from fmtutor.images.config import PRESETS
from fmtutor.networks import UNet, UNetConfig, unet
from fmtutor.networks.unet import Attention, ResidualBlock
from fmtutor.notation import VelocityField

TINY = UNetConfig(size=8, classes=3, width=8, mults=(1, 2), attention=(4,), heads=2)


def random_unet(config=TINY, seed=0):
    """A network whose last layers are not 0."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = UNet(config)
        for weight in model.parameters():
            if not weight.any():
                torch.nn.init.normal_(weight, std=0.2)
    return model


def points(config=TINY, n=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, config.channels, config.size, config.size, generator=g)
    return x, torch.rand(n, generator=g)


def count(config):
    with torch.device("meta"):
        return sum(weight.numel() for weight in UNet(config).parameters())


def test_it_is_a_velocity_field_that_starts_at_zero():
    model = UNet(TINY)
    assert isinstance(model, VelocityField)
    x, t = points()
    assert model(x, t).shape == x.shape
    assert not model(x, t, 1).any()


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(size=8, width=8, mults=(1,), attention=(), heads=1),
        UNetConfig(size=12, channels=3, width=4, mults=(1, 2, 3), attention=(6, 3), heads=2),
        UNetConfig(size=12, patch=3, width=8, mults=(1, 2), attention=(4,), blocks=2),
        UNetConfig(size=8, classes=5, width=40, mults=(1, 1), attention=(8,), dropout=0.5),
    ],
)
def test_every_pixel_of_every_shape_is_reached(config):
    model = random_unet(config)
    x, t = points(config, 2)
    x.requires_grad_()
    out = model(x, t)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert (x.grad != 0).all()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_time_label_and_picture_all_count():
    model = random_unet().eval()
    x, t = points()
    with torch.no_grad():
        v = model(x, t, 1)
        for other in (model(x + 0.1, t, 1), model(x, t / 2, 1), model(x, t, 2), model(x, t)):
            assert (other - v).abs().amax((1, 2, 3)).min() > 1e-3


def test_pictures_do_not_see_each_other():
    model = random_unet().eval()
    x, t = points()
    label = torch.tensor([0, 1, 2, 3])
    with torch.no_grad():
        together = model(x, t, label)
        for k in range(4):
            alone = model(x[k : k + 1], t[k], int(label[k]))
            torch.testing.assert_close(alone[0], together[k], atol=1e-5, rtol=1e-5)


def test_no_label_is_the_null_label():
    model = random_unet()
    x, t = points()
    assert torch.equal(model(x, t), model(x, t, 3))
    assert torch.equal(model(x, 0.25, 1), model(x, torch.full((4,), 0.25), torch.tensor([1] * 4)))


def test_the_package_works_on_it_unchanged():
    model = random_unet()
    x, _ = points()
    g = torch.Generator().manual_seed(0)
    loss = cfm_loss(model, x, labels=torch.tensor([0, 1, 2, 3]), generator=g)
    assert loss.ndim == 0
    v = guided(conditioned(model, 1), model, 2.0)
    assert sample(v, x, steps=2).shape == x.shape


def test_bad_calls_are_refused():
    x, t = points()
    with pytest.raises(ValueError, match=r"must have shape \['b', 1, 8, 8\], but \[4, 1, 8, 4\]"):
        UNet(TINY)(x[..., :4], t)
    with pytest.raises(ValueError, match=r"labels must be 0, \.\.\., 3, but 4 came"):
        UNet(TINY)(x, t, 4)
    with pytest.raises(TypeError, match="labels must be an int64 tensor"):
        UNet(TINY)(x, t, torch.zeros(4))
    with pytest.raises(ValueError, match="a label came to a network without classes"):
        UNet(dataclasses.replace(TINY, classes=0))(x, t, 1)
    with pytest.raises(ValueError, match="t has shape"):
        UNet(TINY)(x, t[:3])
    with pytest.raises(TypeError, match=r"x must be floating point, but its dtype is torch\.int64"):
        UNet(TINY)(x.long(), t)


def test_times_outside_of_the_unit_interval_are_no_error():
    # A solver's last stage may ask there by a rounding error.
    x, _ = points()
    assert random_unet()(x, 1.0000001).isfinite().all()
    assert random_unet()(x, -0.5).isfinite().all()


def test_what_is_added_starts_at_zero():
    for layer in UNet(TINY).modules():
        if isinstance(layer, ResidualBlock):
            assert not layer.conv_out.weight.any()
            assert not layer.conv_out.bias.any()
        if isinstance(layer, Attention):
            assert not layer.out.weight.any()
            assert not layer.out.bias.any()


def test_descriptions_at_the_edge_are_taken():
    assert UNetConfig() == UNetConfig(28, 1, 0, 1, 32, (1, 2, 2), 1, (7,), 4, 0.0)
    small = UNetConfig(size=4, width=8, mults=(1, 1, 1), attention=(4, 2, 1))
    x = torch.ones(1, 1, 4, 4)
    assert UNet(small)(x, 0.5).shape == x.shape
    assert UNet(UNetConfig(size=4, width=1, mults=(1, 3), attention=()))(x, 0.5).shape == x.shape
    # Heads count where there is attention only.
    assert UNetConfig(size=8, width=9, mults=(1,), attention=()).width == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 6, "mults": (1, 1, 1)}, "a size of 6 cannot be divided by patch 1 and halved 2"),
        ({"patch": 3}, "cannot be divided by patch 3"),
        ({"width": 0}, "at least 1"),
        ({"mults": (1, 0)}, "at least 1"),
        ({"classes": -1}, "classes at least 0"),
        ({"width": 9}, "width 9 is not a multiple of 2 heads"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"dropout": -0.1}, r"dropout must lie in \[0, 1\)"),
        ({"attention": (5,)}, r"attention at \(5,\), but the resolutions are 8, 4"),
    ],
)
def test_bad_descriptions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


def test_a_description_survives_json():
    fields = json.loads(json.dumps(dataclasses.asdict(TINY)))
    again = UNetConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
    assert again == TINY


def test_the_sizes_that_are_promised():
    digits = UNetConfig(size=8, classes=10, width=24, mults=(1, 2), attention=(4,))
    assert 0.3e6 < count(digits) < 0.35e6
    cifar = PRESETS["cifar10-gpu"].architecture
    assert 35e6 < count(UNetConfig(size=32, channels=3, classes=10, **cifar)) < 38e6


def test_dropout_is_for_training_only():
    model = random_unet(dataclasses.replace(TINY, dropout=0.5))
    x, t = points()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(model(x, t), model(x, t))
    model.eval()
    assert torch.equal(model(x, t), model(x, t))


def test_channels_last_gives_the_same():
    model = random_unet()
    x, t = points()
    plain = model(x, t, 1)
    other = model.to(memory_format=torch.channels_last)(x, t, 1)
    torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-5)


def test_under_autocast_the_result_is_that_of_the_points():
    model = random_unet().eval()
    x, t = points()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        v = model(x, t, 1)
    assert v.dtype == torch.float32
    assert 0 < (v - model(x, t, 1)).abs().max() < 0.2 * v.abs().max()


def test_compiling_breaks_no_graph_and_changes_nothing():
    # Traced in full, forward and backward, and refused if a graph breaks; only the generation of
    # C++ code, which takes a minute, is left out.
    model = random_unet()
    x, t = points()
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


def test_gradients_under_autocast_are_those_of_float32():
    model = random_unet().eval()
    x, t = points()
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


# What the shipped weights mean. An untrained network does not tell the order of its channels.

RECORDED = [
    [-1.0219, -1.8913, -1.7030, -0.7630, 1.0034, -0.5667,
     -1.4253, -0.7117, 0.3017, -1.0756, 0.4493, 1.4787],
    [-1.2469, -1.5386, -1.7911, 1.1746, -1.0396, 0.7976,
     0.4090, 1.1719, 1.0114, -1.2964, 0.6544, -0.2546],
    [-0.6394, -0.2837, 0.2094, -0.5728, -0.3611, -0.3913,
     -0.1592, -0.1289, -0.4871, 0.0629, -0.2334, -0.1163],
]  # fmt: skip


@pytest.fixture(scope="module")
def shipped():
    return load_model(shipped_checkpoint())[0]


def probe(model):
    """What a network gives at twelve pixels of three pictures with nothing in common."""
    k = torch.arange(3 * 784, dtype=torch.float64)
    x = torch.sin(0.37 * k + 0.0011 * k.square() % 7).float().reshape(3, 1, 28, 28)
    with torch.no_grad():
        v = model(x, torch.tensor([0.1, 0.5, 0.9]), torch.tensor([9, 1, 10]))
    return v[:, 0, 3:27:6, 5:25:9].reshape(3, 12)


def test_the_shipped_weights_mean_what_they_meant(shipped):
    torch.testing.assert_close(probe(shipped), torch.tensor(RECORDED), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("torch.cat([h, skips.pop()], dim=1)", "torch.cat([skips.pop(), h], dim=1)"),
        ("b (three m c) h w ->", "b (three c m) h w ->"),
        ("b (c p q) h w", "b (c q p) h w"),
        ("b c (h p) (w q) -> b (c p q) h w", "b c (h p) (w q) -> b (c q p) h w"),
    ],
)
def test_a_fault_of_order_would_be_noticed(shipped, right, wrong):
    source = Path(unet.__file__).read_text("utf-8")
    assert right in source
    faulty = {"__name__": unet.__name__}
    exec(source.replace(right, wrong), faulty)
    model = faulty["UNet"](shipped.config)
    model.load_state_dict(shipped.state_dict())  # the weights fit
    assert (probe(model) - torch.tensor(RECORDED)).abs().max() > 0.1

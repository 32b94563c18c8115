"""The U-Net: a velocity field like any other, in eager and compiled, in either memory layout."""

import dataclasses
from pathlib import Path

import pytest
import torch
from picture_networks import (
    NetworkOfPictures,
    count,
    every_pixel_is_reached,
    points,
    random_network,
)

from fmtutor.images.checkpoint import load_model, shipped_checkpoint
from fmtutor.images.presets import PRESETS
from fmtutor.networks import UNet, UNetConfig, unet
from fmtutor.networks.unet import Attention, ResidualBlock

TINY = UNetConfig(size=8, classes=3, width=8, mults=(1, 2), attention=(4,), heads=2)


class TestUNet(NetworkOfPictures):
    tiny = TINY


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
    every_pixel_is_reached(config)


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


def test_the_sizes_that_are_promised():
    digits = UNetConfig(size=8, classes=10, width=24, mults=(1, 2), attention=(4,))
    assert 0.3e6 < count(digits) < 0.35e6
    cifar = PRESETS["cifar10-gpu"].architecture
    assert 35e6 < count(UNetConfig(size=32, channels=3, classes=10, **cifar)) < 38e6


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_fused_kernels_of_a_gpu_take_what_attention_gives_them(monkeypatch, layout):
    """The numbers of a token lie side by side; on a CPU, whose plain kernel is fast, as they come.

    The meta device stands for the GPU.
    """
    given, usual = {}, torch.nn.functional.scaled_dot_product_attention

    def noted(*parts):
        given[parts[0].device.type] = parts
        return usual(*parts)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    attention = Attention(8, heads=2).to(memory_format=layout)
    # On the meta device a convolution does not keep the layout, as on a GPU it does.
    attention.qkv.register_forward_hook(lambda *call: call[-1].contiguous(memory_format=layout))
    x = torch.randn(3, 8, 5, 5).to(memory_format=layout)
    attention(x)
    attention.to("meta")(x.to("meta"))
    first = layout is torch.contiguous_format
    for place, on_cpu in zip(given["meta"], given["cpu"], strict=True):
        assert place.shape == on_cpu.shape == (3, 2, 25, 4)
        assert place.stride(-1) == 1
        assert place.is_contiguous() == first  # nothing is copied without need
        assert on_cpu.stride(-1) == (25 if first else 1)


def test_channels_last_gives_the_same():
    model = random_network(TINY)
    x, t = points(TINY)
    plain = model(x, t, 1)
    other = model.to(memory_format=torch.channels_last)(x, t, 1)
    torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-5)


# What the shipped weights mean. An untrained network does not tell the order of its channels.

RECORDED = [
    [-0.9749, -1.8620, -1.7446, -0.7217, 0.8970, -0.5319,
     -1.4195, -0.6937, 0.3427, -0.9766, 0.5554, 1.5793],
    [-1.6142, -1.5094, -1.5559, 0.9171, -1.1135, 0.6653,
     0.1672, 1.1724, 1.0503, -1.0900, 0.8586, -0.2780],
    [-0.3880, -0.1960, -0.1420, -0.5795, -0.3415, 0.3059,
     -0.4699, -0.5006, -0.4416, -0.0182, -0.3021, -0.4799],
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

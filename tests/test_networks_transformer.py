"""The transformer: a velocity field like any other, in eager and compiled, at any resolution."""

import dataclasses
import math
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

from fmtutor.networks import Transformer, TransformerConfig, transformer

TINY = TransformerConfig(size=8, classes=3, patch=2, width=16, depth=2, heads=2)


class TestTransformer(NetworkOfPictures):
    tiny = TINY


def test_each_block_starts_as_the_identity():
    model = Transformer(TINY)
    tokens, emb = torch.randn(3, 16, 16), torch.randn(3, 16)
    assert len(model.blocks) == 2
    for block in model.blocks:
        assert torch.equal(block(tokens, emb), tokens)
        # and can leave it: what opens the gates has a gradient
        (block(tokens, emb) ** 2).sum().backward()
        assert block.modulation.weight.grad.any()


@pytest.mark.parametrize(
    "config",
    [
        TransformerConfig(size=6, patch=1, width=4, depth=1, heads=1),
        TransformerConfig(size=7, channels=4, classes=5, patch=1, width=24, depth=1, heads=3),
        TransformerConfig(size=12, channels=3, patch=3, width=8, depth=2, heads=2, mlp_ratio=2),
        TransformerConfig(size=8, classes=2, patch=8, width=8, depth=3, dropout=0.5),
    ],
)
def test_every_pixel_of_every_shape_is_reached(config):
    every_pixel_is_reached(config)


def test_a_patch_knows_its_row_and_its_column():
    # Without places a network of tokens gives a shuffled picture its result shuffled.
    model = random_network(TINY).eval()
    x, t = points(TINY, 1)
    for axis in (2, 3):
        moved = model(x.roll(2, axis), t, 1).roll(-2, axis)
        assert (moved - model(x, t, 1)).abs().max() > 1e-2
    assert (model(x.transpose(2, 3), t).transpose(2, 3) - model(x, t)).abs().max() > 1e-2
    with torch.no_grad():
        model.place.weight.zero_()
    torch.testing.assert_close(model(x.roll(2, 3), t, 1).roll(-2, 3), model(x, t, 1))


def test_weights_of_one_resolution_are_those_of_another():
    large = Transformer(dataclasses.replace(TINY, size=16))
    large.load_state_dict(random_network(TINY).state_dict())
    x, t = points(large.config)
    assert large(x, t, 1).shape == x.shape
    # The middle of the 2 × 2 patches of half of a picture is that of its patch in a coarser one.
    fine, coarse = (
        model.features((torch.arange(n) + 0.5) / n) for model, n in ((large, 12), (large, 4))
    )
    torch.testing.assert_close(fine[1::3], coarse)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch": 3}, "size must be a multiple of patch"),
        ({"heads": 3}, "width of heads"),
        ({"width": 0}, "at least 1"),
        ({"depth": 0}, "at least 1"),
        ({"mlp_ratio": 0}, "at least 1"),
        ({"classes": -1}, "classes at least 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"dropout": -0.1}, r"dropout must lie in \[0, 1\)"),
    ],
)
def test_bad_descriptions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


def test_descriptions_at_the_edge_are_taken():
    assert TransformerConfig() == TransformerConfig(28, 1, 0, 4, 128, 6, 4, 4, 0.0)
    least = TransformerConfig(1, 1, 0, 1, 1, 1, 1, 1)
    assert Transformer(least)(torch.ones(1, 1, 1, 1), 0.5).shape == (1, 1, 1, 1)


def test_attention_is_bounded():
    # Queries and keys are normalised: a hundred times larger ones give the same.
    block = random_network(TINY).blocks[0]
    tokens = torch.randn(2, 16, 16)
    before = block.attention(tokens)
    with torch.no_grad():
        for part in (block.qkv.weight, block.qkv.bias):
            part[:32] *= 100
    torch.testing.assert_close(block.attention(tokens), before, atol=1e-4, rtol=1e-4)


def test_the_sizes_that_are_promised():
    # Those of the paper, of latents of ImageNet: 33, 130, 458 and 675 million.
    latents = {"size": 32, "channels": 4, "classes": 1000, "patch": 2}
    for expected, width, depth, heads in (
        (32.9e6, 384, 12, 6), (130.4e6, 768, 12, 12), (458e6, 1024, 24, 16), (675e6, 1152, 28, 16),
    ):  # fmt: skip
        weights = count(TransformerConfig(**latents, width=width, depth=depth, heads=heads))
        assert weights == pytest.approx(expected, rel=0.002)


# What weights mean: those of a run of tomorrow are read by the code of today, and the other way.

RECORDED = [
    [-0.1862, -1.6260, 0.4074, -1.6596, 0.8450, -1.2286,
     -0.4517, -0.7488, 0.0967, 0.0783, -0.3145, -1.0633],
    [0.0083, -1.1029, 0.3607, -1.2471, 0.4697, -0.6733,
     0.4711, -0.9076, -0.2292, 0.8105, 0.5894, -0.9543],
    [-0.4477, -1.7932, 0.6649, -1.3422, 0.5649, -1.5371,
     -0.3650, -0.5826, 0.3914, 0.2853, -0.1849, -0.6646],
]  # fmt: skip


def filled(model):
    """A network whose every weight is told by its place in the state, whatever torch draws."""
    with torch.no_grad():
        for k, weight in enumerate(model.parameters()):
            j = torch.arange(weight.numel(), dtype=torch.float64)
            values = torch.sin(0.7 * k + 1.3 * j + 0.01 * (j * j) % 11)
            scale = 1 / math.sqrt(weight.shape[-1]) if weight.ndim > 1 else 0.3
            weight.copy_((scale * values).reshape(weight.shape))
    return model.eval()


def probe(module):
    config = module.TransformerConfig(size=8, channels=2, classes=3, patch=2, width=16, depth=2)
    model = filled(module.Transformer(config))
    x = torch.sin(0.37 * torch.arange(3 * 128.0)).reshape(3, 2, 8, 8)
    with torch.no_grad():
        v = model(x, torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0, 2, 3]))
    return v[:, :, 1:8:3, 2:8:5].reshape(3, 12)


def test_weights_mean_what_they_meant():
    names = [*Transformer(TINY).state_dict()]
    assert names[:3] == ["time.1.weight", "time.1.bias", "time.3.weight"]
    assert names[-2:] == ["modulation.weight", "modulation.bias"]
    torch.testing.assert_close(probe(transformer), torch.tensor(RECORDED), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("b n (three m c) ->", "b n (m three c) ->"),
        ("b n (three m c) ->", "b n (three c m) ->"),
        ("b m n c -> b n (m c)", "b m n c -> b n (c m)"),
        ("-> b (h w) (c p q)", "-> b (h w) (p q c)"),
        ("-> b (h w) (c p q)", "-> b (h w) (c q p)"),
        ("b (h w) (c p q) ->", "b (h w) (p q c) ->"),
        ("b (six w) ->", "b (w six) ->"),
        ("b (two w) ->", "b (w two) ->"),
        ("scale, shift, gate, scale2", "gate, scale, shift, scale2"),
        ("h f -> (h n) f", "h f -> (n h) f"),
        ("max_frequency=64.0", "max_frequency=32.0"),
        ("TimeEmbedding(64)", "TimeEmbedding(64, max_frequency=4.0)"),
        ("+ 0.5) / n", "+ 0.0) / n"),
        ('nn.GELU("tanh")', "nn.SiLU()"),
    ],
)
def test_a_fault_of_order_would_be_noticed(right, wrong):
    source = Path(transformer.__file__).read_text("utf-8")
    assert right in source
    faulty = type(transformer)(transformer.__name__)
    exec(source.replace(right, wrong), vars(faulty))
    assert (probe(faulty) - torch.tensor(RECORDED)).abs().max() > 0.02

"""A trained network in a file, and the pictures that it draws."""

import copy
import dataclasses
import os

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from fmtutor.guidance import conditioned, guided, interval
from fmtutor.images.checkpoint import load_model, save_model
from fmtutor.images.datasets import to_uint8
from fmtutor.images.pictures import draw_pictures, picture_grid, save_png
from fmtutor.networks import UNet, UNetConfig, registry
from fmtutor.networks.registry import NETWORKS
from fmtutor.solvers import sample, shifted_grid

CONFIG = UNetConfig(size=4, channels=3, classes=3, width=8, mults=(1, 2), attention=(2,), heads=2)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = UNet(CONFIG).requires_grad_(False)
        for weight in model.parameters():
            if not weight.any():
                torch.nn.init.normal_(weight, std=0.2)
    return model.eval()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_network_comes_back(model, tmp_path, layout, global_rng_untouched):
    metadata = {"data": "dots", "classes": ["T-shirt/top", "β"], "step": 3}
    save_model(tmp_path / "m.safetensors", model.to(memory_format=layout), metadata=metadata)
    other, about = load_model(tmp_path / "m.safetensors")
    assert about == metadata
    assert other.config == CONFIG
    assert not other.training
    for (name, weight), (key, again) in zip(
        model.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert name == key
        assert torch.equal(weight, again)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other(x, 0.5, 1), model(x, 0.5, 1), atol=1e-5, rtol=1e-5)


def test_half_precision_halves_the_file(model, tmp_path):
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    save_model(full, model, metadata={})
    save_model(half, model, metadata={}, dtype=torch.float16)
    header = 15_000
    assert half.stat().st_size - header < 0.55 * (full.stat().st_size - header)
    other, _ = load_model(half)
    for weight, again in zip(model.parameters(), other.parameters(), strict=True):
        assert again.dtype == torch.float32
        torch.testing.assert_close(again, weight, atol=1e-6, rtol=1e-3)


def test_what_is_no_network_is_refused(model, tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*m\.safetensors"):
        load_model(path)
    save_model(path, model, metadata={})
    content = path.read_bytes()
    for damaged in (b"", content[:5], content[:2000], content[:-1], b"\xff" * 100):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"m\.safetensors is damaged"):
            load_model(path)
    weights = model.state_dict()
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"m\.safetensors is no checkpoint of fmtutor\.images"):
        load_model(path)
    model.load_state_dict(weights)
    del model.middle
    save_model(path, model, metadata={})
    with pytest.raises(ValueError, match=r"m\.safetensors has other weights than its network"):
        load_model(path)


def test_a_file_of_the_first_edition_is_read(model, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, model, metadata={})
    with safe_open(path, framework="pt") as file:
        header, weights = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert header.pop("kind") == "unet"  # it had no other
    save_file(weights, path, metadata=header)
    other, _ = load_model(path)
    assert other.config == CONFIG
    assert torch.equal(other.first.weight, model.first.weight)


def test_a_network_that_is_not_known_is_refused(tmp_path, model, monkeypatch):
    with pytest.raises(ValueError, match="a Linear is none of the networks unet, transformer"):
        save_model(tmp_path / "m.safetensors", torch.nn.Linear(1, 1), metadata={})
    with monkeypatch.context() as patch:
        patch.setattr(registry, "NETWORKS", {"other": NETWORKS["unet"]})
        save_model(tmp_path / "m.safetensors", model, metadata={})
    with pytest.raises(ValueError, match=r"m\.safetensors holds a other, but known are unet"):
        load_model(tmp_path / "m.safetensors")


# Pictures.


def test_pictures_are_samples_of_the_flow(model):
    labels = torch.tensor([0, 2, 1, 1, 0])
    drawn = draw_pictures(model, labels, scale=2.0, method="euler", steps=3, seed=5)
    noise = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    v = guided(conditioned(model, labels), model, 2.0)
    assert torch.equal(drawn, to_uint8(sample(v, noise, method="euler", steps=3)))
    assert drawn.dtype == torch.uint8


def test_pictures_are_guided_as_is_said(model):
    labels = torch.tensor([0, 2, 1, 1, 0])
    noise = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    weak, g = copy.deepcopy(model), torch.Generator().manual_seed(9)
    for weight in weak.parameters():
        weight.add_(0.1 * torch.randn(weight.shape, generator=g))
    y = conditioned(model, labels)
    for settings, field in (
        ({"within": (0.2, 0.6)}, guided(y, model, interval(3.0, 0.2, 0.6))),
        ({"rescale": 0.7}, guided(y, model, 3.0, rescale=0.7)),
        ({"guide": weak}, guided(y, conditioned(weak, labels), 3.0)),
    ):
        drawn = draw_pictures(model, labels, scale=3.0, steps=5, **settings)
        expected = to_uint8(sample(field, noise, method="midpoint", steps=5))
        assert torch.equal(drawn, expected)
        assert not torch.equal(drawn, draw_pictures(model, labels, scale=3.0, steps=5))
    drawn = draw_pictures(model, labels, method="euler", steps=5, shift=2.0)
    assert torch.equal(drawn, to_uint8(sample(y, noise, times=shifted_grid(5, 2.0))))
    drawn = draw_pictures(model, None, count=5, scale=3.0, guide=weak, steps=5)
    field = guided(model, weak, 3.0)
    assert torch.equal(drawn, to_uint8(sample(field, noise, method="midpoint", steps=5)))
    other = UNet(dataclasses.replace(CONFIG, classes=4))
    with pytest.raises(ValueError, match="the guide has the network UNetConfig"):
        draw_pictures(model, labels, scale=3.0, guide=other)


def test_a_picture_depends_on_its_number_alone(model):
    labels = torch.tensor([0, 2, 1, 1, 0])
    whole = draw_pictures(model, labels, steps=2)
    parts = draw_pictures(model, labels, steps=2, batch_size=2)
    assert (whole.int() - parts.int()).abs().max() <= 1
    assert not torch.equal(whole, draw_pictures(model, labels, steps=2, seed=1))


def test_pictures_without_labels(model, global_rng_untouched):
    drawn = draw_pictures(model, None, count=3, steps=2)
    null = draw_pictures(model, torch.tensor([3, 3, 3]), steps=2)
    assert torch.equal(drawn, null)
    for nothing in ({"labels": None}, {"labels": torch.zeros(0, dtype=torch.int64)}):
        with pytest.raises(ValueError, match="there must be at least 1 picture to draw, but 0"):
            draw_pictures(model, **nothing)
    for scale in (0.0, 2.0):
        with pytest.raises(ValueError, match=f"guidance {scale} came without labels"):
            draw_pictures(model, None, count=3, scale=scale)


def test_a_grid_goes_row_by_row():
    pictures = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 2, 3)
    grid = picture_grid(pictures, 2)
    assert grid.shape == (1, 3 * 2 + 2, 2 * 3 + 1)
    assert grid[0, ::3, ::4].tolist() == [[0, 1], [2, 3], [4, 255]]
    assert (grid[0, 2] == 255).all()
    assert (grid[0, :, 3] == 255).all()
    assert (
        picture_grid(pictures, 5, gap=0)[0, 0].tolist()
        == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    )
    for bad, columns in ((pictures[:0], 2), (pictures, 0)):
        with pytest.raises(ValueError, match="a grid needs pictures and columns"):
            picture_grid(bad, columns)


def test_a_png_says_what_was_drawn(tmp_path):
    colours = torch.tensor([[[255, 0]], [[0, 7]], [[9, 0]]], dtype=torch.uint8)
    save_png(tmp_path / "c.png", colours, zoom=3)
    with Image.open(tmp_path / "c.png") as image:
        assert image.size == (6, 3)
        assert image.getpixel((2, 1)) == (255, 0, 9)
        assert image.getpixel((3, 2)) == (0, 7, 0)
    save_png(tmp_path / "g.png", torch.tensor([[[1, 2, 3]]], dtype=torch.uint8))
    with Image.open(tmp_path / "g.png") as image:
        assert (image.mode, image.size, image.getpixel((1, 0))) == ("L", (3, 1), 2)
    assert sorted(os.listdir(tmp_path)) == ["c.png", "g.png"]

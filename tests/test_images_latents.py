"""Latents: their loss, their scale, runs that live in them."""

import json
from dataclasses import replace

import pytest
import torch
from picture_runs import CONFIG, DATA, quick
from PIL import Image

from fmtutor.images.checkpoint import load_autoencoder, load_model, save_model
from fmtutor.images.cli import main
from fmtutor.images.data import check_images, to_float, to_uint8
from fmtutor.images.latents import (
    autoencoder_loss,
    decode_all,
    decoder_of,
    encode_all,
    encoded,
    standardise,
)
from fmtutor.images.pictures import save_png
from fmtutor.networks import Autoencoder, AutoencoderConfig, UNet, UNetConfig

TINY = AutoencoderConfig(channels=1, latents=2, patch=2, width=8, mults=(1,))


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Autoencoder(TINY).requires_grad_(False)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("autoencoder") / "a.safetensors"
    save_model(path, model, metadata={"kl": 0.1})
    return path


def test_the_loss_is_error_and_divergence():
    # An encoder of one number: mean and log-deviation are its biases, the decoder gives its own.
    model = Autoencoder(TINY).requires_grad_(False)
    for layer in (model.encoder[-1], model.decoder[-1]):
        layer.weight.zero_()
    model.encoder[-1].bias.copy_(torch.tensor([0.5, -1.0, 0.1, -2.0]))
    model.decoder[-1].bias.fill_(0.25)
    x = to_float(DATA.train[:5])
    normal = torch.distributions.Normal
    q = normal(torch.tensor([0.5, -1.0]), torch.tensor([0.1, -2.0]).exp())
    divergence = torch.distributions.kl_divergence(q, normal(0.0, 1.0)).sum().item()
    each = divergence * 4 / 16  # 2 × 2 places of latents, 16 pixels
    error = (x - 0.25).square().mean().item()
    for kl in (0.0, 0.3):
        loss = autoencoder_loss(model, x, kl=kl)
        assert loss.item() == pytest.approx(error + kl * each, rel=1e-5)


def test_latents_are_drawn_in_training(model):
    x, losses = to_float(DATA.train[:5]), []
    for seed in (0, 0, 1):
        g = torch.Generator().manual_seed(seed)
        losses.append(autoencoder_loss(model, x, generator=g).item())
    assert losses[0] == losses[1] != losses[2]
    # It is the raw latents that are drawn, whatever the scale of what `encode` returns.
    other = Autoencoder(TINY)
    other.load_state_dict(model.state_dict())
    standardise(other, DATA.train)
    g = torch.Generator().manual_seed(0)
    assert autoencoder_loss(other, x, generator=g).item() == pytest.approx(losses[0], rel=1e-4)


def test_training_makes_pictures_come_back():
    torch.manual_seed(0)
    model, x = Autoencoder(TINY), to_float(DATA.train[:8])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    before = (model.decode(model.encode(x)) - x).square().mean().item()
    for _ in range(150):
        optimizer.zero_grad()
        autoencoder_loss(model, x, kl=1e-4).backward()
        optimizer.step()
    after = (model.decode(model.encode(x)) - x).square().mean().item()
    assert after < 0.4 * before


def test_standardised_latents_have_mean_0_and_deviation_1(model):
    other = Autoencoder(TINY).requires_grad_(False)
    for _ in range(2):  # a second time changes nothing
        standardise(other, DATA.train)
        z = encode_all(other, DATA.train, batch_size=7)
        torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(2), atol=1e-5, rtol=0)


def test_all_are_encoded_and_decoded_a_batch_at_a_time(model):
    z = encode_all(model, DATA.train, batch_size=7)
    torch.testing.assert_close(z, model.encode(to_float(DATA.train)))
    assert (z.dtype, z.shape) == (torch.float32, (50, 2, 2, 2))
    pixels = decode_all(model, z, batch_size=7)
    assert (pixels.int() - to_uint8(model.decode(z)).int()).abs().max() <= 1
    assert (pixels.dtype, pixels.shape) == (torch.uint8, DATA.train.shape)


def test_an_autoencoder_comes_back_from_its_file(model, file, tmp_path):
    before = torch.get_rng_state()
    other, about = load_autoencoder(file)
    assert torch.equal(before, torch.get_rng_state())
    assert (other.config, about) == (TINY, {"kl": 0.1})
    assert torch.equal(encode_all(other, DATA.test), encode_all(model, DATA.test))
    assert not other.training
    with pytest.raises(ValueError, match=r"a\.safetensors holds a autoencoder, but known are unet"):
        load_model(file)
    save_model(tmp_path / "u.safetensors", UNet(UNetConfig()), metadata={})
    with pytest.raises(ValueError, match="holds a unet, but known are autoencoder"):
        load_autoencoder(tmp_path / "u.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        load_autoencoder(tmp_path / "none.safetensors")


def test_a_data_set_is_encoded_and_says_by_what(model, file):
    data = encoded(replace(DATA, flip=True), str(file))
    check_images(data)
    assert torch.equal(data.train, encode_all(model, DATA.train))
    assert torch.equal(data.test, encode_all(model, DATA.test))
    assert torch.equal(data.train_labels, DATA.train_labels)
    assert not data.flip  # mirrored latents are those of no mirrored picture
    assert data.autoencoder["file"] == str(file)
    with pytest.raises(TypeError, match=r"latents of dtype float32 or float16, but torch\.uint8"):
        check_images(replace(DATA, autoencoder=data.autoencoder))


def test_samples_are_decoded_by_the_autoencoder_that_made_the_latents(model, file, tmp_path):
    data = encoded(DATA, str(file))
    about = {"autoencoder": data.autoencoder}
    decoded = decoder_of(about)(data.test)
    assert torch.equal(decoded, decode_all(model, data.test))
    assert decoder_of({}) is decoder_of({"autoencoder": None}) is to_uint8
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(file.read_bytes())
    assert torch.equal(decoder_of(about, str(moved))(data.test), decoded)
    save_model(moved, Autoencoder(TINY), metadata={})
    with pytest.raises(ValueError, match="knows the latents of another autoencoder than"):
        decoder_of(about, str(moved))
    with pytest.raises(FileNotFoundError, match="there is no autoencoder"):
        decoder_of({"autoencoder": {"file": str(tmp_path / "gone"), "sha256": ""}})


LATENT = replace(CONFIG, architecture={**CONFIG.architecture, "patch": 1}, sample_every=4, steps=5)


def test_a_run_lives_in_latents(file, tmp_path):
    data = encoded(DATA, str(file))
    network = quick(tmp_path / "run", LATENT, data)
    assert (network.config.size, network.config.channels) == (2, 2)
    with Image.open(tmp_path / "run" / "samples" / "step-0000004.png") as grid:  # of pictures
        assert grid.size == (2 * (3 * 5 - 1), 2 * (8 * 5 - 1))
    quick(tmp_path / "run", replace(LATENT, steps=6), data, resume=True, reschedule=True)
    save_model(tmp_path / "other.safetensors", Autoencoder(TINY), metadata={})
    other = encoded(DATA, str(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match="has autoencoder"):
        quick(tmp_path / "run", replace(LATENT, steps=7), other, resume=True, reschedule=True)
    with pytest.raises(ValueError, match="dots knows the latents of another autoencoder"):
        encoded(data, str(tmp_path / "other.safetensors"))
    file.rename(tmp_path / "moved.safetensors")
    moved = encoded(data, str(tmp_path / "moved.safetensors"))
    assert moved.train is data.train
    config = replace(LATENT, steps=7, autoencoder=moved.autoencoder["file"])
    quick(tmp_path / "run", config, moved, resume=True, reschedule=True)
    (tmp_path / "moved.safetensors").rename(file)
    for change in ({"augment": 1}, {"dequantise": True}, {"flip": True}):
        with pytest.raises(ValueError, match="are for pixels, but latents came"):
            quick(tmp_path / "other", replace(LATENT, **change), data)


def test_the_commands_live_in_latents(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    g = torch.Generator().manual_seed(0)
    for k in range(24):
        (tmp_path / "photos" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (1, 8, 8), generator=g, dtype=torch.uint8)
        save_png(tmp_path / "photos" / "ab"[k % 2] / f"{k}.png", pixels)
    train = f"""
        train --data folder --data-dir photos --size 8 --autoencoder {file}
        --network transformer --patch 1 --width 8 --depth 1 --heads 2
        --steps 3 --warmup 1 --batch-size 8 --sample-every 3 --save-every 3 --out run
    """
    assert main(train.split()) == 0
    network, about = load_model("run/model.safetensors")
    assert (network.config.size, network.config.channels) == (4, 2)
    assert about["autoencoder"]["file"] == about["train"]["autoencoder"] == str(file)
    assert main(["sample", "run", "--rows", "1", "--steps", "1"]) == 0
    with Image.open("samples.png") as image:
        assert image.size == (2 * 17, 2 * 8)
    evaluate = """
        evaluate run --data-dir photos --samples 6 --curve-samples 4 --neighbours 1
        --method euler --nfe 1 --curve-methods --pictures e.png
    """
    assert main(evaluate.split()) == 0
    result = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))
    assert result["bits_per_dimension"] is None  # the latents' would be no picture's
    assert result["about"]["data"] == "photos"
    file.rename(tmp_path / "moved")
    try:
        assert main(["sample", "run", "--rows", "1", "--steps", "1"]) == 1
        assert "there is no autoencoder" in capsys.readouterr().err
        moved = ["--autoencoder", "moved"]
        assert main(["sample", "run", "--rows", "1", "--steps", "1", *moved]) == 0
    finally:
        (tmp_path / "moved").rename(file)

"""Latents: an autoencoder's loss, pictures as its latents, and latents as pictures again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fmtutor.images.checkpoint import autoencoder_file, load_autoencoder, sha256_of
from fmtutor.images.data import ImageData, to_float, to_uint8
from fmtutor.networks import Autoencoder

__all__ = [
    "autoencoder_loss", "decode_all", "decoder_of", "encode_all", "encoded", "identity",
    "standardise",
]  # fmt: skip


def autoencoder_loss(
    model: Autoencoder, x1: Tensor, *, kl: float = 1e-3, generator: torch.Generator | None = None
) -> Tensor:
    """Return the mean of |x1 − decode(z)|² + kl KL(q(z | x1), N(0, I)), both for each pixel, 0-d.

    The latents z are drawn from q, the normal distribution of the encoder's mean and deviation for
    the pictures `x1` `[b c h w]`. With a weight `kl` of twice the variance of a pixel's error it is
    the evidence lower bound; less keeps more of the pictures.

    Reference: kingma2014
    Chapter: scale
    """
    mean, log_deviation = model.posterior(x1)
    noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
    z = mean + log_deviation.exp() * noise
    error = (model.decode((z - model.offset) / model.scale) - x1).square().mean()
    divergence = 0.5 * (mean.square() + (2 * log_deviation).exp() - 1) - log_deviation
    return error + kl * divergence.sum() / x1.numel()


@torch.no_grad()
def encode_all(model: Autoencoder, pixels: Tensor, *, batch_size: int = 250) -> Tensor:
    """Return the latents of pictures, a batch at a time: float32 `[n c h w]`, on the CPU.

    Args:
        model: The autoencoder.
        pixels: Pictures, uint8 `[n c h w]`.
        batch_size: Pictures that travel together.

    Chapter: scale
    """
    device = model.offset.device
    parts = torch.split(pixels, batch_size)
    return torch.cat([model.encode(to_float(part.to(device))).cpu() for part in parts])


@torch.no_grad()
def decode_all(model: Autoencoder, latents: Tensor, *, batch_size: int = 250) -> Tensor:
    """Return the pictures of latents, a batch at a time: uint8 `[n c h w]`, on the latents' device.

    Args:
        model: The autoencoder.
        latents: Latents `[n c h w]`.
        batch_size: Latents that travel together.

    Chapter: scale
    """
    device = model.offset.device
    parts = torch.split(latents, batch_size)
    return torch.cat([to_uint8(model.decode(part.to(device))).to(latents.device) for part in parts])


def standardise(model: Autoencoder, pixels: Tensor) -> None:
    """Let the latents of pictures, uint8 `[n c h w]`, have mean 0 and deviation 1 by channel.

    Chapter: scale
    """
    model.offset.zero_()
    model.scale.fill_(1.0)
    z = encode_all(model, pixels).double()
    model.offset.copy_(z.mean((0, 2, 3))[:, None, None])
    model.scale.copy_(z.std((0, 2, 3))[:, None, None])


def encoded(data: ImageData, file: str, device: torch.device | str = "cpu") -> ImageData:
    """Return a data set of pictures as the latents of an autoencoder, which it then names.

    One that came as latents is returned as it is, with the place where the autoencoder lies now.

    Args:
        data: The data set.
        file: The autoencoder's file, as `load_autoencoder` takes it.
        device: Where it encodes.

    Raises:
        ValueError: If the data set has pictures of other channels or another size than it takes, or
            latents of another autoencoder.

    Chapter: scale
    """
    if data.autoencoder is not None:
        return replace(data, autoencoder=_known(file, data.autoencoder, data.name))
    model, _ = load_autoencoder(file, device)
    train, test = (encode_all(model, pixels) for pixels in (data.train, data.test))
    # A mirrored picture has other latents than its latents, mirrored.
    return replace(data, train=train, test=test, flip=False, autoencoder=identity(file))


def decoder_of(
    about: Mapping[str, Any], file: str | None = None, device: torch.device | str = "cpu"
) -> Callable[[Tensor], Tensor]:
    """Return what turns the samples of a network into pictures, uint8, by what its file says.

    Args:
        about: The metadata of the network.
        file: Its autoencoder, if it is no longer where it was.
        device: Where latents are decoded.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not the autoencoder whose latents the network knows.

    Chapter: scale
    """
    expected = about.get("autoencoder")
    if expected is None:
        return to_uint8
    given = _known(file or expected["file"], expected, "the network")
    model, _ = load_autoencoder(given["file"], device)
    return lambda latents: decode_all(model, latents)


def _known(file: str, expected: Mapping[str, str], who: str) -> dict[str, str]:
    """Return the identity of an autoencoder's file, if it is the expected one, wherever it lies."""
    given = identity(file)
    if given["sha256"] != expected["sha256"]:
        raise ValueError(
            f"{who} knows the latents of another autoencoder than {given['file']}: "
            f"expected SHA-256 {expected['sha256']}, but {given['sha256']} came"
        )
    return given


def identity(file: str) -> dict[str, str]:
    """Return the file and the SHA-256 by which an autoencoder is known.

    Raises:
        FileNotFoundError: If there is no such file.

    Chapter: scale
    """
    path = autoencoder_file(file)
    if not path.is_file():
        raise FileNotFoundError(f"there is no autoencoder {path}")
    return {"file": str(file), "sha256": sha256_of(path.read_bytes())}

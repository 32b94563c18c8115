"""A convolutional autoencoder: pictures become small grids of numbers, latents, and come back.

Chapter: scale
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from fmtutor.checking import check_points

__all__ = ["Autoencoder", "AutoencoderConfig", "Residual"]


@dataclass(frozen=True)
class AutoencoderConfig:
    """What describes an `Autoencoder` in full; numbers out of their range are refused.

    Attributes:
        channels: Channels of a picture, 1 for grey ones, 3 for colours.
        latents: Channels of its latents.
        patch: Side of a patch, in pixels: its values are channels to the network.
        width: Channels at the first resolution, which is that of the patches.
        mults: Channels at each resolution, as a multiple of `width`; it is halved between two.
        blocks: Residual blocks at each resolution, in the encoder and again in the decoder.
    """

    channels: int = 1
    latents: int = 4
    patch: int = 2
    width: int = 32
    mults: tuple[int, ...] = (1, 2)
    blocks: int = 1

    def __post_init__(self) -> None:
        sizes = (self.channels, self.latents, self.patch, self.width, self.blocks)
        if min(*sizes, *self.mults, len(self.mults)) < 1:
            raise ValueError(f"all numbers must be at least 1, but {self} came")


class Autoencoder(nn.Module):
    """An encoder of pictures in [−1, 1], and the decoder of their latents.

    Latents are standardised, channel by channel: `offset` and `scale`, which see to that, are kept
    with the weights. A picture has `factor` times the side of its latents. `config` describes it.

    Raises:
        ValueError: When called, if what comes has other channels, or a side that cannot be divided.

    Reference: kingma2014, rombach2022
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config, self.factor = config, config.patch * 2 ** (len(config.mults) - 1)
        n_pixels = config.channels * config.patch**2
        widths = [config.width * mult for mult in config.mults]
        down: list[nn.Module] = [_conv(n_pixels, widths[0])]
        up: list[nn.Module] = [_conv(config.latents, widths[-1])]
        for level, width in enumerate(widths):
            down += [_conv(widths[level - 1], width, stride=2)] if level else []
            down += [Residual(width) for _ in range(config.blocks)]
        for level, width in reversed([*enumerate(widths)]):
            up += [Residual(width) for _ in range(config.blocks)]
            up += [nn.Upsample(scale_factor=2.0), _conv(width, widths[level - 1])] if level else []
        self.encoder = nn.Sequential(*down, *_layer(widths[-1], 2 * config.latents))
        self.decoder = nn.Sequential(*up, *_layer(widths[0], n_pixels))
        self.register_buffer("offset", torch.zeros(config.latents, 1, 1))
        self.register_buffer("scale", torch.ones(config.latents, 1, 1))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-deviation of pictures' latents, before they are standardised."""
        check_points(x)
        c, f, p = self.config.channels, self.factor, self.config.patch
        if x.ndim != 4 or x.shape[1] != c or x.shape[2] % f or x.shape[3] % f:
            raise ValueError(f"x must be [b {c} h w], h and w in {f}s, but {[*x.shape]} came")
        features = self.encoder(rearrange(x, "b c (h p) (w q) -> b (c p q) h w", p=p, q=p))
        mean, log_deviation = features.chunk(2, dim=1)
        return mean, log_deviation.clamp(-10, 5)

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents `[b c h/f w/f]` of pictures `[b c h w]`, the most likely ones."""
        return (self.posterior(x)[0] - self.offset) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        """Return the pictures `[b c h w]` of latents `[b c h/f w/f]`."""
        check_points(z, "z")
        if z.ndim != 4 or z.shape[1] != self.config.latents:
            raise ValueError(f"z must be [b {self.config.latents} h w], but {[*z.shape]} came")
        p, features = self.config.patch, self.decoder(z * self.scale + self.offset)
        x: Tensor = rearrange(features, "b (c p q) h w -> b c (h p) (w q)", p=p, q=p)
        return x


class Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with as many channels as there come."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layer(n, n), *_layer(n, n))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of the given ones, `[b n h w]`."""
        return x + self.layers(x)  # type: ignore[no-any-return]


def _layer(n: int, n_out: int) -> tuple[nn.Module, ...]:
    return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if n % g == 0), n), nn.SiLU(), _conv(n, n_out)


def _conv(n: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n, n_out, 3, stride=stride, padding=1)

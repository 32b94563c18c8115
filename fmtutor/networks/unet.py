"""A U-Net for velocity fields of pictures: the same v(x, t, label) as the network of the plane.

Pictures go down to lower resolutions and come up again. On the way up each block is also given what
a block on the way down has left at that resolution, so that no detail has to pass the bottom.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from fmtutor.checking import check_points
from fmtutor.networks.embedding import TimeEmbedding
from fmtutor.notation import Time, batch_label, batch_time

__all__ = ["Attention", "ResidualBlock", "Stage", "UNet", "UNetConfig"]


@dataclass(frozen=True)
class UNetConfig:
    """What describes a `UNet` in full.

    Attributes:
        size: Height and width of a picture.
        channels: Channels of a picture, 1 for grey ones, 3 for colours.
        classes: Number of labels, without the null label; 0 for a network that takes none.
        patch: Side of a patch, in pixels: its values are channels to the network, whose first
            resolution is `size / patch`. That is halved `len(mults) - 1` times.
        width: Channels at the first resolution.
        mults: Channels at each resolution, as a multiple of `width`.
        blocks: Residual blocks at each resolution, on the way down and again on the way up.
        attention: The resolutions (heights) at which each block is followed by attention.
        heads: Heads of an attention.
        dropout: Probability with which a block drops a channel's value in training.

    Raises:
        ValueError: If a number is out of its range, or the size cannot be halved that often.

    Chapter: images
    """

    size: int = 28
    channels: int = 1
    classes: int = 0
    patch: int = 1
    width: int = 32
    mults: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    attention: tuple[int, ...] = (7,)
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        sizes = (self.size, self.channels, self.patch, self.width, self.blocks, self.heads)
        if min(*sizes, *self.mults, len(self.mults)) < 1 or self.classes < 0:
            raise ValueError(f"sizes must be at least 1 and classes at least 0, but {self} came")
        if self.size % (self.patch * 2 ** (len(self.mults) - 1)):
            raise ValueError(
                f"a size of {self.size} cannot be divided by patch {self.patch} and halved "
                f"{len(self.mults) - 1} times, as the resolutions of mults {self.mults} ask for"
            )
        heights = [self.size // self.patch // 2**k for k in range(len(self.mults))]
        if not {*self.attention} <= {*heights}:
            known = ", ".join(map(str, heights))
            raise ValueError(f"attention at {self.attention}, but the resolutions are {known}")
        if self.attention and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), but {self.dropout} came")


class UNet(nn.Module):
    """A velocity field of pictures, called as v(x, t) or, with classes, as v(x, t, label).

    The labels are 0, ..., classes − 1; the null label `classes` stands for "no label". At first the
    velocity is 0 everywhere, since the last layer starts at 0.

    Args:
        config: Its description.

    Raises:
        TypeError: When called, if labels are not int64.
        ValueError: When called, if x is not `[b c h w]` as configured, the labels do not fit it or
            do not exist, or come to a network without classes.

    Reference: ronneberger2015
    Chapter: images
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, self.classes = config, config.classes
        n_emb = self.n_embedding = 4 * config.width
        self.time = nn.Sequential(
            TimeEmbedding(2 * config.width, max_frequency=64.0),
            nn.Linear(2 * config.width, n_emb),
            nn.SiLU(),
            nn.Linear(n_emb, n_emb),
        )
        self.labels = nn.Embedding(config.classes + 1, n_emb) if config.classes else None
        widths = [config.width * mult for mult in config.mults]
        sizes = [config.size // config.patch // 2**level for level in range(len(widths))]
        n_pixels = config.channels * config.patch**2

        def stage(n_in: int, level: int) -> Stage:
            heads = config.heads if sizes[level] in config.attention else 0
            return Stage(n_in, widths[level], n_emb, heads, config.dropout)

        self.first = nn.Conv2d(n_pixels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        n, skips = widths[0], []
        for level, width in enumerate(widths):
            if level > 0:
                self.down.append(nn.Conv2d(n, n, 3, stride=2, padding=1))
            for _ in range(config.blocks):
                self.down.append(stage(n, level))
                skips.append(n := width)
        self.middle = nn.ModuleList([stage(n, -1), stage(n, -1)])
        for level, width in reversed([*enumerate(widths)]):
            for _ in range(config.blocks):
                self.up.append(stage(n + skips.pop(), level))
                n = width
            if level > 0:
                self.up.append(nn.Upsample(scale_factor=2.0))
        self.last = nn.Sequential(_norm(n), nn.SiLU(), _zero(nn.Conv2d(n, n_pixels, 3, padding=1)))

    @property
    def blocks(self) -> list[Stage]:
        """The blocks that hold nearly all weights: each can be spread, or recomputed, by itself."""
        return [module for module in self.modules() if isinstance(module, Stage)]

    def forward(
        self, x: Tensor, t: Time, label: Tensor | int | None = None, *, also: Tensor | None = None
    ) -> Tensor:
        """Return velocities `[b c h w]` of pictures `[b c h w]` at times (a float, 0-d or `[b]`).

        The label is an int, a 0-d tensor or `[b]`, int64; None is the null label for all. What the
        network is told `also`, `[b n_embedding]`, is added to the embedding of time.
        """
        check_points(x)
        shape = (self.config.channels, self.config.size, self.config.size)
        if x.shape[1:] != shape:
            raise ValueError(f"x must have shape {['b', *shape]}, but {[*x.shape]} came")
        emb = self.time(batch_time(t, x, unit=False))  # [b e]
        emb = emb if also is None else emb + also
        if self.labels is not None:
            emb = emb + self.labels(batch_label(label, x, self.classes))
        elif label is not None:
            raise ValueError("a label came to a network without classes: see UNetConfig.classes")
        p, skips = self.config.patch, []
        h = self.first(rearrange(x, "b c (h p) (w q) -> b (c p q) h w", p=p, q=p))
        for layer in self.down:
            if isinstance(layer, Stage):
                h = layer(h, emb)
                skips.append(h)
            else:
                h = layer(h)
        for layer in self.middle:
            h = layer(h, emb)
        for layer in self.up:
            if isinstance(layer, Stage):
                h = layer(torch.cat([h, skips.pop()], dim=1), emb)
            else:
                h = layer(h)
        velocity: Tensor = rearrange(self.last(h), "b (c p q) h w -> b c (h p) (w q)", p=p, q=p)
        return velocity.to(x.dtype)  # under autocast the last layer computes in bfloat16


class Stage(nn.Module):
    """A residual block, followed by attention where `heads` is above 0."""

    def __init__(self, n_in: int, n_out: int, n_emb: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.block = ResidualBlock(n_in, n_out, n_emb, dropout)
        self.attention = Attention(n_out, heads) if heads else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Return features `[b n_out h w]` of features `[b n_in h w]` and embeddings `[b e]`."""
        h: Tensor = self.attention(self.block(x, emb))
        return h


class ResidualBlock(nn.Module):
    """x + conv(norm(conv(norm(x)))), the second norm scaled and shifted by the embedding.

    The last convolution starts at 0, so that the block starts as the identity.
    """

    def __init__(self, n_in: int, n_out: int, n_emb: int, dropout: float) -> None:
        super().__init__()
        self.norm_in, self.norm_out = _norm(n_in), _norm(n_out)
        self.conv_in = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.conv_out = _zero(nn.Conv2d(n_out, n_out, 3, padding=1))
        self.modulation = nn.Linear(n_emb, 2 * n_out)
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Return features `[b n_out h w]` of features `[b n_in h w]` and embeddings `[b e]`."""
        h = self.conv_in(functional.silu(self.norm_in(x)))
        modulation = self.modulation(functional.silu(emb))
        scale, shift = rearrange(modulation, "b (two c) -> two b c 1 1", two=2)
        h = self.norm_out(h) * (1 + scale) + shift
        out: Tensor = self.skip(x) + self.conv_out(self.dropout(functional.silu(h)))
        return out


class Attention(nn.Module):
    """Each place looks at all others of the picture and adds what it finds there."""

    def __init__(self, n: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, _norm(n)
        self.qkv = nn.Conv2d(n, 3 * n, 1)
        self.out = _zero(nn.Conv2d(n, n, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of the given ones, `[b n h w]`."""
        q, k, v = rearrange(
            self.qkv(self.norm(x)), "b (three m c) h w -> three b m (h w) c", three=3, m=self.heads
        )
        if x.device.type != "cpu" and q.stride(-1) != 1:
            # With channels first. A GPU's fused kernels take numbers of a token that lie side by
            # side; without, what is written for each pair of tokens costs more than the copy.
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        found = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(rearrange(found, "b m (h w) c -> b (m c) h w", h=x.shape[2]))
        return x + out


def _norm(n: int) -> nn.GroupNorm:
    """Normalise in 32 groups, or in fewer where there are not at least 4 channels in each."""
    return nn.GroupNorm(next((g for g in (32, 16, 8, 4, 2) if n % g == 0 and n >= 4 * g), 1), n)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Start a layer at 0."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer

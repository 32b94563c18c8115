"""A transformer for velocity fields of pictures, or of latents: the same v(x, t, label) as others.

A picture is cut into patches, each a row of numbers, a token. In each block all tokens look at each
other, then each is changed by itself. Time and label scale and shift what goes into either, and
gate what comes out (adaptive layer norm).

Chapter: scale
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional

from fmtutor.checking import check_points
from fmtutor.networks.embedding import TimeEmbedding
from fmtutor.notation import Time, batch_label, batch_time

__all__ = ["Block", "Transformer", "TransformerConfig"]


@dataclass(frozen=True)
class TransformerConfig:
    """What describes a `Transformer` in full; numbers out of their range are refused.

    Attributes:
        size: Height and width of a picture.
        channels: Channels of a picture: 1 for grey ones, 3 for colours, as many as latents have.
        classes: Number of labels, without the null label; 0 for a network that takes none.
        patch: Side of a patch, in pixels: there are (size / patch)² tokens.
        width: Numbers in a token.
        depth: Blocks.
        heads: Heads of an attention, which share the width.
        mlp_ratio: Units between the two layers of a block's perceptron, as a multiple of `width`.
        dropout: Probability with which a block drops a value of what it adds, in training.
    """

    size: int = 28
    channels: int = 1
    classes: int = 0
    patch: int = 4
    width: int = 128
    depth: int = 6
    heads: int = 4
    mlp_ratio: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        sizes = (self.size, self.channels, self.patch, self.width, self.depth, self.heads)
        if min(*sizes, self.mlp_ratio) < 1 or self.classes < 0:
            raise ValueError(f"sizes must be at least 1 and classes at least 0, but {self} came")
        if self.size % self.patch or self.width % self.heads:
            raise ValueError(f"size must be a multiple of patch, width of heads, but {self} came")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), but {self.dropout} came")


class Transformer(nn.Module):
    """A velocity field of pictures, called as v(x, t) or, with classes, as v(x, t, label).

    The labels are 0, ..., classes − 1; the null label `classes` stands for "no label". The place of
    a patch is told by Fourier features of its row and column, as shares of the picture: no weight
    belongs to a size, and those of one resolution can be loaded at another. What modulates starts
    at 0, and so does the velocity: each block begins as the identity, since its gates are shut.

    Args:
        config: Its description.

    Raises:
        ValueError: When called, if x is not `[b c h w]` as configured, the labels do not fit it or
            do not exist, or come to a network without classes.

    Reference: peebles2023
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config, self.classes, width = config, config.classes, config.width
        layers = (TimeEmbedding(256, max_frequency=64.0), nn.Linear(256, width), nn.SiLU())
        self.time = nn.Sequential(*layers, nn.Linear(width, width))
        self.labels = nn.Embedding(config.classes + 1, width) if config.classes else None
        self.features, self.place = TimeEmbedding(64), nn.Linear(128, width)
        n_pixels = config.channels * config.patch**2
        self.first, self.last = nn.Linear(n_pixels, width), nn.Linear(width, n_pixels)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        for layer in (self.last, *(part.modulation for part in (self, *self.blocks))):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Time, label: Tensor | int | None = None) -> Tensor:
        """Return velocities `[b c h w]` of pictures `[b c h w]`; no label is the null label."""
        check_points(x)
        shape, p = (self.config.channels, self.config.size, self.config.size), self.config.patch
        if x.shape[1:] != shape:
            raise ValueError(f"x must have shape {['b', *shape]}, but {[*x.shape]} came")
        emb = self.time(batch_time(t, x, unit=False))  # [b w]
        if self.labels is not None:
            emb = emb + self.labels(batch_label(label, x, self.classes))
        elif label is not None:
            raise ValueError("a label came to a network without classes: TransformerConfig.classes")
        emb, n = functional.silu(emb), self.config.size // p
        f = self.features((torch.arange(n, dtype=x.dtype, device=x.device) + 0.5) / n)
        place = torch.cat([repeat(f, "h f -> (h n) f", n=n), repeat(f, "w f -> (n w) f", n=n)], 1)
        patches = rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=p)
        h = self.first(patches) + self.place(place)  # [b (h w) width]
        for block in self.blocks:
            h = block(h, emb)
        scale, shift = rearrange(self.modulation(emb), "b (two w) -> two b 1 w", two=2)
        h = self.last(self.norm(h) * (1 + scale) + shift)
        v: Tensor = rearrange(h, "b (h w) (c p q) -> b c (h p) (w q)", h=n, p=p, q=p)
        return v.to(x.dtype)  # under autocast the last layer computes in bfloat16


class Block(nn.Module):
    """Attention between tokens, then a perceptron in each, as `TransformerConfig` describes them.

    Both add gate · f(norm(x) (1 + scale) + shift). Queries and keys are normalised, too. A `causal`
    one lets no token look at those behind it; in a `rotary` one queries and keys are turned by
    their places.
    """

    def __init__(
        self, config: TransformerConfig, *, causal: bool = False, rotary: bool = False
    ) -> None:
        super().__init__()
        self.causal, self.rotary = causal, rotary
        n, hidden, self.heads = config.width, config.mlp_ratio * config.width, config.heads
        self.norm, self.modulation = nn.LayerNorm(n, elementwise_affine=False), nn.Linear(n, 6 * n)
        self.qkv, self.out = nn.Linear(n, 3 * n), nn.Linear(n, n)
        self.mlp = nn.Sequential(nn.Linear(n, hidden), nn.GELU("tanh"), nn.Linear(hidden, n))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Return tokens `[b n w]` of tokens `[b n w]` and embeddings `[b w]`."""
        modulation = rearrange(self.modulation(emb), "b (six w) -> six b 1 w", six=6)
        scale, shift, gate, scale2, shift2, gate2 = modulation
        x = x + gate * self.dropout(self.attention(self.norm(x) * (1 + scale) + shift))
        out: Tensor = x + gate2 * self.dropout(self.mlp(self.norm(x) * (1 + scale2) + shift2))
        return out

    def attention(self, x: Tensor) -> Tensor:
        """Return what each token of `[b n w]` finds when it looks at all of them, or back."""
        q, k, v = rearrange(self.qkv(x), "b n (three m c) -> three b m n c", three=3, m=self.heads)
        q, k = (functional.rms_norm(a, a.shape[-1:]) for a in (q, k))
        if self.rotary:
            q, k = _turned(q), _turned(k)
        found = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.out(rearrange(found, "b m n c -> b n (m c)"))
        return out


def _turned(a: Tensor) -> Tensor:
    """Return queries or keys `[... n c]`, c even, pair by pair turned by angles of their places.

    Of place m the pair j is turned by m · 100^(−2j/c). A turn of both leaves a product as it is, so
    that query and key meet as if only the distance of their places were known.
    """
    n, c = a.shape[-2:]
    slowing = 100.0 ** (-torch.arange(0, c, 2, device=a.device) / c)
    angle = torch.arange(n, device=a.device)[:, None] * slowing
    cos, sin = angle.cos(), angle.sin()
    first, second = a[..., ::2], a[..., 1::2]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(a.dtype)

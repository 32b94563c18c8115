"""A transformer for tokens: of each place it says what the data's token may be.

The blocks are those of the transformer for pictures. A place is learned, from sines and cosines on,
or attention is told how far apart two tokens stand (`rotary`). Label and time, where there are any,
scale, shift and gate as they do there.

Chapter: discrete
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fmtutor.checking import check_tokens
from fmtutor.networks.embedding import TimeEmbedding
from fmtutor.networks.transformer import Block, TransformerConfig
from fmtutor.notation import Time, batch_label, batch_time

__all__ = ["TokenTransformer", "TokenTransformerConfig"]


@dataclass(frozen=True)
class TokenTransformerConfig:
    """What describes a `TokenTransformer` in full; numbers out of their range are refused.

    Attributes:
        tokens: Number of tokens that the data has.
        length: Tokens of a sequence.
        masked: Whether there is a mask, one token more.
        timed: Whether the network is told the time: under a mask the posterior does not need it.
        causal: Whether a place sees only itself and what stands before it. So a network that reads
            on from left to right is made, to be given the tokens moved by one place.
        rotary: Whether attention is told how far apart two tokens stand, and no token where it is.
            For windows that begin anywhere in a text, where places say nothing and distances all.
        classes: Number of labels, without the null label; 0 for a network that takes none.
        width: Numbers for each place.
        depth: Blocks.
        heads: Heads of an attention, which share the width.
        mlp_ratio: Units between the two layers of a block's perceptron, as a multiple of `width`.
        dropout: Probability with which a block drops a value of what it adds, in training.
    """

    tokens: int
    length: int
    masked: bool = True
    timed: bool = False
    causal: bool = False
    rotary: bool = False
    classes: int = 0
    width: int = 96
    depth: int = 4
    heads: int = 4
    mlp_ratio: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        sizes = (self.length, self.width, self.depth, self.heads, self.mlp_ratio)
        if self.tokens < 2 or min(sizes) < 1 or self.classes < 0:
            raise ValueError(
                f"there must be at least 2 tokens, sizes of at least 1, but {self} came"
            )
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, but {self} came")
        if self.rotary and self.width // self.heads % 2:
            raise ValueError(
                f"the heads of a rotary network must have an even width, but {self} came"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), but {self.dropout} came")


def _places(length: int, width: int) -> Tensor:
    """Return sines and cosines of the places 0, 1, ..., `[length width]`, the fastest of period 2.

    Places that stand beside each other are alike, and by how much two are alike says how far apart
    they are. With such a beginning attention soon finds the neighbours; from places that begin as
    noise a masked network learned for minutes no more than how frequent each token is.
    """
    waves: Tensor = TimeEmbedding(width + width % 2, 64.0)(torch.arange(length) / 128)
    return waves[:, :width]


class TokenTransformer(nn.Module):
    """Logits of the data's tokens, called as logits(x, t) or, with classes, as logits(x, t, label).

    At first all tokens are as likely, since the last layer starts at 0.

    Args:
        config: Its description.

    Raises:
        TypeError: When called, if tokens are not int64.
        ValueError: When called, if x is not `[b length]`, tokens are out of range, or labels come
            to a network without.

    Reference: peebles2023, sahoo2024, su2024
    """

    def __init__(self, config: TokenTransformerConfig) -> None:
        super().__init__()
        self.config, self.classes, width = config, config.classes, config.width
        self.token = nn.Embedding(config.tokens + config.masked, width)
        self.place = None if config.rotary else nn.Parameter(_places(config.length, width))
        self.labels = nn.Embedding(config.classes + 1, width) if config.classes else None
        self.time = nn.Sequential(TimeEmbedding(64), nn.Linear(64, width)) if config.timed else None
        self.constant = nn.Parameter(torch.zeros(width))
        kind = TransformerConfig(
            width=width, heads=config.heads, mlp_ratio=config.mlp_ratio, dropout=config.dropout
        )
        blocks = [
            Block(kind, causal=config.causal, rotary=config.rotary) for _ in range(config.depth)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, config.tokens)
        for layer in (self.last, *(block.modulation for block in blocks)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():  # gates that are open: there may be nothing to modulate by
            for block in blocks:
                block.modulation.bias.view(6, width)[[2, 5]] = 1.0

    def forward(self, x: Tensor, t: Time, label: Tensor | int | None = None) -> Tensor:
        """Return logits `[b length tokens]` of tokens `[b length]`."""
        check_tokens(x, self.token.num_embeddings)
        if x.shape[1:] != (self.config.length,):
            raise ValueError(f"x must have shape [b, {self.config.length}], but {[*x.shape]} came")
        h = self.token(x)
        if self.place is not None:
            h = h + self.place
        emb = self.constant.expand(len(x), -1)
        if self.time is not None:
            emb = emb + self.time(batch_time(t, h))
        if self.labels is not None:
            emb = emb + self.labels(batch_label(label, x, self.classes))
        elif label is not None:
            raise ValueError("a label came to a network without: TokenTransformerConfig.classes")
        emb = functional.silu(emb)
        for block in self.blocks:
            h = block(h, emb)
        logits: Tensor = self.last(self.norm(h))
        return logits

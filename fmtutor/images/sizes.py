"""How large a transformer is, and what a picture costs it: operations, and bytes that are kept."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PRECISIONS", "SIZES", "Size"]

PRECISIONS = {"float32": 4, "bfloat16": 2}
"""The bytes of a number."""


@dataclass(frozen=True)
class Size:
    """What the costs of a transformer depend on.

    Attributes:
        weights: Number of its weights.
        depth: Number of its blocks.
        width: Numbers in a token.
        tokens: Tokens of a picture.

    Chapter: scale
    """

    weights: int
    depth: int
    width: int
    tokens: int

    def flops(self, *, activation_checkpointing: bool = False) -> float:
        """Return the operations that a picture costs in training: three times those of a call.

        A call takes 2 for each weight that sees a token (12 width² of a block), 4 width for each
        pair of tokens in attention, and 2 for each weight that sees the time alone (6 width²).
        Blocks that are computed again make it four times.
        """
        seen = 24 * self.tokens * self.width**2 + 4 * self.tokens**2 * self.width
        passes = 4 if activation_checkpointing else 3
        return passes * self.depth * (seen + 12 * self.width**2)

    def activations(
        self, precision: str = "bfloat16", *, activation_checkpointing: bool = False
    ) -> float:
        """Return the bytes that a picture keeps for the backward pass.

        A block keeps 23 numbers for each of a token's: 19 in the precision of the products and 4,
        what goes into its two norms and comes out of them, in float32; fused attention keeps no
        pairs. Where blocks are computed again each keeps its input, and one of them the rest.
        """
        number = self.tokens * self.width
        block = number * (19 * PRECISIONS[precision] + 16)
        if activation_checkpointing:
            return self.depth * number * 4 + block
        return self.depth * block


SIZES = {
    "35 M": Size(35_000_000, 12, 384, 256),
    "130 M": Size(130_000_000, 12, 768, 256),
    "675 M": Size(675_000_000, 28, 1152, 256),
}
"""Transformers of three sizes, for latents or pictures of 256 patches."""

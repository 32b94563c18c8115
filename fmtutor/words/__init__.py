"""English words as sequences of tokens: a data set of letters that comes with the package.

The words are those of 2 to 10 letters a to z of Debian's list `wamerican` (version 2020.12.07),
which is made of SCOWL; whose they are, and that they may be passed on, says the file COPYRIGHT.

Chapter: discrete
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fmtutor.checking import check_points
from fmtutor.networks.stored import read_network, write_network
from fmtutor.networks.tokens import TokenTransformer, TokenTransformerConfig

__all__ = [
    "BLANK", "LENGTH", "TOKENS", "Words", "as_tokens", "as_words", "english_words", "save_speller",
    "speller",
]  # fmt: skip

LENGTH = 10
"""Letters of the longest words; shorter ones are filled up with blanks."""

BLANK = 26
"""The token behind the last letter; 0 is a, 25 is z."""

TOKENS = 27
"""How many tokens there are, the blank included."""

FILE = Path(__file__).with_name("american-english.txt.gz")
SPELLER = Path(__file__).with_name("speller.safetensors")


class Words(NamedTuple):
    """Words to train with, and others that are kept back: int64 `[n 10]` each."""

    train: Tensor
    test: Tensor


def english_words() -> Words:
    """Return the words, nine tenths of them to train with; which, a hash of the word decides.

    Example:
        >>> train, test = english_words()
        >>> len(train), len(test), as_words(test[:3])
        (47205, 5178, ['abdomens', 'abductor', 'abilities'])
    """
    words = gzip.decompress(FILE.read_bytes()).decode("ascii").split()
    kept = torch.tensor([zlib.crc32(word.encode()) % 10 == 0 for word in words])
    tokens = as_tokens(words)
    return Words(tokens[~kept], tokens[kept])


def as_tokens(words: Sequence[str]) -> Tensor:
    """Return words of at most 10 letters a to z as tokens, int64 `[n 10]`.

    Raises:
        ValueError: If a word is longer, or holds something else.

    Example:
        >>> as_tokens(["cab"])
        tensor([[ 2,  0,  1, 26, 26, 26, 26, 26, 26, 26]])
    """
    for word in words:
        if not (len(word) <= LENGTH and all("a" <= letter <= "z" for letter in word)):
            raise ValueError(f"a word has at most {LENGTH} letters a to z, but {word!r} came")
    codes = [[ord(letter) - ord("a") for letter in word] for word in words]
    return torch.tensor([code + [BLANK] * (LENGTH - len(code)) for code in codes])


def as_words(tokens: Tensor) -> list[str]:
    """Return tokens `[n 10]` as words; blanks at the end go, others are spaces, masks are dots.

    Example:
        >>> as_words(torch.tensor([[2, 0, 27, 26, 1, 26, 26]]))
        ['ca. b']
    """
    check_points(tokens, "tokens", floating=False)
    letters = "abcdefghijklmnopqrstuvwxyz ."
    return ["".join(letters[token] for token in row).rstrip() for row in tokens.tolist()]


def save_speller(network: TokenTransformer) -> None:
    """Store a `network` that has learned the words, in half precision, for `speller`."""
    write_network(SPELLER, network, torch.float16, config=json.dumps(asdict(network.config)))


def speller() -> TokenTransformer:
    """Return the network that `benchmarks/spelling.py` trained on the words, without gradients.

    Its source is masks: `MixturePath(TOKENS)`.

    Example:
        >>> logits = speller()(as_tokens(["flow"]), 0.5)  # all letters are seen
        >>> logits.shape
        torch.Size([1, 10, 27])
    """

    def build(told: dict[str, str]) -> TokenTransformer:
        return TokenTransformer(TokenTransformerConfig(**json.loads(told["config"])))

    return read_network(SPELLER, build)[0]

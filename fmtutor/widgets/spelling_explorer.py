"""Words that a trained network writes, letter by letter, around the letters that are given."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.networks.tokens import TokenTransformer
from fmtutor.plotting import COLORS
from fmtutor.widgets.base import Finite, LiveFigure
from fmtutor.widgets.packing import pack_bytes
from fmtutor.widgets.rng import Random
from fmtutor.widgets.token_network import light, pack_token_network
from fmtutor.words import BLANK, LENGTH, TOKENS, as_words, english_words, speller

__all__ = ["SpellingExplorer", "is_known", "network", "word_filter"]

WORDS = 24
COLUMNS, NARROW_COLUMNS = 3, 2
MOST = 20  # steps
OPEN = TOKENS  # the mask
BITS, HASHES = 2**19, 7  # of the filter: ten bits a word


@cache
def network() -> TokenTransformer:
    """Return the trained network with the weights that the page has."""
    return light(speller())


def _places(tokens: list[int]) -> list[int]:
    """Return which bits of the filter a word has, given as its tokens."""
    ends = []
    for h in (0x811C9DC5, 0x85EBCA6B):
        for token in tokens:
            h = ((h ^ token) * 0x01000193) & 0xFFFFFFFF
        ends.append(h ^ (h >> 15))
    return [(ends[0] + k * (ends[1] | 1)) % BITS for k in range(HASHES)]


@cache
def word_filter() -> Tensor:
    """Return a Bloom filter of the dictionary, uint8 `[65536]`.

    It knows every word, and takes less than one in a hundred others for one.

    Reference: bloom1970
    """
    bits = torch.zeros(BITS, dtype=torch.bool)
    for row in torch.cat(english_words()).tolist():
        bits[_places(row)] = True
    powers = (2 ** torch.arange(8)).to(torch.uint8)
    return (bits.view(-1, 8) * powers).sum(1).to(torch.uint8)


def is_known(tokens: Tensor) -> bool:
    """Return whether the filter takes tokens `[10]` for a word; one with masks is none."""
    if bool((tokens > BLANK).any()):
        return False
    table = word_filter()
    return all(int(table[at // 8]) >> at % 8 & 1 for at in _places(tokens.tolist()))


class SpellingExplorer(LiveFigure):
    """Words of a trained network on their way from masks to letters.

    Each open place has a time at which its letter comes; in a step all come whose time is over,
    each by the network's law, given what stood there before the step.

    Attributes:
        pattern: The letters that are given, and a dot for each that is open: 1 to 10 characters.
            Behind them are blanks; ten dots leave the length open.
        steps: Number of equal steps, from 1 to 20.
        time: The time shown, from 0 to 1.
        seed: Seed of the words, from 0 to 999.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: discrete
    """

    file = "spelling_explorer"

    pattern = traitlets.Unicode("m...ing").tag(sync=True)
    steps = traitlets.Int(10, min=1, max=MOST).tag(sync=True)
    time = Finite(1.0, min=0.0, max=1.0).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=999).tag(sync=True)

    _aspect = traitlets.Float(2.6).tag(sync=True)
    _narrow = traitlets.Float(0.95).tag(sync=True)
    _controls = traitlets.Int(5).tag(sync=True)
    _network = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._network = pack_token_network(network())
        self._settings = {
            "words": WORDS,
            "columns": COLUMNS,
            "narrowColumns": NARROW_COLUMNS,
            "most": MOST,
            "dictionary": pack_bytes(word_filter()),
            "hashes": HASHES,
        }

    @traitlets.validate("pattern")
    def _valid_pattern(self, proposal: dict[str, Any]) -> str:
        pattern = str(proposal["value"])
        if not re.fullmatch(rf"[a-z.]{{1,{LENGTH}}}", pattern):
            raise traitlets.TraitError(
                f"pattern must be 1 to {LENGTH} letters a to z or dots, but {pattern!r} came"
            )
        return pattern

    def start(self) -> Tensor:
        """Return what is there at first, tokens `[10]`: letters, masks, blanks."""
        given = [OPEN if c == "." else ord(c) - ord("a") for c in self.pattern]
        return torch.tensor(given + [BLANK] * (LENGTH - len(given)))

    def path(self) -> Tensor:
        """Return the words after each step, tokens `[steps + 1, 24, 10]`."""
        random = Random(self.seed)
        clocks, choices = (
            torch.tensor([random.uniform() for _ in range(WORDS * LENGTH)], dtype=torch.float64)
            .view(WORDS, LENGTH) for _ in range(2)
        )  # fmt: skip
        path = [self.start().expand(WORDS, LENGTH)]
        for step in range(1, self.steps + 1):
            x = path[-1]
            law = network()(x, 0.0).double().softmax(2)
            letters = (law.cumsum(2) < choices[..., None]).sum(2).clamp(max=TOKENS - 1)
            path.append(torch.where((x == OPEN) & (clocks <= step / self.steps), letters, x))
        return torch.stack(path)

    @property
    def step(self) -> int:
        """The step that is shown: the last one whose time has come."""
        return int(self.time * self.steps + 1e-9)

    def words_known(self) -> int:
        """Return how many of the words at the end the filter takes for words."""
        return sum(map(is_known, self.path()[-1]))

    def _draw(self, figure: Figure) -> None:
        ax = figure.subplots()
        rows = WORDS // COLUMNS
        ax.set(xlim=(0, COLUMNS * (LENGTH + 1.5)), ylim=(rows, 0))
        ax.axis("off")
        now, given = self.path()[self.step], self.start() != OPEN
        for k, (word, tokens) in enumerate(zip(as_words(now), now, strict=True)):
            weight, ink = ("bold", "data") if is_known(tokens) else ("normal", "exact")
            for i, letter in enumerate(word):
                soft = bool(given[i]) or letter == " "
                color = COLORS["noise" if letter == "." else "text" if soft else ink]
                at = (k // rows * (LENGTH + 1.5) + i + 1, k % rows + 0.5)
                mark = {" ": "_", ".": "·"}.get(letter, letter)
                drawn = ax.text(*at, mark, ha="center", va="center", color=color, weight=weight)
                drawn.set_alpha(0.55 if soft else 1.0)

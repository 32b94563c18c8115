"""n-grams, tuned as honestly as what they are compared with."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable


class NGram:
    """Symbols by the n − 1 before them: absolute discounting, interpolated down to no context.

    Args:
        texts: What is counted, from the symbol of number `first` on; those before are only seen.
        order: n.
        discount: What each count loses to shorter contexts, in (0, 1).
        alphabet: The symbols that may follow.
        first: How many symbols of each text are given.
    """

    def __init__(
        self, texts: Iterable[str], order: int, discount: float, alphabet: str, first: int = 0
    ) -> None:
        self.order, self.discount, self.alphabet, self.first = order, discount, alphabet, first
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            for i in range(first, len(text)):
                for n in range(min(order, i + 1)):
                    self.counts[text[i - n : i]][text[i]] += 1
        self.totals = {context: sum(found.values()) for context, found in self.counts.items()}

    def law(self, context: str) -> dict[str, float]:
        """Return the law of the next symbol."""
        law = dict.fromkeys(self.alphabet, 1 / len(self.alphabet))
        for found, keep, rest in self._levels(context):
            law = {c: max(found[c] - self.discount, 0) * keep + rest * p for c, p in law.items()}
        return law

    def bits(self, text: str) -> float:
        """Return −log₂ p of a text after its first symbols, which are given."""
        total = 0.0
        for i in range(self.first, len(text)):
            p = 1 / len(self.alphabet)
            for found, keep, rest in self._levels(text[max(0, i - self.order + 1) : i]):
                p = max(found[text[i]] - self.discount, 0) * keep + rest * p
            total -= math.log2(p)
        return total

    def _levels(self, context: str) -> Iterable[tuple[Counter[str], float, float]]:
        """Counts, what one is worth and what is left over, from no context to all of it."""
        for n in range(min(self.order, len(context) + 1)):
            key = context[len(context) - n :]
            if key not in self.totals:
                return
            found, total = self.counts[key], self.totals[key]
            yield found, 1 / total, self.discount * len(found) / total

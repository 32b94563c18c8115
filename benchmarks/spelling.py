"""Words, letter by letter: masked flows beside n-grams that were tuned as honestly.

Both see the same words and are judged by the same that were kept back: bits a word (of a flow the
bound, and a closer one, by a mean over orders of writing), then of 5,000 words that each writes how
many are words, for their lengths; how many are malformed (a letter behind a blank); how their
lengths and pairs of letters differ from those of the words; how many of the real ones were seen in
training. A flow writes in several numbers of steps, and one letter at a time in a random order
("order"). Rows that the result holds are not made again. With `--ship` the network of seed 0 goes
into the package.

    python benchmarks/spelling.py ngrams
    python benchmarks/spelling.py flow --minutes 2 --seeds 0 1 2
    python benchmarks/spelling.py flow --minutes 30 --seeds 0 1 2 --ship

CPU minutes of one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from machine import is_recorded, processor, recorded, steps_within, versions
from ngrams import NGram
from torch import Tensor

from fmtutor import minimise
from fmtutor.jumps import (
    bits_bound,
    bits_loss,
    bits_of_orders,
    sample_in_random_order,
    sample_tokens,
)
from fmtutor.networks.tokens import TokenTransformer, TokenTransformerConfig
from fmtutor.paths import MixturePath
from fmtutor.words import LENGTH, TOKENS, Words, as_words, english_words, save_speller

OUT = Path(__file__).parent / "results" / "spelling.json"
ORDERS = (2, 3, 4, 5, 6, 7, 8)
DISCOUNTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
STEPS = (1, 2, 4, 10, 32, 100)
WRITTEN = 5000
KEPT_BY = 50_000  # words by which the share of those that are kept is judged
ORDERS_OF_WRITING = 16
ALPHABET = "abcdefghijklmnopqrstuvwxyz$"  # the last is the end of a word
PATH = MixturePath(TOKENS)
DESCRIPTION = TokenTransformerConfig(TOKENS, LENGTH, width=64, depth=3, heads=4)
BATCH, LR = 128, 4e-3


class Speller(NGram):
    """Letters of words, between beginnings and an end."""

    def __init__(self, words: list[str], order: int, discount: float) -> None:
        self.start = "^" * (order - 1)
        texts = (self.start + word + "$" for word in words)
        super().__init__(texts, order, discount, ALPHABET, first=order - 1)

    def word_bits(self, word: str) -> float:
        return self.bits(self.start + word + "$")

    def write(self, count: int, seed: int) -> tuple[list[str], float]:
        """Return words of 2 to 10 letters, and the share that they are of all that came."""
        g, written, tried = torch.Generator().manual_seed(seed), [], 0
        laws: dict[str, Tensor] = {}
        while len(written) < count:
            tried += 1
            text = self.start
            while not text.endswith("$") and len(text) < LENGTH + self.order:
                context = text[len(text) - self.order + 1 :]
                if context not in laws:
                    laws[context] = torch.tensor([*self.law(context).values()]).double()
                text += ALPHABET[int(torch.multinomial(laws[context], 1, generator=g))]
            word = text.strip("^$")
            if text.endswith("$") and 2 <= len(word) <= LENGTH:
                written.append(word)
        return written, count / tried


def judged(written: list[str], train: list[str], test: list[str]) -> dict[str, float]:
    """Compare words that were written with the words that there are."""
    seen, kept = {*train}, {*test}
    every = [*train, *test]
    good = [word for word in written if word and " " not in word and "." not in word]
    real = [word for word in good if word in seen or word in kept]
    lengths = Counter(map(len, every))
    share = {n: count / len(every) for n, count in lengths.items()}
    own = Counter(map(len, good))
    hits = Counter(map(len, real))
    # As if the lengths were those of the words: short ones hit more easily.
    matched = sum(share[n] * hits[n] / own[n] for n in share if own[n])
    pairs, all_pairs = (
        Counter(word[i : i + 2] for word in words for i in range(len(word) - 1))
        for words in (good, every)
    )
    return {
        "malformed": 1 - len(good) / len(written),
        "real": len(real) / len(written),
        "real_matched": matched,
        "recited": sum(word in seen for word in real) / max(1, len(real)),
        "length_tv": 0.5
        * sum(abs(own[n] / max(1, len(good)) - share.get(n, 0)) for n in range(12)),
        "pairs_js": divergence(pairs, all_pairs),
    }


def divergence(a: Counter[str], b: Counter[str]) -> float:
    """The Jensen–Shannon divergence of two histograms, in bits."""
    p, q = ({key: count / max(1, sum(c.values())) for key, count in c.items()} for c in (a, b))
    total = 0.0
    for key in p.keys() | q.keys():
        m = (p.get(key, 0) + q.get(key, 0)) / 2
        total += sum(x * math.log2(x / m) / 2 for x in (p.get(key, 0), q.get(key, 0)) if x)
    return total


def ngram_rows(train: list[str], test: list[str]) -> list[dict[str, Any]]:
    rows = []
    tuned, judge = train[::10], [word for i, word in enumerate(train) if i % 10]
    for order in ORDERS:
        by = {d: statistics.mean(map(Speller(judge, order, d).word_bits, tuned)) for d in DISCOUNTS}
        discount = min(by, key=by.__getitem__)
        model = Speller(train, order, discount)
        written, kept = model.write(KEPT_BY, 0)
        # Given that the word has 2 to 10 letters, as all that it is asked for have.
        bits = [model.word_bits(word) + math.log2(kept) for word in test]
        rows.append(
            {
                "model": f"{order}-gram",
                "discount": discount,
                "kept": kept,
                "bits": statistics.mean(bits),
                "bits_error": statistics.stdev(bits) / len(bits) ** 0.5,
                "samples": judged(written[:WRITTEN], train, test),
            }
        )
        print(rows[-1], flush=True)
    return rows


def flow_row(minutes: float, width: int, seed: int, words: Words, ship: bool) -> dict[str, Any]:
    train, test = words
    description = replace(DESCRIPTION, width=width)

    def run(steps: int) -> TokenTransformer:
        torch.manual_seed(seed)
        settings = {"batch_size": BATCH, "lr": LR, "seed": seed, "progress": False}
        model = TokenTransformer(description)
        return minimise(model, train, bits_loss(PATH), steps=steps, **settings).model

    steps, start = steps_within(run, minutes), time.process_time()
    model = run(steps)
    seconds = time.process_time() - start
    if ship and seed == 0:
        save_speller(model)
    bits = bits_bound(model, test, PATH, draws=20, seed=0)
    closer = bits_of_orders(model, test, PATH, orders=ORDERS_OF_WRITING, seed=0)
    every = as_words(train), as_words(test)
    x0 = PATH.noise(torch.zeros(WRITTEN, LENGTH, dtype=torch.long))
    samples = {
        str(n): judged(as_words(sample_tokens(model, x0, PATH, steps=n, seed=0)), *every)
        for n in STEPS
    }
    in_order = sample_in_random_order(model, x0, PATH, seed=0)
    return {
        "model": "flow",
        "minutes": minutes,
        "width": width,
        "seed": seed,
        "steps": steps,
        "weights": sum(p.numel() for p in model.parameters()),
        "cpu_seconds": round(seconds),
        "bits": bits.mean().item(),
        "bits_error": (bits.std() / len(bits) ** 0.5).item(),
        "orders": ORDERS_OF_WRITING,
        "bits_of_orders": closer.mean().item(),
        "bits_of_orders_error": (closer.std() / len(closer) ** 0.5).item(),
        "samples": samples | {"order": judged(as_words(in_order), *every)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["ngrams", "flow"])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--width", type=int, default=DESCRIPTION.width)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ship", action="store_true", help="store the network of seed 0")
    options = parser.parse_args()
    torch.set_num_threads(1)
    words = english_words()

    def keep(*rows: dict[str, Any]) -> None:
        about = {"machine": processor(), "versions": versions("fmtutor")}
        text = json.dumps(
            {"rows": [*recorded(OUT)["rows"], *(row | about for row in rows)]}, indent=1
        )
        OUT.write_text(text + "\n", "utf-8")

    if options.what == "ngrams":
        if not is_recorded(OUT, {"model": "2-gram"}):
            keep(*ngram_rows(*map(as_words, words)))
        return
    for seed in options.seeds:
        key = {"model": "flow", "minutes": options.minutes, "width": options.width, "seed": seed}
        if not is_recorded(OUT, key):
            row = flow_row(options.minutes, options.width, seed, words, options.ship)
            keep(row)
            print(row, flush=True)


if __name__ == "__main__":
    main()

"""A page of text, character by character: a masked flow beside the same network reading on.

The text is the plays of Shakespeare in one file of 1.1 MB, 65 characters ("tiny Shakespeare"; the
plays are in the public domain), its last tenth held back. All are judged by the same windows of 64
characters, each by itself: bits a character, of the flow the bound. `reader` is the same
transformer, of the same size and minutes, whose places see only what stands before them. Of 200
windows that each writes: the share of words within them that the training text has, beside that of
the held-out windows. n-grams, tuned on the last tenth of the training text, see the same windows.
Both networks are rotary; `flow-places` is a flow that is told places instead of distances. Rows
that the result holds are not made again.

    python benchmarks/text.py ngrams
    python benchmarks/text.py flow reader --minutes 10 --seeds 0 1 2
    python benchmarks/text.py flow flow-places --minutes 2
    python benchmarks/text.py reader --minutes 0.5

CPU minutes of one thread; the file is downloaded, or is in --data-dir.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import is_recorded, processor, recorded, rounded, steps_within, versions
from ngrams import NGram
from torch import Tensor
from torch.nn import functional

from fmtutor import minimise
from fmtutor.images.download import RemoteFile, find_file, read_checked
from fmtutor.jumps import bits_bound, bits_loss, sample_tokens
from fmtutor.networks.tokens import TokenTransformer, TokenTransformerConfig
from fmtutor.paths import MixturePath

OUT = Path(__file__).parent / "results" / "text.json"
FILE = RemoteFile(
    "input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
)
LENGTH, TOKENS, HELD_OUT = 64, 65, 0.1
NETWORK = {"width": 96, "depth": 4, "heads": 4}
TRAINING = {"batch_size": 32, "lr": 4e-3, "warmup": 100}
ORDERS, DISCOUNTS = (2, 3, 4, 5, 6), (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
PATH = MixturePath(TOKENS)
WRITTEN, STEPS, DRAWS = 200, (8, 32, 128), 5


class Text:
    """The characters as tokens, and what is trained on and judged by."""

    def __init__(self, folder: Path | None) -> None:
        whole = read_checked(find_file(FILE, folder), FILE.sha256).decode("ascii")
        self.alphabet = "".join(sorted(set(whole)))
        cut = len(whole) - int(HELD_OUT * len(whole))
        self.train, rest = whole[:cut], whole[cut:]
        self.windows = self.tokens(self.train).unfold(0, LENGTH, 1)  # one begins everywhere
        held = self.tokens(rest)
        self.held_out = held[: len(held) // LENGTH * LENGTH].reshape(-1, LENGTH)
        self.words = {*re.findall(r"[A-Za-z']+", self.train)}

    def tokens(self, text: str) -> Tensor:
        number = {c: k for k, c in enumerate(self.alphabet)}
        return torch.tensor([number[c] for c in text])

    def read(self, tokens: Tensor) -> list[str]:
        return ["".join(self.alphabet[k] for k in row) for row in tokens.tolist()]

    def known(self, tokens: Tensor) -> float:
        """Return the share of words, none at a window's end, that the training text has."""
        inner = (re.findall(r"(?<=[^A-Za-z'])[A-Za-z']+(?=[^A-Za-z'])", t) for t in
                 self.read(tokens))  # fmt: skip
        found = [word in self.words for words in inner for word in words]
        return sum(found) / max(1, len(found))


# The reader: the same network, given the characters moved by one place.


def moved(x: Tensor) -> Tensor:
    """Return what stands before each place: the mask, which begins a window, then the tokens."""
    return torch.cat([torch.full_like(x[:, :1], TOKENS), x[:, :-1]], dim=1)


def nats(net: TokenTransformer, x: Tensor) -> Tensor:
    """Return −log p of each token by those before it, `[b n]`."""
    return functional.cross_entropy(net(moved(x), 0.0).mT, x, reduction="none")


def reader_loss(net: TokenTransformer, x1: Tensor, generator: Any = None) -> Tensor:
    return nats(net, x1).mean()


@torch.no_grad()
def written(net: TokenTransformer, seed: int) -> Tensor:
    """Return windows of a reader, character by character."""
    g, x = torch.Generator().manual_seed(seed), torch.zeros(WRITTEN, LENGTH, dtype=torch.long)
    for k in range(LENGTH):
        p = net(moved(x), 0.0)[:, k].softmax(1)
        x[:, k] = torch.multinomial(p, 1, generator=g)[:, 0]
    return x


# Rows.


def trained(
    text: Text,
    loss: Callable[..., Tensor],
    minutes: float,
    seed: int,
    *,
    causal: bool = False,
    rotary: bool = True,
) -> tuple[TokenTransformer, dict[str, Any]]:
    config = TokenTransformerConfig(TOKENS, LENGTH, causal=causal, rotary=rotary, **NETWORK)

    def run(steps: int) -> TokenTransformer:
        torch.manual_seed(seed)
        net = TokenTransformer(config)
        return minimise(
            net, text.windows, loss, steps=steps, seed=seed, progress=False,
            **TRAINING | {"warmup": min(TRAINING["warmup"], steps // 2)},
        ).model  # fmt: skip

    steps, start = steps_within(run, minutes), time.process_time()
    net = run(steps)
    return net, {
        "steps": steps,
        "cpu_seconds": round(time.process_time() - start),
        "weights": sum(p.numel() for p in net.parameters()),
        **NETWORK,
        **TRAINING,
    }


def flow(text: Text, minutes: float, seed: int, rotary: bool = True) -> dict[str, Any]:
    net, about = trained(text, bits_loss(PATH), minutes, seed, rotary=rotary)
    with torch.no_grad():
        bits = torch.cat(
            [bits_bound(net, x, PATH, draws=DRAWS, seed=0) for x in text.held_out.split(256)]
        )
    known = {}
    for n in STEPS:
        x0 = PATH.noise(torch.zeros(WRITTEN, LENGTH, dtype=torch.long))
        x = sample_tokens(net, x0, PATH, steps=n, seed=0)
        known[str(n)] = text.known(x)
    return about | in_bits(bits / LENGTH) | {"known": known, "shown": text.read(x[:3])}


def reader(text: Text, minutes: float, seed: int) -> dict[str, Any]:
    net, about = trained(text, reader_loss, minutes, seed, causal=True)
    with torch.no_grad():
        found = torch.cat([nats(net, x).mean(1) for x in text.held_out.split(256)])
    x = written(net, 0)
    about |= in_bits(found / torch.tensor(2.0).log())
    return about | {"known": {str(LENGTH): text.known(x)}, "shown": text.read(x[:3])}


MODELS: dict[str, Callable[..., dict[str, Any]]] = {
    "flow": flow,
    "flow-places": partial(flow, rotary=False),
    "reader": reader,
}


def in_bits(values: Tensor) -> dict[str, float]:
    return {"bits": values.mean().item(), "bits_error": (values.std() / len(values) ** 0.5).item()}


def ngram(text: Text, order: int) -> dict[str, Any]:
    cut = len(text.train) * 9 // 10
    tuned = [text.train[i : i + LENGTH] for i in range(cut, len(text.train) - LENGTH, LENGTH)]
    part = {d: NGram([text.train[:cut]], order, d, text.alphabet) for d in DISCOUNTS}
    discount = min(DISCOUNTS, key=lambda d: sum(map(part[d].bits, tuned)))
    model = NGram([text.train], order, discount, text.alphabet)
    bits = [model.bits(window) / LENGTH for window in text.read(text.held_out)]
    return {
        "discount": discount,
        "bits": statistics.mean(bits),
        "bits_error": statistics.stdev(bits) / len(bits) ** 0.5,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["ngrams", *MODELS], nargs="+")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = Text(options.data_dir)

    def keep(key: dict[str, Any], make: Callable[[], dict[str, Any]]) -> None:
        if is_recorded(options.out, key):
            return
        row = key | rounded(make()) | {"machine": processor(), "versions": versions("fmtutor")}
        result = {"length": LENGTH, "written": WRITTEN}
        result |= {"known_held_out": rounded(text.known(text.held_out))} | recorded(options.out)
        result["rows"].append(row)
        options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        print(row, flush=True)

    for what in options.what:
        if what == "ngrams":
            for order in ORDERS:
                keep({"model": f"{order}-gram"}, partial(ngram, text, order))
            continue
        for seed in options.seeds:
            key = {"model": what, "minutes": options.minutes, "seed": seed}
            keep(key, partial(MODELS[what], text, options.minutes, seed))


if __name__ == "__main__":
    main()

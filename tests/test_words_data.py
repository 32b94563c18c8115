"""The words that come with the package, and tokens of words."""

import pytest
import torch

from fmtutor.jumps import bits_bound
from fmtutor.paths import MixturePath
from fmtutor.words import (
    BLANK,
    LENGTH,
    TOKENS,
    as_tokens,
    as_words,
    english_words,
    save_speller,
    speller,
)


def test_the_words_are_words_and_each_is_on_one_side():
    train, test = english_words()
    words = as_words(train), as_words(test)
    every = {*words[0], *words[1]}
    assert len(every) == len(train) + len(test) == 52_383
    assert {"flow", "matching", "zebra"} <= every
    assert all(2 <= len(word) <= LENGTH and word.isalpha() and word.islower() for word in every)
    assert 0.09 < len(test) / len(every) < 0.11
    assert train.dtype == torch.int64
    assert (train.min(), train.max()) == (0, TOKENS - 1)


def test_words_survive_the_way_there_and_back():
    words = ["a", "flow", "abcdefghij"]
    tokens = as_tokens(words)
    assert tokens.shape == (3, LENGTH)
    assert tokens[0].tolist() == [0] + [BLANK] * 9
    assert as_words(tokens) == words
    assert as_words(torch.tensor([[5, 27, 26, 1]])) == ["f. b"]


@pytest.mark.parametrize("word", ["abcdefghijk", "Flow", "fl ow", "naïve"])
def test_what_is_no_word_is_refused(word):
    with pytest.raises(ValueError, match=f"at most 10 letters a to z, but '{word}' came"):
        as_tokens(["fine", word])


def test_the_speller_knows_more_than_which_letters_are_frequent():
    spell, path = speller(), MixturePath(TOKENS)
    _, test = english_words()
    some = test[:: len(test) // 300]
    counts = torch.bincount(some.flatten(), minlength=TOKENS)
    alone = -(counts / counts.sum()).clamp(min=1e-9).log2()[some].sum(1).mean()
    bits = bits_bound(spell, some, path, draws=4, seed=0).mean()
    assert 20 < bits < 0.85 * alone
    assert not any(p.requires_grad for p in spell.parameters())


def test_the_speller_leaves_random_numbers_alone_and_comes_back(tmp_path, monkeypatch):
    spell = speller()
    monkeypatch.setattr("fmtutor.words.SPELLER", tmp_path / "speller.safetensors")
    save_speller(spell)
    torch.manual_seed(2)
    expected = torch.rand(1)
    torch.manual_seed(2)
    again = speller()
    assert torch.equal(torch.rand(1), expected)
    x = as_tokens(["flow", "matching"])
    assert torch.equal(again(x, 0.5), spell(x, 0.5))
    assert (tmp_path / "speller.safetensors").stat().st_size < 1_000_000

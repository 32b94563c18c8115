"""The words that come with the package, and tokens of words."""

import pytest
import torch

from fmtutor.words import BLANK, LENGTH, TOKENS, as_tokens, as_words, english_words


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

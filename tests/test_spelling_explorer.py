"""Words that a network writes in the page: traits, filter, picture, and the figure in a browser."""

import random
import re
from itertools import pairwise

import pytest
import torch
from browsing import (
    PHONE,
    change,
    control,
    ink,
    no_buffers,
    pictures_stay,
    poison,
    reaches,
    says,
    slide,
)
from traitlets import TraitError

from fmtutor.jumps import bits_bound
from fmtutor.networks.tokens import TokenTransformer, TokenTransformerConfig
from fmtutor.paths import MixturePath
from fmtutor.widgets import SpellingExplorer
from fmtutor.widgets.spelling_explorer import OPEN, WORDS, is_known, network, word_filter
from fmtutor.widgets.token_network import light, pack_token_network
from fmtutor.words import TOKENS, as_tokens, as_words, english_words, speller


def agrees(page, figure):
    """Whether the line of text is that of the package."""
    head = rf"^step {figure.step} of {figure.steps}: "
    left = int((figure.path()[figure.step] == OPEN).sum())
    places = "place is" if left == 1 else "places are"
    rest = f"{left} {places} open" if left else f"{figure.words_known()} of {WORDS} are words"
    says(page, head + rest)
    return True


def test_the_defaults_and_what_can_be_set():
    figure = SpellingExplorer()
    figure.pattern = "st.."
    assert repr(figure) == "SpellingExplorer(pattern='st..', seed=0, steps=10, time=1)"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"pattern": ""}, "1 to 10 letters a to z or dots, but '' came"),
        ({"pattern": "abcdefghijk"}, "but 'abcdefghijk' came"),
        ({"pattern": "Ab."}, "but 'Ab.' came"),
        ({"pattern": "a b"}, "but 'a b' came"),
        ({"steps": 0}, "steps"),
        ({"steps": 21}, "steps"),
        ({"time": 1.1}, "time"),
        ({"time": float("nan")}, "time must be finite"),
        ({"seed": 1000}, "seed"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        SpellingExplorer(**bad)


def test_the_light_network_computes_what_the_speller_does():
    """Rounding costs next to nothing, and nothing is left to modulate by."""
    x = english_words().test[:300]
    whole, small = speller(), network()
    hidden = x.clone()
    hidden[:, ::2] = OPEN
    off = (small(hidden, 0.0).softmax(2) - whole(hidden, 0.0).softmax(2)).abs().max()
    assert 1e-5 < off < 0.1
    path = MixturePath(TOKENS)
    exact, rounded = (bits_bound(net, x, path, draws=10, seed=0).mean() for net in (whole, small))
    assert 0 < (rounded - exact).abs() < 0.05
    assert all(block.modulation.weight.abs().max() == 0 for block in small.blocks)
    for weights in (small.last.weight, small.token.weight, small.blocks[0].qkv.weight):
        codes = weights / weights.abs().amax(1, keepdim=True) * 127
        torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=0)


def test_what_modulates_by_constants_and_what_normalises_is_put_in():
    torch.manual_seed(0)
    net = TokenTransformer(TokenTransformerConfig(6, 4, width=8, depth=2, heads=2))
    with torch.no_grad():
        for weights in net.parameters():
            weights.normal_(0, 0.4)
    x = torch.randint(7, (50, 4), generator=torch.Generator().manual_seed(1))
    rounded, exact = light(net)(x, 0.0), net(x, 0.0)
    off = (rounded - exact).norm() / exact.norm()
    assert 1e-4 < off < 0.05, "as far apart as eight bits are"


@pytest.mark.parametrize(
    "kind",
    [{"timed": True}, {"classes": 2}, {"causal": True}, {"rotary": True}, {"masked": False}],
)
def test_other_networks_are_refused(kind):
    net = TokenTransformer(TokenTransformerConfig(4, 3, width=8, depth=1, heads=2, **kind))
    with pytest.raises(ValueError, match="only a network with a mask and learned places, without"):
        light(net)


def test_the_page_loads_a_byte_a_weight():
    packed = pack_token_network(network())
    sizes = {name: len(packed[name]["data"]) for name in ("codes", "steps", "biases")}
    matrices = sum(w.numel() for name, w in network().named_parameters() if w.ndim == 2
                   and "modulation" not in name)  # fmt: skip
    assert sizes["codes"] == matrices
    assert 100_000 < sum(sizes.values()) < 170_000


def test_the_filter_knows_all_words_and_hardly_another():
    words = torch.cat(english_words())
    assert len(word_filter()) == 2**16
    assert all(map(is_known, words[::7]))
    r = random.Random(0)
    real = {*as_words(words)}
    made = ["".join(r.choices("etaoinshrdlu", k=r.randint(4, 9))) for _ in range(3000)]
    wrong = [is_known(row) for row in as_tokens([word for word in made if word not in real])]
    assert 0.001 < sum(wrong) / len(wrong) < 0.02


def test_a_word_is_judged_when_it_is_whole():
    """Without a rule of its own the filter would take one in a hundred open words for known."""
    words = torch.cat(english_words())[::10].clone()
    assert all(map(is_known, words[:500]))
    words[:, 1] = OPEN
    assert not any(map(is_known, words))


def test_the_figure_as_it_is_first_seen_says_what_is_true():
    real = {*as_words(torch.cat(english_words()))}
    figure = SpellingExplorer()
    written = as_words(figure.path()[-1])
    assert figure.words_known() == sum(word in real for word in written) > 2


def test_words_come_step_by_step_around_what_is_given():
    figure = SpellingExplorer(pattern="s..p", steps=8)
    path = figure.path()
    assert path.shape == (9, WORDS, 10)
    open_places = (path == OPEN).sum((1, 2)).tolist()
    assert open_places[0] == 2 * WORDS
    assert open_places[-1] == 0
    assert open_places == sorted(open_places, reverse=True)
    assert len({*open_places}) > 5
    for before, after in pairwise(path):
        assert torch.equal(after[before != OPEN], before[before != OPEN]), "what is there stays"
    assert all(re.fullmatch(r"s.{2}p", word) for word in as_words(path[-1]))


def test_letters_see_those_that_came_before():
    """In one step they do not: fewer of the words are words."""
    known = {
        steps: sum(SpellingExplorer(pattern="m...ing", steps=steps, seed=k).words_known()
                   for k in range(12))
        for steps in (1, 20)
    }  # fmt: skip
    assert 1.5 * known[1] < known[20] < 12 * WORDS


def test_a_picture_of_every_state():
    states = [{}, {"pattern": "."}, {"steps": 2}, {"time": 0.5}, {"seed": 1}]
    assert len({SpellingExplorer(**state).picture() for state in states}) == len(states)


def test_alive_and_as_the_package_computes_it(live):
    figure = SpellingExplorer()
    page = live(figure)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    assert agrees(page, figure)
    seen = [ink(page)]
    for label, trait, value in (("steps", "steps", 3), ("time t", "time", 0.5)):
        slide(page, label, value)
        setattr(figure, trait, value)
        assert agrees(page, figure)
        seen.append(ink(page))
    page.get_by_role("button", name="Other words").click()
    figure.seed = 1
    assert agrees(page, figure)
    seen.append(ink(page))
    assert len({tuple(s) for s in seen}) == 4, "each control changes the picture"
    page.get_by_role("button", name="Reset").click()
    assert agrees(page, SpellingExplorer())
    assert ink(page) == seen[0]
    assert not page.trouble, page.trouble


def test_a_pattern_is_typed(live):
    page = live(SpellingExplorer())
    first, box = ink(page), control(page, "pattern")
    box.fill("Th?n ")
    box.press("Enter")
    assert box.input_value() == "th.n"
    assert agrees(page, SpellingExplorer(pattern="th.n"))
    assert ink(page) != first
    assert "pattern th.n" in page.locator("canvas").get_attribute("aria-label")
    box.fill("TH.N!")
    box.press("Enter")
    assert box.input_value() == "th.n", "also where that is what it was"
    box.fill("")
    box.press("Enter")
    assert box.input_value() == "." * 10
    assert agrees(page, SpellingExplorer(pattern="." * 10))
    assert not page.trouble, page.trouble


def test_it_writes_from_the_first_letter_to_the_last(live):
    page = live(SpellingExplorer(time=0.0))
    assert agrees(page, SpellingExplorer(time=0.0))
    button = page.get_by_role("button", name="Write")
    button.click()
    reaches(page, "time t", "v > 0.3")
    says(page, rf"^step 10 of 10: {SpellingExplorer().words_known()} of")
    button.wait_for()
    button.click()  # from the end it begins anew
    reaches(page, "time t", "v < 0.9")
    assert not page.trouble, page.trouble


def test_it_is_handled_while_it_writes(live):
    page = live(SpellingExplorer(time=0.0, seed=999, steps=20))
    first = ink(page)
    page.get_by_role("button", name="Write").click()
    reaches(page, "time t", "v > 0.2")
    box = control(page, "pattern")
    box.fill("s.........")
    box.press("Enter")
    reaches(page, "time t", "v > 0.3")
    page.get_by_role("button", name="Reset").click()
    assert page.locator(".fm-playing").count() == 0
    assert agrees(page, SpellingExplorer(time=0.0, seed=999, steps=20))
    assert ink(page) == first
    page.get_by_role("button", name="Other words").click()
    slide(page, "time t", 1)
    assert agrees(page, SpellingExplorer(seed=0, steps=20)), "after the last seed comes the first"
    assert not page.trouble, page.trouble


def test_on_a_phone_the_words_stand_in_two_columns(live):
    page = live(SpellingExplorer(), size=PHONE, has_touch=True)
    assert agrees(page, SpellingExplorer())
    assert 0.3 < ink(page)[1] < 0.6, "ink left and right"
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [
        poison,
        no_buffers,
        change(pattern=""),
        change(pattern="A"),
        change(steps=0),
        change(time=1.5),
        change(_settings={}),
        change(_network={}),
        dict.clear,
    ]
    pictures_stay(live, SpellingExplorer, damages)

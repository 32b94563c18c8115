"""The pairs of tokens that jump: traits, picture, and the live figure in a browser."""

import math

import pytest
from browsing import (
    PHONE,
    change,
    control,
    ink,
    numbers,
    pictures_stay,
    reaches,
    readout,
    says,
    slide,
)
from traitlets import TraitError

from fmtutor.widgets import TokenExplorer
from fmtutor.widgets.token_explorer import LAWS, PAIRS, SCHEDULES, SOURCES

MASKED = r"^step {} of {}, κ = .*, formula \d"


def told(page):
    """Return what the line of text says: step, steps, κ, wrong pairs, pairs, the distances."""
    return numbers(readout(page))


def same(page, figure):
    """Whether the line of text is that of a state, but for the pairs, which are drawn."""
    step, steps, kappa, wrong, pairs, *ends = told(page)
    expected = [figure.error(figure.steps)]
    if figure.source == "mask" and not figure.renewal:
        expected.append(figure.formula(figure.steps))
    now = math.floor(figure.time * figure.steps + 1e-9)
    assert (step, steps, pairs) == (now, figure.steps, PAIRS)
    assert 0 <= wrong <= pairs
    assert kappa == pytest.approx(figure.path.schedule.kappa(now / figure.steps).item(), abs=0.0051)
    assert ends == pytest.approx(expected, abs=0.00051)
    return True


def test_the_defaults_and_what_can_be_set():
    figure = TokenExplorer()
    figure.steps = 4
    assert repr(figure) == (
        "TokenExplorer(law='two equal tokens', renewal=0, schedule='straight', seed=0, "
        "source='mask', steps=4, time=1)"
    )


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"law": "rings"}, "law must be one of two equal tokens, checkerboard, moons, but 'rings'"),
        ({"source": "noise"}, "source must be one of mask, uniform, but 'noise' came"),
        ({"schedule": "early"}, "schedule must be one of straight, late, cosine, but 'early' came"),
        ({"steps": 0}, "steps"),
        ({"steps": 33}, "steps"),
        ({"renewal": -1.0}, "renewal"),
        ({"renewal": math.nan}, "renewal must be finite"),
        ({"time": 1.1}, "time"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        TokenExplorer(**bad)


def test_the_theorem_holds_in_it():
    for law in LAWS:
        for schedule in SCHEDULES:
            figure = TokenExplorer(law=law, schedule=schedule)
            for steps in (1, 3, 32):
                assert figure.error(steps) == pytest.approx(figure.formula(steps), rel=1e-9)
    assert TokenExplorer().formula(2) == pytest.approx(0.45)
    assert TokenExplorer(renewal=20.0).error(32) > 1.5 * TokenExplorer().formula(32)


def test_a_picture_of_every_state():
    states = [
        {},
        {"time": 0.5},
        {"source": "uniform"},
        {"law": "moons", "steps": 8},
        {"schedule": "late", "steps": 4},
        {"renewal": 9.0},
        {"seed": 1},
    ]
    pictures = {TokenExplorer(**state).picture() for state in states}
    assert len(pictures) == len(states)
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_alive_and_as_the_package_computes_it(live):
    figure = TokenExplorer()
    page = live(figure)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    assert same(page, figure)
    assert 45 <= told(page)[3] <= 100, "nearly half of the pairs are wrong"
    seen = [ink(page)]
    for label, trait, value in (
        ("steps", "steps", 8),
        ("renewal η", "renewal", 5.0),
        ("renewal η", "renewal", 0.0),
        ("time t", "time", 0.5),
    ):
        slide(page, label, value)
        setattr(figure, trait, value)
        assert same(page, figure), (label, value)
        seen.append(ink(page))
    for label, trait, values in (
        ("source", "source", SOURCES[1:]),
        ("schedule", "schedule", [*SCHEDULES][1:]),
        ("data", "law", [*LAWS][1:]),
    ):
        for value in values:
            control(page, label).select_option(value)
            setattr(figure, trait, value)
            assert same(page, figure), (label, value)
            seen.append(ink(page))
    assert seen[3] == seen[1], "what was taken back is gone"
    assert len({tuple(s) for s in seen}) == len(seen) - 1, "each other change changes the picture"
    page.get_by_role("button", name="Reset").click()
    assert same(page, TokenExplorer())
    assert ink(page) == seen[0]
    assert not page.trouble, page.trouble


def test_another_draw_has_other_pairs_and_the_same_law(live):
    page = live(TokenExplorer())
    first, line = ink(page), readout(page)
    page.get_by_role("button", name="New draw").click()
    assert ink(page) != first
    assert told(page)[-2:] == numbers(line)[-2:]
    assert same(page, TokenExplorer(seed=1))
    assert not page.trouble, page.trouble


def test_at_the_start_all_is_masked_and_nothing_is_wrong(live):
    page = live(TokenExplorer(time=0.0))
    assert told(page)[:4] == [0, 2, 0, 0]
    slide(page, "time t", 0.49)
    assert told(page)[0] == 0, "a step is shown when its time has come"
    slide(page, "time t", 0.5)
    assert told(page)[0] == 1
    assert not page.trouble, page.trouble


def test_the_chain_plays_to_its_end(live):
    page = live(TokenExplorer(steps=8, time=0.0))
    button = page.get_by_role("button", name="Play")
    button.click()
    reaches(page, "time t", "v > 0.3")
    says(page, MASKED.format(8, 8))
    button.wait_for()
    assert same(page, TokenExplorer(steps=8))
    button.click()  # from the end it begins anew
    reaches(page, "time t", "v < 0.9")
    assert not page.trouble, page.trouble


def test_on_a_phone_both_panels_are_seen(live):
    page = live(TokenExplorer(law="moons", steps=4), size=PHONE, has_touch=True)
    assert same(page, TokenExplorer(law="moons", steps=4))
    assert 0.35 < ink(page)[2] < 0.65, "ink above and below"
    assert not page.trouble, page.trouble


def test_a_state_that_makes_no_sense_leaves_the_picture(live):
    damages = [
        change(law="rings"),
        change(source=""),
        change(schedule="early"),
        change(steps=0),
        change(renewal=-1),
        change(time=None),
        change(time=1.5),
        change(_settings={}),
        dict.clear,
    ]
    pictures_stay(live, TokenExplorer, damages)

"""What every live figure keeps: one test for each promise, for all figures."""

import re

import pytest
from browsing import LOOK, PHONE, changes, fits_a_phone, reaches, says, settled, slide
from figure_cases import CASES

from fmtutor import widgets

CALM = {"reduced_motion": "reduce"}  # what grows over several frames is there at once

SHIFTS = """
() => new Promise((done) => {
  let sum = 0;
  new PerformanceObserver((list) => {
    for (const { value } of list.getEntries()) sum += value;
  }).observe({ type: 'layout-shift', buffered: true });
  setTimeout(() => done(sum), 300);
})
"""

every = pytest.mark.parametrize("name", CASES)
moving = pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.play])
draggable = pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.knobs])


def make(name, **traits):
    return getattr(widgets, name)(**CASES[name].start | traits)


def opened(live, name, **settings):
    """A page with a figure, and the figure in it, at rest."""
    page = live(make(name), **settings)
    if name == "Playground":
        says(page, "energy distance")  # the worker has answered
    figure = page.locator(".fm-figure")
    figure.scroll_into_view_if_needed()
    return page, figure


def test_every_figure_is_in_the_table():
    assert set(CASES) == set(widgets.__all__) - {"LiveFigure"}


@draggable
def test_a_finger_drags_a_point_and_the_page_stays(live, name):
    page, figure = opened(live, name, size=PHONE, has_touch=True, **CALM)
    page.evaluate("() => (document.querySelector('#after').style.marginTop = '3000px')")
    touch = page.context.new_cdp_session(page)

    def send(kind, *points):
        places = [{"x": x, "y": y} for x, y in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    for label in CASES[name].knobs:
        knob = page.get_by_role("slider", name=label, exact=True)
        knob.scroll_into_view_if_needed()
        scrolled, before, box = page.evaluate("scrollY"), settled(figure), knob.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        send("touchStart", (x, y))
        for part in (0.25, 0.5, 0.75, 1):
            send("touchMove", (x - 40 * part, y - 24 * part))
        send("touchEnd")
        changes(figure, before)
        settled(figure)
        after = knob.bounding_box()
        assert after["x"] == pytest.approx(box["x"] - 40, abs=3), label
        assert page.evaluate("scrollY") == scrolled, "the page does not scroll along"
    assert not page.trouble, page.trouble


# Do something, wait until the figure shows something else, and do the next thing at once: what
# plays for a few seconds must not come to its end because a busy machine's test is slow.
ACT = """
async (figure, [first, then]) => {
  const acts = {
    press: () => figure.querySelector('.fm-playing, .fm-start').click(),
    hide: () => veil(true),
    show: () => veil(false),
    away: () => scrollTo(0, 6000),
    back: () => scrollTo(0, 0),
  };
  const veil = (hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  };
  const before = LOOK(figure);
  const end = performance.now() + 60_000;
  acts[first]();
  while (LOOK(figure) === before) {
    if (performance.now() > end) throw Error(`nothing moves after: ${first}`);
    await new Promise((done) => setTimeout(done, 10));
  }
  acts[then]();
}
""".replace("LOOK", f"({LOOK.strip()})")


@moving
def test_what_moves_rests_while_its_tab_is_hidden_or_it_is_out_of_view(live, name):
    page, figure = opened(live, name)
    page.evaluate("() => (document.querySelector('#after').style.marginTop = '5000px')")
    settled(figure)
    play = page.get_by_role("button", name=CASES[name].play, exact=True)
    play.evaluate("button => button.classList.add('fm-start')")
    figure.evaluate(ACT, ["press", "hide"])
    settled(figure)  # it would not come to rest, were it not to rest
    figure.evaluate(ACT, ["show", "away"])
    settled(figure)
    figure.evaluate(ACT, ["back", "press"])
    settled(figure)
    assert play.is_visible(), "paused, and not at its end"
    assert not page.trouble, page.trouble


@every
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone_it_suits_a_finger_and_follows_the_theme(live, name, theme):
    page, figure = opened(live, name, size=PHONE, theme=theme, has_touch=True)
    fits_a_phone(page)
    for cell in figure.locator(".fm-control").all():
        assert cell.bounding_box()["height"] >= 40, "large enough for a finger"
    for knob in figure.locator(".fm-handle:visible").all():
        box = knob.bounding_box()
        assert min(box["width"], box["height"]) >= 32, "large enough for a finger"
    color = figure.evaluate("f => getComputedStyle(f).color")
    assert (sum(map(float, re.findall(r"\d+", color)[:3])) > 380) == (theme == "dark")
    assert not page.trouble, page.trouble


# Whether light ink, none of it transparent, is on the canvas.
LIGHT_INK = """
(canvas) => {
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  for (let i = 0; i < pixels.length; i += 4)
    if (pixels[i + 3] > 200 && Math.min(...pixels.subarray(i, i + 3)) > 190) return true;
  return false;
}
"""


@pytest.mark.parametrize("name", ["PathExplorer", "PosteriorExplorer"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_ink_follows_the_theme(live, name, theme):
    _, figure = opened(live, name, theme=theme)
    assert figure.locator("canvas").evaluate(LIGHT_INK) == (theme == "dark")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.play == "Play"])
def test_it_plays_pauses_goes_on_and_begins_anew(live, name):
    page, figure = opened(live, name)
    play, still = page.get_by_role("button", name="Play"), settled(figure)
    play.click()
    reaches(page, "time t", "v > 0.3")
    page.get_by_role("button", name="Pause").click()
    assert settled(figure) != still
    slide(page, "time t", 0.96)
    play.focus()
    page.keyboard.press("Enter")  # it goes on from there
    reaches(page, "time t", "v === 1")
    end = settled(figure)
    play.click()  # from the end it begins anew
    reaches(page, "time t", "v < 0.5")
    play.wait_for()
    assert settled(figure) == end
    assert not page.trouble, page.trouble


@every
def test_at_rest_it_is_sharp_and_shifts_nothing_on_a_phone(live, name):
    page, figure = opened(live, name, size=PHONE, device_scale_factor=2)
    seen = settled(figure)
    assert page.evaluate(SHIFTS) == 0, "nothing moves while it comes to life"
    size = figure.locator("canvas").evaluate(
        "c => [c.width / c.offsetWidth, c.height / c.offsetHeight]"
    )
    assert size == pytest.approx([2, 2], rel=0.005), "as many pixels as the screen has"
    assert settled(figure) == seen, "nothing moves by itself"
    assert page.locator(".fm-playing").count() == 0
    assert not page.trouble, page.trouble


def to_every(kind, value):
    """Return what sets all traits of a kind that the reader can set to a value."""

    def damage(state, public):
        for name in public:
            if type(state[name]) is kind:
                state[name] = value

    return damage


def without_buffers(state, _public):
    for name, packed in state.items():
        if isinstance(packed, dict) and name.startswith("_"):
            state[name] = {}


DAMAGES = [
    to_every(float, None),  # NaN: JSON has none
    to_every(float, 1e300),
    to_every(float, -1e300),
    to_every(int, 0),
    to_every(int, -1),
    to_every(int, 10**9),
    to_every(str, "nothing of this name"),
    to_every(list, []),
    to_every(list, [[1e300, None]]),
    without_buffers,
]


@every
def test_whatever_its_state_it_lives_or_leaves_its_picture(live, name):
    figures = [make(name) for _ in range(len(DAMAGES) + 1)]

    def damage(states):
        for broken, harm in zip(figures[1:], DAMAGES, strict=True):
            harm(states[broken.model_id]["state"], broken.public_traits())

    page = live(*figures, damage=damage, alive=False, **CALM)
    for index, place in enumerate(page.locator(".fm-live").all()):
        place.scroll_into_view_if_needed()
        place.locator("p.fm-sentence:visible, .fm-readout:not(:empty)").first.wait_for()
        if place.locator(".fm-figure").count() == 0:
            assert index > 0, "the good one lives"
            assert place.locator(".fm-picture img").is_visible()
    assert "NaN" not in "".join(page.locator(".fm-figure .fm-readout").all_inner_texts())
    wrong = [t for t in page.trouble if not t.startswith("warning: A live figure stopped")]
    assert wrong == []

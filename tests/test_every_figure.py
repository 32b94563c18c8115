"""What every live figure keeps: one test for each promise, for all figures."""

import re
from functools import partial

import pytest
from browsing import (
    LOOK,
    PHONE,
    PIXELS,
    SHIFTS,
    changes,
    damaged,
    fits_a_phone,
    reaches,
    rests,
    says,
    settled,
    slide,
)
from figure_cases import CASES

from fmtutor import widgets


def make(name, **traits):
    return getattr(widgets, name)(**CASES[name].start | traits)


def test_every_figure_is_in_the_table():
    assert set(CASES) == set(widgets.__all__) - {"LiveFigure"}


# By how much the live figure is taller than the space that was reserved for it.
TALLER = """
(place) => {
  const parts = [...place.children];
  const below = () => document.querySelector('#after').getBoundingClientRect().top;
  const show = (kind) => parts.forEach((part) => (part.hidden = kind !== (part === parts.at(-1))));
  show(false);
  const reserved = below();
  show(true);
  return below() - reserved;
}
"""


@pytest.fixture(scope="module")
def phone(request, live_server):
    """A figure on a phone in the dark, opened once for the tests that follow; each leaves it alive.

    What the page did while it came to life is in `phone.shifts`.
    """
    before = len(live_server.taken)
    page = live_server(
        make(request.param), size=PHONE, theme="dark", has_touch=True, device_scale_factor=2
    )
    page.name, page.shifts = request.param, page.evaluate(SHIFTS)
    if page.name == "Playground":
        says(page, "energy distance")  # the worker has answered
    page.evaluate("() => (document.querySelector('#after').style.marginTop = '5000px')")
    if CASES[page.name].play:
        play = page.get_by_role("button", name=CASES[page.name].play, exact=True)
        play.evaluate("button => button.classList.add('fm-start')")
    yield page
    live_server.release(before)


def those(condition=lambda case: True):
    names = [name for name, case in CASES.items() if condition(case)]
    return pytest.mark.parametrize("phone", names, indirect=True)


@those()
def test_at_rest_it_is_sharp_and_shifts_nothing(phone):
    figure = phone.locator(".fm-figure")
    assert phone.shifts == 0, "nothing moves while it comes to life"
    # A page that is quick is first painted when the figure lives: no shift would be counted.
    assert phone.locator(".fm-live").evaluate(TALLER) == pytest.approx(0, abs=0.5)
    size = figure.locator("canvas").evaluate(
        "c => [c.width / c.offsetWidth, c.height / c.offsetHeight]"
    )
    assert size == pytest.approx([2, 2], rel=0.005), "as many pixels as the screen has"
    assert rests(figure) == settled(figure), "nothing moves by itself"
    assert phone.locator(".fm-playing").count() == 0
    if CASES[phone.name].play == "Play":
        time = phone.get_by_label("time t", exact=True).input_value()
        assert float(time) == make(phone.name).time, "nothing has played"
    assert not phone.trouble, phone.trouble


# Whether light ink, none of it transparent, is on the canvas.
LIGHT_INK = f"""
(canvas) => {{
  const [pixels] = {PIXELS}(canvas);
  for (let i = 0; i < pixels.length; i += 4)
    if (pixels[i + 3] > 200 && Math.min(...pixels.subarray(i, i + 3)) > 190) return true;
  return false;
}}
"""
# They draw with the ink of the text.
INKED = (
    "DiffusionExplorer",
    "TokenExplorer",
    "PathExplorer",
    "PosteriorExplorer",
    "ResolutionExplorer",
    "RoomExplorer",
    "SpellingExplorer",
    "StripExplorer",
)


@those()
def test_it_suits_a_finger_and_follows_the_theme(phone):
    figure = phone.locator(".fm-figure")
    fits_a_phone(phone)
    for cell in figure.locator(".fm-control").all():
        assert cell.bounding_box()["height"] >= 40, "large enough for a finger"
    for knob in figure.locator(".fm-handle:visible").all():
        box = knob.bounding_box()
        assert min(box["width"], box["height"]) >= 32, "large enough for a finger"
    for theme in ("dark", "light", "dark"):  # as it was opened, and back
        phone.emulate_media(color_scheme=theme)
        phone.evaluate("theme => (document.documentElement.dataset.theme = theme)", theme)
        settled(figure)
        color = figure.evaluate("f => getComputedStyle(f).color")
        assert (sum(map(float, re.findall(r"\d+", color)[:3])) > 380) == (theme == "dark")
        if phone.name in INKED:
            assert figure.locator("canvas").evaluate(LIGHT_INK) == (theme == "dark")
    assert not phone.trouble, phone.trouble


@those(lambda case: case.knobs)
def test_a_finger_drags_a_point_and_the_page_stays(phone):
    figure = phone.locator(".fm-figure")
    touch = phone.context.new_cdp_session(phone)

    def send(kind, *points):
        places = [{"x": x, "y": y} for x, y in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    case = CASES[phone.name]
    for label in (*case.knobs, *case.upright):
        knob = phone.get_by_role("slider", name=label, exact=True)
        knob.scroll_into_view_if_needed()
        scrolled, before, box = phone.evaluate("scrollY"), settled(figure), knob.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        send("touchStart", (x, y))
        for part in (0.25, 0.5, 0.75, 1):
            send("touchMove", (x - 40 * part, y - 24 * part))
        send("touchEnd")
        changes(figure, before)
        settled(figure)
        after = knob.bounding_box()
        right, down = (0, -24) if label in case.upright else (-40, after["y"] - box["y"])
        assert after["x"] == pytest.approx(box["x"] + right, abs=3), label
        assert after["y"] == pytest.approx(box["y"] + down, abs=3), label
        assert phone.evaluate("scrollY") == scrolled, "the page does not scroll along"
    assert not phone.trouble, phone.trouble


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
    await new Promise(requestAnimationFrame);
  }
  acts[then]();
}
""".replace("LOOK", LOOK)


@those(lambda case: case.play)
def test_what_moves_rests_while_its_tab_is_hidden_or_it_is_out_of_view(phone):
    figure = phone.locator(".fm-figure")
    phone.evaluate("() => scrollTo(0, 0)")
    settled(figure)
    play = phone.get_by_role("button", name=CASES[phone.name].play, exact=True)
    figure.evaluate(ACT, ["press", "hide"])
    rests(figure)  # it would not come to rest, were it not to rest
    figure.evaluate(ACT, ["show", "away"])
    rests(figure)
    figure.evaluate(ACT, ["back", "press"])
    settled(figure)
    assert play.is_visible(), "paused, and not at its end"
    assert not phone.trouble, phone.trouble


# Play, and pause as soon as some time has passed: long before the end, however busy the machine.
PLAY_A_LITTLE = """
async (figure) => {
  const time = figure.querySelector("[aria-label='time t']");
  const end = performance.now() + 60_000;
  figure.querySelector('.fm-start').click();
  while (Number(time.value) < 0.3 && performance.now() < end)
    await new Promise(requestAnimationFrame);
  figure.querySelector('.fm-start').click();
}
"""


@those(lambda case: case.play == "Play")
def test_it_plays_pauses_goes_on_and_begins_anew(phone):
    figure = phone.locator(".fm-figure")
    slide(phone, "time t", 0.2)
    play, still = phone.get_by_role("button", name="Play"), settled(figure)
    figure.evaluate(PLAY_A_LITTLE)
    paused = rests(figure)
    assert paused == settled(figure) != still
    assert float(phone.get_by_label("time t", exact=True).input_value()) < 1
    slide(phone, "time t", 0.96)
    play.focus()
    phone.keyboard.press("Enter")  # it goes on from there
    reaches(phone, "time t", "v === 1")
    end = settled(figure)
    play.click()  # from the end it begins anew
    reaches(phone, "time t", "v < 0.5")
    phone.get_by_role("button", name="Pause").wait_for()
    phone.get_by_label("time t", exact=True).fill("0.96")  # taken further by hand, it goes on
    play.wait_for()
    assert settled(figure) == end
    assert not phone.trouble, phone.trouble


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


def unharmed(_state, _public):
    pass


DAMAGES = [
    unharmed,
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


@pytest.mark.parametrize("name", CASES)
def test_whatever_its_state_it_lives_or_leaves_its_picture(live, name):
    figures = [make(name) for _ in DAMAGES]

    def damage(harm, figure, part):
        harm(part[figure.model_id]["state"], figure.public_traits())

    damages = [partial(damage, *pair) for pair in zip(DAMAGES, figures, strict=True)]
    # What grows over several frames is there at once.
    page, alive = damaged(live, figures, damages, reduced_motion="reduce")
    assert alive[0], "the good one lives"
    assert not alive[-1]
    assert "NaN" not in "".join(page.locator(".fm-figure .fm-readout").all_inner_texts())

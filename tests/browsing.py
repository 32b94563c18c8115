"""What the tests in a browser share: a browser, a server, pages with live figures."""

import base64
import html
import json
import os
import re
import shutil
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ipywidgets.embed import dependency_state, embed_data

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "book" / "assets"
sys.path.append(str(ROOT / "book" / "extensions"))

import live_figures  # noqa: E402

DESKTOP, PHONE = (1280, 900), (375, 800)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000  # milliseconds: a busy machine is slow, not broken

# The pixels of a canvas, and its size. They are read from a copy: a canvas that is read often is no
# longer drawn as on a reader's screen.
PIXELS = """((canvas) => {
  const { width, height } = canvas;
  const copy = (window.copy ??= document.createElement('canvas'));
  if (copy.width !== width || copy.height !== height) Object.assign(copy, { width, height });
  const context = copy.getContext('2d', { willReadFrequently: true });
  context.globalCompositeOperation = 'copy';
  context.drawImage(canvas, 0, 0);
  return [context.getImageData(0, 0, width, height).data, width, height];
})"""

# A picture of the canvas as numbers: how much ink there is, and where its centre lies.
INK = f"""
(canvas) => {{
  const [pixels, width, height] = {PIXELS}(canvas);
  let [ink, x, y] = [0, 0, 0];
  for (let i = 3; i < pixels.length; i += 4) {{
    const place = (i - 3) / 4;
    ink += pixels[i];
    x += pixels[i] * (place % width) / width;
    y += pixels[i] * Math.floor(place / width) / height;
  }}
  return [ink / 255, x / ink, y / ink].map((v) => Math.round(1e4 * v) / 1e4);
}}
"""

# All that a figure shows: its line of text, and the pixels of its canvas.
LOOK = """((figure) => figure.querySelector('.fm-readout').textContent
  + figure.querySelector('.fm-canvas').toDataURL())"""

# All that a figure shows, once it has drawn all that was asked for and nothing is on its way: it
# says so itself (figure.js), from the very event that asks for something on.
SETTLED = f"""
async (figure, patience) => {{
  const end = performance.now() + patience;
  while (!figure.hasAttribute('data-settled')) {{
    if (!figure.isConnected) throw Error('the figure is gone');
    if (performance.now() > end) throw Error('the figure does not settle');
    await new Promise(requestAnimationFrame);
  }}
  return {LOOK}(figure);
}}
"""

# All that a figure shows, once it drew nothing and showed the same for ten frames of the browser
# in a row: what is to rest may say what it likes.
RESTS = f"""
async (figure, patience) => {{
  const end = performance.now() + patience;
  let [seen, same] = ['', 0];
  while (same < 10) {{
    if (performance.now() > end) throw Error('the figure does not come to rest');
    await new Promise(requestAnimationFrame);
    const now = figure.dataset.frames + {LOOK}(figure);
    same = now === seen ? same + 1 : 0;
    seen = now;
  }}
  return {LOOK}(figure);
}}
"""

# How far the page has shifted while it came to life, once two more frames are over.
SHIFTS = """
async () => {
  for (let k = 0; k < 2; k++) await new Promise(requestAnimationFrame);
  const observer = new PerformanceObserver(() => {});
  observer.observe({ type: 'layout-shift', buffered: true });
  return observer.takeRecords().reduce((sum, { value }) => sum + value, 0);
}
"""

# Whether a line of text does not fit into its place.
CUT_OFF = "r => r.scrollHeight > r.clientHeight + 1 || r.scrollWidth > r.clientWidth + 1"

# The menus whose longest entry does not fit: by itself, each would be as wide as that entry.
NARROW_MENUS = """
() => [...document.querySelectorAll('.fm-select')].filter((menu) => {
  const free = menu.cloneNode(true);
  free.style.cssText = 'flex: none; width: auto; position: absolute';
  menu.after(free);
  const narrow = menu.offsetWidth < free.offsetWidth;
  free.remove();
  return narrow;
}).map((menu) => menu.getAttribute('aria-label'))
"""

# As wide as the book's text.
PAGE = """\
<!doctype html>
<html lang="en" data-theme="{theme}">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Live figures</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="custom.css"><link rel="stylesheet" href="base.css">
<style>
body {{ margin: 0; background: var(--pst-color-background, #fff);
  color: var(--pst-color-text-base); font-family: sans-serif }}
main {{ max-width: 671px; margin: 0 auto; padding: 12px 24.5px }}
</style>
</head>
<body><main class="bd-article"><p style="margin-bottom: {above}px">Before.</p>
{figures}
<p id="after">After.</p></main>
<script type="application/vnd.jupyter.widget-state+json">{state}</script>
<script type="module" src="widgets.mjs"></script>
</body></html>
"""


def unavailable(reason):
    """Skip on a reader's machine; fail where these tests are mandatory."""
    if os.environ.get("FMTUTOR_REQUIRE_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def launch():
    """A running browser."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        unavailable(
            f"no browser ({', '.join(BROWSERS)}): install one, on Debian or Ubuntu with "
            "`apt-get install chromium`"
        )
    sync_api = pytest.importorskip("playwright.sync_api")
    # Chromium's sandbox refuses to run as root, as in a container.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=sandbox)
        yield chromium
        chromium.close()


@contextmanager
def serve(directory):
    """The address of a server for a directory."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=directory)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def watch(page, address):
    """Collect a page's troubles in `page.trouble`: errors, warnings, requests to other hosts."""
    page.trouble = trouble = []

    def on_console(message):
        if message.type in ("error", "warning"):
            trouble.append(f"{message.type}: {message.text}")

    def on_request(request):
        if not request.url.startswith((address, "data:", f"blob:{address}")):
            trouble.append(f"foreign request: {request.url}")

    def on_response(response):
        if response.status >= 400:
            trouble.append(f"{response.status}: {response.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: trouble.append(f"page error: {error}"))
    page.on("request", on_request)
    page.on("response", on_response)


def live_html(*figures, theme="light", damage=None, above=16):
    """A page with live figures, as the book's Sphinx extension makes it, without Sphinx.

    `damage` is called with the state of the models, by id, and may break it. `above` is how far
    down the figures stand, in pixels.
    """
    data = embed_data(views=figures, state=dependency_state(figures, drop_defaults=False))
    state = json.loads(json.dumps(data["manager_state"]))
    if damage:
        damage(state["state"])
    parts = []
    for figure, view in zip(figures, data["view_specs"], strict=True):
        before, behind = live_figures.frame(figure.get_state())
        parts.append(
            f'<figure>{before}<img alt="A live figure." src="data:image/png;base64,'
            f'{picture(figure)}">{behind}<script type="{live_figures.VIEW}">'
            f"{json.dumps(view)}</script></div></figure>"
        )
    text = json.dumps(state).replace("</", "<\\/")
    places = "\n".join(parts)
    return PAGE.format(theme=html.escape(theme), figures=places, state=text, above=above)


PICTURES = {}


def picture(figure):
    """The picture that stands in for a figure; drawn once for each state."""
    key = repr(figure)
    if key not in PICTURES:
        PICTURES[key] = base64.b64encode(figure.picture()).decode("ascii")
    return PICTURES[key]


class LivePages:
    """Opens pages with live figures; `live(figure)` in a test.

    To make a context and a page in it takes a browser a second of its processor, to go elsewhere
    with a page a fifth of it. So a page that a test has left is taken by the next one, which sets
    size, theme and motion as it wants them, and loads a document of its own.
    """

    def __init__(self, browser, address, folder):
        self.browser, self.address, self.folder = browser, address, folder
        self.free, self.taken, self.documents = [], [], 0
        for file in (ASSETS / "custom.css", ASSETS / "widgets.mjs"):
            shutil.copy(file, folder)
        shutil.copy(live_figures.WIDGETS / live_figures.STYLE, folder)

    def __call__(self, *figures, damage=None, above=16, alive=True, theme="light", **settings):
        """A page that holds the figures; with `alive` it waits until each of them has drawn."""
        self.documents += 1
        name = f"page-{self.documents}.html"
        text = live_html(*figures, theme=theme, damage=damage, above=above)
        (self.folder / name).write_text(text, "utf-8")
        page = self.page(theme=theme, **settings)
        page.goto(self.address + name)
        if alive:
            for place in page.locator(".fm-live").all():
                place.scroll_into_view_if_needed()
                settled(place.locator(".fm-figure"))
                line = place.locator(".fm-readout:not(:empty)")
                assert not line.evaluate(CUT_OFF), f"cut off: {line.inner_text()}"
            page.evaluate("() => scrollTo(0, 0)")
        return page

    def page(self, size=DESKTOP, theme="light", reduced_motion="no-preference", **context):
        """An empty page, in a context of its own kind; its troubles are forgotten."""
        page = next((page for page in self.free if page.kind == context), None)
        if page is None:
            page = self.browser.new_context(**context).new_page()
            page.context.set_default_timeout(PATIENCE)
            page.kind = context
            watch(page, self.address)
        else:
            self.free.remove(page)
        self.taken.append(page)
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme=theme, reduced_motion=reduced_motion)
        page.trouble.clear()
        return page

    def release(self, first=0):
        """Take back the pages from the first on; nothing of what they held goes on."""
        pages = self.taken[first:]
        for page in pages:
            page.unroute_all()
            page.context.set_offline(False)
            page.mouse.move(0, 0)
            page.goto("about:blank")
        self.free += pages
        del self.taken[first:]


def ink(page, index=0):
    """What is on a canvas, once all is drawn: the amount of ink, and its centre."""
    drawn(page, index)
    return page.locator(".fm-canvas").nth(index).evaluate(INK)


def each_changes(page, acts):
    """Do one thing after the other: each must change the picture."""
    before = ink(page)
    for act in acts:
        act()
        after = ink(page)
        assert after != before
        before = after
    assert not page.trouble, page.trouble


def drawn(page, index=0):
    """Wait until a live figure has drawn all that was asked for."""
    settled(page.locator(".fm-figure").nth(index))


def settled(figure):
    """What a figure shows (a locator), once it has drawn all that was asked for."""
    return figure.evaluate(SETTLED, PATIENCE)


def rests(figure):
    """What a figure shows (a locator), once nothing is drawn in frame after frame."""
    return figure.evaluate(RESTS, PATIENCE)


def drag(knob, right, down):
    """Drag a point (a locator) by so many pixels, as a hand would, and wait until that is drawn."""
    page = knob.page
    figure = knob.locator("xpath=ancestor::*[contains(@class, 'fm-figure')]")
    # A point that is still on its way to where it was last moved would be missed.
    settled(figure)
    box = knob.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right, y + down, steps=4)
    page.mouse.up()
    settled(figure)


def changes(figure, before):
    """Wait until a figure shows something else than before."""
    figure.page.wait_for_function(
        f"([figure, before]) => {LOOK}(figure) !== before",
        arg=[figure.element_handle(), before],
    )


def readout(page, index=0):
    """The line of text of a live figure, once all is drawn."""
    drawn(page, index)
    return page.locator(".fm-figure .fm-readout").nth(index).inner_text()


def numbers(text):
    """Return the numbers of a line of text."""
    return [float(value) for value in re.findall(r"-?\d+(?:\.\d+)?", text.replace("−", "-"))]


def decimals(text):
    """Return the numbers of a line of text, those with a decimal point."""
    return [float(value) for value in re.findall(r"-?\d+\.\d+", text.replace("−", "-"))]


def change(**values):
    """Return what puts values into the state of a page's figures, whether they fit or not."""

    def damage(state):
        for model in state.values():
            if "_esm" in model["state"]:
                model["state"].update(values)

    return damage


def poison(state):
    """Make the first numbers of each buffer NaN, of whichever precision they are."""
    for model in state.values():
        for buffer in model.get("buffers", []):
            data = base64.b64decode(buffer["data"])
            buffer["data"] = base64.b64encode(b"\xff" * 8 + data[8:]).decode()


def no_buffers(state):
    """Lose the buffers."""
    for model in state.values():
        model.pop("buffers", None)


def damaged(live, figures, damages, **settings):
    """A page of figures, each damaged in its own way, once each lives or has left its picture.

    Returns the page, and for each figure whether it lives.
    """

    def damage(state):
        for figure, harm in zip(figures, damages, strict=True):
            names = (figure.model_id, figure.layout.model_id)
            part = {name: state.pop(name) for name in names}
            harm(part)
            state |= part

    page = live(*figures, damage=damage, alive=False, **settings)
    alive = []
    for place in page.locator(".fm-live").all():
        place.scroll_into_view_if_needed()
        place.locator("p.fm-sentence:visible, .fm-figure[data-settled]").first.wait_for()
        alive.append(place.locator(".fm-figure").count() == 1)
        assert place.locator(".fm-picture img").is_visible() != alive[-1]
    assert [t for t in page.trouble if not t.startswith("warning: A live figure")] == []
    return page, alive


def pictures_stay(live, make, damages):
    """Assert that of a figure, however damaged, its picture and a sentence are left, no trouble."""
    page, alive = damaged(live, [make() for _ in damages], damages)
    assert not any(alive), alive
    sentences = page.locator("p.fm-sentence").filter(has_text="could not come to life")
    assert sentences.count() == len(damages)


def fits_a_phone(page):
    """Assert that nothing is wider than a phone, and that all of the line of text is seen."""
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE[0]
    line = page.locator(".fm-figure .fm-readout")
    assert not line.evaluate(CUT_OFF), f"cut off: {line.inner_text()}"


def says(page, pattern, index=0, timeout=PATIENCE):
    """Wait until the line of text of a live figure matches a pattern."""
    line = page.locator(".fm-figure .fm-readout").nth(index)
    line.filter(has_text=re.compile(pattern)).wait_for(timeout=timeout)


def reaches(page, label, condition):
    """Wait until the value `v` of a slider satisfies a condition, in JavaScript."""
    # A page that has just been loaded has no slider yet: NaN satisfies nothing.
    page.wait_for_function(
        "(label) => { const slider = document.querySelector(`.fm-range[aria-label='${label}']`);"
        f" const v = Number(slider?.value ?? NaN); return {condition}; }}",
        arg=label,
    )


def control(page, label):
    """A slider, menu or box by its label."""
    return page.get_by_label(label, exact=True)


def slide(page, label, value):
    """Move a slider to a value, as a reader's hand would, and wait until that is drawn."""
    slider = control(page, label)
    slider.evaluate(
        "(input, value) => { input.value = value;"
        " input.dispatchEvent(new Event('input', { bubbles: true })); }",
        str(value),
    )
    settled(page.locator(".fm-figure").filter(has=slider))

"""The built site, as a reader's browser sees it. `make book` builds it."""

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browsing import CUT_OFF, DESKTOP, NARROW_MENUS, PATIENCE, PHONE, settled, watch

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))

import notebooks  # noqa: E402

PAGES = [Path(name).with_suffix(".html").as_posix() for name in notebooks.toc_files()]
MINIMUM_CONTRAST = 4.5  # WCAG 2, level AA, body text

# Text against what is painted behind it: the nearest grounds below it, blended.
CONTRAST = """
() => {
  const rgba = (css) => {
    const v = css.match(/[\\d.]+/g).map(Number);
    return [v[0], v[1], v[2], v.length > 3 ? v[3] : 1];
  };
  const over = ([r, g, b, a], base) => [r, g, b].map((c, i) => c * a + base[i] * (1 - a));
  const known = new Map();
  const ground = (el) => {
    if (!el) return [255, 255, 255];
    if (!known.has(el)) {
      const c = rgba(getComputedStyle(el).backgroundColor);
      known.set(el, c[3] === 1 ? c.slice(0, 3) : over(c, ground(el.parentElement)));
    }
    return known.get(el);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const selector = 'article :is(p, li, h1, h2, h3, figcaption, a, code, pre span, td, th, summary),'
    + '.bd-sidebar-primary :is(p, a, span), .bd-sidebar-secondary a';
  return [...document.querySelectorAll(selector)]
    .filter((el) => el.checkVisibility({ visibilityProperty: true, opacityProperty: true })
      && [...el.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((el) => {
      const base = ground(el);
      const text = over(rgba(getComputedStyle(el).color), base);
      const [dark, light] = [luminance(base), luminance(text)].sort((a, b) => a - b);
      return [(light + 0.05) / (dark + 0.05), el.tagName, el.textContent.trim().slice(0, 40)];
    });
}
"""

# A figure must read on a light and on a dark page: a transparent ground, no large white areas, and
# neither text nor axes in black. Black-and-white pictures, which an author marks with the class
# `pictures`, have their own black.
UNFIT = """
() => [...document.querySelectorAll('article img')].flatMap((img) => {
  const [width, height] = [img.naturalWidth, img.naturalHeight];
  const context = Object.assign(document.createElement('canvas'), { width, height })
    .getContext('2d');
  context.drawImage(img, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data;
  let [white, black] = [0, 0];
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i + 3] < 200) continue;
    white += Math.min(pixels[i], pixels[i + 1], pixels[i + 2]) > 245;
    black += Math.max(pixels[i], pixels[i + 1], pixels[i + 2]) < 40;
  }
  const found = [];
  if (pixels[3] > 250 || getComputedStyle(img).backgroundColor !== 'rgba(0, 0, 0, 0)')
    found.push('an opaque ground');
  if (white > 0.2 * width * height) found.push('large white areas');
  if (black > 0.002 * width * height && !img.classList.contains('pictures'))
    found.push('black ink');
  return found.map((fault) => `${fault}: ${img.alt}`);
})
"""


# Text in which a formula, a role or an emphasis was left as its author typed it; or the two hyphens
# of an option, which must stay as they are, became a dash.
UNSET = r"""
() => {
  const walker = document.createTreeWalker(document.querySelector('article'), NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const { data, parentElement } = walker.currentNode;
    const typed = /\$|\\[a-z([]|\{[a-z:]+\}`|\*\*|(^|\s)–[a-z]/.test(data);
    if (typed && !parentElement.closest('pre, code, .sig, script, style, mjx-container'))
      found.push(data.trim());
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def page(browser, address):
    """A page that goes through the book: to make another one for each would take a second."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    watch(page, address)
    yield page
    context.close()


@pytest.fixture(scope="module", params=PAGES)
def opened(request, page, address):
    """A page of the book, loaded once for all tests; its troubles are in `opened.trouble`.

    Setting the formulas of a long page takes seconds, and so does another width. So the page is
    loaded once, and each test sets the size and the colour scheme that it looks at: the page
    follows both without a reload. Those on a phone come last.
    """
    page.goto("about:blank")
    page.trouble.clear()
    look(page)
    page.goto(address + request.param, wait_until="networkidle")
    page.evaluate("() => window.MathJax?.startup?.promise")
    # No colour is measured halfway through a transition.
    page.add_style_tag(content="*, ::before, ::after { transition: none !important }")
    return page


def look(page, size=DESKTOP, scheme="light"):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme)


def searches(page):
    return [box for box in page.locator(".search-button__button").all() if box.is_visible()] + [
        box for box in page.locator("input[type=search]").all() if box.is_visible()
    ]


def test_page_loads_without_trouble(opened):
    look(opened)
    assert not opened.trouble, opened.trouble
    assert len(searches(opened)) == 1, "a page has one search box"
    assert opened.locator("article h1").count() == 1


def test_nothing_is_left_as_typed(opened):
    assert opened.evaluate(UNSET) == []


def test_figures_are_described(opened):
    for alt, source in opened.locator("article img").evaluate_all(
        "images => images.map((i) => [i.alt.trim(), i.getAttribute('src')])"
    ):
        assert len(alt.split()) >= 3, f"{source} has no alt text but {alt!r}"
        assert not re.search(r"[0-9a-f]{16}|\.(png|svg|jpe?g|gif)$", alt), f"{source}: {alt!r}"
    captions = opened.locator("article figure").evaluate_all(
        "figures => figures.map((f) => f.querySelector('figcaption')?.innerText.trim())"
    )
    assert all(captions), "a figure lacks its caption"


def figures_live_and_their_words_are_whole(opened):
    for place in opened.locator(".fm-live").all():
        place.scroll_into_view_if_needed()
        settled(place.locator(".fm-figure"))
        line = place.locator(".fm-readout:not(.fm-reserved)")
        assert line.inner_text()
        assert not line.evaluate(CUT_OFF), f"cut off: {line.inner_text()}"
    assert opened.evaluate(NARROW_MENUS) == []
    assert not opened.trouble, opened.trouble


def test_live_figures_live_on_a_desktop(opened):
    look(opened)
    figures_live_and_their_words_are_whole(opened)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible(opened, scheme):
    look(opened, scheme=scheme)
    opened.wait_for_function(f"() => document.documentElement.dataset.theme === '{scheme}'")
    measured = opened.evaluate(CONTRAST)
    assert measured, "no text found"
    faint = [entry for entry in measured if entry[0] < MINIMUM_CONTRAST]
    assert not faint, f"contrast below {MINIMUM_CONTRAST}: {faint[:5]}"
    unfit = opened.evaluate(UNFIT)
    assert not unfit, f"figures that do not read in both themes: {unfit}"


def test_page_fits_a_phone(opened):
    look(opened, size=PHONE)
    assert not opened.trouble, opened.trouble
    assert len(searches(opened)) == 1, "a page has one search box"
    assert opened.evaluate("() => document.documentElement.scrollWidth") <= PHONE[0]
    wider = opened.locator("article").evaluate("a => a.scrollWidth - a.clientWidth")
    assert wider <= 0, f"the text is {wider} px wider than its column"


def test_live_figures_live_on_a_phone(opened):
    look(opened, size=PHONE)
    figures_live_and_their_words_are_whole(opened)


class Links(HTMLParser):
    """The ids and the links of a page."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.hrefs = set(), []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids.add(attributes.get("id"))
        if tag == "a" and attributes.get("href"):
            self.hrefs.append(attributes["href"])


@cache
def links(path):
    return Links(path)


@pytest.mark.parametrize("page", PAGES)
def test_internal_links_resolve(site, page):
    for href in links(site / page).hrefs:
        parts = urlsplit(href)
        if parts.scheme or parts.netloc:
            continue
        target = (site / page).parent / unquote(parts.path) if parts.path else site / page
        assert target.is_file(), f"{page} links to {href}"
        if parts.fragment and target.suffix == ".html":
            assert unquote(parts.fragment) in links(target).ids, f"{page} links to {href}"

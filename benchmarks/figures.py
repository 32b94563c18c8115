"""The live figures of the built site, as a reader's browser meets them.

For every page with a live figure: what the figures add to it, compressed as a server would send it;
how long a figure takes from being scrolled to until its first frame; and how smoothly the flow
player moves 2,000 particles through its 3×64 network, the first time (the flow is computed) and the
second (it is known). The pictures that stand in for the figures without scripts are not counted.
Needs the site (`make book`) and Chromium; `make bench` runs it.

    python benchmarks/figures.py [--site _build/html] [--rounds 5] [--out FILE]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from machine import machine, versions

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from browsing import DESKTOP, launch, serve  # noqa: E402

BOUND = 300_000  # bytes that the figures of a page may add
PARTICLES, GOAL = 2_000, 30  # frames a second
FIRST_FRAME_GOAL = 1_000  # milliseconds

STATE = re.compile(
    rb'<script type="application/vnd\.jupyter\.widget-state\+json">.*?</script>', re.DOTALL
)
PLACE = b'<div class="fm-live"'
HOST = ("_static/widgets.mjs", "_static/base.css")

# From the moment at which a place is brought into view to the frame after it has its line of text.
FIRST_FRAME = """
(place) => new Promise((done) => {
  const start = performance.now();
  const look = () => {
    if (place.querySelector('.fm-figure .fm-readout')?.textContent)
      requestAnimationFrame(() => done(performance.now() - start));
    else requestAnimationFrame(look);
  };
  place.scrollIntoView({ block: 'center' });
  look();
})
"""

# The times of all frames while the button says "Pause".
PLAY = """
(figure) => new Promise((done) => {
  const button = figure.querySelector('button.fm-button');
  const frames = [];
  const look = (now) => {
    frames.push(now);
    if (button.textContent === 'Pause' || frames.length < 5) requestAnimationFrame(look);
    else done(frames);
  };
  button.click();
  requestAnimationFrame(look);
})
"""


def pages(site: Path) -> list[str]:
    found = site.glob("*.html")
    return sorted(page.name for page in found if PLACE in page.read_bytes())


def compressed(data: bytes) -> int:
    return len(gzip.compress(data, 6, mtime=0))


def weight(site: Path, page: str) -> int:
    """Bytes that the figures add: the state in the page, the host script, the style."""
    whole = (site / page).read_bytes()
    added = compressed(whole) - compressed(STATE.sub(b"", whole))
    return added + sum(compressed((site / name).read_bytes()) for name in HOST)


@contextmanager
def opened(browser: Any, url: str) -> Iterator[Any]:
    """A page in a context of its own: nothing is in its cache."""
    context = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.goto(url, wait_until="load")
    page.evaluate("() => window.MathJax?.startup?.promise")
    yield page
    context.close()


def first_frames(browser: Any, url: str) -> list[float]:
    """Milliseconds to the first frame of each figure of a page, in order."""
    with opened(browser, url) as page:
        return [place.evaluate(FIRST_FRAME) for place in page.locator(".fm-live").all()]


def summary(frames: list[float]) -> dict[str, float]:
    gaps = [after - before for before, after in pairwise(frames)]
    slow = statistics.quantiles(gaps, n=20)[-1]  # one frame in twenty is slower
    rates = {
        "mean_fps": 1000 * len(gaps) / sum(gaps),
        "median_fps": 1000 / statistics.median(gaps),
        "slow_fps": 1000 / slow,
    }
    return {name: round(rate, 1) for name, rate in rates.items()} | {"frames": len(gaps)}


def plays(browser: Any, url: str) -> list[dict[str, float]]:
    """How smoothly the flow player plays, the first time and the second."""
    with opened(browser, url) as page:
        figure = page.locator(".fm-live").first
        figure.scroll_into_view_if_needed()
        figure.locator(".fm-figure .fm-readout:not(:empty)").wait_for()
        set_to = "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }"
        # The time first: at t = 1 the flow of all particles would be computed before it is played.
        figure.get_by_label("time t", exact=True).evaluate(set_to, 0)
        figure.get_by_label("particles", exact=True).evaluate(set_to, PARTICLES)
        return [summary(figure.evaluate(PLAY)) for _ in range(2)]


def measure(site: Path, rounds: int) -> dict[str, Any]:
    names, (load, *_) = pages(site), os.getloadavg()
    with launch() as browser, serve(site) as address:
        times = {
            name: [first_frames(browser, address + name) for _ in range(rounds)] for name in names
        }
        played = [plays(browser, f"{address}index.html") for _ in range(rounds)]
        chromium = browser.version
    rows = []
    for name in names:
        places = list(zip(*times[name], strict=True))  # of each figure, its rounds
        rows.append(
            {
                "page": name,
                "bytes_gzipped": weight(site, name),
                "first_frame_ms": [round(statistics.median(place)) for place in places],
                "slowest_first_frame_ms": round(max(map(max, places))),
            }
        )
    return {
        "command": f"python benchmarks/figures.py --rounds {rounds}",
        "machine": machine() | {"load_average": round(load, 1)},
        "versions": versions("fmtutor", "anywidget", "playwright") | {"chromium": chromium},
        "rounds": rounds,
        "goals": {"bytes_gzipped": BOUND, "fps": GOAL, "first_frame_ms": FIRST_FRAME_GOAL},
        "pages": rows,
        "flow_player": {
            "particles": PARTICLES,
            "first_play": [first for first, _ in played],
            "second_play": [second for _, second in played],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--site", type=Path, default=ROOT / "_build" / "html")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts")
    default = Path(__file__).parent / "results" / "figures.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    if not pages(options.site):
        parser.error(f"no page with a live figure in {options.site}: run `make book` first")

    result = measure(options.site, options.rounds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(f"{'page':<20}{'kB gzipped':>12}{'first frame, ms':>18}{'slowest':>10}")
    for row in result["pages"]:
        first = ", ".join(map(str, row["first_frame_ms"]))
        kilobytes = row["bytes_gzipped"] / 1000
        print(f"{row['page']:<20}{kilobytes:>12.0f}{first:>18}{row['slowest_first_frame_ms']:>10}")
    for name in ("first_play", "second_play"):
        print(name, result["flow_player"][name])
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()

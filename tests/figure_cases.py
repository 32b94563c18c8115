"""The live figures, and how a reader handles each: shared by the tests of all figures."""

from dataclasses import dataclass
from typing import Any

from browsing import changes, settled

# The key that changes a control: towards its other end from the last value.
KEY = """
({ type, value, max, selectedIndex, length }) => {
  if (type === 'checkbox') return 'Space';
  if (type === 'range') return value === max ? 'ArrowLeft' : 'ArrowRight';
  return selectedIndex === length - 1 ? 'ArrowUp' : 'ArrowDown';
}
"""


@dataclass(frozen=True)
class Case:
    """One figure, and how it is handled."""

    start: dict[str, Any]  # its traits at first: few points, so that the tests are quick
    knobs: tuple[str, ...] = ()  # the points that can be dragged
    play: str | None = None  # the button that starts what moves
    unseen: tuple[str, ...] = ()  # controls that change nothing at first


CASES = {
    "FlowPlayer": Case(
        {"datasets": ("spiral", "moons"), "particles": 200, "time": 0.2}, play="Play"
    ),
    "PathExplorer": Case({}, knobs=("x0, noise", "x1, data", "time on the curves"), play="Play"),
    "ContinuityExplorer": Case({}, knobs=("left end a", "right end b"), play="Play"),
    "PosteriorExplorer": Case(
        {}, knobs=("x, the particle", "data point 1", "data point 12"), play="Follow the field"
    ),
    "GradientExplorer": Case({}, knobs=("parameters θ₁, θ₂",)),
    "SolverLab": Case({}, knobs=("x₀",)),
    "CouplingExplorer": Case({"batch_size": 12, "time": 0.2}, play="Play"),
    "GuidanceExplorer": Case({"particles": 100, "time": 0.2}, play="Play"),
    # The learning rate tells in what is learned afterwards.
    "Playground": Case({"width": 16}, play="Train", unseen=("learning rate",)),
    "DigitPainter": Case({"steps": 4, "time": 0.2}, play="Play"),
}


def walk_by_keyboard(page, figure, case):
    """Change every control and every knob of a figure by keyboard; each must change what is seen.

    `figure` is a locator, `case` says what is particular.
    """
    before = settled(figure)
    controls = figure.locator("input, select")
    assert controls.count() > 0
    for place in controls.all():
        label = place.get_attribute("aria-label") or place.locator("xpath=..").inner_text()
        assert label, "a control without a name"
        if label in case.unseen or place.is_disabled():
            continue
        place.focus()
        page.keyboard.press(place.evaluate(KEY))
        changes(figure, before)
        before = settled(figure)
    for label in case.knobs:
        knob = figure.get_by_role("slider", name=label, exact=True)
        told = knob.get_attribute("aria-valuetext")
        knob.press("Shift+ArrowLeft")
        changes(figure, before)
        before = settled(figure)
        assert knob.get_attribute("aria-valuetext") != told, label
    assert all(figure.locator("button:not(.fm-handle)").all_inner_texts()), "each has its words"

"""The live figures, and how a reader handles each: shared by the tests of all figures."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One figure, and how it is handled."""

    start: dict[str, Any]  # its traits at first: few points, so that the tests are quick
    knobs: tuple[str, ...] = ()  # the points that can be dragged
    upright: tuple[str, ...] = ()  # those that move up and down alone
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
    "StripExplorer": Case(
        {},
        knobs=("the place looked at",),
        upright=("data point 1", "data point 2"),
        play="Follow the field",
    ),
    "GlobeExplorer": Case({"time": 0.2}, play="Play"),
    "MoleculeExplorer": Case({"steps": 4, "time": 0.2}, play="Play"),
    "GradientExplorer": Case({}, knobs=("parameters θ₁, θ₂",)),
    "RoomExplorer": Case({}, knobs=("start of the ball",), play="Let it roll"),
    "SolverLab": Case({}, knobs=("x₀",)),
    "CouplingExplorer": Case({"batch_size": 12, "time": 0.2}, play="Play"),
    "BridgeExplorer": Case(
        # Far enough from the edge to be dragged.
        {"time": 0.2, "sources": ((-1.2, 1.2), (-1.2, -1.2), (-0.4, 0.0))},
        knobs=tuple(f"{end} cluster {k}" for end in ("source", "target") for k in (1, 2, 3)),
        play="Play",
    ),
    "DiffusionExplorer": Case({}, play="Sweep the schedule"),
    "JumpExplorer": Case({}),
    "ResolutionExplorer": Case({}, knobs=("time on the curves",), play="Let time run"),
    # With few steps the slider moves long before anything else does.
    "TokenExplorer": Case({"steps": 32, "time": 0.2}, play="Play"),
    "SpellingExplorer": Case({"time": 0.2}, play="Write"),
    "GuidanceExplorer": Case({"particles": 100, "time": 0.2}, play="Play"),
    # The learning rate tells in what is learned afterwards.
    "Playground": Case({"width": 16}, play="Train", unseen=("learning rate",)),
    "DigitPainter": Case({"steps": 4, "time": 0.2}, play="Play"),
}

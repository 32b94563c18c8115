"""The log of a run as a picture: losses, learning rate, speed, beside those of other runs."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fmtutor.images.checkpoint import write_atomically
from fmtutor.plotting import COLORS, use_style

__all__ = ["draw_runs", "plot_runs", "read_log"]

PANELS = {
    "loss": "loss",
    "test_loss": "test loss of the average",
    "lr": "learning rate",
    "images_per_second": "pictures a second",
}
KINDS, DASHES = ("learned", "data", "noise", "velocity", "exact"), ("-", "--", ":", "-.")


def read_log(run: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log that measure something; one that is not whole is left out.

    Args:
        run: The directory of the run.

    Raises:
        FileNotFoundError: If there is no log in it.
        ValueError: If the log has no such line.

    Chapter: scale
    """
    path = Path(run) / "log.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"there is no log.jsonl in {run}, the directory of a run")
    lines = []
    for text in path.read_text("utf-8").splitlines():
        try:
            record = json.loads(text)
        except json.JSONDecodeError:  # the run is writing it, or was killed at it
            continue
        if isinstance(record, dict) and "step" in record and PANELS.keys() & record.keys():
            lines.append(record)
    if not lines:
        raise ValueError(
            f"{path} has no measurement yet: the first one comes after log_every steps"
        )
    return lines


def draw_runs(runs: Sequence[str | Path]) -> Figure:
    """Draw loss, test loss, learning rate and speed of runs over their steps, over each other.

    Args:
        runs: The directories of the runs.

    Returns:
        The figure, with a panel for each quantity.

    Raises:
        FileNotFoundError: If there is no log in a directory.
        ValueError: If a log is empty, or no run came.

    Chapter: scale
    """
    if not runs:
        raise ValueError("there must be at least 1 run to draw, but 0 came")
    logs = [read_log(run) for run in runs]
    with mpl.rc_context():
        use_style()
        figure = Figure(figsize=(9.0, 5.6))
        for ax, (name, label) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
            for k, (run, log) in enumerate(zip(runs, logs, strict=True)):
                _curve(ax, log, name, k, str(run))
            ax.set(xlabel="step", ylabel=label, yscale="log" if "loss" in name else "linear")
            ax.grid(True)
            ax.minorticks_off()
            ax.yaxis.set_major_locator(MaxNLocator(6))
            ax.yaxis.set_major_formatter("{x:g}")
        if len(runs) > 1:
            handles, names = figure.axes[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside upper center", ncols=min(3, len(runs)))
        return figure


def plot_runs(runs: Sequence[str | Path], out: str | Path) -> None:
    """Draw runs into a PNG file, whole or not at all.

    Args:
        runs: The directories of the runs.
        out: The file.

    Raises:
        FileNotFoundError: As in `draw_runs`.
        OSError: If the file cannot be written.
        ValueError: As in `draw_runs`.

    Chapter: scale
    """
    figure, buffer = draw_runs(runs), io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    write_atomically(out, buffer.getvalue())


def _curve(ax: Axes, log: list[dict[str, Any]], name: str, k: int, label: str) -> None:
    """Draw one quantity of a log as a line, with a gap where it was no number."""
    found = [(record["step"], record[name]) for record in log if name in record]
    values = [math.nan if value is None else value for _, value in found]
    ax.plot(
        [step for step, _ in found], values, label=label,
        color=COLORS[KINDS[k % len(KINDS)]], ls=DASHES[k // len(KINDS) % len(DASHES)],
        marker="." if len(found) < 2 else None,
    )  # fmt: skip

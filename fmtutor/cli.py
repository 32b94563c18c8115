"""The command `fmtutor`: its help, its version, and the commands of the last chapter."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmtutor import __version__
from fmtutor.images import cli as images

__all__ = ["main", "parser"]

PLOT_EPILOG = """
examples:
  fmtutor plot runs/fashion
  fmtutor plot runs/fashion runs/fine --out both.png
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command.

    Chapter: images
    """
    everything = images._parser(_add_plot)
    everything.add_argument("--version", action="version", version=f"fmtutor {__version__}")
    return everything


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; without one, print the help.

    Args:
        argv: The arguments; None takes those of the process.

    Returns:
        The exit status, as in `fmtutor.images.cli`.

    Chapter: images
    """
    given = sys.argv[1:] if argv is None else argv
    if not given or given[0].startswith("-"):
        parser().parse_args(given or ["--help"])  # ends the process
    return images.main(argv, parser())


def _add_plot(commands: Any) -> None:
    plot = commands.add_parser(
        "plot",
        help="draw the log of a run",
        description="Draw loss, test loss, learning rate and pictures a second of a run, or of "
        "several over each other, into a PNG. A run that goes on can be drawn at any time.",
        epilog=PLOT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    plot.set_defaults(run=_run_plot, error=plot.error)
    plot.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the directory of a run")
    plot.add_argument(
        "--out", type=Path, default=Path("plot.png"), metavar="FILE", help="the PNG (plot.png)"
    )


def _run_plot(args: argparse.Namespace) -> int:
    from fmtutor.watching import plot_runs

    plot_runs(args.runs, args.out)
    print(args.out)
    return 0

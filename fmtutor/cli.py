"""The command `fmtutor`: its help, its version, and the commands of the last chapter."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fmtutor import __version__
from fmtutor.images import cli as images

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command.

    Chapter: images
    """
    everything = images._parser()
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
    return images.main(argv)

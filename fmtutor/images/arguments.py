"""What was said on the command line, as settings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from fmtutor.images.config import TrainConfig, acts
from fmtutor.images.evaluation import EvaluationConfig
from fmtutor.images.objectives import JUMP
from fmtutor.images.presets import PRESETS
from fmtutor.networks.registry import FROM_DATA, NETWORKS

__all__ = ["class_number", "evaluation_settings", "sampler_settings", "train_settings"]


def train_settings(args: argparse.Namespace, base: TrainConfig | str) -> TrainConfig:
    """Return a preset, or the settings of a run, with what was said on the command line."""
    config = PRESETS[base] if isinstance(base, str) else base
    given: dict[str, Any] = {
        f.name: getattr(args, f.name) for f in fields(TrainConfig) if hasattr(args, f.name)
    }
    described = {f.name for description, _ in NETWORKS.values() for f in fields(description)}
    said = {k: v for k, v in vars(args).items() if k in described.difference(FROM_DATA)}
    same = given.get("network", config.network) == config.network
    given["architecture"] = {**(config.architecture if same else {}), **said}
    settings = vars(config) | given
    for field in fields(config):  # what only the preset has said must not stand in the way
        if not acts(field.name, settings):
            settings[field.name] = given.setdefault(field.name, field.default)
    try:
        return replace(config, **given)
    except ValueError as error:
        args.error(str(error))
        raise  # not reached: the parser ends the process


def evaluation_settings(args: argparse.Namespace) -> EvaluationConfig:
    """Return what is to be measured, if it can be measured and there is where to write it."""
    from fmtutor.images.checkpoint import with_tuples

    for path in (args.out, args.pictures):
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"there is no directory {path.parent} to write {path.name} to")
    given: dict[str, Any] = {f.name: getattr(args, f.name) for f in fields(EvaluationConfig)}
    try:
        return EvaluationConfig(**with_tuples(given))
    except ValueError as error:
        args.error(str(error))
        raise  # not reached: the parser ends the process


def sampler_settings(args: argparse.Namespace) -> tuple[str | None, int | None]:
    """Return the method and its number of steps: jumps, a solver, or None if nothing was said."""
    solver = hasattr(args, "method") or hasattr(args, "steps")
    if hasattr(args, "jumps"):
        if solver:
            args.error("--jumps came beside --method or --steps, which are of a solver: say one")
        return JUMP, args.jumps
    return getattr(args, "method", "midpoint" if solver else None), getattr(args, "steps", None)


def class_number(name: str, classes: Sequence[str]) -> int:
    """Return the number of a class that is said by its name or its number."""
    lower = [c.lower() for c in classes]
    number = lower.index(name.lower()) if name.lower() in lower else -1
    if number < 0 and name.isdecimal():
        number = int(name)
    if not 0 <= number < len(classes):
        raise ValueError(f"there is no class {name!r}, but {', '.join(classes)}")
    return number

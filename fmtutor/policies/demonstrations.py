"""Demonstrations as they are kept: whole millimetres, and whole millimetres a second.

Chapter: policies
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = ["load_demonstrations", "save_demonstrations"]

UNIT, LENGTHS = 1e-3, " lengths"


def save_demonstrations(sets: dict[str, list[Tensor]], file: Path, **about: str) -> None:
    """Store named sets of episodes `[T 4]` in a file, with what is to be told about them.

    Raises:
        ValueError: If a number does not fit: 32.767 is the largest.
    """
    parts = {}
    for name, episodes in sets.items():
        states = (torch.cat(episodes) / UNIT).round()
        if not bool((states.abs() <= torch.iinfo(torch.int16).max).all()):
            raise ValueError(
                f"states must lie within ±32.767 m and m/s, but those of {name} do not"
            )
        parts[name] = states.to(torch.int16)
        parts[name + LENGTHS] = torch.tensor([len(e) for e in episodes], dtype=torch.int16)
    save_file(parts, file, metadata=about)


def load_demonstrations(file: Path) -> dict[str, list[Tensor]]:
    """Return the sets of episodes `[T 4]`, float64, that a file holds.

    Raises:
        ValueError: If it holds something else.
    """
    try:
        parts = load_file(file)
        return {
            name: list(torch.split(UNIT * x.double(), parts[name + LENGTHS].tolist()))
            for name, x in parts.items()
            if not name.endswith(LENGTHS)
        }
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(f"{file} does not hold demonstrations: {error}") from error

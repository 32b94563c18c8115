"""The flows that ship with the package: `benchmarks/molecules.py` trains and describes them.

Chapter: molecules
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fmtutor.networks import EGNN

__all__ = ["FOLDER", "Shipped", "save_shipped", "shipped"]

FOLDER = Path(__file__).with_name("trained")


class Shipped(NamedTuple):
    """A trained velocity field, and the unit of its positions in that of the energy."""

    network: EGNN
    unit: float


def save_shipped(name: str, network: EGNN, unit: float, **arguments: object) -> None:
    """Store a trained `network` as `name`, with its `arguments` and the `unit` of its positions."""
    FOLDER.mkdir(exist_ok=True)
    told = {"arguments": json.dumps(arguments), "unit": repr(unit)}
    save_file(network.state_dict(), FOLDER / f"{name}.safetensors", metadata=told)


def shipped(name: str) -> Shipped:
    """Return one of the trained flows, its weights without gradients.

    Args:
        name: As in `benchmarks/molecules.py`: "dw4", "butane", "butane-plain".

    Raises:
        ValueError: If there is none of this name.

    Example:
        >>> flow = shipped("dw4")
        >>> flow.network(torch.randn(5, 4, 2), 0.5).shape
        torch.Size([5, 4, 2])
    """
    file = FOLDER / f"{name}.safetensors"
    if not file.exists():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.safetensors")))
        raise ValueError(f"name must be one of {known}, but {name!r} came")
    with safe_open(file, framework="pt") as stored:
        told = stored.metadata()
        weights = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (no mapping)
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and then overwritten
        network = EGNN(**json.loads(told["arguments"]))
    network.load_state_dict(weights)
    return Shipped(network.eval().requires_grad_(False), float(told["unit"]))

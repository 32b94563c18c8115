"""The flows that ship with the package: `benchmarks/molecules.py` trains and describes them.

Chapter: molecules
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from fmtutor.networks import EGNN
from fmtutor.networks.stored import read_network, write_network

__all__ = ["FOLDER", "Shipped", "save_shipped", "shipped"]

FOLDER = Path(__file__).with_name("trained")


class Shipped(NamedTuple):
    """A trained velocity field, and the unit of its positions in that of the energy."""

    network: EGNN
    unit: float


def save_shipped(name: str, network: EGNN, unit: float, **arguments: object) -> None:
    """Store a trained `network` as `name`, with its `arguments` and the `unit` of its positions."""
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{name}.safetensors"
    write_network(file, network, arguments=json.dumps(arguments), unit=repr(unit))


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
    network, told = read_network(file, lambda told: EGNN(**json.loads(told["arguments"])))
    return Shipped(network, float(told["unit"]))

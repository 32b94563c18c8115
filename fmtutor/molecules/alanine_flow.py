"""The flow of alanine dipeptide that ships with the package, in whitened internal coordinates.

Chapter: molecules
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fmtutor.molecules.alanine import TURNING, alanine_coordinates
from fmtutor.molecules.whitened import WhitenedCoordinates
from fmtutor.networks import TangentMLP
from fmtutor.networks.stored import read_network, write_network

__all__ = ["ShippedAlanine", "save_alanine", "shipped_alanine"]

FILE = Path(__file__).with_name("alanine.safetensors")


class ShippedAlanine(NamedTuple):
    """A trained velocity field of alanine dipeptide, and what its points are."""

    network: TangentMLP
    white: WhitenedCoordinates


class _Held(nn.Module):
    """A network beside the mean and the covariance of its coordinates, to be stored as one."""

    mean: Tensor
    factor: Tensor

    def __init__(self, network: TangentMLP, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)


def save_alanine(network: TangentMLP, white: WhitenedCoordinates, **arguments: object) -> None:
    """Store a trained `network` with its `arguments` and the coordinates `white` of its points."""
    held = _Held(network, white.mean, white.factor)
    write_network(FILE, held, arguments=json.dumps(arguments))


def shipped_alanine() -> ShippedAlanine:
    """Return the flow of alanine dipeptide that `benchmarks/alanine.py` trains and describes.

    Example:
        >>> network, white = shipped_alanine()
        >>> x0 = white.space.noise(torch.zeros(5, 60))
        >>> white.positions(sample(network, x0, steps=10, project=white.space.project)).shape
        torch.Size([5, 22, 3])
    """
    coordinates = alanine_coordinates()
    d = sum(coordinates.sizes) - len(TURNING)

    def white_of(mean: Tensor, factor: Tensor) -> WhitenedCoordinates:
        return WhitenedCoordinates(coordinates, TURNING, mean, factor)

    def build(told: dict[str, str]) -> _Held:
        mean, factor = torch.zeros(d), torch.eye(d)
        arguments = json.loads(told["arguments"])
        return _Held(TangentMLP(white_of(mean, factor).space, **arguments), mean, factor)

    held, _ = read_network(FILE, build)
    return ShippedAlanine(held.network, white_of(held.mean, held.factor))

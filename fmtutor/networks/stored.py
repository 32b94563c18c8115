"""Networks in files that say what they hold: weights, and words to build the network by.

Chapter: molecules
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

__all__ = ["read_network", "write_network"]

_N = TypeVar("_N", bound=nn.Module)


def write_network(
    file: Path, network: nn.Module, dtype: torch.dtype = torch.float32, **told: str
) -> None:
    """Write the weights of a `network` in a `dtype` to a `file`, with what it is `told` to say."""
    save_file(
        {key: w.to(dtype).contiguous() for key, w in network.state_dict().items()},
        file,
        metadata=told,
    )


def read_network(file: Path, build: Callable[[dict[str, str]], _N]) -> tuple[_N, dict[str, str]]:
    """Return a network in float32, to be used, and what its `file` was told.

    `build` makes the network from that; the weights that it draws at first are overwritten, and
    the caller's random numbers left as they were.
    """
    with safe_open(file, framework="pt") as stored:
        told = stored.metadata()
        weights = {key: stored.get_tensor(key).float() for key in stored.keys()}  # noqa: SIM118
    with torch.random.fork_rng(devices=[]):
        network = build(told)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False), told

"""The networks that a run can train, by name: one more line here, and the trainer knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeAlias

from torch import nn

from fmtutor.networks.autoencoder import Autoencoder, AutoencoderConfig
from fmtutor.networks.transformer import Transformer, TransformerConfig
from fmtutor.networks.two_times import TwoTimes
from fmtutor.networks.unet import UNet, UNetConfig

__all__ = [
    "AUTOENCODERS", "FROM_DATA", "NETWORKS", "TWO_TIMES", "PictureNetwork", "architecture",
    "kind_of", "new_network",
]  # fmt: skip

PictureNetwork: TypeAlias = UNet | Transformer | TwoTimes
"""A network of the registry, called as v(x, t, label), or such a one with two times, called as
u(x, s, t, label); it has `config` and `classes`."""

NETWORKS: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "unet": (UNetConfig, UNet),
    "transformer": (TransformerConfig, Transformer),
}
"""The description and the module of each network, by its name."""

AUTOENCODERS: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "autoencoder": (AutoencoderConfig, Autoencoder)
}
"""What encodes pictures, by its name in a file."""

TWO_TIMES = "two-times "
"""Stands in a file before the name of a network that is told two times."""

FROM_DATA = ("size", "channels", "classes")
"""The fields of a description that the data decides; the others are its architecture."""


def architecture(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a network but those that the data decides.

    Args:
        kind: Its name in `NETWORKS`.
        given: Settings by their names (lists, of which JSON has made tuples, are tuples again);
            the others are the defaults of its description.

    Raises:
        ValueError: If there is no such network, or it has no such setting.

    Chapter: images
    """
    if kind not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, but {kind!r} came")
    known = {f.name: f.default for f in fields(NETWORKS[kind][0]) if f.name not in FROM_DATA}
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{kind} has no setting {unknown[0]!r}, but {', '.join(known)}")
    return known | {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}


def kind_of(model: nn.Module) -> str:
    """Return the name of a network `model` in `NETWORKS` or `AUTOENCODERS`.

    That of a `TwoTimes` is that of its network after "two-times".

    Raises:
        ValueError: If it is none of them.

    Chapter: images
    """
    if isinstance(model, TwoTimes):
        return TWO_TIMES + kind_of(model.network)
    for kind, (_, module) in (NETWORKS | AUTOENCODERS).items():
        if isinstance(model, module):
            return kind
    raise ValueError(f"a {type(model).__name__} is none of the networks {', '.join(NETWORKS)}")


def new_network(kind: str, description: Any) -> nn.Module:
    """Return a network as it is before any training.

    Args:
        kind: Its name, as `kind_of` gives it.
        description: Its description, of the kind that is named.

    Chapter: images
    """
    plain = kind.removeprefix(TWO_TIMES)
    model: Any = (NETWORKS | AUTOENCODERS)[plain][1](description)
    return model if plain == kind else TwoTimes(model)

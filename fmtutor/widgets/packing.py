"""Tensors, networks, paths and mixtures in the form in which the page reads them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fmtutor.checking import check_points
from fmtutor.networks import EGNN, MLP
from fmtutor.oracles import GaussianMixture
from fmtutor.paths import AffinePath

__all__ = [
    "build_network",
    "pack_bytes",
    "pack_floats",
    "pack_mixture",
    "pack_network",
    "pack_path",
    "unpack_network",
]

DTYPES = ("float32", "float16")


def pack_floats(values: Tensor, dtype: str = "float32") -> dict[str, Any]:
    """Pack a tensor as little-endian bytes, its shape beside them.

    Args:
        values: Any tensor of finite floating-point numbers, not empty.
        dtype: "float32", or "float16" for half the weight on the page.

    Returns:
        A dictionary of plain values and bytes, for a trait.

    Raises:
        TypeError: If the values are not floating point.
        ValueError: If the dtype is another, or a value is not finite in it.
    """
    check_points(values, "values", finite=True)
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, but {dtype!r} came")
    array = values.detach().cpu().numpy()
    with np.errstate(over="ignore"):  # said better below
        packed = array.astype(np.dtype(dtype).newbyteorder("<"))
    if not np.isfinite(packed).all():
        raise ValueError(f"a value of {abs(array).max():g} is beyond the range of {dtype}")
    return {"data": packed.tobytes(), "dtype": dtype, "shape": list(array.shape)}


def pack_bytes(values: Tensor) -> dict[str, Any]:
    """Pack whole numbers from 0 to 255, such as pixels, a byte each.

    Args:
        values: A tensor of dtype uint8, not empty.

    Returns:
        What `unpack` in js/packing.js reads, as after `pack_floats`.

    Raises:
        TypeError: If the values are not uint8.
    """
    check_points(values, "values", floating=False)
    if values.dtype != torch.uint8:
        raise TypeError(f"values must be uint8, but their dtype is {values.dtype}")
    array = values.detach().cpu().numpy()
    return {"data": array.tobytes(), "dtype": "uint8", "shape": list(array.shape)}


def pack_network(model: nn.Module, dtype: str = "float32") -> dict[str, Any]:
    """Pack a network's sizes and weights.

    With dtype "float16" the page computes with rounded weights; `unpack_network` gives the same
    rounded `MLP` to Python.

    Args:
        model: An `MLP` or an `EGNN`.
        dtype: "float32" or "float16".

    Returns:
        What `MLP.unpack` in js/mlp.js or `EGNN.unpack` in js/egnn.js reads.

    Raises:
        TypeError: If the model is neither: no other network has a twin in the page.
        ValueError: If a weight is not finite in the dtype.
    """
    if not isinstance(model, MLP | EGNN):
        name = type(model).__name__
        raise TypeError(f"only an MLP or an EGNN runs in the page, but a {name} came")
    sizes = _sizes(model) if isinstance(model, MLP) else _particle_sizes(model)
    frequencies = {"frequencies": model.embedding.frequencies.double().tolist()}
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return {"architecture": sizes | frequencies, "weights": pack_floats(weights, dtype)}


def _sizes(model: MLP) -> dict[str, Any]:
    linear = [layer for layer in model.layers if isinstance(layer, nn.Linear)]
    return {
        "dim": model.dim,
        "width": linear[0].out_features,
        "depth": len(linear) - 1,
        "time_dim": 2 * len(model.embedding.frequencies),
        "classes": model.classes,
    }


def _particle_sizes(model: EGNN) -> dict[str, Any]:
    return {
        "particles": model.particles,
        "dim": model.dim,
        "kinds": model.kinds.tolist(),
        "width": model.kind.embedding_dim,
        "depth": len(model.layers),
        "radial": len(model.centres),
        "reach": model.centres[-1].item(),
    }


def unpack_network(packed: dict[str, Any]) -> MLP:
    """Return the network that `pack_network` packed, with the weights as they were packed.

    Args:
        packed: The result of `pack_network`.

    Returns:
        The network, in evaluation mode, with default frequencies of time.

    Raises:
        ValueError: If the weights do not fit the sizes.
    """
    sizes, weights = packed["architecture"], packed["weights"]
    dtype = np.dtype(weights["dtype"]).newbyteorder("<")
    flat = torch.from_numpy(np.frombuffer(weights["data"], dtype).astype(np.float32))
    names = ("dim", "width", "depth", "time_dim", "classes")
    return build_network(flat, **{name: sizes[name] for name in names})


def build_network(weights: Tensor, **sizes: int) -> MLP:
    """Return a network with given weights.

    Args:
        weights: All weights, flat, in the order of `parameters()`; they become float32.
        sizes: The arguments of `MLP`.

    Returns:
        The network, in evaluation mode.

    Raises:
        ValueError: If the weights do not fit the sizes.
    """
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and then overwritten
        model = MLP(**sizes)
    expected = sum(p.numel() for p in model.parameters())
    if weights.shape != (expected,):
        raise ValueError(
            f"a network of these sizes has {expected} weights, but {weights.numel()} came"
        )
    nn.utils.vector_to_parameters(weights.float(), model.parameters())
    return model.eval().requires_grad_(False)


def pack_path(path: AffinePath) -> dict[str, Any]:
    """Describe a path by its name and settings.

    Args:
        path: `CondOT`, `Cosine` or `VariancePreserving`.

    Returns:
        What `unpackPath` in js/paths.js reads.

    Raises:
        TypeError: If the path is none of the three.
    """
    name = type(path).__name__
    if name not in ("CondOT", "Cosine", "VariancePreserving") or not dataclasses.is_dataclass(path):
        raise TypeError(
            f"only CondOT, Cosine and VariancePreserving run in the page, but {path!r} came"
        )
    return {"name": name, **dataclasses.asdict(path)}


def pack_mixture(mixture: GaussianMixture) -> dict[str, Any]:
    """Pack the means, standard deviations and weights of a mixture.

    Args:
        mixture: The mixture.

    Returns:
        What `GaussianMixture.unpack` in js/mixture.js reads.
    """
    return {key: pack_floats(getattr(mixture, key)) for key in ("means", "stds", "weights")}

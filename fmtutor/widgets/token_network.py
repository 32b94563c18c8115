"""A transformer for tokens as the page computes it: plain blocks, weights of eight bits.

A network that is told neither time nor label modulates by constants. They are put into the weights
here, and each row of a matrix is rounded to 255 values; so the page has a third as much to load.

Chapter: discrete
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fmtutor.networks.tokens import TokenTransformer
from fmtutor.networks.transformer import Block
from fmtutor.widgets.packing import pack_bytes, pack_floats

__all__ = ["light", "pack_token_network"]

MOST = 127  # the largest code of a weight, either way


@torch.no_grad()
def light(network: TokenTransformer) -> TokenTransformer:
    """Return a network with the weights that the page has: plain, and rounded.

    Args:
        network: It must have a mask, take neither time nor labels, and see all places.

    Returns:
        A network of the same sizes, in evaluation mode, which modulates by 0, 0 and 1.

    Raises:
        ValueError: If the network is another.
    """
    config = network.config
    others = config.timed, config.classes, config.causal, config.rotary
    if any(others) or not config.masked:
        raise ValueError(
            "only a network with a mask and learned places, without time, labels and order runs "
            f"in the page, but {config} came"
        )
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and then overwritten
        plain = TokenTransformer(replace(config, dropout=0.0))
    plain.load_state_dict(network.state_dict())
    emb = functional.silu(plain.constant)
    for block in _blocks(plain):
        told: Tensor = block.modulation(emb)
        scale, shift, gate, scale2, shift2, gate2 = told.view(6, -1)
        qkv, out, first, second = _layers(block)
        _put_in(qkv, out, scale, shift, gate)
        _put_in(first, second, scale2, shift2, gate2)
        block.modulation.weight.zero_()
        block.modulation.bias.zero_().view(6, -1)[[2, 5]] = 1.0
    plain.constant.zero_()
    plain.last.bias.add_(plain.last.weight @ plain.norm.bias)
    plain.last.weight.mul_(plain.norm.weight)
    plain.norm.reset_parameters()
    for matrix in _matrices(plain):
        codes, steps = _codes(matrix)
        matrix.copy_(codes * steps)
    for bias in _biases(plain):
        bias.copy_(bias.half())
    return plain.eval().requires_grad_(False)


def pack_token_network(network: TokenTransformer) -> dict[str, Any]:
    """Pack a network that `light` returned, a byte a weight.

    Returns:
        What `TokenTransformer.unpack` in js/token_network.js reads.
    """
    config = network.config
    pairs = [_codes(matrix) for matrix in _matrices(network)]
    codes = torch.cat([c.flatten() for c, _ in pairs]) + MOST
    return {
        "architecture": {
            "tokens": config.tokens,
            "length": config.length,
            "width": config.width,
            "depth": config.depth,
            "heads": config.heads,
            "hidden": config.mlp_ratio * config.width,
        },
        "codes": pack_bytes(codes.to(torch.uint8)),
        "steps": pack_floats(torch.cat([s.flatten() for _, s in pairs])),
        "biases": pack_floats(torch.cat([*_biases(network)]), "float16"),
    }


def _put_in(first: nn.Linear, last: nn.Linear, scale: Tensor, shift: Tensor, gate: Tensor) -> None:
    """Let two layers do what stood around them: x (1 + scale) + shift before, gate behind."""
    first.bias.add_(first.weight @ shift)
    first.weight.mul_(1 + scale)
    last.weight.mul_(gate[:, None])
    last.bias.mul_(gate)


def _blocks(network: TokenTransformer) -> list[Block]:
    return [block for block in network.blocks if isinstance(block, Block)]


def _layers(block: Block) -> list[nn.Linear]:
    """Return the layers of a block in the order in which they are packed."""
    every = (block.qkv, block.out, *block.mlp)
    return [layer for layer in every if isinstance(layer, nn.Linear)]


def _linear(network: TokenTransformer) -> Iterator[nn.Linear]:
    for block in _blocks(network):
        yield from _layers(block)
    yield network.last


def _matrices(network: TokenTransformer) -> Iterator[Tensor]:
    yield network.token.weight
    if network.place is not None:
        yield network.place
    yield from (layer.weight for layer in _linear(network))


def _biases(network: TokenTransformer) -> Iterator[Tensor]:
    return (layer.bias for layer in _linear(network))


def _codes(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return whole numbers from −127 to 127 `[m n]` and the step of each row `[m 1]`."""
    steps = matrix.abs().amax(1, keepdim=True).clamp(min=1e-12) / MOST
    return (matrix / steps).round(), steps

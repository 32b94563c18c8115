"""How a network is spread over processes: whole in each of them (DDP), or a part in each (FSDP).

FSDP2 keeps a row's share of every weight, gradient and moment in each process. What a block needs
is gathered when its turn comes, forwards and again backwards, and dropped after it; its gradients
are summed and spread at once. So no device ever holds more than two blocks in whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.checkpoint import checkpoint

from fmtutor.images.batches import in_bfloat16
from fmtutor.images.config import TrainConfig
from fmtutor.images.processes import Ranks

if TYPE_CHECKING:
    from fmtutor.networks import Transformer, UNet

__all__ = [
    "crew_of", "gathered", "is_sharded", "part_like", "recompute_activations", "shard", "whole",
]  # fmt: skip


def recompute_activations(model: UNet | Transformer) -> None:
    """Let each block keep its input alone, and compute the rest again when gradients are wanted."""
    for block in model.blocks:
        block.forward = _again(block.forward)


def _again(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(*args: Tensor) -> Tensor:  # a partial function would not be compiled
        out: Tensor = checkpoint(forward, *args, use_reentrant=False)
        return out

    return call


def shard(
    model: UNet | Transformer, config: TrainConfig, device: torch.device
) -> tuple[UNet | Transformer, UNet | Transformer]:
    """Spread a network, and a copy of it for the average, over all processes.

    Args:
        model: The network, on the CPU: it goes to the devices block by block.
        config: Gives precision, compilation and whether activations are recomputed.
        device: The device of this process.

    Returns:
        The network to train, the one given, and the average, which is called without gradients.

    Raises:
        ValueError: If torch is older than 2.9, where it has no checkpoints of parts without pickle.
    """
    try:
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader  # noqa: F401
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy
    except ImportError:
        raise ValueError(
            f"parallel fsdp needs torch 2.9, but {torch.__version__} is installed"
        ) from None

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    with torch.device("meta"):
        build: Any = type(model)
        average: UNet | Transformer = build(model.config)
    # Autocast decides what is computed in bfloat16; the policy lets the weights travel like that.
    # It must not cast what comes in: a time would keep 8 bits.
    half = torch.bfloat16 if in_bfloat16(config, device) else None
    policy = MixedPrecisionPolicy(
        param_dtype=half, reduce_dtype=torch.float32 if half else None, cast_forward_inputs=False
    )
    if config.activation_checkpointing:
        recompute_activations(model)
    if config.compile:  # before it is sharded: what gathers stays outside of the graphs
        for block in model.blocks:
            block.compile()
    _spread(model, mesh=mesh, mp_policy=policy)
    # No backward pass drops what the average has gathered last, so the forward pass does.
    _spread(average, mesh=mesh, reshard_after_forward=True)
    average.to_empty(device=device)
    with torch.no_grad():
        for old, new in zip(_tensors(average), _tensors(model), strict=True):
            old.copy_(new)
    return model, average


def _spread(model: UNet | Transformer, **given: Any) -> None:
    from torch.distributed.fsdp import fully_shard

    # The velocity is a view of another tensor, which must not lose what FSDP hangs on it.
    model.register_forward_hook(lambda net, args, velocity: velocity.clone())
    for block in model.blocks:
        fully_shard(block, **given)
    fully_shard(model, **given)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def is_sharded(model: nn.Module) -> bool:
    """Whether this process holds only a part of the weights."""
    return hasattr(next(model.parameters()), "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor of which each process may hold a part; then all of them have to ask."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def part_like(full: Tensor, like: Any) -> Tensor:
    """Return what this process keeps of a tensor that it has in whole: a part, or all of it."""
    if not hasattr(like, "full_tensor"):
        return full
    from torch.distributed.tensor import distribute_tensor

    part: Tensor = distribute_tensor(
        full.to(like.device).contiguous(), like.device_mesh, like.placements, src_data_rank=None
    )
    return part


def gathered(model: nn.Module, crew: Ranks) -> dict[str, Tensor]:
    """Return the weights in whole: in the first process, on the CPU; the others help and get none.

    They are gathered one after another, so that no device holds more than one of them.
    """
    weights = {}
    for name, weight in model.state_dict().items():
        full = whole(weight.detach())
        if crew.rank == 0:
            weights[name] = full.cpu()
    return weights


def crew_of(model: nn.Module, ranks: Ranks) -> Ranks | None:
    """Return who saves and draws: all that hold a part, or else the first process, as if alone.

    None is the answer in a process that has nothing to do with it.
    """
    if is_sharded(model):
        return ranks
    return Ranks(0, 1, ranks.device) if ranks.rank == 0 else None

"""What a run needs before its first step: data that fits, a network, a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.nn.parallel import DistributedDataParallel

from fmtutor.images.batches import seed_of
from fmtutor.images.config import TrainConfig
from fmtutor.images.data import ImageData, check_images
from fmtutor.images.journal import begin_log, describe_machine, tell
from fmtutor.images.parallel import crew_of, is_sharded
from fmtutor.images.processes import Ranks, by_first
from fmtutor.images.run import Run, new_run, newest_checkpoint, save_run
from fmtutor.networks import PictureNetwork
from fmtutor.networks.registry import FROM_DATA, NETWORKS

__all__ = ["begin_run", "check_fit", "network_config", "prepare_folder", "shared_network"]


def network_config(config: TrainConfig, data: ImageData) -> Any:
    """Return the description of the network that the settings ask for, made for a data set.

    Chapter: images
    """
    classes = len(data.classes) if config.conditional else 0
    decided = (data.train.shape[-1], data.train.shape[1], classes)
    description, _ = NETWORKS[config.network]
    return description(**dict(zip(FROM_DATA, decided, strict=True)), **config.architecture)


def check_fit(config: TrainConfig, data: ImageData, ranks: Ranks) -> None:
    """Refuse what cannot be done to the data, and a batch that cannot be filled or shared."""
    check_images(data)
    if data.autoencoder and (config.flip or config.augment or config.dequantise):
        raise ValueError("flip, augment and dequantise are for pixels, but latents came")
    if config.flip and not data.flip:
        raise ValueError(f"flip came, but the pictures of {data.name} are not to be mirrored")
    if config.batch_size > len(data.train):
        raise ValueError(
            f"batch_size is {config.batch_size}, but there are {len(data.train)} pictures"
        )
    if config.batch_size % (config.accumulate * ranks.world):
        raise ValueError(
            f"batch_size {config.batch_size} cannot be shared by {ranks.world} processes "
            f"in {config.accumulate} parts each"
        )


def begin_run(config: TrainConfig, data: ImageData, ranks: Ranks) -> Run:
    """Return a run before its first step, from what its settings and its data say."""
    return new_run(
        config,
        network_config(config, data),
        seed=seed_of(config.seed, "weights"),
        device=ranks.device,
        world=ranks.world,
        metadata={
            "data": data.name, "classes": list(data.classes), "pictures": len(data.train),
            "autoencoder": data.autoencoder, "sha256": data.sha256,
        },
    )  # fmt: skip


def prepare_folder(run: Run, out: Path, ranks: Ranks, resume: bool) -> None:
    """Make the directory of the run what it is at this step: its log and a checkpoint."""
    crew = crew_of(run.model, ranks)
    if crew is None:
        return

    def begin() -> None:
        if not resume and newest_checkpoint(out) is not None:
            raise FileExistsError(
                f"there is a run in {out}: resume it, or choose another directory"
            )
        begin_log(out, run.step if resume else None)
        tell(describe_machine(run, ranks), out, ranks)

    by_first(begin, crew)
    save_run(run, out, crew)


def shared_network(
    run: Run, config: TrainConfig, ranks: Ranks
) -> PictureNetwork | DistributedDataParallel:
    """Return the network that is called in training: among several processes, one that shares."""
    net: PictureNetwork | DistributedDataParallel = run.model
    if is_sharded(run.model):
        return net
    if ranks.world > 1:
        # Without the view each gradient would be held twice, once to be sent.
        net = DistributedDataParallel(run.model, gradient_as_bucket_view=True)
        # The only buffers are constants: nothing is to be sent before each step. (Given to the
        # constructor, torch from 2.13 on warns of it and older ones know no other name.)
        net.broadcast_buffers = False
    if config.compile:
        # What shares the gradients is compiled with it: else the backward pass is one graph, and
        # no gradient could travel before the last one is there.
        net.compile()
    return net

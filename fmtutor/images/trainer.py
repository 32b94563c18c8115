"""Training at the scale of pictures: the loss of the plane, on one device or on many."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from tqdm.auto import tqdm

from fmtutor.couplings import minibatch_ot
from fmtutor.guidance import drop_labels
from fmtutor.images.config import TrainConfig, learning_rate
from fmtutor.images.datasets import ImageData, to_float
from fmtutor.images.journal import Stretch, add_to_log, cut_log, describe_machine, draw_grid
from fmtutor.images.processes import Ranks, catch_signals, join_processes, largest
from fmtutor.images.run import (
    Run,
    new_run,
    newest_checkpoint,
    restore_run,
    save_average,
    save_run,
)
from fmtutor.losses import cfm_loss
from fmtutor.networks import UNet, UNetConfig
from fmtutor.notation import VelocityField
from fmtutor.training import ema_decay, update_ema

__all__ = ["Stopped", "TrainConfig", "batch_loss", "network_config", "step_rows", "train"]


class Stopped(Exception):
    """A run was ended by a signal, after it was saved.

    Attributes:
        signal: The signal's number.
        step: Number of steps that were taken.
    """

    def __init__(self, signal: int, step: int) -> None:
        super().__init__(f"stopped by signal {signal} after {step} steps, which are saved")
        self.signal, self.step = signal, step


def train(
    config: TrainConfig,
    data: ImageData,
    out: str | Path,
    *,
    resume: bool = False,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> UNet:
    """Train a network on pictures, alone or, under torchrun, together with other processes.

    Everything is drawn from the seed and the number of the step (and of the process), so a run that
    was stopped and resumed is the run that was not; on a CPU bit for bit.

    The directory receives `log.jsonl`, grids of samples, the newest checkpoint, and in the end
    `model.safetensors`, the averaged network.

    Args:
        config: The settings.
        data: The pictures.
        out: The directory of the run.
        resume: Whether to go on from the checkpoint in it.
        device: Where to train; None takes a GPU if there is one.
        progress: Whether to show a progress bar.

    Returns:
        The averaged network.

    Raises:
        FileExistsError: If there is a run in the directory, and it is not to be resumed.
        FileNotFoundError: If there is no checkpoint to resume from.
        FloatingPointError: If the gradient is NaN or infinite; the last checkpoint is kept.
        OSError: If a file cannot be written, as on a full disk; the last checkpoint is kept.
        Stopped: After SIGTERM or SIGINT, once the run is saved.
        ValueError: If settings, data and number of processes do not fit together.

    Chapter: images
    """
    out = Path(out)
    with join_processes(device) as ranks, _own_random_state(ranks.device):
        _check_fit(config, data, ranks)
        run = _begin(config, data, out, ranks, resume)
        bar = tqdm(
            desc="train",
            total=config.steps,
            initial=run.step,
            disable=not progress or ranks.rank > 0,
        )
        with bar, catch_signals() as signals:
            _train(run, config, data, out, ranks, signals, bar)
        if ranks.rank == 0:
            save_average(run, out / "model.safetensors")
        return run.average


def _train(
    run: Run,
    config: TrainConfig,
    data: ImageData,
    out: Path,
    ranks: Ranks,
    signals: list[int],
    bar: tqdm[NoReturn],
) -> None:
    gradient = _gradient(run, config, data, ranks)
    stretch = Stretch(run)
    while run.step < config.steps:
        started, stop = time.monotonic(), 0
        due = _due(config, run.step + 1)
        loss = gradient(run.step)
        norm = clip_grad_norm_(run.model.parameters(), config.clip)
        # Looking at a number makes an accelerator wait, so there it is done now and then.
        if due or ranks.device.type == "cpu" or run.step % 50 == 0:
            _refuse_nan(norm, loss, config, run, out)
            stop = largest(signals[-1] if signals else 0, ranks)
        _step(run, config)
        stretch.add(loss)
        run.seconds += time.monotonic() - started
        bar.update()
        if "log" in due:
            record = stretch.record(run, config, len(data.train), ranks, norm)
            stretch = Stretch(run)
            bar.set_postfix(loss=f"{record['loss']:.4f}")
            _tell(record, out, ranks)
        if "sample" in due and ranks.rank == 0:
            _tell({"step": run.step, "test_loss": _test_loss(run, config, data)}, out, ranks)
            draw_grid(run, out / "samples" / f"step-{run.step:07d}.png")
        if ("save" in due or stop) and ranks.rank == 0:
            save_run(run, out)
        if stop:
            raise Stopped(stop, run.step)


def network_config(config: TrainConfig, data: ImageData) -> UNetConfig:
    """Return the network that the settings ask for, made for a data set.

    Chapter: images
    """
    return UNetConfig(
        size=data.train.shape[-1],
        channels=data.train.shape[1],
        classes=len(data.classes) if config.conditional else 0,
        patch=config.patch,
        width=config.width,
        mults=config.mults,
        blocks=config.blocks,
        attention=config.attention,
        heads=config.heads,
        dropout=config.dropout,
    )


def step_rows(config: TrainConfig, n: int, step: int) -> Tensor:
    """Return which pictures a step sees, over all processes: in an epoch each at most once.

    What is left of an epoch's order when it does not fill a batch is left out.

    Args:
        config: Gives the batch size and the seed.
        n: Number of pictures.
        step: Number of the step.

    Returns:
        Rows of the data `[batch_size]`, on the CPU.

    Chapter: images
    """
    epoch, k = divmod(step, n // config.batch_size)
    return _order(n, config.seed, epoch)[k * config.batch_size : (k + 1) * config.batch_size]


def batch_loss(
    v: VelocityField,
    pixels: Tensor,
    labels: Tensor | None,
    config: TrainConfig,
    *,
    null: int = 0,
    flip: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the conditional flow matching loss of some pictures: as in the plane.

    Args:
        v: The network.
        pixels: Pictures, uint8 `[b c h w]`.
        labels: Their labels, int64 `[b]`; None for a network without classes.
        config: Gives the share of labels to withhold and the coupling.
        null: The null label.
        flip: Whether each picture is mirrored with probability ½.
        generator: Source of all randomness.

    Returns:
        The loss, 0-d.

    Chapter: images
    """
    x1 = to_float(pixels)
    if flip:
        mirrored = torch.rand(len(x1), 1, 1, 1, generator=generator, device=x1.device) < 0.5
        x1 = torch.where(mirrored, x1.flip(-1), x1)
    if labels is not None:
        labels = drop_labels(labels, config.label_dropout, null=null, generator=generator)
    coupling = minibatch_ot if config.coupling == "ot" else None
    return cfm_loss(v, x1, labels=labels, coupling=coupling, generator=generator)


def _check_fit(config: TrainConfig, data: ImageData, ranks: Ranks) -> None:
    if config.batch_size > len(data.train):
        raise ValueError(
            f"batch_size is {config.batch_size}, but there are {len(data.train)} pictures"
        )
    if config.batch_size % (config.accumulate * ranks.world):
        raise ValueError(
            f"batch_size {config.batch_size} cannot be shared by {ranks.world} processes "
            f"in {config.accumulate} parts each"
        )


def _begin(config: TrainConfig, data: ImageData, out: Path, ranks: Ranks, resume: bool) -> Run:
    about = {"data": data.name, "classes": list(data.classes)}
    run = new_run(
        config,
        network_config(config, data),
        seed=_seed(config.seed, "weights"),
        device=ranks.device,
        metadata=about,
    )
    if resume:
        restore_run(run, out)
    if ranks.rank > 0:
        return run
    if resume:
        cut_log(out, run.step)
    elif newest_checkpoint(out) is not None:
        raise FileExistsError(f"there is a run in {out}: resume it, or choose another directory")
    else:  # killed before its first checkpoint, a run has left no more than this
        (out / "log.jsonl").unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    _tell(describe_machine(run, ranks), out, ranks)
    save_run(run, out)
    return run


def _gradient(
    run: Run, config: TrainConfig, data: ImageData, ranks: Ranks
) -> Callable[[int], Tensor]:
    """Return the function that computes the gradient of a step and returns its loss."""
    pixels, labels = data.train.to(ranks.device), data.train_labels.to(ranks.device)
    if config.compile:
        run.model.compile()
    net: UNet | DistributedDataParallel = run.model
    if ranks.world > 1:
        net = DistributedDataParallel(run.model)
    g = torch.Generator(device=ranks.device)

    def gradient(step: int) -> Tensor:
        g.manual_seed(_seed(config.seed, "step", step, ranks.rank))
        torch.manual_seed(_seed(config.seed, "dropout", step, ranks.rank))
        # [accumulate world b], the middle axis is the process
        rows = step_rows(config, len(pixels), step).reshape(config.accumulate, ranks.world, -1)
        parts = rows[:, ranks.rank].to(ranks.device)
        run.optimizer.zero_grad()
        total = torch.zeros((), device=ranks.device)
        for k, part in enumerate(parts):
            last = k == len(parts) - 1
            with _alone(net, not last), _autocast(config, ranks.device):
                loss = batch_loss(
                    net,
                    pixels[part],
                    labels[part] if config.conditional else None,
                    config,
                    null=run.model.classes,
                    flip=data.flip,
                    generator=g,
                ) / len(parts)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    return gradient


def _alone(
    net: UNet | DistributedDataParallel, alone: bool
) -> contextlib.AbstractContextManager[None]:
    """Keep gradients in the process while there are more parts of the batch to come."""
    if alone and isinstance(net, DistributedDataParallel):
        return net.no_sync()
    return contextlib.nullcontext()


def _step(run: Run, config: TrainConfig) -> None:
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(config, run.step)
    run.optimizer.step()
    update_ema(run.average, run.model, ema_decay(run.step, config.ema))
    run.step += 1


def _due(config: TrainConfig, done: int) -> set[str]:
    """Return what is due after so many steps; after the last one everything is."""
    every = {"log": config.log_every, "sample": config.sample_every, "save": config.save_every}
    return {name for name, n in every.items() if done % n == 0 or done == config.steps}


def _refuse_nan(norm: Tensor, loss: Tensor, config: TrainConfig, run: Run, out: Path) -> None:
    if not bool(norm.isfinite()):
        raise FloatingPointError(
            f"the gradient became {norm.item()} at step {run.step}, where the loss was "
            f"{loss.item():.4g} and the learning rate {learning_rate(config, run.step):.3g}; "
            f"take a smaller lr. The last checkpoint, {newest_checkpoint(out)}, is as it was"
        )


def _tell(record: dict[str, Any], out: Path, ranks: Ranks) -> None:
    if ranks.rank == 0:
        add_to_log(out, record)


@torch.no_grad()
def _test_loss(run: Run, config: TrainConfig, data: ImageData) -> float:
    """Return the average's loss on up to 1,000 test pictures, with the same draws each time."""
    device = next(run.average.parameters()).device
    g = torch.Generator(device=device).manual_seed(0)
    pixels, labels = data.test[:1000].to(device), data.test_labels[:1000].to(device)
    given = replace(config, label_dropout=0.0)
    with _autocast(config, device):
        loss = batch_loss(
            run.average, pixels, labels if config.conditional else None, given, generator=g
        )
    return round(loss.item(), 5)


@functools.lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(_seed(seed, "order", epoch)))


def _seed(*key: object) -> int:
    """Return a seed that belongs to a key; those of other keys have nothing to do with it."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7], "big")


def _own_random_state(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Put torch's global random state, of which dropout draws, back where it was."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and able)
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)

"""Training at the scale of pictures: the loss of the plane, on one device or on many."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from tqdm.auto import tqdm

from fmtutor.images.batches import (
    Pictures,
    autocast,
    batch_loss,
    on_device,
    parts,
    seed_of,
    step_rows,
)  # fmt: skip
from fmtutor.images.config import TrainConfig, learning_rate
from fmtutor.images.data import ImageData, to_uint8
from fmtutor.images.journal import Listener, Stretch, draw_grid, due, loss_on_test, tell
from fmtutor.images.latents import decoder_of
from fmtutor.images.parallel import crew_of, whole
from fmtutor.images.prepare import (
    begin_run,
    check_fit,
    network_config,
    prepare_folder,
    shared_network,
)  # fmt: skip
from fmtutor.images.processes import (
    Ranks,
    catch_signals,
    gradients_shared,
    join_processes,
    largest,
    own_state,
)  # fmt: skip
from fmtutor.images.resume import restore_run, start_from
from fmtutor.images.run import Run, newest_checkpoint, save_average, save_run
from fmtutor.networks import PictureNetwork
from fmtutor.training import ema_decay, update_ema

__all__ = [
    "Stopped", "TrainConfig", "batch_loss", "network_config", "step_rows", "take_step", "train",
]  # fmt: skip


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
    resume: bool | str = False,
    reschedule: bool = False,
    weights: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
    listen: Listener | None = None,
) -> PictureNetwork:
    """Train a network on pictures, alone or, under torchrun or srun, with other processes.

    Everything is drawn from the seed and the number of the step (and of the process), so a run that
    was stopped and resumed is the run that was not; on a CPU bit for bit.

    The directory receives `log.jsonl`, grids of samples, the newest checkpoint, and in the end
    `model.safetensors`, the averaged network.

    Args:
        config: The settings.
        data: The pictures.
        out: The directory of the run.
        resume: Whether to go on from the checkpoint in it; "auto" does if there is one, and begins
            a run if not, as a command has to that torchrun or a cluster starts again after a loss.
        reschedule: Whether a resumed run, which may be over, may go on with other steps, learning
            rates, precision or intervals.
        weights: A network of the same kind whose weights a new run begins with.
        device: Where to train; None, or "auto", takes a GPU if there is one.
        progress: Whether to show a progress bar.
        listen: Gets each line of the log that measures the run, in the process that writes it.

    Returns:
        The averaged network; under fsdp this process's part of it.

    Raises:
        FileExistsError: If there is a run in the directory, and it is not to be resumed.
        FileNotFoundError: If there is no checkpoint to resume from, or no autoencoder of latents.
        FloatingPointError: If the gradient is NaN or infinite; the last checkpoint is kept.
        OSError: If a file cannot be written, as on a full disk; the last checkpoint is kept.
        Stopped: After SIGTERM or SIGINT, once the run is saved.
        TypeError: If pictures are not uint8, or labels not int64.
        ValueError: If settings, data, weights and number of processes do not fit together.

    Chapter: images
    """
    out = Path(out)
    if resume not in (True, False, "auto"):
        raise ValueError(f"resume must be true, false or 'auto', but {resume!r} came")
    if (reschedule and not resume) or (weights is not None and resume is True):
        raise ValueError(
            "reschedule is for a run that is resumed, weights are for one that begins, "
            f"but resume {resume} came"
        )
    with join_processes(device) as ranks, own_state(ranks.device):
        check_fit(config, data, ranks)
        run = begin_run(config, data, ranks)
        if resume == "auto":
            resume = bool(largest(int(newest_checkpoint(out) is not None), ranks))
        if resume:
            restore_run(run, out, reschedule=reschedule)
        elif weights is not None:
            start_from(run, Path(weights))
        crew = crew_of(run.model, ranks)
        # Latents whose autoencoder is not there are refused before anything is written.
        decode = decoder_of(run.metadata, device=ranks.device) if crew else to_uint8
        prepare_folder(run, out, ranks, bool(resume))
        bar = tqdm(
            desc="train", total=config.steps, initial=run.step,
            disable=not progress or ranks.rank > 0,
        )  # fmt: skip
        with bar, catch_signals() as signals:
            _train(run, config, data, out, ranks, signals, bar, listen, decode)
        if crew:
            save_average(run, out / "model.safetensors", crew)
        return run.average


def take_step(
    run: Run,
    net: PictureNetwork | DistributedDataParallel,
    pictures: Pictures,
    config: TrainConfig,
    ranks: Ranks,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Take a step; return its loss and the norm of its gradient, 0-d, which nobody has looked at.

    Chapter: images
    """
    generator.manual_seed(seed_of(config.seed, "step", run.step, ranks.rank))
    torch.manual_seed(seed_of(config.seed, "dropout", run.step, ranks.rank))
    run.optimizer.zero_grad()
    loss = torch.zeros((), device=ranks.device)
    for k, (pixels, labels) in enumerate(parts(pictures, config, run.step, ranks)):
        with gradients_shared(net, k == config.accumulate - 1):
            with autocast(config, ranks.device):
                part = batch_loss(
                    net, pixels, labels, config,
                    null=run.model.classes, flip=pictures.flip, generator=generator,
                )  # fmt: skip
            (part / config.accumulate).backward()  # type: ignore[no-untyped-call]
        loss += part.detach() / config.accumulate
    norm = whole(clip_grad_norm_(run.model.parameters(), config.clip))
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(config, run.step)
    run.optimizer.step()
    update_ema(run.average, run.model, ema_decay(run.step, config.ema))
    run.step += 1
    return loss, norm


def _train(
    run: Run,
    config: TrainConfig,
    data: ImageData,
    out: Path,
    ranks: Ranks,
    signals: list[int],
    bar: tqdm[NoReturn],
    listen: Listener | None,
    decode: Callable[[Tensor], Tensor],
) -> None:
    net, pictures = shared_network(run, config, ranks), on_device(data, config, ranks.device)
    generator = torch.Generator(device=ranks.device)
    stretch, crew = Stretch(run), crew_of(run.model, ranks)
    while run.step < config.steps:
        started, stop = time.monotonic(), 0
        loss, norm = take_step(run, net, pictures, config, ranks, generator)
        now_due = due(config, run.step)
        # Looking at a number makes an accelerator wait, so there it is done now and then.
        if now_due or ranks.device.type == "cpu" or run.step % 50 == 0:
            _refuse_nan(norm, loss, config, run, out)
            stop = largest(signals[-1] if signals else 0, ranks)
        stretch.add(loss)
        run.seconds += time.monotonic() - started
        bar.update()
        if "log" in now_due:
            record = stretch.record(run, config, len(data.train), ranks, norm)
            stretch = Stretch(run)
            bar.set_postfix(loss=f"{record['loss']:.4f}")
            tell(record, out, ranks, listen)
        if "sample" in now_due and crew:
            measured = {"step": run.step, "test_loss": loss_on_test(run, config, data)}
            tell(measured, out, ranks, listen)
            picture = out / "samples" / f"step-{run.step:07d}.png"
            draw_grid(run, picture if ranks.rank == 0 else None, decode)
        if ("save" in now_due or stop) and crew:
            save_run(run, out, crew)
        if stop:
            raise Stopped(stop, run.step)


def _refuse_nan(norm: Tensor, loss: Tensor, config: TrainConfig, run: Run, out: Path) -> None:
    if not bool(norm.isfinite()):
        step = run.step - 1
        raise FloatingPointError(
            f"the gradient became {norm.item()} at step {step}, where the loss was "
            f"{loss.item():.4g} and the learning rate {learning_rate(config, step):.3g}; "
            f"take a smaller lr. The last checkpoint, {newest_checkpoint(out)}, is as it was"
        )

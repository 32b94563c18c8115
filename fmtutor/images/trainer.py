"""Training at the scale of pictures: the loss of the plane, on one device or on many.

A run draws everything from its seed and the number of the step: the order of the data, noise,
times, dropped labels. There is no random state to save, and a run that was stopped goes on as if it
had not been.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import io
import json
import math
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from tqdm.auto import tqdm

from fmtutor.couplings import minibatch_ot
from fmtutor.guidance import drop_labels
from fmtutor.images.checkpoint import load_model, save_model, write_atomically
from fmtutor.images.datasets import ImageData, to_float
from fmtutor.images.pictures import draw_pictures, picture_grid, save_png
from fmtutor.images.unet import UNet, UNetConfig
from fmtutor.losses import cfm_loss
from fmtutor.training import update_ema
from fmtutor.typing import VelocityField

__all__ = [
    "Stopped",
    "TrainConfig",
    "batch_loss",
    "learning_rate",
    "newest_checkpoint",
    "step_rows",
    "train",
]


@dataclass(frozen=True)
class TrainConfig:
    """What describes a training run in full, beside the data.

    Attributes:
        data: Name of the data set.
        conditional: Whether the network is given the labels.
        patch: Side of a patch, as in `UNetConfig`.
        width: Channels at the first resolution.
        mults: Channels at each resolution, as a multiple of `width`.
        blocks: Residual blocks at each resolution, on the way down and again on the way up.
        attention: Resolutions with attention.
        heads: Heads of an attention.
        dropout: Dropout within the network.
        steps: Number of optimizer steps.
        batch_size: Pictures in a step, over all devices together.
        accumulate: Parts in which a device goes through its share of a batch, to save memory.
        lr: The largest learning rate.
        warmup: Number of first steps in which the learning rate rises linearly.
        decay: Share of the steps, the last ones, in which it falls linearly to zero.
        weight_decay: Weight decay of AdamW.
        clip: Largest norm of a gradient.
        ema: Decay of the running average of the weights.
        label_dropout: Probability with which a label is replaced by the null label.
        coupling: How noise is paired with data: "independent" or, without labels, "ot".
        seed: Seed of everything.
        precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 on a GPU that has it.
        compile: Whether to compile the network.
        log_every: Steps between two lines of the log.
        sample_every: Steps between two grids of samples.
        save_every: Steps between two checkpoints.

    Chapter: images
    """

    data: str = "digits"
    conditional: bool = True
    patch: int = 1
    width: int = 32
    mults: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = (4,)
    heads: int = 4
    dropout: float = 0.0
    steps: int = 1500
    batch_size: int = 128
    accumulate: int = 1
    lr: float = 2e-3
    warmup: int = 100
    decay: float = 0.5
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    label_dropout: float = 0.1
    coupling: str = "independent"
    seed: int = 0
    precision: str = "auto"
    compile: bool = False
    log_every: int = 50
    sample_every: int = 500
    save_every: int = 250

    def network(self, data: ImageData) -> UNetConfig:
        """Return the description of the network for a data set."""
        return UNetConfig(
            size=data.train.shape[-1],
            channels=data.train.shape[1],
            classes=len(data.classes) if self.conditional else 0,
            patch=self.patch,
            width=self.width,
            mults=self.mults,
            blocks=self.blocks,
            attention=self.attention,
            heads=self.heads,
            dropout=self.dropout,
        )


class Stopped(Exception):  # noqa: N818
    """A signal has ended a run, which has been saved.

    Attributes:
        signal: The signal's number.
        step: Number of steps that were taken.
    """

    def __init__(self, signal: int, step: int) -> None:
        super().__init__(f"stopped by signal {signal} after step {step}")
        self.signal, self.step = signal, step


@dataclass
class _Run:
    """What changes in the course of a run, and is in its checkpoints."""

    model: UNet
    average: UNet
    optimizer: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Ranks:
    """This process among those of the run."""

    rank: int
    world: int
    device: torch.device


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step: up linearly, level, down linearly to (nearly) zero."""
    rise = (step + 1) / (config.warmup + 1)
    fall = (config.steps - step) / max(1.0, config.decay * config.steps)
    return config.lr * min(1.0, rise, fall)


def step_rows(config: TrainConfig, n: int, step: int) -> Tensor:
    """Return the rows of the data in a step, over all devices: each at most once in an epoch.

    What remains of an epoch's random order after its last full batch is left out of that epoch.

    Returns:
        Row numbers `[batch_size]`, on the CPU.
    """
    epoch, k = divmod(step, n // config.batch_size)
    return _order(n, config.seed, epoch)[k * config.batch_size : (k + 1) * config.batch_size]


@functools.lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(_seed(seed, "order", epoch)))


def _seed(*key: object) -> int:
    """Return a seed for a key, such that different keys have unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7], "big")


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
    """Return the conditional flow matching loss of a batch of pictures.

    Args:
        v: The network.
        pixels: Pictures, uint8 `[b c h w]`.
        labels: Their labels `[b]`; None trains without.
        config: Gives `label_dropout` and `coupling`.
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


def train(
    config: TrainConfig,
    data: ImageData,
    out: str | Path,
    *,
    resume: bool = False,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> UNet:
    """Train a network on pictures, on this device or, under torchrun, on one a process.

    The directory receives `log.jsonl`, `samples/*.png`, `checkpoints/` with the newest checkpoint,
    and in the end `model.safetensors`, the averaged network.

    Args:
        config: The run.
        data: The data.
        out: The directory of the run.
        resume: Whether to go on from the newest checkpoint in it.
        device: Where to train; None takes a GPU if there is one.
        progress: Whether to show a progress bar.

    Returns:
        The averaged network.

    Raises:
        FloatingPointError: If a gradient is NaN or infinite; the last checkpoint is left as it is.
        OSError: If a checkpoint cannot be written.
        Stopped: After SIGTERM or SIGINT, once a checkpoint is written.
        ValueError: If a setting is out of its range.

    Chapter: images
    """
    out = Path(out)
    with _processes(device) as ranks, torch.random.fork_rng(enabled=True):
        run = _start(config, data, out, ranks, resume)
        pixels, labels = data.train.to(ranks.device), data.train_labels.to(ranks.device)
        net: nn.Module = run.model
        if config.compile:
            run.model.compile()
        if ranks.world > 1:
            net = DistributedDataParallel(run.model)
        g = torch.Generator(device=ranks.device)
        cpu = ranks.device.type == "cpu"
        total, since, started = torch.zeros((), device=ranks.device), run.step, time.monotonic()
        clock = run.seconds
        bar = tqdm(
            total=config.steps,
            initial=run.step,
            desc="train",
            disable=not progress or ranks.rank > 0,
        )
        with bar, _signals() as caught:
            while run.step < config.steps:
                rate = learning_rate(config, run.step)
                for group in run.optimizer.param_groups:
                    group["lr"] = rate
                g.manual_seed(_seed(config.seed, "step", run.step, ranks.rank))
                torch.manual_seed(_seed(config.seed, "dropout", run.step, ranks.rank))
                rows = step_rows(config, len(pixels), run.step).to(ranks.device)
                parts = rows.reshape(config.accumulate, ranks.world, -1)[:, ranks.rank]
                run.optimizer.zero_grad()
                for i, part in enumerate(parts):
                    last = i == len(parts) - 1
                    waits = contextlib.nullcontext() if last or ranks.world == 1 else net.no_sync()
                    with waits:
                        with _autocast(config, ranks.device):
                            loss = batch_loss(
                                net,
                                pixels[part],
                                labels[part] if config.conditional else None,
                                config,
                                null=run.model.classes,
                                flip=data.flip,
                                generator=g,
                            )
                        (loss / len(parts)).backward()
                    total += loss.detach() / len(parts)
                norm = clip_grad_norm_(run.model.parameters(), config.clip)
                done = run.step + 1
                saves = done % config.save_every == 0 or done == config.steps
                stop = 0
                if cpu or saves or done % 50 == 0:
                    if not bool(norm.isfinite()):
                        raise FloatingPointError(
                            f"the gradient became {norm.item()} at step {run.step}, the loss being "
                            f"{loss.item():.4g} and the learning rate {rate:.3g}; the checkpoint "
                            f"{newest_checkpoint(out)} is good: take a smaller lr"
                        )
                    stop = _agree(caught[-1] if caught else 0, ranks)
                run.optimizer.step()
                update_ema(
                    run.average, run.model, min(config.ema, (1 + run.step) / (10 + run.step))
                )
                run.step = done
                run.seconds = clock + time.monotonic() - started
                bar.update()
                if done % config.log_every == 0 or done == config.steps:
                    mean = _mean_over_ranks(total / (done - since), ranks)
                    if ranks.rank == 0:
                        elapsed = run.seconds - _LAST.get("seconds", clock)
                        record = {
                            "step": done,
                            "epoch": round(done * config.batch_size / len(pixels), 3),
                            "loss": round(mean, 5),
                            "lr": round(rate, 8),
                            "gradient_norm": round(norm.item(), 4),
                            "images_per_second": round(
                                (done - since) * config.batch_size / elapsed, 1
                            ),
                            "seconds": round(run.seconds, 1),
                            "memory_mb": _memory(ranks.device),
                        }
                        _LAST["seconds"] = run.seconds
                        _log(out, record)
                        bar.set_postfix(loss=f"{mean:.4f}")
                    total.zero_()
                    since = done
                if ranks.rank == 0 and (done % config.sample_every == 0 or done == config.steps):
                    _log(out, {"step": done, "test_loss": round(_test_loss(run, data, config), 5)})
                    _draw(run, out)
                if ranks.rank == 0 and (saves or stop):
                    _save(run, config, data, out)
                if stop:
                    raise Stopped(stop, done)
        if ranks.rank == 0:
            save_model(
                out / "model.safetensors", run.average, metadata=_metadata(run, config, data)
            )
        return run.average


_LAST: dict[str, float] = {}


def newest_checkpoint(out: str | Path) -> Path | None:
    """Return the newest complete checkpoint of a run, None if there is none."""
    found = sorted(Path(out).glob("checkpoints/step-*"))
    return found[-1] if found else None


def _start(config: TrainConfig, data: ImageData, out: Path, ranks: _Ranks, resume: bool) -> _Run:
    with torch.random.fork_rng():
        torch.manual_seed(_seed(config.seed, "weights"))
        model = UNet(config.network(data))
    model = model.to(ranks.device, memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    run = _Run(model.train(), average, optimizer)
    if resume:
        folder = newest_checkpoint(out)
        if folder is None:
            raise ValueError(f"there is no checkpoint in {out} to resume from")
        for target, name in ((model, "weights"), (average, "model")):
            loaded, _ = load_model(folder / f"{name}.safetensors")
            target.load_state_dict(loaded.state_dict())
        state = torch.load(folder / "optimizer.pt", map_location=ranks.device, weights_only=True)
        optimizer.load_state_dict(state["optimizer"])
        run.step, run.seconds = state["step"], state["seconds"]
        if ranks.rank == 0:
            _cut_log(out, run.step)
    elif ranks.rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        (out / "samples").mkdir(exist_ok=True)
        _log(
            out,
            {
                "config": asdict(config),
                "parameters": sum(p.numel() for p in model.parameters()),
                "device": _device_name(ranks.device),
                "processes": ranks.world,
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
            },
        )
        _save(run, config, data, out)
    return run


def _metadata(run: _Run, config: TrainConfig, data: ImageData) -> dict[str, Any]:
    return {
        "data": data.name,
        "classes": list(data.classes),
        "path": "CondOT(sigma_min=0.0)",
        "step": run.step,
        "train": asdict(config),
    }


def _save(run: _Run, config: TrainConfig, data: ImageData, out: Path) -> None:
    final = out / "checkpoints" / f"step-{run.step:07d}"
    if final.exists():
        return
    part = out / "checkpoints" / f".step-{run.step:07d}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    metadata = _metadata(run, config, data)
    save_model(part / "model.safetensors", run.average, metadata=metadata)
    save_model(part / "weights.safetensors", run.model, metadata=metadata)
    state = {"optimizer": run.optimizer.state_dict(), "step": run.step, "seconds": run.seconds}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(part / "optimizer.pt", buffer.getvalue())
    os.rename(part, final)
    for old in final.parent.iterdir():
        if old != final:
            shutil.rmtree(old)


def _draw(run: _Run, out: Path) -> None:
    columns = run.model.classes or 8
    labels = torch.arange(columns).repeat(8) if run.model.classes else None
    pictures = draw_pictures(run.average, labels, count=64)
    path = out / "samples" / f"step-{run.step:07d}.png"
    save_png(path, picture_grid(pictures, columns), zoom=2)


@torch.no_grad()
def _test_loss(run: _Run, data: ImageData, config: TrainConfig) -> float:
    """Return the loss of the averaged network on 1,000 test pictures, with the same draws always."""
    device = next(run.average.parameters()).device
    g = torch.Generator(device=device).manual_seed(0)
    n = min(1000, len(data.test))
    labels = data.test_labels[:n].to(device) if config.conditional else None
    undropped = replace(config, label_dropout=0.0, coupling="independent")
    with _autocast(config, device):
        loss = batch_loss(run.average, data.test[:n].to(device), labels, undropped, generator=g)
    return loss.item()


def _log(out: Path, record: dict[str, Any]) -> None:
    with (out / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _cut_log(out: Path, step: int) -> None:
    """Drop what the log says about steps that are about to be taken again."""
    lines = (out / "log.jsonl").read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line).get("step", 0) <= step]
    write_atomically(out / "log.jsonl", "".join(kept).encode())


def _autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    enabled = config.precision == "bfloat16" or (config.precision == "auto" and able)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def _memory(device: torch.device) -> int:
    """Return the most memory that was in use so far, in MB: the device's, or of this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@contextlib.contextmanager
def _processes(device: torch.device | str | None) -> Iterator[_Ranks]:
    """Join the other processes of torchrun, if it has started this one."""
    gpu = torch.cuda.is_available() if device is None else torch.device(device).type == "cuda"
    if not dist.is_torchelastic_launched():
        yield _Ranks(0, 1, torch.device(device or ("cuda" if gpu else "cpu")))
        return
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        local = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
        if gpu:
            torch.cuda.set_device(local)
        yield _Ranks(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT; the second one ends the program as it would without this."""
    caught: list[int] = []
    names = (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {name: signal.getsignal(name) for name in names}

    def restore() -> None:
        for name in names:
            signal.signal(name, before[name])

    def catch(number: int, frame: object) -> None:
        caught.append(number)
        restore()

    for name in names:
        signal.signal(name, catch)
    try:
        yield caught
    finally:
        restore()


def _agree(stop: int, ranks: _Ranks) -> int:
    """Return the largest of the processes' numbers: if one has to stop, all do."""
    if ranks.world == 1:
        return stop
    number = torch.tensor(stop, device=ranks.device)
    dist.all_reduce(number, op=dist.ReduceOp.MAX)
    return int(number)


def _mean_over_ranks(value: Tensor, ranks: _Ranks) -> float:
    if ranks.world > 1:
        dist.all_reduce(
            value, op=dist.ReduceOp.AVG if ranks.device.type == "cuda" else dist.ReduceOp.SUM
        )
        value = value if ranks.device.type == "cuda" else value / ranks.world
    return math.nan if value.isnan() else value.item()

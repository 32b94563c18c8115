"""Pictures on one GPU: what the machine could do, what training and sampling reach, and a peer.

ceilings     how fast memory is copied, how fast bfloat16 matrices are multiplied
training     steps of the trainer on the U-Net of CIFAR-10's size, with each of its means
torchcfm     the U-Net and the loop of torchcfm's CIFAR-10 example, on the same pictures
transformer  steps of the trainer on the transformer of that size
unread       a hundred steps in which nothing may be read back from the GPU
processes    two processes of torchrun: over NCCL, or on one GPU over gloo
sampling     pictures a second with Euler's method at 10, 50 and 100 evaluations

    python benchmarks/gpu.py [--parts training torchcfm] [--seconds 4] [--out FILE]
    python benchmarks/gpu.py --dry-run        the same code, tiny, on a CPU: it measures nothing

The pictures are random numbers of CIFAR-10's shape, already on the GPU for both programs, so that
neither waits for a disk; both let cuDNN search for its fastest convolutions, and in float32 those
may use TF32, as torch does unasked. A row that fails says why and the others follow; the file is
written after each row, so a run that is cut off keeps what it had. Parts that the file has of the
same code on the same machine stay in it. `make gpu` runs it.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import importlib.metadata
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import machine, revision, rounded, versions
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.utils.flop_counter import FlopCounterMode

from fmtutor import sample
from fmtutor.images.batches import on_device
from fmtutor.images.config import TrainConfig
from fmtutor.images.datasets import ImageData, to_float
from fmtutor.images.prepare import begin_run, shared_network
from fmtutor.images.presets import PRESETS
from fmtutor.images.processes import join_processes, own_state
from fmtutor.images.trainer import batch_loss, network_config, take_step, train
from fmtutor.networks import PictureNetwork
from fmtutor.networks.registry import new_network
from fmtutor.training import update_ema

GOALS = {"times_torchcfm": 4.0, "share_of_matrix_rate": 0.3}


@dataclass(frozen=True)
class Size:
    """How large everything is: once for a GPU, once for the dry run."""

    config: TrainConfig
    transformer: TrainConfig
    side: int
    peer: dict[str, Any]  # what its example sets
    larger_batches: tuple[int, ...]  # tried with all means together
    trainer_steps: int
    unread_steps: int
    pictures: int
    copied_bytes: int
    matrix: int
    sampled: int
    evaluations: tuple[int, ...]
    compiler: str


FULL = Size(
    config=PRESETS["cifar10-gpu"],
    transformer=replace(PRESETS["cifar10-transformer-gpu"], batch_size=128),
    side=32,
    peer={
        "num_channels": 128,
        "channel_mult": [1, 2, 2, 2],
        "num_head_channels": 64,
        "attention_resolutions": "16",
    },
    larger_batches=(512,),
    trainer_steps=240,
    unread_steps=100,
    pictures=10_000,
    copied_bytes=2**32,
    matrix=8192,
    sampled=512,
    evaluations=(10, 50, 100),
    compiler="inductor",
)
TINY = Size(
    config=TrainConfig(architecture={"width": 8, "mults": (1,), "attention": ()}, batch_size=4),
    transformer=TrainConfig(
        network="transformer",
        architecture={"patch": 4, "width": 8, "depth": 1, "heads": 2},
        batch_size=4,
    ),
    side=8,
    peer={
        "num_channels": 32,
        "channel_mult": [1, 2],
        "num_head_channels": 16,
        "attention_resolutions": "4",
    },
    larger_batches=(),
    trainer_steps=4,
    unread_steps=2,
    pictures=16,
    copied_bytes=2**16,
    matrix=32,
    sampled=4,
    evaluations=(1, 2),
    compiler="eager",
)


@dataclass(frozen=True)
class Means:
    """What makes a step faster, each on or off."""

    bf16: bool = False
    channels_last: bool = False
    compile: bool = False


VARIANTS = {
    "eager fp32": Means(),
    "bf16": Means(bf16=True),
    "channels-last": Means(channels_last=True),
    "compile": Means(compile=True),
    "all together": Means(bf16=True, channels_last=True, compile=True),
}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_per_call(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The median over five groups of calls, after a warm-up; over two where one call is long."""
    begun = time.perf_counter()
    for _ in range(3):
        call()
        synchronize(device)
        if time.perf_counter() - begun > seconds / 2:
            break
    start = time.perf_counter()
    call()
    synchronize(device)
    once = time.perf_counter() - start
    calls = max(1, int(seconds / 5 / once))
    groups = []
    for _ in range(5 if once <= seconds / 5 else 2):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize(device)  # once a group: waiting after each call would hide the queue
        groups.append((time.perf_counter() - start) / calls)
    return statistics.median(groups)


def ceilings(size: Size, device: torch.device, seconds: float) -> dict[str, float]:
    source = torch.empty(size.copied_bytes // 4, device=device)
    target = torch.empty_like(source)
    copying = seconds_per_call(lambda: target.copy_(source), device, seconds)
    a = torch.randn(size.matrix, size.matrix, device=device, dtype=torch.bfloat16)
    multiplying = seconds_per_call(lambda: a @ a, device, seconds)
    return {
        "copy_gb_per_s": 2 * size.copied_bytes / copying / 1e9,  # read and written
        "bf16_matmul_tflops": 2 * size.matrix**3 / multiplying / 1e12,
    }


def pictures(size: Size) -> ImageData:
    """Random pictures of CIFAR-10's shape, with ten labels."""
    g = torch.Generator().manual_seed(0)
    shape = (size.pictures, 3, size.side, size.side)
    pixels = torch.randint(0, 256, shape, generator=g, dtype=torch.uint8)
    labels = torch.randint(0, 10, shape[:1], generator=g)
    names = tuple("0123456789")
    return ImageData("noise", pixels, labels, pixels[:10], labels[:10], names, flip=True)


def network(size: Size, config: TrainConfig, means: Means, device: torch.device) -> PictureNetwork:
    torch.manual_seed(0)
    layout = torch.channels_last if means.channels_last else torch.contiguous_format
    model = new_network(config.network, network_config(config, pictures(size)))
    model = model.to(device, memory_format=layout)
    if means.compile:
        model.compile(backend=size.compiler)
    return model


def training_step(
    size: Size, config: TrainConfig, means: Means, batch: int, device: torch.device
) -> tuple[Callable[[], None], Callable[[], Tensor]]:
    """A step made of the trainer's parts, and its loss alone, whose operations are counted."""
    model, data = network(size, config, means, device), pictures(size)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    pixels, labels = data.train.to(device), data.train_labels.to(device)
    g = torch.Generator(device=device).manual_seed(1)

    def loss() -> Tensor:
        rows = torch.randint(len(pixels), (batch,), generator=g, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=means.bf16):
            return batch_loss(
                model, pixels[rows], labels[rows], config, null=10, flip=True, generator=g
            )

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        update_ema(average, model, config.ema)

    return step, loss


def operations(loss: Callable[[], Tensor]) -> int:
    """Multiplications and additions of convolutions and matrices, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    return counter.get_total_flops()


def measured(
    step: Callable[[], None], batch: int, device: torch.device, seconds: float
) -> dict[str, float]:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    step()
    synchronize(device)
    first = time.perf_counter() - start  # compilation is in here
    each = seconds_per_call(step, device, seconds)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {
        "batch": batch,
        "images_per_s": batch / each,
        "ms_per_step": 1e3 * each,
        "first_step_s": first,
        "peak_memory_gb": memory / 1e9,
    }


def attempt(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A row, or why there is none: whatever fails in one must not cost the others."""
    try:
        return make()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    finally:
        torch._dynamo.reset()
        gc.collect()  # a compiled network holds itself, and would count in the next row's memory
        with contextlib.suppress(RuntimeError):  # after some faults of a GPU all its calls fail
            torch.cuda.empty_cache()


def training(
    size: Size, config: TrainConfig, device: torch.device, seconds: float, tflops: float
) -> Iterator[dict[str, Any]]:
    """One row for each of the means and for all of them at larger batches; each when it is there.

    Of the network that is set against torchcfm's there is one for the trainer, too.
    """
    batch = config.batch_size
    cases = {name: (means, batch) for name, means in VARIANTS.items()}
    for larger in size.larger_batches:
        cases[f"all together, batch {larger}"] = (VARIANTS["all together"], larger)
    about = attempt(lambda: counted(size, config, device))
    rows: dict[str, Any] = {}

    def share(row: dict[str, Any]) -> dict[str, Any]:
        if "failed" in about:
            return row
        reached = about["operations_per_image"] * row["images_per_s"] / 1e12
        return row | {"tflops": reached, "share_of_matrix_rate": reached / tflops}

    def row(means: Means, batch: int) -> dict[str, Any]:
        step, _ = training_step(size, config, means, batch, device)
        return share(measured(step, batch, device, seconds))

    for name, case in cases.items():
        rows[name] = attempt(lambda case=case: row(*case))
        yield about | {"rows": rows}
    if config == size.config:
        rows["the trainer itself"] = attempt(lambda: share(trainer_itself(size, device)))
        yield about | {"rows": rows}


def counted(size: Size, config: TrainConfig, device: torch.device) -> dict[str, int]:
    """The weights of a network, and the operations of a step for each picture."""
    weights = network(size, config, Means(), device).parameters()
    _, loss = training_step(size, config, Means(), config.batch_size, device)
    return {
        "parameters": sum(p.numel() for p in weights),
        "operations_per_image": operations(loss) // config.batch_size,
    }


def trainer_itself(size: Size, device: torch.device) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run_trainer(size, device, Path(folder))
        return end_of_log(Path(folder))


def run_trainer(size: Size, device: torch.device, folder: Path) -> None:
    every = size.trainer_steps // 4
    config = replace(
        size.config, steps=size.trainer_steps, warmup=1, log_every=every, save_every=10**6
    )
    train(config, pictures(size), folder, device=device, progress=False)


def end_of_log(folder: Path) -> dict[str, Any]:
    """What the log of `fmtutor train` says at the end of a run."""
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    last = [record for record in log if "images_per_second" in record][-1]
    return {
        "batch": log[0]["config"]["batch_size"],
        "processes": log[0]["processes"],
        "backend": log[0]["backend"],
        "images_per_s": last["images_per_second"],
        "loss": last["loss"],
    }


def processes(size: Size) -> dict[str, Any]:
    """The same run by two processes, which share its batch: how fast, and with which loss."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", "2", __file__, "--process-of", folder]
        command += ["--dry-run"] if size is TINY else []
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if ended.returncode:
            raise RuntimeError(ended.stderr[-500:])
        return end_of_log(Path(folder))


def unread(size: Size, device: torch.device) -> dict[str, Any]:
    """Steps of the trainer, of which the last ones fail if anything is read back from the GPU."""
    config, data = size.config, pictures(size)
    with join_processes(device) as ranks:
        run = begin_run(config, data, ranks)
        net, seen = shared_network(run, config, ranks), on_device(data, config, ranks.device)
        g = torch.Generator(device=ranks.device)

        def steps(count: int) -> None:
            for _ in range(count):
                take_step(run, net, seen, config, ranks, g)

        steps(5)  # compilation, cuDNN's search, the state of the optimizer
        synchronize(ranks.device)
        with refused_reading(ranks.device) as mode:
            steps(size.unread_steps)
    return {"steps": size.unread_steps, "sync_debug_mode": mode}


@contextlib.contextmanager
def refused_reading(device: torch.device) -> Iterator[str | None]:
    if device.type != "cuda":
        yield None
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield "error"
    finally:
        torch.cuda.set_sync_debug_mode("default")


def peer_step(
    size: Size, matcher: str, device: torch.device
) -> tuple[Callable[[], None], Callable[[], Tensor], int]:
    """The loop of torchcfm's CIFAR-10 example with its settings: a step, its loss, parameters.

    Its pictures come from a loader; here they are on the device, which is in its favour.
    """
    from torchcfm import conditional_flow_matching
    from torchcfm.models.unet.unet import UNetModelWrapper

    torch.manual_seed(0)
    shape = (3, size.side, size.side)
    model = UNetModelWrapper(dim=shape, num_res_blocks=2, num_heads=4, dropout=0.1, **size.peer).to(
        device
    )
    average = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(k, 5000) / 5000)
    flow = getattr(conditional_flow_matching, matcher)(sigma=0.0)
    data = to_float(pictures(size).train).to(device)
    weights, averages = model.state_dict(), average.state_dict()

    def loss() -> Tensor:
        x1 = data[torch.randint(len(data), (size.config.batch_size,), device=device)]
        t, xt, ut = flow.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
        return (model(t, xt) - ut).square().mean()

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warmup.step()
        for name, value in averages.items():  # one tensor after the other, as it does
            value.copy_(0.9999 * value + 0.0001 * weights[name])

    return step, loss, sum(p.numel() for p in model.parameters())


PEERS = {
    "independent": "ConditionalFlowMatcher",
    "minibatch OT, its default": "ExactOptimalTransportConditionalFlowMatcher",
}


def peers(size: Size, device: torch.device, seconds: float) -> Iterator[dict[str, Any]]:
    batch, rows = size.config.batch_size, {}

    def row(matcher: str) -> dict[str, Any]:
        step, loss, parameters = peer_step(size, matcher, device)
        about = {"parameters": parameters, "operations_per_image": operations(loss) / batch}
        return about | measured(step, batch, device, seconds)

    for name, matcher in PEERS.items():
        rows[name] = attempt(lambda matcher=matcher: row(matcher))
        yield rows


def sampling(size: Size, device: torch.device, seconds: float) -> Iterator[dict[str, Any]]:
    """Pictures a second with Euler's method, without means and with all of them."""
    x0 = torch.randn(size.sampled, 3, size.side, size.side, device=device)

    def row(means: Means) -> dict[str, Any]:
        model, found = network(size, size.config, means, device).eval(), {}

        def v(x: Tensor, t: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=means.bf16):
                return model(x, t, 3)

        for nfe in size.evaluations:
            draw = partial(sample, v, x0, method="euler", steps=nfe)
            found[f"nfe {nfe}"] = len(x0) / seconds_per_call(draw, device, seconds)
        return {"batch": len(x0), "images_per_s": found}

    rows = {}
    for name in ("all together", "eager fp32"):
        rows[name] = attempt(lambda means=VARIANTS[name]: row(means))
        yield rows


def verdict(rows: dict[str, Any], peer: dict[str, Any]) -> dict[str, Any]:
    """The two goals beside what was reached; None where a row that it takes has failed."""
    ours, theirs = rows["all together"], peer["independent"]
    both = "failed" not in ours and "failed" not in theirs
    return {
        "times_torchcfm": {
            "goal": GOALS["times_torchcfm"],
            "reached": ours["images_per_s"] / theirs["images_per_s"] if both else None,
        },
        "share_of_matrix_rate": {
            "goal": GOALS["share_of_matrix_rate"],
            "reached": ours.get("share_of_matrix_rate"),
        },
    }


def is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def describe(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"name": "cpu"}
    about = torch.cuda.get_device_properties(device)
    return {
        "name": about.name,
        "memory_gb": about.total_memory / 1e9,
        "multiprocessors": about.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolution": torch.backends.cudnn.allow_tf32,
    }


def made_before(out: Path, now: dict[str, Any]) -> dict[str, Any]:
    """The parts that a file has of the same code on the same machine, and all its commands."""
    before = json.loads(out.read_text("utf-8")) if out.exists() else {}
    same = ("dry_run", "device", "machine", "versions")
    if any(before.get(key) != now[key] for key in same):
        return {}
    parts = {part: before[part] for part in ("ceilings", *PARTS, "goals") if part in before}
    return parts | {"command": f"{before['command']} && {now['command']}"}


PARTS = ("training", "torchcfm", "transformer", "unread", "processes", "sampling")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="beside ceilings")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each number")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    parser.add_argument("--dry-run", action="store_true", help="run all of it, tiny, on a CPU")
    parser.add_argument("--process-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        parser.exit(1, "there is no GPU that torch can use; --dry-run tries the script without\n")
    size, device = (TINY, "cpu") if options.dry_run else (FULL, "cuda")
    device, seconds = torch.device(device), 0.01 if options.dry_run else options.seconds
    if options.process_of:
        run_trainer(size, device, options.process_of)
        return

    with own_state(device):  # as the trainer has it
        measure(options, size, device, seconds)


def measure(options: argparse.Namespace, size: Size, device: torch.device, seconds: float) -> None:
    """Make the parts that are asked for, and write them."""
    started = time.perf_counter()
    there = [name for name in ("torchcfm", "pot", "triton") if is_installed(name)]
    result: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "dry_run": options.dry_run,
        "device": describe(device),
        "machine": machine(),
        "versions": versions("fmtutor", *there) | {"revision": revision()},
    }
    result |= made_before(options.out, result)

    def keep(part: str, value: object) -> None:
        """Write what there is: a run that is cut off keeps its rows."""
        result[part] = rounded(value)
        result["seconds"] = round(time.perf_counter() - started)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        new = options.out.with_suffix(".new")
        new.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", "utf-8")
        new.replace(options.out)
        print(f"{part} ({result['seconds']} s)", flush=True)

    keep("ceilings", ceilings(size, device, seconds))
    matmul = result["ceilings"]["bf16_matmul_tflops"]
    made: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "training": lambda: training(size, size.config, device, seconds, matmul),
        "torchcfm": lambda: peers(size, device, seconds),
        "transformer": lambda: training(size, size.transformer, device, seconds, matmul),
        "unread": lambda: iter([attempt(lambda: unread(size, device))]),
        "processes": lambda: iter([attempt(lambda: processes(size))]),
        "sampling": lambda: sampling(size, device, seconds),
    }
    for part in PARTS:
        if part in options.parts:
            for value in made[part]():
                keep(part, value)
        if part == "torchcfm" and {"training", "torchcfm"} <= result.keys():
            keep("goals", verdict(result["training"]["rows"], result["torchcfm"]))
    print(json.dumps(result, indent=2))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()

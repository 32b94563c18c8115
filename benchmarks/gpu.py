"""Pictures on one GPU: what the machine could do, what training and sampling reach, and a peer.

ceilings    how fast memory is copied, how fast bfloat16 matrices are multiplied
training    steps of the trainer on the U-Net of CIFAR-10's size, with each of its means
torchcfm    the U-Net and the loop of torchcfm's CIFAR-10 example, on the same pictures
sampling    pictures a second with Euler's method at 10, 50 and 100 evaluations

    python benchmarks/gpu.py [--seconds 6] [--out FILE]
    python benchmarks/gpu.py --dry-run        the same code, tiny, on a CPU: it measures nothing

The pictures are random numbers of CIFAR-10's shape, already on the GPU for both programs, so that
neither waits for a disk. A row that fails says why and the others follow; the file is written after
each part. Ten minutes of an H100 are enough, compilation included. `make gpu` runs it.
"""

from __future__ import annotations

import argparse
import copy
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import machine, rounded, versions
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.utils.flop_counter import FlopCounterMode

from fmtutor import sample
from fmtutor.images.config import TrainConfig
from fmtutor.images.datasets import ImageData, to_float
from fmtutor.images.presets import PRESETS
from fmtutor.images.trainer import batch_loss, network_config, train
from fmtutor.networks import UNet
from fmtutor.training import update_ema

GOALS = {"times_torchcfm": 4.0, "share_of_matrix_rate": 0.3}


@dataclass(frozen=True)
class Size:
    """How large everything is: once for a GPU, once for the dry run."""

    config: TrainConfig
    side: int
    peer: dict[str, Any]  # what its example sets
    larger_batches: tuple[int, ...]  # tried with all means together
    trainer_steps: int
    pictures: int
    copied_bytes: int
    matrix: int
    sampled: int
    evaluations: tuple[int, ...]
    compiler: str


FULL = Size(
    config=PRESETS["cifar10-gpu"],
    side=32,
    peer={
        "num_channels": 128,
        "channel_mult": [1, 2, 2, 2],
        "num_head_channels": 64,
        "attention_resolutions": "16",
    },
    larger_batches=(512,),
    trainer_steps=400,
    pictures=10_000,
    copied_bytes=2**32,
    matrix=8192,
    sampled=512,
    evaluations=(10, 50, 100),
    compiler="inductor",
)
TINY = Size(
    config=TrainConfig(architecture={"width": 8, "mults": (1,), "attention": ()}, batch_size=4),
    side=8,
    peer={
        "num_channels": 32,
        "channel_mult": [1, 2],
        "num_head_channels": 16,
        "attention_resolutions": "4",
    },
    larger_batches=(),
    trainer_steps=4,
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
    """The median over five groups of calls, after a warm-up."""
    for _ in range(3):
        call()
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    calls = max(1, int(seconds / 5 / (time.perf_counter() - start)))
    groups = []
    for _ in range(5):
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


def network(size: Size, means: Means, device: torch.device) -> UNet:
    torch.manual_seed(0)
    layout = torch.channels_last if means.channels_last else torch.contiguous_format
    model = UNet(network_config(size.config, pictures(size))).to(device, memory_format=layout)
    if means.compile:
        model.compile(backend=size.compiler)
    return model


def training_step(
    size: Size, means: Means, batch: int, device: torch.device
) -> tuple[Callable[[], None], Callable[[], Tensor]]:
    """A step made of the trainer's parts, and its loss alone, whose operations are counted."""
    model, config, data = network(size, means, device), size.config, pictures(size)
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
    """A row, or why there is none: out of memory in one must not cost the others."""
    try:
        return make()
    except (RuntimeError, ImportError) as error:
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    finally:
        torch._dynamo.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def training(size: Size, device: torch.device, seconds: float, tflops: float) -> dict[str, Any]:
    """One row for each of the means, for all of them at larger batches, and for the trainer."""
    batch = size.config.batch_size
    cases = {name: (means, batch) for name, means in VARIANTS.items()}
    for larger in size.larger_batches:
        cases[f"all together, batch {larger}"] = (VARIANTS["all together"], larger)
    _, loss = training_step(size, Means(), batch, device)
    per_image = operations(loss) / batch

    def share(row: dict[str, Any]) -> dict[str, Any]:
        reached = per_image * row["images_per_s"] / 1e12
        return row | {"tflops": reached, "share_of_matrix_rate": reached / tflops}

    def row(means: Means, batch: int) -> dict[str, Any]:
        return share(measured(training_step(size, means, batch, device)[0], batch, device, seconds))

    rows = {name: attempt(lambda case=case: row(*case)) for name, case in cases.items()}
    rows["the trainer itself"] = attempt(lambda: share(trainer_itself(size, device)))
    return {"operations_per_image": per_image, "rows": rows}


def trainer_itself(size: Size, device: torch.device) -> dict[str, Any]:
    """What the log of `fmtutor train` says at the end of a short run."""
    every = size.trainer_steps // 4
    config = replace(
        size.config, steps=size.trainer_steps, warmup=1, log_every=every, save_every=10**6
    )
    with tempfile.TemporaryDirectory() as folder:
        train(config, pictures(size), folder, device=device, progress=False)
        log = [json.loads(line) for line in (Path(folder) / "log.jsonl").open()]
    last = [record for record in log if "images_per_second" in record][-1]
    return {"batch": config.batch_size, "images_per_s": last["images_per_second"]}


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


def peers(size: Size, device: torch.device, seconds: float) -> dict[str, dict[str, Any]]:
    batch = size.config.batch_size

    def row(matcher: str) -> dict[str, Any]:
        step, loss, parameters = peer_step(size, matcher, device)
        about = {"parameters": parameters, "operations_per_image": operations(loss) / batch}
        return about | measured(step, batch, device, seconds)

    return {name: attempt(lambda matcher=matcher: row(matcher)) for name, matcher in PEERS.items()}


def sampling(size: Size, device: torch.device, seconds: float) -> dict[str, dict[str, Any]]:
    """Pictures a second with Euler's method, without means and with all of them."""
    x0 = torch.randn(size.sampled, 3, size.side, size.side, device=device)

    def rows(means: Means) -> dict[str, Any]:
        model = network(size, means, device).eval()

        def v(x: Tensor, t: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=means.bf16):
                return model(x, t, 3)

        found = {}
        for nfe in size.evaluations:
            draw = partial(sample, v, x0, method="euler", steps=nfe)
            found[f"nfe {nfe}"] = len(x0) / seconds_per_call(draw, device, seconds)
        return {"batch": len(x0), "images_per_s": found}

    return {
        name: attempt(lambda means=VARIANTS[name]: rows(means))
        for name in ("eager fp32", "all together")
    }


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
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolution": torch.backends.cudnn.allow_tf32,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="for each number")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    parser.add_argument("--dry-run", action="store_true", help="run all of it, tiny, on a CPU")
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        parser.exit(1, "there is no GPU that torch can use; --dry-run tries the script without\n")
    size, device = (TINY, "cpu") if options.dry_run else (FULL, "cuda")
    device, seconds = torch.device(device), 0.01 if options.dry_run else options.seconds

    started = time.perf_counter()
    result: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "dry_run": options.dry_run,
        "device": describe(device),
        "machine": machine(),
        "versions": versions("fmtutor"),
        "parameters": sum(p.numel() for p in network(size, Means(), device).parameters()),
    }

    def keep(part: str, value: object) -> None:
        """Write what there is: a run that is cut off keeps its parts."""
        result[part] = rounded(value)
        result["seconds"] = round(time.perf_counter() - started)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", "utf-8")
        print(f"{part} ({result['seconds']} s): {json.dumps(result[part], indent=2)}", flush=True)

    keep("ceilings", ceilings(size, device, seconds))
    matmul = result["ceilings"]["bf16_matmul_tflops"]
    keep("training", training(size, device, seconds, matmul))
    keep("torchcfm", peers(size, device, seconds))
    keep("sampling", sampling(size, device, seconds))
    keep("goals", verdict(result["training"]["rows"], result["torchcfm"]))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()

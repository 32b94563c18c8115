"""What is held where, and what travels: a training step on paper, before anybody pays for it.

Bytes of weights, gradients, moments, average, and of what is sent, are those of real runs of two
processes (the tests compare them); activations and operations are estimates, within some percent of
what is counted; copies and times are on paper alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

from fmtutor.images.sizes import PRECISIONS, SIZES, Size

__all__ = [
    "LINKS", "Footprint", "Plan", "crossover", "footprint", "footprint_table", "largest_batch",
    "step_seconds",
]  # fmt: skip

LINKS = {"NVLink": 450e9, "InfiniBand": 50e9, "Ethernet": 1.25e9}
"""What a device can send, in bytes a second: within a machine, and between machines."""


@dataclass(frozen=True)
class Plan:
    """How a network is to be trained; the names are those of `TrainConfig`.

    Attributes:
        devices: Number of devices.
        parallel: ddp or fsdp.
        batch_size: Pictures in a step, over all devices together.
        accumulate: Parts in which a device goes through its share of a batch.
        precision: float32 or bfloat16.
        activation_checkpointing: Whether blocks are computed again for their gradients.
        data: Bytes of pictures that stay on each device: all of them, or 0 for a packed data set.

    Raises:
        ValueError: If a setting is out of its range.

    Chapter: scale
    """

    devices: int = 1
    parallel: str = "ddp"
    batch_size: int = 256
    accumulate: int = 1
    precision: str = "bfloat16"
    activation_checkpointing: bool = False
    data: float = 0.0

    def __post_init__(self) -> None:
        if min(self.devices, self.batch_size, self.accumulate) < 1 or self.data < 0:
            raise ValueError(f"numbers must be at least 1 and data at least 0, but {self} came")
        if self.parallel not in ("ddp", "fsdp"):
            raise ValueError(f"parallel must be ddp or fsdp, but {self.parallel!r} came")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be float32 or bfloat16, but {self.precision!r} came")


@dataclass(frozen=True)
class Footprint:
    """What one device holds, and does in a step.

    Attributes:
        weights: Bytes of the weights, in float32.
        gradients: Bytes of their gradients, in float32.
        optimizer: Bytes of AdamW's two moments.
        average: Bytes of the running average.
        copies: Bytes of weights and gradients on their way: those cast to bfloat16; under fsdp the
            blocks that are gathered, the one in use and the next, with the gradients of one.
        data: Bytes of the pictures that stay.
        activations: Bytes kept for the backward pass, of a part of the device's share of a batch.
        sent: Bytes that the device sends in a step.
        flops: Operations of the device in a step.

    Chapter: scale
    """

    weights: float
    gradients: float
    optimizer: float
    average: float
    copies: float
    data: float
    activations: float
    sent: float
    flops: float

    @property
    def held(self) -> float:
        """All bytes that the device holds."""
        kept = [f.name for f in fields(self) if f.name not in ("sent", "flops")]
        return sum(float(getattr(self, name)) for name in kept)


def footprint(size: Size, plan: Plan, *, activations: float | None = None) -> Footprint:
    """Return what a device holds, sends and computes in a step of training.

    A ring of N devices sums gradients by sending 2 (N − 1)/N of them from each. Under fsdp each
    sends (N − 1)/N of the weights twice for each part of a batch, for both passes, in the precision
    of the products, and (N − 1)/N of the gradients once. (The few weights outside of the blocks are
    sent once for each part, which is left out here.) With several parts fsdp keeps gradients in
    whole until the last one.

    Args:
        size: The network.
        plan: How it is trained.
        activations: Bytes that a picture keeps for the backward pass, where they are known.

    Chapter: scale
    """
    n, whole, short = plan.devices, 4.0 * size.weights, PRECISIONS[plan.precision]
    again = plan.activation_checkpointing
    if activations is None:
        activations = size.activations(plan.precision, activation_checkpointing=again)
    share, ring = 1.0, 2 * whole
    copies = short * size.weights if short < 4 else 0.0
    if plan.parallel == "fsdp" and n > 1:
        block = size.weights / size.depth
        share, copies = 1 / n, block * (3 * short + 4) + (whole if plan.accumulate > 1 else 0)
        ring = 2 * plan.accumulate * short * size.weights + whole
    pictures = plan.batch_size / n
    return Footprint(
        weights=share * whole,
        gradients=share * whole,
        optimizer=2 * share * whole,
        average=share * whole,
        copies=copies,
        data=plan.data,
        activations=activations * pictures / plan.accumulate,
        sent=ring * (n - 1) / n,
        flops=size.flops(activation_checkpointing=again) * pictures,
    )


def largest_batch(
    size: Size, plan: Plan, memory: float, *, activations: float | None = None
) -> int:
    """Return how many pictures a device can take at a time, 0 where not even the network fits.

    Args:
        size: The network.
        plan: How it is trained; its batch does not matter.
        memory: Bytes of a device.
        activations: Bytes that a picture keeps for the backward pass, where they are known.

    Chapter: scale
    """
    one = replace(plan, batch_size=plan.devices * plan.accumulate)  # a picture at a time
    parts = footprint(size, one, activations=activations)
    return max(0, int((memory - parts.held + parts.activations) // parts.activations))


def step_seconds(parts: Footprint, flops: float, link: float) -> tuple[float, float]:
    """Return how long a step computes and how long it sends, at so many operations, bytes a second.

    Chapter: scale
    """
    return parts.flops / flops, parts.sent / link


def crossover(size: Size, plan: Plan, flops: float, link: float, most: int = 1000) -> int | None:
    """Return the least number of devices that send for longer than they compute; None up to `most`.

    The batch stays: more devices have less to compute each, and as much to send.

    Chapter: scale
    """
    for n in range(2, min(most, plan.batch_size) + 1):
        computes, sends = step_seconds(footprint(size, replace(plan, devices=n)), flops, link)
        if sends > computes:
            return n
    return None


def footprint_table(
    plan: Plan,
    *,
    sizes: Mapping[str, Size] = SIZES,
    devices: Iterable[int] = (1, 8, 64),
    memory: float = 80e9,
    flops: float = 4e14,
    links: Mapping[str, float] = LINKS,
) -> str:
    """Return a table in Markdown: what each device holds and sends, how long that takes.

    A line for each size, number of devices and method. What is held leaves the activations out.

    Args:
        plan: How the networks are trained; the table varies its devices and its method.
        sizes: The networks.
        devices: The numbers of devices.
        memory: Bytes of a device, which decides how many pictures it takes at a time.
        flops: Operations of a device in a second, as it reaches them.
        links: Bytes a second that a device can send.

    Chapter: scale
    """
    head = ["weights", "on", "", "holds, GB", "takes", "sends, GB", "computes, ms"]
    rows = [[*head, *(f"{name}, ms" for name in links)]]
    rows.append(["---", "---:", "---", *("---:" for _ in rows[0][3:])])
    for name, size in sizes.items():
        for n in devices:
            for parallel in ("ddp", "fsdp") if n > 1 else ("ddp",):
                this = replace(plan, devices=n, parallel=parallel)
                part = footprint(size, this)
                seconds = [part.flops / flops, *(part.sent / link for link in links.values())]
                row = [name, str(n), parallel if n > 1 else ""]
                row += [f"{(part.held - part.activations) / 1e9:.1f}"]
                row += [str(largest_batch(size, this, memory)), f"{part.sent / 1e9:.1f}"]
                rows.append(row + [f"{1e3 * x:.0f}" for x in seconds])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)

"""What is held and sent on paper, beside what real processes hold and send."""

from dataclasses import replace

import pytest
import torch
from forked import together
from picture_runs import CONFIG, CPU, DATA, with_network
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fmtutor.images.batches import on_device
from fmtutor.images.footprint import (
    LINKS,
    Plan,
    crossover,
    footprint,
    footprint_table,
    largest_batch,
    step_seconds,
)
from fmtutor.images.prepare import begin_run, shared_network
from fmtutor.images.sizes import SIZES, Size
from fmtutor.images.trainer import take_step

# All rows can be shared by two.
PAIRED = replace(with_network(CONFIG, mults=(1, 2)), label_dropout=0.0)


def local_bytes(tensors):
    return sum(getattr(x, "_local_tensor", x).nbytes for x in tensors)


class Sent(TorchDispatchMode):
    """Adds up what a ring of `n` devices sends from each of them, of all but single numbers."""

    def __init__(self, n):
        super().__init__()
        self.n, self.bytes = n, 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        c10d, ring = torch.ops.c10d, (self.n - 1) / self.n
        if func is c10d.allreduce_.default:
            self.bytes += sum(2 * ring * x.nbytes for x in args[0] if x.numel() > 1)
        elif func is c10d._allgather_base_.default:
            self.bytes += ring * args[0].nbytes  # what comes out
        elif func is c10d._reduce_scatter_base_.default:
            self.bytes += ring * args[1].nbytes  # what goes in
        elif func.namespace == "c10d":
            raise AssertionError(f"{func} is not expected in a step")
        return func(*args, **(kwargs or {}))


def one_step(config, ranks):
    """Take a step; return what this process holds after it, and what it has sent."""
    run = begin_run(config, DATA, ranks)
    net, seen = shared_network(run, config, ranks), on_device(DATA, config, ranks.device)
    for _ in range(2):  # until DDP has ordered its buckets
        take_step(run, net, seen, config, ranks, torch.Generator())
    with Sent(ranks.world) as sent:
        take_step(run, net, seen, config, ranks, torch.Generator())
    weights = [*run.model.parameters()]
    moments = [run.optimizer.state[w][key] for w in weights for key in ("exp_avg", "exp_avg_sq")]
    held = {
        "weights": weights,
        "gradients": [w.grad for w in weights],
        "optimizer": moments,
        "average": [*run.average.parameters()],
    }
    blocks = sum(w.numel() for block in run.model.blocks for w in block.parameters())
    count = sum(w.numel() for w in weights)
    return count, count - blocks, {k: local_bytes(v) for k, v in held.items()}, sent.bytes


def on_paper(count, config, ranks):
    return footprint(
        Size(count, 1, 1, 1),
        Plan(ranks.world, config.parallel, config.batch_size, config.accumulate, config.precision),
    )


def test_what_one_process_holds():
    config = replace(PAIRED, precision="float32")
    count, _, held, sent = one_step(config, CPU)
    parts = on_paper(count, config, CPU)
    assert held == {name: getattr(parts, name) for name in held}
    assert held["weights"] == 4 * count
    assert sent == parts.sent == 0
    # One process alone holds all, whatever it is called.
    assert on_paper(count, replace(config, parallel="fsdp"), CPU) == parts


def test_what_two_processes_hold_and_send():
    def work(ranks):
        for parallel in ("ddp", "fsdp"):
            for precision, accumulate in (("float32", 1), ("float32", 2), ("bfloat16", 1)):
                config = replace(
                    PAIRED, parallel=parallel, precision=precision, accumulate=accumulate
                )
                count, outside, held, sent = one_step(config, ranks)
                parts = on_paper(count, config, ranks)
                assert held == {name: getattr(parts, name) for name in held}, config
                once = 0
                if parallel == "fsdp":  # what is outside of the blocks is gathered once a part
                    once = (4 if precision == "float32" else 2) * accumulate * outside / 2
                assert sent == parts.sent - once, (config, sent / parts.sent)

    together(2, work)


# On paper.


def test_parts_become_fewer_with_devices_and_the_whole_does_not():
    size = SIZES["675 M"]
    alone, ddp, fsdp = (
        footprint(size, Plan(n, parallel, 64))
        for n, parallel in ((1, "ddp"), (8, "ddp"), (8, "fsdp"))
    )
    for name in ("weights", "gradients", "optimizer", "average"):
        assert getattr(alone, name) == getattr(ddp, name) == 8 * getattr(fsdp, name)
    assert alone.activations == 8 * ddp.activations == 8 * fsdp.activations
    assert alone.flops == 8 * ddp.flops
    assert alone.held > ddp.held > fsdp.held
    # In 16 bits both methods send the same: two ways of 4 bytes, or 2 + 2 + 4.
    assert fsdp.sent == ddp.sent == 7 / 8 * 8 * size.weights
    full = footprint(size, Plan(8, "fsdp", 64, precision="float32"))
    assert full.sent == 7 / 8 * 12 * size.weights
    # Parts of a batch: half of what is kept, all gradients in whole, twice gathered.
    in_two = footprint(size, Plan(8, "fsdp", 64, accumulate=2))
    assert in_two.activations == fsdp.activations / 2
    assert in_two.copies - fsdp.copies == 4 * size.weights
    assert in_two.sent == 7 / 8 * 12 * size.weights
    assert footprint(size, Plan(8, "ddp", 64, accumulate=2)).sent == ddp.sent


def test_the_pictures_of_a_plan_count():
    size = SIZES["35 M"]
    plan = Plan(batch_size=10, data=5e9)
    given = footprint(size, plan, activations=1e6)
    assert given.activations == 1e7
    assert given.held == 22 * size.weights + 1e7 + 5e9  # 4 for each of five, 2 cast
    assert given.held == footprint(size, replace(plan, data=0), activations=1e6).held + 5e9


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("plan", [Plan(), Plan(8, "fsdp", accumulate=2), Plan(8)])
def test_the_largest_batch_is_the_largest(name, plan):
    size, memory = SIZES[name], 40e9
    most = largest_batch(size, plan, memory)
    for pictures, fits in ((most, True), (most + 1, False)):
        parts = footprint(size, replace(plan, batch_size=pictures * plan.devices * plan.accumulate))
        assert (parts.held <= memory) == fits
    assert largest_batch(size, replace(plan, activation_checkpointing=True), memory) > 5 * most
    assert largest_batch(size, plan, 1e6) == 0


def test_where_sending_takes_longer_than_computing():
    size, plan = SIZES["675 M"], Plan(batch_size=1024)
    found = {name: crossover(size, plan, 4e14, link) for name, link in LINKS.items()}
    for name, n in found.items():
        for devices, over in ((n, True), (n - 1, False)):
            parts = footprint(size, replace(plan, devices=devices))
            computes, sends = step_seconds(parts, 4e14, LINKS[name])
            assert (sends > computes) == over
    assert 2 == found["Ethernet"] < found["InfiniBand"] < found["NVLink"]
    assert crossover(size, plan, 4e14, 1e15) is None
    assert crossover(size, plan, 4e14, LINKS["NVLink"], most=found["NVLink"] - 1) is None


def test_the_table_has_a_line_for_each(capsys):
    table = footprint_table(Plan(batch_size=1024)).splitlines()
    head, _, *lines = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table)
    assert len(lines) == 3 * (1 + 2 * 2)
    assert {len(line) for line in lines} == {len(head)}
    assert head[7:] == [f"{name}, ms" for name in LINKS]
    assert [line[:3] for line in lines[-2:]] == [["675 M", "64", "ddp"], ["675 M", "64", "fsdp"]]
    assert lines[0][:3] == ["35 M", "1", ""]
    for parallel, line in zip(("ddp", "fsdp"), lines[-2:], strict=True):
        plan = Plan(64, parallel, 1024)
        parts = footprint(SIZES["675 M"], plan)
        kept = parts.weights + parts.gradients + parts.optimizer + parts.average + parts.copies
        assert line[3] == f"{kept / 1e9:.1f}"
        assert line[4] == str(largest_batch(SIZES["675 M"], plan, 80e9))
        assert line[5] == f"{parts.sent / 1e9:.1f}"
        assert line[6] == f"{1e3 * parts.flops / 4e14:.0f}"
        assert line[8] == f"{1e3 * parts.sent / LINKS['InfiniBand']:.0f}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"devices": 0}, "numbers must be at least 1"),
        ({"data": -1}, "data at least 0"),
        ({"parallel": "zero"}, "parallel must be ddp or fsdp, but 'zero' came"),
        ({"precision": "auto"}, "precision must be float32 or bfloat16, but 'auto' came"),
    ],
)
def test_plans_that_are_none_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Plan(**given)


# The formulas of a transformer, beside one that is counted.


@pytest.fixture
def counted():
    module = pytest.importorskip("fmtutor.networks.transformer")
    config = module.TransformerConfig(size=32, channels=4, classes=10, patch=4, width=256, depth=4)
    with torch.random.fork_rng():
        return module.Transformer(config), Size(0, 4, 256, 64)


def call(model, n):
    device = next(model.parameters()).device
    labels = torch.zeros(n, dtype=torch.int64, device=device)
    return model(torch.zeros(n, 4, 32, 32, device=device), torch.zeros(n, device=device), labels)


def test_the_operations_of_a_transformer(counted):
    model, size = counted
    model.to("meta")
    with FlopCounterMode(display=False) as counter:
        call(model, 5).sum().backward()
    assert size.flops() == pytest.approx(counter.get_total_flops() / 5, rel=0.03)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("again", [False, True])
def test_what_a_transformer_keeps(counted, precision, again):
    from fmtutor.images.parallel import recompute_activations

    model, size = counted
    if again:
        recompute_activations(model)

    def kept(n):
        saved = []
        with (
            torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
        ):
            call(model, n)
        found = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in saved}
        return sum(found.values())

    each = kept(3) - kept(2)  # weights and what is cast of them is in both
    if again:
        # What one block keeps is there only later.
        each += size.activations(precision) / size.depth
    expected = size.activations(precision, activation_checkpointing=again)
    assert expected == pytest.approx(each, rel=0.15)

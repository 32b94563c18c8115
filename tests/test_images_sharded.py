"""Runs in which each process holds a part of the network: the same run, whoever takes part."""

import errno
import functools
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from forked import together
from picture_runs import CONFIG, CPU, DATA, fresh_run, log_of, quick, state_at, with_network
from torch.utils._python_dispatch import TorchDispatchMode

from fmtutor.images import batches, journal, trainer
from fmtutor.images.batches import on_device, seed_of
from fmtutor.images.checkpoint import load_model
from fmtutor.images.parallel import crew_of, is_sharded, part_like, whole
from fmtutor.images.prepare import begin_run, shared_network
from fmtutor.images.processes import mean_over_ranks
from fmtutor.images.resume import restore_run
from fmtutor.images.run import newest_checkpoint, save_run
from fmtutor.images.trainer import Stopped, take_step
from fmtutor.losses import cfm_loss
from fmtutor.networks.unet import Stage

# 12 is shared by 1, 2 and 3 processes. The rows of the labels' table, 4, are not by 3.
FSDP = replace(CONFIG, parallel="fsdp", batch_size=12, label_dropout=0.0, ema=0.3)
WIDE = with_network(FSDP, mults=(1, 2), attention=(1,), heads=2)


def fixed_draws(v, x1, *, t, labels, coupling, generator):
    """A picture's noise and time are its own, so that all processes together draw what one does."""
    assert t is None
    draws = [torch.Generator().manual_seed(seed_of(x.numpy().tobytes())) for x in x1]
    x0 = torch.stack([torch.randn(x1.shape[1:], generator=g) for g in draws])
    t = torch.stack([torch.rand((), generator=g) for g in draws])
    return cfm_loss(v, x1, x0=x0, t=t, labels=labels)


@pytest.fixture
def fixed(monkeypatch):
    monkeypatch.setattr(batches, "cfm_loss", fixed_draws)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    drawn = functools.partial(journal.draw_pictures, steps=1)
    monkeypatch.setattr(journal, "draw_pictures", drawn)


def in_whole(tensors):
    return {name: whole(value.detach()).clone() for name, value in tensors.items()}


def furthest(one, other):
    """The largest difference of two states, for each kind of tensor, over the largest entry."""
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    apart = {}
    for name, value in one[1].items():
        kind = name.split()[0]
        by = (value - other[1][name]).abs().max() / value.abs().max().clamp_min(1e-12)
        apart[kind] = max(apart.get(kind, 0.0), by.item())
    return apart


def stop_at(step, on=1):
    """Let the process `on` get SIGTERM after a step."""

    def stopping(run, *rest):
        taken = take_step(run, *rest)
        if run.step == step and rest[3].rank == on:
            os.kill(os.getpid(), signal.SIGTERM)
        return taken

    trainer.take_step = stopping
    return stopping


# A step.


def started(config, ranks):
    """A run whose gradients are none of them 0, and what its network is called by."""
    run = begin_run(config, DATA, ranks)
    last = run.model.last[2].weight.detach()
    g = torch.Generator().manual_seed(0)
    full = torch.randn(last.shape, generator=g)
    if is_sharded(run.model):
        full = part_like(full, last)
    last.copy_(full)
    return run, shared_network(run, config, ranks)


def step(config, ranks):
    run, net = started(config, ranks)
    seen = on_device(DATA, config, ranks.device)
    loss, norm = take_step(run, net, seen, config, ranks, torch.Generator())
    return run, mean_over_ranks(loss, ranks), norm


def gradients(run):
    return in_whole({name: w.grad for name, w in run.model.named_parameters()})


@pytest.mark.usefixtures("fixed")
def test_a_step_in_parts_is_the_step_in_whole():
    free = replace(WIDE, clip=1e9)
    expected, loss, norm = step(free, CPU)
    cases = {
        "fsdp": free,
        "ddp": replace(free, parallel="ddp"),
        "fsdp in parts of a batch": replace(free, accumulate=2),
        "fsdp computing again": replace(free, activation_checkpointing=True),
        "ddp computing again": replace(free, activation_checkpointing=True, parallel="ddp"),
    }

    def work(ranks):
        for name, config in cases.items():
            run, its_loss, its_norm = step(config, ranks)
            assert is_sharded(run.model) == (config.parallel == "fsdp"), name
            assert is_sharded(run.average) == is_sharded(run.model), name
            assert its_loss == pytest.approx(loss, rel=1e-5), name
            assert its_norm.item() == pytest.approx(norm.item(), rel=1e-5), name
            for key, value in gradients(run).items():
                reference = expected.model.get_parameter(key).grad
                torch.testing.assert_close(value, reference, atol=1e-6, rtol=1e-4, msg=name + key)
        run, _, its_norm = step(replace(free, clip=0.01), ranks)
        assert its_norm.item() == pytest.approx(norm.item(), rel=1e-5)
        cut = torch.cat([g.flatten() for g in gradients(run).values()])
        assert cut.norm().item() == pytest.approx(0.01, rel=1e-3)

    together(2, work)


class Reads(TorchDispatchMode):
    """Counts how often a number is read back."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_what_a_step_in_parts_does_and_leaves_alone():
    def work(ranks):
        run, net = started(WIDE, ranks)
        before = in_whole(run.average.state_dict())
        seen, g = on_device(DATA, WIDE, ranks.device), torch.Generator()
        with Reads() as reads:
            take_step(run, net, seen, WIDE, ranks, g)
        # On a CPU the loss looks at its times; no accelerator is asked for them.
        plain = started(replace(WIDE, parallel="ddp"), ranks)
        with Reads() as of_ddp:
            take_step(*plain, seen, WIDE, ranks, g)
        assert reads.count == of_ddp.count
        now, average = (in_whole(m.state_dict()) for m in (run.model, run.average))
        for name, old in before.items():
            # The first decay is 0.1, whatever the network: (1 + k)/(10 + k).
            expected = old + 0.9 * (now[name] - old)
            torch.testing.assert_close(average[name], expected, atol=1e-7, rtol=1e-5)
        for old, weight in zip(run.average.parameters(), run.model.parameters(), strict=True):
            assert old.placements == weight.placements
            assert old.to_local().shape == weight.to_local().shape
            assert 2 * old.to_local().numel() == old.numel()
        # Used without gradients, the average gives up again what it has gathered.
        with torch.no_grad():
            run.average(torch.zeros(1, 1, 4, 4), 0.5)
        assert is_sharded(run.average)
        check_bfloat16(ranks, now)
        check_compilation(ranks)

    together(2, work)


def check_bfloat16(ranks, full):
    """The weights travel in 16 bits and are kept in 32; a time keeps all of its own."""
    run, net = started(replace(WIDE, precision="bfloat16"), ranks)
    times, kinds = [], []
    run.model.time.register_forward_pre_hook(lambda module, args: times.append(args[0]))
    block = run.model.blocks[0].block.conv_in
    block.register_forward_hook(lambda module, args, out: kinds.append((module.weight, out)))
    seen = on_device(DATA, WIDE, ranks.device)
    take_step(run, net, seen, replace(WIDE, precision="bfloat16"), ranks, torch.Generator())
    assert times[0].dtype == torch.float32
    assert not torch.equal(times[0], times[0].bfloat16().float())
    assert [tensor.dtype for tensor in kinds[0]] == [torch.bfloat16] * 2
    half = in_whole(run.model.state_dict())
    key = "first.weight"
    assert half[key].dtype == torch.float32
    assert not torch.equal(half[key], full[key])
    torch.testing.assert_close(half[key], full[key], atol=0.01, rtol=0.02)


def check_compilation(ranks):
    """Blocks are compiled before they are spread; the network as a whole is not."""
    compiled, usual = [], torch.nn.Module.compile
    torch.nn.Module.compile = lambda net: compiled.append((net, type(net), is_sharded(net)))
    config = replace(WIDE, compile=True)
    run = begin_run(config, DATA, ranks)
    assert shared_network(run, config, ranks) is run.model
    torch.nn.Module.compile = usual
    assert compiled == [(block, Stage, False) for block in run.model.blocks]


@pytest.mark.parametrize("config", [WIDE, with_network(WIDE, dropout=0.3)])
def test_computing_again_changes_nothing(config):
    kept, again = (step(replace(config, activation_checkpointing=a), CPU)[0] for a in (False, True))
    blocks = again.model.blocks
    assert len(blocks) == 6
    for one, other in zip(kept.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    sizes = [kept_bytes(run.model) for run in (kept, again)]
    assert sizes[1] < 0.4 * sizes[0]


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_block_that_is_computed_again_is_compiled():
    model, found = fresh_run(replace(CONFIG, activation_checkpointing=True)).model, []

    def backend(graph, inputs):
        names = [str(node.target) for node in graph.graph.nodes]
        found.append(sum("checkpoint" in name for name in names))
        return graph.forward

    torch._dynamo.reset()
    model.blocks[0].compile(backend=backend)
    model.blocks[0](torch.zeros(2, 8, 2, 2), torch.zeros(2, 32)).sum().backward()
    assert found == [1]  # a graph, which knows what is computed again


def kept_bytes(model):
    """What a call keeps for the backward pass, without the weights."""
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        model(torch.zeros(2, 1, 4, 4), 0.5)
    own = {w.data_ptr() for w in model.parameters()}
    return sum({x.data_ptr(): x.nbytes for x in saved if x.data_ptr() not in own}.values())


# A run.


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The same run, with the same draws, in one process, in two of DDP, in two of FSDP."""
    out = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "cfm_loss", fixed_draws)
        patch.setattr(journal, "draw_pictures", functools.partial(journal.draw_pictures, steps=1))
        quick(out / "alone", FSDP)

        def work(ranks):
            quick(out / "ddp", replace(FSDP, parallel="ddp"))
            quick(out / "fsdp", replace(FSDP, sample_every=5))
            stop_at(5)
            with pytest.raises(Stopped) as stopped:
                quick(out / "stopped", FSDP)
            assert stopped.value.signal == signal.SIGTERM

        together(2, work)
    return out


# Gradients of two shares are added up in another order, and AdamW divides by small moments.
CLOSE = {"model": 1e-4, "average": 1e-4, "exp_avg": 1e-4, "exp_avg_sq": 1e-4, "step": 0.0}


def assert_close(one, other, bound=CLOSE):
    apart = furthest(one, other)
    assert all(apart[kind] <= bound[kind] for kind in bound), apart


def test_a_run_in_parts_is_the_run_in_whole(done):
    states = {name: state_at(done / name, FSDP) for name in ("alone", "ddp", "fsdp")}
    for name in ("ddp", "fsdp"):
        assert_close(states["alone"], states[name])
    assert [line["step"] for line in log_of(done / "fsdp")] == [0, 3, 5, 6, 9, 9]
    assert sorted(p.name for p in (done / "fsdp").iterdir()) == [
        "checkpoints", "log.jsonl", "model.safetensors", "samples",
    ]  # fmt: skip
    tests = [[line for line in log_of(done / n) if "test_loss" in line][-1] for n in states]
    assert tests[0]["test_loss"] == pytest.approx(tests[2]["test_loss"], abs=1e-4)


def test_a_wrong_average_is_seen(done, fixed):
    right = in_whole(
        load_model(newest_checkpoint(done / "alone") / "model.safetensors")[0].state_dict()
    )
    usual = trainer.update_ema

    def work(ranks):
        wrong = {
            "right": usual,
            "too slow": lambda old, new, decay: usual(old, new, decay + 1e-3),
            "all but a block": lambda old, new, decay: usual(old.up, new.up, decay),
            "wrong in one process": lambda old, new, decay: usual(old, new, decay * ranks.rank),
        }
        for name, update in wrong.items():
            trainer.update_ema = update
            run = begin_run(FSDP, DATA, ranks)
            net, seen = shared_network(run, FSDP, ranks), on_device(DATA, FSDP, ranks.device)
            for _ in range(FSDP.steps):
                take_step(run, net, seen, FSDP, ranks, torch.Generator())
            average = in_whole(run.average.state_dict())
            apart = [(average[k] - w).abs().max() / w.abs().max() for k, w in right.items()]
            assert (max(apart) <= CLOSE["average"]) == (name == "right"), (name, max(apart))

    together(2, work)


def test_what_was_saved_by_two_is_resumed_by_any_number(done, fixed, tmp_path):
    assert state_at(done / "stopped", FSDP)[0] == 5
    whole_run = state_at(done / "fsdp", FSDP)
    for world in (1, 2, 3):
        out = shutil.copytree(done / "stopped", tmp_path / f"{world}")

        def work(ranks, out=out):
            quick(out, FSDP, resume=True)

        together(world, work)
        now = state_at(out, FSDP)
        if world == 2:
            assert set(furthest(whole_run, now).values()) == {0.0}
        assert_close(whole_run, now)
        folder = newest_checkpoint(out)
        assert (folder / "shards").exists() == (world > 1)
        assert len([*folder.glob("shards/*.safetensors")]) == (world if world > 1 else 0)
        # Whatever wrote it, the network to sample from is one file.
        for path in (folder / "model.safetensors", out / "model.safetensors"):
            model, about = load_model(path)
            assert about["step"] == 9
            for name, value in model.state_dict().items():
                assert torch.equal(value, now[1][f"average {name}"])


def test_what_is_read_is_what_was_written(done, tmp_path):
    """One, two and three processes read the same bits, and go from one format to the other."""
    expected = state_at(done / "stopped", FSDP)

    def rewrite(source, target, config, world):
        def work(ranks):
            run = begin_run(config, DATA, ranks)
            restore_run(run, source, reschedule=True)
            crew = crew_of(run.model, ranks)
            if crew is not None:
                save_run(run, target, crew)

        together(world, work)

    chain = [(FSDP, 3), (FSDP, 1), (FSDP, 2), (replace(FSDP, parallel="ddp"), 2), (FSDP, 3)]
    source = done / "stopped"
    for k, (config, world) in enumerate(chain):
        rewrite(source, tmp_path / str(k), config, world)
        source = tmp_path / str(k)
        now = state_at(source, FSDP)
        assert set(furthest(expected, now).values()) == {0.0}, (k, config.parallel, world)


def test_two_processes_that_were_stopped_are_two_that_were_not(tmp_path):
    config = with_network(
        replace(CONFIG, parallel="fsdp", accumulate=2, activation_checkpointing=True), dropout=0.2
    )

    def work(ranks):
        quick(tmp_path / "whole", config)
        stop_at(6)
        with pytest.raises(Stopped):
            quick(tmp_path / "parts", config)
        quick(tmp_path / "parts", config, resume="auto")
        fine = replace(config, lr=1e-30, weight_decay=0.0, steps=4)
        quick(tmp_path / "next", fine, weights=tmp_path / "whole")

    together(2, work)
    whole_run = state_at(tmp_path / "whole", config)
    assert set(furthest(whole_run, state_at(tmp_path / "parts", config)).values()) == {0.0}
    for name, value in state_at(tmp_path / "next", config)[1].items():
        if name.startswith("model"):
            assert torch.equal(value, whole_run[1][name.replace("model", "average")])


# What goes wrong.


def test_a_full_disk_of_one_process_is_one_of_all(tmp_path):
    def work(ranks):
        usual = os.fsync
        for rank, nth in ((1, 1), (0, 1), (0, 2), (0, 4)):
            out, calls = tmp_path / f"{rank}-{nth}", []
            run = begin_run(FSDP, DATA, ranks)
            save_run(run, out, ranks)
            run.step = 4

            def full(descriptor, rank=rank, nth=nth, calls=calls):
                calls.append(descriptor)
                if ranks.rank == rank and len(calls) == nth:
                    raise OSError(errno.ENOSPC, "No space left on device")
                usual(descriptor)

            os.fsync = full
            with pytest.raises(OSError, match="step 4 could not be saved, No space left") as error:
                save_run(run, out, ranks)
            os.fsync = usual
            assert error.value.errno == errno.ENOSPC
            assert "step-0000000" in str(error.value)
            torch.distributed.barrier()
            assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-0000000"]
            save_run(run, out, ranks)
            torch.distributed.barrier()
            assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-0000004"]

    together(2, work)


@pytest.mark.parametrize("damage", ["unlink", "cut", "list", "flip"])
def test_parts_that_are_damaged_are_named(done, tmp_path, damage):
    out = shutil.copytree(done / "stopped", tmp_path / "run")
    shards = newest_checkpoint(out) / "shards"
    path = sorted(shards.glob("*.safetensors"))[1]
    if damage == "unlink":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-8])
    elif damage == "list":
        (shards / "shards.json").unlink()
    else:
        path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(ValueError, match=r"shards.* is damaged"):
        restore_run(fresh_run(FSDP), out)


def test_a_torch_without_it_is_named(monkeypatch):
    import torch.distributed.fsdp as fsdp

    monkeypatch.delattr(fsdp, "MixedPrecisionPolicy")
    with pytest.raises(ValueError, match=r"parallel fsdp needs torch 2\.9, but 2\."):
        begin_run(FSDP, DATA, replace(CPU, world=2))


def test_resume_says_what_it_can_be(tmp_path):
    with pytest.raises(ValueError, match="resume must be true, false or 'auto', but 'yes' came"):
        quick(tmp_path, resume="yes")

"""The trainer: the loss of the plane, a run that repeats itself, and one that survives its end."""

import contextlib
import errno
import itertools
import os
import random
import re
import signal
import time
import traceback
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from picture_runs import (
    CONFIG,
    CPU,
    DATA,
    assert_same,
    fail_at,
    fresh_run,
    log_of,
    quick,
    state_of,
    step_of,
    with_network,
)
from PIL import Image

from fmtutor.images import checkpoint, trainer
from fmtutor.images.batches import on_device, seed_of
from fmtutor.images.checkpoint import load_model
from fmtutor.images.config import learning_rate
from fmtutor.images.processes import Ranks
from fmtutor.images.run import newest_checkpoint
from fmtutor.images.trainer import Stopped
from fmtutor.networks import UNet

# A run.


def test_what_a_run_leaves_behind(tmp_path, global_rng_untouched):
    out = tmp_path / "runs" / "one"
    model = quick(out, replace(CONFIG, sample_every=5))
    assert sorted(p.name for p in out.iterdir()) == [
        "checkpoints", "log.jsonl", "model.safetensors", "samples",
    ]  # fmt: skip
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-0000009"]
    saved, about = load_model(out / "model.safetensors")
    for weight, other in zip(saved.parameters(), model.parameters(), strict=True):
        assert torch.equal(weight, other)
    assert about["data"] == "dots"
    assert about["classes"] == ["red", "green", "blue"]
    assert about["step"] == 9
    assert about["train"]["batch_size"] == 8
    with Image.open(out / "samples" / "step-0000005.png") as grid:
        assert grid.size == (2 * (3 * 5 - 1), 2 * (8 * 5 - 1))
    first, *lines = log_of(out)
    assert first["config"]["lr"] == CONFIG.lr
    assert first["parameters"] == sum(p.numel() for p in model.parameters())
    steps = [(line["step"], "loss" in line, "test_loss" in line) for line in lines]
    assert steps == [(3, 1, 0), (5, 0, 1), (6, 1, 0), (9, 1, 0), (9, 0, 1)]
    for line in (line for line in lines if "loss" in line):
        assert line["epoch"] == pytest.approx(line["step"] * 8 / 50, abs=1e-3)
        assert line["lr"] == pytest.approx(learning_rate(CONFIG, line["step"] - 1), abs=1e-8)
        assert line["images_per_second"] > 0
        assert line["memory_mb"] > 10


def test_the_logged_loss_is_the_mean_since_the_line_before(tmp_path, monkeypatch):
    losses = []
    usual = trainer.batch_loss

    def recorded(*args, **options):
        losses.append(usual(*args, **options))
        return losses[-1]

    monkeypatch.setattr(trainer, "batch_loss", recorded)
    quick(tmp_path)
    lines = [line for line in log_of(tmp_path) if "loss" in line]
    for k, line in enumerate(lines):
        mean = sum(loss.item() for loss in losses[3 * k : 3 * k + 3]) / 3
        assert line["loss"] == pytest.approx(mean, abs=1e-5)


def test_a_run_learns(tmp_path):
    # All pictures are one: the loss falls from E‖x1 − x0‖² towards that of a single data point.
    one = replace(DATA, train=DATA.train[:1].repeat(50, 1, 1, 1), test=DATA.train[:1])
    one = replace(one, test_labels=DATA.train_labels[:1])
    config = replace(CONFIG, steps=150, lr=1e-2, log_every=10, save_every=150, ema=0.9)
    quick(tmp_path, config, one)
    losses = [line["loss"] for line in log_of(tmp_path) if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]
    assert log_of(tmp_path)[-1]["test_loss"] < 0.5 * losses[0]


def test_one_seed_is_one_run(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        quick(tmp_path / name, replace(CONFIG, seed=seed))
    assert_same(state_of(tmp_path / "a"), state_of(tmp_path / "b"))
    different = [
        not torch.equal(x, y)
        for x, y in zip(
            state_of(tmp_path / "a")[1].values(), state_of(tmp_path / "c")[1].values(), strict=True
        )
    ]
    assert sum(different) > len(different) / 2


def test_gradients_are_cut_and_weights_decay(tmp_path):
    quick(tmp_path / "a", replace(CONFIG, steps=3, clip=1e-9, weight_decay=0.0, warmup=0))
    quick(tmp_path / "b", replace(CONFIG, steps=3, clip=1e-9, weight_decay=10.0, warmup=0))
    a, b = (state_of(tmp_path / name)[1]["weights first.weight"] for name in "ab")
    assert b.norm() < 0.97 * a.norm()
    assert log_of(tmp_path / "a")[1]["gradient_norm"] > 1e-3  # that of before


def test_the_average_starts_low_and_follows(tmp_path):
    config = replace(CONFIG, steps=1, warmup=0, lr=0.1)
    quick(tmp_path, config)
    _, state = state_of(tmp_path)
    initial = fresh_run(config)
    before = initial.model.first.weight.detach()
    now, average = state["weights first.weight"], state["model first.weight"]
    torch.testing.assert_close(average, before + 0.9 * (now - before))
    assert not torch.equal(now, before)


def test_bfloat16_is_used_where_asked_for(tmp_path):
    quick(tmp_path / "full", replace(CONFIG, precision="float32"))
    quick(tmp_path / "auto")
    quick(tmp_path / "half", replace(CONFIG, precision="bfloat16"))
    full, auto, half = (state_of(tmp_path / name)[1] for name in ("full", "auto", "half"))
    key = "weights first.weight"
    assert torch.equal(full[key], auto[key])  # a CPU computes in float32
    assert not torch.equal(full[key], half[key])
    torch.testing.assert_close(full[key], half[key], atol=0.02, rtol=0.02)
    assert half[key].dtype == torch.float32


def test_the_network_is_compiled_where_asked_for(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(UNet, "compile", lambda self: compiled.append(self))
    quick(tmp_path / "plain")
    assert compiled == []
    quick(tmp_path / "compiled", replace(CONFIG, compile=True))
    assert len(compiled) == 1


def test_without_classes(tmp_path):
    model = quick(tmp_path, replace(CONFIG, conditional=False, coupling="ot", sample_every=9))
    assert model.classes == 0
    with Image.open(tmp_path / "samples" / "step-0000009.png") as grid:
        assert grid.size == (2 * (10 * 5 - 1), 2 * (8 * 5 - 1))


def test_a_step_has_the_seeds_of_its_number_and_process(monkeypatch):
    config, flags = replace(CONFIG, seed=7, accumulate=2), []

    def shared(net, last):
        flags.append(last)
        return contextlib.nullcontext()

    told, parts, slopes, usual = [], [], [], trainer.batch_loss

    def recorded(*args, **given):
        assert given["generator"] is g
        told.append((given["null"], given["flip"]))
        parts.append(usual(*args, **given))
        slopes.append(torch.autograd.grad(parts[-1], [*run.model.parameters()], retain_graph=True))
        return parts[-1]

    monkeypatch.setattr(trainer, "gradients_shared", shared)
    monkeypatch.setattr(trainer, "batch_loss", recorded)
    run, g = fresh_run(config), torch.Generator()
    run.step = 5
    seen, ranks = (
        on_device(replace(DATA, flip=True), config, CPU.device),
        replace(CPU, rank=1, world=2),
    )
    with torch.random.fork_rng():
        loss, norm = trainer.take_step(run, run.model, seen, config, ranks, g)
        assert torch.initial_seed() == seed_of(7, "dropout", 5, 1)
    assert g.initial_seed() == seed_of(7, "step", 5, 1)
    assert flags == [False, True]
    assert told == [(3, True)] * 2
    assert loss.item() == pytest.approx(sum(part.item() for part in parts) / 2)
    assert not loss.requires_grad
    mean = torch.cat([(one + two).flatten() / 2 for one, two in zip(*slopes, strict=True)])
    assert norm.item() == pytest.approx(mean.norm().item(), rel=1e-4)
    assert run.optimizer.param_groups[0]["lr"] == learning_rate(config, 5)


def test_a_step_stays_on_its_device():
    loss, norm = step_of(fresh_run(CONFIG, "meta"), CONFIG, "meta")
    assert loss.is_meta
    assert norm.is_meta


def test_data_that_do_not_fit_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="batch_size is 51, but there are 50 pictures"):
        quick(tmp_path / "run", replace(CONFIG, batch_size=51))
    assert not (tmp_path / "run").exists()


def test_what_a_run_begins_with(tmp_path, monkeypatch):
    told = []

    def restored(run, out, **given):
        told.append((out, given))
        run.step = CONFIG.steps

    monkeypatch.setattr(trainer, "restore_run", restored)
    monkeypatch.setattr(trainer, "start_from", lambda run, path: told.append(path))
    monkeypatch.setattr(trainer, "prepare_folder", lambda *args: None)
    monkeypatch.setattr(trainer, "_train", lambda *args: None)
    monkeypatch.setattr(trainer, "save_average", lambda *args: None)
    for given in ({}, {"resume": True}, {"resume": True, "reschedule": True}, {"weights": "w"}):
        quick(tmp_path, **given)
    assert told == [
        (tmp_path, {"reschedule": False}), (tmp_path, {"reschedule": True}), Path("w"),
    ]  # fmt: skip


def test_the_bar_shows_where_the_run_is(tmp_path, monkeypatch):
    bars = []

    class Bar(contextlib.nullcontext):
        def __init__(self, **given):
            super().__init__(self)
            self.given, self.steps, self.shown = given, 0, []
            bars.append(self)

        def update(self):
            self.steps += 1

        def set_postfix(self, **given):
            self.shown.append(given["loss"])

    monkeypatch.setattr(trainer, "tqdm", Bar)
    trainer.train(CONFIG, DATA, tmp_path)
    quick(tmp_path, replace(CONFIG, steps=12), resume=True, reschedule=True)
    about = [bar.given for bar in bars]
    assert about[0] == {"desc": "train", "total": 9, "initial": 0, "disable": False}
    assert about[1] == {"desc": "train", "total": 12, "initial": 9, "disable": True}
    assert [bar.steps for bar in bars] == [9, 3]
    losses = [line["loss"] for line in log_of(tmp_path) if "loss" in line]
    assert [shown for bar in bars for shown in bar.shown] == [f"{loss:.4f}" for loss in losses]


@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_alone_writes_and_shows_a_bar(rank, tmp_path, monkeypatch):
    hidden, usual = [], trainer.tqdm

    @contextlib.contextmanager
    def joined(device):
        yield replace(CPU, rank=rank)

    def bar(**given):
        hidden.append(given["disable"])
        return usual(**(given | {"disable": True}))

    def alone(run, net, pictures, config, ranks, generator, step=trainer.take_step):
        return step(run, net, pictures, config, CPU, generator)  # there is no share of another one

    monkeypatch.setattr(trainer, "join_processes", joined)
    monkeypatch.setattr(trainer, "take_step", alone)
    monkeypatch.setattr(trainer, "tqdm", bar)
    trainer.train(replace(CONFIG, steps=3, sample_every=1), DATA, tmp_path / "run")
    assert hidden == [rank == 1]
    assert (tmp_path / "run").exists() == (rank == 0)


def test_on_a_gpu_numbers_are_looked_at_now_and_then(tmp_path, monkeypatch):
    """A device of another kind than the CPU is stood in for; it sees how often it is asked."""
    looks = []
    usual = trainer._refuse_nan
    monkeypatch.setattr(
        trainer, "_refuse_nan", lambda *args: looks.append(args[3].step) or usual(*args)
    )

    @contextlib.contextmanager
    def joined(device):
        yield replace(CPU, device=Quiet())

    class Quiet:
        """The CPU, by another name."""

        type = "quiet"

    for name in ("on_device", "begin_run", "shared_network"):
        act = getattr(trainer, name)

        def on_cpu(*args, act=act):
            return act(*(cpu(a) for a in args))

        monkeypatch.setattr(trainer, name, on_cpu)

    def cpu(value):
        if isinstance(value, Quiet):
            return torch.device("cpu")
        return CPU if isinstance(value, Ranks) else value

    step, generator = trainer.take_step, torch.Generator
    monkeypatch.setattr(trainer, "take_step", lambda *args: step(*(cpu(a) for a in args)))
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": generator())
    monkeypatch.setattr(trainer, "join_processes", joined)
    config = replace(CONFIG, steps=110, log_every=60, save_every=1000)
    quick(tmp_path, config)
    assert looks == [50, 60, 100, 110]


# Ends that come early.


@pytest.mark.parametrize("stop", [1, 4, 8])
def test_a_run_that_was_stopped_is_the_run_that_was_not(tmp_path, monkeypatch, stop):
    config = with_network(replace(CONFIG, accumulate=2), dropout=0.2)
    quick(tmp_path / "whole", config)
    with monkeypatch.context() as patch:
        fail_at(patch, stop, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped) as stopped:
            quick(tmp_path / "parts", config)
    assert stopped.value.signal == signal.SIGTERM
    assert stopped.value.step == state_of(tmp_path / "parts")[0]
    assert stop <= stopped.value.step <= stop + 1
    quick(tmp_path / "parts", config, resume=True)
    assert_same(state_of(tmp_path / "whole"), state_of(tmp_path / "parts"))
    steps = [line["step"] for line in log_of(tmp_path / "parts")]
    assert steps == sorted(steps)


@pytest.fixture
def interruptible():
    """Where tests were started in the background of a shell, Ctrl-C is ignored."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_saves_and_a_second_one_does_not_wait(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        fail_at(patch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(Stopped, match=r"stopped by signal 2 after [23] steps, which are saved"):
            quick(tmp_path / "once")
    assert state_of(tmp_path / "once")[0] in (2, 3)
    assert signal.getsignal(signal.SIGINT) is before

    def twice():
        # Two signals that are pending are one, and on a busy machine the first may be for long.
        os.kill(os.getpid(), signal.SIGINT)
        while signal.getsignal(signal.SIGINT) is not before:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(60_000):  # until it is delivered
            time.sleep(0.001)

    with monkeypatch.context() as patch:
        fail_at(patch, 6, twice)
        with pytest.raises(KeyboardInterrupt):
            quick(tmp_path / "twice")
    assert state_of(tmp_path / "twice")[0] == 4


def test_killed_at_ten_random_moments(tmp_path):
    """Each child is a copy of this process that goes on with the run, until SIGKILL."""
    config = replace(CONFIG, steps=60, save_every=3, log_every=1)
    out, moments = tmp_path / "killed", random.Random(0)
    saved = 0
    for _ in range(10):
        child = _fork(lambda: quick(out, config, resume=newest_checkpoint(out) is not None))
        goal = saved + moments.randrange(6)
        while _last_step(out) < goal:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.03))  # within a step, or while a checkpoint is written
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the run has ended before it was killed"
        if newest_checkpoint(out) is not None:
            before, (saved, _) = saved, state_of(out)  # it can be read, in full
            assert saved >= max(before, _last_step(out) - config.save_every)
    assert saved >= 6
    quick(out, config, resume=True)
    quick(tmp_path / "whole", config)
    assert_same(state_of(tmp_path / "whole"), state_of(out))
    assert [line["step"] for line in log_of(out) if "loss" in line] == [*range(1, 61)]
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-0000060"]


def _last_step(out):
    """The last step in the log, of which a killed process may have left half a line."""
    lines = (out / "log.jsonl").read_text("utf-8") if (out / "log.jsonl").exists() else ""
    steps = re.findall(r'"step": (\d+)[,}].*\n', lines)
    return int(steps[-1]) if steps else 0


def _fork(work):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def test_a_killed_run_loses_at_most_the_interval(tmp_path, monkeypatch):
    out = tmp_path / "run"
    fail_at(monkeypatch, 7, lambda: os.kill(os.getpid(), signal.SIGKILL))
    _, status = os.waitpid(_fork(lambda: quick(out, replace(CONFIG, log_every=1))), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert log_of(out)[-1]["step"] == 6
    assert state_of(out)[0] == 4


def test_a_diverging_run_names_step_and_rate_and_keeps_its_checkpoint(tmp_path):
    config = replace(CONFIG, lr=1e25, clip=1e30, steps=20, warmup=0, log_every=1)
    with pytest.raises(FloatingPointError, match=r"at step \d+, .* learning rate 1e\+25") as error:
        quick(tmp_path, config)
    folder = newest_checkpoint(tmp_path)
    assert str(folder) in str(error.value)
    _, tensors = state_of(tmp_path)
    assert all(value.isfinite().all() for value in tensors.values())


@pytest.mark.parametrize("nth", range(1, 7))
def test_a_full_disk_says_so_and_costs_no_checkpoint(tmp_path, monkeypatch, nth):
    usual, calls = os.fsync, itertools.count(1)
    with monkeypatch.context() as patch:
        fail_at(patch, 7, lambda: patch.setattr(checkpoint.os, "fsync", full))

        def full(descriptor):
            if next(calls) == nth:
                raise OSError(errno.ENOSPC, "No space left on device")
            usual(descriptor)

        message = "step 8 could not be saved, No space left on device; .* step-0000004"
        with pytest.raises(OSError, match=message.replace(" .* ", ".*")) as error:
            quick(tmp_path)
    assert error.value.errno == errno.ENOSPC
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-0000004"]
    quick(tmp_path, resume=True)
    assert state_of(tmp_path)[0] == 9

"""The trainer: the loss of the plane, a run that repeats itself, and one that survives its end."""

import copy
import errno
import itertools
import json
import os
import random
import re
import shutil
import signal
import time
import traceback
import warnings
from dataclasses import replace

import pytest
import torch
from PIL import Image

from fmtutor import cfm_loss, drop_labels
from fmtutor.couplings import minibatch_ot
from fmtutor.images import batches, checkpoint, trainer
from fmtutor.images.batches import on_device, seed_of
from fmtutor.images.checkpoint import load_model
from fmtutor.images.config import PRESETS, TrainConfig, learning_rate
from fmtutor.images.datasets import ImageData, to_float
from fmtutor.images.prepare import begin_run
from fmtutor.images.processes import Ranks
from fmtutor.images.run import newest_checkpoint
from fmtutor.images.trainer import Stopped, batch_loss, network_config, step_rows, train
from fmtutor.networks import UNet, UNetConfig

CONFIG = TrainConfig(
    architecture={"patch": 2, "width": 8, "mults": (1,), "attention": (), "heads": 1}, steps=9,
    batch_size=8, warmup=2, log_every=3, sample_every=100, save_every=4,
)  # fmt: skip


def pictures(n=50, m=7, *, flip=False, channels=1):
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(n + m) % 3
    pixels = torch.randint(0, 256, (n + m, channels, 4, 4), generator=g, dtype=torch.uint8)
    return ImageData(
        "dots", pixels[:n], labels[:n], pixels[n:], labels[n:], ("red", "green", "blue"), flip
    )


DATA = pictures()


def quick(out, config=CONFIG, data=DATA, **options):
    return train(config, data, out, progress=False, **options)


def log_of(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]


def state_of(out):
    """Everything that the newest checkpoint says, but for the time that it took."""
    folder = newest_checkpoint(out)
    tensors = {}
    for name in ("model", "weights"):
        model, _ = load_model(folder / f"{name}.safetensors")
        tensors |= {f"{name} {key}": value for key, value in model.state_dict().items()}
    state = torch.load(folder / "optimizer.pt", weights_only=True)
    for key, values in state["optimizer"]["state"].items():
        tensors |= {f"optimizer {key} {name}": value for name, value in values.items()}
    return state["step"], tensors


def assert_same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for key, value in one[1].items():
        assert torch.equal(value, other[1][key]), key


def fail_at(monkeypatch, step, act):
    """Let something happen just after a step was taken."""
    usual = trainer.take_step

    def after(run, *rest):
        taken = usual(run, *rest)
        if run.step == step:
            act()
        return taken

    monkeypatch.setattr(trainer, "take_step", after)


def with_network(config, **settings):
    """The settings of a run with others of its network."""
    return replace(config, architecture={**config.architecture, **settings})


CPU = Ranks(0, 1, torch.device("cpu"))


def fresh_run(config, device="cpu"):
    """A run before its first step."""
    return begin_run(config, DATA, replace(CPU, device=torch.device(device)))


def step_of(run, config, device="cpu"):
    """Take a step of a run, and return its loss and the norm of its gradient."""
    ranks = replace(CPU, device=torch.device(device))
    seen = on_device(DATA, config, ranks.device)
    return trainer.take_step(run, run.model, seen, config, ranks, torch.Generator())


# Settings.


def test_the_learning_rate_rises_stays_and_falls():
    config = TrainConfig(steps=100, warmup=9, decay=0.2, lr=2.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (k + 1) for k in range(10)])
    assert rates[10:81] == [2.0] * 71
    assert rates[80:] == pytest.approx([0.1 * (20 - k) for k in range(20)])


def test_the_rate_of_early_steps_knows_nothing_of_the_end():
    longer = replace(CONFIG, steps=1000)
    assert learning_rate(CONFIG, 3) == learning_rate(longer, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be positive, but 0 came"),
        ({"lr": float("nan")}, "lr must be positive, but nan"),
        ({"ema": 1.0}, r"ema must lie in \[0, 1\)"),
        ({"label_dropout": -0.1}, r"label_dropout must lie in \[0, 1\)"),
        ({"warmup": 9}, r"warmup must lie in \[0, steps\) = \[0, 9\), but 9 came"),
        ({"decay": 1.5}, r"decay must lie in \[0, 1\]"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"clip": 0.0}, "clip positive"),
        ({"coupling": "best"}, "coupling must be independent or ot, but 'best'"),
        ({"coupling": "ot"}, "coupling ot pairs across classes"),
        ({"precision": "float16"}, "precision must be auto, float32 or bfloat16"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


def test_settings_that_do_not_fit_the_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size is 51, but there are 50 pictures"):
        quick(tmp_path / "run", replace(CONFIG, batch_size=51))
    with pytest.raises(ValueError, match="batch_size 8 cannot be shared by 1 processes in 3 parts"):
        quick(tmp_path / "run", replace(CONFIG, accumulate=3))
    assert not (tmp_path / "run").exists()


def test_the_presets_are_by_data_set_and_device():
    assert list(PRESETS) == ["digits-cpu", "fashion-cpu", "fashion-gpu", "cifar10-gpu"]
    for size, channels, name in (
        (8, 1, "digits-cpu"),
        (28, 1, "fashion-gpu"),
        (32, 3, "cifar10-gpu"),
    ):
        data = replace(DATA, train=torch.zeros(1, channels, size, size, dtype=torch.uint8))
        network = network_config(PRESETS[name], data)
        assert (network.size, network.channels, network.classes) == (size, channels, 3)
        assert network.width == PRESETS[name].architecture["width"]
    assert network_config(replace(CONFIG, conditional=False), DATA).classes == 0


# What a step sees.


def test_each_picture_at_most_once_in_an_epoch():
    epochs = [torch.cat([step_rows(CONFIG, 50, 6 * e + k) for k in range(6)]) for e in range(3)]
    for rows in epochs:
        assert rows.shape == (48,)
        assert len(rows.unique()) == 48
        assert (rows.min(), rows.max()) <= (1, 49)
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(step_rows(CONFIG, 50, 0), step_rows(replace(CONFIG, seed=1), 50, 0))
    assert torch.equal(step_rows(CONFIG, 50, 13), epochs[2][8:16])


def test_the_loss_is_that_of_the_plane():
    model, config = UNet(network_config(CONFIG, DATA)), replace(CONFIG, label_dropout=0.5)
    pixels, labels = DATA.train[:8], DATA.train_labels[:8]
    g = torch.Generator().manual_seed(3)
    loss = batch_loss(model, pixels, labels, config, null=3, generator=g)
    g.manual_seed(3)
    dropped = drop_labels(labels, 0.5, null=3, generator=g)
    assert 0 < (dropped == 3).sum() < 8
    assert loss == cfm_loss(model, to_float(pixels), labels=dropped, generator=g)


def test_half_of_the_pictures_are_mirrored_where_that_is_right():
    seen = []

    def v(x, t):  # at t = 1 a point is its picture
        seen.append(x)
        return torch.zeros_like(x)

    config = replace(CONFIG, conditional=False)
    pixels = DATA.train[:1].repeat(400, 1, 1, 1)
    draws = {"generator": torch.Generator().manual_seed(0)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "cfm_loss", lambda v, x1, **_: v(x1, None).mean())
        batch_loss(v, pixels, None, config, flip=True, **draws)
        batch_loss(v, pixels, None, config, flip=False, **draws)
    plain = to_float(pixels)
    mirrored = (seen[0] == plain.flip(-1)).all(3).all(2).all(1)
    assert 160 < mirrored.sum() < 240
    assert torch.equal(seen[0][~mirrored], plain[~mirrored])
    assert torch.equal(seen[1], plain)


def test_the_coupling_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(batches, "cfm_loss", lambda v, x1, **given: asked.append(given["coupling"]))
    for name in ("ot", "independent"):
        config = replace(CONFIG, conditional=False, coupling=name)
        batch_loss(None, DATA.train[:4], None, config)
    assert asked == [minibatch_ot, None]


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_gradient_is_the_mean_over_the_parts_of_a_batch(accumulate):
    config = replace(CONFIG, accumulate=accumulate, clip=1e9)
    run = fresh_run(config)
    torch.nn.init.normal_(run.model.last[2].weight, generator=torch.Generator().manual_seed(0))
    other, run.step = copy.deepcopy(run.model), 5
    with torch.random.fork_rng():
        loss, norm = step_of(run, config)
    g = torch.Generator().manual_seed(seed_of(0, "step", 5, 0))
    parts = step_rows(config, 50, 5).chunk(accumulate)
    losses = [
        batch_loss(other, DATA.train[r], DATA.train_labels[r], config, null=3, generator=g)
        for r in parts
    ]
    expected = sum(losses) / accumulate
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    squares = [weight.grad.square().sum() for weight in other.parameters()]
    assert norm.item() == pytest.approx(sum(squares).sqrt().item(), rel=1e-5)
    for weight, reference in zip(run.model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, reference.grad, atol=1e-6, rtol=1e-4)


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


def test_ctrl_c_saves_and_a_second_one_does_not_wait(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        fail_at(patch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(Stopped, match=r"stopped by signal 2 after [23] steps, which are saved"):
            quick(tmp_path / "once")
    assert state_of(tmp_path / "once")[0] in (2, 3)
    assert signal.getsignal(signal.SIGINT) is before

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

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


# Resumption that is refused.


def test_a_run_is_not_overwritten(tmp_path):
    quick(tmp_path)
    with pytest.raises(FileExistsError, match="there is a run in"):
        quick(tmp_path)


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint in .* to resume from"):
        quick(tmp_path, resume=True)


def test_a_run_goes_on_as_it_began(tmp_path):
    quick(tmp_path)
    changed = {
        name: with_network(CONFIG, **{name: value})
        for name, value in {"mults": (2,), "width": 4}.items()
    } | {name: replace(CONFIG, **{name: value}) for name, value in {"lr": 1.0, "steps": 10}.items()}
    for name, config in changed.items():
        value = getattr(config, name, config.architecture.get(name))
        with pytest.raises(ValueError, match=f"has {name} = .*, but") as error:
            quick(tmp_path, config, resume=True)
        assert str(value) in str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "weights.safetensors", "optimizer.pt"])
@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[: len(b) // 2], lambda b: b""])
def test_a_damaged_checkpoint_is_named(tmp_path, name, damage):
    quick(tmp_path)
    path = newest_checkpoint(tmp_path) / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        quick(tmp_path, resume=True)


def test_a_checkpoint_holds_no_code(tmp_path):
    quick(tmp_path)

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"optimizer": Evil()}, newest_checkpoint(tmp_path) / "optimizer.pt")
    with pytest.raises(ValueError, match=r"optimizer\.pt is damaged"):
        quick(tmp_path, resume=True)
    assert not (tmp_path / "evil").exists()


def test_what_a_killed_process_left_is_cleared(tmp_path):
    quick(tmp_path / "whole")
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped):
            quick(out)
    newest = newest_checkpoint(out)
    shutil.copytree(newest, out / "checkpoints" / ".step-0000008.part")
    (out / "checkpoints" / ".step-0000008.part" / "optimizer.pt").unlink()
    older = out / "checkpoints" / "step-0000004"
    shutil.copytree(newest, older)
    (older / "model.safetensors").unlink()
    with (out / "log.jsonl").open("a") as log:
        log.write('{"step": 8, "loss": 1.0}\n{"step": 9, "lo')
    quick(out, resume=True)
    assert_same(state_of(out), state_of(tmp_path / "whole"))
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-0000009"]
    assert [line["step"] for line in log_of(out) if "loss" in line] == [3, 6, 9]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    checkpoint.write_atomically(path, b"old")

    def broken(*_):
        raise OSError(errno.EIO, "broken")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.os, name, broken)
            with pytest.raises(OSError, match="broken"):
                checkpoint.write_atomically(path, b"new")
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["file"]
    checkpoint.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_network_is_the_one_of_the_settings():
    config = with_network(
        CONFIG, width=12, mults=(1, 2), blocks=2, attention=(1,), heads=3, dropout=0.1
    )
    expected = UNetConfig(4, 1, 3, 2, 12, (1, 2), 2, (1,), 3, 0.1)
    assert network_config(config, DATA) == expected

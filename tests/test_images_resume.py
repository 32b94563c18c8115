"""Resumption: what is refused, and what may change."""

import errno
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from picture_runs import (
    CONFIG,
    DATA,
    assert_same,
    fail_at,
    fresh_run,
    log_of,
    quick,
    state_of,
    with_network,
)
from safetensors import safe_open
from safetensors.torch import save_file

from fmtutor.images import checkpoint
from fmtutor.images.checkpoint import load_model
from fmtutor.images.resume import restore_run
from fmtutor.images.run import newest_checkpoint
from fmtutor.images.trainer import Stopped


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that is over; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("finished") / "run"
    quick(out)
    return out


@pytest.fixture
def copied(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copied"))


def test_a_run_is_not_overwritten(finished):
    with pytest.raises(FileExistsError, match="there is a run in"):
        quick(finished)


def test_what_is_for_another_kind_of_run_is_refused(tmp_path):
    said = "reschedule is for a run that is resumed, weights are for one that begins, but resume "
    for given in ({"reschedule": True}, {"resume": True, "weights": "a"}):
        with pytest.raises(ValueError, match=f"{said}{given.get('resume', False)} came"):
            quick(tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint in .* to resume from"):
        quick(tmp_path, resume=True)


def test_a_run_goes_on_as_it_began(finished):
    changed = {
        name: with_network(CONFIG, **{name: value})
        for name, value in {"mults": (2,), "width": 4}.items()
    } | {name: replace(CONFIG, **{name: value}) for name, value in {"lr": 1.0, "steps": 10}.items()}
    for name, config in changed.items():
        value = getattr(config, name, config.architecture.get(name))
        with pytest.raises(ValueError, match=f"has {name} = .*, but") as error:
            quick(finished, config, resume=True)
        assert str(value) in str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "weights.safetensors", "optimizer.pt"])
@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[: len(b) // 2], lambda b: b""])
def test_a_damaged_checkpoint_is_named(copied, name, damage):
    path = newest_checkpoint(copied) / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        quick(copied, resume=True)


def test_a_checkpoint_holds_no_code(copied, tmp_path):

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"optimizer": Evil()}, newest_checkpoint(copied) / "optimizer.pt")
    with pytest.raises(ValueError, match=r"optimizer\.pt is damaged"):
        quick(copied, resume=True)
    assert not (tmp_path / "evil").exists()


def test_what_a_killed_process_left_is_cleared(finished, tmp_path):
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
    assert_same(state_of(out), state_of(finished))
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


# What a resumed run is compared with.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("ant", "cat", "green")}, r"has classes \['red', .* but \['ant', "),
        ({"classes": ("red", "green", "blue", "grey")}, r"'blue'\], but .*'grey'\] came"),
        (
            {"train": DATA.train[:40], "train_labels": DATA.train_labels[:40]},
            "has pictures 50, but 40",
        ),
    ],
)
def test_other_data_are_refused(finished, change, message):
    with pytest.raises(ValueError, match=message):
        quick(finished, data=replace(DATA, **change), resume=True)


def test_pictures_of_other_channels_are_refused(finished):
    train, test = (pixels.expand(-1, 3, -1, -1) for pixels in (DATA.train, DATA.test))
    colours = replace(DATA, train=train, test=test)
    with pytest.raises(ValueError, match=r"has the network .*channels=1.* but .*channels=3"):
        quick(finished, data=colours, resume=True)


def test_what_a_gpu_has_saved_is_read_without_one(finished, tmp_path, monkeypatch):
    out = tmp_path / "gpu"
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        fail_at(patch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped):
            quick(out)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(newest_checkpoint(out) / "optimizer.pt", weights_only=True)
    quick(out, resume=True)
    assert_same(state_of(out), state_of(finished))


def as_first_edition(folder):
    """Write the files of a run as the first edition wrote them: one list of settings, no kind."""
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            header, weights = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        assert header.pop("kind") == "unet"
        about = json.loads(header["metadata"])
        if "train" in about:
            settings = about["train"]
            about["train"] = {**settings.pop("architecture"), **settings}
            for new in ("network", "channels"):
                del settings[new], about["train"][new]
            del about["pictures"]
        header["metadata"] = json.dumps(about)
        save_file(weights, path, metadata=header)


def test_a_run_of_the_first_edition_goes_on(finished, tmp_path):
    out = tmp_path / "old"
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped):
            quick(out)
    as_first_edition(out)
    quick(out, resume=True)
    assert_same(state_of(out), state_of(finished))


# What may change.


def settings_of(out):
    state = torch.load(newest_checkpoint(out) / "optimizer.pt", weights_only=True)
    return state["optimizer"]["param_groups"][0]


def test_a_run_that_is_over_goes_on(tmp_path):
    level = replace(CONFIG, decay=0.0)  # so that the rate knows nothing of the end
    quick(tmp_path / "parts", level)
    longer = replace(level, steps=12)
    quick(tmp_path / "parts", longer, resume=True, reschedule=True)
    quick(tmp_path / "whole", longer)
    assert_same(state_of(tmp_path / "parts"), state_of(tmp_path / "whole"))
    assert [line["step"] for line in log_of(tmp_path / "parts") if "loss" in line] == [3, 6, 9, 12]


def test_a_run_goes_on_with_another_rate(copied):
    other = replace(CONFIG, steps=12, lr=1.0, weight_decay=0.5, decay=0.0)
    quick(copied, other, resume=True, reschedule=True)
    assert log_of(copied)[-2]["lr"] == 1.0
    assert settings_of(copied)["weight_decay"] == 0.5
    assert load_model(copied / "model.safetensors")[1]["train"]["lr"] == 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 90}, {"lr": 1.0}, {"warmup": 1}, {"decay": 0.1}, {"clip": 2.0}, {"ema": 0.5},
        {"weight_decay": 0.5}, {"precision": "float32"}, {"compile": True}, {"log_every": 1},
        {"sample_every": 1}, {"save_every": 1},
    ],
)  # fmt: skip
def test_what_the_schedule_says_may_change(finished, change):
    run = fresh_run(replace(CONFIG, **change))
    with pytest.raises(ValueError, match=f"has {next(iter(change))} = .* --reschedule allows it"):
        restore_run(run, finished)
    restore_run(run, finished, reschedule=True)
    assert run.step == 9
    assert run.seconds > 0
    assert run.metadata["train"].items() >= change.items()


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch_size": 4}, {"label_dropout": 0.5}])
def test_what_a_run_sees_never_changes(finished, change):
    with pytest.raises(ValueError, match=f"has {next(iter(change))} = "):
        quick(finished, replace(CONFIG, **change), resume=True, reschedule=True)


def test_the_way_out_is_named_where_there_is_one(finished):
    with pytest.raises(ValueError, match=r"has lr = 0.002, but 1.0 came; --reschedule allows it$"):
        quick(finished, replace(CONFIG, lr=1.0), resume=True)
    with pytest.raises(ValueError, match=r"has seed = 0, but 1 came$"):
        quick(finished, replace(CONFIG, seed=1), resume=True)


@pytest.mark.parametrize("where", ["", "model.safetensors"])
def test_a_run_starts_from_given_weights(finished, tmp_path, where):
    # Rates this low move nothing.
    still = replace(CONFIG, lr=1e-30, weight_decay=0.0)
    quick(tmp_path / "next", still, weights=finished / where)
    given, _ = load_model(finished / "model.safetensors")
    step, state = state_of(tmp_path / "next")
    assert step == 9
    for name, value in given.state_dict().items():
        assert torch.equal(state[f"weights {name}"], value)
        torch.testing.assert_close(state[f"model {name}"], value)


def test_weights_of_another_network_are_refused(finished, tmp_path):
    with pytest.raises(ValueError, match=r"has the network .*width=8.* but .*width=16.* is"):
        quick(tmp_path / "next", with_network(CONFIG, width=16), weights=finished)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        quick(tmp_path / "next", weights=tmp_path / "nowhere")

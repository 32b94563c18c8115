"""A run and its checkpoints on the disk."""

import errno
import json
import os
from dataclasses import replace

import pytest
import torch
from picture_runs import CONFIG, DATA, fresh_run, step_of

from fmtutor.images import run as runs
from fmtutor.images.checkpoint import load_model
from fmtutor.images.prepare import network_config
from fmtutor.images.run import find_model, new_run, newest_checkpoint, save_average, save_run
from fmtutor.networks import UNet

CPU = torch.device("cpu")
ABOUT = {"data": "dots", "classes": ["red"]}


def make(config=CONFIG, seed=0, device=CPU):
    return new_run(config, network_config(config, DATA), seed=seed, device=device, metadata=ABOUT)


def test_a_run_before_its_first_step(global_rng_untouched):
    config = replace(CONFIG, lr=0.25, weight_decay=0.125)
    run = make(config)
    assert isinstance(run.model, UNet)
    assert (run.step, run.seconds) == (0, 0.0)
    assert run.model.training
    assert all(weight.requires_grad for weight in run.model.parameters())
    assert not run.average.training
    assert not any(weight.requires_grad for weight in run.average.parameters())
    for weight, other in zip(run.model.parameters(), run.average.parameters(), strict=True):
        assert torch.equal(weight, other)
        assert weight is not other
    (group,) = run.optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["fused"]) == (0.25, 0.125, True)
    assert len(group["params"]) == len([*run.model.parameters()])
    assert run.metadata.items() >= ABOUT.items()
    assert run.metadata["path"] == "CondOT(sigma_min=0.0)"
    assert run.metadata["train"]["architecture"]["width"] == 8


def test_the_seed_decides_the_weights():
    first, same, other = (make(seed=seed).model.first.weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    torch.manual_seed(5)
    assert torch.equal(make().model.first.weight, first)


class Cuda:
    """A device that says it is one, on a machine without."""

    type = "cuda"


@pytest.mark.parametrize(
    ("device", "change", "layout"),
    [
        (CPU, {}, torch.channels_last),
        (CPU, {"compile": True}, torch.channels_last),
        (CPU, {"precision": "bfloat16"}, torch.contiguous_format),
        (CPU, {"objective": "lagrangian"}, torch.contiguous_format),
        (Cuda(), {"compile": True, "precision": "bfloat16"}, torch.channels_last),
        (Cuda(), {}, torch.contiguous_format),
    ],
)
def test_the_layout_is_the_one_that_is_fastest(monkeypatch, device, change, layout):
    asked = []

    def to(self, where, *, memory_format):
        asked.append((where, memory_format))
        return self

    monkeypatch.setattr(torch.nn.Module, "to", to)
    make(replace(CONFIG, **change), device=device)
    assert asked == [(device, layout)]


def test_the_newest_checkpoint_is_found_by_its_number(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for name in ("step-0000900", "step-12000000", "step-0001000", ".step-99999999.part"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert newest_checkpoint(str(tmp_path)).name == "step-12000000"


def test_the_network_of_a_run_is_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no checkpoint in {tmp_path}"):
        find_model(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert find_model(str(tmp_path)) == tmp_path / "model.safetensors"
    assert find_model(tmp_path / "model.safetensors") == tmp_path / "model.safetensors"
    assert find_model("nowhere").name == "nowhere"  # whoever reads it says that it is not there
    (tmp_path / "checkpoints" / "step-0000003").mkdir(parents=True)
    expected = tmp_path / "checkpoints" / "step-0000003" / "model.safetensors"
    assert find_model(tmp_path) == expected


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def saved(tmp_path):
    run = fresh_run(CONFIG)
    step_of(run, CONFIG)
    run.seconds = 2.5
    save_run(run, tmp_path / "run")
    return run, tmp_path / "run"


def test_what_is_in_a_checkpoint(saved):
    run, out = saved
    assert names(out / "checkpoints") == ["step-0000001"]
    folder = newest_checkpoint(out)
    assert names(folder) == ["model.safetensors", "optimizer.pt", "weights.safetensors"]
    for name, network in (("model", run.average), ("weights", run.model)):
        model, about = load_model(folder / f"{name}.safetensors")
        for weight, other in zip(model.parameters(), network.parameters(), strict=True):
            assert torch.equal(weight, other)
        expected = {**run.metadata, "step": 1} if name == "model" else {}
        assert about == json.loads(json.dumps(expected))
    state = torch.load(folder / "optimizer.pt", weights_only=True)
    assert (state["step"], state["seconds"]) == (1, 2.5)
    moments = state["optimizer"]["state"]
    assert len(moments) == len([*run.model.parameters()])
    assert moments[0]["step"] == 1


def test_an_older_checkpoint_goes_when_the_next_is_there(saved):
    run, out = saved
    (out / "checkpoints" / ".step-0000002.part").mkdir()
    (out / "checkpoints" / ".step-0000002.part" / "rubbish").touch()
    run.step = 2
    save_run(run, out)
    assert names(out / "checkpoints") == ["step-0000002"]
    assert names(newest_checkpoint(out)) == [
        "model.safetensors",
        "optimizer.pt",
        "weights.safetensors",
    ]


def test_a_checkpoint_that_is_there_is_left(saved):
    run, out = saved
    before = (newest_checkpoint(out) / "optimizer.pt").stat().st_mtime_ns
    save_run(run, out)
    assert (newest_checkpoint(out) / "optimizer.pt").stat().st_mtime_ns == before


def test_names_are_pushed_to_the_disk_after_the_files(saved, monkeypatch):
    run, out = saved
    order = []
    rename, sync = os.rename, runs.sync_directory
    monkeypatch.setattr(runs.os, "rename", lambda *a: order.append("rename") or rename(*a))
    monkeypatch.setattr(runs, "sync_directory", lambda f: order.append(f.name) or sync(f))
    run.step = 2
    save_run(run, out)
    assert order == ["rename", "checkpoints"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(saved, monkeypatch):
    run, out = saved

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runs.os, "rename", full)
    run.step = 2
    message = "step 2 could not be saved, No space left on device; the last .*step-0000001"
    with pytest.raises(OSError, match=message) as error:
        save_run(run, out)
    assert error.value.errno == errno.ENOSPC
    assert names(out / "checkpoints") == ["step-0000001"]


def test_the_average_is_what_is_sampled_from(saved, tmp_path):
    run, _ = saved
    save_average(run, tmp_path / "a.safetensors")
    model, about = load_model(tmp_path / "a.safetensors")
    assert torch.equal(model.first.weight, run.average.first.weight)
    assert not torch.equal(model.first.weight, run.model.first.weight)
    assert about["step"] == 1

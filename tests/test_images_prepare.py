"""What a run needs before its first step: data that fits, a directory, a network that shares."""

from dataclasses import replace

import pytest
import torch
from picture_runs import CONFIG, CPU, DATA, fresh_run, log_of, quick

from fmtutor.images import prepare
from fmtutor.images.batches import seed_of
from fmtutor.images.data import to_float
from fmtutor.images.prepare import check_fit, network_config, prepare_folder, shared_network
from fmtutor.images.run import newest_checkpoint
from fmtutor.networks import UNet, UNetConfig


def test_settings_that_do_not_fit_the_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size is 51, but there are 50 pictures"):
        quick(tmp_path / "run", replace(CONFIG, batch_size=51))
    with pytest.raises(ValueError, match="batch_size 8 cannot be shared by 1 processes in 3 parts"):
        quick(tmp_path / "run", replace(CONFIG, accumulate=3))
    with pytest.raises(ValueError, match="flip came, but the pictures of dots are not to be mirro"):
        quick(tmp_path / "run", replace(CONFIG, flip=True))
    assert not (tmp_path / "run").exists()


def test_what_just_fits_is_taken():
    check_fit(replace(CONFIG, batch_size=50), DATA, CPU)
    check_fit(replace(CONFIG, flip=True), replace(DATA, flip=True), CPU)
    check_fit(replace(CONFIG, batch_size=8, accumulate=2), DATA, replace(CPU, world=4))
    with pytest.raises(ValueError, match="cannot be shared by 4 processes in 4 parts each"):
        check_fit(replace(CONFIG, batch_size=8, accumulate=4), DATA, replace(CPU, world=4))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"train": to_float(DATA.train)}, TypeError, "train must be pixels .* but torch.float32"),
        ({"test": DATA.test.long()}, TypeError, "test must be pixels .* but torch.int64"),
        ({"train": DATA.train[:, 0]}, ValueError, r"train must be pictures \[n c h w\], but \[50,"),
        ({"test": DATA.test[:0]}, ValueError, r"test must be pictures \[n c h w\], but \[0, 1"),
        ({"test": DATA.test[..., :2]}, ValueError, r"test must be pictures .*, but \[7, 1"),
        ({"train_labels": DATA.train_labels[1:]}, ValueError, r"labels must be \[50\].* \[49\]"),
        ({"test_labels": DATA.test_labels.int()}, TypeError, "labels must be an int64 tensor"),
        ({"classes": ("red", "green")}, ValueError, r"labels must be 0, \.\.\., 1, but 2 came"),
    ],
)  # fmt: skip
def test_data_that_are_none_are_refused(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        quick(tmp_path / "run", data=replace(DATA, **change))
    assert not (tmp_path / "run").exists()


def test_pictures_that_are_not_square_are_refused(tmp_path):
    wide = replace(DATA, train=DATA.train[:, :, :2], test=DATA.test[:, :, :2])
    with pytest.raises(ValueError, match="square pictures, but their height and width are 2 and 4"):
        quick(tmp_path / "run", data=wide)


def test_what_is_known_of_the_data_is_written():
    about = fresh_run(CONFIG).metadata
    assert (about["data"], about["classes"], about["pictures"]) == (
        "dots", ["red", "green", "blue"], 50,
    )  # fmt: skip
    assert network_config(CONFIG, DATA) == fresh_run(CONFIG).model.config


def test_the_network_is_made_for_the_data():
    colours = replace(DATA, train=DATA.train.expand(-1, 3, -1, -1))
    given = {"patch": 2, "width": 8, "mults": (1,), "attention": (), "heads": 1}
    for conditional, classes in ((True, 3), (False, 0)):
        config = replace(CONFIG, conditional=conditional)
        expected = UNetConfig(size=4, channels=3, classes=classes, **given)
        assert network_config(config, colours) == expected


def test_the_seed_of_the_weights_is_one_of_its_own():
    first = fresh_run(CONFIG).model.first.weight
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(0, "weights"))
        expected = UNet(network_config(CONFIG, DATA)).first.weight
    assert torch.equal(first, expected)
    assert not torch.equal(first, fresh_run(replace(CONFIG, seed=1)).model.first.weight)


def test_the_directory_of_a_run(tmp_path):
    run, out = fresh_run(CONFIG), tmp_path / "run"
    out.mkdir()
    (out / "log.jsonl").write_text('{"step": 1}\n')  # killed before its first checkpoint
    prepare_folder(run, out, CPU, False)
    assert newest_checkpoint(out).name == "step-0000000"
    (first,) = log_of(out)
    assert (first["step"], first["processes"]) == (0, 1)
    with pytest.raises(FileExistsError, match="there is a run in"):
        prepare_folder(run, out, CPU, False)
    run.step = 3
    prepare_folder(run, out, CPU, True)
    assert [line["step"] for line in log_of(out)] == [0, 3]


def test_alone_the_network_is_called_as_it_is(monkeypatch):
    compiled, run = [], fresh_run(CONFIG)
    monkeypatch.setattr(UNet, "compile", compiled.append)
    assert shared_network(run, CONFIG, CPU) is run.model
    assert compiled == []
    monkeypatch.setattr(run.model, "compile", lambda: compiled.append(run.model))
    assert shared_network(run, replace(CONFIG, compile=True), CPU) is run.model
    assert compiled == [run.model]


def test_among_several_processes_it_shares_its_gradients(monkeypatch):
    class Sharing:
        def __init__(self, network, *, gradient_as_bucket_view):
            assert gradient_as_bucket_view
            self.network, self.compiled, self.broadcast_buffers = network, False, True

        def compile(self):
            self.compiled = True

    monkeypatch.setattr(prepare, "DistributedDataParallel", Sharing)
    run = fresh_run(CONFIG)
    for compiled in (False, True):
        net = shared_network(run, replace(CONFIG, compile=compiled), replace(CPU, world=2))
        assert (net.network, net.compiled, net.broadcast_buffers) == (run.model, compiled, False)

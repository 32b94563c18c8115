"""A run watched in TensorBoard, by a stand-in for its writer."""

import os
import signal
import sys
from types import SimpleNamespace

import pytest
from picture_runs import CONFIG, fail_at, log_of, quick

from fmtutor.images.board import tensorboard
from fmtutor.images.cli import main
from fmtutor.images.trainer import Stopped


@pytest.fixture
def writers(monkeypatch):
    """The writers that were made, each with what it was told."""
    made = []

    class Writer:
        def __init__(self, folder, *, purge_step):
            self.folder, self.purge_step, self.told, self.state = folder, purge_step, [], "open"
            made.append(self)

        def add_scalar(self, name, value, step):
            assert self.state == "open"
            self.told.append((name, value, step))

        def flush(self):
            self.seen = len(self.told)

        def close(self):
            self.state = "closed"

    module = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return made


def told_of(out):
    return [
        (name, value, line["step"])
        for line in log_of(out)
        if "config" not in line
        for name, value in line.items()
        if name != "step" and value is not None
    ]


def test_tensorboard_is_told_what_the_log_says(tmp_path, writers):
    with tensorboard(tmp_path / "board") as listen:
        quick(tmp_path / "run", CONFIG, listen=listen)
        assert not [writer for writer in writers if writer.seen < len(writer.told)]
    (writer,) = writers
    assert writer.told == told_of(tmp_path / "run")
    assert {"loss", "test_loss", "lr", "images_per_second"} <= {name for name, _, _ in writer.told}
    assert (writer.folder, writer.purge_step, writer.state) == (tmp_path / "board", 3, "closed")


def test_what_is_no_number_is_left_out(tmp_path, writers):
    with tensorboard(tmp_path) as listen:
        listen({"step": 5, "loss": 0.5, "memory_mb": None})
    assert writers[0].told == [("loss", 0.5, 5)]


def test_a_resumed_run_hides_what_it_takes_again(tmp_path, writers):
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with tensorboard(tmp_path / "board") as listen, pytest.raises(Stopped):
            quick(tmp_path / "run", CONFIG, listen=listen)
    with tensorboard(tmp_path / "board") as listen:
        quick(tmp_path / "run", CONFIG, listen=listen, resume=True)
    assert [writer.purge_step for writer in writers] == [3, 6]
    assert [writer.state for writer in writers] == ["closed", "closed"]
    steps = [{step for _, _, step in writer.told} for writer in writers]
    assert steps == [{3}, {6, 9}]


def test_where_nothing_is_told_nothing_is_written(tmp_path, writers):
    with tensorboard(tmp_path / "board"):
        pass  # a process that does not write the log
    assert writers == []


QUICK = """
    train --patch 4 --width 4 --mults 1 --attention , --heads 1 --steps 2 --warmup 1
    --batch-size 8 --log-every 1 --sample-every 2 --save-every 2 --out
"""


def test_it_is_asked_for_on_the_command_line(tmp_path, writers):
    assert main([*QUICK.split(), str(tmp_path / "with"), "--tensorboard"]) == 0
    assert main([*QUICK.split(), str(tmp_path / "without")]) == 0
    (writer,) = writers
    assert writer.folder == tmp_path / "with" / "tensorboard"
    assert writer.told == told_of(tmp_path / "with")
    # It does not describe the run: it can be asked for, or not, at each resumption.
    resume = ["train", "--resume", "--reschedule", "--steps", "3", "--out", str(tmp_path / "with")]
    assert main(resume) == 0
    assert len(writers) == 1


def test_without_it_the_run_does_not_begin(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    assert main([*QUICK.split(), str(tmp_path / "run"), "--tensorboard"]) == 1
    assert capsys.readouterr().err == ("fmtutor: tensorboard is missing: pip install tensorboard\n")
    assert not (tmp_path / "run").exists()

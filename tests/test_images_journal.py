"""What a run tells: when, of which pictures, in lines that every reader of JSON reads."""

import json
import math
import resource
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from picture_runs import CONFIG, CPU, DATA, fresh_run
from PIL import Image

from fmtutor.images import journal
from fmtutor.images.batches import batch_loss
from fmtutor.images.checkpoint import as_json
from fmtutor.images.config import learning_rate
from fmtutor.images.data import balanced, to_uint8
from fmtutor.images.journal import (
    Stretch,
    add_to_log,
    begin_log,
    describe_machine,
    draw_grid,
    due,
    loss_on_test,
    tell,
)
from fmtutor.images.pictures import shown_classes
from fmtutor.images.prepare import begin_run

BY_CLASS = replace(
    DATA,
    test=DATA.train.repeat(60, 1, 1, 1),
    test_labels=DATA.train_labels.repeat(60).sort().values,
)


def test_what_is_due_when():
    config = replace(CONFIG, log_every=2, sample_every=3, save_every=4, steps=9)
    assert [due(config, step) for step in (1, 2, 3, 4, 6)] == [
        set(), {"log"}, {"sample"}, {"log", "save"}, {"log", "sample"},
    ]  # fmt: skip
    assert due(config, 9) == {"log", "sample", "save"}


@pytest.mark.parametrize("conditional", [True, False])
def test_the_test_loss_is_that_of_all_classes_in_several_batches(monkeypatch, conditional):
    config, seen = replace(CONFIG, accumulate=2, conditional=conditional), []

    def recorded(v, pixels, labels, given, *, generator):
        assert given.label_dropout == 0
        seen.append((pixels, labels))
        return torch.tensor(float(len(seen)))

    monkeypatch.setattr(journal, "batch_loss", recorded)
    run = fresh_run(config)
    loss = loss_on_test(run, config, BY_CLASS)
    assert {len(pixels) for pixels, _ in seen} == {4}
    assert len(seen) == 250
    rows = balanced(BY_CLASS.test_labels, 1000)
    assert torch.equal(torch.cat([pixels for pixels, _ in seen]), BY_CLASS.test[rows])
    assert loss == pytest.approx(sum(range(1, 251)) / 250)
    if conditional:
        labels = torch.cat([labels for _, labels in seen])
        assert sorted(labels.bincount().tolist()) == [333, 333, 334]
    else:
        assert {labels for _, labels in seen} == {None}


def test_the_test_loss_is_the_mean_over_pictures_and_the_same_each_time():
    run, g = fresh_run(CONFIG), torch.Generator()
    torch.nn.init.normal_(run.average.last[2].weight, generator=torch.Generator().manual_seed(0))
    small = replace(CONFIG, batch_size=5)  # seven pictures: parts of five and of two
    rows = balanced(DATA.test_labels, 7)
    config, total = replace(small, label_dropout=0.0), 0.0
    g.manual_seed(0)
    for part in (rows[:5], rows[5:]):
        with torch.no_grad():
            loss = batch_loss(
                run.average, DATA.test[part], DATA.test_labels[part], config, generator=g
            )
        total += loss.item() * len(part) / 7
    assert loss_on_test(run, small, DATA) == pytest.approx(total, abs=2e-5)
    assert loss_on_test(run, small, DATA) == loss_on_test(run, small, DATA)


def test_the_test_loss_is_the_same_for_all_ways_to_train():
    run = fresh_run(CONFIG)
    torch.nn.init.normal_(run.average.last[2].weight, generator=torch.Generator().manual_seed(0))
    other = {"times": "logit-normal", "shift": 3.0, "augment": 1, "dequantise": True}
    assert loss_on_test(run, replace(CONFIG, **other), DATA) == loss_on_test(run, CONFIG, DATA)


@pytest.mark.parametrize(
    ("classes", "shown"),
    [(0, []), (3, [0, 1, 2]), (10, [*range(10)]), (1000, [*range(0, 1000, 100)])],
)
def test_a_grid_has_no_more_columns_than_can_be_looked_at(classes, shown):
    assert shown_classes(classes).tolist() == shown


def test_a_grid_of_many_classes_is_drawn_of_some(tmp_path):
    many = replace(DATA, classes=tuple(str(k) for k in range(100)))
    run = begin_run(CONFIG, many, CPU)
    draw_grid(run, tmp_path / "samples" / "grid.png")
    with Image.open(tmp_path / "samples" / "grid.png") as grid:
        assert grid.size == (2 * (10 * 5 - 1), 2 * (8 * 5 - 1))


def test_json_has_no_nan():
    value = {"a": [1.5, math.nan], "b": {"c": (math.inf, "x", None, True)}, "d": -math.inf}
    expected = {"a": [1.5, None], "b": {"c": [None, "x", None, True]}, "d": None}
    assert json.loads(as_json(value), parse_constant=pytest.fail) == expected
    assert as_json({"ä": 1}, ensure_ascii=False, indent=1) == '{\n "ä": 1\n}'


def test_the_log_is_cut_or_begun(tmp_path):
    out = tmp_path / "new" / "run"
    begin_log(out, None)
    for record in ({"config": {}}, {"step": 3, "loss": math.nan}, {"step": 5}, {"step": 6}):
        add_to_log(out, record)
    begin_log(out, 5)
    lines = (out / "log.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line).get("step") for line in lines] == [None, 3, 5]
    tell({"step": 6}, out, replace(CPU, rank=1))
    assert len((out / "log.jsonl").read_text("utf-8").splitlines()) == 3
    begin_log(out, None)
    assert not (out / "log.jsonl").exists()


def test_a_line_is_of_the_steps_since_the_line_before():
    run = fresh_run(CONFIG)
    run.step, run.seconds = 4, 2.0
    stretch = Stretch(run)
    for loss in (1.0, 2.0, 4.0):
        stretch.add(torch.tensor(loss))
    run.step, run.seconds = 7, 3.57
    line = stretch.record(run, CONFIG, 47, CPU, torch.tensor(1.234567))
    assert line.pop("memory_mb") > 10
    assert line == {
        "step": 7, "epoch": 1.191, "loss": 2.33333, "lr": round(learning_rate(CONFIG, 6), 8),
        "gradient_norm": 1.2346, "images_per_second": 15.3, "seconds": 3.6,
    }  # fmt: skip
    stretch.add(torch.zeros((), device="meta"))  # on an accelerator nothing is waited for


GPU = replace(CPU, device=torch.device("cuda"))


@pytest.mark.parametrize(("ranks", "device"), [(CPU, "cpu"), (GPU, "name of cuda")], ids=str)
def test_the_first_line_says_what_is_trained_and_where(ranks, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"name of {device}")
    run = fresh_run(CONFIG)
    run.step = 5
    assert describe_machine(run, replace(ranks, world=3)) == {
        "config": run.metadata["train"], "device": device, "processes": 3, "backend": None,
        "step": 5,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("platform", "ranks", "memory"),
    [("linux", CPU, 5243), ("darwin", CPU, 5), ("win32", CPU, None), ("linux", GPU, 8)],
)
def test_the_memory_is_told_in_megabytes(platform, ranks, memory, monkeypatch):
    usage = {resource.RUSAGE_SELF: SimpleNamespace(ru_maxrss=5_120_000)}
    monkeypatch.setattr(resource, "getrusage", usage.__getitem__)
    of_device = {ranks.device: 7_900_000}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", of_device.__getitem__)
    monkeypatch.setattr(sys, "platform", platform)
    run = fresh_run(CONFIG)
    stretch = Stretch(run)
    run.step, run.seconds = 1, 1.0
    assert stretch.record(run, CONFIG, 50, ranks, torch.ones(()))["memory_mb"] == memory


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_test_loss_is_taken_in_the_precision_of_the_run(precision, monkeypatch):
    half = []

    def recorded(v, pixels, labels, given, *, generator):
        half.append(torch.is_autocast_enabled("cpu"))
        return torch.tensor(1 / 3)

    monkeypatch.setattr(journal, "batch_loss", recorded)
    config = replace(CONFIG, precision=precision)
    assert loss_on_test(fresh_run(config), config, DATA) == 0.33333
    assert half == [precision == "bfloat16"]


@pytest.mark.parametrize("conditional", [True, False])
def test_a_grid_is_of_the_average_with_a_column_for_each_class(conditional, tmp_path, monkeypatch):
    told = []

    def drawn(model, labels, *, count, decode):
        assert decode is to_uint8
        told.append((model, None if labels is None else labels.tolist(), count))
        return torch.zeros(count, 1, 4, 4, dtype=torch.uint8)

    monkeypatch.setattr(journal, "draw_pictures", drawn)
    run = fresh_run(replace(CONFIG, conditional=conditional))
    for _ in range(2):  # the folder may be there
        draw_grid(run, tmp_path / "samples" / "grid.png")
    expected = ([0, 1, 2] * 8, 24) if conditional else (None, 80)
    assert told == 2 * [(run.average, *expected)]
    with Image.open(tmp_path / "samples" / "grid.png") as grid:
        assert grid.size == (2 * ((3 if conditional else 10) * 5 - 1), 2 * (8 * 5 - 1))


def test_a_line_that_was_not_finished_goes(tmp_path):
    tell({"step": 4, "loss": 1.0}, tmp_path, CPU)
    tell({"config": {}}, tmp_path, CPU)
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 4, "lo\n{"step": 5}\n{"step": 4, "ä')
    begin_log(tmp_path, 4)
    lines = (tmp_path / "log.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 4, "loss": 1.0}, {"config": {}}]

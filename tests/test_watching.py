"""Runs drawn from their logs."""

import json
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from picture_runs import CONFIG, log_of, quick
from PIL import Image

from fmtutor.cli import main
from fmtutor.plotting import COLORS
from fmtutor.watching import draw_runs, plot_runs, read_log

LINES = [
    {"config": {"lr": 1.0}, "step": 0},
    {"step": 2, "loss": 2.0, "lr": 0.1, "images_per_second": 10.0},
    {"step": 4, "loss": 1.0, "lr": 0.2, "images_per_second": None},
    {"step": 4, "test_loss": 1.5},
    {"step": 6, "loss": 0.5, "lr": 0.1, "images_per_second": 30.0},
]


def write(run, lines, end=""):
    run.mkdir()
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + end)
    return run


def curves(figure):
    return {
        ax.get_ylabel(): [np.array(line.get_data()).T.tolist() for line in ax.lines]
        for ax in figure.axes
    }


def test_a_log_is_read_while_the_run_writes_it(tmp_path):
    run = write(tmp_path / "run", LINES, '{"step": 8, "lo')
    assert read_log(run) == LINES[1:]


def test_what_is_drawn_is_what_the_log_says(tmp_path):
    drawn = curves(draw_runs([write(tmp_path / "run", LINES)]))
    assert drawn["loss"] == [[[2, 2.0], [4, 1.0], [6, 0.5]]]
    assert drawn["test loss of the average"] == [[[4, 1.5]]]
    assert drawn["learning rate"] == [[[2, 0.1], [4, 0.2], [6, 0.1]]]
    ((first, gap, last),) = drawn["pictures a second"]
    assert (first, gap[0], last) == ([2, 10.0], 4, [6, 30.0])
    assert np.isnan(gap[1])


def test_one_number_alone_is_a_dot(tmp_path):
    figure = draw_runs([write(tmp_path / "run", LINES)])
    markers = [ax.lines[0].get_marker() for ax in figure.axes]
    assert markers == ["None", ".", "None", "None"]


def test_runs_lie_over_each_other_and_are_told_apart(tmp_path):
    runs = [write(tmp_path / f"run{k}", LINES[: 2 + k % 2]) for k in range(7)]
    figure = draw_runs(runs)
    for ax in figure.axes:
        styles = {(line.get_color(), line.get_linestyle()) for line in ax.lines}
        assert (len(ax.lines), len(styles)) == (7, 7)
    assert figure.axes[0].lines[0].get_color() == COLORS["learned"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [str(run) for run in runs]
    assert draw_runs(runs[:1]).legends == []


def test_the_style_of_other_figures_stays_as_it_was(tmp_path):
    before = dict(mpl.rcParams)
    draw_runs([write(tmp_path / "run", LINES)])
    assert dict(mpl.rcParams) == before


def test_a_real_run_is_drawn_into_a_png(tmp_path, capsys):
    quick(tmp_path / "run", CONFIG)
    assert main(["plot", str(tmp_path / "run"), "--out", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.png'}\n"
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGBA")
        pixels = np.asarray(image)
    assert (pixels[..., 3] == 0).mean() > 0.5  # transparent, for either theme
    learned = [int(COLORS["learned"][k : k + 2], 16) for k in (1, 3, 5)]
    assert (pixels[..., :3] == learned).all(2).sum() > 500
    losses = [line["loss"] for line in log_of(tmp_path / "run") if "loss" in line]
    (drawn,) = curves(draw_runs([tmp_path / "run"]))["loss"]
    assert drawn == [[step, loss] for step, loss in zip((3, 6, 9), losses, strict=True)]


def test_several_runs_are_named_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write(tmp_path / name, LINES)
    assert main(["plot", "a", "b"]) == 0
    one = (tmp_path / "plot.png").read_bytes()
    assert main(["plot", "a"]) == 0
    assert (tmp_path / "plot.png").read_bytes() != one


def test_what_is_no_run_is_told(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"there is no log\.jsonl in .*empty"):
        read_log(tmp_path / "empty")
    run = write(tmp_path / "run", LINES[:1], '[1]\n{"loss": 1}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl has no measurement"):
        read_log(run)
    with pytest.raises(ValueError, match="at least 1 run to draw, but 0 came"):
        draw_runs([])
    assert main(["plot", str(run)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    write(tmp_path / "good", LINES)
    with pytest.raises(FileNotFoundError):
        plot_runs([tmp_path / "good"], tmp_path / "nowhere" / "plot.png")


def test_without_matplotlib_it_says_what_to_install(tmp_path):
    code = """
import sys
sys.modules["matplotlib"] = None
from fmtutor.cli import main
sys.exit(main(["plot", "run"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "fmtutor: matplotlib is missing: pip install matplotlib\n"

"""benchmarks/gpu.py, all of it, on a CPU with tiny sizes: its numbers mean nothing there."""

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from fmtutor.images import cli
from fmtutor.images.arguments import train_settings
from fmtutor.images.config import EvaluationConfig

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import gpu  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu") / "new" / "gpu.json"
    command = [sys.executable, "benchmarks/gpu.py", "--dry-run", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return json.loads(out.read_text("utf-8"))


def test_every_part_of_our_own_has_its_numbers(result):
    means = ["eager fp32", "bf16", "channels-last", "compile", "all together"]
    for part, names in (("training", [*means, "the trainer itself"]), ("transformer", means)):
        rows = result[part]["rows"]
        assert list(rows) == names
        for row in rows.values():
            assert row["images_per_s"] > 0, row
            assert row["batch"] == 4
            rate = result["ceilings"]["bf16_matmul_tflops"]
            assert row["share_of_matrix_rate"] == pytest.approx(row["tflops"] / rate, rel=0.01)
        assert result[part]["parameters"] > 0
    counts = [result[part]["operations_per_image"] for part in ("training", "transformer")]
    assert 10 < counts[1] / 1000 < counts[0] / 1000 < 1e4
    assert result["ceilings"]["copy_gb_per_s"] > 0
    assert list(result["sampling"]) == ["all together", "eager fp32"]
    for row in result["sampling"].values():
        assert row["images_per_s"].keys() == {"nfe 1", "nfe 2"}
    assert result["unread"] == {"steps": 2, "sync_debug_mode": None}


def test_two_processes_learn_as_one_does(result):
    one, two = result["training"]["rows"]["the trainer itself"], result["processes"]
    assert (one["processes"], one["backend"]) == (1, None)
    assert (two["processes"], two["backend"]) == (2, "gloo")
    assert two["batch"] == one["batch"]
    assert two["images_per_s"] > 0
    assert 0.5 < two["loss"] / one["loss"] < 2  # of four steps with other noise


def test_parts_are_made_alone_and_in_their_order(tmp_path, monkeypatch):
    out = tmp_path / "gpu.json"
    given = ["--parts", "sampling", "unread", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--dry-run", *given])
    gpu.main()
    found = json.loads(out.read_text("utf-8"))
    parts = [key for key in found if key in ("ceilings", "goals", *gpu.PARTS)]
    assert parts == ["ceilings", "unread", "sampling"]
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.json"]
    assert not torch.backends.cudnn.benchmark  # put back as it was
    monkeypatch.setattr(sys, "argv", [*sys.argv[:2], "--parts", "processes", *given[3:]])
    monkeypatch.setattr(gpu, "processes", lambda size: {"made": True})
    gpu.main()
    both = json.loads(out.read_text("utf-8"))
    assert {"unread", "sampling", "processes"} <= both.keys()
    assert both["command"].count("gpu.py") == 2
    monkeypatch.setattr(gpu, "revision", lambda: "another")
    gpu.main()
    assert not {"unread", "sampling"} & json.loads(out.read_text("utf-8")).keys()


def test_a_run_that_is_cut_off_keeps_its_rows(tmp_path, monkeypatch):
    made = []

    def row(*given):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(given)
        return {"batch": 4, "images_per_s": 1.0}

    out = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu, "measured", row)
    argv = ["gpu.py", "--dry-run", "--parts", "training", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(KeyboardInterrupt):
        gpu.main()
    found = json.loads(out.read_text("utf-8"))
    assert list(found["training"]["rows"]) == ["eager fp32", "bf16"]


def test_the_peer_is_timed_or_said_to_be_missing(result):
    there = importlib.util.find_spec("torchcfm") is not None
    assert list(result["torchcfm"]) == ["independent", "minibatch OT, its default"]
    for row in result["torchcfm"].values():
        assert ("images_per_s" in row) == there
        assert there or row["failed"] == "ModuleNotFoundError: No module named 'torchcfm'"
    assert (result["goals"]["times_torchcfm"]["reached"] is None) != there


def test_the_result_says_what_it_is(result):
    assert result["dry_run"]
    assert result["command"].startswith("python benchmarks/gpu.py --dry-run")
    assert result["device"] == {"name": "cpu"}
    assert result["versions"]["torch"] == torch.__version__
    assert len(result["versions"]["revision"]) >= 7
    assert result["goals"]["times_torchcfm"]["goal"] == 4
    assert result["goals"]["share_of_matrix_rate"]["goal"] == 0.3


def test_without_a_gpu_it_says_so_and_writes_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "gpu.json")])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    assert end.value.code == 1
    assert capsys.readouterr().err.splitlines() == [
        "there is no GPU that torch can use; --dry-run tries the script without"
    ]
    assert not (tmp_path / "gpu.json").exists()


def test_operations_of_a_layer_are_counted_twice_backward():
    w = torch.randn(8, 16, requires_grad=True)
    x = torch.randn(4, 8, requires_grad=True)
    # One product forward, two of the same size backward, two operations for each term.
    assert gpu.operations(lambda: (x @ w).sum()) == 3 * 2 * 4 * 8 * 16


def test_the_time_of_a_call_is_that_of_one(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: clock[0])

    def call():
        clock[0] += 0.25

    assert gpu.seconds_per_call(call, CPU, 10.0) == 0.25
    # Three to warm up, one to guess the number, five groups that take ten seconds.
    assert clock[0] == (3 + 1) * 0.25 + 10
    clock[0] = 0.0
    assert gpu.seconds_per_call(call, CPU, 0.4) == 0.25
    assert clock[0] == 4 * 0.25  # a call that is long: one to warm up, one to guess, two groups


def test_a_failed_row_keeps_its_reason_and_the_others_follow():
    def fail():
        raise torch.cuda.OutOfMemoryError("out of\n  memory")

    assert gpu.attempt(fail) == {"failed": "OutOfMemoryError: out of memory"}
    assert gpu.attempt(lambda: {}["x"]) == {"failed": "KeyError: 'x'"}
    assert gpu.attempt(lambda: {"batch": 1}) == {"batch": 1}


def test_the_verdict_is_the_ratio_at_the_same_batch():
    ours = {"all together": {"images_per_s": 900.0, "share_of_matrix_rate": 0.25}}
    theirs = {"independent": {"images_per_s": 200.0}}
    verdict = gpu.verdict(ours, theirs)
    assert verdict["times_torchcfm"] == {"goal": 4.0, "reached": 4.5}
    assert verdict["share_of_matrix_rate"] == {"goal": 0.3, "reached": 0.25}
    failed = gpu.verdict({"all together": {"failed": "x"}}, theirs)
    assert failed["times_torchcfm"]["reached"] is None
    assert failed["share_of_matrix_rate"]["reached"] is None


def test_the_network_is_the_one_of_the_preset():
    config = gpu.network_config(gpu.FULL.config, gpu.pictures(gpu.FULL))
    assert (config.size, config.channels, config.classes) == (32, 3, 10)
    assert gpu.FULL.config.batch_size == gpu.FULL.transformer.batch_size == 128
    with torch.device("meta"):
        sizes = [
            sum(
                p.numel()
                for p in gpu.network(gpu.FULL, c, gpu.Means(), torch.device("meta")).parameters()
            )
            for c in (gpu.FULL.config, gpu.FULL.transformer)
        ]
    assert sizes[0] == pytest.approx(37.1e6, rel=0.01)
    assert sizes[1] == pytest.approx(32.5e6, rel=0.01)


def test_four_digits_are_kept():
    assert gpu.rounded({"a": 1234.567, "b": {"c": 0.000123456, "d": 12345678}, "e": "x"}) == {
        "a": 1235.0,
        "b": {"c": 0.0001235, "d": 12345678},
        "e": "x",
    }


def test_what_make_gpu_runs_is_understood():
    """Every command of the target, printed and not run, has options that exist."""
    run = subprocess.run(
        ["make", "-n", "gpu"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = run.stdout.replace("\\\n", " ").splitlines()
    assert sum("benchmarks/gpu.py" in line for line in lines) == 1
    commands = [line.split(" -m fmtutor.images ")[1] for line in lines if "fmtutor.images" in line]
    parsed = [cli._parser().parse_args(shlex.split(command)) for command in commands]
    trained = [args for args in parsed if hasattr(args, "preset")]
    evaluated = [args for args in parsed if not hasattr(args, "preset")]
    assert len(trained) == len(evaluated) == 6
    assert {args.out for args in trained} == {args.checkpoint for args in evaluated}
    for args in trained:
        config = train_settings(args, args.preset)
        kind, seed = args.out.name.split("-")[1:]
        assert config.seed == int(seed)
        assert config.conditional == (kind == "fashion")
        assert config.coupling == ("ot" if kind == "ot" else "independent")
    for args in evaluated:
        names = [field.name for field in fields(EvaluationConfig)]
        config = EvaluationConfig(**{name: getattr(args, name) for name in names})
        assert {10, 100} <= set(config.curve_nfe)


def test_another_python_and_place_are_taken_as_they_are(tmp_path):
    """On a machine that has its own torch nothing is installed, and what is measured can leave."""
    given = [f"GPU_PYTHON={sys.executable}", f"RESULTS={tmp_path}", "BIN=no", "VENV=no", "PEERS=no"]
    steps = ["gpu-speed", "gpu-train-fashion-0", "gpu-evaluate-fashion-0"]
    run = subprocess.run(
        ["make", "-n", *given, *steps], cwd=ROOT, capture_output=True, text=True, check=True
    )
    commands = [line for line in run.stdout.replace("\\\n", " ").splitlines() if line.strip()]
    assert "pip install" not in run.stdout
    assert sum(sys.executable in command for command in commands) == 3
    for file in ("gpu.json", "gpu_fashion-0.json", "gpu_fashion-0.png", "gpu_fashion-0.jsonl"):
        assert f"{tmp_path}/{file}" in run.stdout

"""Runs whose networks learn to jump: what they minimise, leave, draw, and refuse."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from forked import together
from picture_runs import (
    CONFIG,
    DATA,
    assert_same,
    fail_at,
    fresh_run,
    log_of,
    pictures,
    quick,
    state_of,
)
from PIL import Image
from safetensors import safe_open

from fmtutor import conditioned, guided, sample
from fmtutor.flow_maps import jump, tangent
from fmtutor.images import batches
from fmtutor.images.batches import autocast, batch_loss
from fmtutor.images.checkpoint import load_model, save_model
from fmtutor.images.cli import main
from fmtutor.images.config import EvaluationConfig
from fmtutor.images.data import to_float, to_uint8
from fmtutor.images.evaluate import evaluate
from fmtutor.images.journal import loss_on_test
from fmtutor.images.measures import bits_per_dimension
from fmtutor.images.objectives import JUMP_LOSSES, velocity_of
from fmtutor.images.pictures import draw_pictures
from fmtutor.images.prepare import shared_network
from fmtutor.images.trainer import Stopped
from fmtutor.networks import TwoTimes, UNet
from fmtutor.solvers import shifted_grid

CONFIGS = {
    name: replace(CONFIG, objective=name, log_every=9, sample_every=9) for name in JUMP_LOSSES
}
each = pytest.mark.parametrize("name", JUMP_LOSSES)
LABELS = torch.tensor([0, 2, 1, 1, 0])


def spread(name="lagrangian", **change):
    """A network that jumps, none of whose layers is zero."""
    model = fresh_run(replace(CONFIGS[name], **change)).model
    g = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2, generator=g)
    return model.eval()


def grid_of(model, labels=LABELS, **options):
    return draw_pictures(model, labels, seed=5, **options)


def noise(n=5):
    return torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(5))


# Training.


@each
def test_a_run_that_was_stopped_is_the_run_that_was_not(tmp_path, name):
    quick(tmp_path / "whole", CONFIGS[name])
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped):
            quick(tmp_path / "parts", CONFIGS[name])
    quick(tmp_path / "parts", CONFIGS[name], resume=True)
    assert_same(state_of(tmp_path / "whole"), state_of(tmp_path / "parts"))


def test_the_log_has_the_form_of_every_run(tmp_path):
    logs = []
    for config in (CONFIG, CONFIGS["semigroup"]):
        out = tmp_path / config.objective
        quick(out, replace(config, log_every=3, sample_every=9))
        logs.append([list(line) for line in log_of(out)])
        assert log_of(out)[0]["config"]["objective"] == config.objective
    assert logs[0] == logs[1]


@each
def test_a_run_learns(tmp_path, name):
    """Dots of one grey for each class; one jump with a label finds its grey."""
    levels = torch.tensor([40, 128, 215])
    data = pictures()
    data = replace(
        data,
        train=levels[data.train_labels].to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4),
        test=levels[data.test_labels].to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4),
    )
    config = replace(
        CONFIGS[name], steps=120, batch_size=25, lr=1e-2, ema=0.9, log_every=20, save_every=120,
        sample_every=120, label_dropout=0.0,
    )  # fmt: skip
    model = quick(tmp_path, config, data)
    told = [line["test_loss"] for line in log_of(tmp_path) if "test_loss" in line]
    assert told[-1] < 0.5
    if name != "meanflow":  # whose weighted loss is nearly 1 whatever is learned
        losses = [line["loss"] for line in log_of(tmp_path) if "loss" in line]
        assert losses[-1] < 0.5 * losses[0]
    drawn = grid_of(model, torch.arange(3).repeat(20)).float()
    error = (drawn.flatten(1).mean(1) - levels.repeat(20)).abs().mean()
    assert error < 20


@each
def test_the_loss_is_that_of_few_steps_on_the_batch(name):
    model, config = spread(name), replace(CONFIGS[name], label_dropout=0.0)
    labels = torch.arange(30) % 3
    g = torch.Generator().manual_seed(3)
    got = batch_loss(model, DATA.train[:30], labels, config, null=3, generator=g)
    g = torch.Generator().manual_seed(3)
    torch.rand(30, generator=g)  # whose labels are dropped
    expected = JUMP_LOSSES[name](model, to_float(DATA.train[:30]), labels, generator=g)
    assert torch.equal(got, expected)


@each
@pytest.mark.parametrize("conditional", [True, False])
def test_labels_are_withheld_as_in_any_run(monkeypatch, name, conditional):
    told = []
    monkeypatch.setitem(
        batches.JUMP_LOSSES, name, lambda u, x1, *cond, generator: told.append(cond) or x1.sum()
    )
    config = replace(CONFIGS[name], label_dropout=0.5)
    labels = torch.zeros(400, dtype=torch.int64) if conditional else None
    batch_loss(None, torch.zeros(400, 1, 4, 4, dtype=torch.uint8), labels, config, null=3)
    assert len(told[0]) == conditional
    if conditional:
        assert 0.4 < (told[0][0] == 3).float().mean() < 0.6


def test_meanflow_is_as_published():
    assert JUMP_LOSSES["meanflow"].keywords == {"power": 1.0, "share": 0.75}


@each
def test_the_test_loss_is_that_of_the_velocity(name):
    """So runs of all objectives can be compared."""
    run = fresh_run(CONFIGS[name])
    run.average.load_state_dict(spread(name).state_dict())
    plain = fresh_run(CONFIG)
    told = loss_on_test(run, CONFIGS[name], DATA)
    plain.average = lambda x, t, label: run.average(x, t, t, label)
    plain.average.parameters = run.average.parameters
    assert told == loss_on_test(plain, CONFIG, DATA)


@each
def test_gradients_in_bfloat16_are_those_of_float32(name):
    model, gradients = spread(name), []
    config = replace(CONFIGS[name], precision="bfloat16")
    for given in (replace(config, precision="float32"), config):
        model.zero_grad()
        g = torch.Generator().manual_seed(0)
        with autocast(given, torch.device("cpu")):
            batch_loss(model, DATA.train, DATA.train_labels, given, null=3, generator=g).backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    assert 0 < (gradients[1] - gradients[0]).norm() < 0.15 * gradients[0].norm()


@each
def test_two_processes_share_the_gradient(name):
    def work(ranks):
        run = fresh_run(CONFIGS[name])
        run.model.load_state_dict(spread(name).state_dict())
        net, gradients = shared_network(run, CONFIGS[name], ranks), []
        for k in range(2):  # of the part of each process, alone
            own = batch_loss(
                run.model, DATA.train[k::2], DATA.train_labels[k::2], CONFIGS[name], null=3,
                generator=torch.Generator().manual_seed(k),
            )  # fmt: skip
            gradients.append(torch.autograd.grad(own, [*run.model.parameters()]))
        k = ranks.rank
        batch_loss(
            net, DATA.train[k::2], DATA.train_labels[k::2], CONFIGS[name], null=3,
            generator=torch.Generator().manual_seed(k),
        ).backward()  # fmt: skip
        for weight, *parts in zip(run.model.parameters(), *gradients, strict=True):
            torch.testing.assert_close(weight.grad, sum(parts) / 2, atol=1e-5, rtol=1e-4)

    together(2, work)


# Checkpoints.


def test_what_is_in_a_file(tmp_path):
    quick(tmp_path, CONFIGS["semigroup"])
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata()["kind"] == "two-times unet"
    model, about = load_model(tmp_path / "model.safetensors")
    assert isinstance(model, TwoTimes)
    assert model.config == fresh_run(CONFIG).model.config
    assert about["train"]["objective"] == "semigroup"


def test_another_objective_is_another_run(tmp_path):
    quick(tmp_path, CONFIGS["semigroup"])
    for config in (CONFIG, CONFIGS["meanflow"]):
        with pytest.raises(ValueError, match=f"objective = semigroup, but {config.objective} came"):
            quick(tmp_path, config, resume=True, reschedule=True)


def test_a_run_begins_with_a_velocity_field(tmp_path):
    field = fresh_run(CONFIG).model
    for weight in field.parameters():
        torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(1))
    save_model(tmp_path / "v.safetensors", field, metadata={})
    config = replace(CONFIGS["lagrangian"], lr=1e-30, weight_decay=0.0)
    u = quick(tmp_path / "run", config, weights=tmp_path / "v.safetensors")
    x, s = noise(), torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8])
    torch.testing.assert_close(u(x, s, torch.ones(5), LABELS), field.eval()(x, s, LABELS))
    with pytest.raises(ValueError, match="holds a two-times unet, but a unet is trained"):
        quick(tmp_path / "back", CONFIG, weights=tmp_path / "run")


# Pictures.


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_pictures_are_jumps(steps):
    u = spread()
    times = torch.linspace(0, 1, steps + 1)
    expected = to_uint8(jump(u, noise(), times, cond=LABELS))
    assert torch.equal(grid_of(u, method="jump", steps=steps), expected)
    assert torch.equal(grid_of(u, method="jump", steps=steps, batch_size=2), expected)
    unlabelled = to_uint8(jump(u, noise(), times))
    assert torch.equal(grid_of(u, None, count=5, method="jump", steps=steps), unlabelled)
    shifted = to_uint8(jump(u, noise(), shifted_grid(steps, 3.0), cond=LABELS))
    assert torch.equal(grid_of(u, method="jump", steps=steps, shift=3.0), shifted)
    assert torch.equal(shifted, expected) == (steps == 1)


def test_a_network_that_jumps_does_so_once_if_nothing_is_said():
    u = spread()
    assert torch.equal(grid_of(u), grid_of(u, method="jump", steps=1))
    v = spread().network
    assert torch.equal(grid_of(v), grid_of(v, method="midpoint", steps=25))


def test_a_solver_takes_the_velocity_and_may_guide_it():
    u = spread()
    v, x = tangent(u), noise()
    plain = to_uint8(sample(conditioned(v, LABELS), x, method="heun", steps=3))
    assert torch.equal(grid_of(u, method="heun", steps=3), plain)
    v = guided(conditioned(v, LABELS), v, 2.0)
    two = grid_of(u, method="euler", steps=2, scale=2.0)
    assert torch.equal(two, to_uint8(sample(v, x, steps=2)))
    jumping = spread("meanflow")
    for other, field in ((jumping, tangent(jumping)), (jumping.network, jumping.network)):
        v = guided(conditioned(tangent(u), LABELS), conditioned(field, LABELS), 2.0)
        by_other = grid_of(u, method="euler", steps=2, scale=2.0, guide=other)
        assert torch.equal(by_other, to_uint8(sample(v, x, steps=2)))


def test_what_cannot_be_drawn_is_refused():
    u = spread()
    with pytest.raises(ValueError, match="only a network that was trained to jump can jump"):
        grid_of(u.network, method="jump", steps=1)
    for given in ({"scale": 2.0}, {"guide": spread()}):
        with pytest.raises(ValueError, match="no jump of the guided field: guide the velocity"):
            grid_of(u, **given)
    with pytest.raises(ValueError, match="steps must be"):
        grid_of(u, method="jump", steps=0)


def test_the_velocity_of_a_field_is_the_field():
    u = spread()
    assert velocity_of(u.network) is u.network
    t = torch.full((5,), 0.3)
    assert torch.equal(velocity_of(u)(noise(), t, LABELS), u(noise(), t, t, LABELS))


# Evaluation.

MEASURED = EvaluationConfig(
    samples=6, curve_samples=4, neighbours=1, method="jump", nfe=2, curve_methods=("jump", "heun"),
    curve_nfe=(1, 2), likelihood_images=3, likelihood_steps=2,
)  # fmt: skip


def pixels(x):
    return to_float(x).flatten(1)


def test_jumps_are_measured_beside_solvers():
    u = spread()
    result = evaluate(u, DATA, pixels, config=MEASURED, progress=False)
    assert (result["samples"]["method"], result["samples"]["nfe"]) == ("jump", 2)
    rows = [(row["method"], row["nfe"]) for row in result["nfe"]]
    assert rows == [("jump", 1), ("jump", 2), ("heun", 2)]
    assert result["guidance"] == []
    again = evaluate(u, DATA, pixels, config=replace(MEASURED, method="heun"), progress=False)
    assert [row["guidance"] for row in again["guidance"]] == [1.0, 1.5, 2.0, 3.0]
    bits = result["bits_per_dimension"]
    assert bits == again["bits_per_dimension"]


def test_the_likelihood_is_that_of_the_velocity(monkeypatch):
    told, u = [], spread()
    monkeypatch.setattr(
        "fmtutor.images.evaluate.bits_per_dimension",
        lambda v, x, **given: told.append((v, x)) or bits_per_dimension(v, x, **given),
    )
    evaluate(u, DATA, pixels, config=MEASURED, progress=False)
    (v, _), t = told[0], torch.full((3,), 0.3)
    labels = DATA.test_labels[[0, 1, 2]]
    got = sorted(v(noise(3), t)[k].sum().item() for k in range(3))
    every = [u(noise(3), t, t, labels[list(p)])[k].sum().item()
             for p in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
             for k in range(3)]  # fmt: skip
    assert all(min(abs(one - value) for one in every) < 1e-4 for value in got)


def test_what_cannot_be_measured_is_refused():
    for config in (MEASURED, replace(MEASURED, method="heun", curve_methods=("jump",))):
        with pytest.raises(ValueError, match="only a network that was trained to jump can jump"):
            evaluate(spread().network, DATA, pytest.fail, config=config, progress=False)
    with pytest.raises(ValueError, match=r"jumps are not guided, but guidance 2\.0 came"):
        replace(MEASURED, guidance=2.0)
    with pytest.raises(ValueError, match=r"one of euler, .*, jump, but 'leap' came"):
        replace(MEASURED, method="leap")


# Commands.

TINY = """
    train --patch 4 --width 4 --mults 1 --attention , --heads 1 --steps 3 --warmup 1
    --objective semigroup --batch-size 8 --lr 0.1
    --log-every 3 --sample-every 3 --save-every 3 --out
"""


def test_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*TINY.split(), "run"]) == 0
    drawn = {}
    for said in (
        "",
        "--jumps 1",
        "--jumps 4",
        "--steps 3",
        "--method euler",
        "--steps 25 --guidance 2",
    ):
        assert main(["sample", "run", "--rows", "1", "--out", "a.png", *said.split()]) == 0
        with Image.open("a.png") as image:
            assert image.size == (2 * 89, 2 * 8)
            drawn[said] = image.tobytes()
    assert drawn[""] == drawn["--jumps 1"]
    assert len({*drawn.values()}) == len(drawn) - 1
    assert main(["sample", "run", "--jumps", "1", "--guidance", "2"]) == 1
    assert "guidance 2 came with jumps" in capsys.readouterr().err
    assert main(["sample", "run", "--jumps", "0"]) == 1
    small = "--samples 6 --curve-samples 4 --neighbours 1 --likelihood-images 1"
    jumps = "--likelihood-steps 1 --method jump --nfe 1 --curve-methods jump --curve-nfe 1 2"
    assert main(["evaluate", "run", *small.split(), *jumps.split()]) == 0
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert [row["nfe"] for row in result["nfe"]] == [1, 2]
    assert main(["train", "--resume", "--reschedule", "--steps", "4", "--out", "run"]) == 0
    assert isinstance(load_model("run/model.safetensors")[0], TwoTimes)
    assert isinstance(load_model("run/model.safetensors")[0].network, UNet)

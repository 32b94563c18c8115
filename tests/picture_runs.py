"""What the tests of training on pictures share: tiny pictures, a tiny run, what it has left."""

import json
from dataclasses import replace

import torch

from fmtutor.images import trainer
from fmtutor.images.batches import on_device
from fmtutor.images.checkpoint import load_model
from fmtutor.images.config import TrainConfig
from fmtutor.images.data import ImageData
from fmtutor.images.prepare import begin_run
from fmtutor.images.processes import Ranks
from fmtutor.images.resume import restore_run
from fmtutor.images.run import newest_checkpoint
from fmtutor.images.trainer import train

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


def state_at(out, config):
    """Everything that the newest checkpoint says, one of parts as well, read by one process."""
    run = fresh_run(config)
    restore_run(run, out, reschedule=True)
    tensors = {f"model {k}": v for k, v in run.model.state_dict().items()}
    tensors |= {f"average {k}": v for k, v in run.average.state_dict().items()}
    for k, moments in run.optimizer.state_dict()["state"].items():
        tensors |= {f"{name} {k}": value for name, value in moments.items()}
    return run.step, tensors


def step_of(run, config, device="cpu", *, flip=False):
    """Take a step of a run, and return its loss and the norm of its gradient."""
    ranks = replace(CPU, device=torch.device(device))
    seen = on_device(replace(DATA, flip=flip), config, ranks.device)
    return trainer.take_step(run, run.model, seen, config, ranks, torch.Generator())

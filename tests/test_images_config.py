"""What describes a run: presets, checks, what the first edition has written."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from picture_runs import CONFIG, DATA, with_network

from fmtutor.images import presets
from fmtutor.images.checkpoint import load_model, shipped_checkpoint
from fmtutor.images.config import TrainConfig, learning_rate, read_config
from fmtutor.images.prepare import network_config
from fmtutor.images.presets import PRESETS
from fmtutor.networks import UNetConfig
from fmtutor.networks.registry import NETWORKS, TWO_TIMES, new_network


def test_the_learning_rate_rises_stays_and_falls():
    config = TrainConfig(steps=100, warmup=9, decay=0.2, lr=2.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (k + 1) for k in range(10)])
    assert rates[10:81] == [2.0] * 71
    assert rates[80:] == pytest.approx([0.1 * (20 - k) for k in range(20)])


def test_the_rate_of_early_steps_knows_nothing_of_the_end():
    longer = replace(CONFIG, steps=1000)
    assert learning_rate(CONFIG, 3) == learning_rate(longer, 3)


JUMPS = {"objective": "semigroup"}


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
        ({"coupling": "best"}, "coupling must be independent, ot or ot-within, but 'best'"),
        ({"coupling": "ot"}, "coupling ot pairs across classes"),
        ({"coupling": "ot-within", "conditional": False}, "coupling ot-within needs classes"),
        ({"channels": 2}, "channels must be 0, 1 or 3, but 2 came"),
        ({"network": "mlp"}, "network must be one of unet, transformer, but 'mlp' came"),
        ({"architecture": {"depth": 3}}, "unet has no setting 'depth', but patch, width"),
        ({"network": "transformer", "architecture": {"mults": (1,)}}, "transformer has no setting"),
        ({"times": "beta"}, "times must be uniform or logit-normal, but 'beta' came"),
        ({"times_std": 0.0}, "times_std must be positive, but 0"),
        ({"times": "logit-normal", "times_mean": float("inf")}, "times_mean finite"),
        ({"shift": float("inf")}, "shift must be positive, but inf"),
        ({"shift": -1.0}, "shift must be positive, but -1"),
        ({"augment": -1}, "augment must be at least 0"),
        ({"autoencoder": "a", "flip": True}, "flip = True would not act: that needs autoencoder"),
        (
            {"autoencoder": "a", "augment": 1},
            "= 1 would not act: .* autoencoder = '', but 'a' came",
        ),
        ({"autoencoder": "a", "dequantise": True}, "dequantise = True would not act"),
        ({"data": "cifar10", "size": 64}, "size = 64 would not act: that needs data = 'folder'"),
        ({"data": "packed", "channels": 3}, "needs data = 'folder', but 'packed' came"),
        ({"times_mean": 0.5}, "times_mean = 0.5 would not act: that needs times = 'logit-normal'"),
        ({"times_std": 2.0}, "times_std = 2.0 would not act: .* but 'uniform' came"),
        ({"conditional": False, "label_dropout": 0.2}, "that needs conditional = True, but False"),
        (
            {"objective": "best"},
            "must be velocity or one of lagrangian, meanflow, semigroup, but 'b",
        ),
        (
            {"objective": "meanflow", "network": "transformer", "architecture": {}},
            "objective meanflow needs network unet, but transformer came",
        ),
        ({**JUMPS, "shift": 2.0}, "shift = 2.0 would not act: that needs objective = 'velocity'"),
        ({**JUMPS, "times": "logit-normal"}, "but 'semigroup' came"),
        ({**JUMPS, "coupling": "ot-within"}, "coupling = ot-within would not act"),
        ({**JUMPS, "parallel": "fsdp"}, "parallel = fsdp would not act"),
        ({**JUMPS, "compile": True}, "compile = True would not act"),
        ({**JUMPS, "activation_checkpointing": True}, "activation_checkpointing = True would not"),
        ({"precision": "float16"}, "precision must be auto, float32 or bfloat16"),
        ({"parallel": "zero"}, "parallel must be ddp or fsdp, but 'zero' came"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


def test_the_presets_are_by_data_set_and_device():
    assert list(PRESETS) == [
        "digits-cpu", "fashion-cpu", "fashion-jump-cpu", "fashion-gpu", "fashion-transformer-cpu",
        "fashion-latents-cpu", "cifar10-gpu", "cifar10-transformer-gpu", "latents-transformer-gpu",
    ]  # fmt: skip
    for size, channels, name in (
        (8, 1, "digits-cpu"),
        (28, 1, "fashion-gpu"),
        (28, 1, "fashion-transformer-cpu"),
        (32, 3, "cifar10-gpu"),
        (32, 3, "cifar10-transformer-gpu"),
    ):
        data = replace(DATA, train=torch.zeros(1, channels, size, size, dtype=torch.uint8))
        network = network_config(PRESETS[name], data)
        assert (network.size, network.channels, network.classes) == (size, channels, 3)
        assert network.width == PRESETS[name].architecture["width"]
    assert network_config(replace(CONFIG, conditional=False), DATA).classes == 0


def test_the_presets_have_the_weights_that_are_said():
    text = Path(presets.__file__).read_text("utf-8").partition("Millions of weights: ")[2]
    numbers = dict(re.findall(r"([\w-]+-[cg]pu) (\d+(?:\.\d+)?)", text))
    assert numbers.keys() == PRESETS.keys()
    shapes = {"digits": (8, 1), "fashion-mnist": (28, 1), "cifar10": (32, 3)}
    latents = {"fashion-mnist": (7, 4), "folder": (32, 4)}
    for name, preset in PRESETS.items():
        size, channels = (latents if preset.autoencoder else shapes)[preset.data]
        description, _ = NETWORKS[preset.network]
        times = "" if preset.objective == "velocity" else TWO_TIMES
        with torch.device("meta"):
            model = new_network(
                times + preset.network, description(size, channels, 10, **preset.architecture)
            )
        weights = sum(weight.numel() for weight in model.parameters())
        assert f"{weights / 1e6:.3g}" == numbers[name]


def test_the_network_is_the_one_of_the_settings():
    config = with_network(
        CONFIG, width=12, mults=(1, 2), blocks=2, attention=(1,), heads=3, dropout=0.1
    )
    expected = UNetConfig(4, 1, 3, 2, 12, (1, 2), 2, (1,), 3, 0.1)
    assert network_config(config, DATA) == expected


# What the first edition has written.

FIRST_EDITION = """{"data": "digits", "size": 32, "flip": false, "conditional": true, "patch": 4,
"width": 4, "mults": [1], "blocks": 1, "attention": [], "heads": 1, "dropout": 0.1, "steps": 6,
"batch_size": 8, "accumulate": 2, "lr": 0.002, "warmup": 1, "decay": 0.5, "weight_decay": 0.01,
"clip": 1.0, "ema": 0.999, "label_dropout": 0.1, "coupling": "independent", "seed": 0, "precision":
"auto", "compile": false, "log_every": 2, "sample_every": 6, "save_every": 3}"""


def test_settings_of_the_first_edition_are_read():
    stored = json.loads(FIRST_EDITION)
    network = {"patch": 4, "width": 4, "mults": (1,), "blocks": 1, "attention": (), "heads": 1}
    expected = TrainConfig(
        architecture={**network, "dropout": 0.1}, steps=6, batch_size=8, accumulate=2, warmup=1,
        log_every=2, sample_every=6, save_every=3,
    )  # fmt: skip
    assert read_config(stored) == expected
    assert read_config(stored).objective == "velocity"  # nobody had another one
    # Its pictures of folders were in colours, whatever they showed.
    assert read_config({**stored, "data": "folder"}).channels == 3


def test_the_settings_of_the_shipped_network_are_read():
    model, about = load_model(shipped_checkpoint())
    config = read_config(about["train"])
    said = {"steps": 27_000, "ema": 0.9995, "precision": "bfloat16"}
    often = {"sample_every": 2500, "save_every": 250}
    assert config == replace(PRESETS["fashion-cpu"], **said, **often)
    data = replace(
        DATA, train=torch.zeros(1, 1, 28, 28, dtype=torch.uint8), classes=tuple(about["classes"])
    )
    assert network_config(config, data) == model.config


@pytest.mark.parametrize("config", [CONFIG, *PRESETS.values()])
def test_settings_survive_json(config):
    assert read_config(json.loads(json.dumps(asdict(config)))) == config


def test_a_setting_that_acts_is_taken():
    config = replace(
        CONFIG, data="folder", size=64, channels=3, flip=True, augment=1, dequantise=True,
        times="logit-normal", times_mean=0.5, times_std=2.0, label_dropout=0.2,
    )  # fmt: skip
    assert read_config(asdict(config)) == config
    for dropout in (0.0, 0.1):  # nothing, or what nobody has said
        assert replace(CONFIG, conditional=False, label_dropout=dropout).label_dropout == dropout


def test_what_a_run_has_said_in_vain_is_left_out():
    vain = {"size": 64, "channels": 1, "times_mean": 0.5, "label_dropout": 0.2}
    assert read_config(asdict(CONFIG) | vain | {"conditional": False}) == replace(
        CONFIG, conditional=False
    )


def test_settings_of_a_later_edition_are_left_out():
    assert read_config({**asdict(CONFIG), "of tomorrow": 1}) == CONFIG

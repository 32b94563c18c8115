"""The command line: what it writes, what it says, how it ends."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from dataclasses import dataclass, fields, replace

import pytest
import torch
from PIL import Image

from fmtutor.images import chunks, processes, trainer
from fmtutor.images.arguments import train_settings
from fmtutor.images.checkpoint import load_model, save_model
from fmtutor.images.cli import attribute_help, main
from fmtutor.images.config import TrainConfig
from fmtutor.images.datasets import load_images
from fmtutor.images.inputs import shared_data
from fmtutor.images.latents import identity
from fmtutor.images.manifest import read_manifest
from fmtutor.images.pack import pack_images
from fmtutor.images.presets import PRESETS
from fmtutor.images.run import find_model
from fmtutor.networks import Autoencoder, Transformer, TransformerConfig, UNetConfig
from fmtutor.networks.autoencoder import AutoencoderConfig
from fmtutor.networks.registry import NETWORKS

QUICK = """
    train --patch 4 --width 4 --mults 1 --attention , --heads 1 --steps 4 --warmup 1
    --batch-size 8 --log-every 2 --sample-every 4 --save-every 2 --out
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The directory of a run that is over."""
    monkeypatch.chdir(tmp_path)
    assert main([*QUICK.split(), "run"]) == 0
    return tmp_path / "run"


def test_a_preset_is_changed_by_what_is_said(run):
    _, about = load_model(run / "model.safetensors")
    said = {"steps": 4, "batch_size": 8, "network": "unet"}
    assert said.items() <= about["train"].items()
    said = {"patch": 4, "mults": [1], "attention": [], "width": 4, "heads": 1}
    assert said.items() <= about["train"]["architecture"].items()
    assert about["train"]["lr"] == PRESETS["digits-cpu"].lr
    assert about["classes"] == [*"0123456789"]


def test_what_is_said_in_vain_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for said, message in (
        ("--size 64", "size = 64 would not act: that needs data = 'folder', but 'digits' came"),
        ("--times-mean 1", "times_mean = 1.0 would not act"),
        ("--no-conditional --label-dropout 0.2", "label_dropout = 0.2 would not act"),
    ):
        with pytest.raises(SystemExit):
            main([*QUICK.split(), "run", *said.split()])
        assert message in capsys.readouterr().err
    mirrored = replace(load_images("digits"), flip=True)
    monkeypatch.setattr("fmtutor.images.datasets.load_images", lambda name, **given: mirrored)
    assert main([*QUICK.split(), "run", "--data", "cifar10", "--no-flip"]) == 1
    assert "no-flip came, but cifar10 is always mirrored" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_a_preset_has_said_is_dropped_where_it_would_not_act():
    large = {"preset": "latents-transformer-gpu", "error": pytest.fail}
    settings = train_settings(Namespace(data="packed", **large), large["preset"])
    assert (settings.data, settings.size, settings.batch_size) == ("packed", 32, 256)
    assert train_settings(Namespace(**large), large["preset"]).size == 256
    base = replace(PRESETS["digits-cpu"], times="logit-normal", times_mean=1.0)
    assert train_settings(Namespace(times="uniform", **large), base).times_mean == 0
    jumps = train_settings(Namespace(objective="meanflow", **large), replace(base, compile=True))
    assert (jumps.compile, jumps.times, jumps.times_mean) == (False, "uniform", 0)


def test_the_run_goes_where_its_preset_says(tmp_path, monkeypatch):
    seen = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer, "train", lambda *args, **options: seen.append((args, options)))
    asked, mirrored = [], replace(load_images("digits"), flip=True)
    monkeypatch.setattr(
        "fmtutor.images.datasets.load_images",
        lambda name, **given: asked.append((name, given)) or mirrored,
    )
    command = "train --preset cifar10-gpu --data folder --data-dir d --size 64 --flip --device cpu"
    assert main([*command.split(), "--no-compile", "--seed", "3"]) == 0
    ((config, data, out), options) = seen[0]
    assert str(out) == "runs/cifar10-gpu"
    assert (config.architecture["width"], config.seed, config.compile) == (144, 3, False)
    (name, given), *_ = asked
    assert data is mirrored
    assert (name, str(given["data_dir"]), given["size"], given["flip"]) == ("folder", "d", 64, True)
    assert (options["device"].type, options["resume"]) == ("cpu", False)


def test_a_run_is_resumed_with_its_own_settings(tmp_path, monkeypatch, capsys):
    usual = trainer.take_step

    def interrupted(run, *rest):
        taken = usual(run, *rest)
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "take_step", interrupted)
        status = main([*QUICK.split(), str(tmp_path), "--steps", "6"])
    assert status == 128 + signal.SIGTERM
    assert f"are saved: go on with --resume --out {tmp_path}" in capsys.readouterr().err
    assert main(["train", "--resume", "--out", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 6
    assert main(["train", "--resume", "--out", str(tmp_path), "--width", "8"]) == 1
    assert "has width = 4, but 8 came" in capsys.readouterr().err


def test_a_command_can_be_started_again_and_again(tmp_path, capsys):
    command = [*QUICK.split(), str(tmp_path), "--steps", "3"]
    assert main([*command, "--resume", "auto"]) == 0
    before = load_model(tmp_path / "model.safetensors")[0].state_dict()
    for again in (command, ["train", "--out", str(tmp_path)]):
        assert main([*again, "--resume", "auto"]) == 0
        now = load_model(tmp_path / "model.safetensors")[0].state_dict()
        assert all(torch.equal(value, before[name]) for name, value in now.items())
    assert main(command) == 1
    assert "there is a run in" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--resume", "always"])


def test_pictures_are_drawn(run, capsys):
    command = ["sample", "run", "--classes", "3", "7", "--rows", "2", "--steps", "1"]
    assert main([*command, "--out", "a.png"]) == 0
    assert capsys.readouterr().out == "a.png\n"
    with Image.open("a.png") as image:
        assert image.size == (2 * 17, 2 * 17)
    assert main(["sample", "run/model.safetensors", "--rows", "1", "--steps", "1"]) == 0
    with Image.open("samples.png") as image:
        assert image.size == (2 * 89, 2 * 8)


def test_pictures_are_guided_by_another_network(run):
    small = [*QUICK.split(), "weak", "--steps", "3"]
    assert main(small) == 0
    given = "--guidance 2 --guidance-interval 0 0.5 --guidance-rescale 1 --shift 2 --guide weak"
    assert main(["sample", "run", "--rows", "1", "--steps", "2", *given.split()]) == 0
    assert main(["sample", "run", "--guide", "nowhere"]) == 1


def test_a_transformer_is_trained_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = "--patch 4 --width 8 --depth 1 --heads 2 --mlp-ratio 2 --dropout 0.1"
    steps = "--steps 3 --warmup 1 --batch-size 8 --sample-every 3 --save-every 2"
    trained = "--times logit-normal --times-mean 0.5 --shift 2 --augment 1 --dequantise --flip"
    assert main(f"train --network transformer {settings} {steps} {trained} --out run".split()) == 0
    model, about = load_model("run/model.safetensors")
    assert isinstance(model, Transformer)
    assert model.config == TransformerConfig(8, 1, 10, 4, 8, 1, 2, 2, 0.1)
    said = {"times": "logit-normal", "times_mean": 0.5, "shift": 2.0, "augment": 1, "flip": True}
    assert said.items() <= about["train"].items()
    assert main(["sample", "run", "--rows", "1", "--steps", "1"]) == 0
    assert main(["train", "--resume", "--reschedule", "--steps", "4", "--out", "run"]) == 0


def test_a_run_that_is_over_needs_its_network_alone(run):
    shutil.rmtree(run / "checkpoints")
    assert main(["sample", "run", "--rows", "1", "--steps", "1"]) == 0


def test_a_run_goes_on_with_more_steps_and_another_rate(run, capsys):
    assert main(["train", "--resume", "--out", "run", "--steps", "6", "--lr", "0.5"]) == 1
    assert "has steps = 4, but 6 came; --reschedule allows it" in capsys.readouterr().err
    assert (
        main(["train", "--resume", "--reschedule", "--out", "run", "--steps", "6", "--lr", "0.5"])
        == 0
    )
    _, about = load_model(run / "model.safetensors")
    assert (about["step"], about["train"]["lr"]) == (6, 0.5)


def test_a_run_starts_from_the_weights_of_another(run):
    assert main([*QUICK.split(), "next", "--weights", "run", "--lr", "1e-30"]) == 0
    before, after = (load_model(f"{name}/model.safetensors")[0] for name in ("run", "next"))
    for weight, other in zip(before.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(weight, other)


EVALUATE = """
    evaluate run --samples 6 --curve-samples 4 --neighbours 1 --method euler --nfe 1
    --curve-methods --likelihood-images 1 --likelihood-steps 1
"""


def photos(folder, *classes):
    """Twelve noisy pictures of each class."""
    g = torch.Generator().manual_seed(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for k in range(12):
            pixels = torch.randint(0, 256, (9, 8, 3), generator=g, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{k}.png")


@pytest.mark.parametrize("name", ["photos", "cifar10", "fashion-mnist"])
def test_a_run_on_a_folder_is_measured_on_it(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / name, "cat", "dog")
    photos(tmp_path / "other", "ant", "cat")
    data = f"--data folder --data-dir {name} --size 8"
    assert main([*QUICK.split(), "run", *data.split()]) == 0
    assert main([*EVALUATE.split(), "--data-dir", name]) == 0
    result = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert result["about"]["data"] == name
    assert result["about"]["features"] == {"kind": "pixels"}
    assert main([*EVALUATE.split(), "--data-dir", "other"]) == 1
    assert "trained on the classes cat, dog, but ant, cat came" in capsys.readouterr().err
    resume = ["train", "--resume", "--reschedule", "--steps", "5", "--out", "run"]
    assert main([*resume, "--data-dir", "other"]) == 1
    assert "has classes ['cat', 'dog'], but ['ant', 'cat'] came" in capsys.readouterr().err
    assert main([*resume, "--data-dir", name]) == 0


def test_a_run_on_a_packed_folder_is_that_on_the_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos", "cat", "dog")
    pack = "pack --data folder --data-dir photos --size 8 --flip --out set"
    assert main(pack.split()) == 0
    said = capsys.readouterr().out
    assert said.startswith("set: photos, 20 train and 4 test, uint8 3 × 8 × 8, sha256 ")
    assert main(["pack", "--verify", "set"]) == 0
    assert capsys.readouterr().out == said
    folder = "--data folder --data-dir photos --size 8 --flip"
    assert main([*QUICK.split(), "folder", *folder.split()]) == 0
    assert main([*QUICK.split(), "packed", *["--data", "packed", "--data-dir", "set"]]) == 0
    one, other = (load_model(f"{run}/model.safetensors")[0] for run in ("folder", "packed"))
    for weight, same in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, same)
    results = []
    for run, data in (("folder", "photos"), ("packed", "set")):
        evaluate = EVALUATE.replace("run", run).split()
        assert main([*evaluate, "--data-dir", data, "--pictures", f"{run}.png"]) == 0
        results.append(json.loads((tmp_path / "evaluation.json").read_text()))
    for name in ("floor", "neighbours", "bits_per_dimension"):
        assert results[0][name] == results[1][name]
    assert (tmp_path / "folder.png").read_bytes() == (tmp_path / "packed.png").read_bytes()
    with (tmp_path / "set" / "train.bin").open("r+b") as file:
        file.write(bytes(4))
    assert main(["pack", "--verify", "set"]) == 1
    assert "train.bin is damaged" in capsys.readouterr().err


def test_an_interrupted_packing_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(chunks, "_note", interrupted)
        assert main(["pack", "--out", "set"]) == 128 + signal.SIGINT
    assert capsys.readouterr().err == "stopped: the same command goes on in set\n"
    assert main(["train", "--data", "packed", "--data-dir", "set"]) == 1
    assert "the packed set in set is unfinished" in capsys.readouterr().err
    assert main(["pack", "--out", "set"]) == 0
    assert main(["pack", "--out", "set"]) == 1
    assert "there is a packed set in set: choose another" in capsys.readouterr().err


def test_each_process_maps_the_packed_set_of_the_first_one(tmp_path, monkeypatch):
    for name in ("one", "other"):
        photos(tmp_path / f"{name} photos", name, "dog")
        pack_images(tmp_path / name, "folder", data_dir=tmp_path / f"{name} photos", size=8)
    first, config = read_manifest(tmp_path / "one"), TrainConfig(data="packed")
    ranks = processes.Ranks(1, 2, torch.device("cpu"))
    monkeypatch.setattr(processes, "from_first", lambda make, ranks: first)
    data = shared_data(config, tmp_path / "one", ranks)
    assert (data.classes, data.sha256) == (("dog", "one"), first.sha256)
    assert hasattr(data.train, "mapping")
    with pytest.raises(ValueError, match=f"process 1 finds another .* expected was {first.sha256}"):
        shared_data(config, tmp_path / "other", ranks)


def test_a_run_in_packed_latents_draws_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    autoencoder = Autoencoder(AutoencoderConfig(width=8, mults=(1,)))
    save_model("encoder.safetensors", autoencoder, metadata={})
    assert main(["pack", "--autoencoder", "encoder.safetensors", "--out", "set"]) == 0
    assert read_manifest(tmp_path / "set").shape == (4, 4, 4)
    assert "float16 4 × 4 × 4" in capsys.readouterr().out
    data = ["--data", "packed", "--data-dir", "set"]
    assert main([*QUICK.split(), "run", *data]) == 0
    about = load_model("run/model.safetensors")[1]
    assert about["autoencoder"] == identity("encoder.safetensors")
    assert main(["sample", "run", "--steps", "1", "--rows", "1"]) == 0
    for name, rows in (("samples.png", 1), ("run/samples/step-0000004.png", 8)):
        with Image.open(name) as picture:
            width, height = picture.size
        assert width * (9 * rows - 1) == height * (9 * 10 - 1)  # pictures of 8 × 8
    assert main([*EVALUATE.split(), "--data-dir", "set"]) == 1
    assert "set holds latents: what is measured are pictures" in capsys.readouterr().err
    assert main(["pack", "--out", "pictures"]) == 0
    assert main([*EVALUATE.split(), "--data-dir", "pictures"]) == 0
    assert json.loads((tmp_path / "evaluation.json").read_text())["bits_per_dimension"] is None
    # The autoencoder may move, with the run or before it; another one is none.
    (tmp_path / "encoder.safetensors").rename("moved.safetensors")
    assert main([*QUICK.split(), "other", *data]) == 1
    assert "there is no autoencoder encoder.safetensors" in capsys.readouterr().err
    for command in ([*QUICK.split(), "other"], ["train", "--resume", "--out", "run"]):
        assert main([*command, *data, "--autoencoder", "moved.safetensors"]) == 0
    save_model("encoder.safetensors", Autoencoder(autoencoder.config), metadata={})
    assert main([*QUICK.split(), "third", *data, "--autoencoder", "encoder.safetensors"]) == 1
    assert "knows the latents of another autoencoder" in capsys.readouterr().err


def test_a_guide_is_read_with_the_network_and_knows_the_same(run, monkeypatch, capsys):
    assert main([*QUICK.split(), "weak"]) == 0
    guided = [*EVALUATE.split(), "--guide", "weak", "--guidance", "2"]
    expected = hashlib.sha256(find_model(run.parent / "weak").read_bytes())

    def gone(*args, **options):
        shutil.rmtree(run.parent / "weak")  # while the pictures are drawn
        return {"samples": {}, "floor": {}, "about": {}}

    with monkeypatch.context() as patch:
        patch.setattr("fmtutor.images.evaluate.evaluate", gone)
        assert main(guided) == 0
    about = json.loads((run.parent / "evaluation.json").read_text())["about"]
    assert about["guide"] == {"sha256": expected.hexdigest()}
    model, told = load_model(run / "model.safetensors")
    told = {**told, "autoencoder": {"file": "a", "sha256": "b"}}
    save_model(run.parent / "weak.safetensors", model, metadata=told)
    for command in (guided, ["sample", "run", "--guide", "weak.safetensors"]):
        assert main([x if x != "weak" else "weak.safetensors" for x in command]) == 1
        said = "weak.safetensors knows the latents of another autoencoder than the network"
        assert said in capsys.readouterr().err


def test_pictures_of_another_packed_set_are_not_what_was_trained_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "other"):
        photos(tmp_path / f"{name} photos", "cat", "dog")
        pack = ["pack", "--data", "folder", "--data-dir", f"{name} photos", "--size", "8"]
        assert main([*pack, "--out", name, *(["--flip"] if name == "other" else [])]) == 0
    assert main([*QUICK.split(), "run", "--data", "packed", "--data-dir", "one"]) == 0
    assert main([*EVALUATE.split(), "--data-dir", "other"]) == 1
    assert "the network was trained on the packed set with SHA-256" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["sample run --steps 1 --rows 1", EVALUATE, f"{QUICK} other"],
    ids=lambda c: c.split()[0],
)
def test_each_command_takes_the_gpu_where_there_is_one(run, monkeypatch, command):
    asked = []
    usual = processes.choose_device

    def chosen(name=None):
        asked.append(name)
        return usual("cpu")

    monkeypatch.setattr(processes, "choose_device", chosen)
    assert main(command.split()) == 0
    assert asked[0] in (None, "auto")
    asked.clear()
    assert main([*command.replace("other", "third").split(), "--device", "cpu"]) == 0
    assert asked[0] == "cpu"


class Shift(torch.nn.Module):
    """The least network that can be trained: a constant velocity for each class."""

    def __init__(self, config):
        super().__init__()
        self.config, self.classes = config, config.classes
        self.shift = torch.nn.Parameter(torch.full((config.classes + 1,), config.start))

    def forward(self, x, t, label=None):
        label = self.classes if label is None else label
        return self.shift[label].reshape(-1, 1, 1, 1).expand_as(x)


@dataclass(frozen=True)
class ShiftConfig:
    """A description.

    Attributes:
        size: Side.
        channels: Channels.
        classes: Classes.
        start: First velocity.
        width: Taken by another network, too.
    """

    size: int
    channels: int
    classes: int
    start: float = 0.5
    width: int = 1


def test_a_network_of_the_registry_is_trained_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(NETWORKS, "shift", (ShiftConfig, Shift))
    steps = "--steps 3 --warmup 1 --batch-size 8 --sample-every 3 --save-every 2"
    assert main(f"train --network shift --start 2 --width 5 {steps} --out run".split()) == 0
    model, about = load_model("run/model.safetensors")
    assert isinstance(model, Shift)
    assert model.config == ShiftConfig(8, 1, 10, 2.0, 5)
    assert about["train"]["network"] == "shift"
    assert about["train"]["architecture"] == {"start": 2.0, "width": 5}
    assert main(["sample", "run", "--rows", "1", "--steps", "1"]) == 0
    assert main(["train", "--resume", "--reschedule", "--steps", "4", "--out", "run"]) == 0
    with pytest.raises(SystemExit):
        main(["train", "--network", "shift", "--mults", "1"])
    assert "shift has no setting 'mults', but start, width" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("sample run --jumps 1", "only a network that was trained to jump can jump"),
        ("sample nowhere", "there is no checkpoint nowhere"),
        ("sample .", "there is no checkpoint in ."),
        ("sample run --classes shoe", "there is no class 'shoe', but 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("sample run --rows 0", "there must be at least 1 picture to draw, but 0 came"),
        ("sample run --steps 1 --out no/where.png", "No such file or directory: no/"),
        ("train --out run", "there is a run in run: resume it, or choose another directory"),
        ("train --out other --resume", "there is no checkpoint other"),
        ("train --data-dir nowhere", "there is no directory nowhere"),
        ("train --data-dir .", "the digits come with scikit-learn: . would not be looked at"),
        ("train --device gpu", "device must be auto, cpu, cuda, cuda:1, ..., but 'gpu' came"),
        ("sample run --device gpu", "device must be auto, cpu, cuda, cuda:1, ..., but 'gpu' came"),
        ("train --data folder", "pictures of a folder: give its data_dir"),
        ("train --data mnist", "'mnist' is none of the data sets"),
        ("train --data packed", "a packed set: give its data_dir"),
        ("train --data packed --data-dir run", "no packed set in run: it has no manifest.json"),
        ("pack --verify run", "no packed set in run: it has no manifest.json"),
        ("pack --out run", "run is not empty, and no packing was interrupted in it"),
        ("train --batch-size 5000", "batch_size is 5000, but there are 1497 pictures"),
    ],
)
def test_an_error_is_one_line(run, capsys, command, message):
    assert main(command.split()) == 1
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert output.startswith("fmtutor: ")
    assert message in output


@pytest.mark.parametrize(
    "command",
    ["", "paint", "train --preset mnist", "train --lr fast", "train --lr -1", "train --mults 1,x",
     "train --steps 1000 --warmup 1000", "train --preset digits-cpu --coupling ot",
     "sample --jumps 1 --steps 2", "sample --jumps 1 --method euler",
     "train --network transformer --objective lagrangian",
     "evaluate --method jump --nfe 1 --guidance 2",
     "pack", "pack --out a --verify b", "pack --out a --channels 2"],
)  # fmt: skip
def test_wrong_usage_ends_with_2(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 2
    assert "usage: fmtutor" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", "pack", "train", "sample"])
def test_help_says_everything(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    if command == "pack":
        for said in ("16 bits", "transparent", "grey", "oblong", "32-bit or floating-point"):
            assert said in text
    if command == "train":
        settings = attribute_help(UNetConfig) | attribute_help(TrainConfig)
        for name, said in settings.items():
            if name in ("classes", "architecture"):  # the data's, and all that the network has
                continue
            assert f"--{name.replace('_', '-')}" in text
            assert said in text.replace("- ", "-") or said in text
        for name in PRESETS:  # lines break at hyphens
            assert name in text.replace("- ", "-")


def test_each_setting_has_its_help():
    texts = attribute_help(TrainConfig)
    assert list(texts) == [field.name for field in fields(TrainConfig)]
    assert texts["ema"] == (
        "Decay of the running average of the weights; it starts lower, (1 + k)/(10 + k)."
    )


def test_interrupted_before_the_run_has_begun(monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("fmtutor.images.datasets.load_images", interrupted)
    assert main(["train"]) == 128 + signal.SIGINT


def test_a_missing_extra_says_how_to_get_it(tmp_path):
    code = """
import sys
for name in ("PIL", "pooch", "safetensors", "sklearn"):
    sys.modules[name] = None
import fmtutor.images.cli as cli
sys.exit(cli.main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, "train", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("is missing: pip install 'fmtutor[images]'\n")


def test_the_module_is_the_command(tmp_path):
    command = [sys.executable, "-m", "fmtutor.images", "sample", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"fmtutor: there is no checkpoint {tmp_path / 'none'}\n"

"""The classifier: what its features are, how it is stored, how its tool trains it."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fmtutor.images.classifier import (
    WEIGHTS,
    Classifier,
    accuracy,
    load_classifier,
    save_classifier,
)
from fmtutor.images.datasets import ImageData, to_float

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))

import train_classifier  # noqa: E402


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier(channels=1, width=4, classes=3).eval()


def pictures(count, channels=1, size=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def halves(count, seed=0):
    """Noise with one bright half: the upper one is class 0, the lower one 1, the left one 2."""
    images, labels = pictures(count, seed=seed) // 3, torch.arange(count) % 3
    images[labels == 0, :, :6] += 120
    images[labels == 1, :, 6:] += 120
    images[labels == 2, :, :, :6] += 120
    return images, labels


def data_set(train=300, test=60):
    x, y = halves(train)
    x_test, y_test = halves(test, seed=1)
    return ImageData("fashion-mnist", x, y, x_test, y_test, ("upper", "lower", "left"), False)


# The network.


def test_the_head_of_the_features_is_the_result(model):
    x = to_float(pictures(5))
    features = model.features(x)
    assert features.shape == (5, 16)
    assert torch.equal(model(x), model.head(features))
    assert model(x).shape == (5, 3)


def test_features_are_means_over_the_plane(model):
    x = to_float(pictures(2))
    plane = model.body(x)
    assert plane.shape == (2, 16, 3, 3)
    assert torch.allclose(model.features(x), plane.mean((2, 3)))


@pytest.mark.parametrize("sizes", [(0, 16, 10), (1, 0, 10), (1, 16, 0)])
def test_refuses_sizes_below_one(sizes):
    with pytest.raises(ValueError, match=f"at least 1, but {sizes[0]}, {sizes[1]} and {sizes[2]}"):
        Classifier(*sizes)


@pytest.mark.parametrize("shape", [(2, 3, 12, 12), (1, 12, 12)])
def test_refuses_other_pictures(model, shape):
    with pytest.raises(ValueError, match=r"images must be \[b 1 h w\]"):
        model(torch.zeros(shape))


# Its accuracy.


@torch.no_grad()
def test_accuracy_counts_the_hits_in_every_batch(model):
    images = pictures(50)
    labels = model(to_float(images)).argmax(1)
    assert accuracy(model, images, labels) == 1
    labels[[3, 17, 49]] = (labels[[3, 17, 49]] + 1) % 3
    assert accuracy(model, images, labels, batch_size=7) == pytest.approx(47 / 50)


def test_accuracy_refuses_labels_that_do_not_fit(model):
    with pytest.raises(ValueError, match=r"\[4\], one for each point, but \[3\]"):
        accuracy(model, pictures(4), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"0, \.\.\., 2, but 3 came"):
        accuracy(model, pictures(2), torch.tensor([0, 3]))


# The file.


def test_a_stored_classifier_is_the_same(model, tmp_path):
    model.train()
    model(to_float(pictures(20)))  # moves the running means of the normalisation
    model.eval()
    save_classifier(model, tmp_path / "c.safetensors", {"test_accuracy": 0.5, "seed": 3})
    loaded, about = load_classifier(tmp_path / "c.safetensors")
    x = to_float(pictures(6, seed=1))
    assert torch.equal(loaded(x), model(x))
    assert loaded.config == {"channels": 1, "width": 4, "classes": 3}
    assert about == {"test_accuracy": 0.5, "seed": 3}


def test_a_loaded_classifier_only_looks(model, tmp_path):
    save_classifier(model.train(), tmp_path / "c.safetensors", {})
    loaded, _ = load_classifier(tmp_path / "c.safetensors")
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_classifier(tmp_path / "none.safetensors")


def spoil(path, how):
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "rubbish":
        path.write_bytes(b"not a file of weights" * 10)
    elif how == "other weights":
        save_file({"w": torch.zeros(2)}, path)
    elif how == "another network":
        config = json.dumps({"channels": 1, "width": 5, "classes": 3})
        save_file({"w": torch.zeros(2)}, path, metadata={"config": config, "about": "{}"})


@pytest.mark.parametrize("how", ["truncated", "rubbish", "other weights", "another network"])
def test_a_damaged_file_is_refused_by_name(model, tmp_path, how):
    path = tmp_path / "c.safetensors"
    save_classifier(model, path, {})
    spoil(path, how)
    with pytest.raises(ValueError, match=r"c\.safetensors holds no classifier"):
        load_classifier(path)


# The shipped weights, and the tool that made them.


def test_the_shipped_classifier_says_how_good_it_is():
    model, about = load_classifier()
    assert model.config == {"channels": 1, "width": 16, "classes": 10}
    assert about["data"] == "fashion-mnist"
    assert about["test_images"] == 10_000
    assert 0.92 < about["test_accuracy"] < about["train_accuracy"] < 1
    assert about["command"].startswith("python tools/train_classifier.py")
    assert about["versions"].keys() == {"python", "torch"}
    assert WEIGHTS.stat().st_size < 1_000_000


def test_the_tool_trains_and_stores_what_it_measured(monkeypatch, tmp_path, capsys):
    data, path = data_set(), tmp_path / "new" / "c.safetensors"
    asked = []
    monkeypatch.setattr(
        train_classifier, "load_images", lambda name, data_dir: asked.append(name) or data
    )
    arguments = ["--epochs", "4", "--batch-size", "50", "--lr", "0.05", "--out", str(path)]
    monkeypatch.setattr(sys, "argv", ["train_classifier.py", *arguments])
    with torch.random.fork_rng():
        train_classifier.main()
    model, about = load_classifier(path)
    assert asked == ["fashion-mnist"]
    assert about["test_accuracy"] == accuracy(model, data.test, data.test_labels)
    assert about["train_accuracy"] == accuracy(model, data.train, data.train_labels)
    assert about["test_accuracy"] > 0.9  # a third would be chance
    assert (about["epochs"], about["batch_size"], about["lr"], about["seed"]) == (4, 50, 0.05, 0)
    assert about["command"] == f"python tools/train_classifier.py {' '.join(arguments)}"
    assert f"test accuracy {about['test_accuracy']:.4f}" in capsys.readouterr().out


def test_the_tool_gives_the_same_weights_again():
    def train(seed):
        with torch.random.fork_rng():
            model = train_classifier.train(
                data_set(60), epochs=1, batch_size=20, lr=0.05, seed=seed
            )
        return torch.cat([value.flatten().double() for value in model.state_dict().values()])

    assert torch.equal(train(0), train(0))
    assert not torch.equal(train(0), train(1))


def test_the_tool_mirrors_half_of_the_pictures(monkeypatch):
    seen = []

    def record(self, x):
        seen.extend(tuple(picture.flatten().tolist()) for picture in x)
        return self.head(self.features(x))

    monkeypatch.setattr(Classifier, "forward", record)
    data = data_set(200)
    with torch.random.fork_rng():
        train_classifier.train(data, epochs=1, batch_size=50, lr=0.01, seed=0)
    plain = {tuple(picture.flatten().tolist()) for picture in to_float(data.train)}
    mirrored = {tuple(picture.flatten().tolist()) for picture in to_float(data.train).flip(-1)}
    assert len(set(seen)) == 200
    assert set(seen) <= plain | mirrored
    assert 75 < sum(picture in mirrored for picture in seen) < 125


def test_the_shipped_weights_mean_what_they_meant():
    k = torch.arange(2 * 784, dtype=torch.float64)
    x = torch.sin(0.37 * k + 0.0011 * k.square() % 7).float().reshape(2, 1, 28, 28)
    recorded = [
        [2.6866, -0.8624, 3.3556, -0.8563, -1.8016, -3.4386, 1.0709, -0.9224, 2.1002, -1.6631],
        [2.9747, -2.6169, 1.2388, -0.2590, -1.3118, -5.0085, 6.7546, -3.4006, 3.4508, -1.8886],
    ]
    with torch.no_grad():
        logits = load_classifier()[0](x)
    torch.testing.assert_close(logits, torch.tensor(recorded), atol=2e-3, rtol=0)

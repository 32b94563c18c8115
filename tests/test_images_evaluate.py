"""The evaluation, on networks whose pictures are known: exact fields instead of trained ones."""

import dataclasses
import hashlib
import json
import math
import sys

import pytest
import torch
from PIL import Image
from torch import nn

from fmtutor import CondOT, EmpiricalField, GaussianMixture, conditioned, guided
from fmtutor.images import evaluate as evaluation
from fmtutor.images.checkpoint import save_model
from fmtutor.images.classifier import Classifier, accuracy, load_classifier
from fmtutor.images.cli import main
from fmtutor.images.config import EvaluationConfig, TrainConfig, steps_for
from fmtutor.images.datasets import ImageData, to_float, to_uint8
from fmtutor.images.evaluate import Judge, balanced, choose_features, evaluate
from fmtutor.images.measures import (
    bits_per_dimension,
    embed,
    nearest_neighbours,
    precision_recall,
)  # fmt: skip
from fmtutor.images.neighbours import beside_neighbours
from fmtutor.images.pictures import flow, guided_field
from fmtutor.images.published import GARMENTS
from fmtutor.metrics import frechet_distance
from fmtutor.networks import UNet, UNetConfig

SHAPE, STD = (1, 4, 4), 0.25
SMALL = EvaluationConfig(
    samples=300,
    method="heun",
    nfe=20,
    curve_samples=200,
    curve_methods=("euler", "heun", "rk4"),
    curve_nfe=(2, 4),
    curve_guidance=(1.0, 2.0),
    likelihood_images=30,
    likelihood_steps=20,
    batch_size=128,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count, seed, mean=0.0):
    return to_uint8(mean + STD * torch.randn(count, *SHAPE, generator=generator(seed)))


def data_set(train=2000, test=500, classes=2, flip=False):
    """Normal pixels; the mean of class 0 is −0.2, that of class 1 is 0.2."""
    y, y_test = torch.arange(train) % classes, torch.arange(test) % classes
    mean = torch.linspace(-0.2, 0.2, classes) if classes > 1 else torch.zeros(1)
    x = pictures(train, 1, mean[y][:, None, None, None])
    x_test = pictures(test, 2, mean[y_test][:, None, None, None])
    names = tuple(f"class {k}" for k in range(classes))
    return ImageData("normal", x, y, x_test, y_test, names, flip)


class Network(nn.Module):
    """Any field in the place of a U-Net: it has a parameter, and says how many classes it knows."""

    def __init__(self, field, classes=0):
        super().__init__()
        self.field, self.classes = field, classes
        self.config = UNetConfig(size=SHAPE[-1], mults=(1,), attention=())
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x, t, label=None):
        return self.field(x, t) if self.classes == 0 else self.field(x, t, label)


def normal_field(mean):
    mixture = GaussianMixture(torch.full((1, 16), mean), torch.tensor([STD]))
    flat = mixture.velocity(CondOT())
    return lambda x, t: flat(x.flatten(1), t).reshape(x.shape)


def exact_network():
    """The exact conditional fields of `data_set()`; without a label the first one's."""
    fields = [normal_field(-0.2), normal_field(0.2)]

    def field(x, t, label):
        if label is None:
            return fields[0](x, t)
        both = torch.stack([f(x, t) for f in fields])
        return both[label, torch.arange(len(x))]

    return Network(field, classes=2)


def pixels(images):
    return to_float(images).flatten(1)


class Brightness(Classifier):
    """Takes bright pictures for class 1."""

    def __init__(self):
        nn.Module.__init__(self)
        self.config, self.weight = {"classes": 2}, nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return torch.stack([-x.mean((1, 2, 3)), x.mean((1, 2, 3))], dim=1)


# Budgets.


@pytest.mark.parametrize(
    ("method", "nfe", "steps"),
    [("euler", 7, 7), ("midpoint", 8, 4), ("heun", 2, 1), ("rk4", 12, 3)],
)
def test_steps_for_a_budget(method, nfe, steps):
    assert steps_for(method, nfe) == steps


@pytest.mark.parametrize(
    ("method", "nfe", "match"),
    [
        ("heun", 7, "heun takes 2 evaluations a step.*7 came"),
        ("euler", 0, "0 came"),
        ("dopri5", 8, "one of euler, midpoint, heun, rk4, jump, but 'dopri5'"),
    ],
)
def test_budgets_that_no_number_of_steps_has(method, nfe, match):
    with pytest.raises(ValueError, match=match):
        steps_for(method, nfe)
    with pytest.raises(ValueError, match=match):
        EvaluationConfig(method=method, nfe=nfe)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"curve_methods": ("euler", "dopri5")},
            "one of euler, midpoint, heun, rk4, jump, but 'dopri5'",
        ),
        ({"curve_nfe": (4, 0)}, r"curve_nfe must be at least 1, but \(4, 0\) came"),
        ({"likelihood_images": -1}, "likelihood_images must be at least 0, but -1 came"),
        ({"likelihood_steps": 0}, "likelihood_steps must be at least 1, but 0 came"),
        ({"neighbours": 0}, "neighbours must be at least 1, but 0 came"),
        ({"batch_size": 0}, "batch_size must be at least 1, but 0 came"),
        ({"guidance": math.nan}, "guidance scale must be finite, but nan came"),
        ({"curve_guidance": (1.0, math.inf)}, "guidance scale must be finite, but inf came"),
        ({"samples": 3}, "above neighbours = 3, but 3 and 1000 came"),
        ({"guidance_interval": (0.5,)}, r"guidance_interval must be 2 times, but \(0\.5,\) came"),
        ({"guidance_interval": (0.5, 0.4)}, "first ≤ last ≤ 1 must hold"),
        ({"guidance_rescale": 1.1}, r"guidance_rescale must lie in \[0, 1\], but 1\.1 came"),
        ({"shift": 0.0}, "shift must be positive, but 0"),
    ],
)
def test_settings_that_would_fail_late_are_refused_first(change, match):
    with pytest.raises(ValueError, match=match):
        EvaluationConfig(**change)


def test_settings_at_the_edge_are_taken():
    EvaluationConfig(
        curve_methods=(), curve_nfe=(1,), curve_guidance=(), likelihood_images=0,
        likelihood_steps=1, neighbours=1, batch_size=1, samples=2, curve_samples=2,
    )  # fmt: skip


def test_as_many_samples_as_neighbours_are_too_few():
    with pytest.raises(ValueError, match="above neighbours = 3, but 2000 and 3 came"):
        EvaluationConfig(curve_samples=3)


# The choice of real pictures.


def test_balanced_takes_each_label_as_often_and_no_row_twice():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 40)
    rows = balanced(labels, 60)
    assert len(rows.unique()) == 60
    assert labels[rows].bincount().tolist() == [20, 20, 20]


def test_balanced_gives_what_there_is_of_a_rare_label():
    labels = torch.tensor([0] * 50 + [1] * 3)
    assert labels[balanced(labels, 20)].bincount().tolist() == [17, 3]
    assert balanced(labels, 53).sort().values.tolist() == list(range(53))


def test_balanced_chooses_by_its_seed(global_rng_untouched):
    labels = torch.arange(100) % 4
    assert torch.equal(balanced(labels, 10), balanced(labels, 10, seed=0))
    assert not torch.equal(balanced(labels, 10).sort()[0], balanced(labels, 10, seed=1).sort()[0])


@pytest.mark.parametrize("count", [0, 101])
def test_balanced_refuses_counts_that_there_are_not(count):
    with pytest.raises(ValueError, match=rf"\[1, 100\], but {count} came"):
        balanced(torch.arange(100) % 4, count)


# The judge.


def judge(data, classifier=None):
    return Judge(data, pixels, pixels(data.train), classifier, k=3, seed=0)


def test_scores_are_those_of_the_measures():
    data = data_set()
    images, labels = pictures(80, 5), torch.arange(80) % 2
    scores = judge(data, Brightness()).score(images, labels)
    rows = balanced(data.train_labels, 80, seed=0)
    expected = precision_recall(pixels(data.train[rows]), pixels(images), k=3)
    assert (scores["precision"], scores["recall"]) == expected
    assert scores["frechet"] == frechet_distance(pixels(images), pixels(data.train)).item()
    assert scores["class_accuracy"] == accuracy(Brightness(), images, labels)
    assert scores["count"] == 80


def test_without_a_classifier_or_labels_there_is_no_accuracy():
    images, labels = pictures(80, 5), torch.arange(80) % 2
    assert "class_accuracy" not in judge(data_set()).score(images, labels)
    assert "class_accuracy" not in judge(data_set(), Brightness()).score(images, None)


def test_more_pictures_than_training_has_are_compared_with_all_of_it():
    data = data_set(train=50)
    precision = judge(data).score(pictures(80, 5), None)["precision"]
    assert precision == precision_recall(pixels(data.train), pixels(pictures(80, 5)))[0]


def test_the_floor_is_the_score_of_test_pictures():
    data = data_set()
    rows = balanced(data.test_labels, 100, seed=0)
    scores = judge(data, Brightness()).floor(100)
    assert scores == judge(data, Brightness()).score(data.test[rows], data.test_labels[rows])
    assert judge(data).floor(10_000)["count"] == 500
    # Fewer pictures have a higher floor: that is why it must be of as many.
    assert judge(data).floor(50)["frechet"] > 1.5 * judge(data).floor(500)["frechet"]


# All of it.


@pytest.fixture(scope="module")
def exact():
    return evaluate(exact_network(), data_set(), pixels, Brightness(), SMALL, progress=False)


def test_the_exact_field_is_as_good_as_test_pictures(exact):
    samples, floor = exact["samples"], exact["floor"]
    assert samples["count"] == floor["count"] == 300
    assert samples["frechet"] == pytest.approx(floor["frechet"], rel=0.25)
    assert samples["precision"] == pytest.approx(floor["precision"], abs=0.08)
    assert samples["recall"] == pytest.approx(floor["recall"], abs=0.08)
    assert samples["class_accuracy"] == pytest.approx(floor["class_accuracy"], abs=0.02)
    assert floor["class_accuracy"] > 0.99


def test_bits_are_the_entropy_of_the_pixels(exact):
    bits = exact["bits_per_dimension"]
    entropy = 0.5 * math.log2(2 * math.pi * math.e * STD**2) - math.log2(2 / 255)
    assert bits["mean"] == pytest.approx(entropy, abs=4 * bits["standard_error"])
    assert bits["standard_error"] < 0.05
    assert bits["count"] == 30
    assert bits["given_the_label"]


def test_the_rows_of_the_curves(exact):
    rows = [(row["method"], row["nfe"], row["count"], row["guidance"]) for row in exact["nfe"]]
    # rk4 takes four evaluations a step, so that it has no row for two.
    assert rows == [
        (method, nfe, 200, 1.0)
        for method, nfe in [("euler", 2), ("euler", 4), ("heun", 2), ("heun", 4), ("rk4", 4)]
    ]
    assert exact["curve_floor"]["count"] == 200
    scales = [
        (row["guidance"], row["method"], row["nfe"], row["count"]) for row in exact["guidance"]
    ]
    assert scales == [(1.0, "heun", 20, 200), (2.0, "heun", 20, 200)]


def test_more_evaluations_and_no_more_guidance_are_better(exact):
    distance = {(row["method"], row["nfe"]): row["frechet"] for row in exact["nfe"]}
    assert distance["euler", 2] > 1.5 * distance["euler", 4] > 1.5 * exact["curve_floor"]["frechet"]
    assert distance["euler", 4] > distance["heun", 4]
    plain, more = (row["frechet"] for row in exact["guidance"])
    assert more > 2 * plain


def test_the_result_says_how_it_came_about(exact):
    about = exact["about"]
    assert about["config"]["samples"] == 300
    assert about["config"]["seed"] == 0
    assert about["feature_dimensions"] == 16
    assert about["parameters"] == 1
    assert about["device"].startswith("cpu")
    assert about["versions"]["torch"] == torch.__version__
    assert json.loads(json.dumps(exact)).keys() == exact.keys()


def without_times(result):
    def strip(value):
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k != "seconds"}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return strip(result)


def test_one_seed_gives_one_result(exact, global_rng_untouched):
    few = dataclasses.replace(SMALL, curve_methods=(), curve_guidance=())
    again = evaluate(exact_network(), data_set(), pixels, Brightness(), few, progress=False)
    for part in ("samples", "floor", "neighbours", "bits_per_dimension"):
        assert without_times(again[part]) == without_times(exact[part])
    other = evaluate(
        exact_network(),
        data_set(),
        pixels,
        Brightness(),
        dataclasses.replace(few, seed=1),
        progress=False,
    )
    assert other["samples"]["frechet"] != again["samples"]["frechet"]
    assert other["floor"]["frechet"] != again["floor"]["frechet"]


def test_all_rows_start_from_the_same_noise():
    one = dataclasses.replace(
        SMALL, samples=200, method="heun", nfe=4, curve_methods=("heun",), curve_guidance=(1.0,)
    )
    result = evaluate(exact_network(), data_set(), pixels, None, one, progress=False)
    row = result["nfe"][1]
    assert row["nfe"] == 4
    assert row["frechet"] == result["samples"]["frechet"] == result["guidance"][0]["frechet"]


MAIN_ONLY = dataclasses.replace(
    SMALL, method="euler", nfe=50, curve_methods=(), curve_guidance=(), likelihood_images=0
)


def test_copies_are_found(exact):
    # The exact field of the training set, instead of the one of the law, gives training pictures.
    data = data_set(train=400, classes=1)
    flat = EmpiricalField(CondOT(), pixels(data.train))
    copying = Network(lambda x, t: flat(x.flatten(1), t).reshape(x.shape))
    result = evaluate(copying, data, pixels, None, MAIN_ONLY, progress=False)
    copies, honest = result["neighbours"], exact["neighbours"]
    assert copies["closer_than_1_percent_of_test"] > 0.95
    assert honest["closer_than_1_percent_of_test"] < 0.05
    median = copies["levels"].index(0.5)
    assert copies["generated"][median] < 0.01 < 0.1 < copies["test"][median]
    assert honest["generated"][median] == pytest.approx(honest["test"][median], rel=0.05)
    # What looks at distributions only praises them.
    assert result["samples"]["precision"] > result["floor"]["precision"]


def test_mirrored_copies_are_found_where_training_mirrors():
    data = data_set(train=400, classes=1)
    flat = EmpiricalField(CondOT(), pixels(data.train.flip(-1)))
    copying = Network(lambda x, t: flat(x.flatten(1), t).reshape(x.shape))
    mirrored = dataclasses.replace(data, flip=True)
    shares = [
        evaluate(copying, d, pixels, None, MAIN_ONLY, progress=False)["neighbours"][
            "closer_than_1_percent_of_test"
        ]
        for d in (data, mirrored)
    ]
    assert shares[0] < 0.1
    assert shares[1] > 0.95


def test_the_quantiles_are_those_of_the_distances(exact):
    data = data_set()
    rows = balanced(data.test_labels, 300, seed=0)
    distance = nearest_neighbours(to_float(data.test[rows]), to_float(data.train))[0][:, 0]
    levels = torch.tensor(exact["neighbours"]["levels"])
    assert exact["neighbours"]["test"] == pytest.approx(distance.quantile(levels).tolist())


def test_a_network_without_classes_has_no_guidance_and_no_accuracy():
    data = data_set(classes=1)
    config = dataclasses.replace(MAIN_ONLY, curve_guidance=(1.0, 2.0), likelihood_images=4)
    result = evaluate(
        Network(normal_field(0.0)), data, pixels, Brightness(), config, progress=False
    )
    assert result["guidance"] == []
    assert "class_accuracy" not in result["samples"]
    assert not result["bits_per_dimension"]["given_the_label"]


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_guidance_of_a_network_without_classes_is_refused(guidance):
    config = dataclasses.replace(MAIN_ONLY, guidance=guidance)
    with pytest.raises(ValueError, match=rf"guidance {guidance} came, but .* without classes"):
        evaluate(Network(None), data_set(classes=1), pixels, None, config, progress=False)


def test_data_that_are_no_pixels_are_refused():
    data = data_set()
    scaled = dataclasses.replace(data, train=to_float(data.train))
    with pytest.raises(TypeError, match=r"train must be pixels 0, .*, but torch\.float32 came"):
        evaluate(Network(None), scaled, pixels, None, MAIN_ONLY, progress=False)


def test_one_picture_has_a_likelihood_without_an_error_bar():
    config = dataclasses.replace(MAIN_ONLY, likelihood_images=1)
    field = Network(normal_field(0.0))
    bits = evaluate(field, data_set(classes=1), pixels, None, config, progress=False)[
        "bits_per_dimension"
    ]
    assert math.isfinite(bits["mean"])
    assert (bits["standard_error"], bits["count"]) == (None, 1)


# On an accelerator nothing is looked at before the end: on "meta" there is nothing to look at.


@pytest.fixture(scope="module")
def weightless():
    with torch.device("meta"):
        return UNet(UNetConfig(size=4, classes=3, width=8, mults=(1,), attention=(4,), heads=2))


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("method", ["euler", "midpoint", "heun", "rk4"])
def test_pictures_are_drawn_without_a_look(weightless, scale, method):
    labels = torch.zeros(5, dtype=torch.int64, device="meta")
    v = guided(conditioned(weightless, labels), weightless, scale)
    drawn = flow(v, torch.empty(5, 1, 4, 4, device="meta"), method=method, steps=2)
    assert (drawn.shape, drawn.dtype, drawn.is_meta) == ((5, 1, 4, 4), torch.uint8, True)


def test_bits_and_features_are_computed_without_a_look(weightless):
    images = torch.empty(5, 1, 4, 4, dtype=torch.uint8, device="meta")
    v = conditioned(weightless, torch.zeros(5, dtype=torch.int64, device="meta"))
    bits = bits_per_dimension(v, images, steps=2, generator=generator())
    assert (bits.shape, bits.is_meta) == ((5,), True)
    features = embed(images, pixels, batch_size=2)
    assert (features.shape, features.is_meta) == ((5, 16), True)


def test_the_likelihood_can_be_left_out():
    result = evaluate(
        Network(normal_field(0.0)), data_set(classes=1), pixels, None, MAIN_ONLY, progress=False
    )
    assert result["bits_per_dimension"] is None


# Neighbours to look at.


def test_pictures_stand_before_their_neighbours():
    data = data_set(train=100)
    images = data.train[[7, 30]].clone()
    images[:, 0, 0, 0] += 1  # nearly a copy
    rows = beside_neighbours(images, data, k=2)
    assert rows.shape == (2, 3, *SHAPE)
    assert torch.equal(rows[:, 0], images)
    assert torch.equal(rows[:, 1], data.train[[7, 30]])
    second = nearest_neighbours(to_float(images), to_float(data.train), k=2)[1][:, 1]
    assert torch.equal(rows[:, 2], data.train[second])


@pytest.mark.parametrize("flip", [False, True])
def test_neighbours_are_found_block_by_block(monkeypatch, flip):
    data = dataclasses.replace(data_set(train=100), flip=flip)
    images = torch.cat([data.train[:2], data.train[90:92].flip(-1), data.test[:20]])
    whole = beside_neighbours(images, data, k=4)
    module = sys.modules["fmtutor.images.neighbours"]
    monkeypatch.setattr(module, "BLOCK", 33)  # the last block has fewer pictures than neighbours
    seen, usual = [], module.nearest_neighbours
    monkeypatch.setattr(
        module, "nearest_neighbours", lambda x, y, k: seen.append(len(y)) or usual(x, y, k=k)
    )
    assert torch.equal(beside_neighbours(images, data, k=4), whole)
    assert seen == [33, 33, 33, 1] * (1 + flip)


def test_mirrored_neighbours_are_shown_where_training_mirrors():
    data = dataclasses.replace(data_set(train=100), flip=True)
    images = data.train[[7]].flip(-1)
    assert torch.equal(beside_neighbours(images, data, k=1)[:, 1], images)


# The choice of features.


def fashion_like(name):
    images = torch.randint(0, 256, (6, 1, 28, 28), generator=generator(), dtype=torch.uint8)
    labels = torch.arange(6)
    names = GARMENTS if name == "fashion-mnist" else tuple("0123456789")
    return ImageData(name, images, labels, images, labels, names, False)


def test_the_classifier_is_for_its_data_set():
    data, (classifier, about) = fashion_like("fashion-mnist"), load_classifier()
    for kind in ("auto", "classifier"):
        features = choose_features(data, kind)
        expected = classifier.features(to_float(data.train))
        assert torch.equal(features.embedding(data.train), expected)
        assert features.about == {"kind": "classifier", **about}
        assert features.classifier is not None
    with pytest.raises(ValueError, match="knows fashion-mnist, but digits came"):
        choose_features(fashion_like("digits"), "classifier")


def test_a_folder_of_that_name_is_another_data_set():
    own = dataclasses.replace(fashion_like("fashion-mnist"), classes=tuple("0123456789"))
    features = choose_features(own)
    assert features.about == {"kind": "pixels"}
    assert features.classifier is None


def test_pixels_are_for_any_data_set():
    data = fashion_like("digits")
    for kind in ("auto", "pixels"):
        features = choose_features(data, kind)
        assert torch.equal(features.embedding(data.train), pixels(data.train))
        assert features.about == {"kind": "pixels"}
        assert features.classifier is None
    assert choose_features(fashion_like("fashion-mnist"), "pixels").classifier is not None


def test_inception_comes_with_its_weights(monkeypatch):
    asked = []

    def stand_in(*, weights, device):
        asked.append((weights, device))
        return pixels

    monkeypatch.setattr("fmtutor.images.features.inception", stand_in)
    features = choose_features(fashion_like("digits"), "inception", weights="w.pth")
    assert asked == [("w.pth", "cpu")]
    assert features.embedding is pixels
    assert features.about == {"kind": "inception"}


def test_features_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="pixels, but 'vgg' came"):
        choose_features(fashion_like("digits"), "vgg")


# The command.


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network that has learned nothing, of the digits."""
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    network = UNetConfig(size=8, classes=10, width=8, mults=(1,), attention=())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        about = {"data": "digits", "classes": list("0123456789")}
        about |= {"train": dataclasses.asdict(TrainConfig())}
        save_model(path, UNet(network), metadata=about)
    return path


FEW = [
    "--samples",
    "20",
    "--method",
    "euler",
    "--nfe",
    "2",
    "--curve-samples",
    "10",
    "--curve-methods",
    "euler",
    "rk4",
    "--curve-nfe",
    "1",
    "4",
    "--curve-guidance",
    "2.5",
    "--likelihood-images",
    "3",
    "--likelihood-steps",
    "2",
    "--seed",
    "5",
]


def test_the_command_writes_numbers_and_neighbours(checkpoint, tmp_path, capsys):
    out, png = tmp_path / "e.json", tmp_path / "e.png"
    arguments = ["evaluate", str(checkpoint), "--out", str(out), "--pictures", str(png), *FEW]
    assert main(arguments) == 0
    result = json.loads(out.read_text("utf-8"))
    assert result["samples"].keys() >= {"frechet", "precision", "recall", "seconds"}
    assert [(row["method"], row["nfe"]) for row in result["nfe"]] == [
        ("euler", 1),
        ("euler", 4),
        ("rk4", 4),
    ]
    assert [row["guidance"] for row in result["guidance"]] == [2.5]
    about = result["about"]
    assert result["command"] == f"fmtutor {' '.join(arguments)}"
    assert about["config"]["seed"] == 5
    assert about["features"] == {"kind": "pixels"}
    assert about["checkpoint"]["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert about["checkpoint"]["train"]["data"] == "digits"
    with Image.open(png) as image:  # ten columns, a picture above its three neighbours, zoom 2
        assert image.size == (2 * (10 * 8 + 9), 2 * (4 * 8 + 3))
    printed = capsys.readouterr().out
    assert f"frechet {result['samples']['frechet']:.4g}" in printed
    assert "floor:" in printed


def test_the_command_takes_a_guide_and_says_so(checkpoint, tmp_path, capsys):
    out = tmp_path / "e.json"
    given = f"""
        --guidance 2 --guidance-interval 0.2 0.7 --guidance-rescale 0.5 --shift 2
        --guide {checkpoint} --out {out}
    """
    assert main(["evaluate", str(checkpoint), *FEW, *given.split()]) == 0
    about = json.loads(out.read_text("utf-8"))["about"]
    assert about["guide"] == {"sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
    config = about["config"]
    assert (config["guidance_interval"], config["guidance_rescale"]) == ([0.2, 0.7], 0.5)
    assert (config["guidance"], config["shift"]) == (2.0, 2.0)


def test_guidance_by_a_weaker_network_needs_no_labels(monkeypatch):
    data, asked = data_set(classes=1), []
    usual = evaluation.draw_pictures

    def recorded(model, labels, **given):
        asked.append((given["guide"], given["scale"], given["within"], given["shift"]))
        return usual(model, labels, **given)

    monkeypatch.setattr(evaluation, "draw_pictures", recorded)
    strong, weak = Network(normal_field(0.0)), Network(normal_field(0.5))
    config = dataclasses.replace(
        MAIN_ONLY, guidance=2.0, curve_guidance=(3.0,), guidance_interval=(0.1, 1.0), shift=2.0
    )
    result = evaluate(strong, data, pixels, None, config, guide=weak, progress=False)
    assert [row["guidance"] for row in result["guidance"]] == [3.0]
    assert asked == [(weak, scale, (0.1, 1.0), 2.0) for scale in (2.0, 3.0)]


def test_distances_that_are_no_fid_are_said_to_be_none(checkpoint, tmp_path, capsys):
    command = ["evaluate", str(checkpoint), "--out", str(tmp_path / "e.json"), *FEW]
    for given, said in (("auto", 1), ("pixels", 0)):
        assert main([*command, "--features", given]) == 0
        told = capsys.readouterr().err
        assert told.count("they are no FID") == told.count("--features inception --samples") == said


@pytest.fixture
def counted(monkeypatch):
    """How often pictures are drawn or networks made."""
    drawn = []
    monkeypatch.setattr(
        "fmtutor.images.evaluate.draw_pictures", lambda *args, **given: drawn.append(args)
    )
    return drawn


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--method", "rk4", "--nfe", "10"], 2, "rk4 takes 4 evaluations a step"),
        (
            ["--curve-methods", "dopri5"],
            2,
            "one of euler, midpoint, heun, rk4, jump, but 'dopri5' came",
        ),
        (["--likelihood-steps", "0"], 2, "likelihood_steps must be at least 1, but 0 came"),
        (["--out", "missing/e.json"], 1, "there is no directory missing to write e.json to"),
        (["--pictures", "missing/e.png"], 1, "there is no directory missing to write e.png to"),
        (["--data-dir", "."], 1, "the digits come with scikit-learn"),
        (["--device", "gpu"], 1, "device must be auto, cpu, cuda, cuda:1, ..., but 'gpu' came"),
        (["--features", "classifier"], 1, "the classifier knows fashion-mnist, but digits came"),
        (["--features", "inception", "--inception-weights", "no.pth"], 1, "could not be had"),
    ],
)
def test_errors_of_the_command_are_one_line(
    checkpoint, arguments, status, message, capsys, counted
):
    try:
        ended = main(["evaluate", str(checkpoint), *arguments])
    except SystemExit as end:
        ended = end.code
    assert ended == status
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert counted == []  # it is said before the work, not after it


@pytest.mark.parametrize(("scale", "calls"), [(1.0, 1), (2.0, 2)])
def test_without_guidance_one_pass_is_enough_whatever_the_interval(scale, calls, monkeypatch):
    # Where times cannot be looked at, as on a GPU, an interval alone does not tell.
    monkeypatch.setattr("fmtutor.guidance.readable", lambda t: False)
    model = UNet(UNetConfig(size=4, classes=2, width=4, mults=(1,), attention=()))
    seen = []
    model.register_forward_pre_hook(lambda *_: seen.append(1))
    v = guided_field(model, torch.tensor([0, 1]), scale, within=(0.2, 0.8))
    v(torch.zeros(2, 1, 4, 4), torch.tensor(0.5))
    assert len(seen) == calls

"""The numbers about pictures, on cases whose answer is known."""

import math
import sys
import types

import pytest
import torch
from devices import NoFloat64
from scipy.special import ndtr

from fmtutor import CondOT, GaussianMixture
from fmtutor.images import measures
from fmtutor.images.datasets import to_float
from fmtutor.images.measures import (
    bits_per_dimension,
    embed,
    inception,
    nearest_neighbours,
    precision_recall,
)

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape, dtype=F64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def uint8(seed, *shape, low=0, high=256):
    return torch.randint(low, high, shape, generator=generator(seed), dtype=torch.uint8)


# Embedding.


def test_embed_takes_batches_and_keeps_the_order():
    images = uint8(0, 7, 1, 2, 2)
    seen = []

    def embedding(part):
        seen.append(len(part))
        return part.flatten(1).double()

    assert torch.equal(embed(images, embedding, batch_size=3), images.flatten(1).double())
    assert seen == [3, 3, 1]


def test_embed_records_no_graph():
    weight = torch.ones(4, 2, requires_grad=True)
    features = embed(uint8(0, 3, 1, 2, 2), lambda part: part.flatten(1).float() @ weight)
    assert not features.requires_grad


@pytest.mark.parametrize(
    ("images", "error", "match"),
    [
        (torch.zeros(2, 1, 4, 4), TypeError, "uint8.*float32"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), ValueError, r"\[n c h w\].*\[2, 4, 4\]"),
        (torch.zeros(0, 1, 4, 4, dtype=torch.uint8), ValueError, "n at least 1"),
    ],
)
def test_embed_refuses_other_pictures(images, error, match):
    with pytest.raises(error, match=match):
        embed(images, lambda part: part.flatten(1).float())


def test_embed_refuses_features_that_are_no_rows():
    with pytest.raises(ValueError, match=r"features must be \[2 d\], but \[2, 1, 4, 4\] came"):
        embed(uint8(0, 2, 1, 4, 4), lambda part: part.float())


# The Inception network, with a stand-in for torchmetrics.


def stand_in(monkeypatch, **members):
    module = types.ModuleType("torchmetrics.image.fid")
    vars(module).update(members)
    for name in ("torchmetrics", "torchmetrics.image"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", module)


class Metric:
    """Has the call and the member of torchmetrics' class that are used; features are means."""

    def __init__(self, feature, feature_extractor_weights_path=None):
        assert feature == 2048
        if feature_extractor_weights_path is not None and "missing" in (
            feature_extractor_weights_path
        ):
            raise FileNotFoundError(f"no file\n  {feature_extractor_weights_path}")
        self.inception = torch.nn.Sequential(Means())


class Means(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        assert x.device == self.weight.device
        assert x.dtype == torch.uint8
        assert x.shape[1] == 3
        return x.double().mean((2, 3))


def test_inception_features_of_grey_pictures_and_of_colours(monkeypatch):
    stand_in(monkeypatch, FrechetInceptionDistance=Metric)
    grey, colours = uint8(0, 5, 1, 4, 4), uint8(1, 5, 3, 4, 4)
    embedding = inception(weights="weights.pth")
    means = embed(grey, embedding, batch_size=2)
    assert torch.equal(means, grey.double().mean((2, 3)).expand(5, 3))
    assert torch.equal(embed(colours, inception()), colours.double().mean((2, 3)))


def test_inception_lives_where_it_is_wanted(monkeypatch):
    stand_in(monkeypatch, FrechetInceptionDistance=Metric)
    assert inception(device="meta")(uint8(0, 5, 1, 4, 4)).is_meta


def test_without_weights_the_error_is_one_line(monkeypatch):
    stand_in(monkeypatch, FrechetInceptionDistance=Metric)
    with pytest.raises(OSError, match=r"could not be had: no file missing\.pth$") as caught:
        inception(weights="missing.pth")
    assert "\n" not in str(caught.value)


def test_without_torchmetrics_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setitem(sys.modules, "torchmetrics.image", None)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(OSError, match=r"torchmetrics\[image\] and its weights"):
        inception()


def test_packages_that_do_not_fit_each_other_are_named(monkeypatch):
    class Broken:
        def __init__(self, feature):
            raise RuntimeError("operator torchvision::nms does not exist")

    stand_in(monkeypatch, FrechetInceptionDistance=Broken)
    with pytest.raises(OSError, match="had: operator torchvision::nms does not exist"):
        inception()


# Precision and recall.


def line(*values):
    return torch.tensor(values, dtype=F64)[:, None]


def test_on_a_line_where_each_ball_can_be_counted():
    # Radii to the nearest other point: real 1, 1, 3 (balls [-1, 1], [0, 2], [1, 7]),
    # generated 0.5, 0.5, 13.5 (balls [5.5, 6.5], [6, 7], [6.5, 33.5]).
    real, fake = line(0, 1, 4), line(6, 6.5, 20)
    precision, recall = precision_recall(real, fake, k=1)
    assert precision == pytest.approx(2 / 3)
    assert recall == 0


def test_shares_are_numbers():
    assert [type(share) for share in precision_recall(normal(0, 9, 2), normal(1, 9, 2))] == [
        float
    ] * 2


def test_a_point_on_the_border_of_a_ball_is_inside():
    assert precision_recall(line(0, 1, 4), line(7, 7, 7), k=1)[0] == 1
    assert precision_recall(line(0, 1, 4), line(7.001, 7.001, 7.001), k=1)[0] == 0


def test_precision_sees_quality_and_recall_sees_variety():
    real = torch.cat([normal(0, 100, 3), normal(1, 100, 3) + 100])
    one_mode, with_rubbish = normal(2, 200, 3), torch.cat([real, normal(3, 200, 3) - 500])
    precision, recall = precision_recall(real, one_mode)
    assert precision > 0.7
    assert recall <= 0.5
    precision, recall = precision_recall(real, with_rubbish)
    assert precision == pytest.approx(0.5)
    assert recall == 1


def test_exchanging_the_sets_exchanges_the_numbers():
    x, y = normal(0, 60, 2), 1.5 * normal(1, 80, 2) + 0.5
    assert precision_recall(x, y) == precision_recall(y, x)[::-1]
    assert precision_recall(x, y)[0] != precision_recall(x, y)[1]


def test_a_larger_k_has_larger_balls():
    x, y = normal(0, 50, 5), 1.3 * normal(1, 50, 5)
    shares = [precision_recall(x, y, k=k)[0] for k in (1, 3, 10, 49)]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


def test_blocks_do_not_change_the_numbers():
    x, y = normal(0, 1100, 2), normal(1, 1050, 2) + 1
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    radius = distance.sort(dim=1).values[:, 3]
    inside = torch.cdist(y, x, compute_mode="donot_use_mm_for_euclid_dist") <= radius
    assert precision_recall(x, y)[0] == pytest.approx(inside.any(1).double().mean().item())


@pytest.mark.parametrize(
    ("real", "fake", "k", "match"),
    [
        (torch.zeros(5, 2), torch.zeros(5, 3), 3, r"\[5, 2\] and \[5, 3\]"),
        (torch.zeros(5, 2, 2), torch.zeros(5, 2, 2), 3, r"must be \[n d\]"),
        (torch.zeros(5, 2), torch.zeros(3, 2), 3, "for fake, but 3 came"),
        (torch.zeros(5, 2), torch.zeros(5, 2), 0, "for real, but 0 came"),
        (torch.full((5, 2), math.nan), torch.zeros(5, 2), 3, "real must be finite"),
    ],
)
def test_precision_and_recall_refuse_what_does_not_fit(real, fake, k, match):
    with pytest.raises(ValueError, match=match):
        precision_recall(real, fake, k=k)


def test_a_device_without_float64_is_left_for_the_cpu():
    x, y = normal(0, 40, 2, dtype=torch.float32), normal(1, 50, 2, dtype=torch.float32)
    there = [points.as_subclass(NoFloat64) for points in (x, y)]
    assert precision_recall(*there) == precision_recall(x, y)


@pytest.mark.parametrize("offset", [1e4, -3e4])
def test_a_common_offset_changes_no_share(offset):
    real, fake = normal(0, 200, 2, dtype=torch.float32), normal(1, 150, 2, dtype=torch.float32) + 1
    real, fake = (real * 64).round() / 64, (fake * 64).round() / 64  # exact beside the offset
    shares = precision_recall(real, fake)
    assert precision_recall(real + offset, fake + offset) == pytest.approx(shares, abs=0.01)


# Nearest neighbours.


@pytest.mark.parametrize("k", [1, 4])
def test_the_nearest_of_many_in_order(k):
    x, data = normal(0, 20, 1, 3, 3), normal(1, 10_500, 1, 3, 3)  # more than one block
    full = (x[:, None] - data[None]).square().flatten(2).mean(2).sqrt()
    expected = full.topk(k, largest=False)
    distance, index = nearest_neighbours(x, data, k=k)
    assert torch.equal(index, expected.indices)
    assert torch.allclose(distance, expected.values, rtol=1e-12)


def test_no_point_is_lost_or_found_twice_between_blocks():
    data = torch.arange(10_500, dtype=F64)[:, None]
    for row in (0, 9_998, 9_999, 10_000, 10_001, 10_499):
        distance, index = nearest_neighbours(data[[row]] + 0.1, data, k=2)
        other = row + 1 if row < 10_499 else row - 1
        assert index.tolist() == [[row, other]]
        assert distance[0].tolist() == pytest.approx([0.1, abs(other - row - 0.1)])


def test_distances_belong_to_their_rows_where_the_first_ranking_is_coarse():
    data = 100 + 1e-3 * normal(0, 60, 784, dtype=torch.float32)
    distance, index = nearest_neighbours(data[:40] + 1e-4, data, k=60)
    exact = (data[:40, None] + 1e-4 - data[index]).square().mean(2).sqrt()
    torch.testing.assert_close(distance, exact)
    assert torch.equal(distance, distance.sort(dim=1).values)
    assert torch.equal(index.sort(dim=1).values, torch.arange(60).expand(40, 60))


def test_neighbours_are_found_without_a_look():
    x, data = (torch.empty(n, 3, device="meta") for n in (4, 9))
    distance, index = nearest_neighbours(x, data, k=2)
    assert (distance.shape, index.shape) == ((4, 2), (4, 2))
    assert distance.is_meta
    assert index.is_meta


def test_a_copy_is_at_distance_zero_in_single_precision_too():
    data = normal(0, 500, 784, dtype=torch.float32)
    distance, index = nearest_neighbours(data[[7, 400]], data)
    assert index[:, 0].tolist() == [7, 400]
    assert (distance == 0).all()


def test_the_unit_is_that_of_one_coordinate():
    distance, _ = nearest_neighbours(
        torch.full((1, 50), 0.25, dtype=F64), torch.zeros(2, 50, dtype=F64)
    )
    assert distance.item() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("x", "data", "k", "match"),
    [
        (torch.zeros(2, 3), torch.zeros(5, 4), 1, r"x is \[2, 3\] and data is \[5, 4\]"),
        (torch.zeros(2, 3), torch.zeros(5, 3), 6, r"k must lie in \[1, 5\], but 6 came"),
        (torch.zeros(2, 3), torch.zeros(5, 3), 0, r"k must lie in \[1, 5\], but 0 came"),
        (torch.zeros(2, 3), torch.full((5, 3), math.inf), 1, "data must be finite"),
        (torch.full((2, 3), math.nan), torch.zeros(5, 3), 1, "x must be finite"),
    ],
)
def test_neighbours_refuse_what_does_not_fit(x, data, k, match):
    with pytest.raises(ValueError, match=match):
        nearest_neighbours(x, data, k=k)


# Bits per dimension, against the probability of a whole number under a Gaussian density.


def gaussian_field(std, shape):
    """The exact field that carries noise to N(0.1, std²), pixel by pixel, for pictures."""
    d = math.prod(shape)
    mixture = GaussianMixture(torch.full((1, d), 0.1, dtype=F64), torch.tensor([std], dtype=F64))
    flat = mixture.velocity(CondOT())
    return lambda x, t: flat(x.flatten(1).double(), t.double()).reshape(x.shape).to(x)


def exact_bits(images, std):
    """−log₂ of the mass that the Gaussian puts on each pixel's box, mean over the picture."""
    centre, half = to_float(images).double(), 1 / 255
    z = [(centre + side * half - 0.1) / std for side in (-1, 1)]
    mass = torch.from_numpy(ndtr(z[1].numpy()) - ndtr(z[0].numpy()))
    return -mass.log2().flatten(1).mean(1)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_bits_of_a_gaussian(divergence):
    # The divergence of this field is the same in every direction: Hutchinson's estimate is exact.
    images = uint8(0, 64, 1, 2, 3, low=60, high=220)
    bits = bits_per_dimension(
        gaussian_field(0.3, (1, 2, 3)),
        images,
        method="rk4",
        steps=40,
        divergence=divergence,
        generator=generator(),
    )
    assert bits.shape == (64,)
    # One draw from each box: its log-density varies, by 1/255 times a slope of at most 7.
    assert torch.allclose(bits.double(), exact_bits(images, 0.3), atol=0.04)
    assert bits.double().mean().item() == pytest.approx(
        exact_bits(images, 0.3).mean().item(), abs=2e-3
    )


def test_bits_are_those_of_a_point_drawn_from_the_box():
    # A density as narrow as a box, the box on its slope: where in the box a point lies counts.
    images = torch.full((300, 1, 1, 1), 141, dtype=torch.uint8)
    std, w = 1 / 255, 2 / 255
    bits = bits_per_dimension(
        gaussian_field(std, (1, 1, 1)),
        images,
        method="rk4",
        steps=200,
        divergence="exact",
        generator=generator(),
    )
    x = to_float(images) + w * (torch.rand(images.shape, generator=generator()) - 0.5)
    log_density = -0.5 * ((x - 0.1) / std).square() - math.log(std * math.sqrt(2 * math.pi))
    expected = -(log_density + math.log(w)) / math.log(2)
    assert torch.allclose(bits, expected.flatten(), atol=0.02)
    # By Jensen's inequality their mean is above the bits of the box's mass.
    assert bits.mean().item() > exact_bits(images[:1], std).item() + 0.2


def test_without_motion_the_density_is_that_of_noise():
    # Near 0 it is 1/√(2π), and a box is 2/255 wide.
    images = torch.full((2, 1, 8, 8), 127, dtype=torch.uint8)
    bits = bits_per_dimension(lambda x, t: 0 * x, images, steps=1, generator=generator())
    expected = math.log2(255 / 2 * math.sqrt(2 * math.pi))
    assert bits.tolist() == pytest.approx([expected] * 2, abs=1e-3)


def test_the_generator_decides_the_draw(global_rng_untouched):
    field, images = gaussian_field(0.3, (1, 2, 2)), uint8(0, 5, 1, 2, 2)

    def bits(seed):
        return bits_per_dimension(field, images, steps=2, generator=generator(seed))

    assert torch.equal(bits(0), bits(0))
    assert not torch.equal(bits(0), bits(1))


def test_bits_refuse_floats():
    with pytest.raises(TypeError, match="uint8"):
        bits_per_dimension(lambda x, t: x, torch.zeros(2, 1, 4, 4))


def test_the_settings_reach_the_solver(monkeypatch):
    given = []

    def log_prob(v, x, **options):
        given.append(options)
        return torch.zeros(len(x))

    monkeypatch.setattr(measures, "log_prob", log_prob)
    g, images = generator(), uint8(0, 1, 1, 2, 2)
    bits_per_dimension(None, images)
    options = {"method": "euler", "steps": 7, "divergence": "exact", "generator": g}
    bits_per_dimension(None, images, **options)
    default = {"method": "midpoint", "steps": 100, "divergence": "hutchinson", "generator": None}
    assert given == [default, options]


def test_bits_are_computed_without_a_look():
    images = torch.empty(3, 1, 2, 2, dtype=torch.uint8, device="meta")
    bits = bits_per_dimension(lambda x, t: -x, images, steps=1, generator=generator())
    assert (bits.shape, bits.is_meta) == ((3,), True)

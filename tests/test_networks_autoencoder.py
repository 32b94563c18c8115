"""The autoencoder: shapes, scales, what its weights mean, what it refuses."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fmtutor.images.checkpoint import load_autoencoder
from fmtutor.images.data import to_float
from fmtutor.images.latents import decode_all, encode_all
from fmtutor.networks import Autoencoder, AutoencoderConfig, autoencoder

EXCERPT = Path(__file__).parents[1] / "benchmarks/results/fashion_pictures.safetensors"

TINY = AutoencoderConfig(channels=1, latents=3, patch=2, width=8, mults=(1, 2))


def random_autoencoder(config=TINY, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Autoencoder(config)


@pytest.mark.parametrize(
    ("change", "shape", "latents"),
    [
        ({}, (1, 28, 28), (3, 7, 7)),
        ({"channels": 3, "latents": 4}, (3, 32, 32), (4, 8, 8)),
        ({"latents": 2, "patch": 1, "mults": (1, 1, 2)}, (1, 8, 12), (2, 2, 3)),
        ({"patch": 4, "mults": (3,), "width": 5, "blocks": 2}, (1, 8, 8), (3, 2, 2)),
    ],
)
def test_a_picture_has_latents_and_comes_back(change, shape, latents):
    model = random_autoencoder(dataclasses.replace(TINY, **change))
    x = torch.randn(2, *shape, requires_grad=True)
    z = model.encode(x)
    assert z.shape == (2, *latents)
    assert shape[1] == latents[1] * model.factor
    again = model.decode(z)
    assert again.shape == x.shape
    again.square().sum().backward()
    assert (x.grad != 0).all()
    known = [w for name, w in model.named_parameters() if not name.startswith("encoder.")]
    assert all(w.grad.any() for w in known)


def test_the_scale_is_that_of_the_latents_and_kept_with_the_weights():
    model = random_autoencoder()
    x = torch.randn(3, 1, 8, 8)
    raw, back = model.encode(x), model.decode(model.encode(x))
    with torch.no_grad():
        model.offset.copy_(torch.tensor([1.0, 2.0, 3.0])[:, None, None])
        model.scale.copy_(torch.tensor([0.5, 1.0, 2.0])[:, None, None])
    torch.testing.assert_close(model.encode(x), (raw - model.offset) / model.scale)
    torch.testing.assert_close(model.decode(model.encode(x)), back, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.posterior(x)[0], raw)  # what the loss draws is not scaled
    assert {"offset", "scale"} <= model.state_dict().keys()


def test_pictures_do_not_see_each_other():
    model, x = random_autoencoder(), torch.randn(3, 1, 8, 8)
    for k in range(3):
        torch.testing.assert_close(model.encode(x)[k], model.encode(x[k : k + 1])[0])


def test_bad_calls_are_refused():
    model = random_autoencoder()
    for shape in ((2, 3, 8, 8), (2, 1, 8, 10), (2, 1, 6, 8), (1, 8, 8)):
        with pytest.raises(ValueError, match=r"x must be \[b 1 h w\], h and w in 4s, but"):
            model.encode(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"z must be \[b 3 h w\], but \[2, 4, 2, 2\] came"):
        model.decode(torch.zeros(2, 4, 2, 2))
    with pytest.raises(TypeError, match=r"x must be floating point"):
        model.encode(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    for change in ({"channels": 0}, {"latents": 0}, {"mults": ()}, {"mults": (0,)}, {"blocks": 0}):
        with pytest.raises(ValueError, match="all numbers must be at least 1, but"):
            dataclasses.replace(TINY, **change)


def test_descriptions_survive_json_and_have_their_defaults():
    assert AutoencoderConfig() == AutoencoderConfig(1, 4, 2, 32, (1, 2), 1)
    fields = json.loads(json.dumps(dataclasses.asdict(TINY)))
    assert AutoencoderConfig(**fields | {"mults": (*fields["mults"],)}) == TINY


def test_nothing_is_looked_at():
    with torch.device("meta"):
        model = Autoencoder(TINY)
        x = torch.empty(2, 1, 8, 8)
        assert model.decode(model.encode(x)).is_meta


def test_compiling_breaks_no_graph_and_changes_nothing():
    model, x = random_autoencoder(), torch.randn(2, 1, 8, 8)

    def there_and_back(x):
        return model.decode(model.encode(x))

    with torch.no_grad():  # so that one graph is traced, not two
        compiled = torch.compile(there_and_back, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x), there_and_back(x), atol=1e-5, rtol=1e-5)


# What the shipped weights mean.

RECORDED = [
    [0.1479, 1.0459, -1.0438, 0.0525, 0.6748, -0.8028,
     -0.5250, -0.7068, 0.9834, -0.8782, -0.7323, -0.4073],
    [-0.8362, -0.5845, -0.1775, -0.5271, 0.2369, -0.9027,
     -0.8552, -1.0618, -0.5430, -0.8953, -0.5652, 0.2107],
]  # fmt: skip


@pytest.fixture(scope="module")
def shipped():
    return load_autoencoder("fashion-mnist")[0]


def probe(model):
    """Twelve latents of a picture with nothing in it, and twelve pixels of as strange latents."""
    k = torch.arange(784.0)
    x = torch.sin(0.37 * k + 0.0011 * k.square() % 7).reshape(1, 1, 28, 28)
    z = torch.sin(0.53 * k[:196]).reshape(1, 4, 7, 7)
    with torch.no_grad():
        latents, pixels = model.encode(x)[0, :, 1:6:2, 3], model.decode(z)[0, 0, 3:27:6, 5:25:9]
    return torch.stack([latents.flatten(), pixels.flatten()])


def test_the_shipped_weights_mean_what_they_meant(shipped):
    torch.testing.assert_close(probe(shipped), torch.tensor(RECORDED), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("-> b (c p q) h w", "-> b (c q p) h w"),
        ("b (c p q) h w ->", "b (c q p) h w ->"),
        ("mean, log_deviation = features", "log_deviation, mean = features"),
    ],
)
def test_a_fault_of_order_would_be_noticed(shipped, right, wrong):
    source = Path(autoencoder.__file__).read_text("utf-8")
    assert right in source
    faulty = {"__name__": autoencoder.__name__}
    exec(source.replace(right, wrong), faulty)
    model = faulty["Autoencoder"](shipped.config)
    model.load_state_dict(shipped.state_dict())  # the weights fit
    assert (probe(model) - torch.tensor(RECORDED)).abs().max() > 0.05


def test_garments_come_back_from_the_shipped_one(shipped):
    images = load_file(EXCERPT)["test"]  # pictures that no training has seen
    latents = encode_all(shipped, images)
    assert latents.shape == (len(images), 4, 7, 7)
    assert latents.std().item() == pytest.approx(1, abs=0.15)
    error = (to_float(decode_all(shipped, latents)) - to_float(images)).square().mean().sqrt()
    assert 0.03 < error < 0.15

"""What the book's results are measured by and compared with, beside scipy and by hand."""

import itertools
import json
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import vonmises, vonmises_fisher

from fmtutor.manifolds import Rotations, Sphere, Torus
from fmtutor.molecules import DoubleWell
from fmtutor.networks.tokens import TokenTransformer, TokenTransformerConfig

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import manifolds
import molecules
import spelling
import text
from ngrams import NGram

F64 = torch.float64
SPHERE = Sphere(2)


def points(space, shape, seed=0):
    return space.noise(torch.empty(shape, dtype=F64), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kappa", [0.5, 50.0, 5000.0])
def test_kernels_on_the_sphere_are_those_of_scipy(kappa):
    x, centres = points(SPHERE, (20, 3)), points(SPHERE, (2, 3), seed=1)
    ours = manifolds.log_kernels(x, centres, torch.full((2,), kappa, dtype=F64))
    for k, centre in enumerate(centres):
        theirs = vonmises_fisher(centre.numpy(), kappa).logpdf(x.numpy())
        np.testing.assert_allclose(ours[:, k], theirs, atol=1e-8, rtol=1e-10)


def test_a_kernel_density_with_a_share_of_the_uniform_law_is_a_density():
    x, data = points(SPHERE, (40_000, 3)), points(SPHERE, (5, 3), seed=1)
    flat = SPHERE.noise_log_prob(x[:1]).item()
    alone = manifolds.kernel_density(x, data, 20.0)
    ratio = manifolds.with_uniform(alone, flat, 0.3).exp() / math.exp(flat)
    assert ratio.min() == pytest.approx(0.3, abs=0.01)
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std().item() / 200)


def test_a_mixture_finds_the_law_that_it_is_fitted_to():
    east, north = torch.eye(3, dtype=F64)[0], torch.eye(3, dtype=F64)[2]
    draws = [
        vonmises_fisher(mean.numpy(), kappa).rvs(count, random_state=0)
        for mean, kappa, count in ((east, 30, 3000), (north, 200, 1000))
    ]
    data = torch.tensor(np.concatenate(draws))
    law = manifolds.mixture(data, 2, seed=0)
    kernels = manifolds.log_kernels(data, torch.stack([east, north]), torch.tensor([30.0, 200]))
    true = (kernels + torch.tensor([0.75, 0.25]).log()).logsumexp(1)
    gain = (law(data) - true).mean().item()
    assert 0 < gain < 5 / len(data), "fitted better than the truth, by half a nat a parameter"


def test_kernels_on_the_torus_are_those_of_scipy():
    x, data = points(Torus(2), (150, 2)), points(Torus(2), (7, 2), seed=1)
    ours = manifolds.kernels_on_the_torus(x, data, 20.0)
    kappa = math.radians(20) ** -2
    kernels = vonmises(kappa).pdf(x[:, None].numpy() - data.numpy()).prod(2)
    np.testing.assert_allclose(ours, np.log(kernels.mean(1)), rtol=1e-9)


def test_a_law_is_blurred_wave_by_wave():
    angle = 2 * math.pi * torch.arange(48, dtype=F64) / 48
    p = ((1 + 0.8 * angle.cos()) / 48)[:, None].expand(48, 48) / 48
    damped = 0.8 * math.exp(-0.5 * math.radians(40) ** 2)
    q = ((1 + damped * angle.cos()) / 48)[:, None].expand(48, 48) / 48
    exact = (p * (p / q).log()).sum().item()
    assert manifolds.blurred_kl(p, 40, fine=1) == pytest.approx(exact, abs=1e-12)
    assert exact > 1e-3


def test_the_wrapped_law_of_rotations_is_a_density():
    space = Rotations()
    x, centres = points(space, (100_000, 3, 3)), points(space, (3, 3, 3), seed=1)
    log_p = manifolds.log_wrapped(x, centres, torch.tensor([0.4, 0.5, 0.6], dtype=F64))
    ratio = (log_p - space.noise_log_prob(x)).exp()
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std().item() / 100_000**0.5)
    assert ratio.std() < 5


def test_n_grams_by_hand():
    model = NGram(["ab"], 2, 0.5, "ab")
    assert model.law("") == pytest.approx({"a": 0.5, "b": 0.5})
    assert model.law("a") == pytest.approx({"a": 0.25, "b": 0.75})
    assert model.law("b") == model.law(""), "a context that was not seen is left out"
    assert model.bits("ab") == pytest.approx(1 - math.log2(0.75))


def test_n_grams_are_laws():
    model = NGram(["^^banana$", "^^cabana$"], 3, 0.4, "abcn$", first=2)
    for context in ("", "^^", "an", "zz", "^^ban"):
        assert sum(model.law(context).values()) == pytest.approx(1)
    bits = -sum(math.log2(model.law("^^ban"[: k + 2])[c]) for k, c in enumerate("ban"))
    assert model.bits("^^ban") == pytest.approx(bits)


def test_words_are_judged_by_those_that_there_are():
    train, test = ["cat", "dog", "at"], ["cow", "on", "ox"]
    said = spelling.judged(["cat", "cow", "cot", "on", "a b", "", "at", "at"], train, test)
    assert said["malformed"] == 2 / 8
    assert said["real"] == 5 / 8
    assert said["real_matched"] == pytest.approx(0.5 * 2 / 3 + 0.5 * 1)
    assert said["recited"] == 3 / 5
    assert said["length_tv"] == pytest.approx(0)


def test_pairs_of_letters_are_compared_in_bits():
    one, other = Counter({"ab": 3, "bc": 1}), Counter({"xy": 2})
    assert spelling.divergence(one, Counter({"ab": 6, "bc": 2})) == pytest.approx(0)
    assert spelling.divergence(one, other) == pytest.approx(1)


def test_a_speller_writes_words_of_its_law():
    model = spelling.Speller(["ab", "ab", "ab", "ba"], 2, 0.001)
    written, kept = model.write(500, seed=0)
    assert {*"".join(written)} == {"a", "b"}
    assert all(2 <= len(word) <= spelling.LENGTH for word in written)
    p = {word: 2 ** -model.word_bits(word) for word in ("a", "b", "ab", "abab")}
    assert kept == pytest.approx(1 - p["a"] - p["b"], abs=0.05)
    for word in ("ab", "abab"):  # words of one letter are drawn again, too long ones are rare
        share = p[word] / (1 - p["a"] - p["b"])
        error = (share * (1 - share) / 500) ** 0.5
        assert written.count(word) / 500 == pytest.approx(share, abs=4 * error)


def test_the_reader_has_a_law_of_sequences(monkeypatch):
    monkeypatch.setattr(text, "TOKENS", 3)
    torch.manual_seed(0)
    net = TokenTransformer(TokenTransformerConfig(3, 4, width=8, depth=1, heads=2, causal=True))
    torch.nn.init.normal_(net.place)
    for parameter in net.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    every = torch.tensor([*itertools.product(range(3), repeat=4)])
    with torch.no_grad():
        p = (-text.nats(net, every).sum(1)).exp()
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert p.std() > 1e-3, "not the uniform law"
    monkeypatch.setattr(text, "WRITTEN", 40_000)
    monkeypatch.setattr(text, "LENGTH", 4)
    number = (text.written(net, 0) * torch.tensor([27, 9, 3, 1])).sum(1)
    share = torch.bincount(number, minlength=81) / 40_000
    error = (p * (1 - p) / 40_000).sqrt()
    assert ((share - p) / error).abs().max() < 5


def test_the_agreement_of_chains_is_recorded_once_beside_the_rows(tmp_path):
    out, well = tmp_path / "molecules.json", DoubleWell()
    out.write_text('{"rows": [1]}', "utf-8")
    alike = torch.randn(5 * molecules.CHAINS, 4, 2, generator=torch.Generator().manual_seed(0))
    apart = alike[: molecules.CHAINS].repeat(5, 1, 1) + 0.1 * alike  # each chain near its start
    for samples, seed in ((alike, 0), (apart, 1), (apart, 0)):
        molecules.record_reference(out, "dw4", well, samples, seed)
    told = json.loads(out.read_text("utf-8"))
    first, second = told["references"]
    assert told["rows"] == [1]
    assert (first["seed"], second["seed"]) == (0, 1)
    assert first["samples"] == second["samples"] == 1000
    assert 0.8 < first["r_hat_energy"] < 1.1
    assert 0.8 < first["r_hat_near_pairs"] < 1.1
    assert 3 < second["r_hat_energy"] < 1000

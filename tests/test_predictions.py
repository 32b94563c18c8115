"""One unknown, many names: conversions there and back, against formulas of their own."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmtutor import CondOT, Cosine, GaussianMixture, VariancePreserving, cfm_loss
from fmtutor.paths import Karras, SubVariancePreserving, VarianceExploding
from fmtutor.predictions import (
    PREDICTIONS,
    as_velocity,
    convert,
    ends_of,
    gain,
    target_of,
)

F64 = torch.float64
PATHS = [
    CondOT(),
    CondOT(0.1),
    Cosine(),
    VariancePreserving(),
    SubVariancePreserving(),
    VarianceExploding(0.1, 5.0),
    Karras(0.1, 5.0),
]
paths, names, seeds = st.sampled_from(PATHS), st.sampled_from(PREDICTIONS), st.integers(0, 999)
MIXTURE = GaussianMixture(torch.tensor([[-2.0, 1.0], [1.5, -0.5]], dtype=F64), 0.4)


def draw(path, seed, shape=(5, 2)):
    g = torch.Generator().manual_seed(seed)
    x0, x1 = (torch.randn(shape, generator=g, dtype=F64) for _ in range(2))
    t = 0.1 + 0.8 * torch.rand(shape[0], generator=g, dtype=F64)
    return path.sample(x0, x1, t)


def named(s, path, s_data=1.0):
    """Every prediction of a draw, each by the formula of the paper that has it."""
    a, b, da, db = (
        f(s.t).reshape(-1, *[1] * (s.xt.ndim - 1))
        for f in (path.alpha, path.sigma, path.d_alpha, path.d_sigma)
    )
    noise_level, point = b / a, s.xt / a  # EDM has α = 1
    skip = s_data**2 / (noise_level**2 + s_data**2)
    out = noise_level * s_data / (noise_level**2 + s_data**2).sqrt()
    return {
        "velocity": da * s.x1 + db * s.x0,
        "data": s.x1,
        "noise": s.x0,
        "score": -(s.xt - a * s.x1) / b**2,
        "v": a * s.x0 - b * s.x1,
        "F": (s.x1 - skip * point) / out,
    }


@given(paths, names, names, seeds, st.sampled_from([(5, 2), (1, 3), (2, 1, 4, 4)]))
def test_every_prediction_becomes_every_other(path, source, target, seed, shape):
    s = draw(path, seed, shape)
    of = named(s, path, 0.5)
    found = convert(of[source], s.xt, s.t, path, source=source, target=target, sigma_data=0.5)
    scale = gain(s.t, path, source=source, target=target, sigma_data=0.5).abs().max().item()
    torch.testing.assert_close(found, of[target], rtol=1e-11, atol=1e-12 * max(1.0, scale))


@given(paths, names, names, seeds)
def test_there_and_back_is_where_one_was(path, source, target, seed):
    s = draw(path, seed)
    value = torch.randn(s.xt.shape, dtype=F64, generator=torch.Generator().manual_seed(seed))
    there = convert(value, s.xt, s.t, path, source=source, target=target)
    back = convert(there, s.xt, s.t, path, source=target, target=source)
    torch.testing.assert_close(back, value, rtol=1e-10, atol=1e-10)


@given(paths, names, names, seeds)
def test_the_gain_is_what_an_error_becomes(path, source, target, seed):
    s = draw(path, seed)
    value, error = (torch.randn(5, 2, dtype=F64) for _ in range(2))
    moved = convert(value + error, s.xt, s.t, path, source=source, target=target) - convert(
        value, s.xt, s.t, path, source=source, target=target
    )
    factor = gain(s.t, path, source=source, target=target)
    torch.testing.assert_close(moved, factor[:, None] * error, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("name", PREDICTIONS)
def test_means_are_converted_like_draws(path, name):
    """The marginal score and velocity of a mixture have closed forms of their own."""
    s = draw(path, 3)
    u = MIXTURE.velocity(path)(s.xt, s.t)
    value = convert(u, s.xt, s.t, path, source="velocity", target=name)
    back = convert(value, s.xt, s.t, path, source=name)
    torch.testing.assert_close(back, u, rtol=1e-10, atol=1e-10)
    if name == "score":
        torch.testing.assert_close(value, MIXTURE.score(path)(s.xt, s.t), rtol=1e-9, atol=1e-9)
    field = as_velocity(lambda x, t: value, path, predicts=name)
    torch.testing.assert_close(field(s.xt, s.t), u, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_target_of_the_loss_is_the_prediction(name):
    path, g = Cosine(), torch.Generator().manual_seed(0)
    x1 = torch.randn(64, 2, dtype=F64, generator=g)
    seen = {}

    def network(x, t):
        seen.update(x=x, t=t)
        return torch.zeros_like(x)

    t = 0.1 + 0.8 * torch.rand(64, dtype=F64, generator=g)
    x0 = torch.randn(64, 2, dtype=F64, generator=g)
    loss = cfm_loss(
        network, x1, x0=x0, t=t, path=path, target=target_of(name, path, sigma_data=0.5)
    )
    expected = named(path.sample(x0, x1, t), path, 0.5)[name].square().mean()
    torch.testing.assert_close(loss, expected)


def test_f_has_unit_variance_and_with_unit_data_is_minus_v():
    g = torch.Generator().manual_seed(0)
    x1 = 0.5 * torch.randn(100_000, 1, dtype=F64, generator=g)
    for t in (0.05, 0.5, 0.95):
        s = CondOT().sample(torch.randn(x1.shape, dtype=F64, generator=g), x1, t)
        assert 0.98 < target_of("F", CondOT(), sigma_data=0.5)(s).std() < 1.02
    s = draw(Cosine(), 0)
    v, f = (target_of(name, Cosine())(s) for name in ("v", "F"))
    torch.testing.assert_close(f, -v)


@pytest.mark.parametrize("name", PREDICTIONS[1:])
def test_ends_from_scales_alone(name):
    path = VariancePreserving()
    s = draw(path, 1)
    x0, x1 = ends_of(name, named(s, path)[name], s.xt, path.alpha(s.t), path.sigma(s.t))
    torch.testing.assert_close(x0, s.x0)
    torch.testing.assert_close(x1, s.x1)


@pytest.mark.parametrize(
    ("path", "source", "target", "t"),
    [
        (CondOT(), "noise", "velocity", 0.0),
        (CondOT(), "score", "data", 0.0),
        (Cosine(), "noise", "v", 0.0),
        (CondOT(), "data", "velocity", 1.0),
        (CondOT(), "data", "noise", 1.0),
        (CondOT(), "velocity", "score", 1.0),
        (VariancePreserving(), "velocity", "data", 1.0),
        (VariancePreserving(), "noise", "velocity", 1.0),
    ],
    ids=str,
)
def test_where_one_says_nothing_of_the_other(path, source, target, t):
    x = torch.ones(2, 2)
    times = torch.tensor([0.5, t])
    with pytest.raises(ValueError, match=f"'{source}' does not determine '{target}'"):
        convert(x, x, times, path, source=source, target=target)
    with pytest.raises(ValueError, match="does not determine"):
        gain(t, path, source=source, target=target)


def test_what_is_determined_at_the_ends_is_found():
    x0, x1 = torch.randn(3, 2, dtype=F64), torch.randn(3, 2, dtype=F64)
    for t in (0.0, 1.0):
        s = CondOT().sample(x0, x1, t)
        for name in ("velocity", "v", "F"):
            for other in ("data", "noise", "velocity"):
                found = convert(named_at_end(s)[name], s.xt, t, CondOT(), source=name, target=other)
                torch.testing.assert_close(found, named_at_end(s)[other])


def named_at_end(s):
    t = s.t[0].item()
    f = s.x1 if t == 0 else -s.x0
    return {"velocity": s.x1 - s.x0, "v": -f, "F": f, "data": s.x1, "noise": s.x0}


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"source": "eps"}, ValueError, "source must be one of velocity, .*'eps' came"),
        ({"target": "x"}, ValueError, "target must be one of"),
        ({"sigma_data": 0.0}, ValueError, "sigma_data must be positive and finite, but 0.0 came"),
        ({"sigma_data": math.inf}, ValueError, "sigma_data"),
        ({"xt": torch.zeros(3, 2)}, ValueError, r"value is \[2, 2\] and xt is \[3, 2\]"),
    ],
    ids=str,
)
def test_bad_input_is_refused(change, kind, words):
    xt = change.pop("xt", torch.ones(2, 2))
    settings = {"source": "noise", "target": "data"} | change
    with pytest.raises(kind, match=words):
        convert(torch.ones(2, 2), xt, 0.5, CondOT(), **settings)
    if "xt" not in change and "source" in change:
        with pytest.raises(ValueError, match="must be one of"):
            gain(0.5, CondOT(), **settings)


def test_bad_names_are_refused_before_training():
    with pytest.raises(ValueError, match="prediction must be one of"):
        target_of("epsilon", CondOT())
    with pytest.raises(ValueError, match="predicts must be one of"):
        as_velocity(lambda x, t: x, CondOT(), predicts="epsilon")
    with pytest.raises(TypeError, match="network must be called as network"):
        as_velocity(None, CondOT(), predicts="noise")
    with pytest.raises(ValueError, match="name must be one of data"):
        ends_of("velocity", *[torch.ones(1, 1)] * 2, *[torch.ones(1)] * 2)


def test_conditions_reach_the_network():
    def network(x, t, label):
        return x * label[:, None]

    x, label = torch.ones(2, 2), torch.tensor([1.0, 3.0])
    v = as_velocity(network, CondOT(), predicts="data")
    torch.testing.assert_close(v(x, torch.tensor([0.5, 0.5]), label)[1], torch.full((2,), 4.0))

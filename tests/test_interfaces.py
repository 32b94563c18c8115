"""What a new country has to bring: a path, a noise, a condition, a loss or a projection, no more.

Each is made here, in a few lines, and trained with the unchanged `cfm_loss`, `minimise`, `sample`.
"""

import copy
import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fmtutor import MLP, CondOT, PathSample, align_time, cfm_loss, fit, log_prob, minimise, sample
from fmtutor.data import standard_normal
from fmtutor.metrics import energy_distance
from fmtutor.networks import TimeEmbedding

QUICK = {"steps": 300, "batch_size": 128, "lr": 5e-3, "ema": 0.9, "progress": False}


@dataclass(frozen=True)
class NoisyBridge:
    """A new path, with noise of its own in between: σ²t(1 − t)."""

    sigma: float

    def sample(self, x0, x1, t, *, generator=None):
        time = align_time(t, x1)
        width = self.sigma * (time * (1 - time)).sqrt()
        noise = torch.randn(x1.shape, generator=generator, dtype=x1.dtype)
        return PathSample(x0, x1, t, x0 + time * (x1 - x0) + width * noise, x1 - x0)


def test_a_new_path_trains_and_draws_its_noise_from_the_generator():
    path, data = NoisyBridge(0.3), 0.3 * standard_normal(2000, seed=0) + 2
    torch.manual_seed(0)
    model = fit(MLP(width=32), data, path=path, **QUICK, seed=0).model
    made = sample(model, standard_normal(1000, seed=1), steps=20)
    assert made.mean().item() == pytest.approx(2, abs=0.15)

    def loss(seed):
        g = torch.Generator().manual_seed(seed)
        return cfm_loss(lambda x, t: x, data[:8], path=path, generator=g).item()

    assert loss(0) == loss(0) != loss(1)


def test_two_runs_of_a_path_that_draws_are_equal():
    data, start = standard_normal(100, seed=0), MLP(width=8)
    short = QUICK | {"steps": 5, "path": NoisyBridge(1.0)}
    first, second, other = (
        fit(copy.deepcopy(start), data, **short, seed=seed).losses for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def uniform(x1, generator=None):
    """A new noise: uniform on a square of side two."""
    return 2 * torch.rand(x1.shape, generator=generator, dtype=x1.dtype) - 1


def test_a_new_noise_and_its_density():
    data = 0.5 * uniform(torch.empty(4000, 2), torch.Generator().manual_seed(0)) + 1
    torch.manual_seed(0)
    model = fit(MLP(width=32), data, noise=uniform, **QUICK, seed=0).model
    made = sample(model, uniform(data[:1000], torch.Generator().manual_seed(1)), steps=20)
    assert energy_distance(made, data).item() < 0.15
    assert energy_distance(standard_normal(1000, seed=1), data).item() > 1

    def base(x):  # smooth enough for a check: the middle of the square
        return torch.where(x.abs().amax(1) <= 1.1, -math.log(4), -math.inf)

    middle = torch.full((1, 2), 1.0)
    assert log_prob(model, middle, base=base).item() == pytest.approx(0, abs=0.5)


class Steered(nn.Module):
    """A network with a condition of two numbers."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
        self.out = nn.Linear(64, 2)

    def forward(self, x, t, where):
        return self.out(self.net(torch.cat([x, t[:, None], where], dim=1)))


def test_a_float_condition():
    g = torch.Generator().manual_seed(0)
    where = 4 * torch.rand(3000, 2, generator=g) - 2
    data = where + 0.1 * torch.randn(where.shape, generator=g)
    torch.manual_seed(0)
    model = minimise(Steered(), data, cfm_loss_of_cond, cond=where, **QUICK, seed=0).model
    asked = torch.tensor([[1.5, -1.0]]).expand(500, 2)
    x0 = standard_normal(500, seed=1)
    made = sample(model, x0, cond=asked, steps=20, batch_size=128)
    torch.testing.assert_close(made.mean(0), asked[0], atol=0.2, rtol=0)
    torch.testing.assert_close(made, sample(model, x0, cond=(asked,), steps=20))


def cfm_loss_of_cond(v, x1, *cond, generator=None):
    return cfm_loss(v, x1, cond=cond, generator=generator)


MASK = 5


@dataclass(frozen=True)
class Masked:
    """A path of tokens: each is known with probability t, else masked; its target is the data."""

    def sample(self, x0, x1, t, *, generator=None):
        known = torch.rand(x1.shape, generator=generator) < t[:, None]
        return PathSample(x0, x1, t, torch.where(known, x1, x0), x1)


class Tokens(nn.Module):
    """Logits of two tokens, given both and the time."""

    def __init__(self):
        super().__init__()
        self.embedding, self.time = nn.Embedding(MASK + 1, 16), TimeEmbedding(8)
        self.net = nn.Sequential(nn.Linear(40, 64), nn.SiLU(), nn.Linear(64, 2 * MASK))

    def forward(self, x, t):
        features = torch.cat([self.embedding(x).flatten(1), self.time(t)], dim=1)
        return self.net(features).unflatten(1, (2, MASK))


def test_a_token_loss():
    first = torch.randint(MASK, (2000,), generator=torch.Generator().manual_seed(0))
    data = torch.stack([first, (first + 1) % MASK], dim=1)  # the second token follows the first

    def loss(v, x1, *, generator=None):
        return cfm_loss(
            v,
            x1,
            path=Masked(),
            noise=lambda x1, g: torch.full_like(x1, MASK),
            distance=lambda logits, target: F.cross_entropy(logits.mT, target),
            generator=generator,
        )

    torch.manual_seed(0)
    model = minimise(Tokens(), data, loss, **QUICK, seed=0).model
    half = torch.tensor([[k, MASK] for k in range(MASK)])
    guess = model(half, torch.full((MASK,), 0.5))[:, 1].argmax(1)
    assert guess.tolist() == [1, 2, 3, 4, 0]


def test_a_projection_keeps_samples_on_a_manifold():
    def on_circle(x):
        return x / x.norm(dim=1, keepdim=True)

    class Arc:
        """The arc between two points of the circle, at constant speed."""

        def sample(self, x0, x1, t, *, generator=None):
            a0, a1 = (torch.atan2(x[:, 1], x[:, 0]) for x in (x0, x1))
            turn = torch.remainder(a1 - a0 + math.pi, 2 * math.pi) - math.pi
            a = a0 + t * turn
            xt = torch.stack([a.cos(), a.sin()], dim=1)
            return PathSample(x0, x1, t, xt, turn[:, None] * torch.stack([-a.sin(), a.cos()], 1))

    def noise(x1, generator=None):
        return on_circle(torch.randn(x1.shape, generator=generator))

    data = on_circle(torch.tensor([1.0, 1.0]) + 0.2 * standard_normal(2000, seed=0))
    torch.manual_seed(0)
    model = fit(MLP(width=32), data, path=Arc(), noise=noise, **QUICK, seed=0).model
    x0 = noise(data[:500], torch.Generator().manual_seed(1))
    made = sample(model, x0, steps=20, project=on_circle, return_path=True)
    torch.testing.assert_close(made.norm(dim=2), torch.ones(21, 500))
    assert (sample(model, x0, steps=20).norm(dim=1) - 1).abs().max() > 1e-3
    assert (made[-1] * on_circle(data).mean(0)).sum(1).mean().item() > 0.8
    last = sample(model, x0, method="dopri5", project=on_circle)
    torch.testing.assert_close(last.norm(dim=1), torch.ones(500))


@pytest.mark.parametrize("target", ["x1", "x0"])
def test_another_target(target):
    data = torch.full((64, 2), 3.0)
    x0 = standard_normal(64, seed=0)
    seen = cfm_loss(
        lambda x, t: torch.zeros_like(x), data, x0=x0, t=0.5, target=lambda s: getattr(s, target)
    )
    torch.testing.assert_close(seen, {"x1": data, "x0": x0}[target].square().mean())


def test_the_paths_of_the_package_are_paths():
    x0, x1 = standard_normal(4, seed=0), standard_normal(4, seed=1)
    for path in (CondOT(), NoisyBridge(0.1)):
        s = path.sample(x0, x1, torch.full((4,), 0.5), generator=torch.Generator().manual_seed(0))
        assert isinstance(s, PathSample)

"""The fitting of pairs, round by round, towards the Schrödinger bridge."""

import pytest
import torch
from gaussian_ends import COV0, exact
from torch import nn

from fmtutor import MLP
from fmtutor.bridges import BridgeField, LineAndScore
from fmtutor.data import moons
from fmtutor.markovian_fitting import iterative_markovian_fitting
from fmtutor.paths import BridgePath, BrownianBridge


class Linear(nn.Module):
    """A field that is linear in the point, with coefficients that are polynomials in time."""

    def __init__(self, degree=4):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(degree + 1, 3, 4))

    def forward(self, x, t):
        powers = torch.stack([t**k for k in range(len(self.weight))], 1)
        inputs = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        return torch.einsum("bk,bi,kio->bo", powers, inputs, self.weight)


def test_the_fitting_of_pairs_approaches_the_schroedinger_bridge():
    best = exact(1.0)
    ends = [exact(1.0, 0 * COV0).sample_ends(20_000, seed=0)[k].float() for k in (0, 1)]
    errors, exact_ends = [], []
    for field, x0, x1 in iterative_markovian_fitting(
        Linear(), *ends, BrownianBridge(1.0), rounds=4, steps=200, lr=0.05, seed=0
    ):
        assert isinstance(field, BridgeField)
        cross = torch.cat([x0, x1], 1).double().T.cov()[:2, 2:]
        errors.append(float((cross - best.cross).norm() / best.cross.norm()))
        exact_ends.append((x0 is ends[0], x1 is ends[1]))
    assert exact_ends == [(True, False), (False, True)] * 2
    assert 0.08 < errors[0] < 0.25
    assert errors[-1] < 0.08


def test_bad_samples_are_refused():
    model, path = LineAndScore(MLP(), MLP()), BrownianBridge(1.0)
    with pytest.raises(ValueError, match="x1 and x0 must have one shape"):
        next(iterative_markovian_fitting(model, moons(5, seed=0), moons(4, seed=0), path))
    x = moons(5, seed=0)
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        next(iterative_markovian_fitting(model, x, x, path, rounds=0))


def test_what_it_cannot_fit_is_refused_at_once():
    x = torch.zeros(4, 2)
    network = LineAndScore(MLP(), MLP())
    for arguments, error in (
        ((x, x + float("nan"), BrownianBridge(1.0)), ValueError),
        ((x, x, BridgePath(0.3)), TypeError),
    ):
        with pytest.raises(error):
            iterative_markovian_fitting(network, *arguments)
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        iterative_markovian_fitting(network, x, x, BrownianBridge(1.0), rounds=0)

"""A second time for the book's networks: what it changes, and what it leaves."""

import pytest
import torch

from fmtutor import MLP
from fmtutor.networks import Transformer, TransformerConfig, TwoTimes, UNet, UNetConfig

NETWORKS = {
    "mlp": (lambda: MLP(3, width=8, depth=2, classes=4), (3,)),
    "unet": (
        lambda: UNet(UNetConfig(size=8, classes=4, width=8, mults=(1, 2), attention=(4,), heads=2)),
        (1, 8, 8),
    ),
}
each = pytest.mark.parametrize("name", NETWORKS)


def made(name, spread=True):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    u = TwoTimes(make())
    if spread:  # last layers start at zero
        for p in u.parameters():
            torch.nn.init.normal_(p, std=0.2)
    return u.eval(), torch.randn(5, *shape, generator=torch.Generator().manual_seed(1))


@each
def test_at_first_it_is_the_network_that_it_was_given(name):
    u, x = made(name, spread=False)
    for p in u.network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    s, label = torch.rand(5), torch.tensor([0, 1, 2, 3, 4])
    for t in (s, torch.ones(5)):
        torch.testing.assert_close(u(x, s, t, label), u.network(x, s, label))


@each
def test_it_sees_both_times_and_the_label(name):
    u, x = made(name)
    s, t = torch.full((5,), 0.2), torch.full((5,), 0.7)
    label = torch.zeros(5, dtype=torch.int64)
    base = u(x, s, t, label)
    assert base.shape == x.shape
    for other in (u(x, s + 0.1, t + 0.1, label), u(x, s, t + 0.1, label), u(x, s, t, label + 1)):
        assert (other - base).abs().max() > 1e-4
    # Each row has times of its own, and a number is one for all.
    mixed = u(x, torch.tensor([0.2, 0, 0, 0, 0.2]), torch.tensor([0.7, 1, 1, 1, 0.7]), label)
    torch.testing.assert_close(mixed[[0, 4]], base[[0, 4]])
    torch.testing.assert_close(u(x, 0.2, 0.7, label), base)
    torch.testing.assert_close(u(x, s, t), u(x, s, t, torch.full((5,), 4)))  # the null label


def test_what_it_is_told_of_the_second_time_is_the_span():
    u, x = made("mlp")
    told = []
    u.network.forward = lambda x, s, label=None, *, also: told.append((s[0].item(), also)) or x
    for s, t in ((0.25, 0.5), (0.5, 0.75), (0.25, 0.75)):
        u(x, s, t)
    assert [s for s, _ in told] == [0.25, 0.5, 0.25]
    torch.testing.assert_close(told[0][1], told[1][1])
    assert (told[0][1] - told[2][1]).abs().max() > 1e-3


@each
def test_all_weights_learn(name):
    u, x = made(name)
    u(x, 0.1, 0.8, torch.arange(5) % 4).square().sum().backward()
    unused = [k for k, p in u.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # GroupNorm of one channel a group makes what it adds before it vanish: none of these is there.
    assert unused == []


def test_it_can_be_saved_and_loaded():
    u, x = made("mlp")
    torch.manual_seed(5)
    again = TwoTimes(NETWORKS["mlp"][0]())
    again.load_state_dict(u.state_dict())
    torch.testing.assert_close(again(x, 0.0, 1.0), u(x, 0.0, 1.0))


def test_other_networks_are_refused():
    for other in (torch.nn.Linear(2, 2), Transformer(TransformerConfig(size=8))):
        name = type(other).__name__
        with pytest.raises(TypeError, match=f"an MLP, an ObservingMLP or a UNet, but {name} came"):
            TwoTimes(other)
    with pytest.raises(ValueError, match="without classes"):
        TwoTimes(MLP())(torch.zeros(1, 2), 0.0, 1.0, 3)

"""The divergence of the network in closed form: against automatic differentiation, and refused."""

import pytest
import torch

from fmtutor.continuity import divergence
from fmtutor.networks import MLP
from fmtutor.networks.mlp_divergence import is_changed, is_plain, mlp_with_divergence


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("classes", [0, 3])
def test_divergence_in_closed_form_is_that_of_automatic_differentiation(depth, dim, classes):
    torch.manual_seed(depth)
    model = MLP(dim, 16, depth, classes=classes).double()
    x = torch.randn(600, dim, dtype=torch.float64)  # more points than one group holds
    for t in (torch.rand(600, dtype=torch.float64), 0.3):
        velocity, found = model.with_divergence()(x, t)
        torch.testing.assert_close(velocity, model(x, t), atol=1e-14, rtol=0)
        torch.testing.assert_close(found, divergence(model, x, t), atol=1e-14, rtol=0)
        assert found.abs().median() > 1e-5
        assert not velocity.requires_grad
        assert not found.requires_grad


def test_divergence_in_closed_form_is_of_the_weights_at_the_call():
    model, x = MLP(2, 8, 3).double(), torch.randn(4, 2, dtype=torch.float64)
    before = model.with_divergence()(x, 0.5)[1]
    with torch.no_grad():
        model.layers[0].weight.mul_(2)
    after = model.with_divergence()(x, 0.5)[1]
    assert (before - after).abs().min() > 0
    torch.testing.assert_close(after, divergence(model, x, 0.5))


def test_divergence_in_closed_form_refuses_what_the_network_refuses():
    with pytest.raises(ValueError, match=r"x must have shape \[b 2\], but \[4, 3\] came"):
        MLP(2).with_divergence()(torch.randn(4, 3), 0.5)


def test_layers_are_plain_only_as_they_were_built():
    linear, silu = torch.nn.Linear, torch.nn.SiLU
    plain = [linear(3, 4), silu(), linear(4, 4), silu(), linear(4, 2)]
    assert is_plain(torch.nn.Sequential(*plain))
    assert is_plain(torch.nn.Sequential(*plain[:2], linear(4, 2)))
    for other in (
        [*plain, silu()],
        plain[:4],
        plain[1:],
        [*plain[:1], torch.nn.Tanh(), *plain[2:]],
        [*plain[:2], torch.nn.LayerNorm(4), *plain[2:]],
        [torch.nn.LazyLinear(4), *plain[1:]],
    ):
        assert not is_plain(torch.nn.Sequential(*other))


@pytest.mark.parametrize("where", [None, 0, 1, 2])
def test_a_hook_or_another_forward_makes_a_change(where):
    def layers():
        made = MLP(2, 4, 1).layers
        return made, made if where is None else made[where]

    whole, part = layers()
    assert is_plain(whole)
    assert not is_changed(part)
    for change in (
        lambda part: part.register_forward_hook(lambda module, args, output: output),
        lambda part: part.register_forward_pre_hook(lambda module, args: args),
        lambda part: setattr(part, "forward", lambda x: x),
    ):
        whole, part = layers()
        change(part)
        assert is_changed(part)
        assert not is_plain(whole)


@pytest.mark.parametrize(
    "register",
    [
        torch.nn.modules.module.register_module_forward_hook,
        torch.nn.modules.module.register_module_forward_pre_hook,
    ],
)
def test_a_hook_on_every_module_makes_a_change(register):
    layers = MLP(2, 4, 1).layers
    handle = register(lambda *arguments: None)
    try:
        assert not is_plain(layers)
    finally:
        handle.remove()
    assert is_plain(layers)


@pytest.mark.parametrize("b", [1, 511, 512, 513, 1100])
def test_points_in_groups_are_as_one(b):
    torch.manual_seed(0)
    model = MLP(6, 16, 3).double()
    x, t = torch.randn(b, 6, dtype=torch.float64), torch.rand(b, dtype=torch.float64)
    value, trace = model.with_divergence()(x, t)
    torch.testing.assert_close(value, model(x, t))
    torch.testing.assert_close(trace, divergence(model, x, t), rtol=1e-9, atol=1e-10)


def test_nothing_is_recorded():
    model = MLP(2, 8, 2)
    context = torch.zeros(1, 16, requires_grad=True)
    value, trace = mlp_with_divergence(model.layers, 2)(torch.zeros(3, 2), context)
    assert not value.requires_grad
    assert not trace.requires_grad


@pytest.mark.parametrize("made", ["inside", "outside"])
def test_autocast_does_not_touch_it(made):
    torch.manual_seed(0)
    layers, x, context = MLP(2, 16, 3).layers, torch.randn(5, 2), torch.randn(1, 16)
    exact = mlp_with_divergence(layers, 2)
    expected = exact(x, context)
    with torch.autocast("cpu", torch.bfloat16):
        found = (exact if made == "outside" else mlp_with_divergence(layers, 2))(x, context)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_a_device_without_autocast_will_do(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: asked.append(kind))
    monkeypatch.setattr(torch, "autocast", pytest.fail)
    value, trace = mlp_with_divergence(MLP(2, 8, 2).layers, 2)(
        torch.zeros(3, 2), torch.zeros(1, 16)
    )
    assert (value.shape, trace.shape) == ((3, 2), (3,))
    assert set(asked) == {"cpu"}

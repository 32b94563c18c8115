"""The features of time."""

import copy
import math

import pytest
import torch
from torch import nn

from fmtutor.networks import MLP, TimeEmbedding, UNet, UNetConfig


def test_the_features_are_cosines_and_sines_of_rising_frequencies():
    t = torch.tensor([0.0, 0.25, 1.0])
    features = TimeEmbedding(6, max_frequency=2.0)(t)
    frequencies = torch.tensor([0.5, 1.0, 2.0])
    angle = 2 * math.pi * t[:, None] * frequencies
    torch.testing.assert_close(features, torch.cat([angle.cos(), angle.sin()], 1))
    assert TimeEmbedding(4).frequencies.tolist() == [0.5, 8.0]
    assert TimeEmbedding(2).frequencies.tolist() == [0.5]


@pytest.mark.parametrize("dim", [0, -2, 3])
def test_an_odd_number_of_features_is_refused(dim):
    with pytest.raises(ValueError, match=f"positive even number, but {dim} came"):
        TimeEmbedding(dim)


NETWORKS = {
    "mlp": lambda: MLP(2, 16, 2),
    "unet": lambda: UNet(UNetConfig(size=4, width=8, mults=(1,), attention=())),
    "embedding alone": lambda: nn.Sequential(TimeEmbedding(8), nn.Linear(8, 2)),
}


def frequencies(model):
    return next(m for m in model.modules() if isinstance(m, TimeEmbedding)).frequencies


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("assign", [False, True])
def test_a_network_that_was_made_without_memory_gets_all_of_it(make, assign):
    source = make()
    with torch.device("meta"):
        model = make()
    if not assign:
        model.to_empty(device="cpu")
        frequencies(model).fill_(7.0)  # what was in the memory
    assert not any("frequencies" in name for name in source.state_dict())  # as in old files
    model.load_state_dict(source.state_dict(), assign=assign)
    assert torch.equal(frequencies(model), frequencies(source))
    assert dict(model.named_buffers()).keys() == dict(source.named_buffers()).keys()


def test_loading_keeps_dtype_and_buffer():
    source, model = (TimeEmbedding(8).double() for _ in range(2))
    before = model.frequencies
    before.zero_()
    nn.Sequential(model).load_state_dict(nn.Sequential(source).state_dict())
    assert model.frequencies is before
    torch.testing.assert_close(before, source.frequencies)
    assert copy.deepcopy(model).frequencies.dtype == torch.float64


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_what_has_no_memory_gets_none_unless_it_is_given():
    make = NETWORKS["embedding alone"]
    with torch.device("meta"):
        model = make()
    model.load_state_dict(make().state_dict())
    assert frequencies(model).is_meta


def test_loading_while_another_device_is_the_default_one():
    source, model = NETWORKS["mlp"](), NETWORKS["mlp"]()
    frequencies(model).zero_()
    with torch.device("meta"):
        model.load_state_dict(source.state_dict())
    assert torch.equal(frequencies(model), frequencies(source))

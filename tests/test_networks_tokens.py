"""The transformer for tokens: its start, what it sees, what it learns, what it refuses."""

import pytest
import torch

from fmtutor import cfm_loss, minimise
from fmtutor.finite_law import FiniteLaw
from fmtutor.jumps import bits_bound, cross_entropy, only_masked
from fmtutor.networks.tokens import TokenTransformer, TokenTransformerConfig
from fmtutor.networks.transformer import _turned
from fmtutor.paths import MixturePath

CONFIG = TokenTransformerConfig(4, 3, width=16, depth=2, heads=2)
X = torch.tensor([[0, 1, 4], [3, 4, 4]])


def made(**change):
    torch.manual_seed(0)
    net = TokenTransformer(TokenTransformerConfig(**{**vars(CONFIG), **change}))
    with torch.no_grad():
        for w in net.parameters():
            w.normal_(0, 0.3)
    return net


def test_it_begins_with_all_tokens_alike():
    logits = TokenTransformer(CONFIG)(X, 0.5)
    assert logits.shape == (2, 3, 4)
    assert logits.abs().max() == 0


def test_all_that_matters_learns_from_the_second_step_on():
    net = TokenTransformer(CONFIG)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        cross_entropy(net(X, 0.5), torch.tensor([[0, 1, 2], [3, 3, 1]])).backward()
        optimizer.step()
    still = {n for n, w in net.named_parameters() if w.grad is None or w.grad.abs().max() == 0}
    # Nothing modulates: the embedding is 0, so that the weights that take it have no gradient.
    assert still == {f"blocks.{k}.modulation.weight" for k in range(2)} | {"constant"}


def test_the_time_is_seen_where_it_is_wanted():
    for timed in (False, True):
        net = made(timed=timed)
        assert torch.equal(net(X, 0.1), net(X, 0.9)) != timed


def test_each_place_sees_all_others_and_its_own():
    net = made()
    first = net(X, 0.5)
    for place in range(3):
        other = X.clone()
        other[:, place] = 2
        assert ((net(other, 0.5) - first).abs().amax((0, 2)) > 1e-4).all()


def test_places_are_told_apart():
    net = made()
    order = torch.tensor([2, 0, 1])
    assert (net(X[:, order], 0.5) - net(X, 0.5)[:, order]).abs().max() > 1e-3


def test_at_first_how_alike_two_places_are_says_how_far_apart_they_stand():
    place = TokenTransformer(TokenTransformerConfig(4, 40, width=64)).place.detach()
    alike = place @ place.T / 32
    for apart in range(40):
        of_all = alike.diagonal(apart)
        assert of_all.max() - of_all.min() < 1e-4, "it depends on the distance alone"
    by_distance = alike[0]
    assert abs(by_distance[0] - 1) < 1e-4, "as large as tokens are"
    assert by_distance[1:].max() < 0.7
    assert by_distance[1] > 0.55 > by_distance[4] > 0.3 > by_distance[16] > 0.15
    assert by_distance[20:].abs().max() < 0.2


def test_places_for_an_odd_width():
    place = TokenTransformer(TokenTransformerConfig(4, 3, width=5, heads=1)).place
    assert place.shape == (3, 5)
    assert place.requires_grad


def test_turned_queries_and_keys_meet_by_their_distance():
    torch.manual_seed(0)
    q, k = torch.randn(2, 8, dtype=torch.float64).expand(40, 2, 8).unbind(1)
    met = _turned(q) @ _turned(k).mT
    for apart in range(-39, 40):
        of_all = met.diagonal(apart)
        torch.testing.assert_close(of_all, of_all[:1].expand_as(of_all), atol=1e-5, rtol=0)
    assert met[0].std() > 0.3, "near is not far"
    assert abs(met[0, 9] - met[9, 0]) > 0.3, "before is not behind"
    torch.testing.assert_close(_turned(q).norm(dim=1), q.norm(dim=1), atol=1e-6, rtol=0)
    assert _turned(q.bfloat16()).dtype == torch.bfloat16


def test_a_rotary_network_knows_distances_and_no_places():
    net = made(rotary=True)
    assert "place" not in {name for name, _ in net.named_parameters()}
    alike = net(torch.full((1, 3), 4), 0.5)
    torch.testing.assert_close(alike, alike[:, :1].expand_as(alike))
    order = torch.tensor([2, 1, 0])
    assert (net(X[:, order], 0.5) - net(X, 0.5)[:, order]).abs().max() > 1e-3
    assert isinstance(made().place, torch.nn.Parameter)


def test_a_causal_network_reads_from_left_to_right():
    both, back = made(), made(causal=True)
    other = X.clone()
    other[:, 2] = (other[:, 2] + 1) % 4
    off = (back(other, 0.5) - back(X, 0.5)).abs().amax((0, 2))
    assert off[:2].max() == 0 < off[2], "what stands behind must not be seen, the place itself must"
    assert ((both(other, 0.5) - both(X, 0.5)).abs().amax((0, 2)) > 1e-4).all()
    other = X.clone()
    other[:, 0] = (other[:, 0] + 1) % 4
    assert ((back(other, 0.5) - back(X, 0.5)).abs().amax((0, 2)) > 1e-4).all()


def test_labels_matter_and_none_is_the_null_label():
    net = made(classes=5)
    assert torch.equal(net(X, 0.5), net(X, 0.5, 5))
    assert not torch.allclose(net(X, 0.5, 1), net(X, 0.5, 2))
    both = net(X, 0.5, torch.tensor([1, 2]))
    torch.testing.assert_close(both[:1], net(X, 0.5, 1)[:1])


def test_it_learns_a_law():
    g = torch.Generator().manual_seed(0)
    law = FiniteLaw(torch.rand(4, 4, 4, generator=g, dtype=torch.float64) ** 4)
    path, x1 = MixturePath(4), law.sample(8000, generator=g)

    def loss(model, x1, generator):
        return cfm_loss(
            model,
            x1,
            path=path,
            noise=path.noise,
            distance=cross_entropy,
            target=only_masked(path),
            generator=generator,
        )

    torch.manual_seed(0)
    net = minimise(
        TokenTransformer(CONFIG), x1, loss, steps=300, batch_size=256, lr=5e-3, seed=0,
        progress=False,
    ).model  # fmt: skip
    other = law.sample(4000, generator=g)
    bits = bits_bound(net, other, path, draws=4, seed=0).mean()
    entropy = -law.table[tuple(other.T)].log2().mean()
    assert 0.97 < bits / entropy < 1.12, "knowing nothing it would be 1.24"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 1}, "at least 2 tokens"),
        ({"length": 0}, "sizes of at least 1"),
        ({"depth": 0}, "sizes of at least 1"),
        ({"classes": -1}, "sizes of at least 1"),
        ({"heads": 3}, "width must be a multiple of heads"),
        ({"width": 6, "rotary": True}, "heads of a rotary network must have an even width"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TokenTransformerConfig(**{**vars(CONFIG), **change})


def test_bad_input_is_refused():
    net = TokenTransformer(CONFIG)
    with pytest.raises(TypeError, match="x must be tokens of dtype int64"):
        net(X.float(), 0.5)
    with pytest.raises(ValueError, match=r"x must hold tokens 0, \.\.\., 4, but 5 came"):
        net(X * 0 + 5, 0.5)
    with pytest.raises(ValueError, match=r"x must have shape \[b, 3\], but \[2, 2\] came"):
        net(X[:, :2], 0.5)
    with pytest.raises(ValueError, match="a label came to a network without"):
        net(X, 0.5, 1)

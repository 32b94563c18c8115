"""Critics: expectiles in closed form, Bellman's fixed point, weights, and what is refused."""

import copy
import math

import pytest
import torch
from torch import nn

from fmtutor.policies.critics import (
    Critic,
    Transitions,
    actor_loss,
    advantage_weights,
    bellman_target,
    expectile_loss,
    iql_loss,
    transitions_of,
)
from fmtutor.training import update_ema

F64 = torch.float64


# Expectiles.


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_the_minimiser_is_the_expectile_of_two_points(share):
    """Of 0 with weight 1 − p and 1 with weight p it is share p/(share p + (1 − share)(1 − p))."""
    y = torch.tensor([1.0] * 3 + [0.0] * 7, dtype=F64)
    expected = share * 0.3 / (share * 0.3 + (1 - share) * 0.7)
    m = torch.tensor(expected, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(expectile_loss(y - m, share), m)
    assert abs(slope) < 1e-15
    beside = [expectile_loss(y - expected - h, share) for h in (-1e-3, 1e-3)]
    assert min(beside) > expectile_loss(y - expected, share)


def test_half_of_the_share_is_half_the_mean_square():
    error = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    torch.testing.assert_close(expectile_loss(error, 0.5), 0.5 * error.square().mean())


def test_what_lies_above_weighs_the_share():
    assert expectile_loss(torch.tensor([2.0]), 0.9).item() == pytest.approx(3.6)
    assert expectile_loss(torch.tensor([-2.0]), 0.9).item() == pytest.approx(0.4)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, math.nan])
def test_a_share_outside_is_refused(share):
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\)"):
        expectile_loss(torch.ones(3), share)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_errors_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="error must be finite, but 1 of 2"):
        expectile_loss(torch.tensor([1.0, bad]), 0.9)


# Transitions.


def at_five(states):
    return states[:, 0] == 5


def test_transitions_begin_at_every_state_and_gain_where_they_come_to_the_goal():
    line = torch.arange(10.0, dtype=F64)
    states = torch.stack([line, -line, 0 * line + 1, 0 * line + 2], dim=1)
    found = transitions_of([states, states + 1], 3, at_five)
    assert found.observations.equal(torch.cat([states[:7], states[:7] + 1]))
    assert found.after.equal(torch.cat([states[3:], states[3:] + 1]))
    assert found.chunks.equal(torch.tensor([[1, -1, 2, -2, 3, -3]], dtype=F64).expand(14, 6))
    gains = [0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0]  # from 5 itself nothing comes to it
    assert found.rewards.equal(torch.tensor(gains, dtype=F64))
    assert found.ended.equal(torch.tensor(gains) == 1)


def test_transitions_stay_within_their_episodes():
    states = torch.zeros(9, 4)
    assert len(transitions_of([states, states[:5]], 4, at_five).rewards) == 5 + 1
    with pytest.raises(ValueError, match="episode 1 must be states"):
        transitions_of([states, states[:4]], 4, at_five)


# The chain 0, 1, 2: a chunk goes on or stays; to go on from 2 gains 1 and ends.

DISCOUNT = 0.8


def chain(states=(0, 0, 1, 1, 2, 2)):
    """Observations are one-hot; the chunk is 1 to go on and −1 to stay, as often each."""
    s = torch.tensor(states)
    goes = torch.tensor([1.0, -1.0], dtype=F64).repeat(3)[: len(s)]
    ended = (s == 2) & (goes > 0)
    after = torch.where(goes > 0, s + 1, s).clamp(max=2)
    eye = torch.eye(3, dtype=F64)
    return Transitions(eye[s], goes[:, None], ended.double(), eye[after], ended)


class Table(Critic):
    """A critic with an entry for each state and chunk in place of its networks."""

    def __init__(self):
        super().__init__(3, 1, width=1, depth=1)
        self.q, self.v = nn.ModuleList(), nn.ParameterList([torch.zeros(3, dtype=F64)])
        self.table = nn.Parameter(torch.zeros(2, 3, 2, dtype=F64))

    def forward(self, observation, chunk):
        return self.table[:, observation.argmax(1), (chunk[:, 0] < 0).long()]

    def value(self, observation):
        return observation @ self.v[0]


def solved(share, steps=400, lr=1.0):
    critic = Table()
    target = copy.deepcopy(critic).requires_grad_(False)
    optimizer = torch.optim.SGD(critic.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        iql_loss(critic, target, chain(), discount=DISCOUNT, share=share).backward()
        optimizer.step()
        update_ema(target, critic, 0.5)
    return critic


def expectile_of(high, low, share):
    return share * high + (1 - share) * low  # of two values of weight one half each


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_iql_comes_to_the_fixed_point_of_the_chain(share):
    """V(2) = a + b γ V(2), V(s) = a γ V(s+1) + b γ V(s), with a the share and b the rest."""
    a, b = share, 1 - share
    last = a / (1 - b * DISCOUNT)
    values = [last * (a * DISCOUNT / (1 - b * DISCOUNT)) ** k for k in (2, 1, 0)]
    critic = solved(share)
    torch.testing.assert_close(critic.v[0].data, torch.tensor(values, dtype=F64))
    goes = torch.tensor([DISCOUNT * values[1], DISCOUNT * values[2], 1.0], dtype=F64)
    stays = DISCOUNT * torch.tensor(values, dtype=F64)
    wanted = torch.stack([goes, stays], dim=1).expand(2, 3, 2)
    torch.testing.assert_close(critic.table.data, wanted)


def test_towards_a_share_of_one_the_values_are_the_best():
    best = torch.tensor([DISCOUNT**2, DISCOUNT, 1.0], dtype=F64)
    torch.testing.assert_close(solved(0.999).v[0].data, best, atol=5e-3, rtol=0)


def test_v_learns_from_the_smaller_q_and_moves_none():
    critic, target = Table(), Table()
    with torch.no_grad():
        target.table[0], target.table[1] = 3.0, 1.0
        critic.v[0].fill_(1.0)
    only = chain()._replace(rewards=torch.full((6,), -DISCOUNT, dtype=F64),
                            ended=torch.zeros(6, dtype=torch.bool))  # fmt: skip
    loss = iql_loss(critic, target, only, discount=DISCOUNT, share=0.9)
    assert loss.item() == 0  # V is the smaller Q, and −γ + γ V is the critic's own Q, 0
    loss.backward()
    assert target.table.grad is None
    assert target.v[0].grad is None


def test_iql_adds_the_squares_of_both_qs():
    critic = Table()
    loss = iql_loss(critic, critic, chain(), discount=DISCOUNT, share=0.9)
    assert loss.item() == pytest.approx(2 / 6)  # one of six gains 1 where either Q says 0


def test_nothing_follows_an_end():
    r, ended = torch.tensor([0.5, 0.5]), torch.tensor([False, True])
    found = bellman_target(r, torch.tensor([2.0, math.inf]), ended, 0.25)
    assert found.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_rewards_that_are_not_finite_are_refused(bad):
    batch = chain()._replace(rewards=torch.tensor([bad, 0, 0, 0, 0, 1], dtype=F64))
    with pytest.raises(ValueError, match="reward must be finite, but 1 of 6"):
        iql_loss(Table(), Table(), batch, discount=DISCOUNT, share=0.9)


def test_targets_of_other_shapes_are_refused():
    r, ended = torch.zeros(3), torch.zeros(3, dtype=torch.bool)
    with pytest.raises(ValueError, match="following and reward must have one shape"):
        bellman_target(r, torch.zeros(3, 1), ended, 0.9)
    with pytest.raises(ValueError, match=r"ended .* must have one shape"):
        bellman_target(r, r, ended[:2], 0.9)
    with pytest.raises(TypeError, match=r"ended is torch\.float32"):
        bellman_target(r, r, r, 0.9)


@pytest.mark.parametrize("discount", [-0.1, 1.1, math.nan])
def test_a_discount_outside_is_refused(discount):
    r, ended = torch.zeros(3), torch.zeros(3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"discount must lie in \[0, 1\]"):
        bellman_target(r, r, ended, discount)


def test_a_discount_may_be_none_or_all():
    one, ended = torch.ones(1), torch.zeros(1, dtype=torch.bool)
    assert [bellman_target(one, one, ended, d).item() for d in (0, 1)] == [1, 2]


# Networks.


def test_a_critic_has_two_qs_and_a_v_of_their_own():
    torch.manual_seed(0)
    critic = Critic(observed=4, dim=6, width=8, depth=2)
    seen, chunk = torch.randn(5, 4), torch.randn(5, 6)
    q = critic(seen, chunk)
    assert q.shape == (2, 5)
    assert not q[0].allclose(q[1])
    both = torch.cat([seen, chunk], dim=1)
    torch.testing.assert_close(q[1], critic.q[1](both).flatten())
    torch.testing.assert_close(critic.value(seen), critic.v(seen).flatten())


def test_the_usual_critic_is_three_layers_of_256():
    shapes = [tuple(w.shape) for w in Critic(4, 16).v.parameters() if w.ndim == 2]
    assert shapes == [(256, 4), (256, 256), (256, 256), (1, 256)]


def test_a_critic_refuses_other_widths():
    critic = Critic(observed=4, dim=6, width=8, depth=1)
    with pytest.raises(ValueError, match=r"observation must have shape \[b 4\], but \[5, 3\] came"):
        critic(torch.zeros(5, 3), torch.zeros(5, 6))
    with pytest.raises(ValueError, match=r"chunk must have shape \[b 6\], but \[5, 3, 2\] came"):
        critic(torch.zeros(5, 4), torch.zeros(5, 3, 2))
    with pytest.raises(ValueError, match=r"observation must have shape \[b 4\], but \[4\] came"):
        critic.value(torch.zeros(4))


# Weights.


def test_weights_are_exponential_and_of_mean_one():
    a = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=F64)
    w = advantage_weights(a, 0.5, largest=1e9)
    assert w.mean().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(w.log() - w[0].log(), (a - a[0]) / 0.5)


def test_weights_are_clipped_before_their_mean_is_one():
    w = advantage_weights(torch.tensor([0.0, 1.0, 50.0], dtype=F64), 0.25, largest=10.0)
    torch.testing.assert_close(w, torch.tensor([3, 30, 30], dtype=F64) / 21)
    usual = advantage_weights(torch.tensor([0.0, 50.0], dtype=F64), 0.25)
    torch.testing.assert_close(usual, torch.tensor([2, 200], dtype=F64) / 101)


def test_weights_of_very_small_exponentials_do_not_vanish():
    w = advantage_weights(torch.tensor([-1000.0, -1000.0 + math.log(3)]), 1.0)
    torch.testing.assert_close(w, torch.tensor([0.5, 1.5]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_advantages_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="advantage must be finite"):
        advantage_weights(torch.tensor([bad, 0.0]), 1.0)


def test_weights_refuse_other_shapes_and_bad_numbers():
    with pytest.raises(ValueError, match=r"advantage must have shape \[n\], but \[3, 1\] came"):
        advantage_weights(torch.zeros(3, 1), 1.0)
    for bad in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="tau must be positive"):
            advantage_weights(torch.zeros(3), bad)
        with pytest.raises(ValueError, match="largest must be positive"):
            advantage_weights(torch.zeros(3), 1.0, largest=bad)


# The policy of one step.


def test_the_actors_loss_in_numbers():
    q = torch.tensor([[1.0, -2.0], [3.0, -4.0]], dtype=F64)  # means 2 and −3
    chunk, cloned = torch.zeros(2, 3, dtype=F64), torch.full((2, 3), 2.0, dtype=F64)
    assert actor_loss(q, chunk, cloned, 0.5).item() == pytest.approx(0.5 / 2.5 + 0.5 * 4)


def test_the_actors_loss_is_of_the_rewards_size_only_by_the_clones():
    chunk = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))

    def slope(size):
        a = chunk.clone().requires_grad_(True)
        q = (size * (1 + a.sum(1).square())).expand(2, -1)
        return torch.autograd.grad(actor_loss(q, a, chunk, 1.0), a)[0]

    torch.testing.assert_close(slope(1.0), slope(100.0))
    assert slope(1.0).abs().max() > 0.01  # the divisor is held, or nothing would be left


def test_the_actors_loss_refuses_other_shapes():
    chunk = torch.zeros(5, 3)
    with pytest.raises(ValueError, match=r"q must have shape \[k 5\], but \[5\] came"):
        actor_loss(torch.zeros(5), chunk, chunk, 1.0)
    with pytest.raises(ValueError, match=r"q must have shape \[k 5\], but \[2, 4\] came"):
        actor_loss(torch.zeros(2, 4), chunk, chunk, 1.0)
    with pytest.raises(ValueError, match="cloned and chunk must have one shape"):
        actor_loss(torch.zeros(2, 5), chunk, chunk[:4], 1.0)
    with pytest.raises(ValueError, match="alpha must be finite and at least 0"):
        actor_loss(torch.zeros(2, 5), chunk, chunk, -1.0)
    assert actor_loss(torch.ones(2, 5), chunk, chunk, 0.0).item() == -1

"""Critics: what chunks are worth, learned from play without trying any, and what to do with that.

Chapter: policies
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fmtutor.checking import check_points, check_positive, check_same
from fmtutor.networks import layers_of
from fmtutor.policies.chunks import chunks_of

__all__ = [
    "Critic",
    "Transitions",
    "actor_loss",
    "advantage_weights",
    "bellman_target",
    "expectile_loss",
    "iql_loss",
    "transitions_of",
]


class Transitions(NamedTuple):
    """What was seen `[n o]`, done `[n d]`, gained `[n]` seen after `[n o]`, and what `ended`."""

    observations: Tensor
    chunks: Tensor
    rewards: Tensor
    after: Tensor
    ended: Tensor


def transitions_of(
    episodes: Sequence[Tensor], length: int, reached: Callable[[Tensor], Tensor]
) -> Transitions:
    """Cut episodes of states `[T 4]` into transitions by chunks of `length` positions.

    The reward is 1 where a chunk comes to a state that has `reached` the goal, which ends the
    episode, and 0 elsewhere. Bad episodes are refused as by `chunks_of`.

    Example:
        >>> walk = torch.arange(12.0).reshape(6, 2).repeat(1, 2)
        >>> transitions_of([walk], 2, lambda x: x[:, 0] >= 8).rewards
        tensor([0., 0., 1., 1.])
    """
    seen, chunks = chunks_of(episodes, length)
    near = [reached(e).unfold(0, length + 1, 1)[:, 1:].any(1) for e in episodes]
    ended, after = torch.cat(near), torch.cat([e[length:] for e in episodes])
    return Transitions(seen, chunks, ended.to(seen.dtype), after, ended)


class Critic(nn.Module):
    """Two networks Q(o, a), what a chunk is worth, and one V(o), what nearly the best of play is.

    An observation has `observed` numbers, a chunk `dim`; `width` and `depth` are for `layers_of`.

    Reference: kostrikov2022

    Example:
        >>> Critic(observed=4, dim=16)(torch.zeros(5, 4), torch.zeros(5, 16)).shape
        torch.Size([2, 5])
    """

    def __init__(self, observed: int, dim: int, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.observed, self.dim = observed, dim
        self.q = nn.ModuleList(layers_of(observed + dim, 1, width, depth) for _ in range(2))
        self.v = layers_of(observed, 1, width, depth)

    def forward(self, observation: Tensor, chunk: Tensor) -> Tensor:
        """Return both Q's, `[2 b]`, of chunks `[b d]` after observations `[b o]`."""
        _check_width("observation", observation, self.observed)
        _check_width("chunk", chunk, self.dim)
        both = torch.cat([observation, chunk], dim=1)
        return torch.stack([q(both)[:, 0] for q in self.q])

    def value(self, observation: Tensor) -> Tensor:
        """Return V, `[b]`, of observations `[b o]`."""
        _check_width("observation", observation, self.observed)
        return torch.squeeze(self.v(observation), 1)


def expectile_loss(error: Tensor, share: float) -> Tensor:
    """Return E[|share − 1(error < 0)| error²], 0-d: squares that weigh less below zero than above.

    Of errors y − m `[b ...]` the minimiser m is an expectile of y: its mean distance to what lies
    above, times the `share` in (0, 1), is that to what lies below, times the rest. A share of ½
    makes it the mean, and the loss half the mean square; towards 1 it goes to the largest y.

    Raises:
        ValueError: If the share is not in (0, 1), or an error is not finite.

    Equation: eq-policies-expectile
    Reference: kostrikov2022

    Example:
        >>> expectile_loss(torch.tensor([-1.0, 2.0]), 0.9)
        tensor(1.8500)
    """
    check_points(error, "error", finite=True)
    if not 0 < share < 1:
        raise ValueError(f"share must lie in (0, 1), but {share} came")
    square = error.square()
    return torch.where(error < 0, (1 - share) * square, share * square).mean()


def bellman_target(reward: Tensor, following: Tensor, ended: Tensor, discount: float) -> Tensor:
    """Return what a Q is to be: the `reward` plus γ times the value `following`, `[b]` each.

    Nothing follows where it has `ended`, `[b]`, bool. The `discount` γ is that of a whole chunk.

    Raises:
        ValueError: If a reward is not finite, the discount outside [0, 1], or a shape another.

    Example:
        >>> bellman_target(torch.ones(2), torch.ones(2), torch.tensor([False, True]), discount=0.8)
        tensor([1.8000, 1.0000])
    """
    check_points(reward, "reward", finite=True)
    check_same("following", following, "reward", reward)
    check_same("ended", ended, "reward < 0", reward < 0)
    if not 0 <= discount <= 1:
        raise ValueError(f"discount must lie in [0, 1], but {discount} came")
    return reward + discount * following.masked_fill(ended, 0.0)


def iql_loss(
    critic: Critic, target: Critic, batch: Transitions, *, discount: float, share: float
) -> Tensor:
    """Return the loss of a `critic`, 0-d: V is an expectile of Q, and Q the reward and the next V.

    No chunk is judged but those of the `batch`. V learns from the smaller Q of the `target`, an
    average that is held; `discount` and `share` are for `bellman_target` and `expectile_loss`.

    Raises:
        ValueError: If a reward is not finite, or a width or a shape is wrong.

    Equation: eq-policies-expectile
    Reference: kostrikov2022

    Example:
        >>> play = transitions_of([torch.rand(20, 4)], 8, lambda x: x[:, 0] > 0.9)
        >>> iql_loss(Critic(4, 16), Critic(4, 16), play, discount=0.9, share=0.9).ndim
        0
    """
    seen, chunk, reward, after, ended = batch
    with torch.no_grad():
        best = target(seen, chunk).amin(0)
        wanted = bellman_target(reward, critic.value(after), ended, discount)
    off: Tensor = (critic(seen, chunk) - wanted).square().mean(1).sum()
    return expectile_loss(best - critic.value(seen), share) + off


def advantage_weights(advantage: Tensor, tau: float, *, largest: float = 100.0) -> Tensor:
    """Return exp(A/τ), clipped at `largest` and then divided by its mean, `[n]`.

    Weights for `weighted_cfm_loss`, of an `advantage` A = Q − V `[n]`, at a temperature `tau` > 0.

    Raises:
        ValueError: If an advantage is not finite, or τ or the bound not positive.

    Equation: eq-policies-weighted
    Reference: kostrikov2022

    Example:
        >>> advantage_weights(torch.tensor([0.0, 1.0]), tau=1.0)
        tensor([0.5379, 1.4621])
    """
    check_points(advantage, "advantage", finite=True)
    check_positive("tau", tau)
    check_positive("largest", largest)
    if advantage.ndim != 1:
        raise ValueError(f"advantage must have shape [n], but {[*advantage.shape]} came")
    return (advantage / tau).clamp(max=math.log(largest)).softmax(0) * len(advantage)


def actor_loss(q: Tensor, chunk: Tensor, cloned: Tensor, alpha: float) -> Tensor:
    """Return −E Q/E|Q| + λ E‖a − a'‖²/d, 0-d: a policy of one step that stays beside a flow.

    Q is the mean of the `q` `[k b]` of its `chunk` a = μ(o, x0) `[b d]`, and `cloned` a' is where
    the flow goes from the same x0. E|Q|, which is held, makes `alpha`, which is λ, that of rewards
    of any size.

    Raises:
        ValueError: If a shape is wrong, or λ negative.

    Reference: park2025

    Example:
        >>> actor_loss(torch.ones(2, 5), torch.ones(5, 3), torch.zeros(5, 3), alpha=10.0)
        tensor(9.)
    """
    check_same("cloned", cloned, "chunk", chunk)
    check_positive("alpha", alpha, zero=True)
    if q.ndim != 2 or q.shape[1:] != chunk.shape[:1]:
        raise ValueError(f"q must have shape [k {len(chunk)}], but {[*q.shape]} came")
    worth = q.mean(0)
    return -worth.mean() / worth.detach().abs().mean() + alpha * (chunk - cloned).square().mean()


def _check_width(name: str, x: Tensor, width: int) -> None:
    check_points(x, name)
    if x.ndim != 2 or x.shape[1] != width:
        raise ValueError(f"{name} must have shape [b {width}], but {[*x.shape]} came")

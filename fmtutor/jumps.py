"""Sampling tokens: a chain that jumps, where points flow.

In a short step a token stays or is drawn anew, each by itself, from what the network believes that
the data's token is. From masks, that the tokens of a step do not see each other is the only error;
one at a time in a random order, they have none.

Chapter: discrete
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from fmtutor.checking import (
    as_generator,
    check_callable,
    check_cond,
    check_count,
    check_laws,
    check_points,
    check_tokens,
    readable,
)
from fmtutor.notation import Field, PathSample, conditioned
from fmtutor.paths import MixturePath
from fmtutor.solvers import time_grid

__all__ = [
    "bits_bound", "bits_loss", "bits_of_orders", "cross_entropy", "draw", "jump_kernel",
    "only_masked", "sample_in_random_order", "sample_tokens",
]  # fmt: skip

IGNORED = -100  # the target that torch's cross-entropy leaves out
METHODS = ("exact", "euler")


def cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean of −log p(target) over tokens, 0-d: a `Distance` for `cfm_loss`.

    Args:
        prediction: Logits `[b n tokens]`.
        target: Tokens `[b n]`; those that are −100 are left out, and without others it is 0.

    Raises:
        ValueError: If the shapes do not fit.

    Equation: eq-discrete-loss

    Example:
        >>> cross_entropy(torch.zeros(1, 2, 4), torch.tensor([[0, 3]]))
        tensor(1.3863)
    """
    if prediction.ndim < 2 or prediction.shape[:-1] != target.shape:
        raise ValueError(
            "logits must have the shape of the tokens and an axis for their values, "
            f"but {[*prediction.shape]} and {[*target.shape]} came"
        )
    total = torch.nn.functional.cross_entropy(
        prediction.flatten(0, -2), target.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    loss: Tensor = total / (target != IGNORED).sum().clamp(min=1)
    return loss


def only_masked(path: MixturePath) -> Callable[[PathSample], Tensor]:
    """Return the target that asks for the data's token where `path` has left a mask, a `Target`.

    Raises:
        ValueError: If the path has no mask.

    Example:
        >>> from fmtutor.paths import MixturePath
        >>> path, x1 = MixturePath(5), torch.tensor([[3, 1, 4]])
        >>> only_masked(path)(path.sample(path.noise(x1), x1, 0.0))
        tensor([[3, 1, 4]])
    """
    _check_masked(path)

    def target(s: PathSample) -> Tensor:
        return torch.where(s.xt == path.tokens, s.ut, IGNORED)

    return target


def draw(p: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw a token from each law `p` `[... k]`, by its distribution function in float64.

    In float32 rare tokens would be drawn too often or never.

    Raises:
        ValueError: If a law is not finite, has a negative probability, or none above 0.

    Example:
        >>> draw(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        tensor([1, 0])
    """
    check_points(p, "p", finite=True)
    if readable(p) and not bool(((p >= 0).all(-1) & (p.sum(-1) > 0)).all()):
        raise ValueError("p must hold probabilities, but some are negative or all of a law are 0")
    steps = p.double().cumsum(-1)
    u = torch.rand(p.shape[:-1], generator=generator, dtype=torch.float64, device=p.device)
    # Never beyond the last token that has a probability, wherever rounding has put the sum.
    u = (1 - u).unsqueeze(-1) * steps[..., -1:]  # in (0, total]
    found: Tensor = torch.searchsorted(steps, u).squeeze(-1)
    return found


def jump_kernel(
    path: MixturePath,
    x: Tensor,
    posterior: Tensor,
    t: float,
    s: float,
    *,
    method: str = "exact",
    renewal: float = 0.0,
) -> Tensor:
    """Return the law of each token after a step from t to s, `[b n states]`, float64.

    (1 − b) ((1 − a) δ_x + a p) + b ((1 − κ_s) p_0 + κ_s p) for a posterior p. The "exact" step has
    a = (κ_s − κ_t)/(1 − κ_t), b = 1 − exp(−η(s − t)), what the rates make of a posterior that stays
    as it is; "euler" has the rates times s − t, at most 1.

    Args:
        path: The path, on whose rates the tokens jump.
        x: Tokens `[b n]`.
        posterior: The law of the data's tokens, `[b n tokens]`.
        t: The time now.
        s: The time after the step.
        method: "exact" or "euler".
        renewal: The rate η at which a token is drawn anew.

    Raises:
        TypeError: If the path is no `MixturePath`, or tokens are not int64.
        ValueError: If there is no such method, tokens are out of range, shapes do not fit, or times
            do not rise.

    Equation: eq-discrete-step
    """
    _check_path(path)
    check_tokens(x, path.states, "x")
    check_laws("posterior", posterior, x, path.tokens)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, but {method!r} came")
    if not 0 <= t < s <= 1:
        raise ValueError(f"times must rise within [0, 1], but a step from {t} to {s} came")
    if not 0 <= renewal < math.inf:
        raise ValueError(f"renewal must be at least 0 and finite, but {renewal} came")
    ends = torch.tensor([t, s], dtype=torch.float64)
    now, then = path.schedule.kappa(ends).tolist()
    if method == "exact":
        a, b = (then - now) / (1 - now), -math.expm1(-renewal * (s - t))
    else:
        pace = path.schedule.d_kappa(ends[0]).item() / (1 - now)  # may be infinite at 0
        a, b = min(1.0, pace * (s - t)), min(1.0, renewal * (s - t))
    p = torch.nn.functional.pad(posterior.double(), (0, path.states - path.tokens))
    here = torch.nn.functional.one_hot(x, path.states).to(p)
    anew = (1 - then) * path.source().to(p.device) + then * p
    kernel: Tensor = (1 - b) * ((1 - a) * here + a * p) + b * anew
    return kernel


@torch.no_grad()
def sample_tokens(
    logits: Field,
    x0: Tensor,
    path: MixturePath,
    *,
    cond: Tensor | Sequence[Tensor] = (),
    steps: int | None = None,
    times: Tensor | Sequence[float] | None = None,
    method: str = "exact",
    renewal: float = 0.0,
    fixed: Tensor | None = None,
    return_path: bool = False,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Follow the chain from time 0 to 1: from the source's tokens to the data's.

    Args:
        logits: The network, called as `logits(x, t, *cond)`, `[b n]` to `[b n tokens]`; or two of
            them, `guided`: the law of each token is then p_cond^w p_uncond^(1 − w), scaled.
        x0: Tokens `[b n]` at the first time, as `path.noise` draws them.
        path: The path of the training.
        cond: Conditions, tensors `[b ...]`, or a single one.
        steps: Number of equal steps, 100 if not given.
        times: The times themselves, `[k]`, rising to 1, instead of `steps`.
        method: How a step jumps, as `jump_kernel` says.
        renewal: The rate η at which tokens are drawn anew: what was wrong can be mended.
        fixed: Where tokens are given and stay, bool `[b n]` or `[n]`: infilling.
        return_path: Whether to return the tokens at every time, the first one included.
        seed: Seed of the chain.
        generator: Its generator, instead of a seed.

    Returns:
        Tokens `[b n]` at the last time, or `[k b n]` at all.

    Raises:
        TypeError: If tokens are not int64, or `fixed` is not bool.
        ValueError: If tokens are out of range, shapes do not fit, times do not rise to 1, or a
            place is fixed that holds the mask.

    Equation: eq-discrete-step
    Reference: gat2024, campbell2024

    Example:
        >>> from fmtutor.paths import MixturePath
        >>> path, law = MixturePath(2), torch.tensor([0.0, 1.0]).log()
        >>> x0 = path.noise(torch.zeros(3, 4, dtype=torch.long))
        >>> sample_tokens(lambda x, t: law.expand(*x.shape, 2), x0, path, steps=2).unique()
        tensor([1])
    """
    _check_path(path)
    check_tokens(x0, path.states, "x0")
    check_callable("logits", logits, "a network logits(x, t, *cond)")
    cond = check_cond(cond, len(x0))
    grid = time_grid(steps, None, None, times)
    if grid[-1] != 1 or grid[0] > grid[-1]:
        raise ValueError(f"times must rise to 1, but the last one is {grid[-1].item()}")
    held = _held(fixed, x0, path)
    g = as_generator(seed, device=x0.device) if generator is None else generator
    field, x, passed = conditioned(logits, *cond), x0, [x0]
    for t, s in pairwise(grid.tolist()):
        posterior = path.posterior(field(x, torch.full((len(x),), t, device=x.device)), x)
        kernel = jump_kernel(path, x, posterior, t, s, method=method, renewal=renewal)
        x = torch.where(held, x0, draw(kernel, g))
        passed = [*passed, x] if return_path else [x]
    return torch.stack(passed) if return_path else passed[-1]


@torch.no_grad()
def sample_in_random_order(
    logits: Field,
    x0: Tensor,
    path: MixturePath,
    *,
    cond: Tensor | Sequence[Tensor] = (),
    calls: int | None = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Unmask tokens in a uniformly random order, as many at each call of the network.

    With a call for each mask the law is that of the chain in continuous time, and with the exact
    posterior that of the data. With fewer, tokens of one call do not see each other.

    Args:
        logits: The network, called as `logits(x, t, *cond)`, `[b n]` to `[b n tokens]`, at the time
            at which the path has that share of masks.
        x0: Tokens `[b n]`, with masks where something is to be written; others stay.
        path: The path of the training, with a mask.
        cond: Conditions, tensors `[b ...]`, or a single one.
        calls: Number of calls, as many as a sequence has masks if not given.
        seed: Seed of the order and the tokens.
        generator: Their generator, instead of a seed.

    Returns:
        Tokens `[b n]` without masks.

    Raises:
        TypeError: If tokens are not int64.
        ValueError: If the path has no mask, tokens are out of range, or shapes do not fit.

    Equation: eq-discrete-bits
    Reference: zheng2025

    Example:
        >>> from fmtutor.paths import MixturePath
        >>> def repeats(x, t):  # sure that all tokens are those that it sees
        ...     seen = torch.nn.functional.one_hot(x, 4)[..., :3].sum(1, keepdim=True)
        ...     return (99.0 * seen).expand(-1, x.shape[1], -1)
        >>> sample_in_random_order(repeats, torch.tensor([[3, 3, 3, 1]]), MixturePath(3))
        tensor([[1, 1, 1, 1]])
    """
    _check_masked(path)
    check_tokens(x0, path.states, "x0")
    check_callable("logits", logits, "a network logits(x, t, *cond)")
    if calls is not None:
        check_count("calls", calls)
    cond = check_cond(cond, len(x0))
    g = as_generator(seed, device=x0.device) if generator is None else generator
    field, x, hidden = conditioned(logits, *cond), x0, x0 == path.tokens
    masks = hidden.sum(1, keepdim=True)
    order = torch.rand(x0.shape, generator=g, dtype=torch.float64, device=x0.device)
    rank = order.where(hidden, 2.0).argsort(1).argsort(1)  # among the masks, then the others
    calls = int(masks.max()) if calls is None else calls
    for k in range(calls):
        written, after = masks * k // calls, masks * (k + 1) // calls
        t = path.schedule.time_of(1 - (masks - written).squeeze(1).float() / x.shape[1])
        token = draw(path.posterior(field(x, t), x), g)
        x = torch.where(hidden & (written <= rank) & (rank < after), token, x)
    return x


def _held(fixed: Tensor | None, x0: Tensor, path: MixturePath) -> Tensor:
    if fixed is None:
        return torch.zeros_like(x0, dtype=torch.bool)
    if not isinstance(fixed, Tensor) or fixed.dtype != torch.bool:
        came = fixed.dtype if isinstance(fixed, Tensor) else type(fixed).__name__
        raise TypeError(f"fixed must be a tensor of dtype bool, but {came} came")
    if fixed.shape not in (x0.shape, x0.shape[1:]):
        raise ValueError(
            f"fixed must have shape {[*x0.shape]} or {[*x0.shape[1:]]}, but {[*fixed.shape]} came"
        )
    if path.masked and bool((fixed & (x0 == path.tokens)).any()):
        raise ValueError("a fixed place holds the mask: put the token there that is to stay")
    return fixed.expand(x0.shape)


@torch.no_grad()
def bits_bound(
    logits: Field,
    x1: Tensor,
    path: MixturePath,
    *,
    cond: Tensor | Sequence[Tensor] = (),
    draws: int = 1,
    seed: int | None = None,
) -> Tensor:
    """Return an unbiased estimate of an upper bound of −log₂ p(x1), `[b]`, of a masked path.

    The bound is the integral of κ'/(1 − κ) times the mean cross-entropy of the masked tokens. The
    number m of masks among n is drawn for each sequence, evenly over the draws, and the masks with
    it; with a network that looks at the tokens alone the mean over m = 1, ..., n of n/m times the
    sum over the masked is the integral.

    Args:
        logits: The network.
        x1: Data `[b n]`.
        path: The path, with a mask.
        cond: Conditions, tensors `[b ...]`, or a single one.
        draws: Number of draws for each sequence.
        seed: Seed of the draws.

    Raises:
        ValueError: If the path has no mask, tokens are out of range, draws is below 1, or the
            logits are not `[b n tokens]`.

    Equation: eq-discrete-bits
    Reference: sahoo2024
    """
    _check_masked(path, x1)
    draws = check_count("draws", draws)
    cond, g = check_cond(cond, len(x1)), as_generator(seed, device=x1.device)
    total = torch.zeros(len(x1), dtype=torch.float64, device=x1.device)
    start = torch.rand(len(x1), generator=g, dtype=torch.float64, device=x1.device)
    for k in range(draws):
        total += _bits(logits, x1, path, start + k / draws, cond, g)
    return total / draws


@torch.no_grad()
def bits_of_orders(
    logits: Field,
    x1: Tensor,
    path: MixturePath,
    *,
    cond: Tensor | Sequence[Tensor] = (),
    orders: int = 16,
    seed: int | None = None,
) -> Tensor:
    """Return −log₂ of the mean of p(x1|σ) over random orders σ of writing, `[b]`, of a masked path.

    Its expectation is an upper bound of −log₂ p(x1), too: that of `bits_bound` for a single order,
    lower the more there are, and −log₂ p(x1) in the limit. Each order takes a call of the network
    for each token.

    Args:
        logits: The network, called as `sample_in_random_order` calls it.
        x1: Data `[b n]`.
        path: The path, with a mask.
        cond: Conditions, tensors `[b ...]`, or a single one.
        orders: Number of orders for each sequence.
        seed: Seed of the orders.

    Raises:
        ValueError: If the path has no mask, tokens are out of range, orders is below 1, or the
            logits are not `[b n tokens]`.

    Equation: eq-discrete-orders
    Reference: burda2016

    Example:
        >>> from fmtutor.paths import MixturePath
        >>> x1 = torch.tensor([[3, 1, 0]])
        >>> bits_of_orders(lambda x, t: torch.zeros(*x.shape, 4), x1, MixturePath(4), orders=2)
        tensor([6.], dtype=torch.float64)
    """
    _check_masked(path, x1)
    cond, g = check_cond(cond, len(x1)), as_generator(seed, device=x1.device)
    field, n, nats = conditioned(logits, *cond), x1.shape[1], []
    for _ in range(check_count("orders", orders)):
        rank = torch.rand(x1.shape, generator=g, device=x1.device).argsort(1).argsort(1)
        of_order = torch.zeros(len(x1), dtype=torch.float64, device=x1.device)
        for k in range(n):
            xt = torch.where(rank >= k, path.tokens, x1)
            t = path.schedule.time_of(torch.full((len(x1),), k / n, device=x1.device))
            told = _nats(field(xt, t), x1, path)
            of_order += torch.where(rank == k, told, 0.0).sum(1)
        nats.append(of_order)
    found: Tensor = -torch.logsumexp(-torch.stack(nats), 0) + math.log(orders)
    return found / math.log(2)


def bits_loss(path: MixturePath) -> Callable[..., Tensor]:
    """Return the mean of `bits_bound` as a loss of a batch, 0-d, for `minimise`.

    Among the sequences of a batch the shares that are masked are spread evenly over (0, 1], which
    a loss of random times leaves to chance. It has the minimiser of `cross_entropy`.

    Args:
        path: The path, with a mask.

    Returns:
        The loss, called as loss(logits, x1, *cond, generator=g).

    Raises:
        ValueError: If the path has no mask; when called, if tokens are out of range, or the logits
            are not `[b n tokens]`.

    Equation: eq-discrete-bits
    Reference: sahoo2024

    Example:
        >>> from fmtutor.paths import MixturePath
        >>> loss = bits_loss(MixturePath(4))
        >>> loss(lambda x, t: torch.zeros(*x.shape, 4), torch.zeros(8, 3, dtype=torch.long))
        tensor(6., dtype=torch.float64)
    """
    _check_masked(path)

    def loss(
        logits: Field, x1: Tensor, *cond: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        _check_masked(path, x1)
        even = torch.arange(len(x1), dtype=torch.float64, device=x1.device) / len(x1)
        start = torch.rand(1, generator=generator, dtype=torch.float64, device=x1.device)
        return _bits(logits, x1, path, start + even, cond, generator).mean()

    return loss


def _check_path(path: MixturePath) -> None:
    if not isinstance(path, MixturePath):
        raise TypeError(f"path must be a MixturePath, but {type(path).__name__} came")


def _check_masked(path: MixturePath, x1: Tensor | None = None) -> None:
    _check_path(path)
    if x1 is not None:
        check_tokens(x1, path.tokens, "x1")
        if x1.ndim != 2:
            raise ValueError(f"x1 must have shape [b n], but {[*x1.shape]} came")
    if not path.masked:
        raise ValueError("the path must be a masked one, but its source is uniform")


def _bits(
    logits: Field,
    x1: Tensor,
    path: MixturePath,
    place: Tensor,
    cond: Sequence[Tensor],
    generator: torch.Generator | None,
) -> Tensor:
    """Return one draw of the bound `[b]`, float64, with the share masked at `place` modulo 1."""
    n = x1.shape[1]
    m = (place % 1 * n).long() + 1  # [b], in {1, ..., n}
    rank = torch.rand(x1.shape, generator=generator, device=x1.device).argsort(1).argsort(1)
    hidden = rank < m.unsqueeze(1)
    xt = torch.where(hidden, path.tokens, x1)
    t = path.schedule.time_of(1 - m.float() / n)
    nats = _nats(logits(xt, t, *cond), x1, path)
    return n / m * torch.where(hidden, nats, 0.0).sum(1) / math.log(2)


def _nats(told: Tensor, x1: Tensor, path: MixturePath) -> Tensor:
    """Return −log p of each token `[b n]` by logits `[b n tokens]`, float64."""
    check_laws("logits", told, x1, path.tokens)
    return -told.double().log_softmax(-1).gather(-1, x1.unsqueeze(-1)).squeeze(-1)

"""The mixture path between two sequences of tokens: each is still the source's, or the data's.

Tokens are the numbers 0, ..., k − 1, in sequences `[b n]`, int64. In the place of a line between
noise and data stands a coin for each token, which at time t shows the data with probability κ(t).

Chapter: discrete
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fmtutor.checking import (
    check_count,
    check_has,
    check_laws,
    check_positive,
    check_same,
    check_tokens,
    readable,
)
from fmtutor.notation import PathSample, Time, align_time, as_time, batch_time

__all__ = ["CosineSchedule", "MixturePath", "Power", "Schedule"]


class Schedule(Protocol):
    """When tokens become those of the data: κ(t), rising from 0 to 1, with its derivative."""

    def kappa(self, t: Time) -> Tensor:
        """Return κ(t), in the shape of `t`."""
        ...

    def d_kappa(self, t: Time) -> Tensor:
        """Return κ'(t)."""
        ...

    def time_of(self, kappa: Time) -> Tensor:
        """Return the time at which κ(t) is `kappa`."""
        ...


@dataclass(frozen=True)
class Power:
    """The schedule κ = t^a: straight for a = 1, late for a > 1.

    Raises:
        ValueError: If a is not positive and finite.

    Example:
        >>> Power(2.0).kappa(0.5), Power(2.0).d_kappa(0.5)
        (tensor(0.2500), tensor(1.))
    """

    exponent: float = 1.0

    def __post_init__(self) -> None:
        check_positive("exponent", self.exponent)

    def kappa(self, t: Time) -> Tensor:
        """Return t^a."""
        return as_time(t) ** self.exponent

    def d_kappa(self, t: Time) -> Tensor:
        """Return a t^(a − 1)."""
        return self.exponent * as_time(t) ** (self.exponent - 1)

    def time_of(self, kappa: Time) -> Tensor:
        """Return κ^(1/a)."""
        return as_time(kappa) ** (1 / self.exponent)


@dataclass(frozen=True)
class CosineSchedule:
    """The schedule κ = 1 − cos(πt/2), which begins slowly; κ(1) is exactly 1.

    Example:
        >>> CosineSchedule().kappa(torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.0000, 0.2929, 1.0000])
    """

    def kappa(self, t: Time) -> Tensor:
        """Return 1 − cos(πt/2)."""
        return 1 - torch.sin(0.5 * math.pi * (1 - as_time(t)))

    def d_kappa(self, t: Time) -> Tensor:
        """Return (π/2) sin(πt/2)."""
        return 0.5 * math.pi * torch.sin(0.5 * math.pi * as_time(t))

    def time_of(self, kappa: Time) -> Tensor:
        """Return (2/π) arccos(1 − κ)."""
        return 2 / math.pi * torch.acos(1 - as_time(kappa))


@dataclass(frozen=True)
class MixturePath:
    """The path p_t(y|x0, x1) = (1 − κ) δ_x0(y) + κ δ_x1(y), in each token by itself.

    The source is a mask, one more token with the number k, or uniform over the k tokens.

    Args:
        tokens: Their number k, without the mask.
        masked: Whether the source is the mask; otherwise it is uniform.
        schedule: The schedule κ.

    Raises:
        TypeError: If `masked` is no bool, the schedule none, or tokens are not int64.
        ValueError: If there are fewer than two of them, the schedule does not rise from 0 to 1,
            tokens are out of range, or shapes differ.

    Equation: eq-discrete-mixture
    Reference: gat2024

    Example:
        >>> path, x1 = MixturePath(5), torch.tensor([[3, 1, 4]])
        >>> path.noise(x1)
        tensor([[5, 5, 5]])
        >>> path.sample(path.noise(x1), x1, 1.0).xt
        tensor([[3, 1, 4]])
    """

    tokens: int
    masked: bool = True
    schedule: Schedule = Power()

    def __post_init__(self) -> None:
        check_count("tokens", self.tokens, least=2)
        if not isinstance(self.masked, bool):
            raise TypeError(f"masked must be True or False, but {self.masked!r} came")
        for method in ("kappa", "d_kappa", "time_of"):
            check_has("schedule", self.schedule, method, "a schedule, such as Power()")
        kappa = self.schedule.kappa(torch.linspace(0, 1, 101, dtype=torch.float64))
        ends, off = kappa[[0, -1]].tolist(), 1e-6
        if abs(ends[0]) > off or abs(ends[1] - 1) > off:
            raise ValueError(f"the schedule must rise from 0 to 1, but from {ends[0]} to {ends[1]}")
        if not bool((kappa.diff() >= 0).all()) or not bool((kappa[:-1] < 1).all()):
            raise ValueError("the schedule must rise from 0 to 1, and reach 1 not before the end")

    @property
    def states(self) -> int:
        """What a place can hold: the tokens, and the mask where there is one."""
        return self.tokens + self.masked

    def noise(self, x1: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw the source of data `x1` `[b n]`: masks, or uniform tokens. A `Noise` for losses."""
        check_tokens(x1, self.tokens, "x1")
        if self.masked:
            return torch.full_like(x1, self.tokens)
        return torch.randint(self.tokens, x1.shape, generator=generator, device=x1.device)

    def source(self, *, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return the law p_0 of a token, `[states]`."""
        if self.masked:
            return torch.eye(self.states, dtype=dtype)[-1]
        return torch.full((self.states,), 1 / self.states, dtype=dtype)

    def sample(
        self, x0: Tensor, x1: Tensor, t: Time, *, generator: torch.Generator | None = None
    ) -> PathSample:
        """Return tokens of x0 and x1 mixed, x1's with probability κ(t); the target is x1."""
        check_tokens(x0, self.states, "x0")
        check_tokens(x1, self.tokens, "x1")
        check_same("x0", x0, "x1", x1)
        t = batch_time(t, torch.empty(x1.shape, device=x1.device))
        coin = torch.rand(x1.shape, generator=generator, dtype=t.dtype, device=x1.device)
        xt = torch.where(coin < align_time(self.schedule.kappa(t), x1), x1, x0)
        return PathSample(x0, x1, t, xt, x1)

    def law(self, x1: Tensor, t: Time) -> Tensor:
        """Return p_t(y|x1) = (1 − κ) p_0(y) + κ δ_x1(y) of each token, `[b n states]`, float64."""
        check_tokens(x1, self.tokens, "x1")
        t = batch_time(t, torch.empty(x1.shape, dtype=torch.float64, device=x1.device))
        kappa = align_time(self.schedule.kappa(t), x1).unsqueeze(-1)
        data = torch.nn.functional.one_hot(x1, self.states).double()
        return (1 - kappa) * self.source().to(x1.device) + kappa * data

    def posterior(self, logits: Tensor, x: Tensor) -> Tensor:
        """Return the law of the data's tokens that logits `[b n tokens]` tell, float64.

        Beside a mask, a token that is not the mask is the data's: nothing is left to the network.
        """
        check_tokens(x, self.states, "x")
        check_laws("logits", logits, x, self.tokens)
        p = logits.double().softmax(-1)
        if self.masked:
            known = torch.nn.functional.one_hot(x, self.states)[..., : self.tokens].to(p)
            p = torch.where((x == self.tokens).unsqueeze(-1), p, known)
        if readable(p) and not bool(p.isfinite().all()):
            raise ValueError(
                f"logits must tell a law for each token, but at {int(p.isnan().any(-1).sum())} of "
                f"{x.numel()} places NaN, infinity, or -infinity alone came"
            )
        return p

    def rate(self, x: Tensor, posterior: Tensor, t: Time, *, renewal: float = 0.0) -> Tensor:
        """Return the rates at which each token becomes another: what a velocity is to points.

        R(x, y) = κ'/(1 − κ) (p(y) − δ_x(y)) + η ((1 − κ) p_0(y) + κ p(y) − δ_x(y)), where p is
        the `posterior` of the data's token. For a token that is known, p = δ_x1, it carries
        p_t(y|x1), whatever η; for p_{1|t}(y|x) it carries the law of x_t.

        Args:
            x: Tokens `[b n]`.
            posterior: Probabilities of the data's tokens given x, `[b n tokens]`.
            t: Times below 1.
            renewal: The rate η at which a token is drawn anew.

        Returns:
            Rates `[b n states]`; what leaves stands at x itself, so that each row adds up to 0.

        Equation: eq-discrete-rate
        """
        check_tokens(x, self.states, "x")
        check_laws("posterior", posterior, x, self.tokens)
        if not 0 <= renewal < math.inf:
            raise ValueError(f"renewal must be at least 0 and finite, but {renewal} came")
        t = batch_time(t, posterior)
        kappa, d_kappa = (f(t) for f in (self.schedule.kappa, self.schedule.d_kappa))
        if readable(kappa) and not bool((kappa < 1).all()):
            raise ValueError("the rate has no limit where κ(t) = 1: stop before t = 1")
        shape = (-1, *[1] * x.ndim)
        if readable(d_kappa) and not bool(d_kappa.isfinite().all()):
            raise ValueError("the rate is infinite where the schedule is steep: start after t = 0")
        kappa, pace = kappa.view(shape), (d_kappa / (1 - kappa)).view(shape)
        p = torch.nn.functional.pad(posterior, (0, self.states - self.tokens))
        here = torch.nn.functional.one_hot(x, self.states).to(p)
        drawn = (1 - kappa) * self.source(dtype=p.dtype).to(p.device) + kappa * p
        return pace * (p - here) + renewal * (drawn - here)

"""A law on sequences of tokens as a table: what a chain does to it can be computed exactly.

Chapter: discrete
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from fmtutor.checking import check_points, check_tokens
from fmtutor.jumps import draw, jump_kernel
from fmtutor.notation import Field, Time
from fmtutor.paths import MixturePath

__all__ = ["FiniteLaw", "product_of_marginals", "total_variation"]

MOST = 2**12  # states of a chain that are looked at one by one
CELLS = 2**22  # of a table for each row, how many are held at a time


class FiniteLaw:
    """The law p_1 of n tokens, each one of k, with everything that follows from it.

    Laws at other times have an axis of `path.states` for each token. All is float64.

    Args:
        table: Probabilities `[k ... k]`, n axes; they are scaled to add up to 1.

    Raises:
        ValueError: If the table has axes of different lengths, or negative or no probabilities.

    Example:
        >>> from fmtutor.paths import MixturePath
        >>> law = FiniteLaw(torch.eye(3))  # two equal tokens
        >>> law.at(MixturePath(3), 0.5)[3, 3]  # both are still masks
        tensor(0.2500, dtype=torch.float64)
    """

    def __init__(self, table: Tensor) -> None:
        check_points(table, "table", finite=True)
        if len({*table.shape}) != 1 or table.shape[0] < 2:
            raise ValueError(f"table must have shape [k ... k], but {[*table.shape]} came")
        if bool((table < 0).any()) or not bool(table.sum() > 0):
            raise ValueError("table must hold probabilities, but some are negative or all are 0")
        self.table = table.double() / table.double().sum()
        self.tokens, self.length = table.shape[0], table.ndim

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw sequences `[n length]`, int64."""
        flat = draw(self.table.flatten().expand(n, -1), generator)
        return torch.stack(torch.unravel_index(flat, self.table.shape), dim=1)

    def at(self, path: MixturePath, t: Time) -> Tensor:
        """Return the law p_t of the path's tokens, `[states ... states]`."""
        channel, law = (
            self._channel(path, torch.as_tensor(t, dtype=torch.float64).view(1)),
            self.table,
        )
        for _ in range(self.length):
            law = torch.tensordot(law, channel[0], dims=([0], [0]))  # the axes go round once
        return law

    def posterior(self, path: MixturePath) -> Field:
        """Return the best network: (x, t) to log p_{1|t} of each token, `[b n tokens]`.

        Where x cannot be reached it knows nothing, and says that all tokens are as likely.
        """

        def logits(x: Tensor, t: Tensor, *cond: Tensor) -> Tensor:
            check_tokens(x, path.states, "x")
            rows = max(1, CELLS // self.table.numel())
            parts = zip(x.split(rows), t.double().split(rows), strict=True)  # type: ignore[no-untyped-call]
            return torch.cat([self._posterior(path, *part) for part in parts]).log()

        return logits

    def generator(self, path: MixturePath, t: float, *, renewal: float = 0.0) -> Tensor:
        """Return the matrix of rates R(x, y) of whole sequences, `[S S]`, S = states^n.

        One token jumps at a time. The law moves as dp/dt = p R, Kolmogorov's equation.

        Equation: eq-discrete-kolmogorov
        """
        x = self.every_state(path)
        times = torch.full((len(x),), t, dtype=torch.float64)
        p = path.posterior(self.posterior(path)(x, times), x)
        rates = path.rate(x, p, times, renewal=renewal)  # [S n states]
        stride = path.states ** torch.arange(self.length - 1, -1, -1)
        matrix = torch.zeros(len(x), len(x), dtype=torch.float64)
        rows = torch.arange(len(x))
        for i in range(self.length):
            for y in range(path.states):
                to = rows + (y - x[:, i]) * stride[i]
                matrix.index_put_((rows, to), rates[:, i, y], accumulate=True)
        return matrix

    def propagated(
        self,
        path: MixturePath,
        times: Tensor | Sequence[float],
        *,
        logits: Field | None = None,
        method: str = "exact",
        renewal: float = 0.0,
    ) -> Tensor:
        """Return the law that `sample_tokens` draws from, `[states ... states]`, exactly.

        Args:
            path: The path, whose source is where it begins.
            times: The times of the steps, `[k]`.
            logits: The network; None takes the posterior itself.
            method: As `jump_kernel` has it.
            renewal: The rate η at which tokens are drawn anew.
        """
        x, field = self.every_state(path), logits or self.posterior(path)
        law = self.at(path, 0.0).flatten()
        grid = torch.as_tensor(times, dtype=torch.float64).tolist()
        for t, s in pairwise(grid):
            told = field(x, torch.full((len(x),), t, dtype=torch.float64))
            p = path.posterior(told, x)
            kernel = jump_kernel(path, x, p, t, s, method=method, renewal=renewal)  # [S n states]
            whole = kernel[:, 0]
            for i in range(1, self.length):
                whole = (whole.unsqueeze(-1) * kernel[:, i].unsqueeze(1)).flatten(1)
            law = law @ whole
        return law.view([path.states] * self.length)

    def every_state(self, path: MixturePath) -> Tensor:
        """Return all sequences of the path's tokens, `[states^n n]`, in the order of the tables.

        Raises:
            ValueError: If there are more than 4,096.
        """
        self._check(path)
        if path.states**self.length > MOST:
            raise ValueError(
                f"a chain of at most {MOST} states can be looked at, "
                f"but {path.states}^{self.length} came"
            )
        states = torch.arange(path.states)
        return torch.cartesian_prod(*[states] * self.length).view(-1, self.length)

    def _posterior(self, path: MixturePath, x: Tensor, t: Tensor) -> Tensor:
        """Return p_{1|t} of each token, `[b n tokens]`."""
        channel = self._channel(path, t)  # [b tokens states]
        weight = self.table.expand(len(x), *self.table.shape)
        for i in range(self.length):
            seen = x[:, i].view(-1, 1, 1).expand(-1, self.tokens, 1)
            shape = [-1 if k in (0, i + 1) else 1 for k in range(self.length + 1)]
            weight = weight * channel.gather(2, seen).view(len(x), *shape[1:])
        possible = weight.flatten(1).sum(1) > 0
        weight = torch.where(possible.view(-1, *[1] * self.length), weight, 1.0)
        sums = [
            weight.movedim(i + 1, 1).flatten(2).sum(2) if self.length > 1 else weight
            for i in range(self.length)
        ]
        p = torch.stack(sums, dim=1)
        return p / p.sum(-1, keepdim=True)

    def _channel(self, path: MixturePath, t: Tensor) -> Tensor:
        """Return p_t(x|y) of a token at times `[b]`, `[b tokens states]`."""
        self._check(path)
        every = torch.arange(path.tokens).expand(len(t), -1)
        return path.law(every, t)

    def _check(self, path: MixturePath) -> None:
        if path.tokens != self.tokens:
            raise ValueError(f"the path has {path.tokens} tokens, but the law {self.tokens}")


def product_of_marginals(table: Tensor) -> Tensor:
    """Return the law of independent tokens that are each as in `table` `[k ... k]`.

    Example:
        >>> product_of_marginals(torch.eye(2) / 2)
        tensor([[0.2500, 0.2500],
                [0.2500, 0.2500]])
    """
    product = torch.ones((), dtype=table.dtype)
    for axis in range(table.ndim):
        others = [k for k in range(table.ndim) if k != axis]
        product = product.unsqueeze(-1) * (table.sum(others) if others else table)
    return product


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """Return half of the sum of |p − q|, 0-d, between laws on the same states.

    A law without a mask and one with it are compared as laws of the second kind.

    Example:
        >>> total_variation(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]))
        tensor(0.5000)
    """
    if p.shape != q.shape:
        if p.ndim != q.ndim or {b - a for a, b in zip(p.shape, q.shape, strict=True)} != {1}:
            raise ValueError(f"laws must fit each other, but {[*p.shape]} and {[*q.shape]} came")
        p = torch.nn.functional.pad(p, (0, 1) * p.ndim)
    return 0.5 * (p - q).abs().sum()

"""What a policy was before flows: a mean, a normal law, a mixture of them.

Chapter: policies
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fmtutor.checking import check_count, check_observation, check_points
from fmtutor.networks.layers import layers_of

__all__ = ["MixtureDensity"]


class MixtureDensity(nn.Module):
    """A law of plans given an observation: a mixture of normal ones with diagonal covariance.

    Args:
        dim: Numbers of a plan.
        observed: Numbers of an observation.
        components: Of the mixture; 1 for a normal law.
        width: Units of a hidden layer.
        depth: Number of hidden layers.

    Equation: eq-policies-mixture
    Reference: bishop1994

    Example:
        >>> law = MixtureDensity(dim=8, observed=4, components=5)
        >>> law.log_prob(torch.zeros(3, 8), torch.zeros(3, 4)).shape
        torch.Size([3])
    """

    def __init__(
        self, dim: int, observed: int, components: int = 1, width: int = 256, depth: int = 3
    ) -> None:
        super().__init__()
        self.dim, self.components = check_count("dim", dim), check_count("components", components)
        self.observed = check_count("observed", observed)
        n_out = self.components * (2 * self.dim + 1)
        self.layers = layers_of(self.observed, n_out, width, depth)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-weights `[b k]`, means `[b k d]` and logs of deviations `[b k d]`."""
        check_observation(observation, len(observation), self.observed)
        out: Tensor = self.layers(observation)
        weights, rest = out[:, : self.components], out[:, self.components :]
        means, spread = rest.reshape(len(out), 2, self.components, self.dim).unbind(1)
        # Far below the noise of a demonstration: without a floor one component can catch one plan.
        return weights.log_softmax(1), means, spread.clamp(-5.0, 3.0)

    def log_prob(self, x: Tensor, observation: Tensor) -> Tensor:
        """Return the log-density of plans `[b d]` given observations `[b o]`, `[b]`."""
        check_points(x)
        if x.shape[1:] != (self.dim,):
            raise ValueError(f"x must have shape [b {self.dim}], but {[*x.shape]} came")
        check_observation(observation, len(x), self.observed)
        log_weights, means, spread = self(observation)
        z = (x[:, None] - means) * (-spread).exp()
        each = -0.5 * z.square().sum(2) - spread.sum(2) - 0.5 * self.dim * math.log(2 * math.pi)
        together: Tensor = (log_weights + each).logsumexp(1)
        return together

    @torch.no_grad()
    def sample(self, observation: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw a plan for each observation `[b o]`, `[b d]`."""
        log_weights, means, spread = self(observation)
        k = torch.multinomial(log_weights.exp(), 1, generator=generator)[:, 0]
        rows = torch.arange(len(k))
        noise = torch.randn(len(k), self.dim, generator=generator, dtype=means.dtype)
        plans: Tensor = means[rows, k] + spread[rows, k].exp() * noise
        return plans

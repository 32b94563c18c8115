"""Two Gaussians and the bridges between them, for the tests of what is learned."""

import torch

from fmtutor.gaussian_bridge import GaussianBridge

F64 = torch.float64
COV0 = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=F64)
COV1 = torch.tensor([[0.6, -0.2], [-0.2, 1.5]], dtype=F64)
MEAN0, MEAN1 = torch.zeros(2, dtype=F64), torch.tensor([1.5, 1.0], dtype=F64)
ENDS = (MEAN0, COV0, MEAN1, COV1)


def exact(sigma, cross=None):
    """The Schrödinger bridge, or the one over pairs of another covariance."""
    bridge = GaussianBridge.schroedinger(*ENDS, sigma)
    return bridge if cross is None else GaussianBridge(*ENDS, cross, sigma)


def network_of(bridge, wrong=0.0):
    """The perfect network of a Gaussian bridge, with its score off by a factor."""
    return lambda x, t: torch.cat([bridge.line(x, t), (1 + wrong) * bridge.score(x, t)], 1)

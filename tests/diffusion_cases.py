"""The paths of diffusion and one mixture, in float64, that the tests of its modules share."""

import torch

from fmtutor import CondOT, Cosine, GaussianMixture, VariancePreserving
from fmtutor.paths import Karras, SubVariancePreserving, VarianceExploding

F64 = torch.float64
PATHS = [
    CondOT(),
    Cosine(),
    VariancePreserving(),
    SubVariancePreserving(),
    VarianceExploding(),
    Karras(),
]
MIXTURE = GaussianMixture(
    torch.tensor([[-2.0, 1.0], [1.8, 2.0], [1.0, -1.8]], dtype=F64),
    torch.tensor([0.3, 0.4, 0.5]),
    torch.tensor([0.5, 0.3, 0.2]),
)

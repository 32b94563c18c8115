"""Flow matching, from the continuity equation to images: the code of a book that runs.

Everything is one journey: data, coupling, path, loss, model, solver, samples. The docstring of a
module names the chapter that explains it, that of a name explained elsewhere its own.

What holds everywhere is said here, once:

- Shapes stand in backticks, with b points, each of any shape: `[b ...]`. What belongs together has
  one shape, dtype and device.
- A time `t` is a float, a 0-d tensor or `[b]`, in [0, 1]: 0 is noise, 1 is data. A velocity field
  is called as `v(x, t)`, with conditions as `v(x, t, *cond)`.
- Conditions `cond` are tensors `[b ...]` whose rows belong to those of the points, or a single one.
- Randomness comes from `seed` or `generator`, with neither from torch's global state.
- Densities are in nats; a loss is a mean over points and their dimensions, not a sum.
- What is of another kind or dtype raises a TypeError, what has another shape, is empty or lies
  outside its range a ValueError that says what came and what was expected.

`Equation:` gives labels of the book, `Reference:` keys of its bibliography.
"""

from importlib.metadata import version

from fmtutor.checks import check
from fmtutor.continuity import continuity_residual, divergence
from fmtutor.couplings import independent, minibatch_ot, sinkhorn, within_labels
from fmtutor.guidance import conditioned, drop_labels, guided
from fmtutor.likelihood import log_prob, sample_with_log_prob
from fmtutor.losses import cfm_loss, fm_loss, gaussian_loss_floor, loss_floor
from fmtutor.networks import MLP
from fmtutor.notation import Path, VelocityField, align_time
from fmtutor.oracles import EmpiricalField, GaussianMixture
from fmtutor.paths import (
    AffinePath,
    BridgePath,
    BrownianBridge,
    CondOT,
    Cosine,
    PathSample,
    VariancePreserving,
)
from fmtutor.solvers import CountedField, sample, sample_stochastic
from fmtutor.training import FitResult, fit, minimise

__version__ = version("fmtutor")

__all__ = [
    "MLP",
    "AffinePath",
    "BridgePath",
    "BrownianBridge",
    "CondOT",
    "Cosine",
    "CountedField",
    "EmpiricalField",
    "FitResult",
    "GaussianMixture",
    "Path",
    "PathSample",
    "VariancePreserving",
    "VelocityField",
    "align_time",
    "cfm_loss",
    "check",
    "conditioned",
    "continuity_residual",
    "divergence",
    "drop_labels",
    "fit",
    "fm_loss",
    "gaussian_loss_floor",
    "guided",
    "independent",
    "log_prob",
    "loss_floor",
    "minibatch_ot",
    "minimise",
    "sample",
    "sample_stochastic",
    "sample_with_log_prob",
    "sinkhorn",
    "within_labels",
]

"""Flow matching, from the continuity equation to images: the code of a book that runs.

Everything is one journey: data, coupling, path, loss, model, solver, samples. Each module is the
subject of the chapter that its docstrings name.
"""

from importlib.metadata import version

from fmtutor.checks import check
from fmtutor.continuity import continuity_residual, divergence
from fmtutor.couplings import independent, minibatch_ot, within_labels
from fmtutor.guidance import conditioned, drop_labels, guided
from fmtutor.likelihood import log_prob, sample_with_log_prob
from fmtutor.losses import cfm_loss, fm_loss, gaussian_loss_floor, loss_floor
from fmtutor.networks import MLP
from fmtutor.notation import Path, VelocityField, align_time
from fmtutor.oracles import EmpiricalField, GaussianMixture
from fmtutor.paths import AffinePath, BridgePath, CondOT, Cosine, PathSample, VariancePreserving
from fmtutor.solvers import CountedField, sample, sample_stochastic
from fmtutor.training import FitResult, fit, minimise

__version__ = version("fmtutor")

__all__ = [
    "MLP",
    "AffinePath",
    "BridgePath",
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
    "within_labels",
]

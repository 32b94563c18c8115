"""Particles and molecules: positions, energies, reference samples, weights.

from fmtutor.molecules import DoubleWell, centred_log_prob, centred_noise
energy = DoubleWell()
fit(EGNN(4, 2), data, noise=centred_noise, coupling=aligned())
x, log_q = sample_with_log_prob(model, noise, base=centred_log_prob)
log_w = -energy(x) - log_q

Chapter: molecules
"""

from fmtutor.molecules.butane import Butane, torsion
from fmtutor.molecules.energies import DoubleWell, LennardJones, force, pair_distances
from fmtutor.molecules.energies import Energy as Energy  # an alias, for annotations
from fmtutor.molecules.hmc import Chains, hmc, r_hat, relaxed
from fmtutor.molecules.positions import (
    InHelmert,
    centred,
    centred_log_prob,
    centred_noise,
    helmert,
)
from fmtutor.molecules.shipped_flows import Shipped, shipped
from fmtutor.molecules.weights import (
    Estimate,
    effective_sample_size,
    forward_effective_sample_size,
    log_z,
    log_z_from_data,
    reweighted,
)

__all__ = [
    "Butane",
    "Chains",
    "DoubleWell",
    "Estimate",
    "InHelmert",
    "LennardJones",
    "Shipped",
    "centred",
    "centred_log_prob",
    "centred_noise",
    "effective_sample_size",
    "force",
    "forward_effective_sample_size",
    "helmert",
    "hmc",
    "log_z",
    "log_z_from_data",
    "pair_distances",
    "r_hat",
    "relaxed",
    "reweighted",
    "shipped",
    "torsion",
]

"""Particles and molecules: positions, energies, reference samples, weights.

from fmtutor.molecules import DoubleWell, centred_log_prob, centred_noise
energy = DoubleWell()
fit(EGNN(4, 2), data, noise=centred_noise, coupling=aligned())
x, log_q = sample_with_log_prob(model, noise, base=centred_log_prob)
log_w = -energy(x) - log_q

Chapter: molecules
"""

from fmtutor.molecules.alanine import alanine_coordinates, backbone_torsions
from fmtutor.molecules.alanine_flow import ShippedAlanine, shipped_alanine
from fmtutor.molecules.butane import Butane
from fmtutor.molecules.energies import DoubleWell, LennardJones, force, pair_distances
from fmtutor.molecules.energies import Energy as Energy  # an alias, for annotations
from fmtutor.molecules.force_field import ForceField
from fmtutor.molecules.hmc import Chains, hmc, r_hat, relaxed
from fmtutor.molecules.internal import InternalCoordinates, torsion
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
from fmtutor.molecules.whitened import WhitenedCoordinates

__all__ = [
    "Butane",
    "Chains",
    "DoubleWell",
    "Estimate",
    "ForceField",
    "InHelmert",
    "InternalCoordinates",
    "LennardJones",
    "Shipped",
    "ShippedAlanine",
    "WhitenedCoordinates",
    "alanine_coordinates",
    "backbone_torsions",
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
    "shipped_alanine",
    "torsion",
]

"""Reference samples of an energy: Hamiltonian Monte Carlo with many chains at once.

Chapter: molecules
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fmtutor.checking import as_generator, check_callable, check_count, check_positive
from fmtutor.molecules.energies import Energy, force
from fmtutor.molecules.positions import centred, centred_noise, check_positions

__all__ = ["Chains", "hmc", "r_hat", "relaxed"]


class Chains(NamedTuple):
    """What came out: positions `samples` `[draws chains n d]`, the rate of `acceptance`, the step.

    Example:
        >>> Chains(torch.zeros(2, 3, 4, 2), 0.8, 0.1).samples.flatten(0, 1).shape
        torch.Size([6, 4, 2])
    """

    samples: Tensor
    acceptance: float
    step: float


def relaxed(energy: Energy, x: Tensor, *, steps: int = 200, longest: float = 0.05) -> Tensor:
    """Move positions `x` `[b n d]` down the force, in none of the `steps` farther than `longest`.

    Chains that start where particles overlap never forget it; this is where they should start.

    Example:
        >>> from fmtutor.molecules import LennardJones
        >>> energy = LennardJones(3)
        >>> bool((energy(relaxed(energy, torch.randn(5, 3, 3))) < 0).all())
        True
    """
    check_positions(x)
    check_positive("longest", longest)
    for k in range(check_count("steps", steps)):
        f = centred(force(energy, x))
        if not bool(f.isfinite().all()):
            raise ValueError(
                f"the force must be finite, but that of {int((~f.isfinite()).any(2).sum())} "
                "particles is not: do they lie upon each other?"
            )
        length = torch.linalg.vector_norm(f, dim=2, keepdim=True)
        x = x + f * (longest * (1 - k / steps) / length.clamp(min=1.0))
    return centred(x)


def hmc(
    energy: Energy,
    x: Tensor,
    *,
    draws: int,
    warmup: int = 200,
    leapfrog: int = 10,
    step: float = 0.1,
    seed: int | None = 0,
) -> Chains:
    """Draw from exp(−E)/Z on centred positions by Hamiltonian Monte Carlo, a chain for each start.

    A proposal follows the dynamics for `leapfrog` steps, of a random length around `step`, from a
    new random momentum, and is accepted with the probability min(1, e^(−ΔH)). While it warms up
    the step is tuned towards an acceptance of 0.8; then it stays.

    Args:
        energy: Positions `[b n d]` to energies in kT, `[b]`.
        x: Starts `[chains n d]`, of finite energy (`relaxed`).
        draws: Number of draws of each chain, one after each proposal.
        warmup: Proposals that are thrown away.
        leapfrog: Steps of a proposal, one force each.
        step: Their length at first.

    Equation: eq-molecules-hmc
    Reference: duane1987

    Example:
        >>> from fmtutor.molecules import DoubleWell
        >>> chains = hmc(DoubleWell(), relaxed(DoubleWell(), torch.randn(50, 4, 2)), draws=20)
        >>> chains.samples.shape, chains.acceptance > 0.5
        (torch.Size([20, 50, 4, 2]), True)
    """
    check_positions(x)
    check_callable("energy", energy, "a function of positions, such as DoubleWell()")
    draws, warmup = check_count("draws", draws), check_count("warmup", warmup, least=0)
    leapfrog, g = check_count("leapfrog", leapfrog), as_generator(seed, device=x.device)
    check_positive("step", step)
    x = centred(x)
    value = energy(x)
    if value.shape != (len(x),):
        raise ValueError(f"energies must be [{len(x)}], but {[*value.shape]} came")
    if not bool(value.isfinite().all()):
        count = int((~value.isfinite()).sum())
        raise ValueError(f"x must have finite energies, but {count} of {len(x)} starts have none")
    kept, rates = [], []
    for k in range(warmup + draws):
        x, value, rate = _proposal(energy, x, value, step, leapfrog, g)
        if k < warmup:
            step *= 1.05 if rate > 0.8 else 1 / 1.05
        else:
            kept.append(x)
            rates.append(rate)
    return Chains(torch.stack(kept), sum(rates) / len(rates), step)


def r_hat(values: Tensor) -> float:
    """Return R̂ of values `[draws chains]`: how much wider all chains are than each of them.

    Each chain is cut in two, so that one that drifts is seen. Near 1 (below 1.01) the chains tell
    the same; nothing is said of what none of them has seen. It is infinite where none moves.

    Equation: eq-molecules-rhat
    Reference: gelman1992

    Example:
        >>> values = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
        >>> f"{r_hat(values):.2f}", r_hat(values + 3 * torch.arange(8)) > 2
        ('1.00', True)
    """
    if values.ndim != 2 or len(values) < 4 or values.shape[1] < 2:
        raise ValueError(
            f"values must be [draws chains] of at least 4 and 2, but {[*values.shape]} came"
        )
    if not bool(values.isfinite().all()):
        raise ValueError(f"values must be finite, but {int((~values.isfinite()).sum())} are not")
    half = len(values) // 2
    parts = torch.cat([values[:half], values[-half:]], dim=1).double()
    within = parts.var(0).mean()
    between = parts.mean(0).var()
    if within == 0:
        return math.inf
    return (((half - 1) / half * within + between) / within).sqrt().item()


def _proposal(
    energy: Energy, x: Tensor, value: Tensor, step: float, leapfrog: int, g: torch.Generator | None
) -> tuple[Tensor, Tensor, float]:
    """Return where the chains are after one proposal, their energies, and the rate accepted."""
    jitter = 0.8 + 0.4 * torch.rand(len(x), 1, 1, generator=g, dtype=x.dtype, device=x.device)
    size = step * jitter
    start = p = centred_noise(x, g)
    y = x
    # Only the part of the force that keeps the centre acts on centred positions.
    p = p + 0.5 * size * centred(force(energy, y))
    for k in range(leapfrog):
        y = y + size * p
        p = p + (size if k < leapfrog - 1 else 0.5 * size) * centred(force(energy, y))
    proposed = energy(y)
    change = proposed - value + 0.5 * (p.square() - start.square()).sum((1, 2))
    log_u = torch.rand(len(x), generator=g, dtype=x.dtype, device=x.device).log()
    accepted = log_u < -change  # never where the energy is no number
    y = torch.where(accepted[:, None, None], y, x)
    return y, torch.where(accepted, proposed, value), accepted.double().mean().item()

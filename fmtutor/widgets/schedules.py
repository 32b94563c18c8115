"""Schedules between those of a name, and one mixture sampled on each: for the live figure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from fmtutor.clocks import log_snr, time_of_log_snr
from fmtutor.exponential import sample_exponential, times_of_log_snr
from fmtutor.notation import Time
from fmtutor.oracles import GaussianMixture
from fmtutor.paths import AffinePath, CondOT, Cosine, VariancePreserving
from fmtutor.solvers import sample
from fmtutor.widgets.rng import Random
from fmtutor.widgets.solver_lab import MIXTURES

__all__ = [
    "FINE",
    "GRIDS",
    "POINTS",
    "SAMPLERS",
    "SCHEDULES",
    "SEED",
    "SPAN",
    "Between",
    "ends",
    "exact",
    "mixture",
    "schedule_at",
    "times_on",
    "ways",
]

SAMPLERS = ("euler", "ddim", "2m", "ancestral")
GRIDS = ("log-SNR", "time")
SCHEDULES: dict[str, AffinePath] = {
    "straight": CondOT(),
    "cosine": Cosine(),
    "VP": VariancePreserving(),
}
SPAN = (-6.0, 6.0)  # of the log-SNR
POINTS = 101  # an odd number: the median is one of them
FINE = 200  # steps of RK4 that stand for the exact flow
SEED = 4  # of the noise; that of the ancestral sampler has the next one


@dataclass(frozen=True)
class Between(AffinePath):
    """A share of the way from one path to another: so far from the first to the second x_t."""

    first: AffinePath
    second: AffinePath
    share: float

    def _mean(self, name: str, t: Time) -> Tensor:
        a, b = (getattr(path, name)(t) for path in (self.first, self.second))
        mean: Tensor = (1 - self.share) * a + self.share * b
        return mean

    def alpha(self, t: Time) -> Tensor:
        """Return the mean of both α."""
        return self._mean("alpha", t)

    def sigma(self, t: Time) -> Tensor:
        """Return the mean of both σ."""
        return self._mean("sigma", t)

    def d_alpha(self, t: Time) -> Tensor:
        """Return the mean of both α'."""
        return self._mean("d_alpha", t)

    def d_sigma(self, t: Time) -> Tensor:
        """Return the mean of both σ'."""
        return self._mean("d_sigma", t)


def schedule_at(place: float) -> AffinePath:
    """Return the straight path at 0, the cosine's at 1, the variance preserving one at 2."""
    paths = list(SCHEDULES.values())
    k = min(int(place), len(paths) - 2)
    if place in (k, k + 1):
        return paths[round(place)]
    return Between(paths[k], paths[k + 1], place - k)


@cache
def mixture() -> GaussianMixture:
    """Return the data, those of the solver lab."""
    return GaussianMixture(*(torch.tensor(part).double() for part in MIXTURES["three clusters"]))


@cache
def _noise() -> Tensor:
    return Random(SEED).normals(POINTS, 2).double()


@cache
def exact() -> Tensor:
    """Return the exact trajectories of the noise points, `[FINE + 1, POINTS, 2]`."""
    path = CondOT()
    times = times_of_log_snr(path, *SPAN, FINE)
    start = path.sigma(times[0]) * _noise()
    field = mixture().velocity(path)
    return _unscaled(path, times, sample(field, start, method="rk4", times=times, return_path=True))


def _unscaled(path: AffinePath, times: Tensor, x: Tensor) -> Tensor:
    """Return points `[k n 2]` at k times over √(α² + σ²): what no schedule's scale changes."""
    return x / (path.alpha(times).square() + path.sigma(times).square()).sqrt()[:, None, None]


def times_on(path: AffinePath, grid: str, steps: int) -> Tensor:
    """Return the times of the steps, from one end of `SPAN` to the other, `[steps + 1]`."""
    if grid == "log-SNR":
        return times_of_log_snr(path, *SPAN, steps)
    first, last = time_of_log_snr(path, torch.tensor(SPAN, dtype=torch.float64)).tolist()
    return torch.linspace(first, last, steps + 1, dtype=torch.float64)


@cache
def ends(sampler: str, grid: str, steps: int, place: float) -> Tensor:
    """Return where the points end on a schedule, `[POINTS, 2]`."""
    return ways(sampler, grid, steps, place)[-1]


def ways(sampler: str, grid: str, steps: int, place: float) -> Tensor:
    """Return the points of a sampler at each of its times, `[steps + 1, POINTS, 2]`."""
    path = schedule_at(place)
    times = times_on(path, grid, steps)
    field, x0 = mixture().velocity(path), path.sigma(times[0]) * _noise()
    if sampler == "euler":
        x = sample(field, x0, times=times, return_path=True)
    elif sampler == "ancestral":
        x = _ancestral(path, times, x0)
    else:
        x = sample_exponential(field, x0, path=path, method=sampler, times=times, return_path=True)
    return _unscaled(path, times, x)


def _ancestral(path: AffinePath, times: Tensor, x: Tensor) -> Tensor:
    """Sample with η = 1, with noise that the page draws, too.

    A step is one of DDIM, twice as long in log-SNR, and noise that leads halfway back.
    """
    random, field, way = Random(SEED + 1), mixture().velocity(path), [x]
    for now, stop in itertools.pairwise(times):
        beyond = time_of_log_snr(path, 2 * log_snr(path, stop) - log_snr(path, now))
        x = sample_exponential(field, x, path=path, times=torch.stack([now, beyond]))
        scale = path.alpha(stop) / path.alpha(beyond)
        new = (path.sigma(stop).square() - (scale * path.sigma(beyond)).square()).sqrt()
        x = scale * x + new * random.normals(*x.shape).double()
        way.append(x)
    return torch.stack(way)

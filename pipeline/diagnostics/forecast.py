"""Extrapolates from a pilot to a whole catalog: what it will take, and how certain that is.

A video with a stated duration is expected to take what the pilot took per second of such videos.
One without takes what the pilot took per video. Both count only if they survive. The interval is
what other pilots of the same size would have given: videos are resampled (bootstrap), and the share
of survivors is drawn from a beta distribution with Jeffreys' prior, which is wide even if all
survived.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.diagnostics.pilot import Floats, Pilot
from storage.catalog.catalog import Catalog

RESAMPLES = 1000
LEVEL = 0.95
_DEVIATIONS = 1.96
_LEAST_FACTOR = 1e-3
"""Another pilot's value counts as at least this share of the pilot's own."""
SURVIVORS = "survivors"
VIDEO_SECONDS = "film"


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number, with those that other pilots would have given instead."""

    totals: Floats
    """`(1 + RESAMPLES,)`: the value of this pilot, then those of the others.

    All estimates of a forecast are about the same other pilots.
    """
    upper_bound: float = math.inf
    """Upper bound of the interval, if there is one."""

    @property
    def value(self) -> float:
        """The value of this pilot."""
        return float(self.totals[0])

    @property
    def interval(self) -> tuple[float, float]:
        """Confidence interval, symmetric in the logarithm.

        Durations are skewed: a pilot without a long video gives too small a value.
        """
        # Nothing was spent, so there are no factors.
        if not self.value:
            return 0.0, 0.0
        factors = np.maximum(self.totals / self.value, _LEAST_FACTOR)
        spread = float(np.log(factors).std())
        low = self.value * math.exp(-_DEVIATIONS * spread)
        high = self.value * math.exp(_DEVIATIONS * spread)
        return low, min(self.upper_bound, high)

    def times(self, factor: float) -> Estimate:
        """The estimate in another unit, or at a price."""
        return Estimate(self.totals * factor)

    def at_least(self, other: Estimate | float) -> Estimate:
        """The larger of both, for things that take place at the same time."""
        least = other.totals if isinstance(other, Estimate) else other
        return Estimate(np.maximum(self.totals, least))


def sum_estimates(estimates: Iterable[Estimate]) -> Estimate:
    """The sum of several estimates."""
    return Estimate(np.sum([one.totals for one in estimates], axis=0))


@dataclass(frozen=True)
class CatalogSize:
    """What a catalog states about its videos before any is fetched."""

    videos: int
    stated_seconds: float
    """Sum of the durations that the catalog states."""
    without_duration: int
    """Videos for which it states none."""


def catalog_size(catalog: Catalog) -> CatalogSize:
    """The catalog's number of videos and sum of stated durations."""
    durations = [video.claimed_duration_seconds for video in catalog.videos]
    stated = [seconds for seconds in durations if seconds]
    return CatalogSize(len(catalog.videos), sum(stated), len(catalog.videos) - len(stated))


def extrapolate(pilot: Pilot, whole: CatalogSize, seed: int = 0) -> dict[str, Estimate]:
    """Totals for the whole catalog: `survivors`, `film` (seconds), and all of `pilot.spent`."""
    rng = np.random.default_rng(seed)
    has_duration = np.isfinite(pilot.claimed_seconds)
    if not has_duration.any():
        # Stated durations of the catalog can be compared with nothing in the pilot.
        whole = CatalogSize(whole.videos, 0.0, whole.videos)
    lost = pilot.requested - pilot.decoded
    other_shares = rng.beta(pilot.decoded + 0.5, lost + 0.5, RESAMPLES)
    survivor_shares = np.append(pilot.decoded / pilot.requested, other_shares)
    # Drawn once for all quantities, so that each is about the same other pilots.
    all_videos = _resampled(rng, np.ones_like(has_duration))
    with_duration = _resampled(rng, has_duration)
    claimed = with_duration @ np.nan_to_num(pilot.claimed_seconds)
    totals = {SURVIVORS: survivor_shares * whole.videos}
    for name, column in {VIDEO_SECONDS: pilot.video_seconds, **pilot.spent}.items():
        per_video = whole.without_duration * (all_videos @ column) / all_videos.sum(axis=1)
        if whole.stated_seconds:
            per_video += whole.stated_seconds * ((with_duration @ column) / claimed)
        totals[name] = survivor_shares * per_video
    # The pilot's own videos are known already: a pilot of the whole catalog has no uncertainty.
    uncertainty = float(np.sqrt(max(0.0, 1 - pilot.requested / whole.videos)))
    upper_bounds = {SURVIVORS: float(whole.videos)}
    return {
        name: Estimate(
            values[0] + (values - values[0]) * uncertainty, upper_bounds.get(name, math.inf)
        )
        for name, values in totals.items()
    }


def _resampled(rng: np.random.Generator, among: NDArray[np.bool_]) -> Floats:
    """`(1 + RESAMPLES, videos)`: each of these videos once, then how often each was drawn."""
    count = int(among.sum())
    weights = np.zeros((1 + RESAMPLES, len(among)))
    if count:
        weights[0, among] = 1
        weights[1:, among] = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return weights

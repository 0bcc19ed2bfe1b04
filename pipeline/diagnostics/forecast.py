"""From a pilot to the whole: how much of everything a catalog will take, and how sure that is.

A video with a stated duration is expected to take what the pilot took per second of such videos;
one without, what it took per video; both only if it survives. The interval is what other pilots of
the same size would have said: resampled videos (bootstrap), and a share of survivors drawn from
what the pilot leaves possible (a beta distribution, Jeffreys' prior, which is wide even if all
survived). Refuses to know where a pilot comes from, and prices.
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
"""What other pilots say counts as no less than this of what the pilot says."""
SURVIVORS = "survivors"
VIDEO_SECONDS = "film"


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number, and what other pilots would have said instead."""

    totals: Floats
    """`(1 + RESAMPLES,)`: this pilot's, then the others', the same pilots in every estimate of a
    forecast.
    """
    most: float = math.inf
    """It cannot be more than this."""

    @property
    def value(self) -> float:
        """What this pilot says."""
        return float(self.totals[0])

    @property
    def interval(self) -> tuple[float, float]:
        """Symmetric on a scale of factors: durations are skewed, and a pilot without a long video
        says too little.
        """
        if not self.value:
            return 0.0, 0.0
        spread = float(np.log(np.maximum(self.totals / self.value, _LEAST_FACTOR)).std())
        return self.value * math.exp(-_DEVIATIONS * spread), min(
            self.most, self.value * math.exp(_DEVIATIONS * spread)
        )

    def times(self, factor: float) -> Estimate:
        """In another unit, or at a price."""
        return Estimate(self.totals * factor)

    def at_least(self, other: Estimate | float) -> Estimate:
        """Where something else takes so much at the same time."""
        return Estimate(
            np.maximum(self.totals, other.totals if isinstance(other, Estimate) else other)
        )


def sum_estimates(estimates: Iterable[Estimate]) -> Estimate:
    """All of them together."""
    return Estimate(np.sum([one.totals for one in estimates], axis=0))


@dataclass(frozen=True)
class CatalogSize:
    """What is known of a catalog before its videos are."""

    videos: int
    stated_seconds: float
    """Sum of the durations that the catalog states."""
    without_duration: int
    """Videos for which it states none."""


def catalog_size(catalog: Catalog) -> CatalogSize:
    """Count."""
    stated = [
        video.claimed_duration_seconds for video in catalog.videos if video.claimed_duration_seconds
    ]
    return CatalogSize(len(catalog.videos), sum(stated), len(catalog.videos) - len(stated))


def extrapolate(pilot: Pilot, whole: CatalogSize, seed: int = 0) -> dict[str, Estimate]:
    """`survivors` (videos), `film` (seconds of them) and everything in `pilot.spent`, for the whole
    catalog.
    """
    rng = np.random.default_rng(seed)
    stated = np.isfinite(pilot.claimed_seconds)
    if not stated.any():  # there is nothing to compare the catalog's durations with
        whole = CatalogSize(whole.videos, 0.0, whole.videos)
    lost = pilot.asked - pilot.decoded
    shares = np.append(
        pilot.decoded / pilot.asked, rng.beta(pilot.decoded + 0.5, lost + 0.5, RESAMPLES)
    )
    # One draw for all quantities: each of them is then what the same other pilot would have said.
    drawn, with_duration = _resampled(rng, stated | True), _resampled(rng, stated)
    found = {SURVIVORS: shares * whole.videos}
    for what, column in {VIDEO_SECONDS: pilot.video_seconds, **pilot.spent}.items():
        expected = whole.without_duration * (drawn @ column) / drawn.sum(axis=1)
        if whole.stated_seconds:
            ratio = (with_duration @ column) / (
                with_duration @ np.nan_to_num(pilot.claimed_seconds)
            )
            expected += whole.stated_seconds * ratio
        found[what] = shares * expected
    # What was in the pilot is known already: a pilot of everything leaves nothing open.
    left_open = float(np.sqrt(max(0.0, 1 - pilot.asked / whole.videos)))
    most = {SURVIVORS: float(whole.videos)}
    return {
        what: Estimate(totals[0] + (totals - totals[0]) * left_open, most.get(what, math.inf))
        for what, totals in found.items()
    }


def _resampled(rng: np.random.Generator, among: NDArray[np.bool_]) -> Floats:
    """`(1 + RESAMPLES, videos)`: all of these videos once, then how often each is in as many drawn
    from them.
    """
    count = int(among.sum())
    weights = np.zeros((1 + RESAMPLES, len(among)))
    if count:
        weights[0, among] = 1
        weights[1:, among] = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return weights

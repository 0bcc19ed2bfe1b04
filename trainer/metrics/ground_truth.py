"""Ground truth from annotators' ratings, by the rules of the tables on TVSum and CoSum.

A random ranker differs by 15 points between these rules, so every table names its rule.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def top_half(ratings: ArrayLike) -> NDArray[np.bool_]:
    """`(A, N)` ratings → `(A, N)` bool: the better half of each annotator's shots.

    As in MINI-Net's code the half is `floor(N / 2)` shots. Of equal ratings the earlier shot comes
    first; MINI-Net uses an unstable sort, so its truth differs from machine to machine.
    """
    given = _check_ratings(ratings)
    order = np.argsort(-given, axis=1, kind="stable")
    chosen = np.zeros(given.shape, np.bool_)
    np.put_along_axis(chosen, order[:, : given.shape[1] // 2], True, axis=1)
    return chosen


def above_median(ratings: ArrayLike) -> NDArray[np.bool_]:
    """`(A, N)` ratings → `(A, N)` bool: the shots above the annotator's own median (UMT's code).

    On TVSum this is one shot in three. UMT takes the lower of two middle values and numpy their
    mean; the shots above it are the same.
    """
    given = _check_ratings(ratings)
    return given > np.median(given, axis=1, keepdims=True)


def majority(votes: ArrayLike, at_least: int = 2) -> NDArray[np.bool_]:
    """`(A, N)` votes, 0 or 1 → `(1, N)` bool: shots with `at_least` votes (MINI-Net's CoSum)."""
    return np.asarray((_check_ratings(votes) > 0).sum(axis=0, keepdims=True) >= at_least)


def _check_ratings(ratings: ArrayLike) -> NDArray[np.float64]:
    given = np.asarray(ratings, np.float64)
    if given.ndim != 2:
        raise ValueError(f"ratings must have shape (annotators, shots), got {given.shape}")
    if np.isnan(given).any():
        raise ValueError(f"ratings must not be NaN, got {int(np.isnan(given).sum())} that are")
    return given

"""From what annotators gave a shot to whether it is a highlight: the rules that tables on TVSum and
CoSum rest on.

The rule moves a random ranker by 15 points, so a table names it. Refuses to know which rule a paper
meant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def top_half(ratings: ArrayLike) -> NDArray[np.bool_]:
    """`(A, N)` ratings → the better half of the shots of each annotator, `floor(N / 2)` of them
    (MINI-Net's code).

    Of equal ratings the earlier shot comes first; MINI-Net leaves them to an unstable sort, so its
    truth differs from machine to machine.
    """
    given = _check_ratings(ratings)
    order = np.argsort(-given, axis=1, kind="stable")
    chosen = np.zeros(given.shape, np.bool_)
    np.put_along_axis(chosen, order[:, : given.shape[1] // 2], True, axis=1)
    return chosen


def above_median(ratings: ArrayLike) -> NDArray[np.bool_]:
    """`(A, N)` ratings → the shots that an annotator rated above their own median (UMT's code): on
    TVSum one in three.

    UMT takes the lower of two middle values and numpy their mean; what lies above is the same.
    """
    given = _check_ratings(ratings)
    return given > np.median(given, axis=1, keepdims=True)


def majority(votes: ArrayLike, at_least: int = 2) -> NDArray[np.bool_]:
    """`(A, N)` votes, 0 or 1 → `(1, N)`: the shots that at least so many annotators chose
    (MINI-Net's CoSum).
    """
    return np.asarray((_check_ratings(votes) > 0).sum(axis=0, keepdims=True) >= at_least)


def _check_ratings(ratings: ArrayLike) -> NDArray[np.float64]:
    given = np.asarray(ratings, np.float64)
    if given.ndim != 2 or np.isnan(given).any():
        raise ValueError(f"ratings are (annotators, shots) without NaN, got {given.shape}")
    return given

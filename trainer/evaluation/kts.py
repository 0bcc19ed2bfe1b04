"""Kernel temporal segmentation: finds where a video's features change, by dynamic programming.

Potapov, Douze, Harchaoui, Schmid: "Category-specific video summarization" (ECCV 2014), in the form
of the authors' code as li-plus/DSNet carries it (`src/kts`): linear kernel, and the number m of
changes that minimises

    J(m) / n + penalty * m / (2 n) * (log(n / m) + 1)

with J(m) the smallest total scatter of m + 1 segments of n rows. Results are row numbers, not
times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.metrics.ranking import Floats

PENALTY = 1.0
"""`vmax` of the published code, which calls it with 1."""
MAX_ROWS = 5000
"""The scatters of all segments are kept in memory: rows squared × 8 bytes, here 200 MB."""


def shot_boundaries(
    features: ArrayLike, *, max_changes: int | None = None, penalty: float = PENALTY
) -> NDArray[np.int64]:
    """`(n, width)` features → `(S + 1,)` row numbers from 0 to n.

    Shot i is rows `[b[i], b[i + 1])`. At most `max_changes` changes are tried, by default n - 1 as
    in DSNet; time grows as n² · max_changes. Features are used as they are; the published code is
    fed L2-normalised ones at two frames per second.
    """
    rows = np.asarray(features, np.float64)
    is_table = rows.ndim == 2 and np.isfinite(rows).all()
    if not is_table or not 1 <= len(rows) <= MAX_ROWS:
        raise ValueError(
            f"features must be finite, (rows, width), with 1 to {MAX_ROWS} rows; got {rows.shape}; "
            "sample fewer frames"
        )
    most = len(rows) - 1 if max_changes is None else min(max_changes, len(rows) - 1)
    costs, previous = _segment(segment_scatters(rows @ rows.T), most)
    changes = int(np.argmin(costs / len(rows) + penalties(len(rows), most, penalty)))
    # From the end of the video back to its start, along the changes that were best.
    edges = [len(rows)]
    for change in range(changes, 0, -1):
        edges.append(int(previous[change, edges[-1]]))
    return np.array([0, *reversed(edges)], np.int64)


def penalties(n: int, most: int, penalty: float) -> Floats:
    """`(most + 1,)`: the penalties of 0, 1, ... `most` changes among n rows."""
    changes = np.arange(1, most + 1)
    return np.concatenate([[0.0], penalty * changes / (2.0 * n) * (np.log(n / changes) + 1)])


def segment_scatters(kernel: Floats) -> Floats:
    """`(n, n)` kernel → `(n, n)` scatters: entry (i, j) is that of rows i to j around their mean.

    Row j is included; entries with j < i are 0. The sum of squared distances to the mean is the
    kernel's trace minus its sum over the length.
    """
    n = len(kernel)
    traces = np.concatenate([[0.0], np.cumsum(np.diagonal(kernel))])
    sums = np.zeros((n + 1, n + 1))
    sums[1:, 1:] = kernel.cumsum(axis=0).cumsum(axis=1)
    corners = np.diagonal(sums)
    start, end = np.arange(n)[:, np.newaxis], np.arange(1, n + 1)[np.newaxis, :]
    # Sums of the kernel's square blocks, from its two-dimensional prefix sums.
    diagonal_ends = corners[1:][np.newaxis, :] + corners[:-1][:, np.newaxis]
    blocks = diagonal_ends - sums[:-1, 1:] - sums[1:, :-1].T
    trace_sums = traces[1:][np.newaxis, :] - traces[:-1][:, np.newaxis]
    scatters: Floats = trace_sums - blocks / np.maximum(end - start, 1)
    return np.where(end > start, scatters, 0.0)


def _segment(scatters: Floats, most: int) -> tuple[Floats, NDArray[np.int32]]:
    """The smallest scatters with 0, 1, ... `most` changes, and where the last change then lies.

    Returns `(most + 1,)` scatters of all rows, and `(most + 1, n + 1)` row numbers: entry (m, e) is
    the last change among the first e rows with m changes.
    """
    n = len(scatters)
    # Entry (t, e) of `tail` is the scatter of rows t to e - 1, infinite where e <= t.
    tail = np.full((n + 1, n + 1), np.inf)
    tail[:n, 1:] = np.where(np.tri(n, n, -1, dtype=np.bool_), np.inf, scatters)
    prefix = tail[0].copy()
    costs = np.full(most + 1, np.inf)
    costs[0] = prefix[n]
    previous = np.zeros((most + 1, n + 1), np.int32)
    for change in range(1, most + 1):
        totals = prefix[:, np.newaxis] + tail
        best = totals.argmin(axis=0)
        previous[change] = best
        prefix = np.take_along_axis(totals, best[np.newaxis], axis=0)[0]
        costs[change] = prefix[n]
    return costs, previous

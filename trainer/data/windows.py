"""Windows: a plain dataset of so many consecutive rows of any store, for a training loop of yours.

    dataset = WindowDataset("data/sample", ["c3d/fc6"], window_rows=16, stride_rows=8)
    for batch in torch.utils.data.DataLoader(dataset, batch_size=32, num_workers=2):
        batch["c3d/fc6"], batch["mask"]  # (32, 16, 4096) float32, (32, 16) bool

It needs no users, annotators or labels. Models of the papers read `open_data` instead, which also
gives histories and whole videos.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from models.validation import at_least
from storage.base.errors import LookupFailed, SettingsError
from storage.catalog.catalog import Catalog, read_catalog, shard_of
from storage.catalog.splits import DOMAIN_GROUPING
from trainer.data.sources.features import Features
from trainer.data.sources.intervals import covered_seconds
from trainer.data.user_examples import ExampleCounts
from trainer.data.window_labels import Highlights, highlights_of_catalog

Split = str | Sequence[str] | None
Dropped = Mapping[str, Sequence[str]]
"""Reason → the videos that are left out for it."""


class WindowDataset(Dataset[dict[str, Any]]):
    """Windows of `window_rows` consecutive rows of the videos of a store: `dataset[number]`.

    A window is a dict:

    - `video_id`: str.
    - `row`: int, the number of its first row in the video.
    - `spans`: float64 `(window_rows, 2)`, start and end of each row in seconds.
    - `VARIANT/ARRAY`, one for each of `arrays`: float32 (uint8 for JPEG bytes)
      `(window_rows, ...)`. A ragged array has `max_items[key]` items in each row.
    - `mask`: bool `(window_rows,)`, False where the video has ended; all else is 0 there.
    - `label`, only with `labels`: float32 `(window_rows,)` in [0, 1], the share of each row's span
      that highlights cover.

    Windows start at every `stride_rows`-th row, and the last one of a video reaches its end. Items
    pickle without an open file, so every start method of `DataLoader` workers works.
    """

    def __init__(
        self,
        folder: Path | str,
        arrays: Sequence[str],
        *,
        window_rows: int,
        stride_rows: int | None = None,
        split: Split = None,
        labels: str | None = None,
        max_items: Mapping[str, int] | None = None,
    ) -> None:
        """Reads the catalog and the index of the store; rows are read when windows are.

        Args:
            folder: the catalog's folder, `ROOT/CATALOG`.
            arrays: keys such as `c3d/fc6`. Arrays of several variants must have the same spans.
            window_rows: rows of a window.
            stride_rows: rows between the starts of two windows; by default `window_rows`.
            split: None for all videos; a split of `Catalog.ids_by_split()`, such as `train`;
                `GROUPING/SPLIT`, such as `vlist_sel/test` or `folds-5-0/train`; or video ids.
            labels: None; `user`, the intervals that any user or annotator gave a value above 0;
                `user:NAME`, those of one of them; `annotator`, the segments that are highlights
                by the rule of a dataset whose annotators score segments. Videos without
                annotations are then left out.
            max_items: items to keep of each row of a ragged array, by key.

        Raises:
            LookupFailed: the catalog, a split, a video, a variant or an array does not exist.
            SettingsError: a setting does not suit the store, or no video is left.
            IntegrityError: a file is damaged.
        """
        self.window_rows = window_rows
        self.stride_rows = window_rows if stride_rows is None else stride_rows
        at_least("window_rows", self.window_rows, 1)
        at_least("stride_rows", self.stride_rows, 1)
        folder = Path(folder).absolute()
        catalog = read_catalog(folder)
        self.features = Features(folder, arrays, max_items=max_items or {})
        chosen, dropped = self._with_features(_ids_of_split(catalog, split))
        self._highlights: Highlights | None = None
        if labels is not None:
            self._highlights = highlights_of_catalog(
                labels, folder, catalog, self.features, chosen, domain=_domain_of(split)
            )
            chosen, dropped = _with_highlights(chosen, dropped, self._highlights)
        self.counts = _count_videos(chosen, dropped)
        """How many videos have windows, and why the others have none."""
        if not chosen:
            raise SettingsError(
                (f"{catalog.name} has no video left for windows: {self.counts}; extract features",)
            )
        self.video_ids = tuple(chosen)
        """The videos that have windows, ascending."""
        self._videos, self._first_rows = self._place_windows()
        of_videos = [shard_of(video_id, catalog.shard_count) for video_id in chosen]
        self.shards: NDArray[np.int64] = np.array(of_videos, np.int64)[self._videos]
        """`(windows,)`: the shard of each window's video."""

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, number: int) -> dict[str, Any]:
        # A range refuses numbers outside, and counts negative ones from the end.
        number = range(len(self))[number]
        video_id = self.video_ids[self._videos[number]]
        first = int(self._first_rows[number])
        all_spans = self.features.row_spans(video_id)
        spans = all_spans[first : first + self.window_rows]
        rows = self.features.rows(video_id, np.arange(first, first + len(spans)))
        mask = torch.zeros(self.window_rows, dtype=torch.bool)
        mask[: len(spans)] = True
        window: dict[str, Any] = {"video_id": video_id, "row": first}
        window["spans"] = self._padded(spans, np.dtype(np.float64))
        for key, values in rows.items():
            window[key] = self._padded(values, self._dtypes[key])
        window["mask"] = mask
        if self._highlights is not None:
            seconds = covered_seconds(spans, self._highlights[video_id])
            shares = np.clip(seconds / (spans[:, 1] - spans[:, 0]), 0, 1)
            window["label"] = self._padded(shares, np.dtype(np.float32))
        return window

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Array key → shape of one row, to build a network with."""
        return self.features.shapes

    @property
    def notes(self) -> tuple[str, ...]:
        """What a table of results must say: random weights, synthetic rows."""
        return self.features.notes

    @cached_property
    def digest(self) -> str:
        """12 hex digits: datasets with the same digest have the same windows in the same order."""
        sha = hashlib.sha256()
        named = [(key, self.features.max_items.get(key)) for key in self.features.keys]
        variants = [reader.name for reader in self.features.readers.values()]
        sha.update(repr((self.video_ids, named, variants, self.window_rows)).encode())
        sha.update(self._videos.tobytes() + self._first_rows.tobytes())
        return sha.hexdigest()[:12]

    @cached_property
    def _dtypes(self) -> Mapping[str, np.dtype[Any]]:
        return {key: self.features.dtype(key) for key in self.features.keys}

    def _with_features(self, ids: Sequence[str]) -> tuple[list[str], Dropped]:
        """The ids that have every array, and the others by reason."""
        chosen: list[str] = []
        dropped: dict[str, list[str]] = defaultdict(list)
        for video_id in ids:
            reason = self.features.missing_reason(video_id)
            if reason is None:
                chosen.append(video_id)
            else:
                dropped[reason].append(video_id)
        return chosen, dict(dropped)

    def _place_windows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`(windows,)` each: the number of the video, and the first row."""
        row_counts = self.features.first_reader.row_counts
        firsts = [
            window_starts(row_counts[video_id], self.window_rows, self.stride_rows)
            for video_id in self.video_ids
        ]
        videos = np.repeat(np.arange(len(firsts)), [len(of_video) for of_video in firsts])
        return videos, np.concatenate(firsts)

    def _padded(self, values: NDArray[Any], dtype: np.dtype[Any]) -> torch.Tensor:
        padded = np.zeros((self.window_rows, *values.shape[1:]), dtype)
        padded[: len(values)] = values
        return torch.from_numpy(padded)


def _with_highlights(
    ids: Sequence[str], dropped: Dropped, highlights: Highlights
) -> tuple[list[str], Dropped]:
    """The ids that are annotated, and the others by reason."""
    without = [video_id for video_id in ids if video_id not in highlights]
    kept = [video_id for video_id in ids if video_id in highlights]
    return kept, {**dropped, "not annotated": without} if without else dropped


def _count_videos(chosen: Sequence[str], dropped: Dropped) -> ExampleCounts:
    by_reason = {reason: tuple(ids) for reason, ids in sorted(dropped.items())}
    total = len(chosen) + sum(map(len, by_reason.values()))
    return ExampleCounts("videos", total, len(chosen), by_reason)


def window_starts(rows: int, window_rows: int, stride_rows: int) -> NDArray[np.int64]:
    """First rows of the windows of a video: every `stride_rows`, until one reaches the end."""
    starts = np.arange(0, rows, stride_rows, dtype=np.int64)
    # A window is needed if the one before it did not reach the end.
    is_needed = starts - stride_rows + window_rows < rows
    is_needed[:1] = True
    return starts[is_needed]


def _ids_of_split(catalog: Catalog, split: Split) -> Sequence[str]:
    if split is None:
        return tuple(sorted(catalog.video_ids))
    if not isinstance(split, str):
        unknown = sorted({*split} - catalog.video_ids)
        if unknown:
            raise LookupFailed(
                f"{catalog.name} has no video {unknown[0]!r}"
                f"{f' and {len(unknown) - 1} others' if unknown[1:] else ''}; see videos.csv"
            )
        return tuple(sorted({*split}))
    grouping, _, name = split.rpartition("/")
    splits = catalog.ids_by_split(grouping)
    if name not in splits:
        raise LookupFailed(f"{catalog.name} has no split {split!r}; it has {', '.join(splits)}")
    return splits[name]


def _domain_of(split: Split) -> str | None:
    """The domain that a split is; None for any other."""
    if not isinstance(split, str):
        return None
    grouping, _, name = split.rpartition("/")
    return name if grouping == DOMAIN_GROUPING else None

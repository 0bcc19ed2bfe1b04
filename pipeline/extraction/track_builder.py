"""Decoded windows of one video in, its feature track out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import ArraySpec, Extractor, Frame, accepts_planes
from models.extractors.base.yuv import Planes
from pipeline.compute.cpu_executor import Clip, Compute, ComputeRequest, Rows, compute_inline
from pipeline.extraction.variant import SEGMENT, Variant
from pipeline.sampling.planner import VideoSampling, Window, YuvSampling
from pipeline.sampling.segment_alignment import SegmentAlignment
from storage.base.errors import VideoError
from storage.base.records import JSON, Array, FeatureTrack, Ragged
from storage.base.video_status import VideoStatus, failure_status


@dataclass
class TrackBuilder:
    """Collects one video's rows of one variant. Memory: the prepared frames of the windows not yet
    complete.
    """

    video_id: str
    variant: Variant
    extractor: Extractor
    compute: Compute = compute_inline
    """What computes rows: at once, or elsewhere, in which case adding windows may wait until there
    is room.
    """
    alignment: SegmentAlignment | None = None
    """What became of the video's segments, once the decoder says so."""
    lacking: int = 0
    """Rows that the sampling asks for, and that the video is too short for, once the decoder says
    so.
    """
    _prepared: dict[int, Any] = field(default_factory=dict)
    _waiting: list[Window] = field(default_factory=list)
    _spans: list[tuple[float, float]] = field(default_factory=list)
    _batches: list[Future[Rows]] = field(default_factory=list)
    _segments: list[NDArray[np.int64]] = field(default_factory=list)

    @property
    def sampling(self) -> VideoSampling:
        """What to ask a decoder for."""
        own = self.variant.sampling_of(self.video_id)
        return (
            YuvSampling(own)
            if accepts_planes(self.extractor) and not isinstance(own, YuvSampling)
            else own
        )

    def add_frame(self, index: int, frame: Frame | Planes) -> None:
        """A decoded frame that some window of this variant wants; `frame` is not kept."""
        self._prepared[index] = self.extractor.prepare(frame)

    def add_window(self, window: Window) -> None:
        """A row to be, all of whose frames were added."""
        self._waiting.append(window)
        if len(self._waiting) == self.variant.spec.windows_per_batch:
            self._flush()

    def abandon(self) -> None:
        """Compute no more of this video, and return when nothing does."""
        wait([batch for batch in self._batches if not batch.cancel()])

    def finish(self) -> FeatureTrack:
        """The track; VideoError `too_short` if the video gave no row, `non_finite` if a number is
        not one.
        """
        if self._waiting:
            self._flush()
        if not self._spans:
            raise VideoError(self.video_id, self._why_no_rows())
        arrays = dict(self._stacked())
        return FeatureTrack(self.video_id, np.array(self._spans, dtype=np.float64), arrays)

    def facts(self) -> dict[str, JSON]:
        """What is worth keeping of this video for this variant alone."""
        if self.alignment is None:
            return {"rows_lacking": self._lacking()} if self.lacking else {}
        return {"segments": {**self.alignment.record(), "rows": len(self._spans)}}

    def _lacking(self) -> dict[str, JSON]:
        sampling = self.variant.sampling
        return {
            "count": self.lacking,
            "why": f"too few frames before and behind these instants for {sampling}",
        }

    def _why_no_rows(self) -> VideoStatus:
        alignment = self.alignment
        if alignment is None:
            return failure_status("too_short", f"no window of {self.variant.sampling} fits")
        if alignment.clock == "misaligned":
            return failure_status("misaligned", alignment.detail)
        return failure_status(
            "no_segment", f"{alignment.annotated} annotated, {alignment.outside} outside the file"
        )

    def _flush(self) -> None:
        clips = clips_of(self._waiting, self._prepared)
        self._batches.append(
            self.compute(ComputeRequest(self.extractor, clips, self.variant.spec.windows_on_gpu))
        )
        self._segments += segments_of(self._waiting)
        self._spans += [(window.start_seconds, window.end_seconds) for window in self._waiting]
        oldest = self._waiting[-1].oldest
        self._prepared = {
            index: frame for index, frame in self._prepared.items() if index >= oldest
        }
        self._waiting = []

    def _stacked(self) -> Iterator[tuple[str, Array | Ragged]]:
        batches = [batch.result() for batch in self._batches]
        for name, spec in self.variant.arrays.items():
            rows = (
                self._segments
                if name == SEGMENT
                else [row for batch in batches for row in batch[name]]
            )
            stacked = _ragged(rows, spec) if spec.ragged else _fixed(rows, spec)
            _refuse_non_finite(self.video_id, name, stacked)
            yield name, stacked


def extract_rows(
    extractor: Extractor, windows: Sequence[Window], prepared: Mapping[int, Any]
) -> Rows:
    """One row a window of every array; `prepared` holds all their frames by number."""
    rows = dict(extractor.extract(clips_of(windows, prepared)))
    numbers = segments_of(windows)
    return {**rows, SEGMENT: numbers} if numbers else rows


def clips_of(windows: Sequence[Window], prepared: Mapping[int, Any]) -> list[Clip]:
    """Each window's frames, out of the prepared ones by number."""
    return [[prepared[index] for index in window.frame_indices] for window in windows]


def segments_of(windows: Sequence[Window]) -> list[NDArray[np.int64]]:
    """The segments that windows are about; none where they are about none."""
    return [np.array(window.segment, np.int64) for window in windows if window.segment is not None]


def _fixed(rows: Sequence[NDArray[Any]], spec: ArraySpec) -> Array:
    with np.errstate(
        over="ignore"
    ):  # what float16 cannot hold becomes infinity, and is refused as such
        return np.stack(rows).astype(spec.dtype).reshape(len(rows), *spec.item_shape)


def _ragged(rows: Sequence[NDArray[Any]], spec: ArraySpec) -> Ragged:
    with np.errstate(over="ignore"):
        values = np.concatenate([row.reshape(-1, *spec.item_shape) for row in rows]).astype(
            spec.dtype
        )
    return Ragged(values, np.array([len(row) for row in rows], dtype=np.int64))


def _refuse_non_finite(video_id: str, name: str, array: Array | Ragged) -> None:
    values = array.values if isinstance(array, Ragged) else array
    bad = (
        len(values) - int(np.isfinite(values.reshape(len(values), -1)).all(axis=1).sum())
        if len(values)
        else 0
    )
    if bad:
        raise VideoError(
            video_id, failure_status("non_finite", f"{bad} of {len(values)} rows of {name}")
        )

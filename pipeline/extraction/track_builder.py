"""Collects the feature rows of one video: decoded windows in, a feature track out."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import ArraySpec, Extractor, Frame, accepts_planes
from models.extractors.base.row_contract import row_faults
from models.extractors.base.yuv import Planes
from models.extractors.registry import EXTRACTORS
from pipeline.compute.cpu_executor import Clip, Compute, ComputeRequest, Rows, compute_inline
from pipeline.compute.extractor_calls import Caller, naming_errors
from pipeline.extraction.variant import SEGMENT, Variant
from pipeline.sampling.planner import VideoSampling, Window, YuvSampling
from pipeline.sampling.segment_alignment import SegmentAlignment
from storage.base.errors import ExtractorFailed, VideoError
from storage.base.records import JSON, Array, FeatureTrack, Ragged
from storage.base.video_status import VideoStatus, failure_status


@dataclass
class TrackBuilder:
    """Collects one video's rows for one variant.

    Only the prepared frames of windows that are not computed yet are kept in memory.
    """

    video_id: str
    variant: Variant
    extractor: Extractor
    compute: Compute = compute_inline
    """Computes rows, at once or elsewhere; then `add_window` may block until there is room."""
    alignment: SegmentAlignment | None = None
    """How the video's segments were aligned; set when the decoder reports it."""
    rows_lacking: int = 0
    """Rows that the video is too short for; set when the decoder reports it."""
    _prepared: dict[int, Any] = field(default_factory=dict)
    _waiting: list[Window] = field(default_factory=list)
    _spans: list[tuple[float, float]] = field(default_factory=list)
    _batches: list[tuple[int, Future[Rows]]] = field(default_factory=list)
    """The windows of each call, and its rows."""
    _segments: list[NDArray[np.int64]] = field(default_factory=list)

    @functools.cached_property
    def _caller(self) -> Caller:
        return caller_of(self.variant, self.video_id)

    @property
    def sampling(self) -> VideoSampling:
        """The sampling to request from a decoder."""
        sampling = self.variant.sampling_of(self.video_id)
        if isinstance(sampling, YuvSampling) or not accepts_planes(self.extractor):
            return sampling
        return YuvSampling(sampling)

    def add_frame(self, index: int, frame: Frame | Planes) -> None:
        """Prepare a decoded frame for the windows of this variant. `frame` itself is not kept."""
        with naming_errors(self._caller, self.extractor, "prepare"):
            self._prepared[index] = self.extractor.prepare(frame)

    def add_window(self, window: Window) -> None:
        """Add a window whose frames were all added before."""
        self._waiting.append(window)
        if len(self._waiting) == self.variant.spec.windows_per_batch:
            self._flush()

    def cancel(self) -> None:
        """Cancel the computation of this video; returns when nothing of it runs any more."""
        # A request that runs already cannot be cancelled, and still uses prepared frames.
        running = [batch for _, batch in self._batches if not batch.cancel()]
        wait(running)

    def finish(self) -> FeatureTrack:
        """The feature track.

        Raises VideoError: `too_short`, `misaligned` or `no_segment` if there is no row,
        `non_finite` if a row contains NaN or an infinity. Raises ExtractorFailed if the extractor
        failed, or if its rows are not what its spec says.
        """
        # The last batch may be smaller than the others.
        if self._waiting:
            self._flush()
        if not self._spans:
            raise VideoError(self.video_id, self._why_no_rows())
        spans = np.array(self._spans, dtype=np.float64)
        return FeatureTrack(self.video_id, spans, self._stacked_arrays())

    def facts(self) -> dict[str, JSON]:
        """Facts about this video that hold for this variant only, for its manifest entry."""
        if self.alignment is None:
            if not self.rows_lacking:
                return {}
            why = f"too few frames before and behind these instants for {self.variant.sampling}"
            return {"rows_lacking": {"count": self.rows_lacking, "why": why}}
        return {"segments": {**self.alignment.record(), "rows": len(self._spans)}}

    def _why_no_rows(self) -> VideoStatus:
        alignment = self.alignment
        if alignment is None:
            return failure_status("too_short", f"no window of {self.variant.sampling} fits")
        if alignment.clock == "misaligned":
            return failure_status("misaligned", alignment.detail)
        counts = f"{alignment.annotated} annotated, {alignment.outside} outside the file"
        return failure_status("no_segment", counts)

    def _flush(self) -> None:
        clips = clips_of(self._waiting, self._prepared)
        request = ComputeRequest(
            self.extractor, clips, self.variant.spec.windows_on_gpu, caller=self._caller
        )
        self._batches.append((len(clips), self.compute(request)))
        self._segments += segments_of(self._waiting)
        self._spans += [(window.start_seconds, window.end_seconds) for window in self._waiting]
        # Later windows may overlap these: the frames that they share are kept.
        oldest = self._waiting[-1].oldest
        self._prepared = {
            index: frame for index, frame in self._prepared.items() if index >= oldest
        }
        self._waiting = []

    def _stacked_arrays(self) -> dict[str, Array | Ragged]:
        batches = [self._checked(windows, batch.result()) for windows, batch in self._batches]
        arrays: dict[str, Array | Ragged] = {}
        for name, spec in self.variant.arrays.items():
            rows = self._segments if name == SEGMENT else _rows_named(name, batches)
            # Stacked at the end: the number of rows is not known before.
            arrays[name] = _stack_ragged(rows, spec) if spec.ragged else _stack_fixed(rows, spec)
            _check_finite(self.video_id, name, arrays[name])
        return arrays

    def _checked(self, windows: int, rows: Rows) -> Rows:
        own_arrays = self.variant.spec.arrays(self.variant.settings)
        faults = list(row_faults(rows, own_arrays, windows))
        if not faults:
            return rows
        caller = self._caller
        raise ExtractorFailed(
            f"extractor {caller.extractor} breaks its spec, at video {caller.video_id}: "
            f"{'; '.join(faults)}. {caller.advice}"
        )


def caller_of(variant: Variant, video_id: str) -> Caller:
    """How messages name the extractor that is called for one video."""
    return Caller(variant.name, EXTRACTORS.plugin_text(variant.spec.name), video_id)


def extract_rows(
    extractor: Extractor, windows: Sequence[Window], prepared: Mapping[int, Any]
) -> Rows:
    """One row per window, of every array. `prepared` holds all frames of the windows by number."""
    rows = dict(extractor.extract(clips_of(windows, prepared)))
    numbers = segments_of(windows)
    return {**rows, SEGMENT: numbers} if numbers else rows


def clips_of(windows: Sequence[Window], prepared: Mapping[int, Any]) -> list[Clip]:
    """The prepared frames of each window."""
    return [[prepared[index] for index in window.frame_indices] for window in windows]


def segments_of(windows: Sequence[Window]) -> list[NDArray[np.int64]]:
    """The numbers of the windows' annotated segments; empty if they are of none."""
    return [np.array(window.segment, np.int64) for window in windows if window.segment is not None]


def _rows_named(name: str, batches: Sequence[Rows]) -> list[NDArray[Any]]:
    return [row for batch in batches for row in batch[name]]


def _stack_fixed(rows: Sequence[NDArray[Any]], spec: ArraySpec) -> Array:
    # What float16 cannot hold becomes infinity here, and is then rejected as non-finite.
    with np.errstate(over="ignore"):
        stacked = np.stack(rows).astype(spec.dtype)
    return stacked.reshape(len(rows), *spec.item_shape)


def _stack_ragged(rows: Sequence[NDArray[Any]], spec: ArraySpec) -> Ragged:
    items = [row.reshape(-1, *spec.item_shape) for row in rows]
    with np.errstate(over="ignore"):
        values = np.concatenate(items).astype(spec.dtype)
    return Ragged(values, np.array([len(row) for row in rows], dtype=np.int64))


def _check_finite(video_id: str, name: str, array: Array | Ragged) -> None:
    values = array.values if isinstance(array, Ragged) else array
    if not len(values):
        return
    is_finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    bad = len(values) - int(is_finite.sum())
    if bad:
        detail = f"{bad} of {len(values)} rows of {name}"
        raise VideoError(video_id, failure_status("non_finite", detail))

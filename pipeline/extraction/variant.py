"""Frames and windows → one video's feature track, for one extractor.

Knows the extractor's contract and the declared dtypes. Refuses to know how frames were decoded and where tracks go.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec, Frame, random_seed, takes_planes
from models.extractors.base.precision import Numerics, numerics_of, refusals
from models.extractors.base.sampling import FramesOfSegments, Sampling
from models.extractors.base.yuv import Planes
from pipeline.compute.cpu_executor import Clip, Compute, Rows, Work, at_once
from pipeline.sampling.planners import InPlanes, VideoSampling, Window
from pipeline.sampling.segment_alignment import Placement, SegmentsOfVideo
from pipeline.weights.weights_folder import file_sha256, ready, undoing
from storage.base.errors import SettingsError, VideoError
from storage.base.fingerprint import fingerprint, plain
from storage.base.records import JSON, Array, FeatureTrack, Ragged, Video
from storage.base.video_status import Verdict, failed
from storage.catalog.annotated_segments import SegmentTable

SEGMENT = "segment"
"""The array, beside the extractor's own, that says which annotated segment a row is about: its number in the video's
sorted table, `storage.catalog.annotated_segments`."""


@dataclass(frozen=True)
class Variant:
    """One extractor with everything a user chose for it: what a feature folder is named after."""

    name: str
    """`c3d`, or `c3d.word` for a second group of settings of the same extractor."""
    spec: ExtractorSpec
    settings: Any
    weights: str = ""
    """A file's path, `random:SEED`, or empty for an extractor without weights."""
    converted_folder: Path | None = None
    """Where the weights' converted form is kept; by default beside the file."""
    segments: SegmentTable | None = None
    """The catalog's, where rows are annotated segments; None with any other sampling, and before `of_catalog`."""

    def __post_init__(self) -> None:
        refused = list(refusals(self.spec.name, self.spec.arrays(self.settings), self.numerics))
        if refused:
            raise ValueError("; ".join(refused))

    def of_catalog(self, segments: Callable[[], SegmentTable]) -> Variant:
        """This variant for one catalog: where rows are annotated segments, they are these."""
        return dataclasses.replace(self, segments=segments()) if self._is_segmented else self

    @property
    def _is_segmented(self) -> bool:
        return isinstance(self.sampling, FramesOfSegments)

    def _table(self) -> SegmentTable:
        if self.segments is None:
            raise ValueError(f"{self.name} has a row for each annotated segment: say of which catalog, with of_catalog")
        return self.segments

    def sampling_of(self, video_id: str) -> VideoSampling:
        """Which frames of one video make a row."""
        sampling = self.sampling
        if not isinstance(sampling, FramesOfSegments):
            return sampling
        table = self._table()
        said = table.videos.get(video_id, Video(video_id))
        return SegmentsOfVideo(
            sampling.length_frames,
            sampling.spread,
            table.time_unit,
            table.segments.get(video_id, ()),
            said.frames_least,
            said.frames_most,
            said.claimed_duration_seconds,
        )

    @property
    def numerics(self) -> Numerics:
        """How exactly its network computes; an extractor without a network has no choice."""
        return numerics_of(self.settings)

    @property
    def sampling(self) -> Sampling:
        """Which frames make a row."""
        return self.spec.sampling(self.settings)

    @property
    def arrays(self) -> Mapping[str, ArraySpec]:
        """What is kept of a row."""
        own = self.spec.arrays(self.settings)
        return {**own, SEGMENT: ArraySpec("int64", ())} if self._is_segmented else own

    def description(self) -> dict[str, JSON]:
        """Everything that shapes the bytes, readable; its canonical JSON is what the fingerprint hashes."""
        described: dict[str, JSON] = {
            "extractor": self.spec.name,
            "numerics_version": self.spec.numerics_version,
            "settings": _identified(self.settings, self.spec.files(self.settings)),
            "sampling": {self.sampling.kind: plain(self.sampling)},
            "arrays": plain(self.arrays),
            "weights": weights_identity(self.weights),
        }
        return described | ({"segments": self._table().description()} if self._is_segmented else {})

    def fingerprint(self) -> str:
        """12 hex digits of the description."""
        return fingerprint(self.description())

    @property
    def full_name(self) -> str:
        """`c3d-<fingerprint>`: names exactly these settings in a store."""
        return f"{self.name}-{self.fingerprint()}"

    def build(self, device: str) -> Extractor:
        """The network with its weights, on a torch device. SettingsError if the weights are another network's."""
        weights = ready(self.weights, weights_identity(self.weights), self.converted_folder)
        try:
            return self.spec.build(self.settings, weights, device)
        except ValueError as error:
            raise SettingsError((f"[{self.name}] weights {self.weights}: {error}{undoing(self.weights)}",)) from error


def resolve_device(device: str) -> str:
    """`auto` becomes the first GPU if there is one, else the CPU. SettingsError for a GPU that is not there."""
    if device == "cpu":
        return device
    import torch  # seconds to import: only what runs networks pays

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError((f"[extract] device is {device}, but torch finds no GPU here; use auto or cpu",))
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def visible_gpus(device: str) -> tuple[str, ...]:
    """The GPUs that `device` speaks of, as CUDA_VISIBLE_DEVICES names them; empty for `cpu`, or where there is none."""
    import torch

    if device == "cpu":
        return ()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    names = named or [str(number) for number in range(torch.cuda.device_count())]
    _, _, chosen = device.partition(":")
    return tuple(names[: torch.cuda.device_count()]) if not chosen else tuple(names[int(chosen) : int(chosen) + 1])


def _identified(settings: Any, files: Sequence[str]) -> dict[str, JSON]:
    """Settings by name; those that name a file with the file's sha256, so that no path is part of a fingerprint."""
    fields = {field.name: plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    return fields | {name: weights_identity(getattr(settings, name)) for name in files}


def weights_identity(weights: str) -> str:
    """`sha256:…` of a weights file's bytes; `random:SEED` and empty stay as they are."""
    if not weights or random_seed(weights) is not None:
        return weights
    return f"sha256:{file_sha256(Path(weights))}"


@dataclass
class TrackBuilder:
    """Collects one video's rows of one variant. Memory: the prepared frames of the windows not yet complete."""

    video_id: str
    variant: Variant
    extractor: Extractor
    compute: Compute = at_once
    """What computes rows: at once, or elsewhere, in which case adding windows may wait until there is room."""
    placement: Placement | None = None
    """What became of the video's segments, once the decoder says so."""
    lacking: int = 0
    """Rows that the sampling asks for, and that the video is too short for, once the decoder says so."""
    _prepared: dict[int, Any] = field(default_factory=dict)
    _waiting: list[Window] = field(default_factory=list)
    _spans: list[tuple[float, float]] = field(default_factory=list)
    _batches: list[Future[Rows]] = field(default_factory=list)
    _segments: list[NDArray[np.int64]] = field(default_factory=list)

    @property
    def sampling(self) -> VideoSampling:
        """What to ask a decoder for."""
        own = self.variant.sampling_of(self.video_id)
        return InPlanes(own) if takes_planes(self.extractor) and not isinstance(own, InPlanes) else own

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
        """The track; VideoError `too_short` if the video gave no row, `non_finite` if a number is not one."""
        if self._waiting:
            self._flush()
        if not self._spans:
            raise VideoError(self.video_id, self._why_no_rows())
        arrays = dict(self._stacked())
        return FeatureTrack(self.video_id, np.array(self._spans, dtype=np.float64), arrays)

    def facts(self) -> dict[str, JSON]:
        """What is worth keeping of this video for this variant alone."""
        if self.placement is None:
            return {"rows_lacking": self._lacking()} if self.lacking else {}
        return {"segments": {**self.placement.record(), "rows": len(self._spans)}}

    def _lacking(self) -> dict[str, JSON]:
        sampling = self.variant.sampling
        return {"count": self.lacking, "why": f"too few frames before and behind these instants for {sampling}"}

    def _why_no_rows(self) -> Verdict:
        placement = self.placement
        if placement is None:
            return failed("too_short", f"no window of {self.variant.sampling} fits")
        if placement.clock == "misaligned":
            return failed("misaligned", placement.detail)
        return failed("no_segment", f"{placement.annotated} annotated, {placement.outside} outside the file")

    def _flush(self) -> None:
        clips = clips_of(self._waiting, self._prepared)
        self._batches.append(self.compute(Work(self.extractor, clips, self.variant.spec.windows_on_gpu)))
        self._segments += segments_of(self._waiting)
        self._spans += [(window.start_seconds, window.end_seconds) for window in self._waiting]
        oldest = self._waiting[-1].oldest
        self._prepared = {index: frame for index, frame in self._prepared.items() if index >= oldest}
        self._waiting = []

    def _stacked(self) -> Iterator[tuple[str, Array | Ragged]]:
        batches = [batch.result() for batch in self._batches]
        for name, spec in self.variant.arrays.items():
            rows = self._segments if name == SEGMENT else [row for batch in batches for row in batch[name]]
            stacked = _ragged(rows, spec) if spec.ragged else _fixed(rows, spec)
            _refuse_non_finite(self.video_id, name, stacked)
            yield name, stacked


def rows_of(extractor: Extractor, windows: Sequence[Window], prepared: Mapping[int, Any]) -> Rows:
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
    with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinity, and is refused as such
        return np.stack(rows).astype(spec.dtype).reshape(len(rows), *spec.item_shape)


def _ragged(rows: Sequence[NDArray[Any]], spec: ArraySpec) -> Ragged:
    with np.errstate(over="ignore"):
        values = np.concatenate([row.reshape(-1, *spec.item_shape) for row in rows]).astype(spec.dtype)
    return Ragged(values, np.array([len(row) for row in rows], dtype=np.int64))


def _refuse_non_finite(video_id: str, name: str, array: Array | Ragged) -> None:
    values = array.values if isinstance(array, Ragged) else array
    bad = len(values) - int(np.isfinite(values.reshape(len(values), -1)).all(axis=1).sum()) if len(values) else 0
    if bad:
        raise VideoError(video_id, failed("non_finite", f"{bad} of {len(values)} rows of {name}"))

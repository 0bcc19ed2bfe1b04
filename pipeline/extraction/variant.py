"""Frames and windows → one video's feature track, for one extractor.

Knows the extractor's contract and the declared dtypes. Refuses to know how frames were decoded and
where tracks go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec, random_seed
from models.extractors.base.precision import Numerics, numerics_of, precision_conflicts
from models.extractors.base.sampling import FramesOfSegments, Sampling
from pipeline.sampling.planner import VideoSampling
from pipeline.sampling.segment_alignment import SegmentsOfVideo
from pipeline.weights.weights_folder import file_sha256, forget_advice, prepare_weights
from storage.base.errors import SettingsError
from storage.base.fingerprint import fingerprint, to_json_value
from storage.base.records import JSON, Video
from storage.catalog.annotated_segments import SegmentTable

SEGMENT = "segment"
"""The array, beside the extractor's own, that says which annotated segment a row is about: its
number in the video's sorted table, `storage.catalog.annotated_segments`.
"""


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
    """The catalog's, where rows are annotated segments; None with any other sampling, and before
    `of_catalog`.
    """

    def __post_init__(self) -> None:
        refused = list(
            precision_conflicts(self.spec.name, self.spec.arrays(self.settings), self.numerics)
        )
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
            raise ValueError(
                f"{self.name} has a row for each annotated segment: say of which catalog, with of_catalog"
            )
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
        """Everything that shapes the bytes, readable; its canonical JSON is what the fingerprint
        hashes.
        """
        described: dict[str, JSON] = {
            "extractor": self.spec.name,
            "numerics_version": self.spec.numerics_version,
            "settings": _identified(self.settings, self.spec.files(self.settings)),
            "sampling": {self.sampling.kind: to_json_value(self.sampling)},
            "arrays": to_json_value(self.arrays),
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
        """The network with its weights, on a torch device. SettingsError if the weights are another
        network's.
        """
        weights = prepare_weights(
            self.weights, weights_identity(self.weights), self.converted_folder
        )
        try:
            return self.spec.build(self.settings, weights, device)
        except ValueError as error:
            raise SettingsError(
                (f"[{self.name}] weights {self.weights}: {error}{forget_advice(self.weights)}",)
            ) from error


def _identified(settings: Any, files: Sequence[str]) -> dict[str, JSON]:
    """Settings by name; those that name a file with the file's sha256, so that no path is part of a
    fingerprint.
    """
    fields = {
        field.name: to_json_value(getattr(settings, field.name))
        for field in dataclasses.fields(settings)
    }
    return fields | {name: weights_identity(getattr(settings, name)) for name in files}


def weights_identity(weights: str) -> str:
    """`sha256:…` of a weights file's bytes; `random:SEED` and empty stay as they are."""
    if not weights or random_seed(weights) is not None:
        return weights
    return f"sha256:{file_sha256(Path(weights))}"

"""Defines a variant: one extractor with all settings, and the fingerprint of its features."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec, random_seed
from models.extractors.base.failures import describe_error
from models.extractors.base.precision import Numerics, numerics_of, precision_conflicts
from models.extractors.base.sampling import FramesOfSegments, Sampling
from models.extractors.registry import EXTRACTORS
from pipeline.compute.extractor_calls import Caller, build_failure, is_of_extractor
from pipeline.sampling.planner import VideoSampling
from pipeline.sampling.segment_alignment import SegmentsOfVideo
from pipeline.weights.weights_folder import file_sha256, forget_advice, prepare_weights
from storage.base.errors import SettingsError
from storage.base.fingerprint import fingerprint, to_json_value
from storage.base.records import JSON, Video
from storage.catalog.annotated_segments import SegmentTable

SEGMENT = "segment"
"""Name of an extra array: the annotated segment of each row.

It is the segment's number in the video's sorted table, see `storage.catalog.annotated_segments`.
"""


SPAN_BYTES = 16
"""Start and end of a row, float64."""


@dataclass(frozen=True)
class Variant:
    """One extractor with the user's settings. Feature folders are named after it."""

    name: str
    """`c3d`, or `c3d.word` for a second set of settings of the same extractor."""
    spec: ExtractorSpec
    settings: Any
    weights: str = ""
    """Path of a file, `random:SEED`, or empty for an extractor without weights."""
    converted_folder: Path | None = None
    """Folder for the converted form of the weights; by default that of the file."""
    segments: SegmentTable | None = None
    """The catalog's annotated segments, if rows are segments; None before `of_catalog`."""

    def __post_init__(self) -> None:
        arrays = _made_by_spec(self.spec.arrays, "arrays", self.settings)
        sampling = _made_by_spec(self.spec.sampling, "sampling", self.settings)
        refused = [
            *_array_conflicts(arrays),
            *_sampling_conflicts(sampling),
        ] or list(precision_conflicts(self.spec.name, arrays, self.numerics))
        if refused:
            raise ValueError("; ".join(refused))

    def of_catalog(self, segments: Callable[[], SegmentTable]) -> Variant:
        """This variant with the catalog's annotated segments, if its rows are segments.

        `segments` reads them, and is called only in that case.
        """
        if not self._is_segmented:
            return self
        return dataclasses.replace(self, segments=segments())

    @property
    def _is_segmented(self) -> bool:
        return isinstance(self.sampling, FramesOfSegments)

    def _table(self) -> SegmentTable:
        if self.segments is None:
            raise ValueError(
                f"{self.name} has a row for each annotated segment: call of_catalog first, "
                "which sets the catalog's segments"
            )
        return self.segments

    def sampling_of(self, video_id: str) -> VideoSampling:
        """Which frames of one video make a row; of segments, with the video's own segments."""
        sampling = self.sampling
        if not isinstance(sampling, FramesOfSegments):
            return sampling
        table = self._table()
        video = table.videos.get(video_id, Video(video_id))
        return SegmentsOfVideo(
            sampling.length_frames,
            sampling.spread,
            table.time_unit,
            table.segments.get(video_id, ()),
            video.frames_least,
            video.frames_most,
            video.claimed_duration_seconds,
        )

    @property
    def numerics(self) -> Numerics:
        """Precision and resizing of its network. Extractors without a network have no choice."""
        return numerics_of(self.settings)

    @property
    def sampling(self) -> Sampling:
        """Which frames make a row."""
        return self.spec.sampling(self.settings)

    @property
    def arrays(self) -> Mapping[str, ArraySpec]:
        """The arrays that are stored of each row."""
        own = self.spec.arrays(self.settings)
        if not self._is_segmented:
            return own
        return {**own, SEGMENT: ArraySpec("int64", ())}

    def description(self) -> dict[str, JSON]:
        """Everything that affects the stored bytes. The fingerprint hashes its canonical JSON."""
        # `kind` instead of the class name: the fingerprint must not change if a class is renamed.
        described: dict[str, JSON] = {
            "extractor": self.spec.name,
            "numerics_version": self.spec.numerics_version,
            "settings": _identified(self.settings, self.spec.files(self.settings)),
            "sampling": {self.sampling.kind: to_json_value(self.sampling)},
            "arrays": to_json_value(self.arrays),
            "weights": weights_identity(self.weights),
        }
        if self._is_segmented:
            # Rows depend on the table: features of another table are other features.
            described["segments"] = self._table().description()
        return described

    @property
    def fixed_row_bytes(self) -> int:
        """Size of a row's span and of its arrays of fixed shape; ragged arrays are not counted."""
        sizes = [
            np.dtype(array.dtype).itemsize * math.prod(array.item_shape)
            for array in self.arrays.values()
            if not array.ragged
        ]
        return SPAN_BYTES + sum(sizes)

    def fingerprint(self) -> str:
        """12 hex digits, a hash of the description."""
        return fingerprint(self.description())

    @property
    def full_name(self) -> str:
        """`c3d-<fingerprint>`, unique for these settings in a store."""
        return f"{self.name}-{self.fingerprint()}"

    def build(self, device: str) -> Extractor:
        """The network with its weights, on a torch device.

        Raises SettingsError if the weights belong to another network, ExtractorFailed if its code
        fails in another way.
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
        except Exception as error:
            if isinstance(error, OSError) or not is_of_extractor(error):
                raise
            caller = Caller(self.name, EXTRACTORS.plugin_text(self.spec.name), "")
            raise build_failure(caller, self.spec.build, weights, error) from error


def _made_by_spec(make: Callable[[Any], Any], part: str, settings: Any) -> Any:
    """`spec.arrays` or `spec.sampling` of the settings; ValueError if they cannot be made."""
    try:
        return make(settings)
    except ValueError:
        raise  # its message is about a setting
    except Exception as error:
        described = describe_error(error, type(settings))
        raise ValueError(
            f"the spec's {part} cannot be made of these settings: {described}"
        ) from error


def _array_conflicts(arrays: Any) -> Iterator[str]:
    if not isinstance(arrays, Mapping):
        yield f"the spec's arrays must be a mapping from names to ArraySpec; got {arrays!r}"
        return
    for name, array in arrays.items():
        if not isinstance(array, ArraySpec):
            yield f"the spec's array {name!r} must be an ArraySpec; got {array!r}"
            continue
        try:
            np.dtype(array.dtype)
        except TypeError:
            yield f"the spec's array {name!r} has the dtype {array.dtype!r}, which numpy lacks"


def _sampling_conflicts(sampling: Any) -> Iterator[str]:
    if not isinstance(sampling, Sampling):
        kinds = ", ".join(kind.__name__ for kind in get_args(Sampling))
        yield f"the spec's sampling must be one of {kinds}; got {sampling!r}"


def _identified(settings: Any, file_settings: Sequence[str]) -> dict[str, JSON]:
    """Settings by name, with a file's sha256 in place of its path.

    The same file has the same fingerprint wherever it lies.
    """
    values = {
        field.name: to_json_value(getattr(settings, field.name))
        for field in dataclasses.fields(settings)
    }
    for name in file_settings:
        values[name] = weights_identity(getattr(settings, name))
    return values


def weights_identity(weights: str) -> str:
    """`sha256:…` of a weights file's bytes; `random:SEED` and empty stay unchanged."""
    if not weights or random_seed(weights) is not None:
        return weights
    return f"sha256:{file_sha256(Path(weights))}"

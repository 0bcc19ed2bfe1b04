"""Does a store say what its videos say? Chosen rows are made anew from the media and compared with
what is stored.

Reads a store, its settings and its media; writes nothing. Also compares a store with features
somebody else published.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import ArraySpec, Extractor
from models.extractors.base.precision import UNSTABLE_ARRAYS, allowed_error, rounding_error
from pipeline.compute.devices import resolve_device
from pipeline.compute.processor_kind import processor_kind
from pipeline.decoding.events import Decoder, FrameEvent, WindowEvent
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.diagnostics.comparison import Comparison, row_of
from pipeline.diagnostics.self_test import run_self_test
from pipeline.diagnostics.store_variant import layout_of_variant, variant_of_store
from pipeline.download.folder.video_folder import find_files
from pipeline.extraction.track_builder import extract_rows
from pipeline.extraction.variant import Variant
from pipeline.media.media_file import KEPT_SUFFIXES, Media
from pipeline.weights.weights_folder import WeightsFolder, file_sha256
from storage.base.errors import IntegrityError, SettingsError, VideoError
from storage.base.paths import Layout
from storage.base.records import JSON
from storage.features.lazy_arrays import VideoHandle
from storage.features.manifest import PROCESSORS
from storage.features.store import VariantReader

STORED = {"float16": 1e-3, "float32": 0.0}
"""Largest error, relative to a row's largest value, of storing: float16 keeps 11 bits, and a value
may round to either side. Other rounding while computing adds to it,
`models.extractors.base.precision.rounding_error`. Anything else must be equal.
"""


RecomputedRow = tuple[int, tuple[float, float], Mapping[str, NDArray[Any]]]
"""A row made anew: its number, its span in seconds, its arrays."""


def sample_rows(reader: VariantReader, count: int, seed: int) -> dict[str, list[int]]:
    """`count` rows of the store, all equally likely: video id → row numbers, both ascending."""
    entries = {
        i: entry.rows
        for one in reader.manifests.values()
        for i, entry in one.entries.items()
        if entry.is_done
    }
    ids = sorted(entries)
    ends = np.cumsum([entries[video_id] for video_id in ids])
    total = int(ends[-1]) if ids else 0
    chosen: dict[str, list[int]] = {}
    for number in sorted(random.Random(seed).sample(range(total), min(count, total))):  # noqa: S311  # a sample, no secret
        place = int(np.searchsorted(ends, number, side="right"))
        chosen.setdefault(ids[place], []).append(number - int(ends[place]) + entries[ids[place]])
    return chosen


MISSING, ANOTHER, UNDECODED = "missing", "another", "undecoded"
_TOLD = {
    MISSING: "files are missing",
    ANOTHER: "files are other files than the features were made from",
    UNDECODED: "files cannot be decoded here",
}


@dataclass(frozen=True)
class SkippedVideo:
    """A video of which chosen rows could not be made anew."""

    video_id: str
    kind: str
    """`MISSING`, `ANOTHER` or `UNDECODED`."""
    detail: str

    def __str__(self) -> str:
        return f"{self.video_id}: {self.detail}"


@dataclass(frozen=True)
class VerifyResult:
    """What became of the chosen rows."""

    comparisons: tuple[Comparison, ...]
    gaps: tuple[SkippedVideo, ...]
    chosen: int
    """Rows that were to be compared."""

    @property
    def compared(self) -> int:
        """Rows that were made anew."""
        return self.comparisons[0].rows

    @property
    def is_verified(self) -> bool:
        """Whether every chosen row was compared, and none differs."""
        differing = any(comparison.differing for comparison in self.comparisons)
        return not differing and not self.gaps and 0 < self.chosen == self.compared

    def summary(self) -> str:
        """How much was compared, and why not all of it."""
        told = f"compared {self.compared} of {self.chosen} chosen rows"
        if not self.chosen:
            return f"{told}: no video has rows here"
        kinds = {kind: sum(gap.kind == kind for gap in self.gaps) for kind in _TOLD}
        parts = [f"{count} {_TOLD[kind]}" for kind, count in kinds.items() if count]
        return f"{told}; not of {len(self.gaps)} videos: {', '.join(parts)}" if parts else told


def find_media(
    reader: VariantReader, layout: Layout, video_id: str, folders: Sequence[Path]
) -> Media | SkippedVideo:
    """The file the video's rows were made from, by its sha256, of any suffix; or why it is not
    here.
    """
    shard, entry = next(
        (n, one.entries[video_id]) for n, one in reader.manifests.items() if video_id in one.entries
    )
    source = entry.facts.get("source")
    wanted = str(source.get("sha256")) if isinstance(source, dict) else ""
    kept = [layout.media_file(video_id, shard, suffix) for suffix in KEPT_SUFFIXES]
    there = [*(path for path in kept if path.is_file()), *find_files(folders, video_id)]
    for path in there:
        if file_sha256(path) == wanted:
            return Media(path, wanted, path.stat().st_size)
    if there:
        return SkippedVideo(
            video_id,
            ANOTHER,
            f"{', '.join(map(str, there))} has not the sha256 {wanted[:12]} of its features",
        )
    where = ", ".join(dict.fromkeys(map(str, (kept[0].parent, *folders))))
    return SkippedVideo(
        video_id,
        MISSING,
        f"its file of sha256 {wanted[:12]} is not in {where}; name its folder with --media",
    )


def recompute_rows(
    video_id: str,
    path: Path,
    variant: Variant,
    extractor: Extractor,
    decoder: Decoder,
    wanted: Sequence[int],
) -> Iterator[RecomputedRow]:
    """Chosen rows of one video, made anew: number, span, and each array rounded as it would be
    stored.
    """
    prepared: dict[int, Any] = {}
    number = -1
    for event in decoder.decode(video_id, path, [variant.sampling_of(video_id)]):
        if isinstance(event, FrameEvent):
            prepared[event.index] = extractor.prepare(event.rgb)
        elif isinstance(event, WindowEvent):
            number += 1
            if number in wanted:
                rows = extract_rows(extractor, [event.window], prepared)
                span = (event.window.start_seconds, event.window.end_seconds)
                yield (
                    number,
                    span,
                    {
                        name: _as_stored(rows[name][0], form)
                        for name, form in variant.arrays.items()
                    },
                )
            prepared = {
                index: frame for index, frame in prepared.items() if index >= event.window.oldest
            }


def _as_stored(row: NDArray[Any], form: ArraySpec) -> NDArray[Any]:
    shape = (-1, *form.item_shape) if form.ragged else form.item_shape
    with np.errstate(over="ignore"):
        return row.reshape(shape).astype(form.dtype)


def verify(
    reader: VariantReader,
    variant: Variant,
    media: Mapping[str, Media | SkippedVideo],
    rows: Mapping[str, Sequence[int]],
    *,
    decoder: Decoder,
    device: str,
) -> VerifyResult:
    """Compare chosen rows with what the media give now: spans, which must be equal, and each array.

    A video whose file is not here or cannot be decoded is a gap; one whose stored rows cannot be
    read differs.
    """
    arrays = {name: Comparison(name, _tolerance(variant, name)) for name in variant.arrays}
    comparisons = {"spans": Comparison("spans"), **arrays}
    gaps = [found for found in media.values() if isinstance(found, SkippedVideo)]
    here = {
        video_id: found.path
        for video_id, found in media.items()
        if not isinstance(found, SkippedVideo)
    }
    extractor = variant.build(device) if here else None
    for video_id, path in here.items():
        if extractor is None:
            raise RuntimeError("no extractor was built for the videos that are here")
        made = recompute_rows(video_id, path, variant, extractor, decoder, rows[video_id])
        try:
            seen = _compare(reader[video_id], video_id, made, comparisons)
        except VideoError as error:
            gaps.append(SkippedVideo(video_id, UNDECODED, str(error.status)))
        except IntegrityError as error:
            comparisons["spans"].differing.append(
                f"{video_id} cannot be read from the store: {error}"
            )
        else:
            if seen != len(rows[video_id]):
                missing = len(rows[video_id]) - seen
                comparisons["spans"].differing.append(
                    f"{video_id} gives {missing} of {len(rows[video_id])} rows no more"
                )
    return VerifyResult(tuple(comparisons.values()), tuple(gaps), sum(map(len, rows.values())))


def _compare(
    handle: VideoHandle,
    video_id: str,
    made: Iterator[RecomputedRow],
    comparisons: Mapping[str, Comparison],
) -> int:
    """Add each row made anew to its comparison; how many there were."""
    seen = 0
    for number, span, arrays in made:
        row = f"{video_id}[{number}]"
        stored = {name: row_of(handle[name], number) for name in arrays}
        comparisons["spans"].add(row, handle.spans[number], np.array(span))
        for name, values in arrays.items():
            comparisons[name].add(row, stored[name], values)
        seen += 1
    return seen


def _tolerance(variant: Variant, array: str) -> float:
    """Another processor rounds otherwise; bf16 and a fast resize as differently as these may drift
    at all.
    """
    dtype = variant.arrays[array].dtype
    if dtype not in STORED:
        return 0.0
    drift = allowed_error(variant.spec.name, array, variant.numerics)
    return max(
        STORED[dtype] + rounding_error(variant.spec.name, array, variant.settings).largest,
        drift.largest if drift else 0,
    )


def processor_note(reader: VariantReader, device: str) -> str:
    """A sentence if the rows were made on other kinds of processor than this one, else nothing."""
    told = {kind for made_by in reader.provenance.values() for kind in _kinds(made_by)}
    here = processor_kind(resolve_device(device))
    if told <= {here}:
        return ""
    extractor = str(reader.settings["extractor"])
    jumping = [
        name.partition(".")[2] for name in UNSTABLE_ARRAYS if name.startswith(f"{extractor}.")
    ]
    also = (
        f" Single items of {' and '.join(jumping)} may be anywhere else, and count as differing."
        if jumping
        else ""
    )
    return (
        f"made on {'; '.join(sorted(told))}; compared on {here}: rows need not be equal bit by bit, and differ only "
        f"beyond what rounding is known to do.{also}"
    )


def _kinds(made_by: Mapping[str, JSON]) -> list[str]:
    kinds = made_by.get(PROCESSORS)
    return [str(kind) for kind in kinds] if isinstance(kinds, list) else []


@dataclass(frozen=True)
class VerifyOptions:
    """Which rows to verify, and what is needed to make them."""

    sample: int
    seed: int
    weights: str
    weights_root: Path
    files: Mapping[str, str]
    media: Sequence[Path]
    device: str


def verify_sample(reader: VariantReader, choice: VerifyOptions) -> VerifyResult:
    """Make `choice.sample` random rows of a store anew, decoding in a child as the store's builder
    did.
    """
    if choice.sample < 1:
        raise SettingsError((f"--sample is 1 or more rows, got {choice.sample}",))
    variant = variant_of_store(
        reader, WeightsFolder(choice.weights_root), choice.weights, choice.files
    )
    layout = layout_of_variant(reader.layout.folder)
    rows = sample_rows(reader, choice.sample, choice.seed)
    media = {
        video_id: find_media(reader, layout, video_id, [layout.sources, *choice.media])
        for video_id in rows
    }
    device = resolve_device(choice.device)
    if any(isinstance(found, Media) for found in media.values()):
        run_self_test(variant.spec, device, layout.self_tests, variant.numerics)
    with SubprocessDecoder() as decoder:
        return verify(reader, variant, media, rows, decoder=decoder, device=device)

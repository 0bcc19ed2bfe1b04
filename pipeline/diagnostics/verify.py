"""Verifies a feature store: recomputes random rows from the media and compares them.

Reads a store, its settings and its media, and writes nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import ArraySpec, Extractor
from models.extractors.base.precision import UNSTABLE_ARRAYS, allowed_error, rounding_error
from pipeline.compute.devices import resolve_device
from pipeline.compute.extractor_calls import naming_errors
from pipeline.compute.processor_kind import processor_kind
from pipeline.decoding.events import Decoder, FrameEvent, WindowEvent
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.diagnostics.comparison import Comparison, row_of
from pipeline.diagnostics.self_test import run_self_test
from pipeline.diagnostics.store_variant import layout_of_variant, variant_of_store
from pipeline.download.folder.video_folder import find_files
from pipeline.extraction.track_builder import caller_of, extract_rows
from pipeline.extraction.variant import Variant
from pipeline.media.media_file import KEPT_SUFFIXES, Media
from pipeline.weights.weights_folder import WeightsFolder, file_sha256
from storage.base.errors import IntegrityError, SettingsError, VideoError
from storage.base.paths import Layout
from storage.base.records import JSON
from storage.features.lazy_arrays import VideoHandle
from storage.features.manifest import PROCESSORS, ManifestEntry
from storage.features.store import VariantReader

STORED = {"float16": 1e-3, "float32": 0.0}
"""Array dtype → largest error of storing, relative to a row's largest value.

float16 keeps 11 bits, and a value may round to either side. Rounding while computing adds to it,
see `models.extractors.base.precision.rounding_error`. Arrays of other dtypes must be equal.
"""


RecomputedRow = tuple[int, tuple[float, float], Mapping[str, NDArray[Any]]]
"""A recomputed row: its number, its span in seconds, its arrays."""


def sample_rows(reader: VariantReader, count: int, seed: int) -> dict[str, list[int]]:
    """`count` random rows of the store, all equally likely.

    Returns video id → row numbers, both ascending.
    """
    row_counts = {
        video_id: entry.rows
        for manifest in reader.manifests.values()
        for video_id, entry in manifest.entries.items()
        if entry.is_done
    }
    ids = sorted(row_counts)
    ends = np.cumsum([row_counts[video_id] for video_id in ids])
    total = int(ends[-1]) if ids else 0
    generator = random.Random(seed)  # noqa: S311  a sample, not a secret
    sample: dict[str, list[int]] = {}
    for number in sorted(generator.sample(range(total), min(count, total))):
        # Rows of all videos are numbered one after the other: find the video, and the row in it.
        position = int(np.searchsorted(ends, number, side="right"))
        video_id = ids[position]
        first = int(ends[position]) - row_counts[video_id]
        sample.setdefault(video_id, []).append(number - first)
    return sample


MISSING, ANOTHER, UNDECODED = "missing", "another", "undecoded"
_PROBLEMS = {
    MISSING: "files are missing",
    ANOTHER: "files are other files than the features were made from",
    UNDECODED: "files cannot be decoded here",
}


@dataclass(frozen=True)
class SkippedVideo:
    """A video whose chosen rows could not be recomputed."""

    video_id: str
    kind: str
    """`MISSING`, `ANOTHER` or `UNDECODED`."""
    detail: str

    def __str__(self) -> str:
        return f"{self.video_id}: {self.detail}"


@dataclass(frozen=True)
class VerifyResult:
    """The result for all chosen rows."""

    comparisons: tuple[Comparison, ...]
    skipped: tuple[SkippedVideo, ...]
    chosen: int
    """Rows that were to be compared."""

    @property
    def compared(self) -> int:
        """Rows that were recomputed."""
        return self.comparisons[0].rows

    @property
    def is_verified(self) -> bool:
        """Whether every chosen row was compared, and none differs."""
        if any(comparison.differing for comparison in self.comparisons):
            return False
        return not self.skipped and 0 < self.chosen == self.compared

    def summary(self) -> str:
        """How much was compared, and why not all of it."""
        line = f"compared {self.compared} of {self.chosen} chosen rows"
        if not self.chosen:
            return f"{line}: no video has rows here"
        if not self.skipped:
            return line
        counts = Counter(video.kind for video in self.skipped)
        kinds = [kind for kind in _PROBLEMS if kind in counts]
        problems = [f"{counts[kind]} {_PROBLEMS[kind]}" for kind in kinds]
        return f"{line}; {len(self.skipped)} videos not compared: {', '.join(problems)}"


def find_media(
    reader: VariantReader, layout: Layout, video_id: str, folders: Sequence[Path]
) -> Media | SkippedVideo:
    """The file that a video's rows were made from, found by its sha256; or why it is not here.

    Any suffix will do, in the store's own folder of media or in one of `folders`.
    """
    shard = next(n for n, manifest in reader.manifests.items() if video_id in manifest.entries)
    sha256 = _source_sha256(reader.manifests[shard].entries[video_id])
    own_paths = [layout.media_file(video_id, shard, suffix) for suffix in KEPT_SUFFIXES]
    paths = [path for path in own_paths if path.is_file()] + list(find_files(folders, video_id))
    for path in paths:
        if file_sha256(path) == sha256:
            return Media(path, sha256, path.stat().st_size)
    if paths:
        detail = (
            f"the sha256 of {', '.join(map(str, paths))} is not {sha256[:12]}, "
            "that of the file its features were made from"
        )
        return SkippedVideo(video_id, ANOTHER, detail)
    searched = ", ".join(dict.fromkeys(map(str, (own_paths[0].parent, *folders))))
    detail = f"its file of sha256 {sha256[:12]} is not in {searched}; name its folder with --media"
    return SkippedVideo(video_id, MISSING, detail)


def _source_sha256(entry: ManifestEntry) -> str:
    """The sha256 of the file that a video's rows were made from; empty if it was not recorded."""
    source = entry.facts.get("source")
    return str(source.get("sha256")) if isinstance(source, dict) else ""


def recompute_rows(
    video_id: str,
    path: Path,
    variant: Variant,
    extractor: Extractor,
    decoder: Decoder,
    wanted: Sequence[int],
) -> Iterator[RecomputedRow]:
    """Recompute the wanted rows of one video, each array rounded as it would be stored."""
    prepared: dict[int, Any] = {}
    caller = caller_of(variant, video_id)
    number = -1
    for event in decoder.decode(video_id, path, [variant.sampling_of(video_id)]):
        if isinstance(event, FrameEvent):
            with naming_errors(caller, extractor, "prepare"):
                prepared[event.index] = extractor.prepare(event.rgb)
        elif isinstance(event, WindowEvent):
            number += 1
            window = event.window
            if number in wanted:
                # One row at a time: rows do not depend on their neighbours in a batch.
                with naming_errors(caller, extractor, "extract"):
                    rows = extract_rows(extractor, [window], prepared)
                arrays = {
                    name: _as_stored(rows[name][0], spec) for name, spec in variant.arrays.items()
                }
                yield number, (window.start_seconds, window.end_seconds), arrays
            # Frames that no later window can have are dropped.
            prepared = {index: frame for index, frame in prepared.items() if index >= window.oldest}


def _as_stored(row: NDArray[Any], spec: ArraySpec) -> NDArray[Any]:
    shape = (-1, *spec.item_shape) if spec.ragged else spec.item_shape
    # What float16 cannot hold becomes infinity, as in a build.
    with np.errstate(over="ignore"):
        return row.reshape(shape).astype(spec.dtype)


def verify(
    reader: VariantReader,
    variant: Variant,
    media: Mapping[str, Media | SkippedVideo],
    rows: Mapping[str, Sequence[int]],
    *,
    decoder: Decoder,
    device: str,
) -> VerifyResult:
    """Recompute the chosen rows from `media` and compare spans, which must be equal, and arrays.

    A video is skipped if its file is missing or cannot be decoded. It differs if its stored rows
    cannot be read, or if its file gives fewer rows.
    """
    comparisons = _empty_comparisons(variant)
    skipped = [found for found in media.values() if isinstance(found, SkippedVideo)]
    files = {video_id: found.path for video_id, found in media.items() if isinstance(found, Media)}
    # The network is built only if there is a video to compare.
    extractor = variant.build(device) if files else None
    for video_id, path in files.items():
        if extractor is None:
            raise RuntimeError("the extractor was not built")
        wanted = rows[video_id]
        recomputed = recompute_rows(video_id, path, variant, extractor, decoder, wanted)
        try:
            count = _compare(reader[video_id], video_id, recomputed, comparisons)
        except VideoError as error:
            skipped.append(SkippedVideo(video_id, UNDECODED, str(error.status)))
        except IntegrityError as error:
            problem = f"{video_id} cannot be read from the store: {error}"
            comparisons["spans"].differing.append(problem)
        else:
            comparisons["spans"].differing += _missing_rows(video_id, count, len(wanted))
    chosen = sum(map(len, rows.values()))
    return VerifyResult(tuple(comparisons.values()), tuple(skipped), chosen)


def _empty_comparisons(variant: Variant) -> dict[str, Comparison]:
    """One for the spans, which must be equal, and one per array."""
    arrays = {name: Comparison(name, _tolerance(variant, name)) for name in variant.arrays}
    return {"spans": Comparison("spans"), **arrays}


def _missing_rows(video_id: str, count: int, wanted: int) -> list[str]:
    if count == wanted:
        return []
    return [f"{video_id} gives only {count} of the {wanted} chosen rows now"]


def _compare(
    handle: VideoHandle,
    video_id: str,
    recomputed: Iterator[RecomputedRow],
    comparisons: Mapping[str, Comparison],
) -> int:
    """Add each recomputed row to the comparisons; returns how many there were."""
    count = 0
    for number, span, arrays in recomputed:
        row = f"{video_id}[{number}]"
        stored = {name: row_of(handle[name], number) for name in arrays}
        comparisons["spans"].add(row, handle.spans[number], np.array(span))
        for name, values in arrays.items():
            comparisons[name].add(row, stored[name], values)
        count += 1
    return count


def _tolerance(variant: Variant, array: str) -> float:
    """The error that rounding can cause, relative to a row's largest value.

    Another processor rounds differently. bf16 and the fast resize may differ by as much as is
    allowed for them at all.
    """
    dtype = variant.arrays[array].dtype
    if dtype not in STORED:
        return 0.0
    rounding = rounding_error(variant.spec.name, array, variant.settings).largest
    allowed = allowed_error(variant.spec.name, array, variant.numerics)
    return max(STORED[dtype] + rounding, allowed.largest if allowed else 0)


def processor_note(reader: VariantReader, device: str) -> str:
    """A sentence if the rows were made on other kinds of processor than this one, else empty."""
    kinds = {kind for made_by in reader.provenance.values() for kind in _kinds(made_by)}
    here = processor_kind(resolve_device(device))
    if kinds <= {here}:
        return ""
    note = (
        f"made on {'; '.join(sorted(kinds))}; compared on {here}: rows need not be equal bit by "
        "bit, and differ only beyond what rounding is known to do."
    )
    prefix = f"{reader.settings['extractor']}."
    unstable = [name.removeprefix(prefix) for name in UNSTABLE_ARRAYS if name.startswith(prefix)]
    if unstable:
        note += (
            f" Single items of {' and '.join(unstable)} may be anywhere else, "
            "and count as differing."
        )
    return note


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


def verify_sample(reader: VariantReader, options: VerifyOptions) -> VerifyResult:
    """Recompute random rows of a store, decoding in a subprocess as the store's build did."""
    if options.sample < 1:
        raise SettingsError((f"--sample must be at least 1, got {options.sample}",))
    weights_folder = WeightsFolder(options.weights_root)
    variant = variant_of_store(reader, weights_folder, options.weights, options.files)
    layout = layout_of_variant(reader.layout.folder)
    rows = sample_rows(reader, options.sample, options.seed)
    folders = [layout.sources, *options.media]
    media = {video_id: find_media(reader, layout, video_id, folders) for video_id in rows}
    device = resolve_device(options.device)
    # Without a file nothing is computed, and nothing needs to be tested.
    if any(isinstance(found, Media) for found in media.values()):
        run_self_test(variant.spec, device, layout.self_tests, variant.numerics)
    with SubprocessDecoder() as decoder:
        return verify(reader, variant, media, rows, decoder=decoder, device=device)

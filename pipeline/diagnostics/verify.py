"""Does a store say what its videos say? Chosen rows are made anew from the media and compared with
what is stored.

Reads a store, its settings and its media; writes nothing. Also compares a store with features
somebody else published.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import ArraySpec, Extractor
from models.extractors.base.precision import UNSTABLE_ARRAYS, allowed_error, rounding_error
from models.extractors.registry import EXTRACTORS
from pipeline.compute.devices import resolve_device
from pipeline.compute.processor_kind import processor_kind
from pipeline.decoding.events import Decoder, FrameEvent, WindowEvent
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.diagnostics.self_test import run_self_test
from pipeline.download.folder.video_folder import files_in
from pipeline.extraction.track_builder import extract_rows
from pipeline.extraction.variant import Variant
from pipeline.media.media_file import KEPT_SUFFIXES, Media
from pipeline.weights.weights_folder import WeightsFolder, file_sha256
from storage.base.errors import IntegrityError, SettingsError, VideoError
from storage.base.paths import Layout
from storage.base.records import JSON, Array, Ragged
from storage.catalog.catalog import read_catalog
from storage.features.lazy_arrays import ArrayHandle, VideoHandle
from storage.features.manifest import PROCESSORS
from storage.features.store import VariantReader, variant_layouts
from storage.files.external_arrays import read_arrays

STORED = {"float16": 1e-3, "float32": 0.0}
"""Largest error, relative to a row's largest value, of storing: float16 keeps 11 bits, and a value
may round to either side. Other rounding while computing adds to it,
`models.extractors.base.precision.rounding_error`. Anything else must be equal.
"""
_FILE = "sha256:"
_TINY = 1e-12


RecomputedRow = tuple[int, tuple[float, float], Mapping[str, NDArray[Any]]]
"""A row made anew: its number, its span in seconds, its arrays."""


@dataclass
class Comparison:
    """One array, over all rows that were compared."""

    name: str
    tolerance: float = 0.0
    rows: int = 0
    equal: int = 0
    max_error: float = 0.0
    max_relative: float = 0.0
    cosines: list[float] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    def add(self, row: str, stored: Array, made: Array) -> None:
        """Compare one row; it differs if its error is beyond the tolerance."""
        self.rows += 1
        if stored.shape != made.shape:
            self.max_error = self.max_relative = math.inf
            self.differing.append(f"{row} ({stored.shape} stored, {made.shape} made)")
            return
        one, other = (values.astype(np.float64).reshape(-1) for values in (stored, made))
        self.equal += int(np.array_equal(stored, made))
        error = float(np.abs(one - other).max(initial=0.0))
        relative = error / max(float(np.abs(one).max(initial=0.0)), _TINY)
        self.max_error, self.max_relative = (
            max(self.max_error, error),
            max(self.max_relative, relative),
        )
        self.cosines.append(cosine(one, other))
        if not relative <= self.tolerance:
            self.differing.append(
                f"{row} (relative error {relative:.1e}, cosine {self.cosines[-1]:.4f})"
            )

    def __str__(self) -> str:
        lowest = f"{min(self.cosines):.6f}" if self.cosines else "none"
        median = f"{np.median(self.cosines):.6f}" if self.cosines else "none"
        return (
            f"{self.name}: {self.rows} rows, {self.equal} equal bit by bit, {len(self.differing)} differ; "
            f"max error {self.max_error:.3g} ({self.max_relative:.1e} relative), cosine lowest {lowest} median {median}"
        )


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Of two flat arrays; 1 if both are all zeros or empty."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    if norms == 0:
        return float(not one.any() and not other.any())
    return float(one @ other) / norms


def open_variant(folder: Path) -> VariantReader:
    """The variant kept in a feature folder, `ROOT/<catalog>/features/<variant>-<fingerprint>`."""
    found = [
        one
        for one in variant_layouts(folder.absolute().parents[1])
        if one.folder == folder.absolute()
    ]
    if not found:
        own = [
            str(folder / one.folder.relative_to(folder.absolute()))
            for one in variant_layouts(folder)
        ]
        there = ", or ".join(own) or "ROOT/<catalog>/features/<variant>-<fingerprint>"
        raise SettingsError((f"{folder} is no feature folder; give {there}",))
    return VariantReader(found[0])


def layout_of_variant(folder: Path) -> Layout:
    """The layout a feature folder is part of."""
    catalog = folder.absolute().parents[1]
    return Layout(catalog.parent, catalog.name)


def variant_of_store(
    reader: VariantReader, folder: WeightsFolder, weights: str, files: Mapping[str, str]
) -> Variant:
    """The variant that settings.json describes. `weights` and `files` name what only their sha256
    is stored of, where no registered file in `folder` has that sha256.

    Raises SettingsError if the code, the weights, the files or the annotated segments are not those
    the features were made with.
    """
    told = reader.settings
    spec = EXTRACTORS.get(str(told["extractor"]))
    if spec is None or spec.numerics_version != told["numerics_version"]:
        raise SettingsError(
            (f"{reader.name} was made by {told['extractor']} of numerics version {told['numerics_version']}; "
             f"this code has {f'version {spec.numerics_version}' if spec else 'no such extractor'}",)
        )  # fmt: skip
    chosen = _weights(reader.name, str(told["weights"]), folder, weights)
    settings = spec.settings_type(**_fields(told["settings"], folder, files))
    variant = Variant(reader.layout.variant, spec, settings, chosen, folder.converted)
    variant = variant.of_catalog(lambda: read_catalog(reader.layout.folder.parents[1]).segments)
    differing = [key for key, value in variant.description().items() if told.get(key) != value]
    if differing:
        lines = [
            f"{key}: {told.get(key)} stored, {variant.description()[key]} here" for key in differing
        ]
        raise SettingsError((f"{reader.name} cannot be made again: " + "; ".join(lines),))
    return variant


def _weights(name: str, stored: str, folder: WeightsFolder, named: str) -> str:
    if not stored.startswith(_FILE):
        return stored
    if named:
        return str(folder.original(named))
    if (found := folder.holding(stored)) is None:
        raise SettingsError(
            (
                f"{name} was made with weights of {stored}, and {folder.path} has no such file; name it with --weights",
            )
        )
    return str(found)


def _fields(
    settings: Mapping[str, Any], folder: WeightsFolder, files: Mapping[str, str]
) -> dict[str, Any]:
    if strange := sorted(files.keys() - settings.keys()):
        raise SettingsError(
            (f"--file names {', '.join(strange)}; settings are {', '.join(sorted(settings))}",)
        )
    found = {
        name: files.get(name) or folder.holding(value)
        for name, value in settings.items()
        if isinstance(value, str) and value.startswith(_FILE)
    }
    if missing := [name for name, path in found.items() if path is None]:
        told = (
            f"{name} is a file of {settings[name]}, which {folder.path} has not" for name in missing
        )
        raise SettingsError(
            tuple(
                f"{line}; give --file {name}=PATH" for name, line in zip(missing, told, strict=True)
            )
        )
    plain = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    return plain | {name: str(path) for name, path in found.items()}


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
    there = [*(path for path in kept if path.is_file()), *files_in(folders, video_id)]
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
        stored = {name: _row(handle[name], number) for name in arrays}
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


def _row(array: ArrayHandle, number: int) -> Array:
    found = array[number]
    return found.values if isinstance(found, Ragged) else found


def compare_with_file(
    reader: VariantReader, path: Path, array: str, video_id: str
) -> Iterator[Comparison]:
    """Compare stored rows with arrays of a published file, row by row from the first: one
    Comparison a dataset.

    A dataset belongs to the video that is a piece of its name (`ID`, `c3d/ID`, `ID/pool5`); all
    belong to `video_id` if that is given. A dataset that is named after another array of ours is
    left out.
    """
    for name, values in read_arrays(path):
        pieces = name.split("/")
        found = video_id or next((piece for piece in pieces if piece in reader), "")
        if not found or set(pieces) & set(reader[found].arrays) - {array}:
            continue
        ours = reader[found][array]
        comparison = Comparison(
            f"{found} {array} ({len(ours)} rows here, {len(values)} in {name})", math.inf
        )
        for number in range(min(len(ours), len(values))):
            comparison.add(
                f"{found}[{number}]",
                _row(ours, number).reshape(-1),
                np.asarray(values[number]).reshape(-1),
            )
        yield comparison


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
        run_self_test(variant.spec, device, layout.proofs, variant.numerics)
    with SubprocessDecoder() as decoder:
        return verify(reader, variant, media, rows, decoder=decoder, device=device)

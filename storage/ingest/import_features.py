"""Imports a folder of features as a variant of a store.

Nothing is claimed that the files do not show: the variant says that it is imported, from where, and
what was stated about its weights; each video keeps the sha256 of its file. A file that cannot be
taken is listed with the reason, recorded as the status of its id, and stops no other file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.base.fingerprint import fingerprint, readable_json
from storage.base.paths import VARIANT_NAME, Layout, VariantLayout
from storage.base.records import JSON, Array, FeatureTrack, Metadata, Video
from storage.base.video_status import DONE, State, VideoStatus, failure_status
from storage.catalog.catalog import (
    CATALOG_NAME,
    Catalog,
    default_shard_count,
    read_catalog,
    shard_of,
    write_catalog,
)
from storage.features import spool
from storage.features.commit import DEFAULT_PART_BYTES, commit
from storage.features.manifest import ManifestEntry
from storage.features.manifest_file import read_manifest
from storage.features.manifest_index import refresh_index
from storage.features.part_reader import ARRAY_NAME
from storage.features.store import FeatureStore
from storage.features.time_origin import refuse_to_extend
from storage.files.atomic_write import publish, size_and_sha256
from storage.files.file_lock import lease, print_to_stderr
from storage.ingest.feature_files import (
    RefusedFile,
    Source,
    SourceForm,
    form_of,
    list_sources,
    printable,
    read_source,
)
from storage.ingest.names import NAMED_AS, ids_of

READER = "import"
"""The reader in the origin of a catalog that imports made. Only such a catalog is given new ids."""
NOT_STATED = "not stated"
Advance = Callable[[str, int, int], None]


def _silent(step: str, done: int, total: int) -> None:
    """The default of `advance`."""


@dataclass(frozen=True)
class ImportRequest:
    """What to import, and what is stated about it."""

    folder: Path
    """The folder of files; nothing in it is changed."""
    into: Path
    """`ROOT/<catalog>`; made if there is none."""
    name: str
    """Name of the variant, such as `slowfast`."""
    seconds_per_row: float | None = None
    """Row i is `[i * s, (i + 1) * s)`. None: every file has spans of its own."""
    array: str = "features"
    """Name of the array in the store, and in the files that hold several."""
    weights: str = ""
    licence: str = ""
    origin: str = ""


@dataclass
class ImportSummary:
    """What an import did."""

    variant: str = ""
    """Full name."""
    videos: int = 0
    rows: int = 0
    form: str = ""
    refused: dict[str, str] = field(default_factory=dict)
    """File, or file and member → why it was not taken."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Published name → id, where they differ."""


def import_features(request: ImportRequest, advance: Advance = _silent) -> ImportSummary:
    """Import features that others published; an import may be run again, and adds what is new.

    Raises:
        SettingsError: the request is wrong, or no file can be taken; nothing was written.
        IntegrityError: the store is damaged.
        LeaseHeld: another process writes to the store.
        SystemicFault: the disk fails.
    """
    _check(request)
    catalog = _known_catalog(request)
    found = _find(request, catalog)
    if not found.forms:
        raise SettingsError(_nothing_to_take(request, found.refused))
    form = next(iter(found.forms.values()))
    variant = _make_variant(request, form)
    summary = ImportSummary(
        variant=variant.folder.name,
        form=str(form),
        refused=found.refused,
        renamed={one.name: key for key, one in found.sources.items() if one.name != key},
    )
    catalog = _extended_catalog(request, catalog, found.sources)
    _Import(request, catalog, variant, found.sources, summary, advance).run()
    return summary


@dataclass(frozen=True)
class _Found:
    """What the folder holds."""

    sources: dict[str, Source]
    """Id → its source, also of those that cannot be taken but have an id."""
    forms: dict[str, SourceForm]
    """Source as text → its form, for those that can be taken."""
    refused: dict[str, str]


def _find(request: ImportRequest, catalog: Catalog | None) -> _Found:
    """Look at all files, by their names and headers."""
    listed, refused = list_sources(request.folder, request.array)
    ids, unnamed = ids_of([source.name for source in listed])
    refused |= {str(one): unnamed[one.name] for one in listed if one.name in unnamed}
    sources = {ids[source.name]: source for source in listed if source.name in ids}
    for video_id in _strangers(sources, catalog):
        refused[str(sources.pop(video_id))] = f"the catalog has no video {video_id}"
    forms, problems = _forms(list(sources.values()), request)
    return _Found(sources, forms, refused | problems)


def _strangers(sources: Mapping[str, Source], catalog: Catalog | None) -> list[str]:
    """Ids that a catalog lacks which no import has made, and which is given no new ids."""
    if catalog is None or catalog.origin.get("reader") == READER:
        return []
    return sorted(sources.keys() - {video.video_id for video in catalog.videos})


def _check(request: ImportRequest) -> None:
    seconds = request.seconds_per_row
    faults = []
    if not request.folder.is_dir():
        faults.append(f"{request.folder} is not a folder")
    if not VARIANT_NAME.fullmatch(request.name):
        faults.append(f"--name is written in a-z 0-9 _ and dots, got {request.name!r}")
    if not ARRAY_NAME.fullmatch(request.array):
        faults.append(f"--array is 1 to 64 of A-Z a-z 0-9 _, got {request.array!r}")
    if seconds is not None and not 0 < seconds < math.inf:
        faults.append(f"--seconds-per-row is above 0 and finite, got {seconds}")
    if not CATALOG_NAME.fullmatch(request.into.absolute().name):
        faults.append(f"--into is ROOT/<catalog>, a catalog in a-z 0-9 _ -, got {request.into}")
    if faults:
        raise SettingsError(tuple(faults))


def _nothing_to_take(request: ImportRequest, refused: Mapping[str, str]) -> tuple[str, ...]:
    listed = [f"{name}: {why}" for name, why in sorted(refused.items())]
    return (f"{request.folder} has no file that can be taken", *listed)


def _forms(
    sources: Sequence[Source], request: ImportRequest
) -> tuple[dict[str, SourceForm], dict[str, str]]:
    """Form of each source that can be taken, and why others cannot."""
    forms: dict[str, SourceForm] = {}
    problems: dict[str, str] = {}
    for source in sources:
        try:
            forms[str(source)] = form_of(source, request.array)
        except RefusedFile as error:
            problems[str(source)] = str(error)
    if not forms:
        return forms, problems
    ((usual, _),) = Counter(form.row for form in forms.values()).most_common(1)
    example = next(form for form in forms.values() if form.row == usual)
    for name, form in list(forms.items()):
        why = _misfit(form, example, request)
        if why:
            problems[name] = why
            del forms[name]
    return forms, problems


def _misfit(form: SourceForm, usual: SourceForm, request: ImportRequest) -> str:
    if form.row != usual.row:
        return f"has {form}; most files have {usual}"
    if form.has_spans and request.seconds_per_row is not None:
        return "has spans of its own; leave out --seconds-per-row"
    if not form.has_spans and request.seconds_per_row is None:
        return "has no spans; give --seconds-per-row"
    return ""


def _known_catalog(request: ImportRequest) -> Catalog | None:
    layout = _layout(request)
    if not layout.catalog_file.exists():
        return None
    origins = FeatureStore(request.into).time_origins()
    refuse_to_extend(layout.folder, origins)
    return read_catalog(request.into)


def _layout(request: ImportRequest) -> Layout:
    return Layout(request.into.absolute().parent, request.into.absolute().name)


def _extended_catalog(
    request: ImportRequest, known: Catalog | None, sources: Mapping[str, Source]
) -> Catalog:
    """The catalog with all ids of the sources; written if it is new or has grown."""
    if known is not None and known.origin.get("reader") != READER:
        return known
    known = known or Catalog(
        name=_layout(request).catalog,
        videos=(),
        users=(),
        links=(),
        annotations=(),
        shard_count=default_shard_count(len(sources)),
        time_unit="seconds",
        origin={"reader": READER},
    )
    videos = {video.video_id: video for video in known.videos}
    if sources.keys() <= videos.keys():
        return known
    metadata = {(row.video_id, row.key): row for row in known.metadata}
    for video_id, source in sources.items():
        videos.setdefault(video_id, Video(video_id))
        if source.name != video_id:
            metadata[video_id, NAMED_AS] = Metadata(video_id, NAMED_AS, source.name)
    catalog = replace(
        known,
        videos=tuple(videos.values()),
        users=tuple(known.users),
        links=tuple(known.links),
        annotations=tuple(known.annotations),
        groups=tuple(known.groups),
        metadata=tuple(metadata.values()),
    )
    write_catalog(_layout(request), catalog)
    return catalog


def settings_of(request: ImportRequest, form: SourceForm) -> dict[str, JSON]:
    """The settings of an imported variant: what is known, and who said so."""
    sampling: dict[str, JSON] = {"SpansOfFiles": {}}
    if request.seconds_per_row is not None:
        sampling = {
            "EqualRows": {"seconds_per_row": request.seconds_per_row, "first_row_seconds": 0.0}
        }
    array: JSON = {
        "dtype": form.dtype.name,
        "item_shape": list(form.shape[1:]),
        "ragged": False,
    }
    return {
        "extractor": request.name,
        "imported": True,
        "origin_as_stated": request.origin or NOT_STATED,
        "weights_as_stated": request.weights or NOT_STATED,
        # Not empty: that would mean an extractor without weights.
        "weights": "imported",
        "sampling": sampling,
        "arrays": {request.array: array},
    }


def _make_variant(request: ImportRequest, form: SourceForm) -> VariantLayout:
    settings = settings_of(request, form)
    variant = _layout(request).variant(request.name, fingerprint(settings))
    publish(variant.settings_file, readable_json(settings), replace=False)
    return variant


class _Import:
    """Reads the sources shard by shard, and commits them."""

    def __init__(
        self,
        request: ImportRequest,
        catalog: Catalog,
        variant: VariantLayout,
        sources: Mapping[str, Source],
        summary: ImportSummary,
        advance: Advance,
    ) -> None:
        self._request = request
        self._catalog = catalog
        self._variant = variant
        self._sources = sources
        self._summary = summary
        self._advance = advance
        self._done = 0
        self._digests: dict[Path, tuple[int, str]] = {}
        """Size and sha256 of each file: one HDF5 file may hold thousands of videos."""

    def run(self) -> None:
        """Import all sources."""
        shards: dict[int, list[str]] = {}
        for video_id in sorted(self._sources):
            shards.setdefault(shard_of(video_id, self._catalog.shard_count), []).append(video_id)
        for shard, ids in sorted(shards.items()):
            with lease(_layout(self._request).lease(shard), notify=print_to_stderr):
                self._import_shard(shard, ids)
        refresh_index(self._variant)

    def _import_shard(self, shard: int, ids: Sequence[str]) -> None:
        folder = self._variant.spool(shard)
        spool.clear(folder)
        for video_id in ids:
            entry, track = self._read(video_id)
            spool.put(folder, video_id, entry, track)
            self._done += 1
            self._advance("imported", self._done, len(self._sources))
        spooled = spool.SpooledVideos(folder)
        kept = self._done_before(shard)
        commit(
            self._variant,
            self._catalog.name,
            shard,
            # A file that is bad now does not take away the rows that an earlier one gave.
            entries={
                key: one for key, one in spooled.entries.items() if one.is_done or key not in kept
            },
            tracks=(spooled.track(key) for key, one in spooled.entries.items() if one.is_done),
            max_part_bytes=DEFAULT_PART_BYTES,
            provenance=self._provenance(),
        )
        spool.clear(folder)

    def _done_before(self, shard: int) -> frozenset[str]:
        manifest = read_manifest(self._variant, shard)
        entries = manifest.entries if manifest else {}
        return frozenset(video_id for video_id, entry in entries.items() if entry.is_done)

    def _provenance(self) -> dict[str, JSON]:
        request = self._request
        return {
            "imported": True,
            "origin_as_stated": request.origin or NOT_STATED,
            "licence_as_stated": request.licence or NOT_STATED,
            "weights_as_stated": request.weights or NOT_STATED,
            "times": "the first row is assumed to begin at the container's start",
        }

    def _read(self, video_id: str) -> tuple[ManifestEntry, FeatureTrack | None]:
        """The status of a video, and its rows if it can be taken."""
        source = self._sources[video_id]
        facts: dict[str, JSON] = {}
        track = None
        try:
            facts = {"imported_from": self._facts(source)}
            if str(source) in self._summary.refused:
                raise RefusedFile(self._summary.refused[str(source)])
            track = self._track(video_id, source)
            status = _status_of(track)
        except ValueError as error:  # RefusedFile, or spans that are none
            status = failure_status("unknown", f"not imported: {error}")
            self._summary.refused[str(source)] = str(error)
        if status.state is State.REJECTED:
            track = None
            self._summary.refused[str(source)] = str(status)
        if track is not None:
            self._summary.videos += 1
            self._summary.rows += track.rows
        return ManifestEntry(status, facts=facts), track

    def _facts(self, source: Source) -> JSON:
        path = source.path.resolve()
        try:
            if path not in self._digests:
                self._digests[path] = size_and_sha256(path)
        except OSError as error:
            raise RefusedFile(f"cannot be read: {error.strerror or error}") from error
        size_bytes, sha256 = self._digests[path]
        return {
            "file": printable(source.path.name),
            "member": printable(source.member),
            "sha256": sha256,
            "size_bytes": size_bytes,
        }

    def _track(self, video_id: str, source: Source) -> FeatureTrack:
        values, spans = read_source(source, self._request.array)
        if spans is None:
            spans = equal_spans(len(values), self._request.seconds_per_row or 0.0)
        return FeatureTrack(video_id, spans, {self._request.array: values})


def equal_spans(rows: int, seconds_per_row: float) -> NDArray[np.float64]:
    """`(rows, 2)`: row i is `[i * seconds_per_row, (i + 1) * seconds_per_row)`."""
    numbers = np.arange(rows, dtype=np.float64)
    return np.stack([numbers * seconds_per_row, (numbers + 1) * seconds_per_row], axis=1)


def _status_of(track: FeatureTrack) -> VideoStatus:
    for name, array in track.arrays.items():
        if isinstance(array, np.ndarray) and (bad := _not_finite(array)):
            return failure_status("non_finite", f"{name}: {bad:,} of {array.size:,} values")
    return DONE


def _not_finite(array: Array) -> int:
    return int(array.size - np.isfinite(array).sum()) if array.dtype.kind == "f" else 0

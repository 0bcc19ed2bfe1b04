"""`FeatureStore`: reads the features of a catalog, checked against manifests and checksums.

    store = FeatureStore("data/phd2")
    store["c3d"]["-1XR_R1rYQc"]["pool5"][10:20]

Opening a store reads the index of each variant that is used. Parts are opened, and rows read, when
they are asked for. Everything here can be pickled, survives fork and spawn, and only reads.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.fingerprint import differing_settings, fingerprint
from storage.base.paths import Layout, VariantLayout, parse_variant
from storage.base.records import JSON
from storage.base.video_status import VideoStatus
from storage.catalog.catalog import read_catalog
from storage.catalog.forgotten import read_forgotten
from storage.features.lazy_arrays import VideoHandle
from storage.features.manifest import ManifestEntry, PartRecord, ShardManifest
from storage.features.manifest_file import read_manifest
from storage.features.manifest_index import (
    ShardSummary,
    done_ids,
    logical_digest_of,
    read_summaries,
)
from storage.features.part_reader import PartHeader, PartReader, with_repair_advice
from storage.files.atomic_write import size_and_sha256
from storage.files.checksummed_json import parse_json_object
from storage.tables.pandas_frames import StoreTables, TableName

if TYPE_CHECKING:
    from storage.tables.pandas_frames import DataFrame


class FeatureStore:
    """All variants of one catalog, kept in `ROOT/<catalog>`.

    The size of each part is checked when it is first opened, and each of its blocks against its
    checksum when this process first touches it. Damaged data raises IntegrityError and is never
    returned. With `check=False` blocks are not checked. With `verify=True` each part is also read
    whole when it is first opened, and its sha256 compared. A memory map of a part, or h5py, skips
    all these checks.
    """

    def __init__(self, path: Path | str, *, verify: bool = False, check: bool = True) -> None:
        self.folder = Path(path)
        self._verify = verify
        self._check = check

    def variants(self) -> tuple[str, ...]:
        """Full names of the variants, sorted: `c3d-0123456789ab`."""
        return tuple(layout.folder.name for layout in self._variant_layouts())

    def __getitem__(self, name: str) -> VariantReader:
        """A variant by its full name, or by its short one if only one variant has it.

        Raises:
            LookupFailed: no variant, or more than one, has the name; lists the variants.
        """
        layouts = self._variant_layouts()
        matches = [layout for layout in layouts if name in (layout.folder.name, layout.variant)]
        if len(matches) == 1:
            return VariantReader(matches[0], verify=self._verify, check=self._check)
        if matches:
            raise LookupFailed(
                f"{self.folder} has {len(matches)} variants named {name!r}; use a full name:"
                f"{_describe_differences(matches)}"
            )
        known = ", ".join(self.variants()) or "nothing yet"
        raise LookupFailed(f"{self.folder} has no variant {name!r}; it has {known}")

    def time_origins(self) -> dict[str, frozenset[str]]:
        """Full name of each variant → its time origins. Raises IntegrityError."""
        return {
            layout.folder.name: VariantReader(layout).time_origins
            for layout in self._variant_layouts()
        }

    def to_pandas(self, table: TableName, *, variant: str = "", grouping: str = "") -> DataFrame:
        """One table of the store as a pandas data frame; needs the extra `export`.

        - `spans`: one line for each row of each variant. `video_id` and `variant` (category), `row`
          (int64, from 0), `start_seconds` and `end_seconds` (float64).
        - `labels`: one line for each annotation of the catalog. `video_id`, `annotator` (string),
          `start` and `end` (float64) in `unit` (category, `seconds` or `frames` of the original
          file), `value` (float64), `split` (string): of the annotator if the catalog has users,
          otherwise of the video, with `|` between several. Empty where there is none.
        - `states`: one line for each video of the catalog and each variant. `video_id` (string),
          `variant` and `state` (category), `reason` and `detail` (string), and each key of the
          catalog's metadata as `metadata.KEY` (string): `metadata.title`. Without a state the
          variant has not reached the video yet.

        Args:
            table: the name of the table.
            variant: a name as for `store[variant]`; empty: all variants.
            grouping: the splits of `labels`, as for `Catalog.ids_by_split`.

        Raises:
            ModuleNotFoundError: pandas is not installed; the message names the extra.
            LookupFailed: a table, a variant, a grouping or the catalog does not exist.
            IntegrityError: a file is damaged.
        """
        names = (variant,) if variant else self.variants()
        tables = StoreTables(
            lambda: read_catalog(self.folder.absolute()), [self[name] for name in names], grouping
        )
        return tables.frame(table)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.folder)!r}: {', '.join(self.variants()) or 'empty'})"

    def _variant_layouts(self) -> list[VariantLayout]:
        return variant_layouts(self.folder)


class VariantReader(Mapping[str, "VideoHandle"]):
    """One extractor with one group of settings: id of a done video → its rows."""

    def __init__(self, layout: VariantLayout, *, verify: bool = False, check: bool = True) -> None:
        self.layout = layout
        self._verify = verify
        self._check = check
        self._parts: dict[str, PartReader] = {}
        self._manifests_read: dict[int, ShardManifest] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Open files cannot be pickled, and manifests may be large.
        return {**self.__dict__, "_parts": {}, "_manifests_read": {}}

    def __repr__(self) -> str:
        return f"VariantReader({self.name}, {len(self)} videos)"

    @property
    def name(self) -> str:
        """The variant's full name."""
        return self.layout.folder.name

    @property
    def fingerprint(self) -> str:
        """12 hex digits that identify the settings."""
        return self.layout.fingerprint

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that shaped the rows. Raises IntegrityError unless the folder's name fits."""
        with with_repair_advice():
            return read_settings(self.layout)

    @cached_property
    def manifests(self) -> Mapping[int, ShardManifest]:
        """Shard → its manifest, for the shards that have one. Raises IntegrityError."""
        manifests: dict[int, ShardManifest] = {}
        for shard in self._summaries:
            manifest = read_manifest(self.layout, shard)
            if manifest is not None:
                manifests[shard] = manifest
        return manifests

    @property
    def provenance(self) -> Mapping[int, Mapping[str, JSON]]:
        """Shard → the provenance of its last commit."""
        return {shard: manifest.provenance for shard, manifest in self.manifests.items()}

    @property
    def time_origins(self) -> frozenset[str]:
        """The time origins of its rows, of `storage.base.records.TIME_ORIGINS`.

        None if there are no rows. Two only if `python -m pipeline rebase` was interrupted.
        """
        summaries = self._summaries.values()
        return frozenset(summary.time_origin for summary in summaries if summary.parts)

    @cached_property
    def _summaries(self) -> Mapping[int, ShardSummary]:
        with with_repair_advice():
            summaries = read_summaries(self.layout, by_content=self._verify)
        # Also while a take-down is under way, and where a copy brought rows back.
        forgotten = read_forgotten(layout_of_variant(self.layout))
        if not len(forgotten):
            return summaries
        return {shard: summary.without(forgotten.matches) for shard, summary in summaries.items()}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Done video → its number when all shards are counted one after the other.

        One dict for all shards: making one for each would take longer than the rest of opening.
        """
        ids = done_ids(self._summaries.values())
        return dict(zip(ids, range(len(ids)), strict=True))

    @cached_property
    def _shards(self) -> tuple[tuple[ShardSummary, ...], list[int]]:
        """The summaries, and for each the number behind its last video."""
        summaries = tuple(self._summaries.values())
        return summaries, list(accumulate(summary.done_count for summary in summaries))

    def _find(self, video_id: str) -> tuple[ShardSummary, int]:
        """The summary of a done video's shard, and the video's index in it. Raises LookupFailed."""
        # The message needs all statuses, which are decoded only then.
        if video_id not in self._numbers:
            raise LookupFailed(self._why_not(video_id))
        number = self._numbers[video_id]
        summaries, ends = self._shards
        # Numbers run through the shards in order, so the first end above it is its shard.
        shard = bisect_right(ends, number)
        first_number = ends[shard] - summaries[shard].done_count
        return summaries[shard], number - first_number

    @cached_property
    def row_counts(self) -> Mapping[str, int]:
        """Done video → number of its rows, ascending by id. Opens no part."""
        counts: dict[str, int] = {}
        for summary in self._summaries.values():
            counts.update(zip(summary.ids, summary.rows.tolist(), strict=True))
        return dict(sorted(counts.items()))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The videos that are done, ascending."""
        return tuple(sorted(self._numbers))

    @cached_property
    def statuses(self) -> Mapping[str, VideoStatus]:
        """The status of every id that has one, done or not, ascending by id."""
        pairs: list[tuple[str, VideoStatus]] = []
        for summary in self._summaries.values():
            pairs += summary.statuses.items()
        return dict(sorted(pairs, key=itemgetter(0)))

    def digest(self) -> str:
        """sha256 over ids and rows, the same however they are spread over parts."""
        return logical_digest_of(self._summaries.values())

    def entry(self, video_id: str) -> ManifestEntry:
        """The manifest's entry of a done video, with its facts; reads its shard's manifest.

        Raises LookupFailed, IntegrityError.
        """
        summary, _ = self._find(video_id)
        shard = summary.shard
        if shard not in self._manifests_read:
            manifest = read_manifest(self.layout, shard)
            if manifest is None:
                raise IntegrityError(
                    self.layout.manifest(shard), "was removed since the store was opened"
                )
            self._manifests_read[shard] = manifest
        return self._manifests_read[shard].entries[video_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._numbers

    def __getitem__(self, video_id: str) -> VideoHandle:
        """The video's rows.

        Raises:
            LookupFailed: the video is not done; the message has its status if there is one.
            IntegrityError: its part is damaged.
        """
        summary, index = self._find(video_id)
        part = summary.parts[summary.part_numbers[index]]
        reader = self._part_reader(summary, part)
        return VideoHandle(reader, video_id, int(summary.rows[index]), summary.digests[index])

    def _why_not(self, video_id: str) -> str:
        status = self.statuses.get(video_id)
        if status is None:
            return f"{self.name} has no video {video_id!r}; it has {len(self)} videos, see .ids"
        return f"{self.name}: {video_id} is {status}; .ids has the videos that are done"

    def _part_reader(self, summary: ShardSummary, part: PartRecord) -> PartReader:
        if part.file not in self._parts:
            expected = PartHeader(
                summary.catalog,
                summary.shard,
                self.layout.variant,
                self.layout.fingerprint,
                summary.time_origin,
            )
            with with_repair_advice():
                self._parts[part.file] = open_part(
                    self.layout, expected, part, verify=self._verify, check=self._check
                )
        return self._parts[part.file]


def layout_of_variant(variant: VariantLayout) -> Layout:
    """The layout of the catalog that a variant belongs to."""
    folder = variant.folder.absolute().parents[1]
    return Layout(folder.parent, folder.name)


def variant_layouts(folder: Path) -> list[VariantLayout]:
    """The variants of the catalog kept in `folder` (`ROOT/<catalog>`), by name."""
    # Absolute: the catalog has the name of its folder, and `Path(".")` has none.
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    if not layout.features.is_dir():
        return []
    layouts: list[VariantLayout] = []
    for name in sorted(path.name for path in layout.features.iterdir()):
        parsed = parse_variant(name)
        if parsed is not None:
            layouts.append(layout.variant(*parsed))
    return layouts


def read_settings(layout: VariantLayout) -> dict[str, Any]:
    """The settings that a variant was made with.

    Raises:
        IntegrityError: they are missing, or the folder's name has another fingerprint.
    """
    path = layout.settings_file
    try:
        settings: dict[str, Any] = parse_json_object(path, path.read_bytes())
        actual = fingerprint(settings)
    except FileNotFoundError as error:
        raise IntegrityError(
            path,
            "is missing, so it is unknown how these features were made; the next build with the "
            "same settings writes it anew",
        ) from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(path, f"holds invalid settings: {error}") from error
    if actual != layout.fingerprint:
        raise IntegrityError(
            path, f"has the fingerprint {actual}, its folder is named after {layout.fingerprint}"
        )
    return settings


def open_part(
    layout: VariantLayout, header: PartHeader, part: PartRecord, *, verify: bool, check: bool = True
) -> PartReader:
    """A part, compared with its manifest by size and header, with `verify` by sha256 too.

    With `check` its reader checks every block when it first touches it. A part of an earlier
    release has no checksums; one warning says so.

    Raises:
        IntegrityError: the part is missing, or not as its manifest says.
    """
    path = layout.folder / part.file
    _check_size(path, part)
    # Before the reader opens it: libhdf5 is not given a file that was altered.
    if verify and size_and_sha256(path)[1] != part.sha256:
        raise IntegrityError(path, "was altered: its sha256 is not what its manifest says")
    is_unchecked = check and not part.checksums_sha256
    if is_unchecked and not verify:
        _warn_of_unsealed(layout.folder)
    reader = PartReader(path, part.checksums_sha256 if check else "")
    if reader.header != header:
        raise IntegrityError(
            path, f"is a part of {reader.header}, expected {header}; it was copied here"
        )
    return reader


def _check_size(path: Path, part: PartRecord) -> None:
    if not path.is_file():
        raise IntegrityError(path, "is missing")
    size_bytes = path.stat().st_size
    if size_bytes != part.size_bytes:
        raise IntegrityError(
            path, f"has {size_bytes:,} bytes, its manifest says {part.size_bytes:,}"
        )


class UnsealedParts(UserWarning):
    """Parts of an earlier release have no checksums, so reading does not notice damage in them."""


@cache
def _warn_of_unsealed(folder: Path) -> None:
    """Warn once in a process for each variant, which the cache ensures."""
    warnings.warn(
        f"{folder} has parts without checksums, as earlier releases wrote them: damage in them is "
        f"not noticed. `python -m storage seal {folder.parents[1]}` checks them whole and adds "
        "checksums.",
        UnsealedParts,
        stacklevel=2,
    )


def _describe_differences(layouts: list[VariantLayout]) -> str:
    texts = differing_settings([read_settings(layout) for layout in layouts])
    lines = [
        f"\n  {layout.folder.name}  {text}" for layout, text in zip(layouts, texts, strict=True)
    ]
    return "".join(lines)

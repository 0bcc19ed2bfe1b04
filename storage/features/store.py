"""A catalog's features, for reading: `FeatureStore(path)["c3d"][video_id]["pool5"][10:20]`.

Opens what is asked for and reads the rows that are asked for, after checking that they are the ones
the manifests vouch for. Everything here pickles and survives fork and spawn. Refuses to write.
"""

from __future__ import annotations

import json
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.fingerprint import differing_settings, fingerprint
from storage.base.paths import Layout, VariantLayout, parse_variant
from storage.base.records import JSON
from storage.base.video_status import VideoStatus
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


class FeatureStore:
    """All variants of one catalog, kept in `ROOT/<catalog>`.

    The size of every part is checked when it is first opened, and each block of it against its
    checksum when this process first touches it: what is damaged raises IntegrityError and is never
    returned. `check=False` leaves the blocks unchecked; `verify=True` reads each part whole when it
    is first opened, and compares its sha256 too. A memory map of a part, or h5py, sees the bytes as
    they are: neither goes through these checks.
    """

    def __init__(self, path: Path | str, *, verify: bool = False, check: bool = True) -> None:
        self.folder = Path(path)
        self._verify = verify
        self._check = check

    def variants(self) -> tuple[str, ...]:
        """Full names (`c3d-0123456789ab`) of what was extracted, sorted."""
        return tuple(layout.folder.name for layout in self._variant_layouts())

    def __getitem__(self, name: str) -> VariantReader:
        """A variant by its full name, or by its short one if only one variant has it. Raises
        LookupFailed.
        """
        layouts = self._variant_layouts()
        found = [layout for layout in layouts if name in (layout.folder.name, layout.variant)]
        if len(found) == 1:
            return VariantReader(found[0], verify=self._verify, check=self._check)
        if not found:
            there = ", ".join(self.variants()) or "nothing yet"
            raise LookupFailed(f"{self.folder} has no variant {name!r}; it has {there}")
        raise LookupFailed(
            f"{self.folder} has {len(found)} variants named {name!r}; ask for one of them in full:{_differences(found)}"
        )

    def time_origins(self) -> dict[str, frozenset[str]]:
        """Full name of each variant → since when its seconds count. Raises IntegrityError for a
        damaged manifest.
        """
        return {
            layout.folder.name: VariantReader(layout).time_origins
            for layout in self._variant_layouts()
        }

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.folder)!r}: {', '.join(self.variants()) or 'empty'})"

    def _variant_layouts(self) -> list[VariantLayout]:
        return variant_layouts(self.folder)


class VariantReader(Mapping[str, "VideoHandle"]):
    """One extractor with one group of settings: video id → its rows. Its keys are the videos that
    are done.
    """

    def __init__(self, layout: VariantLayout, *, verify: bool = False, check: bool = True) -> None:
        self.layout = layout
        self._verify = verify
        self._check = check
        self._parts: dict[str, PartReader] = {}
        self._manifests_read: dict[int, ShardManifest] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_parts": {}, "_manifests_read": {}}

    def __repr__(self) -> str:
        return f"VariantReader({self.name}, {len(self)} videos)"

    @property
    def name(self) -> str:
        """The variant's full name."""
        return self.layout.folder.name

    @property
    def fingerprint(self) -> str:
        """12 hex digits that stand for the settings."""
        return self.layout.fingerprint

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that shaped the bytes. Raises IntegrityError if it is not what the folder is
        named after.
        """
        with with_repair_advice():
            return read_settings(self.layout)

    @cached_property
    def manifests(self) -> Mapping[int, ShardManifest]:
        """Shard → its account, for the shards that have one. Raises IntegrityError."""
        accounts = {shard: read_manifest(self.layout, shard) for shard in self._summaries}
        return {shard: account for shard, account in accounts.items() if account is not None}

    @property
    def provenance(self) -> Mapping[int, Mapping[str, JSON]]:
        """Shard → what made its last commit."""
        return {shard: manifest.provenance for shard, manifest in self.manifests.items()}

    @property
    def time_origins(self) -> frozenset[str]:
        """Since when the seconds of its rows count, `storage.base.records.TIME_ORIGINS`: one, or
        none of a variant without rows; two only where `python -m pipeline rebase` was interrupted.
        """
        return frozenset(one.time_origin for one in self._summaries.values() if one.parts)

    @cached_property
    def _summaries(self) -> Mapping[int, ShardSummary]:
        with with_repair_advice():
            return read_summaries(self.layout, by_content=self._verify)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Done video → its number when all shards are counted one after the other."""
        ids = done_ids(self._summaries.values())
        return dict(zip(ids, range(len(ids)), strict=True))

    @cached_property
    def _shards(self) -> tuple[tuple[ShardSummary, ...], list[int]]:
        """The summaries, and the number behind the last video of each."""
        found = tuple(self._summaries.values())
        return found, list(accumulate(one.done_count for one in found))

    def _place(self, video_id: str) -> tuple[ShardSummary, int]:
        """The summary of a done video's shard, and the video's place in it. Raises LookupFailed."""
        if video_id not in self._numbers:
            raise LookupFailed(self._why_not(video_id))
        number, (found, ends) = self._numbers[video_id], self._shards
        shard = bisect_right(ends, number)
        return found[shard], number - ends[shard] + found[shard].done_count

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The videos that are done, ascending."""
        return tuple(sorted(self._numbers))

    @cached_property
    def statuses(self) -> Mapping[str, VideoStatus]:
        """Every id that has a verdict, done or not, ascending."""
        return dict(
            sorted(pair for one in self._summaries.values() for pair in one.statuses.items())
        )

    def digest(self) -> str:
        """sha256 over ids and rows: equal content, equal digest, however it is spread over
        parts.
        """
        return logical_digest_of(self._summaries.values())

    def entry(self, video_id: str) -> ManifestEntry:
        """All that is on record of a done video, facts too; reads its shard's manifest. Raises
        LookupFailed.
        """
        shard = self._place(video_id)[0].shard
        if shard not in self._manifests_read:
            found = read_manifest(self.layout, shard)
            if found is None:
                raise IntegrityError(
                    self.layout.manifest(shard), "was there when the store was opened and is gone"
                )
            self._manifests_read[shard] = found
        return self._manifests_read[shard].entries[video_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._numbers

    def __getitem__(self, video_id: str) -> VideoHandle:
        """The video's rows. Raises LookupFailed, with its verdict if it has one; IntegrityError if
        its part is bad.
        """
        found, place = self._place(video_id)
        part = self._part(found, found.parts[found.part_numbers[place]])
        return VideoHandle(part, video_id, int(found.rows[place]), found.digests[place])

    def _why_not(self, video_id: str) -> str:
        status = self.statuses.get(video_id)
        if status is None:
            return f"{self.name} knows no video {video_id!r}; it has {len(self)} videos, see .ids"
        return f"{self.name}: {video_id} is {status}; .ids has the videos that are done"

    def _part(self, found: ShardSummary, part: PartRecord) -> PartReader:
        if part.file not in self._parts:
            own = (self.layout.variant, self.layout.fingerprint, found.time_origin)
            header = PartHeader(found.catalog, found.shard, *own)
            with with_repair_advice():
                self._parts[part.file] = open_part(
                    self.layout, header, part, verify=self._verify, check=self._check
                )
        return self._parts[part.file]


def variant_layouts(folder: Path) -> list[VariantLayout]:
    """The variants of the catalog kept in `folder` (`ROOT/<catalog>`), by name."""
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    names = (
        sorted(path.name for path in layout.features.iterdir()) if layout.features.is_dir() else []
    )
    return [layout.variant(*parsed) for parsed in map(parse_variant, names) if parsed is not None]


def read_settings(layout: VariantLayout) -> dict[str, Any]:
    """The settings a variant was made with. Raises IntegrityError unless their fingerprint is in
    the folder's name.
    """
    path = layout.settings_file
    try:
        settings = json.loads(path.read_bytes())
        made = fingerprint(settings)
    except FileNotFoundError as error:
        what = "is not there, so nobody can say how these features were made"
        raise IntegrityError(
            path, f"{what}; the next build with the same settings writes it anew"
        ) from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(path, f"is no JSON: {error}") from error
    if made != layout.fingerprint or not isinstance(settings, dict):
        raise IntegrityError(
            path, f"has the fingerprint {made}, its folder is named after {layout.fingerprint}"
        )
    return settings


def open_part(
    layout: VariantLayout, header: PartHeader, part: PartRecord, *, verify: bool, check: bool = True
) -> PartReader:
    """A part, after checking that it is what its manifest says: by size and header, with `verify` by
    sha256 too.

    With `check` its reader checks every block when it first touches it; for a part without
    checksums, of an earlier release, one warning says so.
    """
    path = layout.folder / part.file
    if not path.is_file():
        raise IntegrityError(path, "is missing")
    if path.stat().st_size != part.size_bytes:
        raise IntegrityError(
            path, f"has {path.stat().st_size:,} bytes, its manifest says {part.size_bytes:,}"
        )
    if verify and size_and_sha256(path)[1] != part.sha256:
        raise IntegrityError(path, "was altered: its sha256 is not what its manifest says")
    if check and not verify and not part.checksums_sha256:
        _warn_of_unsealed(layout.folder)
    reader = PartReader(path, part.checksums_sha256 if check else "")
    if reader.header != header:
        raise IntegrityError(
            path, f"is a part of {reader.header}, expected {header}; it was copied here"
        )
    return reader


class UnsealedParts(UserWarning):
    """Parts of an earlier release have no checksums, so damage in them is not seen when they are
    read.
    """


@cache
def _warn_of_unsealed(folder: Path) -> None:
    """Once in a process for each variant."""
    told = "has parts without checksums, as earlier releases wrote them: what is damaged in them is not noticed"
    warnings.warn(
        f"{folder} {told}. `python -m storage seal {folder.parents[1]}` checks them whole and adds checksums.",
        UnsealedParts,
        stacklevel=2,
    )


def _differences(layouts: list[VariantLayout]) -> str:
    varying = differing_settings([read_settings(layout) for layout in layouts])
    return "".join(
        f"\n  {layout.folder.name}  {text}" for layout, text in zip(layouts, varying, strict=True)
    )

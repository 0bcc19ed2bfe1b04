"""A catalog's features, for reading: `FeatureStore(path)["c3d"][video_id]["pool5"][10:20]`.

Opens what is asked for and reads the rows that are asked for, after checking that they are the ones the sidecars vouch
for. Everything here pickles and survives fork and spawn. Refuses to write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from storage.account import Entry, Sidecar, logical_digest
from storage.atomic import size_and_sha256
from storage.errors import IntegrityError, LookupFailed
from storage.fingerprint import differences, fingerprint
from storage.handles import VideoHandle
from storage.layout import Layout, VariantLayout, parse_variant, shard_and_number
from storage.reader import PartReader
from storage.records import JSON
from storage.sidecar import read_sidecar
from storage.verdicts import Verdict


class FeatureStore:
    """All variants of one catalog, kept in `ROOT/<catalog>`.

    The size of every part is checked when it is first opened; with `verify=True` its sha256 too.
    """

    def __init__(self, path: Path | str, *, verify: bool = False) -> None:
        self.folder = Path(path)
        self._verify = verify

    def variants(self) -> tuple[str, ...]:
        """Full names (`c3d-0123456789ab`) of what was extracted, sorted."""
        return tuple(layout.folder.name for layout in self._variant_layouts())

    def __getitem__(self, name: str) -> VariantReader:
        """A variant by its full name, or by its short one if only one variant has it. Raises LookupFailed."""
        layouts = self._variant_layouts()
        found = [layout for layout in layouts if name in (layout.folder.name, layout.variant)]
        if len(found) == 1:
            return VariantReader(found[0], verify=self._verify)
        if not found:
            there = ", ".join(self.variants()) or "nothing yet"
            raise LookupFailed(f"{self.folder} has no variant {name!r}; it has {there}")
        raise LookupFailed(
            f"{self.folder} has {len(found)} variants named {name!r}; ask for one of them in full:{_differences(found)}"
        )

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.folder)!r}: {', '.join(self.variants()) or 'empty'})"

    def _variant_layouts(self) -> list[VariantLayout]:
        return variant_layouts(self.folder)


class VariantReader(Mapping[str, "VideoHandle"]):
    """One extractor with one group of settings: video id → its rows. Its keys are the videos that are done."""

    def __init__(self, layout: VariantLayout, *, verify: bool = False) -> None:
        self.layout = layout
        self._verify = verify
        self._parts: dict[str, PartReader] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_parts": {}}

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
        """Everything that shaped the bytes. Raises IntegrityError if it is not what the folder is named after."""
        return read_settings(self.layout)

    @cached_property
    def sidecars(self) -> Mapping[int, Sidecar]:
        """Shard → its account, for the shards that have one. Raises IntegrityError."""
        names = [shard_and_number(path.name) for path in self.layout.folder.glob("shard_*.json")]
        accounts = {name[0]: read_sidecar(self.layout, name[0]) for name in sorted(filter(None, names))}
        return {shard: account for shard, account in accounts.items() if account is not None}

    @property
    def provenance(self) -> Mapping[int, Mapping[str, JSON]]:
        """Shard → what made its last commit."""
        return {shard: sidecar.provenance for shard, sidecar in self.sidecars.items()}

    @cached_property
    def _entries(self) -> dict[str, tuple[int, Entry]]:
        return {
            video_id: (shard, entry)
            for shard, sidecar in self.sidecars.items()
            for video_id, entry in sidecar.entries.items()
        }

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The videos that are done, ascending."""
        return tuple(sorted(video_id for video_id, (_, entry) in self._entries.items() if entry.is_done))

    @cached_property
    def verdicts(self) -> Mapping[str, Verdict]:
        """Every id that has a verdict, done or not, ascending."""
        return {video_id: entry.verdict for video_id, (_, entry) in sorted(self._entries.items())}

    def digest(self) -> str:
        """sha256 over ids and rows: equal content, equal digest, however it is spread over parts."""
        return logical_digest(self.sidecars.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._entries and self._entries[str(video_id)][1].is_done

    def __getitem__(self, video_id: str) -> VideoHandle:
        """The video's rows. Raises LookupFailed, with its verdict if it has one; IntegrityError if its part is bad."""
        shard, entry = self._entries.get(video_id, (-1, None))
        if entry is None:
            raise LookupFailed(f"{self.name} knows no video {video_id!r}; it has {len(self)} videos, see .ids")
        if not entry.is_done:
            raise LookupFailed(f"{self.name}: {video_id} is {entry.verdict}; .ids has the videos that are done")
        return VideoHandle(self._part(shard, entry.part), video_id, entry)

    def _part(self, shard: int, file: str) -> PartReader:
        if file not in self._parts:
            self._parts[file] = open_part(self.layout, self.sidecars[shard], file, verify=self._verify)
        return self._parts[file]


def variant_layouts(folder: Path) -> list[VariantLayout]:
    """The variants of the catalog kept in `folder` (`ROOT/<catalog>`), by name."""
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    names = sorted(path.name for path in layout.features.iterdir()) if layout.features.is_dir() else []
    return [layout.variant(*parsed) for parsed in map(parse_variant, names) if parsed is not None]


def read_settings(layout: VariantLayout) -> dict[str, Any]:
    """The settings a variant was made with. Raises IntegrityError unless their fingerprint is in the folder's name."""
    path = layout.settings_file
    try:
        settings = json.loads(path.read_bytes())
        made = fingerprint(settings)
    except FileNotFoundError as error:
        raise IntegrityError(path, "is not there, so nobody can say how these features were made") from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(path, f"is no JSON: {error}") from error
    if made != layout.fingerprint or not isinstance(settings, dict):
        raise IntegrityError(path, f"has the fingerprint {made}, its folder is named after {layout.fingerprint}")
    return settings


def open_part(layout: VariantLayout, sidecar: Sidecar, file: str, *, verify: bool) -> PartReader:
    """A part, after checking that its sidecar vouches for it: by size and header, with `verify` by sha256 too."""
    path = layout.folder / file
    expected = next(part for part in sidecar.parts if part.file == file)
    if not path.is_file():
        raise IntegrityError(path, "is missing; run `python -m storage audit --repair` and build the shard again")
    if path.stat().st_size != expected.size_bytes:
        raise IntegrityError(path, f"has {path.stat().st_size:,} bytes, its sidecar says {expected.size_bytes:,}")
    if verify and size_and_sha256(path)[1] != expected.sha256:
        raise IntegrityError(path, "was altered: its sha256 is not what its sidecar says")
    reader = PartReader(path)
    if reader.header != sidecar.header:
        raise IntegrityError(path, f"is a part of {reader.header}, expected {sidecar.header}; it was copied here")
    return reader


def _differences(layouts: list[VariantLayout]) -> str:
    varying = differences([read_settings(layout) for layout in layouts])
    return "".join(f"\n  {layout.folder.name}  {text}" for layout, text in zip(layouts, varying, strict=True))

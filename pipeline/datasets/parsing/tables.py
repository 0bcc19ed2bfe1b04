"""Tools that dataset readers share: parsers for JSON and MATLAB, and the `DatasetBuilder`.

Nothing here depends on one dataset.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.datasets.parsing.parsed_dataset import (
    DROPPED,
    ParsedDataset,
    quote_value,
    summarize_oddities,
)
from storage.base.errors import SettingsError
from storage.base.records import JSON, Annotation, Group, Video
from storage.catalog.catalog import Catalog, default_shard_count


@dataclass
class DatasetBuilder:
    """Collects videos, annotations, groups and oddities while a reader parses its files."""

    dataset: str
    """As its authors write it; for messages."""
    videos: list[Video] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    oddities: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Oddity → cases."""

    def always_list(self, *oddities: str) -> None:
        """List these oddities in the result, even with no case."""
        for oddity in oddities:
            self.oddities[oddity] += []

    def build(
        self, sources: Mapping[str, bytes], *, name: str, shard_count: int | None, time_unit: str
    ) -> ParsedDataset:
        """The catalog and its oddities. Raises `SettingsError` if there is no video."""
        if not self.videos:
            raise SettingsError((self._nothing_usable(),))
        self._list_common_oddities()
        annotations = self._unique_annotations()
        oddities = {oddity: sorted(self.oddities[oddity]) for oddity in sorted(self.oddities)}
        if shard_count is None:
            shard_count = default_shard_count(len(self.videos))
        catalog = Catalog(
            name=name,
            videos=tuple(self.videos),
            users=(),
            links=(),
            annotations=annotations,
            shard_count=shard_count,
            time_unit=time_unit,
            origin=self._origin(sources, oddities),
            groups=tuple(set(self.groups)),
        )
        return ParsedDataset(catalog, oddities)

    def _origin(
        self, sources: Mapping[str, bytes], oddities: Mapping[str, Sequence[str]]
    ) -> dict[str, JSON]:
        checksums: dict[str, JSON] = {
            role: {"sha256": hashlib.sha256(sources[role]).hexdigest()} for role in sorted(sources)
        }
        return {
            "reader": self.dataset,
            "sources": checksums,
            "oddities": summarize_oddities(oddities),
        }

    def _nothing_usable(self) -> str:
        """The message for a dataset without a video: each oddity, its count and one case."""
        listed = [(name, cases) for name, cases in self.oddities.items() if cases]
        # Why rows were left out comes first: that is what the user can act on.
        listed.sort(key=lambda item: not item[0].startswith(DROPPED))
        reasons = [
            f"{len(cases):,} {name.removeprefix(DROPPED)}, as in {quote_value(cases[0])}"
            for name, cases in listed
        ]
        explanation = "; ".join(reasons) or "its files list none"
        return f"no video of {self.dataset} is usable: {explanation}"

    def _unique_annotations(self) -> tuple[Annotation, ...]:
        """The annotations without repetitions; each repetition is listed as an oddity."""
        counts = Counter(self.annotations)
        for row, count in counts.items():
            case = f"{row.video_id} {row.annotator} {row.start} {row.end}"
            self.oddities["duplicate_annotation"] += [case] * (count - 1)
        self.always_list("duplicate_annotation")
        return tuple(counts)

    def _list_common_oddities(self) -> None:
        """List the oddities that every dataset is checked for."""
        annotated = {row.video_id for row in self.annotations}
        last_frames: dict[str, int] = {}
        self.always_list("id_starts_with_dash", "without_annotation")
        for video in self.videos:
            # Such an ID looks like an option on a command line.
            if video.video_id.startswith("-"):
                self.oddities["id_starts_with_dash"].append(video.video_id)
            if video.video_id not in annotated:
                self.oddities["without_annotation"].append(video.video_id)
            if video.frames_most is not None:
                last_frames[video.video_id] = video.frames_most
        # Datasets in seconds have no `frames_most`, so nothing is too late there.
        too_late = {
            row.video_id
            for row in self.annotations
            if row.end > last_frames.get(row.video_id, row.end)
        }
        self.oddities["ends_after_the_last_frame"] += too_late


def require_sources(sources: Mapping[str, bytes], dataset: str, *roles: str) -> None:
    """Raise `SettingsError` if one of the published files was not given."""
    missing = [role for role in roles if role not in sources]
    if missing:
        given = ", ".join(sources) or "nothing"
        needed = " and ".join(missing)
        raise SettingsError((f"{dataset} needs its {needed}; got {given}",))


def parse_json(content: bytes, what: str) -> Any:
    """Any JSON value. Raises `SettingsError` if `content` is not JSON."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise SettingsError(
            (f"{what} is not JSON: {error}; it starts with {content[:60]!r}",)
        ) from error


def parse_matlab(content: bytes, what: str) -> Mapping[str, Any]:
    """The variables of a MATLAB file of any version. Raises `SettingsError` if it is not one."""
    import pymatreader  # takes half a second, and most runs do not need it

    # pymatreader opens only paths, so the bytes go through a temporary file.
    with tempfile.TemporaryDirectory(prefix="catalog-") as folder:
        path = Path(folder) / "published.mat"
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                # It warns about variables that it cannot read; readers check for missing fields.
                warnings.simplefilter("ignore")
                variables: Mapping[str, Any] = pymatreader.read_mat(path)
        # A damaged file can raise anything: zlib.error, KeyError, OSError, TypeError ...
        except Exception as error:
            raise SettingsError((f"{what} is not a readable MATLAB file: {error}",)) from error
    return variables


def add_split_groups(builder: DatasetBuilder, grouping: str, content: bytes) -> None:
    """Add groups from JSON of the form `{domain: {part: [video id, ...]}}`.

    Later papers publish their splits in this form. An ID that is not a video of the dataset is
    listed as the oddity `<grouping>_id_unknown`. Raises `SettingsError` for another form.
    """
    what = f"the {grouping} split of {builder.dataset}"
    splits = parse_json(content, what)
    if not _is_split_table(splits):
        raise SettingsError((f"{what} is not of the form {{domain: {{part: [video id, ...]}}}}",))
    known = {video.video_id for video in builder.videos}
    unknown = f"{grouping}_id_unknown"
    builder.always_list(unknown)
    for domain, parts in splits.items():
        for part, ids in parts.items():
            for video_id in ids:
                if video_id in known:
                    builder.groups.append(Group(grouping, part, video_id))
                else:
                    builder.oddities[unknown].append(f"{domain}/{video_id}")


def _is_split_table(splits: Any) -> bool:
    if not isinstance(splits, dict):
        return False
    for parts in splits.values():
        if not isinstance(parts, dict):
            return False
        for ids in parts.values():
            if not isinstance(ids, list):
                return False
    return True

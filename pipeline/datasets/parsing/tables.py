"""What readers of published files share: JSON and MATLAB tables of the expected shape, and a
catalog made of findings.

Refuses to know any dataset.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping
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
    """What a reader has found so far."""

    dataset: str
    """As its authors write it; for messages."""
    videos: list[Video] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    oddities: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Oddity → cases."""

    def always_list(self, *oddities: str) -> None:
        """Name oddities that are listed even where none is found."""
        for oddity in oddities:
            self.oddities[oddity] += []

    def build(
        self, sources: Mapping[str, bytes], *, name: str, shard_count: int | None, time_unit: str
    ) -> ParsedDataset:
        """The catalog and its oddities; `SettingsError` if no video was found."""
        if not self.videos:
            raise SettingsError((self._none_usable(),))
        self._look_at_all()
        annotations = self._once()
        oddities = {oddity: sorted(self.oddities[oddity]) for oddity in sorted(self.oddities)}
        origin: dict[str, JSON] = {
            "reader": self.dataset,
            "sources": {
                role: {"sha256": hashlib.sha256(sources[role]).hexdigest()}
                for role in sorted(sources)
            },
            "oddities": summarize_oddities(oddities),
        }
        catalog = Catalog(
            name=name,
            videos=tuple(self.videos),
            users=(),
            links=(),
            annotations=annotations,
            shard_count=default_shard_count(len(self.videos))
            if shard_count is None
            else shard_count,
            time_unit=time_unit,
            origin=origin,
            groups=tuple(set(self.groups)),
        )
        return ParsedDataset(catalog, oddities)

    def _none_usable(self) -> str:
        """Each reason with its count and a case, what was left out first."""
        found = sorted(
            ((name, cases) for name, cases in self.oddities.items() if cases),
            key=lambda one: not one[0].startswith(DROPPED),
        )
        reasons = [
            f"{len(cases):,} {name.removeprefix(DROPPED)}, as in {quote_value(cases[0])}"
            for name, cases in found
        ]
        return (
            f"no video of {self.dataset} is usable: {'; '.join(reasons) or 'its files list none'}"
        )

    def _once(self) -> tuple[Annotation, ...]:
        """Equal annotations are one; each further one is listed."""
        counts = Counter(self.annotations)
        for row, count in counts.items():
            self.oddities["duplicate_annotation"] += [
                f"{row.video_id} {row.annotator} {row.start} {row.end}"
            ] * (count - 1)
        self.always_list("duplicate_annotation")
        return tuple(counts)

    def _look_at_all(self) -> None:
        marked = {row.video_id for row in self.annotations}
        ids = [video.video_id for video in self.videos]
        self.oddities["id_starts_with_dash"] += [
            video_id for video_id in ids if video_id.startswith("-")
        ]
        self.oddities["without_annotation"] += [
            video_id for video_id in ids if video_id not in marked
        ]
        most = {
            video.video_id: video.frames_most
            for video in self.videos
            if video.frames_most is not None
        }
        late = {
            row.video_id for row in self.annotations if row.end > most.get(row.video_id, row.end)
        }
        self.oddities["ends_after_the_last_frame"] += late


def require_sources(sources: Mapping[str, bytes], dataset: str, *roles: str) -> None:
    """Raise `SettingsError` for published files that were not given."""
    if missing := [role for role in roles if role not in sources]:
        raise SettingsError(
            (f"{dataset} needs its {' and '.join(missing)}; got {', '.join(sources) or 'nothing'}",)
        )


def parse_json(content: bytes, what: str) -> Any:
    """Any JSON value; `SettingsError` if it is none."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise SettingsError(
            (f"{what} is no JSON: {error}; it starts with {content[:60]!r}",)
        ) from error


def parse_matlab(content: bytes, what: str) -> Mapping[str, Any]:
    """The variables of a MATLAB file of any version; `SettingsError` if it is none."""
    import pymatreader  # takes half a second, and most runs need none

    # pymatreader opens paths alone.
    with tempfile.TemporaryDirectory(prefix="catalog-") as folder:
        path = Path(folder) / "published.mat"
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                variables: Mapping[str, Any] = pymatreader.read_mat(path)
        except (
            Exception
        ) as error:  # damage comes out as anything: zlib.error, KeyError, OSError, TypeError ...
            raise SettingsError((f"{what} is no MATLAB file that can be read: {error}",)) from error
    return variables


def add_split_groups(builder: DatasetBuilder, grouping: str, content: bytes) -> None:
    """Put found videos into groups by JSON `{domain: {part: [video id, ...]}}`, as later work
    publishes its splits.

    An id that is no video here is listed as `umt_id_unknown` for the grouping `umt`. Raises
    `SettingsError` for another shape.
    """
    what = f"the {grouping} split of {builder.dataset}"
    splits = parse_json(content, what)
    domains = list(splits.values()) if isinstance(splits, dict) else [None]
    if not all(
        isinstance(of, dict) and all(isinstance(ids, list) for ids in of.values()) for of in domains
    ):
        raise SettingsError((f"{what} is not of the form {{domain: {{part: [video id, ...]}}}}",))
    known = {video.video_id for video in builder.videos}
    builder.always_list(f"{grouping}_id_unknown")
    for domain, parts in splits.items():
        for part, ids in parts.items():
            builder.oddities[f"{grouping}_id_unknown"] += [
                f"{domain}/{one}" for one in ids if one not in known
            ]
            builder.groups += [Group(grouping, part, one) for one in ids if one in known]

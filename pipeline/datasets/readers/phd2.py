"""Reads PHD2 (PHD-GIFs) as its authors publish it: a catalog and the oddities of its tables.

Times and links are kept as published, never clamped or corrected. Exact duplicates become one
annotation. A row that cannot be used is left out under a named reason. For each split, rows =
annotations + duplicates + dropped.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.datasets.parsing.parsed_dataset import ParsedDataset, quote_value, summarize_oddities
from pipeline.datasets.readers.phd2_anomalies import find_oddities
from pipeline.datasets.readers.phd2_rows import DROPPED, Gif, SplitTable, read_table
from storage.base.errors import SettingsError
from storage.base.records import JSON, Link, User, Video
from storage.catalog.catalog import Catalog, default_shard_count

READER_VERSION = 1
SPLITS = ("test", "train")
"""The order matters: a user in both tables stays in `test`, so no test user is trained on."""


def read_phd2_catalog(
    sources: Mapping[str, Path | bytes], *, name: str = "phd2", shard_count: int | None = None
) -> Catalog:
    """Only the catalog; see `read_phd2`."""
    return read_phd2(sources, name=name, shard_count=shard_count).catalog


def read_phd2(
    sources: Mapping[str, Path | bytes], *, name: str, shard_count: int | None = None
) -> ParsedDataset:
    """Read `{"train": training.csv, "test": testing.csv}`, each a path or its bytes.

    Either may be absent. Raises `SettingsError` if a source is not a PHD2 table, or if no row of
    any is usable.
    """
    tables = _read_tables(sources)
    gifs = [gif for table in tables for gif in table.gifs]
    if not gifs:
        raise SettingsError((_nothing_usable(tables),))
    cases_by_oddity = {**_dropped_rows(tables), **find_oddities(gifs)}
    oddities = {oddity: sorted(cases) for oddity, cases in cases_by_oddity.items()}
    durations = _claimed_durations(gifs)
    if shard_count is None:
        shard_count = default_shard_count(len(durations))
    catalog = Catalog(
        name=name,
        # Where rows disagree about a duration, the longest cuts off the fewest GIFs.
        videos=tuple(
            Video(video_id, max(claims, default=None)) for video_id, claims in durations.items()
        ),
        users=tuple({User(gif.user_id, gif.split) for gif in gifs}),
        links=tuple({_link(gif) for gif in gifs}),
        annotations=tuple({gif.annotation for gif in gifs}),
        shard_count=shard_count,
        time_unit="seconds",
        origin=_origin(tables, oddities),
    )
    return ParsedDataset(catalog, oddities)


def _link(gif: Gif) -> Link:
    return Link(gif.user_id, gif.video_id, "target" if gif.is_target else "history")


def _nothing_usable(tables: Sequence[SplitTable]) -> str:
    """The message for tables without a usable row: each reason, its count and one value."""
    n_rows = sum(len(table.rows) for table in tables)
    if not n_rows:
        splits = ", ".join(table.split for table in tables)
        return f"the tables of PHD2 ({splits}) have a header and no row"
    counts: Counter[str] = Counter()
    first_values: dict[str, str] = {}
    for table in tables:
        first_values = {**table.values, **first_values}
        for reason, rows in table.dropped.items():
            counts[reason] += len(rows)
    reasons = []
    for reason, rule in DROPPED.items():
        if counts[reason]:
            value = quote_value(first_values.get(reason, ""))
            reasons.append(f"{counts[reason]:,} {reason} ({rule}; got {value})")
    return f"none of the {n_rows:,} rows of PHD2 is usable: {'; '.join(reasons)}"


def _read_tables(sources: Mapping[str, Path | bytes]) -> list[SplitTable]:
    if not sources or not set(sources) <= set(SPLITS):
        given = sorted(sources) or "neither"
        raise SettingsError((f"PHD2 has the splits train and test; got sources for {given}",))
    tables: list[SplitTable] = []
    earlier_users: set[str] = set()
    for split in SPLITS:
        if split not in sources:
            continue
        # The order of `SPLITS` decides which of two tables keeps a user.
        table = read_table(split, sources[split]).without_users(earlier_users)
        earlier_users.update(gif.user_id for gif in table.gifs)
        tables.append(table)
    return tables


def _claimed_durations(gifs: Iterable[Gif]) -> dict[str, set[float]]:
    """Video → every duration that a row states for it; an empty set if none does."""
    durations: dict[str, set[float]] = defaultdict(set)
    for gif in gifs:
        claims = durations[gif.video_id]
        if gif.claimed_duration is not None:
            claims.add(gif.claimed_duration)
    return durations


def _origin(tables: Sequence[SplitTable], oddities: Mapping[str, list[str]]) -> dict[str, JSON]:
    return {
        "reader": "phd2",
        "reader_version": READER_VERSION,
        "sources": {table.split: _row_counts(table) for table in tables},
        "oddities": summarize_oddities(oddities),
    }


def _row_counts(table: SplitTable) -> dict[str, JSON]:
    n_annotations = len({gif.annotation for gif in table.gifs})
    return {
        "rows": len(table.rows),
        "annotations": n_annotations,
        "duplicates": len(table.gifs) - n_annotations,
        "dropped": sum(len(rows) for rows in table.dropped.values()),
        "sorted_rows_sha256": table.digest,
    }


def _dropped_rows(tables: Sequence[SplitTable]) -> dict[str, list[str]]:
    cases: dict[str, list[str]] = {f"dropped:{reason}": [] for reason in DROPPED}
    for table in tables:
        for reason, rows in table.dropped.items():
            cases[f"dropped:{reason}"] += rows
    return cases

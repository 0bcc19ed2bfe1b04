"""PHD2 (PHD-GIFs) as its authors publish it: a catalog, and an account of all that looks odd in the
tables.

Times and links are kept as published, never clamped or mended. Exact duplicates become one
annotation; a row that cannot be used is left out under a named reason: rows = annotations +
duplicates + dropped, for each split.
"""

from __future__ import annotations

from collections import defaultdict
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
"""A user found in both stays in `test`, so that nothing of a test user is ever trained on."""


def read_phd2_catalog(
    sources: Mapping[str, Path | bytes], *, name: str = "phd2", shard_count: int | None = None
) -> Catalog:
    """The catalog alone; see `read_phd2`."""
    return read_phd2(sources, name=name, shard_count=shard_count).catalog


def read_phd2(
    sources: Mapping[str, Path | bytes], *, name: str, shard_count: int | None = None
) -> ParsedDataset:
    """Read `{"train": training.csv, "test": testing.csv}`, each a path or its bytes; either may be
    absent.

    Raises `SettingsError` if a source is not a PHD2 table, or if no row of any is usable.
    """
    tables = _read_tables(sources)
    gifs = [gif for table in tables for gif in table.gifs]
    if not gifs:
        raise SettingsError((_none_usable(tables),))
    oddities = {
        oddity: sorted(cases)
        for oddity, cases in {**_dropped(tables), **find_oddities(gifs)}.items()
    }
    durations = _claimed_durations(gifs)
    catalog = Catalog(
        name=name,
        videos=tuple(
            Video(video_id, max(known, default=None)) for video_id, known in durations.items()
        ),
        users=tuple({User(gif.user_id, gif.split) for gif in gifs}),
        links=tuple(
            {
                Link(gif.user_id, gif.video_id, "target" if gif.is_target else "history")
                for gif in gifs
            }
        ),
        annotations=tuple({gif.annotation for gif in gifs}),
        shard_count=default_shard_count(len(durations)) if shard_count is None else shard_count,
        time_unit="seconds",
        origin=_origin(tables, oddities),
    )
    return ParsedDataset(catalog, oddities)


def _none_usable(tables: Sequence[SplitTable]) -> str:
    n_rows = sum(len(table.rows) for table in tables)
    if not n_rows:
        return f"the tables of PHD2 ({', '.join(table.split for table in tables)}) have a header and no row"
    reasons = []
    for reason, rule in DROPPED.items():
        count = sum(len(table.dropped.get(reason, ())) for table in tables)
        value = next((table.values[reason] for table in tables if reason in table.values), "")
        if count:
            reasons.append(f"{count:,} {reason} ({rule}; got {quote_value(value)})")
    return f"none of the {n_rows:,} rows of PHD2 is usable: {'; '.join(reasons)}"


def _read_tables(sources: Mapping[str, Path | bytes]) -> list[SplitTable]:
    if not sources or not set(sources) <= set(SPLITS):
        raise SettingsError(
            (f"PHD2 has the splits train and test; got sources for {sorted(sources) or 'neither'}",)
        )
    tables: list[SplitTable] = []
    users: set[str] = set()
    for split in SPLITS:
        if split in sources:
            tables.append(read_table(split, sources[split]).without_users(users))
            users.update(gif.user_id for gif in tables[-1].gifs)
    return tables


def _claimed_durations(gifs: Iterable[Gif]) -> dict[str, set[float]]:
    durations: dict[str, set[float]] = defaultdict(set)
    for gif in gifs:
        durations[gif.video_id].update(
            () if gif.claimed_duration is None else (gif.claimed_duration,)
        )
    return durations


def _origin(tables: Sequence[SplitTable], oddities: Mapping[str, list[str]]) -> dict[str, JSON]:
    return {
        "reader": "phd2",
        "reader_version": READER_VERSION,
        "sources": {table.split: _account(table) for table in tables},
        "oddities": summarize_oddities(oddities),
    }


def _account(table: SplitTable) -> dict[str, JSON]:
    n_annotations = len({gif.annotation for gif in table.gifs})
    return {
        "rows": len(table.rows),
        "annotations": n_annotations,
        "duplicates": len(table.gifs) - n_annotations,
        "dropped": sum(len(rows) for rows in table.dropped.values()),
        "sorted_rows_sha256": table.digest,
    }


def _dropped(tables: Sequence[SplitTable]) -> dict[str, list[str]]:
    return {
        f"dropped:{reason}": [row for table in tables for row in table.dropped.get(reason, ())]
        for reason in DROPPED
    }

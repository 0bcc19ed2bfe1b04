"""The catalog of a dataset on disk: built from annotations, read, and compared with what is asked
for.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.datasets.parsing.annotation_files import read_source
from pipeline.datasets.parsing.archive import list_file_names, zip_folder
from pipeline.datasets.parsing.parsed_dataset import (
    DROPPED,
    ParsedDataset,
    quote_value,
    write_oddities,
)
from pipeline.datasets.registry import SourceFile, dataset_spec
from storage.base.errors import IntegrityError, LookupFailed
from storage.base.fingerprint import readable_json
from storage.base.records import JSON
from storage.catalog.catalog import Catalog, read_catalog, write_catalog
from storage.files import atomic_write
from tasks.config.settings import SAMPLES, Settings
from tasks.execution import progress

SAMPLE_SHARDS = 3


ODDITIES = "oddities.csv"


ASKED = "asked.json"
"""In the catalog's sources: what the catalog was made from."""


def build_catalog(settings: Settings) -> None:
    """Read the configured annotations into `ROOT/<catalog>/catalog.json` and its tables; oddities
    go to a CSV.
    """
    layout = settings.layout
    if layout.catalog in SAMPLES:
        with progress.bar("drawing the sample", "video") as advance:
            SAMPLES[layout.catalog](layout.sources, advance)
    spec = dataset_spec(layout.catalog)
    contents = _contents(settings)
    survey = spec.read(contents, name=layout.catalog, shard_count=_shard_count(settings))
    write_catalog(layout, survey.catalog)
    write_oddities(layout.sources / ODDITIES, survey.oddities)
    atomic_write.publish(layout.sources / ASKED, readable_json(_asked(settings)), replace=True)
    for line in _told(survey, layout.sources / ODDITIES):
        progress.say(line)


def _told(survey: ParsedDataset, listed: Path) -> Iterator[str]:
    catalog = survey.catalog
    people = f" by {len(catalog.users):,} users" if catalog.users else ""
    marks = f"{len(catalog.annotations):,} annotations{people}"
    yield f"{catalog.name}: {len(catalog.videos):,} videos, {marks}, {catalog.shard_count} shards"
    found = {name: cases for name, cases in survey.oddities.items() if cases}
    odd = [
        f"{len(cases):,} {name}" for name, cases in found.items() if not name.startswith(DROPPED)
    ]
    if odd:
        yield f"{catalog.name}: kept as published, though odd: {', '.join(odd)}; listed in {listed}"
    for name, cases in found.items():
        if name.startswith(DROPPED):
            reason = name.removeprefix(DROPPED)
            left_out = f"{len(cases):,} {reason}, as in {quote_value(cases[0])}"
            yield f"{catalog.name}: left out: {left_out}; listed in {listed}"


def is_current(settings: Settings) -> bool:
    """Whether the catalog on disk is whole and came from what is configured; an address is not
    asked again.
    """
    layout = settings.layout
    try:
        catalog_of(settings)
        if json.loads((layout.sources / ASKED).read_bytes()) != _asked(settings):
            return False
    except (LookupFailed, IntegrityError, FileNotFoundError, ValueError):
        return False
    files = dataset_spec(layout.catalog).files
    return all(
        _published(files[role], place) == (layout.sources / files[role].file).read_bytes()
        for role, place in settings.annotations.items()
        if "://" not in place
    )


def _contents(settings: Settings) -> dict[str, bytes]:
    """Role → bytes as published, which are also kept in the catalog's sources."""
    sources, files = settings.layout.sources, dataset_spec(settings.layout.catalog).files
    if settings.layout.catalog in SAMPLES:
        return {role: (sources / published.file).read_bytes() for role, published in files.items()}
    contents = {
        role: _published(files[role], place) for role, place in settings.annotations.items()
    }
    for role, content in contents.items():
        atomic_write.publish(sources / files[role].file, content, replace=True)
    return contents


def _published(published: SourceFile, place: str) -> bytes:
    if published.pattern and "://" not in place and Path(place).is_dir():
        pack = list_file_names if published.names_only else zip_folder
        return pack(Path(place), published.pattern)
    return read_source(place)


def catalog_of(settings: Settings) -> Catalog:
    """The catalog on disk, read once per process: PHD2's takes two seconds, and every shard asks
    for it.
    """
    return _read(settings.layout.folder, settings.layout.catalog_file.read_bytes())


@functools.lru_cache(maxsize=2)
def _read(folder: Path, _header: bytes) -> Catalog:
    # The header holds the tables' sha256, so another catalog in the same folder is another key.
    return read_catalog(folder)


def _shard_count(settings: Settings) -> int | None:
    # A sample is small, but its shards should still show what shards are.
    fallback = SAMPLE_SHARDS if settings.layout.catalog in SAMPLES else None
    return settings.shard_count or fallback


def _asked(settings: Settings) -> dict[str, JSON]:
    return {"annotations": dict(settings.annotations), "shards": settings.shard_count}

"""From published annotation files, or the sample's generator, to a catalog."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import luigi

from pipeline.catalogs.sample import write_sample
from pipeline.catalogs.source import read_source
from pipeline.catalogs.survey import Survey, write_oddities
from pipeline.catalogs.table import catalog_spec
from storage import atomic
from storage.catalog import Catalog, read_catalog, write_catalog
from storage.errors import IntegrityError, LookupFailed
from storage.fingerprint import readable
from storage.records import JSON
from tasks import progress
from tasks.exits import before_anything_starts
from tasks.settings import SAMPLES, Settings, load
from tasks.stopping import ORDERS_TO_US

SAMPLE_SHARDS = 3
ODDITIES = "oddities.csv"
ASKED = "asked.json"
"""In the catalog's sources: what the catalog was made from."""


class BuildCatalog(luigi.Task):
    """The catalog of a dataset: videos, users, links, annotations and shards, before any video is fetched."""

    catalog = luigi.Parameter()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        luigi.Task.__init__(self, *args, **kwargs)
        before_anything_starts(lambda: load(self.catalog))

    def complete(self) -> bool:
        """Whether the kept catalog is whole and was made from the annotations that are configured now."""
        return is_current(load(self.catalog))

    def run(self) -> None:
        """Fetch or draw the sources, keep them as they are, read them, write the catalog."""
        with ORDERS_TO_US.drop_at_once():
            build_catalog(load(self.catalog))


def build_catalog(settings: Settings) -> None:
    """Read the configured annotations into `ROOT/<catalog>/catalog.json` and its tables; oddities go to a CSV."""
    layout = settings.layout
    if layout.catalog in SAMPLES:
        with progress.bar("drawing the sample", "video") as advance:
            write_sample(layout.sources, SAMPLES[layout.catalog], progress=advance)
    spec = catalog_spec(layout.catalog)
    contents = _contents(settings, spec.files)
    survey = spec.read(contents, name=layout.catalog, shard_count=_shard_count(settings))
    write_catalog(layout, survey.catalog)
    write_oddities(layout.sources / ODDITIES, survey.oddities)
    atomic.publish(layout.sources / ASKED, readable(_asked(settings)), replace=True)
    for line in _told(survey, layout.sources / ODDITIES):
        progress.say(line)


def _told(survey: Survey, listed: Path) -> Iterator[str]:
    catalog = survey.catalog
    marks = f"{len(catalog.annotations):,} annotations by {len(catalog.users):,} users"
    yield f"{catalog.name}: {len(catalog.videos):,} videos, {marks}, {catalog.shard_count} shards"
    odd = [f"{len(cases):,} {name}" for name, cases in survey.oddities.items() if cases]
    if odd:
        yield f"{catalog.name}: kept as published, though odd: {', '.join(odd)}; listed in {listed}"


def is_current(settings: Settings) -> bool:
    """Whether the catalog on disk is whole and came from what is configured; an address is not asked again."""
    layout = settings.layout
    try:
        catalog_of(settings)
        if json.loads((layout.sources / ASKED).read_bytes()) != _asked(settings):
            return False
    except (LookupFailed, IntegrityError, FileNotFoundError, ValueError):
        return False
    files = catalog_spec(layout.catalog).files
    return all(
        Path(place).read_bytes() == (layout.sources / files[split]).read_bytes()
        for split, place in settings.annotations.items()
        if "://" not in place
    )


def _contents(settings: Settings, files: Mapping[str, str]) -> dict[str, bytes]:
    if settings.layout.catalog in SAMPLES:
        return {split: (settings.layout.sources / name).read_bytes() for split, name in files.items()}
    contents = {split: read_source(place) for split, place in settings.annotations.items()}
    for split, content in contents.items():
        atomic.publish(settings.layout.sources / files[split], content, replace=True)
    return contents


def catalog_of(settings: Settings) -> Catalog:
    """The catalog on disk, read once per process: PHD2's takes two seconds, and every shard asks for it."""
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

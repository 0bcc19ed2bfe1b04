"""Catalogs on disk: built from annotations, read, and compared with the settings."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.datasets.parsing.annotation_files import read_source
from pipeline.datasets.parsing.archive import list_file_names, zip_folder
from pipeline.datasets.parsing.parsed_dataset import (
    DROPPED,
    ParsedDataset,
    quote_value,
    write_oddities,
)
from pipeline.datasets.registry import DATASETS, SourceFile, dataset_spec
from storage.base.errors import IntegrityError, LookupFailed
from storage.base.fingerprint import readable_json
from storage.base.paths import Layout
from storage.base.records import JSON
from storage.catalog.catalog import Catalog, read_catalog, write_catalog
from storage.catalog.forgotten import forgotten_source_files, read_forgotten
from storage.files import atomic_write
from tasks.config.own_catalogs import REQUEST_FILE
from tasks.config.samples import SAMPLES
from tasks.config.settings import Settings
from tasks.execution import progress

SAMPLE_SHARDS = 3
"""A sample is small, but should still show what shards are."""
EXAMPLE_CHARACTERS = 300
ODDITIES_FILE = "oddities.csv"


def build_catalog(settings: Settings) -> None:
    """Read the configured annotations into `ROOT/<catalog>/catalog.json` and its tables.

    Oddities of the annotations go to a CSV file. For a sample, its videos are generated first.
    """
    layout = settings.layout
    if layout.catalog in SAMPLES:
        with progress.progress_bar("drawing the sample", "video") as advance:
            SAMPLES[layout.catalog](layout.sources, advance)
    dataset = _without_forgotten(layout, _read_dataset(settings))
    oddities_file = layout.sources / ODDITIES_FILE
    write_catalog(layout, dataset.catalog)
    write_oddities(oddities_file, dataset.oddities)
    # Last: a catalog without this file is built again.
    request = readable_json(_request_record(settings))
    atomic_write.publish(layout.sources / REQUEST_FILE, request, replace=True)
    for line in _summary_lines(dataset, oddities_file, is_own=settings.is_own):
        progress.log_line(line)


def _read_dataset(settings: Settings) -> ParsedDataset:
    """The parsed annotations. Raises SettingsError if they cannot be read."""
    layout = settings.layout
    sources = _read_annotations(layout, settings.annotations)
    spec = dataset_spec(layout.catalog)
    return spec.read(sources, name=layout.catalog, shard_count=_shard_count(settings))


def _without_forgotten(layout: Layout, dataset: ParsedDataset) -> ParsedDataset:
    """The dataset without the videos that were taken down, and without media of them.

    The published files may still name them, and a sample draws all its videos anew.
    """
    forgotten = read_forgotten(layout)
    ids = dataset.catalog.forgotten_ids(forgotten)
    for path in forgotten_source_files(layout, forgotten):
        atomic_write.remove(path)
    if not ids:
        return dataset
    progress.log_line(
        f"{layout.catalog}: left out: {len(ids):,} videos that were taken down; see "
        f"{layout.forgotten_file}"
    )
    oddities = {name: forgotten.without_naming(cases) for name, cases in dataset.oddities.items()}
    return ParsedDataset(dataset.catalog.without(forgotten), oddities)


def _summary_lines(dataset: ParsedDataset, oddities_file: Path, *, is_own: bool) -> Iterator[str]:
    catalog = dataset.catalog
    users = f" by {len(catalog.users):,} users" if catalog.users else ""
    annotations = f"{len(catalog.annotations):,} annotations{users}"
    videos = f"{len(catalog.videos):,} videos"
    yield f"{catalog.name}: {videos}, {annotations}, {catalog.shard_count} shards"
    kept, dropped = [], []
    for name, cases in dataset.oddities.items():
        if not cases:
            continue
        if name.startswith(DROPPED):
            reason = name.removeprefix(DROPPED)
            dropped.append(f"{len(cases):,} {reason}, as in {_example(cases[0], is_own=is_own)}")
        else:
            kept.append(f"{len(cases):,} {name}")
    listed = f"listed in {oddities_file}"
    if kept:
        what = "noted" if is_own else "kept as published, though odd"
        yield f"{catalog.name}: {what}: {', '.join(kept)}; {listed}"
    for line in dropped:
        yield f"{catalog.name}: left out: {line}; {listed}"


def _example(case: str, *, is_own: bool) -> str:
    """A case of a row that was left out. A user's own list says itself what is wrong with it."""
    return case[:EXAMPLE_CHARACTERS] if is_own else quote_value(case)


def is_current(settings: Settings) -> bool:
    """Whether the catalog on disk is whole and was made from the present settings and files.

    Local annotation files are compared byte by byte; files at an address are not fetched again.
    """
    layout = settings.layout
    try:
        load_catalog(layout)
        request = json.loads((layout.sources / REQUEST_FILE).read_bytes())
    except (LookupFailed, IntegrityError, FileNotFoundError, ValueError):
        return False
    if request != _request_record(settings):
        return False
    files = dataset_spec(layout.catalog).files
    for role, place in settings.annotations.items():
        if _is_address(place):
            continue
        kept = (layout.sources / files[role].file).read_bytes()
        if _read_published(files[role], place) != kept:
            return False
    return True


def _read_annotations(layout: Layout, annotations: Mapping[str, str]) -> dict[str, bytes]:
    """Role → bytes as published; they are also saved in the catalog's sources.

    `annotations` maps a role to its path or address. A sample's files are in the sources already.
    """
    files = dataset_spec(layout.catalog).files
    if layout.catalog in SAMPLES:
        return {role: (layout.sources / file.file).read_bytes() for role, file in files.items()}
    contents = {role: _read_published(files[role], place) for role, place in annotations.items()}
    for role, content in contents.items():
        atomic_write.publish(layout.sources / files[role].file, content, replace=True)
    return contents


def _read_published(published: SourceFile, place: str) -> bytes:
    if published.read is not None:
        return published.read(place)
    is_folder = not _is_address(place) and Path(place).is_dir()
    if not published.pattern or not is_folder:
        return read_source(place)
    if published.names_only:
        return list_file_names(Path(place), published.pattern)
    return zip_folder(Path(place), published.pattern)


def _is_address(place: str) -> bool:
    return "://" in place


def load_catalog(layout: Layout) -> Catalog:
    """The catalog on disk, read once per process.

    PHD2's takes two seconds to read, and every shard needs it.
    """
    return _read(layout.folder, layout.catalog_file.read_bytes())


@functools.lru_cache(maxsize=2)
def _read(folder: Path, _header: bytes) -> Catalog:
    # The header holds the tables' sha256, so another catalog in the same folder is another key.
    return read_catalog(folder)


def _shard_count(settings: Settings) -> int | None:
    if settings.shard_count:
        return settings.shard_count
    return SAMPLE_SHARDS if settings.layout.catalog in SAMPLES else None


def _request_record(settings: Settings) -> dict[str, JSON]:
    record: dict[str, JSON] = {
        "annotations": dict(settings.annotations),
        "shards": settings.shard_count,
    }
    if settings.is_own:
        # A later command that only names the catalog finds its settings here.
        record["own_videos"] = dict(DATASETS[settings.layout.catalog].options)
    plugin = DATASETS.plugins.get(settings.layout.catalog)
    if plugin is not None:
        # Another version of the reader may read the same files in another way.
        record["reader"] = f"{plugin.distribution} {plugin.version} {plugin.code_sha256}"
    return record

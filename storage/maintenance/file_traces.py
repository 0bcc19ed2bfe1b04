"""Finds what files outside of the shards hold of forgotten videos, and removes it.

That is rows of the catalog, media and their records, reports and pictures, times of runs, and logs.
Annotation files stay as they were published: `published_files` says which name a forgotten video.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.paths import Layout, id_in_name
from storage.base.records import JSON
from storage.catalog.catalog import TABLES, Catalog, read_catalog, write_catalog
from storage.catalog.forgotten import TABLE_SUFFIXES, Forgotten, forgotten_source_files
from storage.features.media_records import decode_media_record
from storage.files.atomic_write import publish, remove
from storage.files.checksummed_json import read_sealed, seal
from storage.files.process_identity import owner_of_temporary
from storage.maintenance.shard_traces import Trace

ODDITIES = "oddities.csv"
"""In the sources, and written by us: its lines are rewritten."""
_LINES = frozenset({".begun", ".csv", ".err", ".jsonl", ".log", ".out", ".txt"})
"""Text files of one record on each line."""
_TEXTS = _LINES | {".json", ".md", ".sh", ".tex", ".toml"}
_WITHOUT_VIDEOS = frozenset({"time.png"})
"""Pictures of a report that show no video: bars of times."""


def catalog_traces(layout: Layout, forgotten: Forgotten) -> Iterator[Trace]:
    """Rows of the catalog, and what an interrupted rewriting of it has left."""
    catalog = read_catalog(layout.folder, with_forgotten=True)
    smaller = catalog.without(forgotten)
    if smaller is not catalog:
        tables = [
            f"{table}.csv"
            for table in TABLES
            if len(getattr(smaller, table)) < len(getattr(catalog, table))
        ]
        where = ", ".join(tables) or "its origin"
        action = partial(_rewrite_catalog, layout, smaller)
        yield Trace(layout.catalog_file, f"rows in {where}", action)
    elif layout.forgetting.folder.parent.exists():
        yield Trace(
            layout.forgetting.folder.parent,
            "a catalog that an interrupted take-down has left",
            partial(_clear_prepared, layout),
            is_certain=False,
        )


def _rewrite_catalog(layout: Layout, smaller: Catalog) -> None:
    """Replace the catalog by a smaller one.

    The tables cannot be replaced in one step. So all are written aside first, and an interrupted
    replacement is finished from there by `finish_catalog`.
    """
    _clear_prepared(layout)
    write_catalog(layout.forgetting, smaller)
    _replace_catalog(layout)


def finish_catalog(layout: Layout) -> None:
    """Finish an interrupted replacement of the catalog, if that keeps it from being read.

    Raises IntegrityError if it cannot be read for another reason.
    """
    try:
        read_catalog(layout.folder, with_forgotten=True)
    except IntegrityError as error:
        try:
            read_catalog(layout.forgetting.folder)
        except (LookupFailed, IntegrityError):
            raise error from None  # nothing was prepared: it is damaged otherwise
        _replace_catalog(layout)


def _replace_catalog(layout: Layout) -> None:
    prepared = layout.forgetting
    for table in TABLES:
        if prepared.table(table).exists():
            publish(layout.table(table), prepared.table(table).read_bytes(), replace=True)
        else:
            # Such as metadata of which no row is left: the header does not name the table any more.
            remove(layout.table(table))
    publish(layout.catalog_file, prepared.catalog_file.read_bytes(), replace=True)
    _clear_prepared(layout)


def _clear_prepared(layout: Layout) -> None:
    folder = layout.forgetting.folder
    # The header first: without it nothing is taken for a whole catalog.
    remove(layout.forgetting.catalog_file)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        remove(path)
    for empty in (folder, folder.parent):
        if empty.is_dir():
            empty.rmdir()


def media_traces(layout: Layout, forgotten: Forgotten) -> Iterator[Trace]:
    """Media files, their records, pieces of downloads, and media in the sources."""
    for path in _files(layout.media_folder(0).parent):
        if _is_named_after(path, forgotten):
            what = "the record of its media" if path.suffix == ".json" else "its media"
            yield Trace(path, what, partial(remove, path))
    for path in forgotten_source_files(layout, forgotten):
        what = "the link to its file, which stays" if path.is_symlink() else "its media"
        yield Trace(path, what, partial(remove, path))
    oddities = layout.sources / ODDITIES
    if oddities.is_file() and forgotten.named_in(oddities.read_bytes()):
        yield Trace(oddities, "lines about it", partial(_drop_lines, oddities, forgotten))


def count_elsewhere(layout: Layout, forgotten: Forgotten) -> int:
    """How many of these videos came from a folder of the user, where their files stay."""
    count = 0
    for path in _files(layout.media_folder(0).parent):
        if path.suffix == ".json" and _is_named_after(path, forgotten):
            with contextlib.suppress(IntegrityError):
                record, _ = decode_media_record(path, path.read_bytes())
                video_id = id_in_name(path.name) or ""
                own_files = forgotten_source_files(layout, forgotten.of([video_id]))
                count += record.get("asked") == "folder" and not own_files
    return count


def report_traces(layout: Layout, forgotten: Forgotten) -> Iterator[Trace]:
    """Reports that name a video, and pictures that may show it; the next report makes them anew."""
    files = _files(layout.report)
    named = {path.with_suffix("") for path in files if _names(path, forgotten)}
    for path in files:
        if path.with_suffix("") in named:
            yield Trace(path, "a report that names it, or lies beside one", partial(remove, path))
        elif _may_show(path):
            yield Trace(
                path, "a picture or page that may show it", partial(remove, path), is_certain=False
            )


def run_traces(layout: Layout, forgotten: Forgotten) -> Iterator[Trace]:
    """Times of runs, and logs of runs, workers and jobs."""
    folders = (layout.runs, layout.cluster, layout.lease(0).parent)
    for path in [path for folder in folders for path in _files(folder)]:
        if not _names(path, forgotten):
            continue
        if path.parent.name == "times" and path.suffix == ".json":
            yield Trace(path, "its times", partial(_drop_times, path, forgotten))
        elif path.suffix in _LINES:
            yield Trace(path, "lines about it", partial(_drop_lines, path, forgotten))
        else:
            yield Trace(path, "a file that names it", partial(remove, path))


def temporary_traces(layout: Layout) -> Iterator[Trace]:
    """Temporaries of interrupted writes outside of the shards, which may hold anything."""
    for path in _files(layout.folder):
        owner = owner_of_temporary(path)
        if owner is not None and (owner.is_dead() or owner.is_of_other_boot()):
            yield Trace(
                path, "a file of an interrupted write", partial(remove, path), is_certain=False
            )


def published_files(layout: Layout, forgotten: Forgotten) -> list[Path]:
    """The annotation files in the sources that name a forgotten video as a whole word.

    Packed files, such as archives, are not looked into.
    """
    return [
        path
        for path in _files(layout.sources)
        if path.suffix in TABLE_SUFFIXES
        and path.name != ODDITIES
        and forgotten.named_in(path.read_bytes(), whole_words=True)
    ]


def raw_traces(layout: Layout, forgotten: Forgotten) -> Iterator[Path]:
    """Files of any kind whose bytes hold the text of a forgotten id.

    Neither sources nor media are read: they are published by others, or of other videos. Ids of
    fewer than 8 characters are not looked for, since they occur by chance.
    """
    passed_over = (layout.sources, layout.media_folder(0).parent)
    for path in _files(layout.folder):
        is_passed_over = any(folder in path.parents for folder in passed_over)
        if not is_passed_over and not path.is_symlink() and _holds(path, forgotten):
            yield path


_PIECE_BYTES = 1 << 24
_OVERLAP_BYTES = 64
"""An id has at most so many characters, so none is cut in two without being whole in a piece."""


def _holds(path: Path, forgotten: Forgotten) -> bool:
    with path.open("rb") as file:
        before = b""
        while piece := file.read(_PIECE_BYTES):
            if forgotten.named_in_bytes(before + piece):
                return True
            before = piece[-_OVERLAP_BYTES:]
    return False


def _files(folder: Path) -> list[Path]:
    """All files and links below a folder, sorted; a file that vanishes meanwhile is left out."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def _is_named_after(path: Path, forgotten: Forgotten) -> bool:
    video_id = id_in_name(path.name)
    return video_id is not None and forgotten.matches(video_id)


def _names(path: Path, forgotten: Forgotten) -> bool:
    """Whether a file is named after a forgotten video, or is a text that names one."""
    if _is_named_after(path, forgotten):
        return True
    is_text = path.suffix in _TEXTS or path.suffix == ".html"
    return is_text and path.is_file() and bool(forgotten.named_in(path.read_bytes()))


def _may_show(path: Path) -> bool:
    """Whether a file of a report may show any video: pictures, pages and reels."""
    is_of_one_video = id_in_name(path.name) is not None
    return path.suffix not in _TEXTS and path.name not in _WITHOUT_VIDEOS and not is_of_one_video


def _drop_lines(path: Path, forgotten: Forgotten) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not forgotten.named_in(line)]
    publish(path, b"".join(kept), replace=True)


def _drop_times(path: Path, forgotten: Forgotten) -> None:
    """Rewrite the times of a shard without these videos; a damaged file is removed."""
    try:
        content = read_sealed(path)
    except IntegrityError:
        remove(path)
        return
    kept = {name: _without_keys(value, forgotten) for name, value in content.items()}
    if forgotten.named_in(json.dumps(kept).encode()):
        remove(path)
    else:
        publish(path, seal(kept), replace=True)


def _without_keys(value: JSON, forgotten: Forgotten) -> JSON:
    if not isinstance(value, dict):
        return value
    return {name: item for name, item in value.items() if not forgotten.matches(name)}


def described(traces: Iterable[Trace], root: Path) -> Iterator[str]:
    """A line for each trace, with its path from `root` on."""
    for trace in traces:
        yield f"{trace.path.relative_to(root)}: {trace.what}"

"""The record of the exports of a store, kept in `ROOT/<catalog>/exports.json`.

A row that was exported has left the store: whoever removes a video from the store learns here which
folders hold it too. An export is recorded before its first file is written, so an interrupted one
is listed as well. The ids lie beside the record, one file for each export.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from storage.base.errors import IntegrityError
from storage.base.fingerprint import ids_sha256
from storage.base.paths import Layout
from storage.base.records import JSON
from storage.catalog.forgotten import Forgotten, id_sha256
from storage.features.manifest import JsonFields
from storage.files.atomic_write import publish, remove
from storage.files.checksummed_json import read_sealed, seal
from storage.files.file_lock import claim, print_to_stderr
from storage.files.os_errors import disk_fault

FORMAT = "video-highlights exports"
FORMAT_VERSION = 1
HIDDEN = "sha256:"
"""Before the hash of an id that was taken down."""


@dataclass(frozen=True)
class ExportRecord:
    """One export of a store."""

    key: str
    """12 hex digits, drawn."""
    path: str
    """The folder as an absolute path of the machine that exported. It may have moved since."""
    form: str
    """`npz`, `parquet`, ...: a key of `storage.export.forms.registry.FORMATS`."""
    begun: str
    """When it was begun, in UTC: `2026-12-01T13:00:00+00:00`."""
    finished: str
    """When it was complete; empty if it was interrupted or runs still."""
    variants: tuple[str, ...]
    """Full names."""
    ids: int
    """How many ids it holds, with features or without."""
    ids_sha256: str
    """Of the sorted ids, each followed by a newline."""


def utc_now() -> str:
    """The time now, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def record_begin(
    layout: Layout, path: Path, form: str, variants: Sequence[str], ids: Sequence[str]
) -> ExportRecord:
    """Record that an export of these ids to the folder `path` begins.

    Records of earlier exports to the same path are dropped: the folder was emptied since.

    Raises:
        IntegrityError: the record on disk is damaged.
        SystemicFault: the store cannot be written to.
    """
    record = ExportRecord(
        key=secrets.token_hex(6),
        path=str(path.absolute()),
        form=form,
        begun=utc_now(),
        finished="",
        variants=tuple(variants),
        ids=len(ids),
        ids_sha256=ids_sha256(ids),
    )
    content = "".join(f"{video_id}\n" for video_id in sorted(ids)).encode()
    with _only_writer(layout):
        kept = read_records(layout)
        # The ids first: a record without them could not be searched.
        publish(layout.export_ids(record.key), content, replace=False)
        _write(layout, [*(one for one in kept if one.path != record.path), record])
        for old in kept:
            if old.path == record.path:
                remove(layout.export_ids(old.key))
    return record


def record_finish(layout: Layout, record: ExportRecord) -> ExportRecord:
    """Record that an export is complete. Raises as `record_begin`."""
    with _only_writer(layout):
        records = read_records(layout)
        # A video that was taken down meanwhile has given the export another list, and another key.
        same = [one for one in records if (one.path, one.begun) == (record.path, record.begun)]
        finished = replace(same[0] if same else record, finished=utc_now())
        others = [one for one in records if one.key != finished.key]
        _write(layout, [*others, finished])
    return finished


def read_records(layout: Layout) -> tuple[ExportRecord, ...]:
    """The exports that were made of a store, in the order they were begun.

    Raises:
        IntegrityError: the record is damaged.
    """
    path = layout.exports_file
    try:
        fields = JsonFields(path, read_sealed(path), "the record of exports")
    except FileNotFoundError:
        return ()
    except IntegrityError as error:
        raise IntegrityError(
            path,
            f"{error.problem}. Take it from a copy; if there is none, delete it: then exports made "
            "until now are not listed any more",
        ) from error
    version = (fields.take("format", str), fields.take("format_version", int))
    if version != (FORMAT, FORMAT_VERSION):
        raise IntegrityError(path, f"is {version}; this release reads {(FORMAT, FORMAT_VERSION)}")
    records = fields.take("exports", dict)
    fields.check_no_rest()
    return tuple(
        sorted(
            (_parse(path, key, content) for key, content in records.items()),
            key=lambda record: (record.begun, record.key),
        )
    )


def exports_holding(layout: Layout, video_id: str) -> tuple[ExportRecord, ...]:
    """The exports that hold a video: its rows, or its line in `ids.csv`.

    Exports that were interrupted are among them. Whether the folder still exists is not checked.

    Raises:
        IntegrityError: the record, or the list of ids of an export, is damaged.
    """
    wanted = {video_id, hidden(video_id)}
    return tuple(record for record in read_records(layout) if wanted & _read_ids(layout, record))


def hidden(video_id: str) -> str:
    """What stands for the id of a video that was taken down, in the list of an export's ids."""
    return f"{HIDDEN}{id_sha256(video_id)}"


def lists_naming(layout: Layout, forgotten: Forgotten) -> list[Path]:
    """Lists of exports' ids that name a video that was taken down, or that no record names."""
    folder = layout.export_ids_folder
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    known = {layout.export_ids(record.key) for record in read_records(layout)}
    return [path for path in paths if path not in known or _names(path, forgotten)]


def _names(path: Path, forgotten: Forgotten) -> bool:
    return any(map(forgotten.matches, path.read_text(errors="replace").splitlines()))


def hide_ids(layout: Layout, path: Path, forgotten: Forgotten) -> None:
    """Replace the ids of videos that were taken down by their hashes, in one list.

    A list that no record names is removed.
    """
    with _only_writer(layout):
        for record in read_records(layout):
            if layout.export_ids(record.key) == path:
                _publish_hidden(layout, record, forgotten)
        # Last: a kill before leaves a list that no record names, which is removed then.
        remove(path)


def _publish_hidden(layout: Layout, record: ExportRecord, forgotten: Forgotten) -> None:
    ids = frozenset(
        hidden(one) if forgotten.matches(one) else one for one in _read_ids(layout, record)
    )
    changed = replace(record, key=secrets.token_hex(6), ids_sha256=ids_sha256(ids))
    content = "".join(f"{one}\n" for one in sorted(ids)).encode()
    publish(layout.export_ids(changed.key), content, replace=False)
    others = [one for one in read_records(layout) if one.key != record.key]
    _write(layout, [*others, changed])


def exports_holding_any(layout: Layout, forgotten: Forgotten) -> tuple[ExportRecord, ...]:
    """The exports that hold a video that was taken down. Raises as `exports_holding`."""
    hashes = {f"{HIDDEN}{sha256}" for sha256 in forgotten.videos}
    found = []
    for record in read_records(layout):
        ids = _read_ids(layout, record)
        if hashes & ids or any(map(forgotten.matches, ids)):
            found.append(record)
    return tuple(found)


def _read_ids(layout: Layout, record: ExportRecord) -> frozenset[str]:
    path = layout.export_ids(record.key)
    try:
        ids = frozenset(path.read_text().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(
            path, f"the ids in the export {record.path} cannot be read: {error}"
        ) from error
    if ids_sha256(ids) != record.ids_sha256:
        raise IntegrityError(path, f"is not the list of the ids in the export {record.path}")
    return ids


def _parse(path: Path, key: str, content: JSON) -> ExportRecord:
    fields = JsonFields(path, content, "an export")
    record = ExportRecord(
        key=key,
        path=fields.take("path", str),
        form=fields.take("form", str),
        begun=fields.take("begun", str),
        finished=fields.take("finished", str),
        variants=tuple(str(name) for name in fields.take("variants", list)),
        ids=fields.take("ids", int),
        ids_sha256=fields.take("ids_sha256", str),
    )
    fields.check_no_rest()
    return record


def _write(layout: Layout, records: Sequence[ExportRecord]) -> None:
    exports: dict[str, JSON] = {}
    for record in records:
        content = asdict(record) | {"variants": list(record.variants)}
        key = content.pop("key")
        exports[key] = content
    header: dict[str, JSON] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "exports": exports,
    }
    publish(layout.exports_file, seal(header), replace=True)


@contextmanager
def _only_writer(layout: Layout) -> Iterator[None]:
    """Keep other exports from writing the record meanwhile."""
    path = layout.exports_file.with_name(".exports.json.claim")
    try:
        with claim(path, print_to_stderr):
            yield
    except OSError as error:
        raise disk_fault(error, layout.exports_file) from error

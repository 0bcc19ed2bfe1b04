"""Runs an export: selects, writes, reads everything back and compares it with the store.

The folder is marked as incomplete from its first file on, and `provenance.json` is its last file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tarfile import TarError
from typing import Any
from zipfile import BadZipFile

from storage.base.errors import IntegrityError, SettingsError
from storage.base.fingerprint import readable_json
from storage.base.paths import Layout
from storage.base.records import JSON
from storage.export import card
from storage.export.forms.contract import ExportFormat, ExportPlan, Plain
from storage.export.forms.registry import FORMATS
from storage.export.ids_table import WrittenCounts, ids_csv, metadata_lines
from storage.export.provenance import Statement, WrittenFiles, provenance
from storage.export.record import ExportRecord, record_begin, record_finish, utc_now
from storage.export.source.rows import ExportedRows, read_rows
from storage.export.source.selection import SelectionRequest, select
from storage.files.atomic_write import make_folder, publish, remove, size_and_sha256, sync_folder
from storage.files.os_errors import disk_fault

PROVENANCE, CARD, IDS, METADATA = (
    "provenance.json", "README.md", "ids.csv", "video_metadata.jsonl",
)  # fmt: skip
SUMS = "SHA256SUMS"
INCOMPLETE = "INCOMPLETE"
_INCOMPLETE_TEXT = (
    b"This export is not complete: it is running, or was interrupted. Delete the folder, and "
    b"export again.\n"
)
Advance = Callable[[str, int, int], None]
"""Takes what is being done, how many videos are done, and how many there are."""


def _silent(step: str, done: int, total: int) -> None:
    """The default of `advance`."""


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and to where."""

    folder: Path
    """`ROOT/<catalog>`."""
    destination: Path
    """A folder that does not exist yet, or is empty."""
    form: str
    """A key of `FORMATS`."""
    what: SelectionRequest = field(default_factory=SelectionRequest)
    statement: Statement = field(default_factory=Statement)
    recorded: bool = True
    """Whether the store keeps a record of the export."""


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote."""

    provenance: Mapping[str, Any]
    """As in `provenance.json`."""
    files: WrittenFiles
    record: ExportRecord | None
    """None if the store keeps none."""

    def lines(self) -> Iterator[str]:
        """What was written, one line for each variant and remark."""
        selected = self.provenance["selection"]["ids"]
        for name, variant in self.provenance["variants"].items():
            arrays = ", ".join(variant["arrays"]) or "nothing"
            yield (
                f"{name}: {arrays} of {variant['videos']} of {selected} videos, "
                f"{variant['rows_written']:,} rows"
            )
            if variant["clips_filled"]:
                yield f"  {variant['clips_filled']:,} clips are copies of the nearest row"
            for array, why in variant["arrays_not_exported"].items():
                yield f"  not exported: {array}: {why}"
        for name, why in self.provenance["variants_not_exported"].items():
            yield f"{name}: not exported: {why}"
        for mark in self.provenance["marks"]:
            yield f"  NOTE {mark}"


def export_store(request: ExportRequest, advance: Advance = _silent) -> ExportSummary:
    """Write features of a store in another form, read them back, and compare to the bit.

    Raises:
        SettingsError: the request cannot be met; nothing was written.
        LookupFailed: a variant, array, split or id is not in the store; nothing was written.
        IntegrityError: the store is damaged, or what was read back differs. The folder stays
            without `provenance.json`.
        SystemicFault: the disk fails.
    """
    form = _format(request.form)
    layout = Layout(request.folder.absolute().parent, request.folder.absolute().name)
    _check_destination(request.destination, layout.folder)
    selection = select(request.folder, request.what, form.refusal)
    plan = ExportPlan(request.destination, selection, request.what.clip_seconds)
    for library in form.libraries:
        import_module(library)  # missing: reported before anything is written
    names = [variant.name for variant in selection.variants]
    record = None
    if request.recorded:
        record = record_begin(layout, request.destination, request.form, names, selection.ids)
    try:
        make_folder(request.destination)
        publish(request.destination / INCOMPLETE, _INCOMPLETE_TEXT, replace=False)
        writer = form.writer(plan)
        written = _write_rows(plan, writer.add, advance)
        writer.close()
        _compare(plan, form, written, advance)
        content, files = _finish(request, plan, form, written)
    except OSError as error:
        raise disk_fault(error, request.destination) from error
    if record is not None:
        record = record_finish(layout, record)
    return ExportSummary(content, files, record)


def default_clip_seconds(form: str) -> float:
    """The length of the clips of a form if the user names none. Raises SettingsError."""
    return _format(form).default_clip_seconds


def _format(name: str) -> ExportFormat:
    if name not in FORMATS:
        raise SettingsError((f"--to takes one of {', '.join(FORMATS)}, got {name!r}",))
    return FORMATS[name]


def _check_destination(destination: Path, store: Path) -> None:
    place = destination.resolve()
    if place.is_relative_to(store.resolve()):
        raise SettingsError(
            (f"--out {destination} lies in the store {store}; name another folder",)
        )
    if not destination.exists() and not destination.is_symlink():
        return
    if not destination.is_dir():
        raise SettingsError((f"--out {destination} is not a folder; name a new one",))
    if any(destination.iterdir()):
        state = "an export that was not finished" if (place / INCOMPLETE).exists() else "files"
        raise SettingsError((
            f"--out {destination} holds {state}; name a new folder, or delete this one first",
        ))  # fmt: skip


def _write_rows(
    plan: ExportPlan,
    add: Callable[[str, Mapping[str, ExportedRows]], None],
    advance: Advance,
) -> dict[tuple[str, str], WrittenCounts]:
    """Write all videos; returns the counts of each (variant, id)."""
    written: dict[tuple[str, str], WrittenCounts] = {}
    ids = plan.selection.ids
    for number, video_id in enumerate(ids):
        found = {
            variant.name: read_rows(variant, video_id, plan.clip_seconds)
            for variant in plan.selection.variants
            if variant.arrays and video_id in variant.reader
        }
        if found:
            add(video_id, found)
        for name, rows in found.items():
            written[name, video_id] = WrittenCounts(
                rows.rows_stored, rows.rows, rows.filled, rows.duration_seconds
            )
        advance("written", number + 1, len(ids))
    return written


def _compare(
    plan: ExportPlan,
    form: ExportFormat,
    written: Mapping[tuple[str, str], WrittenCounts],
    advance: Advance,
) -> None:
    """Read the files with a plain reader, and compare every array with the store, to the bit."""
    variants = {variant.name: variant for variant in plan.selection.variants}
    missing = set(written)
    for number, (name, video_id, found) in enumerate(_read_back(plan, form)):
        if (name, video_id) not in missing:
            raise IntegrityError(plan.folder, f"{video_id} of {name} was read back unexpectedly")
        missing.remove((name, video_id))
        rows = read_rows(variants[name], video_id, plan.clip_seconds)
        fault = difference(form.as_written(plan, rows), found)
        if fault:
            raise IntegrityError(
                plan.folder, f"what was read back of {video_id} in {name} differs: {fault}"
            )
        advance("compared", number + 1, len(written))
    if missing:
        raise IntegrityError(
            plan.folder, f"{len(missing)} videos were not read back, the first {min(missing)}"
        )


def _read_back(plan: ExportPlan, form: ExportFormat) -> Iterator[tuple[str, str, Plain]]:
    try:
        yield from form.read_back(plan)
    except (ValueError, KeyError, EOFError, BadZipFile, TarError) as error:
        raise IntegrityError(plan.folder, f"the export cannot be read back: {error!r}") from error


def difference(expected: Plain, found: Plain) -> str:
    """How arrays differ from those expected, in names, types, shapes or any bit; empty if not."""
    if expected.keys() != found.keys():
        return f"arrays {sorted(found)} instead of {sorted(expected)}"
    for name, array in expected.items():
        other = found[name]
        if (array.dtype, array.shape) != (other.dtype, other.shape):
            return f"{name} is {other.dtype}{other.shape} instead of {array.dtype}{array.shape}"
        # By bytes: NaN equals itself so, and -0.0 is not 0.0.
        if array.tobytes() != other.tobytes():
            return f"{name} has other values"
    return ""


def _finish(
    request: ExportRequest,
    plan: ExportPlan,
    form: ExportFormat,
    written: Mapping[tuple[str, str], WrittenCounts],
) -> tuple[dict[str, JSON], WrittenFiles]:
    """Write the tables, the card, the checksums and, last, the provenance."""
    folder, selection = plan.folder, plan.selection
    publish(folder / IDS, ids_csv(selection, written), replace=False)
    if any(video_id in selection.catalog.metadata_by_video for video_id in selection.ids):
        lines = metadata_lines(selection.catalog, selection.ids)
        publish(folder / METADATA, lines, replace=False)

    def content(files: WrittenFiles) -> dict[str, JSON]:
        return provenance(
            plan,
            request.form,
            written,
            files=files,
            libraries=form.libraries,
            statement=request.statement,
            made=made,
        )

    made = utc_now()
    text = card.card(
        content(WrittenFiles(0, 0, "")),
        form.opened_with,
        form.data_files(plan),
        request.what.split.rpartition("/")[2],
    )
    publish(folder / CARD, text.encode(), replace=False)
    files = _sums(folder)
    final = content(files)
    remove(folder / INCOMPLETE)
    publish(folder / PROVENANCE, readable_json(final), replace=False)
    return final, files


def _sums(folder: Path) -> WrittenFiles:
    """Write `SHA256SUMS`, which `sha256sum -c` reads, once every file is on disk."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != INCOMPLETE)
    lines: list[bytes] = []
    size_bytes = 0
    for path in paths:
        _sync(path)
        size, sha256 = size_and_sha256(path)
        size_bytes += size
        lines.append(f"{sha256}  {path.relative_to(folder)}\n".encode())
    for inner in {path.parent for path in paths}:
        sync_folder(inner)
    publish(folder / SUMS, lines, replace=False)
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    return WrittenFiles(len(paths), size_bytes, digest)


def _sync(path: Path) -> None:
    # A power cut after `provenance.json` must not leave files of zeros.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

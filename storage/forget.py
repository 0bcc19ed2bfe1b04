"""Takes videos down: removes all that is stored of them, and proves that nothing is left.

    forgotten.json says what is to be removed -> catalog -> shards and indexes -> media -> scores ->
    reports, times and logs -> forgotten.json says that it is done

A kill at any instant leaves the first line written, so readers leave the videos out, no catalog
brings them back, the audit names the command that goes on, and that command finishes it. Copies
outside of the catalog's folder are not looked for: exports, backups, the user's own files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from storage.base.errors import IntegrityError, LookupFailed, SettingsError
from storage.base.paths import Layout
from storage.base.records import VIDEO_ID
from storage.catalog.catalog import Catalog, read_catalog
from storage.catalog.csv_tables import text_column
from storage.catalog.forgotten import Forgotten, read_forgotten, write_forgotten
from storage.export.record import exports_holding_any, hide_ids, lists_naming
from storage.features.manifest_index import read_summaries
from storage.features.store import variant_layouts
from storage.files.atomic_write import remove
from storage.files.file_lock import Notify, lease
from storage.maintenance import file_traces
from storage.maintenance.audit import AuditFinding, FindingKind
from storage.maintenance.shard_traces import Trace, check_readable, shard_traces
from storage.scores import (
    RECORD,
    drop_scores,
    score_run_names,
    superseded_files,
    videos_of_scores,
)

MAX_NEAR_IDS = 3


def forget(
    folder: Path, video_ids: Sequence[str], *, notify: Notify | None = None
) -> Iterator[str]:
    """Remove all that is stored of these videos; yields a line for each file that changes.

    `folder` is `ROOT/<catalog>`. The rows of other videos stay as they are, to the bit. Take-downs
    that were interrupted are finished too. To take a video down again removes what has come back.

    Raises:
        SettingsError: a text is not the id of a video.
        LookupFailed: a video is not in the catalog; names ids that are nearly the same.
        LeaseHeld: a process builds a shard of the catalog, or takes videos down.
        IntegrityError: a file that may hold rows of them cannot be read.
    """
    layout = _layout(folder)
    _check_ids(video_ids)
    if not layout.catalog_file.exists():
        read_catalog(layout.folder)  # says so; a lease would make folders in the wrong place
    with ExitStack() as leases:
        leases.enter_context(lease(layout.forgetting_lease, notify=notify))
        file_traces.finish_catalog(layout)
        catalog = read_catalog(layout.folder, with_forgotten=True)
        known = read_forgotten(layout)
        _check_known(layout, catalog, known, video_ids)
        begun = known.begin(video_ids, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        forgotten = begun.unfinished
        shards = _shards_to_change(layout, forgotten, catalog.shard_count)
        for shard in range(catalog.shard_count):
            if shard in shards:
                leases.enter_context(lease(layout.lease(shard), notify=notify))
            elif layout.lease(shard).exists():
                # A build that reads the catalog while it is rewritten would stop with an error.
                with lease(layout.lease(shard), notify=notify):
                    pass
        check_readable(layout, shards)
        write_forgotten(layout, begun)
        notes = list(_notes(layout, forgotten, catalog))
        yield from _remove_all(layout, forgotten, catalog.shard_count)
        write_forgotten(layout, begun.finish())
        yield from notes


def plan(folder: Path, video_ids: Sequence[str]) -> Iterator[str]:
    """What `forget` would remove, a line for each file; changes nothing. Raises as `forget`."""
    layout = _layout(folder)
    _check_ids(video_ids)
    catalog = read_catalog(layout.folder, with_forgotten=True)
    known = read_forgotten(layout)
    _check_known(layout, catalog, known, video_ids)
    forgotten = known.begin(video_ids, "").unfinished
    traces = all_traces(layout, forgotten, catalog.shard_count)
    yield from file_traces.described(traces, layout.folder)
    yield from _notes(layout, forgotten, catalog)


def _layout(folder: Path) -> Layout:
    return Layout(folder.absolute().parent, folder.absolute().name)


def _check_ids(video_ids: Sequence[str]) -> None:
    faults = [
        f"a video id is 1 to 64 of A-Z a-z 0-9 _ -, got {video_id[:100]!r}"
        for video_id in video_ids
        if not VIDEO_ID.fullmatch(video_id)
    ]
    if faults:
        raise SettingsError(tuple(faults))


def _check_known(
    layout: Layout, catalog: Catalog, forgotten: Forgotten, video_ids: Sequence[str]
) -> None:
    known = set(text_column(catalog.videos, "video_id"))
    unknown = [one for one in video_ids if one not in known and not forgotten.matches(one)]
    if not unknown:
        return
    # Features of a video that the catalog does not have (any more) can be taken down too.
    for variant in variant_layouts(layout.folder):
        for summary in read_summaries(variant).values():
            known |= summary.statuses.keys()
    for video_id in unknown:
        if video_id not in known:
            near = ", ".join(get_close_matches(video_id, known, n=MAX_NEAR_IDS))
            hint = f"; near ids are {near}" if near else f"; it has {len(catalog.videos)} videos"
            raise LookupFailed(
                f"{catalog.name} has no video {video_id!r}{hint}. Nothing was removed."
            )


def _shards_to_change(layout: Layout, forgotten: Forgotten, shard_count: int) -> set[int]:
    traces = shard_traces(layout, forgotten, shard_count)
    found = {trace.shard for trace in traces if trace.shard is not None}
    return found | forgotten.shards(shard_count)


def _remove_all(layout: Layout, forgotten: Forgotten, shard_count: int) -> Iterator[str]:
    for trace in all_traces(layout, forgotten, shard_count):
        trace.remove()
        yield from file_traces.described([trace], layout.folder)


def all_traces(layout: Layout, forgotten: Forgotten, shard_count: int) -> Iterator[Trace]:
    """All that is stored of these videos, in the order in which it is removed.

    Found lazily: what a trace's `remove` changes is looked at only afterwards.
    """
    # The catalog first: a build that comes after a kill does not make the rows again.
    yield from file_traces.catalog_traces(layout, forgotten)
    yield from shard_traces(layout, forgotten, shard_count)
    yield from file_traces.media_traces(layout, forgotten)
    yield from _score_traces(layout, forgotten)
    yield from file_traces.report_traces(layout, forgotten)
    yield from file_traces.run_traces(layout, forgotten)
    for path in lists_naming(layout, forgotten):
        yield Trace(path, "the ids of an export", partial(hide_ids, layout, path, forgotten))
    yield from file_traces.temporary_traces(layout)


def _score_traces(layout: Layout, forgotten: Forgotten) -> Iterator[Trace]:
    for name in score_run_names(layout):
        record = layout.scores(name) / RECORD
        try:
            is_named = any(map(forgotten.matches, videos_of_scores(layout, name)))
            action = partial(drop_scores, layout, name, forgotten.matches)
        except IntegrityError:
            if not forgotten.named_in(record.read_bytes()):
                continue  # damaged, which is not our concern
            # It cannot be rewritten, and can be made again.
            is_named, action = True, partial(_remove_scores, layout, name)
        if is_named:
            yield Trace(record, "its scores", action)
        for path in superseded_files(layout, name):
            yield Trace(path, "scores that no record names", partial(remove, path), False)


def _remove_scores(layout: Layout, name: str) -> None:
    remove(layout.scores(name) / RECORD)
    for path in superseded_files(layout, name):
        remove(path)


def _notes(layout: Layout, forgotten: Forgotten, catalog: Catalog) -> Iterator[str]:
    """What a person has to know beside what is removed."""
    for path in file_traces.published_files(layout, forgotten):
        yield f"NOTE {_still_names(layout, path)}"
    if count := file_traces.count_elsewhere(layout, forgotten):
        yield f"NOTE {count} of them came from a folder of media: their files there stay"
    for path in sorted(layout.runs.glob("*/*.safetensors")):
        yield (
            f"NOTE {path.relative_to(layout.folder)} may be trained on them, and stays: it holds "
            "no rows, but what it learnt from them"
        )
    for export in exports_holding_any(layout, forgotten):
        yield (
            f"NOTE the export {export.path} ({export.form}, begun {export.begun}) holds them: "
            "delete it, or make it again"
        )
    yield from _segment_notes(layout, forgotten, catalog)


def _segment_notes(layout: Layout, forgotten: Forgotten, catalog: Catalog) -> Iterator[str]:
    settings = {one.folder.name: one.settings_file for one in variant_layouts(layout.folder)}
    # The table is made only for variants that depend on one: PHD2's takes seconds.
    texts = {name: path.read_bytes() for name, path in settings.items() if path.is_file()}
    texts = {name: text for name, text in texts.items() if b'"time_unit"' in text}
    if not texts or catalog.segments.sha256 == catalog.without(forgotten).segments.sha256:
        return
    for name, text in texts.items():
        if catalog.segments.sha256.encode() in text:
            yield (
                f"NOTE {name} has one row for each annotated segment, and its fingerprint the "
                "digest of all segments: the next build makes a new variant"
            )


def _still_names(layout: Layout, path: Path) -> str:
    return (
        f"{path.relative_to(layout.folder)}, a published file, still names a forgotten video; "
        "builds leave it out"
    )


@dataclass(frozen=True)
class ForgottenAudit:
    """The result of an audit of the videos that were taken down."""

    count: int
    unfinished: int
    findings: tuple[AuditFinding, ...]

    def __str__(self) -> str:
        unfinished = f", {self.unfinished} of them not wholly yet" if self.unfinished else ""
        return f"forgotten: {self.count} videos were taken down{unfinished}"


def audit_forgotten(folder: Path, *, deep: bool) -> ForgottenAudit:
    """Look for all that may be left, or back, of the videos that were taken down.

    With `deep` also in the bytes of all files but sources and media.
    """
    layout = _layout(folder)
    forgotten = read_forgotten(layout)
    if not len(forgotten):
        return ForgottenAudit(0, 0, ())
    advice = f"run `python -m storage forget {folder} ID`"
    findings: list[AuditFinding] = []
    if count := len(forgotten.unfinished):
        findings.append(
            AuditFinding(
                FindingKind.FORGOTTEN,
                layout.forgotten_file,
                f"the take-down of {count} videos was interrupted; {advice} again with the same "
                "ids, which goes on",
            )
        )
    shard_count = read_catalog(layout.folder, with_forgotten=True).shard_count
    traces = [trace for trace in all_traces(layout, forgotten, shard_count) if trace.is_certain]
    for trace in traces:
        problem = (
            f"{trace.what}: of a video that was taken down, and left or back; {advice} with its id"
        )
        findings.append(AuditFinding(FindingKind.FORGOTTEN, trace.path, problem, trace.shard))
    for path in file_traces.raw_traces(layout, forgotten) if deep else ():
        problem = f"its bytes name a video that was taken down; {advice}, or delete the file"
        findings.append(AuditFinding(FindingKind.FORGOTTEN, path, problem))
    for path in file_traces.published_files(layout, forgotten):
        problem = "a published file, still names a video that was taken down; builds leave it out"
        findings.append(AuditFinding(FindingKind.PUBLISHED, path, problem))
    return ForgottenAudit(len(forgotten), len(forgotten.unfinished), tuple(findings))


def with_advice(folder: Path, error: IntegrityError) -> IntegrityError:
    """The same error, with what to do where an interrupted take-down may be the cause."""
    try:
        is_unfinished = bool(len(read_forgotten(_layout(folder)).unfinished))
    except IntegrityError:
        is_unfinished = False
    if not is_unfinished:
        return error
    return type(error)(
        error.path,
        f"{error.problem} A take-down was interrupted, and may be the cause: run `python -m "
        f"storage forget {folder} ID` again with the same ids, which goes on.",
    )

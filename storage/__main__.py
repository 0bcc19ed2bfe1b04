"""`python -m storage audit | seal | compact | digest | export | forget FOLDER`, and `import`.

FOLDER is `ROOT/<catalog>`; `import` takes a folder of other people's features into one.

Exit codes: 0 clean, 2 wrong use, 4 the machine or another process blocks it, 5 something differs
from its record.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from storage.base.errors import HighlightsError, IntegrityError, LeaseHeld, SystemicFault
from storage.base.paths import Layout, VariantLayout
from storage.catalog.catalog import read_catalog
from storage.commands import run_and_exit
from storage.export.forms.registry import FORMATS
from storage.export.provenance import Statement
from storage.export.run import ExportRequest, ExportSummary, default_clip_seconds, export_store
from storage.export.source.chosen_ids import read_ids
from storage.export.source.selection import SelectionRequest
from storage.features.commit import DEFAULT_PART_BYTES
from storage.features.compaction import compact
from storage.features.manifest_file import read_manifest
from storage.features.manifest_index import refresh_index
from storage.features.part_reader import with_repair_advice
from storage.features.store import FeatureStore, variant_layouts
from storage.files.file_lock import lease, print_to_stderr
from storage.forget import audit_forgotten, forget, plan, with_advice
from storage.ingest.import_features import ImportRequest, import_features
from storage.maintenance.audit import VariantAudit, audit
from storage.maintenance.media_audit import audit_media
from storage.maintenance.repair import repair, repair_media
from storage.maintenance.sealing import seal_store
from storage.progress_lines import ProgressLines

FORGET_OPTIONS = ("--dry-run", "-h", "--help")
CLEAN, WRONG_USE, BLOCKED, VIOLATION = 0, 2, 4, 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    options = make_parser().parse_args(_with_dashed_ids(words))
    try:
        return int(options.command(options))
    except HighlightsError as error:
        if isinstance(error, IntegrityError):
            error = with_advice(options.folder, error)
        print(error, file=sys.stderr)
        return _exit_code(error)


def _with_dashed_ids(words: Sequence[str]) -> Sequence[str]:
    """The words of `forget` with its options first: one id of YouTube in 64 begins with a dash."""
    if words[:1] != ["forget"] or "--" in words:
        return words
    options = [word for word in words[1:] if word in FORGET_OPTIONS]
    others = [word for word in words[1:] if word not in FORGET_OPTIONS]
    return ["forget", *options, "--", *others]


def _exit_code(error: HighlightsError) -> int:
    if isinstance(error, IntegrityError):
        return VIOLATION
    if isinstance(error, LeaseHeld | SystemicFault):
        return BLOCKED
    return WRONG_USE


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m storage", description="Check and maintain a feature store."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    auditing = commands.add_parser(
        "audit",
        help="compare all files with their records, and the states of all ids with the catalog",
    )
    auditing.add_argument(
        "--deep", action="store_true", help="read every byte, not only sizes and structure"
    )
    auditing.add_argument(
        "--repair", action="store_true", help="read every byte, repair, then audit again"
    )
    auditing.add_argument("--media", action="store_true", help="read every kept media file too")
    auditing.set_defaults(command=_audit)
    sealing = commands.add_parser(
        "seal", help="check parts of earlier releases, and add checksums to them"
    )
    sealing.set_defaults(command=_seal)
    compacting = commands.add_parser("compact", help="rewrite every shard without superseded rows")
    compacting.add_argument(
        "--part-bytes", type=int, default=DEFAULT_PART_BYTES, help="limit of the rows in a part"
    )
    compacting.set_defaults(command=_compact)
    digesting = commands.add_parser(
        "digest", help="print one sha256 per variant: equal content, equal digest"
    )
    digesting.set_defaults(command=_digest)
    forgetting = commands.add_parser(
        "forget", help="take videos down: remove all that is stored of them"
    )
    forgetting.add_argument(
        "--dry-run", action="store_true", help="print what would be removed, and change nothing"
    )
    forgetting.set_defaults(command=_forget)
    exporting = commands.add_parser(
        "export", help="write features in a form that other programs read"
    )
    _add_export_options(exporting)
    importing = commands.add_parser(
        "import", help="take features that others published as a variant of a store"
    )
    _add_import_options(importing)
    for command in (auditing, sealing, compacting, digesting, exporting, forgetting):
        command.add_argument("folder", type=Path, metavar="FOLDER", help="ROOT/<catalog>")
    forgetting.add_argument("ids", nargs="+", metavar="ID", help="ids of videos")
    return parser


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    forms = "; ".join(f"{name}: {form.description}" for name, form in FORMATS.items())
    parser.add_argument("--to", required=True, metavar="FORM", choices=FORMATS, help=forms)
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="a new folder, or an empty one"
    )
    parser.add_argument(
        "--variant", action="append", default=[], help="a variant; may be given again; default: all"
    )
    parser.add_argument(
        "--arrays", default="", help="arrays, such as c3d/fc6,c3d/pool5; default: all that fit"
    )
    parser.add_argument("--ids", type=Path, metavar="FILE", help="only these ids, one on each line")
    parser.add_argument(
        "--split", default="", help="only this split of users, group of videos, or GROUPING/GROUP"
    )
    parser.add_argument(
        "--clip-seconds",
        type=float,
        help="average rows over clips of this length, 0 keeps them as stored; default: 2 for npz, "
        "else 0",
    )
    parser.add_argument("--citation", default="", help="what to cite, for the card")
    parser.add_argument("--licence", default="", help="the licence of the features, for the card")
    parser.add_argument(
        "--no-record",
        action="store_true",
        help="keep no record in the store, such as one that you may not write to",
    )
    parser.set_defaults(command=_export)


def _add_import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="FOLDER", help="a folder of .npy, .npz or HDF5 files"
    )
    parser.add_argument(
        "--into",
        required=True,
        type=Path,
        metavar="ROOT/CATALOG",
        help="the catalog; made from the names of the files if there is none",
    )
    parser.add_argument(
        "--name", required=True, help="the variant's name in the store, such as slowfast"
    )
    parser.add_argument(
        "--seconds-per-row",
        type=float,
        help="row i begins at i times this; default: every file has spans of its own",
    )
    parser.add_argument(
        "--array",
        default="features",
        help="name of the array in the store, and in files that hold several",
    )
    parser.add_argument("--weights", default="", help="what its publisher says of the weights")
    parser.add_argument("--licence", default="", help="the licence that its publisher states")
    parser.add_argument("--origin", default="", metavar="URL", help="where the files come from")
    parser.set_defaults(command=_import)


def _import(options: argparse.Namespace) -> int:
    request = ImportRequest(
        folder=options.source,
        into=options.into,
        name=options.name,
        seconds_per_row=options.seconds_per_row,
        array=options.array,
        weights=options.weights,
        licence=options.licence,
        origin=options.origin,
    )
    done = import_features(request, ProgressLines())
    for name, why in sorted(done.refused.items()):
        print(f"not imported: {name}: {why}")
    for name, video_id in sorted(done.renamed.items()):
        print(f"renamed: {name!r} is {video_id}")
    print(
        f"{options.into}: {done.variant}: {done.videos} videos, {done.rows:,} rows ({done.form}); "
        f"{len(done.refused)} not imported"
    )
    return CLEAN


def _export(options: argparse.Namespace) -> int:
    clip_seconds = options.clip_seconds
    if clip_seconds is None:
        clip_seconds = default_clip_seconds(options.to)
    what = SelectionRequest(
        variants=tuple(options.variant),
        arrays=tuple(name for name in options.arrays.split(",") if name),
        ids=read_ids(options.ids) if options.ids else None,
        split=options.split,
        clip_seconds=clip_seconds,
    )
    request = ExportRequest(
        options.folder,
        options.out,
        options.to,
        what,
        Statement(options.citation, options.licence),
        recorded=not options.no_record,
    )
    _print_export(export_store(request, ProgressLines()), options.out)
    return CLEAN


def _print_export(summary: ExportSummary, folder: Path) -> None:
    for line in summary.lines():
        print(line)
    print(f"{summary.files.files} files, {summary.files.size_bytes:,} bytes, compared: {folder}")


def _audit(options: argparse.Namespace) -> int:
    # A repair that does not read every byte would leave damage behind.
    deep = options.deep or options.repair
    is_clean = _print_audit(options.folder, deep=deep, media=options.media)
    if options.repair:
        layout = _layout(options.folder)
        for line in repair(options.folder, deep=deep, notify=print_to_stderr):
            print(f"  repair: {line}")
        for line in repair_media(layout, read_catalog(options.folder), media=options.media):
            print(f"  repair: {line}")
        print("after the repair:")
        is_clean = _print_audit(options.folder, deep=deep, media=options.media)
    return CLEAN if is_clean else VIOLATION


def _print_audit(folder: Path, *, deep: bool, media: bool) -> bool:
    """Print the results of an audit; returns whether there is no violation."""
    reports = audit(folder, deep=deep)
    if not reports:
        print("no features yet")
    for report in reports:
        _print_variant(report)
    media_report = audit_media(_layout(folder), read_catalog(folder), media=media)
    if media_report.counts:
        print(media_report)
    for finding in media_report.findings:
        print(f"  {finding}")
    taken_down = audit_forgotten(folder, deep=deep)
    if taken_down.count:
        print(taken_down)
    for finding in taken_down.findings:
        print(f"  {finding}")
    are_variants_clean = all(report.is_clean for report in reports)
    others = (*media_report.findings, *taken_down.findings)
    return are_variants_clean and not any(finding.is_violation for finding in others)


def _print_variant(report: VariantAudit) -> None:
    print(f"{report.name}: {report.equation()}")
    for finding in report.findings:
        print(f"  {finding}")
    if note := report.processor_note():
        print(f"  NOTE {note}")


def _layout(folder: Path) -> Layout:
    return Layout(folder.absolute().parent, folder.absolute().name)


def _seal(options: argparse.Namespace) -> int:
    for line in seal_store(options.folder):
        print(line, flush=True)
    return CLEAN


def _compact(options: argparse.Namespace) -> int:
    catalog = read_catalog(options.folder)
    layout = _layout(options.folder)
    for variant in variant_layouts(options.folder):
        for shard in range(catalog.shard_count):
            with lease(layout.lease(shard), notify=print_to_stderr):
                # Under the lease: a build that commits meanwhile would lose its parts.
                _compact_shard(variant, shard, options.part_bytes)
        refresh_index(variant)
    return CLEAN


def _compact_shard(variant: VariantLayout, shard: int, max_part_bytes: int) -> None:
    with with_repair_advice():
        before = read_manifest(variant, shard)
        if before is None:
            return  # never built
        after = compact(variant, shard, max_part_bytes=max_part_bytes)
    parts = f"{len(before.parts)} parts, now {len(after.parts)}"
    print(f"{variant.folder.name} shard {shard}: {parts}")


def _digest(options: argparse.Namespace) -> int:
    store = FeatureStore(options.folder)
    for name in store.variants():
        print(f"{store[name].digest()}  {name}")
    return CLEAN


def _forget(options: argparse.Namespace) -> int:
    is_dry = options.dry_run
    change = plan if is_dry else partial(forget, notify=print_to_stderr)
    for line in change(options.folder, options.ids):
        verb = "" if line.startswith("NOTE") else "would remove  " if is_dry else "removed  "
        print(f"{verb}{line}", flush=True)
    if is_dry:
        return CLEAN
    print(
        f"taken down: {len(set(options.ids))} videos; `python -m storage audit --deep "
        f"{options.folder}` looks for what may be left"
    )
    return CLEAN


if __name__ == "__main__":
    run_and_exit(main)

"""`python -m storage audit | seal | compact | digest FOLDER`, where FOLDER is `ROOT/<catalog>`.

Exit codes: 0 clean, 2 wrong use, 4 the machine or another process is in the way, 5 something is not
as recorded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from storage.base.errors import HighlightsError, IntegrityError, LeaseHeld, SystemicFault
from storage.base.paths import Layout
from storage.catalog.catalog import read_catalog
from storage.commands import run_and_exit
from storage.features.commit import DEFAULT_PART_BYTES
from storage.features.compaction import compact
from storage.features.manifest_file import read_manifest
from storage.features.manifest_index import refresh_index
from storage.features.part_reader import with_repair_advice
from storage.features.store import FeatureStore, variant_layouts
from storage.files.file_lock import lease, print_to_stderr
from storage.maintenance.audit import audit
from storage.maintenance.media_audit import audit_media
from storage.maintenance.repair import repair, repair_media
from storage.maintenance.sealing import seal_store

CLEAN, WRONG_USE, IN_THE_WAY, VIOLATION = 0, 2, 4, 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = make_parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except HighlightsError as error:
        print(error, file=sys.stderr)
        return _exit_code(error)


def _exit_code(error: HighlightsError) -> int:
    if isinstance(error, IntegrityError):
        return VIOLATION
    return IN_THE_WAY if isinstance(error, LeaseHeld | SystemicFault) else WRONG_USE


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m storage", description="Look after a feature store."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    auditing = commands.add_parser(
        "audit", help="does everything add up, and is it what its records say?"
    )
    auditing.add_argument(
        "--deep", action="store_true", help="read every byte, not only sizes and structure"
    )
    auditing.add_argument(
        "--repair", action="store_true", help="read every byte, mend, then look again"
    )
    auditing.add_argument("--media", action="store_true", help="read every kept media file too")
    auditing.set_defaults(command=_audit)
    sealing = commands.add_parser(
        "seal", help="check parts of earlier releases whole, and give them checksums"
    )
    sealing.set_defaults(command=_seal)
    compacting = commands.add_parser(
        "compact", help="pack every shard anew, without superseded rows"
    )
    compacting.add_argument(
        "--part-bytes", type=int, default=DEFAULT_PART_BYTES, help="limit of a part's rows"
    )
    compacting.set_defaults(command=_compact)
    digesting = commands.add_parser(
        "digest", help="one sha256 per variant: equal content, equal digest"
    )
    digesting.set_defaults(command=_digest)
    for command in (auditing, sealing, compacting, digesting):
        command.add_argument("folder", type=Path, metavar="FOLDER", help="ROOT/<catalog>")
    return parser


def _audit(options: argparse.Namespace) -> int:
    # Half a look would mend half: a repair reads every byte.
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
    """Print what an audit finds; returns whether nothing is wrong."""
    reports = audit(folder, deep=deep)
    if not reports:
        print("no features yet")
    for report in reports:
        print(f"{report.name}: {report.equation()}")
        for finding in report.findings:
            print(f"  {finding}")
        if told := report.unlike_processors():
            print(f"  NOTE {told}")
    kept = audit_media(_layout(folder), read_catalog(folder), media=media)
    if kept.counts:
        print(kept)
    for finding in kept.findings:
        print(f"  {finding}")
    found = [*kept.findings, *(finding for report in reports for finding in report.findings)]
    return all(report.adds_up for report in reports) and not any(
        finding.is_violation for finding in found
    )


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
                with with_repair_advice():
                    before = read_manifest(variant, shard)
                    after = before and compact(variant, shard, max_part_bytes=options.part_bytes)
                if before is not None and after is not None:
                    print(
                        f"{variant.folder.name} shard {shard}: {len(before.parts)} parts, now {len(after.parts)}"
                    )
        refresh_index(variant)
    return CLEAN


def _digest(options: argparse.Namespace) -> int:
    store = FeatureStore(options.folder)
    for name in store.variants():
        print(f"{store[name].digest()}  {name}")
    return CLEAN


if __name__ == "__main__":
    run_and_exit(main)

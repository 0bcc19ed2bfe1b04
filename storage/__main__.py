"""`python -m storage audit | seal | compact | digest FOLDER`, where FOLDER is `ROOT/<catalog>`.

Exit codes: 0 clean, 2 wrong use, 4 the machine or another process is in the way, 5 something is not as recorded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from storage.audit import VariantAudit, audit
from storage.catalog import read_catalog
from storage.commands import run_and_exit
from storage.errors import HighlightsError, IntegrityError, LeaseHeld, SystemicFault
from storage.features.sealing import seal_store
from storage.index import refresh
from storage.layout import Layout
from storage.lease import lease, say
from storage.repair import repair
from storage.sidecar import DEFAULT_PART_BYTES, compact, read_sidecar
from storage.store import FeatureStore, variant_layouts

CLEAN, WRONG_USE, IN_THE_WAY, VIOLATION = 0, 2, 4, 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except HighlightsError as error:
        print(error, file=sys.stderr)
        return _exit_code(error)


def _exit_code(error: HighlightsError) -> int:
    if isinstance(error, IntegrityError):
        return VIOLATION
    return IN_THE_WAY if isinstance(error, LeaseHeld | SystemicFault) else WRONG_USE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m storage", description="Look after a feature store.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    auditing = commands.add_parser("audit", help="does everything add up, and is it what its records say?")
    auditing.add_argument("--deep", action="store_true", help="read every byte, not only sizes and structure")
    auditing.add_argument("--repair", action="store_true", help="read every byte, mend, then look again")
    auditing.set_defaults(command=_audit)
    sealing = commands.add_parser("seal", help="check parts of earlier releases whole, and give them checksums")
    sealing.set_defaults(command=_seal)
    compacting = commands.add_parser("compact", help="pack every shard anew, without superseded rows")
    compacting.add_argument("--part-bytes", type=int, default=DEFAULT_PART_BYTES, help="limit of a part's rows")
    compacting.set_defaults(command=_compact)
    digesting = commands.add_parser("digest", help="one sha256 per variant: equal content, equal digest")
    digesting.set_defaults(command=_digest)
    for command in (auditing, sealing, compacting, digesting):
        command.add_argument("folder", type=Path, metavar="FOLDER", help="ROOT/<catalog>")
    return parser


def _audit(options: argparse.Namespace) -> int:
    # Half a look would mend half: a repair reads every byte.
    deep = options.deep or options.repair
    reports = audit(options.folder, deep=deep)
    _print_reports(reports)
    if options.repair:
        for line in repair(options.folder, deep=deep, tell=say):
            print(f"  repair: {line}")
        reports = audit(options.folder, deep=deep)
        print("after the repair:")
        _print_reports(reports)
    return CLEAN if all(report.is_clean for report in reports) else VIOLATION


def _seal(options: argparse.Namespace) -> int:
    for line in seal_store(options.folder):
        print(line, flush=True)
    return CLEAN


def _print_reports(reports: Sequence[VariantAudit]) -> None:
    if not reports:
        print("no features yet")
    for report in reports:
        print(f"{report.name}: {report.equation()}")
        for finding in report.findings:
            print(f"  {finding}")


def _compact(options: argparse.Namespace) -> int:
    catalog = read_catalog(options.folder)
    layout = Layout(options.folder.absolute().parent, options.folder.absolute().name)
    for variant in variant_layouts(options.folder):
        for shard in range(catalog.shard_count):
            with lease(layout.lease(shard), tell=say):
                before = read_sidecar(variant, shard)
                if before is not None:
                    after = compact(variant, shard, max_part_bytes=options.part_bytes)
                    print(f"{variant.folder.name} shard {shard}: {len(before.parts)} parts, now {len(after.parts)}")
        refresh(variant)
    return CLEAN


def _digest(options: argparse.Namespace) -> int:
    store = FeatureStore(options.folder)
    for name in store.variants():
        print(f"{store[name].digest()}  {name}")
    return CLEAN


if __name__ == "__main__":
    run_and_exit(main)

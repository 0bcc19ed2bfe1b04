"""`python -m pipeline rebase ROOT/CATALOG`: features of format version 1 brought over to seconds as
players count them.

Version 1 counted on each stream's own clock. A video whose container's clock began at 0 keeps its
rows, byte for byte; every other is marked, and the next build makes it again. Where the file is at
hand it is asked; where it is not, the first picture decides: if it lies at exactly 0, no player
starts later, and sound that begins before it, as coders' priming does, is some hundredths of a
second. Refuses to decode.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

from pipeline.child_processes.exit_status import fault_if_stopped
from pipeline.child_processes.hang_watch import Hung, TimeLimits
from pipeline.child_processes.project_root import PROJECT_ROOT
from pipeline.child_processes.run_to_end import run_to_end
from pipeline.download.folder.video_folder import find_files
from pipeline.media.media_file import read_record
from storage.base.errors import SystemicFault
from storage.base.paths import Layout, VariantLayout
from storage.base.records import JSON, STREAM_CLOCK
from storage.catalog.catalog import read_catalog
from storage.features.compaction import rebase
from storage.features.manifest import ManifestEntry
from storage.features.manifest_file import read_manifest
from storage.features.manifest_index import refresh_index
from storage.features.part_reader import PartReader
from storage.features.store import variant_layouts
from storage.files.file_lock import lease

LOOK_SECONDS = 60.0
"""Reading a header takes less; a file that takes longer hangs."""


def rebase_catalog(folder: Path, media: Sequence[Path]) -> Iterator[str]:
    """Bring every variant of the catalog kept in `folder` over; a sentence for each shard that was
    changed.

    `media` are folders with its videos, beside those the catalog keeps. Raises IntegrityError for a
    part that is not what its record says, LeaseHeld for a shard that is being built; what was
    brought over by then stays so, and another run goes on from there.
    """
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    read_catalog(folder)
    for variant in variant_layouts(folder):
        for path in sorted(variant.folder.glob("shard_*.json")):
            shard = int(path.stem.partition("_")[2])
            with lease(layout.lease(shard)):
                known = read_manifest(variant, shard)
                if known is None or known.time_origin != STREAM_CLOCK:
                    continue
                done = {
                    video_id: entry for video_id, entry in known.entries.items() if entry.is_done
                }
                found = {
                    video_id: _clock_of(layout, variant, video_id, shard, entry, media)
                    for video_id, entry in done.items()
                }
                begun = {
                    video_id: f"its clock began {began}"
                    for video_id, (_, began) in found.items()
                    if began
                }
                kept = {video_id: by for video_id, (by, began) in found.items() if not began}
                clocks: dict[str, JSON] = {
                    video_id: {"was": STREAM_CLOCK, "known_by": by} for video_id, by in kept.items()
                }
                rebase(variant, shard, clocks, begun)
            by_picture = sum(by == "first picture" for by in kept.values())
            told = f", {by_picture} of them by their first picture alone" if by_picture else ""
            yield (
                f"{variant.folder.name} shard {shard}: {len(clocks)} videos keep their rows{told}; "
                f"{len(begun)} are built again"
            )
        refresh_index(variant)


def _clock_of(
    layout: Layout,
    variant: VariantLayout,
    video_id: str,
    shard: int,
    entry: ManifestEntry,
    media: Sequence[Path],
) -> tuple[str, str]:
    """By what it is known, and when the clock began in words; empty if that was at 0."""
    file = _file_of(layout, video_id, shard, entry, media)
    if file is not None:
        start = container_start(file)
        return "file", f"at {float(start):.6f} s" if start else ""
    decoded = entry.facts.get("decode")
    first = decoded.get("first_pts_seconds") if isinstance(decoded, dict) else None
    if first is None:
        first = PartReader(variant.folder / entry.part).track(video_id).spans[0, 0]
    return (
        "first picture",
        "" if first == 0 else f"at or before {first:.6f} s, and its file is not at hand",
    )


def _file_of(
    layout: Layout, video_id: str, shard: int, entry: ManifestEntry, media: Sequence[Path]
) -> Path | None:
    """The file that the rows were made from, by name and size."""
    record = read_record(layout.media_record(video_id, shard))
    suffix = record.suffix if record and record.suffix else ".mp4"
    source = entry.facts.get("source")
    size_bytes = source.get("size_bytes") if isinstance(source, dict) else None
    places = [layout.media_file(video_id, shard, suffix)]
    places += find_files((layout.sources, *media), video_id)
    return next(
        (path for path in places if path.is_file() and path.stat().st_size == size_bytes), None
    )


@cache
def container_start(path: Path) -> Fraction:
    """When the container starts on its streams' clocks; 0 where FFmpeg cannot tell, as rows have
    it.

    Raises SystemicFault if the file, whose rows are there, cannot be opened now.
    """
    command = [sys.executable, "-m", "pipeline.media.container.clock", str(path.absolute())]
    try:
        status, output = run_to_end(command, PROJECT_ROOT, TimeLimits(LOOK_SECONDS, LOOK_SECONDS))
    except (OSError, Hung) as error:
        raise SystemicFault(f"cannot look when {path} starts: {error}") from error
    if fault := fault_if_stopped(status):
        raise fault
    if status:
        raise SystemicFault(
            f"cannot look when {path} starts: it does not open, although rows were made from it"
        )
    told = json.loads(output)
    return Fraction(0) if told is None else Fraction(*told)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", type=Path, help="ROOT/<catalog>")
    parser.add_argument(
        "--media", type=Path, action="append", default=[], help="another folder with the videos"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    lines = 0
    for line in rebase_catalog(options.folder, options.media):
        lines += 1
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    if not lines:
        sys.stdout.write(f"{options.folder}: all times count from the containers' start already\n")
    return 0

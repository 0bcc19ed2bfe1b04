"""`python -m pipeline rebase ROOT/CATALOG`: converts features of format version 1 to players' time.

Version 1 counted on each stream's own clock. A video whose container's clock began at 0 keeps its
rows byte for byte; all others are marked, and the next build makes them again.

If the file is available, it shows when its clock began. If not, the first picture decides: if it is
shown at exactly 0, no player starts later. Sound that begins earlier, as the priming of coders
does, begins only some hundredths of a second earlier. Decodes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

HEADER_SECONDS = 60.0
"""Reading a header takes less. A file that takes longer hangs."""


@dataclass(frozen=True)
class _ClockOrigin:
    """When the clock of one video's container began."""

    known_by: str
    """`file` or `first picture`. Stored with the video."""
    began: str = ""
    """In words; empty if it began at 0."""


def rebase_catalog(folder: Path, media: Sequence[Path]) -> Iterator[str]:
    """Convert every variant of the catalog in `folder`; yields a sentence per changed shard.

    `media` are folders with its videos, besides those of the catalog itself. Raises IntegrityError
    for a part that does not match its record, LeaseHeld for a shard that is being built. Shards
    that were converted before stay so, and another run continues from there.
    """
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    read_catalog(folder)  # raises an error if this is not a catalog
    for variant in variant_layouts(folder):
        for path in sorted(variant.folder.glob("shard_*.json")):
            shard = int(path.stem.partition("_")[2])
            # No build may add to the shard meanwhile.
            with lease(layout.lease(shard)):
                change = _rebase_shard(layout, variant, shard, media)
            if change:
                yield f"{variant.folder.name} shard {shard}: {change}"
        refresh_index(variant)


def _rebase_shard(layout: Layout, variant: VariantLayout, shard: int, media: Sequence[Path]) -> str:
    """Convert one shard; returns what was changed, empty if it counts in players' time already."""
    manifest = read_manifest(variant, shard)
    if manifest is None or manifest.time_origin != STREAM_CLOCK:
        return ""
    kept: dict[str, JSON] = {}
    rebuilt: dict[str, str] = {}
    by_first_picture = 0
    for video_id, entry in manifest.entries.items():
        if not entry.is_done:
            continue
        origin = _clock_origin(layout, variant, video_id, shard, entry, media)
        if origin.began:
            rebuilt[video_id] = f"its clock began {origin.began}"
            continue
        kept[video_id] = {"was": STREAM_CLOCK, "known_by": origin.known_by}
        if origin.known_by == "first picture":
            by_first_picture += 1
    rebase(variant, shard, kept, rebuilt)
    how = f", {by_first_picture} of them by their first picture alone" if by_first_picture else ""
    return f"{len(kept)} videos keep their rows{how}; {len(rebuilt)} are built again"


def _clock_origin(
    layout: Layout,
    variant: VariantLayout,
    video_id: str,
    shard: int,
    entry: ManifestEntry,
    media: Sequence[Path],
) -> _ClockOrigin:
    file = _file_of(layout, video_id, shard, entry, media)
    if file is not None:
        start = container_start(file)
        return _ClockOrigin("file", f"at {float(start):.6f} s" if start else "")
    decoded = entry.facts.get("decode")
    first = decoded.get("first_pts_seconds") if isinstance(decoded, dict) else None
    if first is None:
        # Entries of the oldest releases have no facts: the first row starts with the first picture.
        first = PartReader(variant.folder / entry.part).track(video_id).spans[0, 0]
    if first == 0:
        return _ClockOrigin("first picture")
    began = f"at or before {first:.6f} s, and its file is not at hand"
    return _ClockOrigin("first picture", began)


def _file_of(
    layout: Layout, video_id: str, shard: int, entry: ManifestEntry, media: Sequence[Path]
) -> Path | None:
    """The file that the rows were made from, found by its name and size."""
    record = read_record(layout.media_record(video_id, shard))
    suffix = record.suffix if record and record.suffix else ".mp4"
    source = entry.facts.get("source")
    size_bytes = source.get("size_bytes") if isinstance(source, dict) else None
    paths = [layout.media_file(video_id, shard, suffix)]
    paths += find_files((layout.sources, *media), video_id)
    for path in paths:
        if path.is_file() and path.stat().st_size == size_bytes:
            return path
    return None


# A video has rows in several variants.
@cache
def container_start(path: Path) -> Fraction:
    """When the container starts on its streams' clocks; 0 where FFmpeg does not know, as in rows.

    Raises SystemicFault if the file cannot be opened now, although rows were made from it.
    """
    command = [sys.executable, "-m", "pipeline.media.container.clock", str(path.absolute())]
    try:
        status, output = run_to_end(
            command, PROJECT_ROOT, TimeLimits(HEADER_SECONDS, HEADER_SECONDS)
        )
    except (OSError, Hung) as error:
        raise SystemicFault(f"cannot read when {path} starts: {error}") from error
    fault = fault_if_stopped(status)
    if fault:
        raise fault
    if status:
        raise SystemicFault(
            f"cannot read when {path} starts: it does not open, although rows were made from it"
        )
    start = json.loads(output)  # numerator and denominator
    return Fraction(0) if start is None else Fraction(*start)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
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

"""A dataset built on a real small disk that is full again and again, until there is room at last.

Run as `python -m tests.support.disk_full FOLDER DISK ADDRESS [LIMIT STEP]` inside a mount
namespace; FOLDER is anywhere, DISK an empty folder. A forked child makes each attempt, so that a
crash is seen; all of it is the real code: catalog, download, decode, spool, parts, sidecars,
report.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import traceback
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.diagnostics.availability import availability_by_split, availability_report
from pipeline.download.access.source import SourceSettings
from pipeline.download.fetch import fetch, verify_media
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.media.media_file import Media, read_record
from storage.base.errors import DiskFull, HighlightsError
from storage.base.fingerprint import readable_json
from storage.base.records import Video
from storage.base.video_status import State
from storage.catalog.catalog import Catalog, read_catalog, write_catalog
from storage.files import atomic_write
from storage.files.atomic_write import publish
from storage.files.file_lock import lease
from tasks.config.exit_codes import exit_code_of
from tests.support.kill_loop import damage, digest, shard_job, warm_up

IDS = tuple(f"-video{number:05d}" for number in range(4))
"""The last one is a dead link."""
MAX_ATTEMPTS = 400
DISK_BYTES = 2_000_000
BALLAST = "ballast"
STAGES = {
    "download": ".partial/", "media record": "/videos/", "spool": "/spool/", "lease": "/leases/", "part": ".h5",
    "sidecar": "/shard_", "settings": "/settings.json", "report": "/report/", "catalog": "/tiny/",
}  # fmt: skip
"""Stage → what stands in the path of a file of that stage; the first that fits counts."""
PUBLISHED = tuple(stage for stage in STAGES if stage not in ("download", "lease"))
"""Stages that write by the one write protocol."""


def attempt(job: ShardJob, address: str) -> None:
    """All that a run does for a dataset of one shard."""
    layout, source = job.layout, SourceSettings(f"{address}/{{id}}", attempts=1)
    write_catalog(layout, catalog())
    with lease(layout.lease(job.shard)):
        process_shard(
            job,
            fetch=lambda video_id, retry: fetch(
                video_id, layout=layout, shard=job.shard, source=source, retry=retry
            ),
            decoder=InlineDecoder(),
            device="cpu",
            on_video=lambda *_: None,
        )
    manifest = job.manifest(job.variants[0])
    statuses = (
        {video_id: entry.status for video_id, entry in manifest.entries.items()} if manifest else {}
    )
    rows = availability_by_split(catalog(), statuses)
    publish(
        layout.report / "survival.json",
        readable_json(availability_report(rows, date(2026, 1, 1))),
        replace=True,
    )


def catalog() -> Catalog:
    """One shard of `IDS`, without users."""
    return Catalog("tiny", tuple(map(Video, IDS)), (), (), (), 1, "seconds", {"source": "made up"})


def forked(job: ShardJob, address: str, told: Path, fill_at: str = "") -> int:
    """The exit code of one attempt, negative for a signal; what stopped it stands in `told`.

    With `fill_at`, something else takes all room the moment the build first writes a file of that
    stage.
    """
    child = os.fork()
    if child == 0:
        code = 99
        try:
            if fill_at:
                atomic_write.before_step = lambda step, path: fill(
                    job.layout.root, step, stage_of(path) == fill_at
                )
            attempt(job, address)
            code = 0
        except HighlightsError as error:
            code = int(exit_code_of(error))
            told.write_text(
                stage_of(error.path) if isinstance(error, DiskFull) else f"no full disk: {error!r}"
            )
        finally:
            if code == 99:
                traceback.print_exc()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def stage_of(path: Path) -> str:
    """Whose file this is."""
    return next((stage for stage, part in STAGES.items() if part in str(path)), str(path))


def fill(disk: Path, step: atomic_write.Step, now: bool) -> None:
    """Write until the disk is full."""
    if not now or step is not atomic_write.Step.WRITE:
        return
    with (disk / BALLAST).open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(bytes(os.sysconf("SC_PAGE_SIZE")))


def half_there(job: ShardJob) -> int:
    """Files under a final name that are not whole: parts and sidecars, media, the catalog."""
    wrong = sum(damage(job).values())
    layout = job.layout
    for video_id in IDS:
        record = read_record(layout.media_record(video_id, job.shard))
        if record is not None and record.status.state is State.DONE:
            verify_media(
                Media(
                    layout.media_file(video_id, job.shard, record.suffix),
                    record.sha256,
                    record.size_bytes,
                )
            )
    if layout.catalog_file.exists():
        wrong += read_catalog(layout.folder) != catalog()
    return wrong


def mount(disk: Path, limit: str, value: int, *more: str) -> None:
    """A tmpfs of `size` bytes or `nr_inodes` files."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join([*more, f"{limit}={value}"]), "none", disk],
        check=True,
    )


def grown(folder: Path, disk: Path, address: str, limit: str, step: int) -> dict[str, Any]:
    """Build on a disk that begins with nothing and grows by `step` when the build gave up; what was
    seen.
    """
    job, whole = both(folder, disk, address)
    result: dict[str, Any] = {"attempts": 0, "odd": [], "half": 0}
    stages: Counter[str] = Counter()
    value, code = step, 4
    mount(disk, limit, value)
    while code == 4 and result["attempts"] < MAX_ATTEMPTS:
        code = forked(job, address, folder / "told")
        result["attempts"] += 1
        result["half"] += half_there(job)
        if code == 4:
            stages[(folder / "told").read_text()] += 1
            value += step
            mount(disk, limit, value, "remount")
    return {
        **result,
        "code": code,
        "equal": digest(job) == whole,
        limit: value,
        "stages": dict(stages),
    }


def filled(folder: Path, disk: Path, address: str) -> dict[str, Any]:
    """For each stage a new disk, full when the stage first writes, and free again after that; what
    was seen.
    """
    job, whole = both(folder, disk, address)
    result: dict[str, Any] = {"half": 0, "stages": {}}
    for stage in PUBLISHED:
        mount(disk, "size", DISK_BYTES)  # over the one before
        (folder / "told").write_text("")
        codes = [forked(job, address, folder / "told", fill_at=stage)]
        met = (folder / "told").read_text()
        result["half"] += half_there(job)
        (disk / BALLAST).unlink()
        codes.append(forked(job, address, folder / "told"))
        result["half"] += half_there(job)
        result["stages"][stage] = [met, *codes, digest(job) == whole]
    return result


def both(folder: Path, disk: Path, address: str) -> tuple[ShardJob, str]:
    """The job on the small disk, and the digest of the same one built undisturbed."""
    warm_up()
    whole = shard_job(folder / "whole", IDS)
    if forked(whole, address, folder / "told") != 0:
        raise RuntimeError((folder / "told").read_text())
    return shard_job(disk, IDS), digest(whole)


if __name__ == "__main__":
    folder, disk, address, *more = sys.argv[1:]
    places = (Path(folder), Path(disk), address)
    sys.stdout.write(
        json.dumps(grown(*places, more[0], int(more[1])) if more else filled(*places)) + "\n"
    )

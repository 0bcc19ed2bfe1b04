"""PHD2 at its full size without a video or a network: `python -m benchmarks.phd2_simulation FOLDER
--durations CSV`.

119,938 made-up ids with the durations of a published table (PHD2's `testing.csv`) go through the
real catalog, shards, spool, parts, sidecars, retries, compaction, audit, index, store and front
door; only fetching, decoding and the extractor are replaced, by functions that cost next to
nothing. A row stands for 30 seconds and has 64 bytes, so that bookkeeping is measured and not the
disk; with `--row-seconds 1e7` a video has one row, and what is left is the cost of a video alone.
Prints wall and CPU seconds and the peak memory so far of each stage, and beside them two floors: a
small file for each video, written and renamed, without and with a wait for the disk. FOLDER is new
or empty; on a file system in memory (/dev/shm) waiting for a disk is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from luigi.configuration import get_config
from numpy.typing import NDArray

from pipeline.compute.cpu_executor import RowExecutor
from pipeline.decoding.events import DecodeEnd, Event, FrameEvent, WindowEvent
from pipeline.decoding.video_reader import DecodeSummary
from pipeline.extraction import process_shard as process
from pipeline.extraction.process_shard import process_shard
from pipeline.media.media_file import Media
from pipeline.media.probe import Probe
from pipeline.sampling.planner import VideoSampling, Window
from storage.base.errors import VideoError
from storage.base.fingerprint import readable_json, to_json_value
from storage.base.video_status import DONE, failure_status
from storage.features import manifest_index
from storage.features.commit import DEFAULT_PART_BYTES, request_retry
from storage.features.compaction import compact
from storage.features.manifest import ManifestEntry, PartRecord, ShardManifest
from storage.features.manifest_file import write_manifest
from storage.features.store import FeatureStore
from storage.files.atomic_write import publish
from storage.maintenance.audit import audit
from tasks import features
from tasks.config.exit_codes import RunIncomplete
from tasks.config.settings import Settings, load_settings
from tasks.execution import catalogs
from tasks.execution.extract_shard import shard_job
from tasks.reporting import run_report

PHD2_VIDEOS = 119_938
VIDEOS_OF_A_USER = 9
GONE, CUT = 0.15, 0.02
"""Shares of the videos that are removed, and of those that fail by the network once."""
ITEM = np.zeros(64, np.uint8)
COLUMNS = ("youtubeId", "start", "duration", "user_id", "video_duration", "is_last")
FLOOR_VIDEOS = 2000


def made_up_id(number: int) -> str:
    """11 characters, as a site would draw them."""
    return hashlib.sha256(b"%d" % number).hexdigest()[:11]


def share(video_id: str, salt: str) -> float:
    """A number in [0, 1) that only these two decide."""
    return int.from_bytes(hashlib.sha256(f"{video_id}{salt}".encode()).digest()[:4], "big") / 2**32


def write_annotations(path: Path, durations: Sequence[float], videos: int) -> dict[str, float]:
    """A table like PHD2's, with durations drawn from the given ones; returns them by id."""
    chosen = random.Random(0).choices(durations, k=videos)  # noqa: S311  # a sample, no secret
    drawn = {made_up_id(number): chosen[number] for number in range(videos)}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, (video_id, seconds) in enumerate(drawn.items()):
            user, place = divmod(number, VIDEOS_OF_A_USER)
            for start in (0.1 * seconds, 0.6 * seconds):
                last = place == VIDEOS_OF_A_USER - 1 or number == videos - 1
                writer.writerow([video_id, round(start, 2), 3.0, user, round(seconds), last])
    return drawn


class NoExtractor:
    """Rows of 64 bytes, for nothing."""

    def prepare(self, _frame: object) -> NDArray[np.uint8]:
        """Always the same."""
        return ITEM

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """A row for each window."""
        return {"jpeg": [window[0] for window in windows]}


@dataclass
class NoDecoder:
    """The events of a video of so many seconds, without one."""

    seconds: Mapping[str, float]
    row_seconds: float
    name: str = "pyav"
    _frame: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((2, 2, 3), np.uint8))

    def decode(
        self, video_id: str, _path: Path, _samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        """A frame and a window for each row."""
        seconds = self.seconds[video_id]
        for row in range(max(1, int(seconds / self.row_seconds))):
            yield FrameEvent(row, self._frame, (0,))
            yield WindowEvent(
                0, Window((row,), row * self.row_seconds, (row + 1) * self.row_seconds)
            )
        frames = round(30 * seconds)
        probe = Probe(
            "mov,mp4",
            "h264",
            0,
            640,
            360,
            (1, 0, 0, 1),
            "yuv420p",
            (1, 15360),
            frames,
            seconds,
            30.0,
            0.0,
        )
        yield DecodeEnd(
            probe,
            DecodeSummary(
                frames, frames, 0, 0, frames, 0, 0, 0, 0, "", 0.0, seconds, seconds, (), 0, ""
            ),
        )

    def close(self) -> None:
        """There is nothing."""


def no_fetch(video_id: str, retry: bool) -> Media:
    """A file that nobody will open, or the verdict that the id stands for."""
    if share(video_id, "gone") < GONE:
        raise VideoError(
            video_id,
            failure_status(
                "removed", "Video unavailable. This video has been removed by the uploader"
            ),
        )
    if not retry and share(video_id, "cut") < CUT:
        raise VideoError(video_id, failure_status("network", "read timed out"))
    return Media(
        Path("nowhere.mp4"),
        hashlib.sha256(video_id.encode()).hexdigest(),
        20_000_000,
        {"format": "18"},
    )


class Stages:
    """Runs a stage and prints what it cost."""

    def __init__(self, videos: int) -> None:
        self.videos = videos
        sys.stdout.write("| stage | wall s | CPU s | ms a video (wall) | peak MB |\n|-|-|-|-|-|\n")

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` returns."""
        wall, before = time.perf_counter(), _cpu_seconds()
        result = work()
        wall, spent = time.perf_counter() - wall, _cpu_seconds() - before
        self.line(name, wall, spent)
        return result

    def line(self, name: str, wall: float, cpu: float | None = None) -> None:
        """One row of the table."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cells = [
            name,
            f"{wall:.2f}",
            "" if cpu is None else f"{cpu:.2f}",
            f"{1000 * wall / self.videos:.3f}",
            f"{peak:.0f}",
        ]
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()


def _cpu_seconds() -> float:
    return sum(
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


class Timed:
    """A function, and how long it took in all, by the clock: asking for CPU time would cost each
    video 0.01 ms.
    """

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work = work
        self.wall = 0.0

    def __call__(self, *given: Any, **named: Any) -> Any:
        """As the function."""
        began = time.perf_counter()
        try:
            return self._work(*given, **named)
        finally:
            self.wall += time.perf_counter() - began


def floor(folder: Path, *, synced: bool) -> tuple[float, float]:
    """Wall and CPU seconds of a kilobyte that gets a name of its own."""
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(FLOOR_VIDEOS):
        temporary = folder / "temporary"
        with temporary.open("wb") as file:
            file.write(bytes(1000))
            if synced:
                file.flush()
                os.fsync(file.fileno())
        temporary.rename(folder / str(number))
    return (time.perf_counter() - wall) / FLOOR_VIDEOS, (time.process_time() - cpu) / FLOOR_VIDEOS


def build(settings: Settings, decoder: NoDecoder) -> None:
    """Every shard that is not complete."""
    catalog = catalogs.load_catalog(settings.layout)
    for shard in range(catalog.shard_count):
        job = shard_job(settings, catalog, shard)
        spec = replace(job.variants[0].spec, build=lambda *_: NoExtractor())
        stubbed = replace(job, variants=(replace(job.variants[0], spec=spec),))
        if not stubbed.is_complete():
            process_shard(
                stubbed, fetch=no_fetch, decoder=decoder, device="cpu", on_video=lambda *_: None
            )


def stand_ins(decoder: NoDecoder) -> None:
    """What `build` spends on neither storing nor handing over: no run has it."""
    for video_id in decoder.seconds:
        with contextlib.suppress(VideoError):
            no_fetch(video_id, retry=False)
            for _ in decoder.decode(video_id, Path(), ()):
                pass


def each_shard(settings: Settings, work: Callable[..., Any]) -> None:
    """`work(layout of the variant, shard)` for every shard."""
    variant = settings.variants[0]
    layout = settings.layout.variant(variant.name, variant.fingerprint())
    for shard in range(catalogs.load_catalog(settings.layout).shard_count):
        work(layout, shard)


def make_up(settings: Settings, decoder: NoDecoder) -> None:
    """The sidecars that `build` leaves, without any part: for what only reads accounts."""
    catalog = catalogs.load_catalog(settings.layout)
    for shard in range(catalog.shard_count):
        job = shard_job(settings, catalog, shard)
        layout = job.variant_layout(job.variants[0])
        publish(layout.settings_file, readable_json(job.variants[0].description()), replace=False)
        part = PartRecord(f"shard_{shard:03d}.p000.h5", made_up_id(shard), 1, 1, 1)
        entries = {
            video_id: _made_up_entry(video_id, decoder, part.file) for video_id in job.video_ids
        }
        header = (settings.layout.catalog, shard, layout.variant, layout.fingerprint)
        write_manifest(layout, ShardManifest(*header, (part,), entries, {}))


def _made_up_entry(video_id: str, decoder: NoDecoder, part: str) -> ManifestEntry:
    if share(video_id, "gone") < GONE:
        return ManifestEntry(
            failure_status(
                "removed", "Video unavailable. This video has been removed by the uploader"
            )
        )
    *events, end = decoder.decode(video_id, Path(), ())
    facts = (
        {"probe": to_json_value(end.probe), "decode": to_json_value(end.summary)}
        if isinstance(end, DecodeEnd)
        else {}
    )
    digest = hashlib.sha256(video_id.encode()).hexdigest()
    source = {"sha256": digest, "size_bytes": 20_000_000, "format": "18"}
    return ManifestEntry(DONE, part, len(events) // 2, digest, 1, {"source": source, **facts})


def account(settings: Settings) -> None:
    """What a run prints at its end, unseen."""
    with contextlib.suppress(RunIncomplete), contextlib.redirect_stdout(io.StringIO()):
        run_report.report_run(settings, range(_shards(settings)), "simulation")


def opened(folder: Path) -> None:
    """As a modeller opens a store, and asks how much there is."""
    len(FeatureStore(folder)["frames"])


def front_door(root: Path, table: Path, row_seconds: float) -> None:
    """The command a person runs, in a process of its own; there is nothing to do."""
    words = [str(Path(sys.executable).with_name("luigi")), "--module", "tasks", "BuildPHD2Features"]
    options = {"data-root": root, "phd2-testing": table, "download-source": root, "extract-extractors": "frames",
               "frames-frames-per-second": 1 / row_seconds}  # fmt: skip
    done = subprocess.run(
        [*words, *(text for name, value in options.items() for text in (f"--{name}", str(value)))],
        capture_output=True, text=True, check=False, cwd=root,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(
            f"the front door ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )


def main() -> None:
    """Build, disturb, tidy and open a store of PHD2's size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--durations", type=Path, required=True, help="a table with a column video_duration"
    )
    parser.add_argument("--videos", type=int, default=PHD2_VIDEOS)
    parser.add_argument(
        "--row-seconds", type=float, default=30.0, help="of video that a row stands for"
    )
    parser.add_argument(
        "--accounts-only", action="store_true", help="make sidecars up, and time what reads them"
    )
    chosen = parser.parse_args()
    with chosen.durations.open(newline="") as file:
        told = {row["youtubeId"]: float(row["video_duration"]) for row in csv.DictReader(file)}
    root = chosen.folder.absolute()
    root.mkdir(parents=True, exist_ok=True)
    table = root / "testing.csv"
    seconds = write_annotations(
        table, [value for value in told.values() if value > 0], chosen.videos
    )
    sections = {
        "data": {"root": str(root)},
        "phd2": {"testing": str(table)},
        "extract": {"extractors": "frames"},
        "frames": {"frames_per_second": str(1 / chosen.row_seconds)},
    }
    for section, fields in sections.items():
        for key, value in fields.items():
            get_config().set(section, key, value)
    settings = load_settings("phd2")
    stage, decoder = Stages(chosen.videos), NoDecoder(seconds, chosen.row_seconds)
    stage("catalog: annotations to tables", lambda: catalogs.build_catalog(settings))
    catalogs._read.cache_clear()
    stage("catalog: read", lambda: catalogs.load_catalog(settings.layout))
    (stages_of_accounts if chosen.accounts_only else stages_of_a_build)(stage, settings, decoder)
    stage("account again", lambda: account(settings))
    stage("store opened", lambda: opened(settings.layout.folder))
    time.sleep(3)  # sidecars younger than two seconds are hashed
    manifest_index._decode.cache_clear()
    stage(
        "store opened by a fresh process, but for imports",
        lambda: opened(settings.layout.folder),
    )
    stage("front door", lambda: front_door(root, table, chosen.row_seconds))
    stage("front door again", lambda: front_door(root, table, chosen.row_seconds))


def stages_of_accounts(stage: Stages, settings: Settings, decoder: NoDecoder) -> None:
    """Sidecars without parts."""
    stage("sidecars made up", lambda: make_up(settings, decoder))
    stage("store opened without an index", lambda: opened(settings.layout.folder))
    stage("first account, index written", lambda: account(settings))


def stages_of_a_build(stage: Stages, settings: Settings, decoder: NoDecoder) -> None:
    """Everything, as a run does it."""
    stage("libraries of networks loaded", lambda: RowExecutor("cpu").__exit__(None, None, None))
    folder = settings.layout.folder / "floor"
    folder.mkdir(parents=True)
    for name, synced in (("floor: a file a video", False), ("floor: the same, synced", True)):
        wall, cpu = floor(folder, synced=synced)
        stage.line(name, wall * stage.videos, cpu * stage.videos)
    put, commit = Timed(process.spool.put), Timed(process.commit)
    process.spool.put, process.commit = put, commit  # type: ignore[assignment]
    stage("build, with writing", lambda: build(settings, decoder))
    stage.line("  of which spooling", put.wall)
    stage.line("  of which parts and sidecars", commit.wall)
    stage("what stands in for the site and the decoder, alone", lambda: stand_ins(decoder))
    stage("first account, index written", lambda: account(settings))
    stage(
        "retry: ask",
        lambda: each_shard(settings, lambda one, n: request_retry(one, n, ("network",))),
    )
    stage(
        "retry: what is to do",
        lambda: features.unfinished_videos(settings, tuple(range(_shards(settings)))),
    )
    stage("retry: done", lambda: build(settings, decoder))
    stage(
        "compaction",
        lambda: each_shard(settings, lambda *at: compact(*at, max_part_bytes=DEFAULT_PART_BYTES)),
    )
    stage("audit", lambda: audit(settings.layout.folder, deep=False))
    stage("account after it", lambda: account(settings))


def _shards(settings: Settings) -> int:
    return catalogs.load_catalog(settings.layout).shard_count


if __name__ == "__main__":
    main()

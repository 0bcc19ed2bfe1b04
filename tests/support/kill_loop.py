"""Kills the real shard code at random instants, hundreds of times, and checks what it left behind
each time.

Run as `python -m tests.support.kill_loop FOLDER KILLS SEED`: a fresh interpreter imports everything
once and forks a child per try, so that a kill costs milliseconds. Only the network is small; store,
spool, decode and process are ours.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.extractors.base.sampling import ConsecutiveFrames, EveryFrame
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.download.fetch import SourceSettings, fetch
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.provenance import code_version, library_versions
from pipeline.extraction.shard_job import ShardJob
from storage.base.errors import IntegrityError
from storage.base.paths import Layout
from storage.base.video_status import State
from storage.features.manifest import logical_digest
from storage.features.manifest_file import read_manifest
from storage.features.part_reader import PartReader
from storage.files.file_lock import lease
from tests.support.tiny_extractor import tiny_variant
from tests.support.videos import coded_video

SMALL_PART_BYTES = 3_000
"""So small that a shard of six videos needs several parts."""


def shard_job(folder: Path, ids: Sequence[str]) -> ShardJob:
    variants = (
        tiny_variant("clips", ConsecutiveFrames(8, 4), 8),
        tiny_variant("singles", EveryFrame(), 1),
    )
    return ShardJob(Layout(folder, "tiny"), 0, tuple(ids), variants, SMALL_PART_BYTES)


def build(job: ShardJob, videos: Path, at_once: int = 1) -> None:
    """What a worker does for one shard, with so many videos in hand."""
    with lease(job.layout.lease(job.shard)):
        process_shard(
            job,
            fetch=lambda video_id, retry: fetch(
                video_id,
                layout=job.layout,
                shard=job.shard,
                source=SourceSettings(str(videos)),
                retry=retry,
            ),
            decoder=InlineDecoder(),
            more_decoders=[InlineDecoder() for _ in range(at_once - 1)],
            device="cpu",
            on_video=lambda *_: None,
        )


def forked(job: ShardJob, videos: Path, kill_after_seconds: float | None, at_once: int = 1) -> bool:
    """Build in a forked child, kill it after a while; whether it finished first."""
    child = os.fork()
    if child == 0:
        try:
            build(job, videos, at_once)
            os._exit(0)
        finally:  # reached only by an error: the child must not go on as a second parent
            traceback.print_exc()
            os._exit(1)
    if kill_after_seconds is not None:
        time.sleep(kill_after_seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise RuntimeError(
            f"the build failed with {os.WEXITSTATUS(status)} instead of finishing or being killed"
        )
    return os.WIFEXITED(status)


def digest(job: ShardJob) -> str:
    manifests = [job.manifest(variant) for variant in job.variants]
    return " ".join(logical_digest([one]) for one in manifests if one is not None)


def damage(job: ShardJob) -> dict[str, int]:
    """What is wrong with all that has a final name: corrupt files, and ids a sidecar claims but
    parts do not hold.
    """
    found = {"corrupt": 0, "short": 0}
    for variant in job.variants:
        layout = job.variant_layout(variant)
        try:
            manifest = read_manifest(layout, job.shard)
            for path in layout.folder.glob("*.h5"):
                reader = PartReader(path)
                for video_id in reader.ids():
                    found["corrupt"] += reader.digest(video_id) != reader.table.stored_digest(
                        video_id
                    )
        except IntegrityError as error:
            sys.stderr.write(f"{error}\n")
            found["corrupt"] += 1
            continue
        for video_id, entry in manifest.entries.items() if manifest else ():
            if entry.status.state is State.DONE:
                found["short"] += (
                    PartReader(layout.folder / entry.part).digest(video_id) != entry.digest
                )
    return found


def warm_up() -> None:
    """What every child would do anew, done once before they are forked: a child's life should go
    into the shard.
    """
    library_versions(), code_version()
    importlib.import_module("torch")
    gc.collect()
    gc.freeze()  # a child that collects garbage would copy every page with an object on it


def film(folder: Path) -> list[str]:
    """Five videos of different lengths, one of them too short for a clip, and a dead link."""
    folder.mkdir(parents=True)
    ids = [f"-video{number:05d}" for number in range(6)]
    for number, video_id in enumerate(ids[:5]):
        frames = 5 if number == 2 else 20 + 6 * number
        coded_video(folder / f"{video_id}.mp4", frames)
    return ids


def campaign(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill and resume; a store that got finished is compared with an uninterrupted one and started
    anew.
    """
    rng = random.Random(seed)
    ids = film(folder / "videos")
    warm_up()
    whole = shard_job(folder / "whole", ids)
    seconds = 0.0
    for _ in range(
        2
    ):  # the first build also warms the disk's cache; delays are drawn for a warm one
        shutil.rmtree(whole.layout.folder, ignore_errors=True)
        started = time.monotonic()
        forked(whole, folder / "videos", None)
        seconds = time.monotonic() - started
    result: dict[str, Any] = {
        "seed": seed,
        "kills": 0,
        "corrupt": 0,
        "short": 0,
        "lost": 0,
        "mismatches": 0,
        "whole": 0,
    }
    job = shard_job(folder / "killed", ids)
    while result["kills"] < kills or not job.is_complete():
        last = result["kills"] >= kills
        delay = None if last else rng.uniform(0, 1.1 * seconds)
        finished = forked(job, folder / "videos", delay, at_once=rng.choice((1, 3)))
        result["kills"] += not finished
        for kind, count in damage(job).items():
            result[kind] += count
        if finished:
            result["whole"] += 1
            result["lost"] += len(job.todo())
            result["mismatches"] += digest(job) != digest(whole)
            if not last:
                shutil.rmtree(job.layout.folder)
    result["mismatches"] += digest(job) != digest(whole)
    return result


if __name__ == "__main__":
    sys.stdout.write(
        json.dumps(campaign(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))) + "\n"
    )

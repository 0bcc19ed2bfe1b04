"""Eight processes that all want to build the same shard, round after round; what each round left is
looked at.

Run as `python -m tests.support.concurrent_runs FOLDER ROUNDS SEED KILLS`: a fresh interpreter
imports everything once and forks the writers. With KILLS, one writer of each round is killed at a
random instant.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.extraction.shard_job import ShardJob
from storage.base.errors import LeaseHeld
from storage.files.atomic_write import remove_stale_temporaries
from tests.support.feature_samples import race
from tests.support.kill_loop import build, damage, digest, film, forked, shard_job, warm_up

WRITERS = 8
LOST = 3
"""Exit code of a writer whose lease went to another."""


def crowd(job: ShardJob, videos: Path, kill_after_seconds: float | None) -> list[int]:
    """Exit codes of eight writers that start at once and do not give up before the shard is
    complete.
    """

    def write(number: int) -> int:
        if number == 0 and kill_after_seconds is not None:
            signal.setitimer(
                signal.ITIMER_REAL, kill_after_seconds
            )  # SIGALRM kills it wherever it is
        losses = 0
        while not job.is_complete():
            try:
                build(job, videos)
            except LeaseHeld:
                losses += 1
                time.sleep(0.05)
        signal.setitimer(signal.ITIMER_REAL, 0)
        return LOST if losses else 0

    return race(WRITERS, write)


def campaign(folder: Path, rounds: int, seed: int, *, kills: bool) -> dict[str, Any]:
    """Counts of what went wrong, and of writers that lost, over all rounds."""
    rng = random.Random(seed)
    ids = film(folder / "videos")[:3]
    warm_up()
    whole = shard_job(folder / "whole", ids)
    forked(whole, folder / "videos", None)
    started = time.monotonic()
    shutil.rmtree(whole.layout.folder)
    forked(whole, folder / "videos", None)
    seconds = time.monotonic() - started
    result = {
        "rounds": rounds,
        "lost_lease": 0,
        "killed": 0,
        "odd": 0,
        "corrupt": 0,
        "short": 0,
        "mismatches": 0,
    }
    for number in range(rounds):
        job = shard_job(folder / f"round{number}", ids)
        codes = crowd(job, folder / "videos", rng.uniform(0.1, 1.2) * seconds if kills else None)
        result["lost_lease"] += codes.count(LOST)
        result["killed"] += codes.count(-signal.SIGALRM)
        result["odd"] += sum(code not in (0, LOST, -signal.SIGALRM) for code in codes)
        for kind, count in damage(job).items():
            result[kind] += count
        result["mismatches"] += digest(job) != digest(whole)
        remove_stale_temporaries(
            job.layout.lease(job.shard).parent
        )  # what a killed taker wrote aside is untidy, and no more
        result["odd"] += len([path for path in job.layout.folder.rglob("*") if is_left_over(path)])
        shutil.rmtree(job.layout.folder)
    return result


def is_left_over(path: Path) -> bool:
    """Whether a file is none that a finished shard keeps: a lease, a spooled video, a temporary of
    a live process.
    """
    return path.is_file() and ("spool" in path.parts or ".lease" in path.name)


if __name__ == "__main__":
    told = campaign(
        Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), kills=bool(int(sys.argv[4]))
    )
    sys.stdout.write(json.dumps(told) + os.linesep)

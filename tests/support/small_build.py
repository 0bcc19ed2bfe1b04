"""A build of six videos by the real command: takes seconds, may be disturbed on the way, is
compared at its end.

The table is PHD2's, the videos are one file under many names, in a folder or on a loopback site.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.child_processes.exit_status import STOP_SIGNALS
from storage.features.spool import SpooledVideos
from storage.features.store import FeatureStore
from tests.support.luigi_server import run_luigi
from tests.support.videos import ffmpeg

IDS = tuple(f"-small{number:05d}" for number in range(6))
LUIGI = str(Path(sys.executable).with_name("luigi"))
PATIENCE_SECONDS = 120.0


def film(folder: Path, frames: int = 150) -> Path:
    """A folder of six equal videos of so many frames, and the table that names them."""
    folder.mkdir()
    first = folder / f"{IDS[0]}.mp4"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x180:rate=30",
        "-frames:v",
        str(frames),
        "-preset",
        "ultrafast",
        first,
    )
    for video_id in IDS[1:]:
        (folder / f"{video_id}.mp4").hardlink_to(first)
    rows = [f"{video_id},0.5,2.0,7,-1,{video_id == IDS[-1]}\n" for video_id in IDS]
    (folder / "testing.csv").write_text(
        "youtubeId,start,duration,user_id,video_duration,is_last\n" + "".join(rows)
    )
    return folder


SOON = """
import sys
from luigi.cmdline import luigi_run
from storage.files import lease_record
lease_record.WATCH_SECONDS, lease_record.LOOK_SECONDS = 3.0, 0.1
luigi_run(sys.argv[1:])
"""
IMPATIENT = (sys.executable, "-c", SOON)
"""The command, with two minutes of watching a lease shortened to three seconds."""


@dataclass(frozen=True)
class Command:
    """The command that builds what `film` made, below `root`."""

    root: Path
    videos: Path
    options: tuple[str, ...] = ()
    program: tuple[str, ...] = (LUIGI,)

    @property
    def words(self) -> list[str]:
        return [
            *self.program, "--module", "tasks", "BuildPHD2Features",
            "--data-root", str(self.root), "--data-shards", "1",
            "--phd2-testing", str(self.videos / "testing.csv"), "--download-source", str(self.videos),
            "--extract-extractors", "frames", "--frames-frames-per-second", "6", *self.options,
        ]  # fmt: skip

    def start(self) -> subprocess.Popen[str]:
        """The running command, in a session of its own."""
        calm = {**os.environ, "OMP_NUM_THREADS": "1"}
        with orders_heard():
            return subprocess.Popen(
                self.words,
                cwd=self.root.parent,
                env=calm,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self) -> tuple[int, str]:
        """Its exit code and all it said. The program `luigi` runs in a fork of the server."""
        if self.program == (LUIGI,):
            calm = {"OMP_NUM_THREADS": "1"}
            done = run_luigi(self.root.parent, *self.words[1:], environment=calm)
            return done.returncode, done.stdout + done.stderr
        running = self.start()
        output = running.communicate(timeout=PATIENCE_SECONDS)[0]
        return running.returncode, output

    def spooled(self) -> int:
        """Videos that wait in the spool."""
        return sum(
            len(SpooledVideos(folder).entries)
            for folder in self.root.glob("phd2/features/*/spool/*")
        )

    def digests(self) -> dict[str, str]:
        """Variant → logical digest of what is built."""
        store = FeatureStore(self.root / "phd2")
        return {name: store[name].digest() for name in store.variants()}


@contextmanager
def orders_heard() -> Iterator[None]:
    """Inside, what we start ignores no order, though we ourselves may: under nohup, or as a shell's
    background job.
    """
    ignored = [order for order in STOP_SIGNALS if signal.getsignal(order) == signal.SIG_IGN]
    for order in ignored:
        signal.signal(order, signal.SIG_DFL)
    try:
        yield
    finally:
        for order in ignored:
            signal.signal(order, signal.SIG_IGN)


def wait_until(holds: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    """Look often; fails the test if the command ends first, or nothing happens for too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert running.poll() is None, f"ended too early: {running.communicate()[0]}"
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.005)


def alive_in_session(session: int) -> list[str]:
    """Command names of the processes of a session that still run."""
    names = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        state, _, _, its_session = fields.split()[:4]
        if int(its_session) == session and state not in "ZX":
            names.append(name)
    return names

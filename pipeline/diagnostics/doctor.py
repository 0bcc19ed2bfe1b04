"""Is this machine fit for a run? One line per check: what was found, how bad it is, what to do.

Looks and reports; changes nothing but one small file that it writes and removes. Knows the source's
address and the data root, and no other setting. Heavy libraries are imported by the check that is
about them.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

from pipeline.download.access.source import SourceSettings
from storage.base.errors import SystemicFault
from storage.files.atomic_write import publish, remove
from storage.files.process_identity import temporary_beside

OLDEST_PYTHON = (3, 11)
SAFE_YT_DLP = (2026, 7, 4)
"""Older releases have known code-execution holes."""
YT_DLP_STALE_DAYS = 60
"""Sites change monthly, and yt-dlp follows them."""
LEAST_FREE_BYTES = 1_000_000_000
COMFORTABLE_FREE_BYTES = 20_000_000_000
PROGRAM_SECONDS = 20.0


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    """A run works, with less than it could have."""
    FAIL = "fail"
    """A run would stop, or mark videos that are not to blame."""


@dataclass(frozen=True)
class DoctorCheck:
    """What one check found."""

    name: str
    level: Level
    found: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<4}  {self.name:<18}  {self.found}"
        return f"{line}\n{'':26}-> {self.advice}" if self.advice else line


def examine_machine(source: SourceSettings, data_root: Path, today: date) -> Iterator[DoctorCheck]:
    """Every finding, in order of the README's list of needs. `today` tells how old yt-dlp is."""
    yield python()
    yield from downloader(source, today)
    yield pyav()
    yield decode_child()
    yield bundled_ffmpeg()
    yield system_ffmpeg()
    yield disk_room(data_root)
    yield writable(data_root)
    yield cores()
    yield networks_device()


def failed_quick_checks(
    source: SourceSettings, data_root: Path, today: date
) -> tuple[DoctorCheck, ...]:
    """The failures among the checks that take no time, for a run that is about to begin."""
    cheap = (*downloader(source, today), disk_room(data_root), writable(data_root))
    return tuple(finding for finding in cheap if finding.level is Level.FAIL)


def python() -> DoctorCheck:
    """The interpreter."""
    fits = sys.version_info[:2] >= OLDEST_PYTHON
    wanted = "" if fits else f"use Python {'.'.join(map(str, OLDEST_PYTHON))} or newer"
    return DoctorCheck(
        "Python", Level.OK if fits else Level.FAIL, platform.python_version(), wanted
    )


def downloader(source: SourceSettings, today: date) -> Iterator[DoctorCheck]:
    """yt-dlp, and what YouTube needs beside it; a folder needs neither."""
    if source.folder is not None:
        yield DoctorCheck("downloader", Level.OK, "not needed: the source is a folder")
        return
    yield yt_dlp_release(importlib.metadata.version("yt-dlp"), today)
    if source.is_youtube:
        yield javascript()
        yield challenge_solver()


def yt_dlp_release(version: str, today: date) -> DoctorCheck:
    """Whether a release of yt-dlp, named after its day, is safe and recent."""
    numbers = [int(piece) for piece in version.split(".")[:3] if piece.isdigit()]
    update = "pip install --upgrade 'yt-dlp[default]'"
    if tuple(numbers) < SAFE_YT_DLP:
        safe = ".".join(map(str, SAFE_YT_DLP))
        return DoctorCheck(
            "yt-dlp", Level.FAIL, version, f"releases before {safe} are unsafe: {update}"
        )
    age_days = (today - date(*numbers)).days
    stale = age_days > YT_DLP_STALE_DAYS
    return DoctorCheck(
        "yt-dlp",
        Level.WARN if stale else Level.OK,
        f"{version}, {age_days} days old",
        update * stale,
    )


def javascript() -> DoctorCheck:
    """A JavaScript runtime that yt-dlp can use: without one YouTube offers pictures only."""
    from pipeline.download.ytdlp import javascript_runtimes

    found = javascript_runtimes()
    usable = [f"{name} {version}" for name, version, supported in found if supported]
    if usable:
        return DoctorCheck("JavaScript", Level.OK, ", ".join(usable))
    old = ", ".join(f"{name} {version} is too old" for name, version, _ in found)
    return DoctorCheck(
        "JavaScript",
        Level.FAIL,
        old or "no runtime on PATH",
        "install deno 2.3 or newer, or node 22",
    )


def challenge_solver() -> DoctorCheck:
    """yt-dlp's scripts for YouTube's challenges, a package of their own."""
    try:
        return DoctorCheck("yt-dlp-ejs", Level.OK, importlib.metadata.version("yt-dlp-ejs"))
    except importlib.metadata.PackageNotFoundError:
        return DoctorCheck(
            "yt-dlp-ejs", Level.FAIL, "not installed", "pip install --upgrade 'yt-dlp[default]'"
        )


def pyav() -> DoctorCheck:
    """The decoder and the FFmpeg libraries inside it."""
    import av

    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return DoctorCheck(
        "PyAV", Level.OK, f"{importlib.metadata.version('av')} with libavcodec {codec}"
    )


def decode_child() -> DoctorCheck:
    """A real decode child, and which of the layers around it hold on this machine."""
    from pipeline.decoding.worker.worker_process import DecoderProcess
    from pipeline.media.probe import DEFAULT_LIMITS

    try:
        child = DecoderProcess(DEFAULT_LIMITS)
    except SystemicFault as fault:
        return DoctorCheck(
            "decode child",
            Level.FAIL,
            str(fault),
            "mend this installation: `python -m pipeline.decoding.worker.worker_main`",
        )
    child.end()
    if all(vars(child.layers).values()):
        return DoctorCheck("decode child", Level.OK, str(child.layers))
    return DoctorCheck(
        "decode child", Level.WARN, str(child.layers), "a hostile video finds less in its way here"
    )


def bundled_ffmpeg() -> DoctorCheck:
    """The ffmpeg program that a package brings."""
    import imageio_ffmpeg

    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        return DoctorCheck(
            "ffmpeg (bundled)",
            Level.FAIL,
            str(error),
            "pip install --force-reinstall imageio-ffmpeg",
        )
    return _program(
        "ffmpeg (bundled)", program, Level.FAIL, "pip install --force-reinstall imageio-ffmpeg"
    )


def system_ffmpeg() -> DoctorCheck:
    """The machine's own ffmpeg, which nothing needs."""
    program = shutil.which("ffmpeg")
    if program is None:
        return DoctorCheck("ffmpeg (system)", Level.OK, "none, and none is needed")
    return _program("ffmpeg (system)", program, Level.WARN, "it is not needed; remove or mend it")


def _program(name: str, program: str, level: Level, advice: str) -> DoctorCheck:
    try:
        done = subprocess.run(
            [program, "-version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROGRAM_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return DoctorCheck(name, level, f"does not run: {error}", advice)
    return DoctorCheck(name, Level.OK, " ".join(done.stdout.split()[:3]))


def disk_room(data_root: Path) -> DoctorCheck:
    """Free space where the data root is, or will be."""
    free = shutil.disk_usage(_existing(data_root)).free
    level = Level.OK if free >= COMFORTABLE_FREE_BYTES else Level.WARN
    if free < LEAST_FREE_BYTES:
        level = Level.FAIL
    advice = "" if level is Level.OK else "free some, or name another disk with --data-root"
    return DoctorCheck("disk", level, f"{free / 1e9:,.1f} GB free at {data_root}", advice)


def writable(data_root: Path) -> DoctorCheck:
    """Whether a file can be written as all our files are: whole, synced and without overwriting."""
    probe = temporary_beside(_existing(data_root) / "doctor")
    try:
        publish(probe, b"written by doctor\n", replace=False)
        remove(probe)
    except SystemicFault as fault:
        return DoctorCheck(
            "data root",
            Level.FAIL,
            str(fault),
            "mend its permissions, or name another with --data-root",
        )
    return DoctorCheck("data root", Level.OK, f"{data_root} can be written")


def _existing(folder: Path) -> Path:
    return next(
        place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir()
    )


def cores() -> DoctorCheck:
    """Processor cores this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    advice = "" if count > 1 else "decoding and networks share one core; expect half the speed"
    return DoctorCheck("cores", Level.OK if count > 1 else Level.WARN, str(count), advice)


def networks_device() -> DoctorCheck:
    """Torch, and a GPU if it sees one."""
    import torch

    if torch.cuda.is_available():
        names = ", ".join(
            torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())
        )
        return DoctorCheck("torch", Level.OK, f"{torch.__version__} with {names}")
    advice = "fine for the sample; for a large catalog use a machine with an NVIDIA GPU"
    return DoctorCheck("torch", Level.WARN, f"{torch.__version__} without a GPU", advice)

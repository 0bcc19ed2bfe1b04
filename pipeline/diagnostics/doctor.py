"""Checks whether this machine is fit for a run: one line per check, with advice.

Changes nothing, except for one small file that it writes and removes. Uses only the source's
address and the data root of the settings. Each check imports the heavy libraries that it needs.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

from models.extractors.registry import EXTRACTORS
from models.registry import PluginError
from pipeline.download.access.source import SourceSettings
from storage.base.errors import SystemicFault
from storage.base.extras import install_advice
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
    """Severity of a check's result."""

    OK = "ok"
    WARN = "warn"
    """A run works, but more slowly or with less protection."""
    FAIL = "fail"
    """A run would stop, or blame videos for a fault of the machine."""


@dataclass(frozen=True)
class DoctorCheck:
    """The result of one check."""

    name: str
    level: Level
    found: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<4}  {self.name:<18}  {self.found}"
        return f"{line}\n{'':26}-> {self.advice}" if self.advice else line


def examine_machine(source: SourceSettings, data_root: Path, today: date) -> Iterator[DoctorCheck]:
    """The results of all checks. `today` is for the age of yt-dlp."""
    yield python_version()
    yield from downloader(source, today)
    yield pyav_version()
    yield decoder_process()
    yield bundled_ffmpeg()
    yield system_ffmpeg()
    yield disk_room(data_root)
    yield data_root_writable(data_root)
    yield processor_cores()
    yield torch_device()
    yield from plugins()


def failed_quick_checks(
    source: SourceSettings, data_root: Path, today: date
) -> tuple[DoctorCheck, ...]:
    """The failures among the checks that take no time, before a run begins."""
    quick = (*downloader(source, today), disk_room(data_root), data_root_writable(data_root))
    return tuple(check for check in quick if check.level is Level.FAIL)


def python_version() -> DoctorCheck:
    """The interpreter."""
    found = platform.python_version()
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return DoctorCheck("Python", Level.OK, found)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return DoctorCheck("Python", Level.FAIL, found, f"use Python {oldest} or newer")


def downloader(source: SourceSettings, today: date) -> Iterator[DoctorCheck]:
    """yt-dlp, and what YouTube needs besides; a folder as source needs neither."""
    if source.folder is not None:
        yield DoctorCheck("downloader", Level.OK, "not needed: the source is a folder")
        return
    try:
        release = importlib.metadata.version("yt-dlp")
    except importlib.metadata.PackageNotFoundError:
        yield DoctorCheck("yt-dlp", Level.FAIL, "not installed", install_advice("download"))
        return
    yield yt_dlp_release(release, today)
    if source.is_youtube:
        yield javascript()
        yield challenge_solver()


def yt_dlp_release(version: str, today: date) -> DoctorCheck:
    """Whether a release of yt-dlp is safe and recent; its version is its date."""
    # A nightly release has a fourth number.
    numbers = [int(piece) for piece in version.split(".")[:3] if piece.isdigit()]
    update = "pip install --upgrade 'yt-dlp[default]'"
    if tuple(numbers) < SAFE_YT_DLP:
        safe = ".".join(map(str, SAFE_YT_DLP))
        return DoctorCheck(
            "yt-dlp", Level.FAIL, version, f"releases before {safe} are unsafe: {update}"
        )
    age_days = (today - date(*numbers)).days
    found = f"{version}, {age_days} days old"
    if age_days > YT_DLP_STALE_DAYS:
        return DoctorCheck("yt-dlp", Level.WARN, found, update)
    return DoctorCheck("yt-dlp", Level.OK, found)


def javascript() -> DoctorCheck:
    """A JavaScript runtime that yt-dlp can use. Without one, YouTube offers only still pictures."""
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
    """yt-dlp's scripts for YouTube's challenges, which are a separate package."""
    try:
        return DoctorCheck("yt-dlp-ejs", Level.OK, importlib.metadata.version("yt-dlp-ejs"))
    except importlib.metadata.PackageNotFoundError:
        return DoctorCheck(
            "yt-dlp-ejs", Level.FAIL, "not installed", "pip install --upgrade 'yt-dlp[default]'"
        )


def pyav_version() -> DoctorCheck:
    """The decoder and the FFmpeg libraries inside it."""
    import av

    # A wheel of PyAV contains its own FFmpeg; that of the system is not used.
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return DoctorCheck(
        "PyAV", Level.OK, f"{importlib.metadata.version('av')} with libavcodec {codec}"
    )


def decoder_process() -> DoctorCheck:
    """A real decoder process, and which layers of its sandbox work on this machine."""
    from pipeline.decoding.worker.worker_process import DecoderProcess
    from pipeline.media.decode_settings import DEFAULT_LIMITS

    # Started as for a real video: only then it is known which layers the kernel allows.
    try:
        child = DecoderProcess(DEFAULT_LIMITS)
    except SystemicFault as fault:
        return DoctorCheck(
            "decode child",
            Level.FAIL,
            str(fault),
            "repair this installation: `python -m pipeline.decoding.worker.worker_main`",
        )
    child.end()
    if all(vars(child.layers).values()):
        return DoctorCheck("decode child", Level.OK, str(child.layers))
    return DoctorCheck(
        "decode child",
        Level.WARN,
        str(child.layers),
        "the sandbox around a malicious video has fewer layers here",
    )


def bundled_ffmpeg() -> DoctorCheck:
    """The ffmpeg program that comes with a Python package."""
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
    """The machine's own ffmpeg, which is not needed."""
    program = shutil.which("ffmpeg")
    if program is None:
        return DoctorCheck("ffmpeg (system)", Level.OK, "none, and none is needed")
    return _program("ffmpeg (system)", program, Level.WARN, "it is not needed; remove or repair it")


def _program(name: str, program: str, level: Level, advice: str) -> DoctorCheck:
    try:
        # A program that exists may still not run, for instance built for another processor.
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
    """Free space on the disk of the data root, which may not exist yet."""
    free = shutil.disk_usage(_existing(data_root)).free
    found = f"{free / 1e9:,.1f} GB free at {data_root}"
    if free >= COMFORTABLE_FREE_BYTES:
        return DoctorCheck("disk", Level.OK, found)
    level = Level.WARN if free >= LEAST_FREE_BYTES else Level.FAIL
    advice = "free some space, or choose another disk with --data-root"
    return DoctorCheck("disk", level, found, advice)


def data_root_writable(data_root: Path) -> DoctorCheck:
    """Whether a file can be published like all our files: whole, synced, without overwriting."""
    # Published like all our files: a file system may allow writing, but not this.
    probe = temporary_beside(_existing(data_root) / "doctor")
    try:
        publish(probe, b"written by doctor\n", replace=False)
        remove(probe)
    except SystemicFault as fault:
        return DoctorCheck(
            "data root",
            Level.FAIL,
            str(fault),
            "correct its permissions, or choose another folder with --data-root",
        )
    return DoctorCheck("data root", Level.OK, f"{data_root} can be written")


def _existing(folder: Path) -> Path:
    """The folder, or its closest parent that exists."""
    folders = (folder.absolute(), *folder.absolute().parents)
    return next(place for place in folders if place.is_dir())


def processor_cores() -> DoctorCheck:
    """Processor cores that this process may use."""
    count = usable_cores()
    if count > 1:
        return DoctorCheck("cores", Level.OK, str(count))
    advice = "decoding and networks share one core; expect half the speed"
    return DoctorCheck("cores", Level.WARN, str(count), advice)


def usable_cores() -> int:
    """Number of cores that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def plugins() -> Iterator[DoctorCheck]:
    """One result for each extractor that another package offers; imports them."""
    for name in sorted(EXTRACTORS.plugin_names()):
        label = f"extractor {name}"
        try:
            EXTRACTORS.chosen(name)
        except PluginError as error:
            # A run that does not name it is not disturbed.
            yield DoctorCheck(label, Level.FAIL, str(error), "every run that names it is refused")
        else:
            yield DoctorCheck(label, Level.OK, f"from {EXTRACTORS.plugin_text(name)}")


def torch_device() -> DoctorCheck:
    """Torch, and the GPUs that it finds."""
    import torch

    if torch.cuda.is_available():
        numbers = range(torch.cuda.device_count())
        names = ", ".join(torch.cuda.get_device_name(number) for number in numbers)
        return DoctorCheck("torch", Level.OK, f"{torch.__version__} with {names}")
    advice = "fine for the sample; for a large catalog use a machine with an NVIDIA GPU"
    return DoctorCheck("torch", Level.WARN, f"{torch.__version__} without a GPU", advice)

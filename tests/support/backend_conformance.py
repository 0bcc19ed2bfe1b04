"""Every backend against the ffmpeg program: the same pictures at the same times. `python -m
tests.support.backend_conformance` prints the matrix.

The reference is the bundled ffmpeg's own `framemd5`: one line a frame with its time and the digest
of its rgb24 bytes.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest

from pipeline.decoding.backends import decord, torchcodec
from pipeline.decoding.video_reader import BACKENDS, DecodeSummary, VideoReader
from pipeline.media.decode_settings import DEFAULT_LIMITS
from storage.base.errors import SystemicFault, VideoError
from tests.support.video_cases import CASES, make
from tests.support.videos import ffmpeg


@dataclass(frozen=True)
class Shown:
    """One frame as somebody delivers it."""

    pts_seconds: float
    md5: str


@dataclass(frozen=True)
class Delivered:
    """What a backend made of a file: a verdict's reason, or frames and a summary."""

    refused: str
    frames: tuple[Shown, ...]
    summary: DecodeSummary | None

    @property
    def state(self) -> str:
        if self.summary is None:
            return f"refused: {self.refused}"
        return "salvaged" if self.summary.salvaged_by else "ok"


def by_ffmpeg(path: Path, *, since_start: bool = True) -> tuple[Shown, ...]:
    """Frames at their times on the stream's own clock or since the start, which is the stream's: it
    is mapped alone.

    One thread: with more, ffmpeg conceals damage differently from run to run.
    """
    only = (
        "-map",
        "0:v:0",
        "-fps_mode",
        "passthrough",
        "-enc_time_base",
        "demux",
        "-pix_fmt",
        "rgb24",
    )
    quiet = (
        "-loglevel",
        "quiet",
        "-threads",
        "1",
        "-copyts",
        *(("-start_at_zero",) if since_start else ()),
    )
    told = ffmpeg(*quiet, "-i", path, *only, "-f", "framemd5", "-").decode()
    base = next(
        Fraction(line.split()[-1]) for line in told.splitlines() if line.startswith("#tb 0")
    )
    rows = [line.split(",") for line in told.splitlines() if not line.startswith("#")]
    return tuple(Shown(float(int(row[2]) * base), row[5].strip()) for row in rows)


def by_backend(backend: str, path: Path) -> Delivered:
    try:
        decoding = VideoReader(
            "v", path, backend=backend, limits=DEFAULT_LIMITS, heartbeat=lambda: None
        )
        frames = tuple(
            Shown(frame.pts_seconds, _md5(frame.to_rgb().tobytes())) for frame in decoding
        )
        return Delivered("", frames, decoding.summary())
    except VideoError as error:
        return Delivered(error.status.reason, (), None)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


ON_PROCESSORS = tuple(backend for backend in BACKENDS if backend != "nvdec")
"""Backends that are held to ffmpeg wherever tests run; `test_nvdec.py` does so where there is a
GPU.
"""


@cache
def missing(backend: str) -> str:
    """Why this machine cannot load a backend's library; empty if it can."""
    try:
        if backend == "torchcodec":
            torchcodec.load_decoder()
        if backend == "decord":
            decord.load()
    except SystemicFault as fault:
        return str(fault)
    return ""


def need(backend: str) -> None:
    """Skip the test, loudly, where the library is not."""
    if missing(backend):
        pytest.skip(f"LOUD SKIP: {missing(backend)}; nothing is proved about this backend here")


def matrix(folder: Path) -> list[str]:
    """One line a case: its name, its frames, and what each backend made of it."""
    backends = [backend for backend in ON_PROCESSORS if not missing(backend)]
    lines = [f"{'case':22} {'frames':>6}  " + " ".join(f"{backend:24}" for backend in backends)]
    for name in CASES:
        path = make(folder, name)
        reference = by_ffmpeg(path)
        told = [by_backend(backend, path) for backend in backends]
        states = [one.state if one.frames in ((), reference) else "WRONG" for one in told]
        lines.append(
            f"{name:22} {len(reference):6}  " + " ".join(f"{state:24}" for state in states)
        )
    return [line.rstrip() for line in lines]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.stdout.write("\n".join(matrix(Path(temporary))) + "\n")

"""Each check on a machine with the fault and on one without; and the command itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections import namedtuple
from datetime import date
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.child_processes.sandbox import SandboxLayers
from pipeline.decoding.worker import worker_process
from pipeline.diagnostics import doctor
from pipeline.diagnostics.doctor import Level
from pipeline.download.access.source import SourceSettings
from pipeline.media.decode_settings import DecodeLimits
from tests.conftest import REPOSITORY

Usage = namedtuple("Usage", "total used free")
YOUTUBE = SourceSettings()


@pytest.mark.parametrize(
    ("version", "level", "advice"),
    [
        ("2026.10.26", Level.OK, ""),
        ("2026.9.1", Level.WARN, "pip install --upgrade"),  # 81 days before
        ("2026.6.9", Level.FAIL, "releases before 2026.7.4 are unsafe"),
        ("2025.12.31", Level.FAIL, "unsafe"),
    ],
)
def test_ytdlp_is_judged_by_its_release_day(version: str, level: Level, advice: str) -> None:
    finding = doctor.yt_dlp_release(version, date(2026, 11, 21))
    assert finding.level is level
    assert advice in finding.advice


def a_runtime(folder: Path, name: str, says: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o700)


def only_programs_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """yt-dlp looks beside this interpreter first, where the lock puts a deno."""
    scripts = sysconfig.get_path
    elsewhere = lambda name, *rest: str(folder) if name == "scripts" else scripts(name, *rest)  # noqa: E731
    monkeypatch.setattr(sysconfig, "get_path", elsewhere)


@pytest.mark.parametrize(
    ("name", "says", "level", "found"),
    [
        ("deno", "deno 2.5.1 (stable, release, x86_64-unknown-linux-gnu)", Level.OK, "deno 2.5.1"),
        (
            "deno",
            "deno 1.2.3 (stable, release, x86_64-unknown-linux-gnu)",
            Level.FAIL,
            "deno 1.2.3 is too old",
        ),
        ("node", "v16.0.0", Level.FAIL, "node 16.0.0 is too old"),
        ("perl", "v5", Level.FAIL, "no runtime on PATH"),
    ],
)
def test_a_javascript_runtime_is_looked_for_as_ytdlp_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str, level: Level, found: str
) -> None:
    a_runtime(tmp_path, name, says)
    only_programs_of(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda program: None)
    finding = doctor.javascript()
    assert (finding.level, finding.found) == (level, found)


@pytest.mark.parametrize(
    ("free", "level"),
    [(999_999_999, Level.FAIL), (1_000_000_000, Level.WARN), (20_000_000_000, Level.OK)],
)
def test_disk_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, free))
    assert doctor.disk_room(tmp_path / "not" / "yet").level is level


def test_writing_is_tried_and_leaves_nothing(tmp_path: Path) -> None:
    assert doctor.data_root_writable(tmp_path / "not" / "yet").level is Level.OK
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_does_not_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    finding = doctor.bundled_ffmpeg()
    assert finding.level is Level.FAIL
    assert "exit status 3" in finding.found
    monkeypatch.setattr(shutil, "which", lambda _: str(broken))
    assert doctor.system_ffmpeg().level is Level.WARN


@pytest.mark.parametrize(
    ("missing", "level", "found"),
    [
        ((), Level.OK, "7 of 7 layers: "),
        (("no_network",), Level.WARN, "without no_network"),
    ],
)
def test_a_decode_child_is_started_and_says_what_it_gave_up(
    monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], level: Level, found: str
) -> None:
    layers = SandboxLayers(
        **{name: name not in missing for name in SandboxLayers.__dataclass_fields__}
    )

    class Told:
        def __init__(self, _: DecodeLimits) -> None:
            self.layers = layers

        def end(self) -> None:
            pass

    monkeypatch.setattr(worker_process, "DecoderProcess", Told)
    finding = doctor.decoder_process()
    assert finding.level is level
    assert found in finding.found


def test_a_decode_child_that_does_not_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    finding = doctor.decoder_process()
    assert finding.level is Level.FAIL
    assert "did not start" in finding.found


def test_before_a_run_from_a_folder_nothing_of_the_web_is_asked_for(tmp_path: Path) -> None:
    assert (
        doctor.failed_quick_checks(SourceSettings(str(tmp_path)), tmp_path, date(2040, 1, 1)) == ()
    )


def test_before_a_run_from_youtube_a_missing_runtime_is_fatal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_programs_of(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    names = [
        finding.name
        for finding in doctor.failed_quick_checks(YOUTUBE, tmp_path, date(2026, 11, 21))
    ]
    assert "JavaScript" in names


def test_the_command_prints_a_line_per_check_and_says_by_its_status_whether_a_run_can_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["doctor", "--data-root", str(tmp_path), "--source"]
    fit = subprocess.run(
        [sys.executable, "-m", "pipeline", *words, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    levels = [line.split()[0] for line in fit.stdout.splitlines() if not line.startswith(" ")]
    assert set(levels) <= set(Level)
    assert (fit.returncode, fit.stderr, len(levels)) == (int("fail" in levels), "", 10)
    assert re.search(
        r"^(ok|warn) +decode child +\d of 7 layers: .*no_new_files, no_core",
        fit.stdout,
        re.MULTILINE,
    )
    assert list(tmp_path.iterdir()) == []
    assert main([*words, "gopher://x/{id}"]) == 2
    wrong = capsys.readouterr()
    assert wrong.out == ""
    assert "must begin with http:// or https://" in wrong.err

"""Commands whose reader leaves, as `head` does, end in silence; any other broken pipe is an error
still.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from storage.__main__ import main
from storage.commands import READER_LEFT, run_and_exit
from tests.conftest import REPOSITORY
from tests.support.feature_samples import make_store

COMMANDS = {
    "pipeline, many lines": ("pipeline", "weights", "list"),
    "pipeline, help": ("pipeline", "--help"),
    "trainer, help": ("trainer", "--help"),
    "storage, help": ("storage", "audit", "--help"),
    "storage, nothing there": ("storage", "audit", "/nowhere"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_left_is_not_complained_to(command: str) -> None:
    """The pipe is closed before the first line, which is what a slow program finds."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", *COMMANDS[command]],
            cwd=REPOSITORY,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        os.close(writing)
    if command == "storage, nothing there":  # says nothing on standard output
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    else:
        # argparse writes its help in a way of its own, and does not mind
        assert (
            done.returncode in ({0, READER_LEFT} if "help" in command else {READER_LEFT}),
            done.stderr,
        ) == (
            True,
            "",
        )


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_lines_written_before_the_reader_left_are_there(stream: str) -> None:
    """`… | head -1`: one line is read, thousands are not."""
    program = (
        "import sys\nfrom storage.commands import run_and_exit\n"
        f"def main():\n for i in range(200_000): print(i, file=sys.{stream})\n return 0\nrun_and_exit(main)"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        read, other = (
            (process.stdout, process.stderr)
            if stream == "stdout"
            else (process.stderr, process.stdout)
        )
        assert read is not None
        assert other is not None
        assert read.readline() == b"0\n"
        read.close()
        said = other.read()
        assert (process.wait(60), said) == (READER_LEFT, b"")


def test_a_pipe_to_somebody_else_that_breaks_is_told() -> None:
    program = (
        "from storage.commands import run_and_exit\n"
        "def main(): raise BrokenPipeError(32, 'a child is gone')\nrun_and_exit(main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "a child is gone" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("report", "MODEL", "FOLDER"), "no checkpoint MODEL: it does not exist"),
        (("predict", "MODEL", "FOLDER", "video"), "no checkpoint MODEL: it does not exist"),
        (("score", "storage", "FOLDER"), "no checkpoint storage: it is a folder"),
        (("maps", "README.md", "storage"), "no catalog in storage; give ROOT/<catalog>"),
    ],
)
def test_what_is_not_there_is_told_before_networks_are_imported(
    arguments: tuple[str, ...], told: str
) -> None:
    program = (
        "import sys\nfrom trainer.__main__ import main\n"
        f"code = main({list(arguments)})\nprint(code, sorted({{'torch', 'cv2', 'matplotlib'}} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "2 []\n"
    assert done.stderr.startswith(told)


def test_the_commands_of_the_pipeline_start_without_torch() -> None:
    program = "import sys, pipeline.__main__; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize("instead", ["folder", "lost link", "locked"])
@pytest.mark.parametrize("command", [["audit"], ["audit", "--repair"], ["digest"], ["compact"]])
def test_what_cannot_be_read_is_told_without_a_traceback(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    instead: str,
) -> None:
    variant = make_store(tmp_path)
    manifest = variant.manifest(0)
    variant.index_file.unlink(missing_ok=True)  # else it is believed, and no sidecar is read
    if instead == "locked":  # as for people who are not root
        usual = Path.open

        def locked(path: Path, *how: Any, **more: Any) -> Any:
            if path.name == manifest.name:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return usual(path, *how, **more)

        monkeypatch.setattr(Path, "open", locked)
    else:
        manifest.unlink()
        manifest.mkdir() if instead == "folder" else manifest.symlink_to("/nowhere/that/is")

    with pytest.raises(SystemExit) as ended:
        run_and_exit(lambda: main([*command, str(manifest.parents[2])]))

    assert ended.value.code == 4
    assert f"cannot use {manifest}: " in capsys.readouterr().err


def test_a_file_that_nobody_expected_to_be_missing_is_a_bug_still(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_and_exit(lambda: len((tmp_path / "gone").read_bytes()))

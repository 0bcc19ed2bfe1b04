"""The command as a person runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.view_stores import FILM, SHORT, write_viewed_store
from trainer.__main__ import main


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_viewed_store(tmp_path_factory.mktemp("view"))


def test_it_serves_until_ctrl_c(seen: Path) -> None:
    command = [sys.executable, "-m", "trainer", "view", str(seen)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        name, address = process.stdout.readline().split()
        assert name == "view"
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310  # on loopback
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address.rsplit("/", 2)[0] + "/", timeout=30)  # noqa: S310
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "70000"), "--port must be 0 to 65535, got 70000"),
        (("--static", FILM), "--static needs --out FILE"),
        (("--out", "x.html"), "need --static VIDEO_ID"),
        (("--with-video",), "need --static VIDEO_ID"),
        (("--static=unknown", "--out", "x.html"), "has no video 'unknown'"),
        ((f"--static={SHORT}", "--out", "x.html", "--with-video"), "has no video"),
    ],
)
def test_wrong_use(
    seen: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tuple(f"--static={FILM}" if one == "--static" else one for one in arguments)
    given = [one for one in arguments if one != FILM]
    assert main(["view", str(seen), *given]) == 2
    assert message in capsys.readouterr().err
    assert not Path("x.html").exists()


def test_a_folder_without_a_catalog(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(tmp_path)]) == 2
    assert "no catalog in" in capsys.readouterr().err


def test_a_single_file(seen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main(["view", str(seen), f"--static={FILM}", "--out", str(out)]) == 0
    assert "with stored pictures" in capsys.readouterr().out
    page = out.read_text()
    assert "<script>document.title=" not in page
    # Its own two, and the data, which is no program.
    assert page.count("<script") == 2
    assert "http-equiv=" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")

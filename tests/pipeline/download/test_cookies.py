"""A cookie file is checked, copied into memory, never written, and never quoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.download.access.cookies import Jar, cookie_faults, cookie_jar, cookie_values
from storage.base.errors import SystemicFault

GOOD = (
    "# Netscape HTTP Cookie File\n\n.example.org\tTRUE\t/\tTRUE\t4102444800\tSID\tCANARY-cookie\n"
    "#HttpOnly_.example.org\tTRUE\t/\tTRUE\t0\tLANG\ten\n"
)


def cookie_file(folder: Path, text: str = GOOD, mode: int = 0o600) -> str:
    path = folder / "cookies.txt"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_good_file_has_no_faults_and_its_values_are_known_as_secrets(tmp_path: Path) -> None:
    path = cookie_file(tmp_path)
    assert cookie_faults(path) == ()
    assert cookie_values(path) == ("CANARY-cookie",)
    assert cookie_jar(path) is cookie_jar(path)


@pytest.mark.parametrize(
    ("text", "mode", "fault"),
    [
        (GOOD, 0o640, "can be read by others; run chmod 600"),
        ("SID=CANARY\n", 0o600, "does not begin with '# Netscape HTTP Cookie File'"),
        (GOOD + "CANARY without tabs\n", 0o600, "has no cookie of 7 fields in line 5"),
        (GOOD.replace("4102444800", "CANARY"), 0o600, "has no cookie of 7 fields in line 3"),
        ('[{"name": "CANARY"}]', 0o600, "does not begin with"),
        ("", 0o600, "does not begin with"),
    ],
)
def test_a_faulty_file_is_told_without_quoting_it(
    tmp_path: Path, text: str, mode: int, fault: str
) -> None:
    path = cookie_file(tmp_path, text, mode)
    told = " ".join(cookie_faults(path))
    assert fault in told
    assert "CANARY" not in told
    with pytest.raises(SystemicFault, match="source cookies_file"):
        cookie_jar(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    (told,) = cookie_faults(str(tmp_path / "none"))
    assert told.endswith("cannot be read: No such file or directory.")


def test_a_jar_is_written_over_from_its_beginning() -> None:
    copy = Jar("a long first content")
    copy.read()
    copy.truncate(0)
    copy.write("short")
    assert copy.getvalue() == "short"

"""Settings of a source: every fault is one sentence, and good ones have none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.download.access.source import SourceSettings


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (SourceSettings("https://mirror.example/video"), r"needs \{id\} in its path or query"),
        (SourceSettings("file:///videos/{id}"), "must begin with http:// or https://"),
        (SourceSettings("ftp://mirror.example/{id}"), "must begin with http:// or https://"),
        (SourceSettings("https://{id}.example/{id}"), "before its path"),
        (SourceSettings("https://user:secret@mirror.example/{id}"), "may hold no user name"),
        (SourceSettings("http://[::1/{id}"), "is not an address"),
        (SourceSettings("http://mirror.example:99999/{id}"), "is not an address .*Port"),
        (SourceSettings("http://mirror.example:web/{id}"), "is not an address .*Port"),
        (SourceSettings("http://mirror.example:0/{id}"), "is not an address"),
        (SourceSettings("http://mirror.example :80/{id}"), "is not an address"),
        (SourceSettings(__file__), "is a file; name the folder"),
        (SourceSettings("no/such/folder"), "does not exist; make it"),
        (SourceSettings(attempts=0), "source attempts is 0; it must be at least 1"),
        (SourceSettings(max_height=0), "source max_height is 0"),
        (
            SourceSettings(socket_timeout_seconds=float("nan")),
            "source socket_timeout_seconds is nan",
        ),
        (
            SourceSettings(socket_timeout_seconds=1e10),
            "socket_timeout_seconds is 1.*; it must be at most 86,400, a day",
        ),
        (SourceSettings(max_bytes=0), "source max_bytes is 0"),
        (
            SourceSettings(proxy="me:secret@proxy.example:3128"),
            "source proxy must name a host and a port",
        ),
        (
            SourceSettings(proxy="http://me:secret@proxy.example:many"),
            "source proxy must name a host and a port",
        ),
        (
            SourceSettings(proxy="https://me:secret@proxy.example"),
            "source proxy must name a host and a port",
        ),
        (SourceSettings(cookies_file="no/such/file"), "cannot be read"),
        (SourceSettings(backoff_seconds=-1.0), "source backoff_seconds is -1.0"),
    ],
)
def test_faulty_settings_are_told_in_one_sentence_without_secrets(
    settings: SourceSettings, fault: str
) -> None:
    (told,) = settings.faults()
    assert re.search(fault, told)
    assert "secret" not in told


def test_good_settings_have_no_faults(tmp_path: Path) -> None:
    good = ("http://127.0.0.1:1/{id}.mp4", "https://mirror.example/get?v={id}&q=1", str(tmp_path))
    assert [SourceSettings(template).faults() for template in good] == [(), (), ()]
    assert SourceSettings().faults() == ()
    assert SourceSettings().name == "https://www.youtube.com/watch?v={id}"
    signed = SourceSettings("https://mirror.example/get?key=SECRET&v={id}&flag")
    assert signed.name == "https://mirror.example/get?key=...&v={id}&flag"
    assert "SECRET" not in repr(signed)
    assert SourceSettings().address("-a_B") == "https://www.youtube.com/watch?v=-a_B"

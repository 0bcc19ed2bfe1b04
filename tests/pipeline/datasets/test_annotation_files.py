"""Annotation files come from paths and http(s) addresses, whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.datasets.parsing.annotation_files import read_source
from storage.base.errors import SettingsError, SystemicFault
from tests.support.faulty_server import Answer, Mirror, body, cut, redirect_to_itself, reset, status


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def address(mirror: Mirror, answer: Answer) -> str:
    mirror.answers["training.csv"] = answer
    return mirror.template.format(id="training.csv")


def test_a_path_is_read(tmp_path: Path) -> None:
    (tmp_path / "training.csv").write_bytes(b"a\r\n\xff")
    assert read_source(str(tmp_path / "training.csv")) == b"a\r\n\xff"


def test_an_address_is_fetched(mirror: Mirror) -> None:
    assert read_source(address(mirror, body(b"a\r\n\xff", "text/csv"))) == b"a\r\n\xff"
    assert len(mirror.requests) == 1


@pytest.mark.parametrize("code", [403, 404, 410])
def test_a_wrong_address_is_a_wrong_setting(mirror: Mirror, code: int) -> None:
    with pytest.raises(SettingsError, match=f"answers {code} .*Correct the address"):
        read_source(address(mirror, status(code)))


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_tired_server_is_no_wrong_setting(mirror: Mirror, code: int) -> None:
    with pytest.raises(SystemicFault, match=f"answers {code} .*again later"):
        read_source(address(mirror, status(code)))


@pytest.mark.parametrize(
    ("answer", "message"),
    [(cut(b"x" * 1000, 400), "400 of 1,000 bytes"), (reset, "cannot be fetched now")],
    ids=["cut", "reset"],
)
def test_half_a_file_is_no_file(mirror: Mirror, answer: Answer, message: str) -> None:
    with pytest.raises(SystemicFault, match=message):
        read_source(address(mirror, answer))


def test_a_redirect_loop_ends(mirror: Mirror) -> None:
    with pytest.raises(SettingsError, match="answers 30"):
        read_source(address(mirror, redirect_to_itself))


def test_a_redirect_never_reaches_a_file(mirror: Mirror, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    with pytest.raises(SettingsError, match="answers 302"):
        read_source(
            address(mirror, lambda handler: handler.reply(302, b"", Location=secret.as_uri()))
        )


def test_too_large_a_file_is_another_file(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 11)
    for place in (str(tmp_path / "large"), address(mirror, body(b"x" * 11))):
        with pytest.raises(SettingsError, match="larger than 10 bytes"):
            read_source(place, max_bytes=10)
    assert read_source(str(tmp_path / "large"), max_bytes=11) == b"x" * 11


@pytest.mark.parametrize(
    "place", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data://x", "no/such/file", "."]
)
def test_other_places_are_refused(place: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(place)):
        read_source(place)


def test_a_dead_host_is_the_networks_fault() -> None:
    with pytest.raises(SystemicFault, match="cannot be fetched now"):
        read_source("http://127.0.0.1:9/training.csv")

"""Addresses of a user's list: pages of any site, playlists, and names that lead to private hosts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipeline.download.access.rate_limiter import NoLimit
from pipeline.download.access.source import SourceSettings
from pipeline.download.fetch import fetch
from pipeline.download.http.public_addresses import PrivateAddress, connect_to_public, is_public
from pipeline.download.playlists import playlist_reader
from storage.base.errors import SettingsError, VideoError
from storage.base.paths import Layout
from storage.base.video_status import State
from tests.support import faulty_server as web
from tests.support.faulty_server import MP4, Mirror


def listed(address: str, *, allow_private: bool = True) -> SourceSettings:
    return SourceSettings(
        address,
        attempts=1,
        backoff_seconds=0,
        socket_timeout_seconds=10,
        is_listed=True,
        is_one_of_many=True,
        allow_private=allow_private,
    )


def page(html: str) -> web.Answer:
    return web.body(html.encode(), "text/html; charset=utf-8")


def fetched(source: SourceSettings, root: Path) -> object:
    return fetch("mine", layout=Layout(root, "own"), shard=0, source=source, rate_limiter=NoLimit())


def test_a_page_with_a_video_in_it(mirror: Mirror, tmp_path: Path) -> None:
    base = mirror.template.replace("{id}", "")
    html = (
        "<html><head><title>A film &lt;b&gt;</title></head><body>"
        f'<video src="{base}film.mp4"></video></body></html>'
    )
    mirror.answers |= {"watch": page(html), "film.mp4": web.body(MP4)}
    media = fetch(
        "mine",
        layout=Layout(tmp_path, "own"),
        shard=0,
        source=listed(f"{base}watch"),
        rate_limiter=NoLimit(),
    )
    assert media.path.read_bytes() == MP4
    assert str(media.facts["title"]).startswith("A film")
    assert media.facts["extractor_key"] == "HTML5MediaEmbed"


def feed(base: str) -> str:
    items = "".join(
        f"<item><title>Part {n}</title><link>{base}{n}.mp4</link></item>" for n in (1, 2, 3)
    )
    return (
        '<?xml version="1.0"?><rss version="2.0"><channel><title>Feed</title>'
        f"{items}</channel></rss>"
    )


def test_a_playlist_is_one_verdict_unless_its_videos_are_asked_for(
    mirror: Mirror, tmp_path: Path
) -> None:
    base = mirror.template.replace("{id}", "")
    mirror.answers["feed"] = web.body(feed(base).encode(), "application/rss+xml")
    source = listed(f"{base}feed")
    with pytest.raises(VideoError) as caught:
        fetched(source, tmp_path)
    assert caught.value.status.reason == "playlist"
    videos = playlist_reader(source)(f"{base}feed")
    assert [address for address, _ in videos] == [f"{base}{n}.mp4" for n in (1, 2, 3)]
    assert [title for _, title in videos] == ["Part 1", "Part 2", "Part 3"]


def test_a_playlist_that_does_not_answer_is_a_fault_of_the_request(mirror: Mirror) -> None:
    address = mirror.template.replace("{id}", "nothing")
    with pytest.raises(SettingsError, match="cannot be listed now"):
        playlist_reader(SourceSettings())(address)


@pytest.mark.parametrize("name", ["film.mp4", "page"])
def test_a_private_host_is_not_asked(mirror: Mirror, tmp_path: Path, name: str) -> None:
    address = mirror.template.replace("{id}", name)
    with pytest.raises(VideoError) as caught:
        fetched(listed(address, allow_private=False), tmp_path)
    assert caught.value.status.reason == "private_address"
    assert caught.value.status.state is State.REJECTED
    assert mirror.requests == []


def test_a_dead_host_is_the_fault_of_its_video(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(VideoError) as caught:
        fetched(listed(f"http://127.0.0.1:{port}/film.mp4"), tmp_path)
    assert caught.value.status.reason == "network"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("1.1.1.1", True),
        ("2606:4700:4700::1111", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104  # nothing is bound
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:1.1.1.1", True),
    ],
)
def test_which_addresses_are_public(number: str, expected: bool) -> None:
    assert is_public(number) is expected


def test_one_private_answer_of_a_name_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(0, 0, 0, "", ("1.1.1.1", 80)), (0, 0, 0, "", ("10.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(PrivateAddress, match=r"mixed\.example leads to 10\.0\.0\.1"):
        connect_to_public(("mixed.example", 80))


def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [(0, 0, 0, "", ("1.1.1.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    asked: list[object] = []
    monkeypatch.setattr(
        socket,
        "create_connection",
        lambda address, *_, **__: asked.append(address),
    )
    connect_to_public(("public.example", 80))
    assert asked == [("1.1.1.1", 80)]

"""The server as a client sees it: who is answered, what is sent, and what a damaged store does."""

from __future__ import annotations

import shutil
import socket
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from storage.base.errors import LookupFailed, SettingsError
from tests.support.view_stores import (
    FILM,
    HOSTILE_PERSON,
    HOSTILE_TITLE,
    LIKED,
    MARK,
    MISSING,
    SHORT,
    box_of,
    write_large_catalog,
    write_viewed_store,
)
from tests.trainer.view.conftest import Client, serving
from trainer.view.server import StoreServer

PATHS = ("", "look.css", "view.js", "icon.svg", f"video/{FILM}", "api/videos", f"media/{FILM}")
TRAVERSALS = (
    "media/../catalog.json",
    "media/..%2f..%2fcatalog.json",
    "media/%2e%2e/%2e%2e/etc/passwd",
    "media//etc/passwd",
    "media/%00",
    f"media/{FILM}.mp4",
    f"media/{FILM}%00.mp4",
    f"media/{FILM}/",
    "media/unknown00001",
    "look.css/../server.py",
    "server.py",
    "templates/list.html.jinja",
    "../look.css",
    f"api/videos/{FILM}/features/..%2f..",
    f"frame/{FILM}%2f..?at=0",
)


@pytest.mark.parametrize("path", PATHS)
def test_all_answers_have_the_headers_that_protect(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "data:" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_answered_without_the_token(client: Client, path: str) -> None:
    token = client.server.token
    wrong = "A" * len(token)
    for start in ("", f"/{wrong}", f"/{token}x", f"/{token[:-1]}", "//"):
        answer = client.raw(f"{start}/{path}")
        assert answer.status == 403, start
        assert token not in answer.text
        assert FILM not in answer.text
    assert client.raw(f"/{path}?token={token}").status == 403


@pytest.mark.parametrize("path", PATHS)
def test_another_host_is_refused(client: Client, path: str) -> None:
    port = client.server.server_port
    assert client.get(path, Host=f"localhost:{port}").status == 200
    for host in ("attacker.example", f"attacker.example:{port}", "127.0.0.1", f"[::1]:{port}", ""):
        assert client.get(path, Host=host).status == 403, host


def test_it_listens_on_loopback_only(client: Client) -> None:
    assert client.server.socket.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"]
)
def test_other_methods_are_refused(client: Client, method: str) -> None:
    answer = client.raw(f"/{client.server.token}/", method)
    assert answer.status == 501
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_head_sends_no_body(client: Client) -> None:
    for path in PATHS:
        whole = client.get(path)
        head = client.raw(f"/{client.server.token}/{path}", "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(whole.body))


@pytest.mark.parametrize("path", TRAVERSALS)
def test_only_ids_and_known_files_are_served(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status == 404
    assert b"root:" not in answer.body
    assert not answer.headers["content-type"].startswith("video")


@pytest.mark.parametrize(
    "line", [b"GET http://127.0.0.1/ HTTP/1.1", b"GET * HTTP/1.1", b"GET", b"\x00\xff\x00"]
)
def test_other_request_lines_are_refused(client: Client, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", client.server.server_port), timeout=30) as raw:
        host = f"Host: 127.0.0.1:{client.server.server_port}".encode()
        raw.sendall(line + b"\r\n" + host + b"\r\nConnection: close\r\n\r\n")
        raw.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert b" 400 " in answer.split(b"\n")[0] + b" 400 " * (b"HTTP" not in answer)
    assert b"sample" not in answer


class Tags(HTMLParser):
    """The elements of a page, as a browser finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_no_page_has_an_inline_script_style_or_handler(client: Client) -> None:
    for path in ("", f"video/{FILM}", "video/unknown00001"):
        page = Tags()
        page.feed(client.get(path).text)
        assert page.found
        for tag, attributes in page.found:
            assert tag != "style"
            assert tag != "script" or attributes["src"] in ("view.js", "../view.js")
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            for value in attributes.values():
                assert not (value or "").startswith(("http:", "https:", "//", "javascript:"))


def test_hostile_titles_are_escaped_in_html_and_json(client: Client) -> None:
    page = Tags()
    page.feed(client.get(f"video/{FILM}").text)
    assert [attributes.get("id") for tag, attributes in page.found if tag == "img"] == ["still"]
    assert len([tag for tag, _ in page.found if tag == "script"]) == 1
    for path in ("api/videos", f"api/videos/{FILM}"):
        answer = client.get(path)
        assert b"<" not in answer.body
        assert b">" not in answer.body
    details = client.get(f"api/videos/{FILM}").json
    assert details["title"] == HOSTILE_TITLE
    assert details["metadata"]["camera"] == "<i>old</i>"
    assert {lane["annotator"] for lane in details["labels"]["lanes"]} == {"anna", HOSTILE_PERSON}


def test_a_range_of_media(client: Client, seen: Path) -> None:
    content = (seen / "sources" / f"{FILM}.mp4").read_bytes()
    whole = client.get(f"media/{FILM}")
    assert (whole.status, whole.body) == (200, content)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["accept-ranges"] == "bytes"
    part = client.get(f"media/{FILM}", Range="bytes=10-19")
    assert (part.status, part.body) == (206, content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"
    assert client.get(f"media/{FILM}", Range="bytes=-7").body == content[-7:]
    assert client.get(f"media/{FILM}", Range=f"bytes={len(content) - 3}-").body == content[-3:]
    refused = client.get(f"media/{FILM}", Range=f"bytes={len(content)}-")
    assert refused.status == 416
    assert refused.headers["content-range"] == f"bytes */{len(content)}"
    assert refused.headers["content-type"].startswith("text/plain")
    etag = whole.headers["etag"]
    assert client.get(f"media/{FILM}", Range="bytes=0-0", If_Range=etag).status == 206
    assert client.get(f"media/{FILM}", Range="bytes=0-0", If_Range='"older"').status == 200


def test_a_video_without_a_file_says_why(client: Client) -> None:
    assert client.get(f"media/{MISSING}").status == 404
    media = client.get(f"api/videos/{MISSING}").json["media"]
    assert not media["is_available"]
    assert "no file of it was fetched" in media["reason"]


def test_search_filter_and_pages(client: Client) -> None:
    everything = client.get("api/videos").json
    assert (everything["total"], everything["matching"]) == (4, 4)
    (found,) = client.get("api/videos?q=QUIET+walk").json["videos"]
    assert (found["id"], found["title"]) == (LIKED, "A quiet walk")
    assert client.get("api/videos?q=film_0").json["videos"][0]["id"] == FILM
    rejected = client.get("api/videos?state=rejected").json["videos"]
    assert [video["id"] for video in rejected] == [SHORT]
    exact = client.get("api/videos?state=rejected:too_short").json
    assert exact["matching"] == 1
    yolov5 = next(one["name"] for one in everything["variants"] if one["name"].startswith("yolov5"))
    done = client.get(f"api/videos?state=done&variant={yolov5}").json["videos"]
    assert [video["id"] for video in done] == [FILM]
    assert client.get("api/videos?q=" + "x" * 3000).json["matching"] == 0
    assert client.get("api/videos?page=-1").json["page"] == 1
    assert client.get("api/videos?page=99999999999999999999").json["page"] == 1
    assert client.get("api/videos?page=%D9%A3").json["page"] == 1


def test_marks_are_in_the_list_and_on_the_video(client: Client) -> None:
    variants = client.get("api/videos").json["variants"]
    noted = {one["name"].split("-")[0] for one in variants if MARK in " ".join(one["notes"])}
    assert noted == {"c3d", "tased"}
    details = client.get(f"api/videos/{FILM}").json
    assert [lane["notes"] for lane in details["scores"]["lanes"]] == [[f"c3d: {MARK}"]] * 2


def test_overlays_of_a_range_of_time(client: Client) -> None:
    answer = client.get(f"api/videos/{FILM}/overlays?from=2.0&to=2.3").json
    kinds = {(one["array"], one["kind"]) for one in answer["overlays"]}
    assert kinds == {("detections", "boxes"), ("joints", "joints"), ("saliency", "saliency")}
    boxes = next(one for one in answer["overlays"] if one["kind"] == "boxes")
    # Spans are half-open: [1.9, 2.0) does not meet the range, [2.2, 2.3) does.
    assert boxes["first_row"] == 20
    assert len(boxes["spans"]) == 3
    left, top, *_, kind = boxes["items"][0][0]
    assert (left, top, kind) == (*box_of(20), 20)
    for query in ("", "?from=0", "?from=nan&to=1", "?from=0&to=inf", "?from=a&to=b"):
        assert client.get(f"api/videos/{FILM}/overlays{query}").status == 404


def test_features_as_colours_and_counts(client: Client) -> None:
    variants = client.get(f"api/videos/{FILM}").json["variants"]
    strips: dict[str, Any] = {}
    for variant in variants:
        answer = client.get(f"api/videos/{FILM}/features/{variant['name']}").json
        strips |= {strip["array"]: strip for strip in answer["strips"]}
        assert answer["rows"] == variant["rows"]
    assert {name: strip["kind"] for name, strip in strips.items()} == {
        "fc6": "colours", "jpeg": "pictures", "joints": "counts", "saliency": "colours",
        "detections": "counts",
    }  # fmt: skip
    assert len(strips["fc6"]["values"]) == 7
    assert all(0 <= level <= 255 for colour in strips["fc6"]["values"] for level in colour)
    assert strips["detections"]["values"] == [1.0] * 120


def test_a_stored_picture(client: Client) -> None:
    answer = client.get(f"frame/{FILM}?at=3.2")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.body == client.get(f"frame/{FILM}?at=3.0").body
    assert answer.body != client.get(f"frame/{FILM}?at=2.99").body
    assert client.get(f"frame/{SHORT}?at=0").status == 404


def test_liked_clips_with_weights(client: Client) -> None:
    (found,) = client.get(f"api/videos/{FILM}").json["predictions"]["predictions"]
    assert found["has_attention"]
    first, second = found["history"]
    assert (first["video_id"], first["weights"]) == (LIKED, {"attention": [0.75, 0.25, 0.5]})
    assert (first["has_media"], first["has_picture"]) == (True, True)
    assert (second["has_media"], second["has_picture"]) == (False, False)


def test_ten_thousand_videos_come_in_pages(tmp_path: Path) -> None:
    with serving(write_large_catalog(tmp_path, 10_000)) as client:
        first = client.get("api/videos").json
        assert (first["matching"], first["pages"], len(first["videos"])) == (10_000, 200, 50)
        found = client.get("api/videos?q=number+9999").json["videos"]
        assert [video["id"] for video in found] == ["video009999"]
        missing = client.get("api/videos?state=unavailable&page=20").json
        assert (missing["matching"], missing["page"]) == (1000, 20)
        assert missing["videos"][-1]["id"] == "video009990"


DAMAGES = {
    "an empty part": ("features/yolov5-*/shard_*.p000.h5", b""),
    "a manifest of rubbish": ("features/yolov5-*/shard_*.json", b"{}"),
    "no settings": ("features/yolov5-*/settings.json", None),
    "scores": ("scores/one.test/run.json", b'{"format": 3}'),
    "a prediction": ("report/*.json", b'{"video_id": "' + FILM.encode() + b'", "segments": 5}'),
    "a deep prediction": ("report/*.json", b"[" * 100_000),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_part_gives_a_message_and_leaves_the_rest(tmp_path: Path, name: str) -> None:
    folder = write_viewed_store(tmp_path, with_media=False)
    pattern, content = DAMAGES[name]
    for path in folder.glob(pattern):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    for index in folder.glob("features/*/index.bin"):
        index.unlink()
    with serving(folder) as client:
        assert client.get(f"video/{FILM}").status == 200
        assert client.get("api/videos").json["total"] == 4
        details = client.get(f"api/videos/{FILM}").json
        problems = [*details["problems"], *details["scores"]["problems"]]
        problems += details["predictions"]["problems"]
        problems += [one["problem"] for one in details["variants"] if one["problem"]]
        assert problems
        c3d = next(one for one in details["variants"] if one["name"].startswith("c3d"))
        assert c3d["rows"] == 7
        overlays = client.get(f"api/videos/{FILM}/overlays?from=0&to=1").json
        assert "tased" in {one["variant"].split("-")[0] for one in overlays["overlays"]}


def test_a_damaged_catalog_gives_a_message(tmp_path: Path) -> None:
    folder = write_viewed_store(tmp_path, with_media=False)
    (folder / "videos.csv").write_text("damaged")
    with serving(folder) as client:
        assert client.get("").status == 200
        answer = client.get("api/videos")
        assert answer.status == 500
        assert "sha256" in answer.json["problem"]
        assert client.get(f"video/{FILM}").status == 500


def test_a_build_that_goes_on_is_seen(tmp_path: Path) -> None:
    folder = write_viewed_store(tmp_path, with_media=False)
    with serving(folder) as client:
        assert len(client.get("api/videos").json["variants"]) == 5
        (c3d,) = folder.glob("features/c3d-*")
        shutil.rmtree(c3d)
        # It looks again after twenty times the time that opening took.
        while len(client.get("api/videos").json["variants"]) == 5:
            time.sleep(0.05)
        assert len(client.get("api/videos").json["variants"]) == 4


def test_a_server_needs_a_catalog_and_a_free_port(
    tmp_path: Path, client: Client, seen: Path
) -> None:
    with pytest.raises(LookupFailed, match="no catalog in"):
        StoreServer(tmp_path)
    with pytest.raises(SettingsError, match="--port 0 takes a free one"):
        StoreServer(seen, client.server.server_port)

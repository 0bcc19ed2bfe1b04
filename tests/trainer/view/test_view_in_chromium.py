"""The pages in a real Chromium: seeking, overlays on their frames, both sizes, nothing outside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.chromium import Browser, browser, needs_chromium
from tests.support.view_stores import (
    BOX_PIXELS,
    FILM,
    FRAMES_PER_SECOND,
    HEIGHT,
    HOSTILE_PERSON,
    HOSTILE_TITLE,
    LIKED,
    WIDTH,
    box_of,
    write_viewed_store,
)
from tests.trainer.view.conftest import Client, serving
from trainer.view.static_page import write_static_page

pytestmark = needs_chromium
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
READ_FRAME = """
const video = document.getElementById("video"), still = document.getElementById("still");
const shown = video.hidden ? still : video;
const canvas = document.createElement("canvas");
canvas.width = arguments[0];
canvas.height = arguments[1];
const context = canvas.getContext("2d");
context.drawImage(shown, 0, 0, canvas.width, canvas.height);
let number = 0;
for (let bit = 0; bit < 8; bit += 1) {
  const x = Math.floor((2 * bit + 1) * canvas.width / 16);
  const level = context.getImageData(x, Math.floor(canvas.height / 4), 1, 1).data[1];
  if (level > 128) number += 1 << bit;
}
return number;
"""
"""The number that the shown frame has as blocks, read from its pixels."""
FIND_BOX = """
const canvas = document.getElementById("overlay");
const context = canvas.getContext("2d");
const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
const wanted = arguments[0].match(/\\d+/g).map(Number);
let left = 1e9, right = -1, bottom = -1;
for (let y = 0; y < canvas.height; y += 1) for (let x = 0; x < canvas.width; x += 1) {
  const at = 4 * (y * canvas.width + x);
  if (data[at + 3] > 250 && wanted.every((level, part) => Math.abs(data[at + part] - level) < 3)) {
    bottom = Math.max(bottom, y);
  }
}
if (bottom < 0) return null;
// The box's own lower edge: its label, which may be wider, lies above the box.
for (let x = 0; x < canvas.width; x += 1) {
  const at = 4 * ((bottom - 1) * canvas.width + x);
  if (data[at + 3] > 250) { left = Math.min(left, x); right = Math.max(right, x); }
}
return [left / canvas.width, right / canvas.width, bottom / canvas.height];
"""
"""Left, right and bottom of the drawn box of a colour, as shares of the screen."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


def open_video(chromium: Browser, client: Client, size: str, video_id: str = FILM) -> None:
    chromium.resize(*SIZES[size])
    chromium.open(f"{client.server.address}video/{video_id}")
    chromium.wait("document.body.dataset.ready")
    chromium.wait("document.getElementById('video').readyState >= 2")


def only_detections(chromium: Browser) -> str:
    """Show only detections; the colour of their boxes."""
    chromium.run(
        "for (const one of videoPage.overlays.kinds)"
        " if (one.isOn !== (one.array === 'detections')) one.box.click();"
    )
    colour: str = chromium.run(
        "const context = document.createElement('canvas').getContext('2d');"
        "const one = videoPage.overlays.kinds.find((kind) => kind.array === 'detections');"
        "context.fillStyle = one.colour; context.fillRect(0, 0, 1, 1);"
        "return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).join(' ');"
    )
    return colour


def assert_nothing_outside(chromium: Browser) -> None:
    assert chromium.console_errors() == []
    pages = [urlsplit(address) for address in chromium.requests()]
    assert {page.hostname for page in pages if page.scheme not in ("chrome", "data", "file")} <= {
        "127.0.0.1"
    }


@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_and_ask_nothing_outside(chromium: Browser, client: Client, size: str) -> None:
    chromium.resize(*SIZES[size])
    chromium.open(client.server.address)
    chromium.wait("document.querySelectorAll('#rows tr').length === 4")
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    assert chromium.run(f"return {fits};")
    open_video(chromium, client, size)
    assert chromium.run("return window.innerWidth;") == SIZES[size][0]
    assert chromium.run(f"return {fits};")
    assert_nothing_outside(chromium)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.013, 0.31, 0.5, 0.8425, 0.97])
def test_a_click_in_the_timeline_seeks_there(
    chromium: Browser, client: Client, size: str, share: float
) -> None:
    open_video(chromium, client, size)
    left, top, width = chromium.run(
        "const canvas = document.querySelectorAll('.lane canvas')[2];"
        "canvas.scrollIntoView({block: 'center'});"
        "const box = canvas.getBoundingClientRect(); return [box.left, box.top + 4, box.width];"
    )
    chromium.mouse(left + share * width, top)
    chromium.wait("!document.getElementById('video').seeking")
    wanted = 12.0 * share
    assert abs(chromium.run("return document.getElementById('video').currentTime;") - wanted) < 0.1
    chromium.wait(f"Math.abs(videoPage.frameSeconds - {wanted}) < 0.2")
    assert abs(chromium.run(READ_FRAME, WIDTH, HEIGHT) - int(wanted * FRAMES_PER_SECOND)) <= 1


@pytest.mark.parametrize("size", SIZES)
def test_boxes_lie_on_the_frame_they_belong_to(
    chromium: Browser, client: Client, size: str
) -> None:
    """The number in the frame's pixels decides where its box must be."""
    open_video(chromium, client, size)
    check_boxes(chromium)


def test_boxes_lie_on_their_frames_if_the_clock_begins_late(
    chromium: Browser, tmp_path: Path
) -> None:
    """Chromium shows a Matroska's own clock; rows count from the container's start."""
    with serving(write_viewed_store(tmp_path, container_start_seconds=5.0)) as client:
        open_video(chromium, client, "desktop")
        chromium.wait("videoPage.player.start === 5")
        assert abs(chromium.run("return videoPage.duration;") - 12) < 0.2
        check_boxes(chromium)


def shown_frame(chromium: Browser) -> int:
    """The number that the picture itself shows, once the page has heard of that picture.

    The browser shows a picture a moment before it calls the page, and neighbours of a seek lie 0.1 s
    apart: without waiting, the page's time may be that of the picture before.
    """
    deadline = time.monotonic() + 10
    while True:
        frame = int(chromium.run(READ_FRAME, WIDTH, HEIGHT))
        heard = round(chromium.run("return videoPage.frameSeconds;") * FRAMES_PER_SECOND)
        if frame == heard:
            return frame
        assert time.monotonic() < deadline, f"the picture is {frame}, the page believes {heard}"
        time.sleep(0.02)


def check_boxes(chromium: Browser) -> None:
    colour = only_detections(chromium)
    for seconds in (0.0, 0.05, 1.0, 3.33, 7.7, 9.95, 10.0, 11.9, 2.5):
        chromium.run("videoPage.seek(arguments[0]);", seconds)
        chromium.wait(
            f"!document.getElementById('video').seeking && videoPage.frameSeconds <= {seconds} + 0.001"
            f" && videoPage.frameSeconds > {seconds} - 0.099"
        )
        chromium.wait("document.getElementById('rows-now').textContent.includes('detections: row')")
        frame = shown_frame(chromium)
        left, right, bottom = chromium.run(FIND_BOX, colour)
        box_left, box_top = box_of(frame)
        # Half a line's width, in pixels of the video.
        tolerance = 1.5
        assert abs(left * WIDTH - box_left) < tolerance
        assert abs(right * WIDTH - (box_left + BOX_PIXELS)) < tolerance
        assert abs(bottom * HEIGHT - (box_top + BOX_PIXELS)) < tolerance


def test_boxes_follow_while_it_plays(chromium: Browser, client: Client) -> None:
    open_video(chromium, client, "desktop")
    colour = only_detections(chromium)
    assert chromium.run("return document.getElementById('video').paused;"), (
        "nothing plays by itself"
    )
    chromium.run("videoPage.player.setSpeed(0.25);")
    chromium.press(" ")
    chromium.wait("videoPage.frameSeconds > 0.55")
    chromium.press("k")
    chromium.wait("document.getElementById('video').paused")
    # The last frame may be presented after the pause.
    chromium.run("videoPage.seek(videoPage.player.time());")
    chromium.wait("!document.getElementById('video').seeking")
    chromium.wait("Math.abs(videoPage.frameSeconds - videoPage.player.time()) < 0.11")
    frame = shown_frame(chromium)
    assert frame >= 5
    left, _, _ = chromium.run(FIND_BOX, colour)
    assert abs(left * WIDTH - box_of(frame)[0]) < 1.5


def test_overlays_are_switched_off_and_on(chromium: Browser, client: Client) -> None:
    open_video(chromium, client, "desktop")
    painted = (
        "const canvas = document.getElementById('overlay');"
        "return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
        ".some(Boolean);"
    )
    chromium.run("videoPage.seek(2.02);")
    chromium.wait("document.getElementById('rows-now').textContent.includes('detections: row 20')")
    assert chromium.run(painted)
    chromium.run("for (const one of videoPage.overlays.kinds) if (one.isOn) one.box.click();")
    assert not chromium.run(painted)
    for number, kind in enumerate(
        chromium.run("return videoPage.overlays.kinds.map((one) => one.array);")
    ):
        chromium.press(str(number + 1))
        assert chromium.run(painted), kind
        chromium.press(str(number + 1))
        assert not chromium.run(painted), kind


def test_keys(chromium: Browser, client: Client) -> None:
    open_video(chromium, client, "desktop")
    now = "Math.round(videoPage.player.time() * 1000) / 1000"
    right, left, up, down, escape = "\ue014", "\ue012", "\ue013", "\ue015", "\ue00c"
    for key, seconds in (
        (right, 1),
        (right, 2),
        (left, 1),
        ("l", 11),
        ("j", 1),
        (down, 1.102),
        (up, 1.002),
    ):
        chromium.press(key)
        chromium.wait(
            f"Math.abs({now} - {seconds}) < 0.011 && !document.getElementById('video').seeking"
        )
        chromium.wait(f"Math.abs(videoPage.frameSeconds - {seconds}) < 0.05")
    width = "(videoPage.timeline.view[1] - videoPage.timeline.view[0])"
    chromium.press("+")
    assert chromium.run(f"return {width};") == 6
    chromium.press("-")
    assert chromium.run(f"return {width};") == 12
    chromium.press("?")
    assert chromium.run("return document.getElementById('help').open;")
    chromium.press(escape)
    chromium.wait("!document.getElementById('help').open")
    chromium.press("/")
    assert chromium.run("return document.activeElement.id;") == "q"
    for letter in "quiet":
        chromium.press(letter)
    chromium.press("\ue007")
    chromium.wait(
        "document.body.dataset.page === 'list' && document.querySelectorAll('#rows tr').length === 1"
    )
    assert chromium.run("return document.querySelector('#rows a').textContent;") == LIKED


def test_a_click_in_a_zoomed_timeline_seeks_there(chromium: Browser, client: Client) -> None:
    open_video(chromium, client, "desktop")
    chromium.run("videoPage.timeline.setView(4, 6);")
    left, top, width = chromium.run(
        "const box = document.querySelectorAll('.lane canvas')[0].getBoundingClientRect();"
        "return [box.left, box.top + 4, box.width];"
    )
    chromium.mouse(left + width / 4, top)
    chromium.wait("!document.getElementById('video').seeking")
    assert abs(chromium.run("return videoPage.player.time();") - 4.5) < 0.01


def test_hostile_texts_stay_texts(chromium: Browser, client: Client) -> None:
    open_video(chromium, client, "desktop")
    assert chromium.run("return document.getElementById('title').textContent;") == HOSTILE_TITLE
    names = chromium.run(
        "return [...document.querySelectorAll('.lane-name bdi')].map((one) => one.textContent);"
    )
    assert HOSTILE_PERSON in names
    assert chromium.run("return document.querySelectorAll('img[src=x], b, i').length;") == 0
    assert chromium.run("return document.title.endsWith(' · seen');")
    assert_nothing_outside(chromium)


def test_liked_clips_are_listed_and_play(chromium: Browser, client: Client) -> None:
    open_video(chromium, client, "desktop")
    weights = "[...document.querySelectorAll('.clip')].map((one) => [...one.querySelectorAll('.value')].map((two) => two.textContent))"
    # Mean over the segments, and of the segment at the cursor.
    assert chromium.run(f"return {weights};") == [["0.5", "0.75"], ["0.5", "0.25"]]
    chromium.run("videoPage.seek(6);")
    assert chromium.run(f"return {weights};") == [["0.5", "0.25"], ["0.5", "0.75"]]
    chromium.run("document.querySelector('.clip button').click();")
    playing = "document.querySelector('.clip video')"
    chromium.wait(f"{playing} && {playing}.currentTime > 0.6")
    chromium.wait(f"{playing}.paused && {playing}.currentTime >= 2 && {playing}.currentTime < 2.6")
    assert chromium.run(f"return {playing}.muted;")


def test_a_video_without_a_file_shows_its_pictures(chromium: Browser, tmp_path: Path) -> None:
    with serving(write_viewed_store(tmp_path, with_media=False)) as client:
        chromium.resize(*SIZES["desktop"])
        chromium.open(f"{client.server.address}video/{FILM}")
        chromium.wait("document.body.dataset.ready")
        assert "no file of it was fetched" in chromium.run("return document.body.textContent;")
        chromium.run("videoPage.seek(3.2);")
        still = "document.getElementById('still')"
        chromium.wait(f"{still}.complete && {still}.src.includes('at=3')")
        assert chromium.run(READ_FRAME, 96, 64) == 30  # picture 6 of 2 a second shows frame 30
        chromium.wait(
            "document.getElementById('rows-now').textContent.includes('detections: row 30')"
        )
        assert_nothing_outside(chromium)


@pytest.mark.parametrize("with_video", [False, True])
def test_a_single_file_works_alone(
    chromium: Browser, seen: Path, tmp_path: Path, with_video: bool
) -> None:
    chromium.requests()
    out = tmp_path / "page.html"
    (line,) = write_static_page(seen, FILM, out, with_video=with_video)
    assert str(out) in line
    chromium.resize(*SIZES["desktop"])
    chromium.open(out.as_uri())
    chromium.wait("document.body.dataset.ready")
    assert chromium.run("return document.getElementById('title').textContent;") == HOSTILE_TITLE
    shown = (
        "document.getElementById('video').readyState >= 2"
        if with_video
        else "document.getElementById('still').complete"
    )
    chromium.wait(shown)
    colour = only_detections(chromium)
    chromium.run("videoPage.seek(3.02);")
    chromium.wait("document.getElementById('rows-now').textContent.includes('detections: row 30')")
    chromium.wait(shown)
    size = (WIDTH, HEIGHT) if with_video else (96, 64)
    assert chromium.run(READ_FRAME, *size) == 30
    left, _, _ = chromium.run(FIND_BOX, colour)
    assert abs(left * WIDTH - box_of(30)[0]) < 1.5
    assert chromium.console_errors() == []
    schemes = {urlsplit(address).scheme for address in chromium.requests()}
    assert schemes <= {"file", "data", "chrome"}


def test_search_as_one_types(chromium: Browser, client: Client) -> None:
    chromium.resize(*SIZES["phone"])
    chromium.open(client.server.address)
    chromium.wait("document.querySelectorAll('#rows tr').length === 4")
    chromium.press("/")
    for letter in "walk":
        chromium.press(letter)
    chromium.wait("document.querySelectorAll('#rows tr').length === 1")
    assert chromium.run("return location.search;") == "?q=walk"

"""A real Chromium without a window, driven over WebDriver with the standard library alone.

`chromedriver` listens on loopback. What pages request is read from its log of network events.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--force-device-scale-factor=1"),
)
needs_chromium = pytest.mark.skipif(
    PROGRAM is None or DRIVER is None,
    reason="no chromium and chromedriver here: apt-get install chromium chromium-driver",
)


@dataclass(frozen=True)
class Browser:
    """One window of a Chromium that was started for a test."""

    session: str
    """Address of the WebDriver session."""

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        content = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(  # noqa: S310  # on loopback
            f"{self.session}{path}", content, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error

    def _devtools(self, command: str, **values: object) -> Any:
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": values})

    def resize(self, width: int, height: int) -> None:
        """The size of the page itself in CSS pixels, as a phone or a desktop has it."""
        self._devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    def open(self, address: str) -> None:
        """Load a page."""
        self._ask("POST", "/url", {"url": address})

    def run(self, script: str, *values: object) -> Any:
        """The value that a function's body returns; `arguments` holds the values."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": values})

    def wait(self, expression: str, seconds: float = 20) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while True:
            value = self.run(f"return {expression};")
            if value:
                return value
            assert time.monotonic() < end, f"{expression} did not become true"
            time.sleep(0.03)

    def mouse(self, x: float, y: float) -> None:
        """Move the mouse to a place of the window and click."""
        moves = [
            {"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        source = {"type": "pointer", "id": "mouse", "actions": moves}
        self._ask("POST", "/actions", {"actions": [source]})

    def press(self, key: str) -> None:
        """Press one key, as text or as WebDriver's code of it."""
        strokes = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        source = {"type": "key", "id": "keys", "actions": strokes}
        self._ask("POST", "/actions", {"actions": [source]})

    def screenshot(self, into: Path, *, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        shot = self._devtools(
            "Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole)
        )
        into.write_bytes(base64.b64decode(shot["data"]))

    def _clip(self, whole: bool) -> dict[str, object]:
        if not whole:
            return {}
        size = self._devtools("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {**size, "scale": 1}}

    def console_errors(self) -> list[str]:
        """Errors and warnings of the console since the last call."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        found = [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]
        # Advice that Chromium gives because tests themselves read pixels of the pages' canvases.
        return [message for message in found if "willReadFrequently" not in message]

    def requests(self) -> list[str]:
        """Addresses that pages requested since the last call."""
        entries = self._ask("POST", "/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium with a profile of its own, which ends with the block."""
    assert PROGRAM is not None
    assert DRIVER is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            port = _port(driver)
            options = {
                "binary": PROGRAM,
                "args": [*OPTIONS, f"--user-data-dir={profile}"],
                "perfLoggingPrefs": {"enableNetwork": True},
            }
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            root = Browser(f"http://127.0.0.1:{port}")
            made = root._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            started = Browser(f"http://127.0.0.1:{port}/session/{made['sessionId']}")
            try:
                yield started
            finally:
                started._ask("DELETE", "")
        finally:
            driver.terminate()
            driver.wait(30)
            if driver.stdout is not None:
                driver.stdout.close()


def _port(driver: subprocess.Popen[str]) -> int:
    assert driver.stdout is not None
    for line in driver.stdout:
        if "was started successfully on port" in line:
            return int(line.rstrip().rstrip(".").rsplit(" ", 1)[1])
    raise AssertionError("chromedriver did not start")

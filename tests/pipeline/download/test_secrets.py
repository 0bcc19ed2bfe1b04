"""Canaries in a cookie, a proxy's password and a signed address: they reach the site, and nothing
else.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.support import faulty_server as web
from tests.support.faulty_server import MP4, Handler, Mirror

CANARIES = (
    "CANARY-cookie-7f3a",
    "CANARY-password-91bc",
    "CANARY-token-55de",
    "CANARY-set-cookie-20aa",
)
CHILD = """
import faulthandler, logging, sys, traceback
from pathlib import Path
from pipeline.download.fetch import SourceSettings, fetch
from pipeline.download.access.rate_limiter import SharedRateLimiter
from storage.base.errors import HighlightsError
from storage.base.paths import Layout
logging.basicConfig(level=logging.DEBUG)
data, template, cookies, proxy = (Path(sys.argv[1]), *sys.stdin.read().split())
secrets = {"cookies_file": cookies, "proxy": proxy}
source = SourceSettings(template, attempts=2, backoff_seconds=0, socket_timeout_seconds=5, **secrets)
layout = Layout(data, "phd2")
gate = SharedRateLimiter(layout.egress(source.egress_key), source.pace, notify=print)
for video_id in ("good", "forbidden", "echoing", "broken", "gone"):
    try:
        print(fetch(video_id, layout=layout, shard=0, source=source, rate_limiter=gate).path.name)
    except HighlightsError as error:
        print(error, error.args, repr(source), source)
        traceback.print_exc()
print(source.faults())
"""


def everything_below(folder: Path) -> bytes:
    return b"".join(
        str(path).encode() + path.read_bytes() for path in folder.rglob("*") if path.is_file()
    )


def test_secrets_reach_the_site_and_nothing_else(mirror: Mirror, tmp_path: Path) -> None:
    cookie, password, token, later = CANARIES
    seen: list[dict[str, str]] = []
    command_lines: list[bytes] = []

    def note(handler: Handler) -> None:
        seen.append({name.lower(): value for name, value in handler.headers.items()})
        lines = (path / "cmdline" for path in Path("/proc").glob("[0-9]*"))
        command_lines.extend(line.read_bytes() for line in lines if line.exists())

    def noting(answer: web.Answer) -> web.Answer:
        def noted(handler: Handler) -> None:
            note(handler)
            answer(handler)

        return noted

    def echo(handler: Handler) -> None:
        location = f"http://me:{password}@127.0.0.1:1/signed?token={token}&sid={cookie}"
        handler.reply(302, b"", Location=location, Set_Cookie=f"later={later}; path=/")

    answers = {
        "good": lambda handler: handler.reply(200, MP4, Set_Cookie=f"later={later}; path=/"),
        "forbidden": web.status(403),
        "echoing": echo,
        "broken": web.cut(MP4, 1000),
        "gone": web.status(404),
    }
    # The proxy is our own server: a proxy is asked for whole addresses.
    for name, answer in answers.items():
        mirror.answers[f"{mirror.template.format(id=name)}?token={token}"] = noting(answer)
    jar = tmp_path / "cookies.txt"
    jar.write_text(
        f"# Netscape HTTP Cookie File\n\n127.0.0.1\tFALSE\t/\tFALSE\t4102444800\tSID\t{cookie}\n"
    )
    jar.chmod(0o600)
    before = jar.read_bytes()
    proxy = f"http://me:{password}@127.0.0.1:{mirror.server_port}"
    given = f"{mirror.template}?token={token} {jar} {proxy}"
    data, home = tmp_path / "data", tmp_path / "home"
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(home),
        "TMPDIR": str(home),
    }
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(data)], input=given, env=environment, cwd=home,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"SID={cookie}" in seen[0]["cookie"]
    assert base64.b64decode(seen[0]["proxy-authorization"].split()[1]).decode() == f"me:{password}"
    assert f"later={later}" in seen[1]["cookie"]  # what a site sets lives on in memory
    places = {"printed": (done.stdout + done.stderr).encode(), "argv": b"".join(command_lines)}
    places |= {"stored": everything_below(data), "home": everything_below(home)}
    assert [
        (canary, place)
        for canary in CANARIES
        for place, text in places.items()
        if canary.encode() in text
    ] == []
    assert jar.read_bytes() == before
    assert len(command_lines) > 1

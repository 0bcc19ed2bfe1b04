"""`python -m trainer view FOLDER`: a feature store in a browser, or one video as a single file."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from pathlib import Path

from storage.base.errors import SettingsError
from trainer.cli.options import add_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_folder(parser, "ROOT/<catalog>; it is only read")
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="port of 127.0.0.1; 0 takes a free one"
    )
    parser.add_argument(
        "--static",
        default="",
        metavar="VIDEO_ID",
        help="write one video as a single HTML file instead; --static=-ID for an id with a dash",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file that --static writes")
    parser.add_argument(
        "--with-video",
        action="store_true",
        help="put the video into the file; else it has the pictures of the variant frames",
    )


def run(options: argparse.Namespace) -> Iterator[str]:
    """Serve until Ctrl-C; yields the address. With `--static` write the file; yields its path."""
    faults = list(_faults(options))
    if faults:
        raise SettingsError(tuple(faults))
    if options.static:
        from trainer.view.static_page import write_static_page

        yield from write_static_page(
            options.folder, options.static, options.out, with_video=options.with_video
        )
        return
    yield from _serve(options)


def _serve(options: argparse.Namespace) -> Iterator[str]:
    from trainer.view.server import StoreServer

    with StoreServer(options.folder, options.port) as server:
        yield f"view     {server.address}"
        yield "Open this address in a browser of this machine. Ctrl-C ends the server."
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            # A second Ctrl-C while the server closes would end in a traceback.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            yield "ended"


def _faults(options: argparse.Namespace) -> Iterator[str]:
    if not 0 <= options.port <= 65535:
        yield f"--port must be 0 to 65535, got {options.port}"
    if options.static and options.out is None:
        yield "--static needs --out FILE"
    if not options.static and (options.out is not None or options.with_video):
        yield "--out and --with-video need --static VIDEO_ID"

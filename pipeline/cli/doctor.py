"""`python -m pipeline doctor`: checks whether this machine is fit for a run.

With `--videos PATH` it decodes the videos of a folder or list instead, and says what is unreadable,
damaged or odd before anything is built.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path

from pipeline.cli.arguments import local_folder
from pipeline.cli.exit_codes import FAILURE, SUCCESS
from pipeline.datasets.own_videos.entries import list_content, read_entries
from pipeline.datasets.own_videos.settings import OwnVideosSettings
from pipeline.diagnostics.check_videos import VideoCheck, check_videos
from pipeline.diagnostics.doctor import Level, examine_machine
from pipeline.download.access.source import YOUTUBE, SourceSettings
from pipeline.media.decode_settings import DEFAULT_LIMITS
from storage.base.errors import SettingsError

VERDICTS = ("fine", "odd", "damaged", "unreadable")


def _doctor(options: argparse.Namespace) -> int:
    if options.videos:
        return _check_videos(options.videos, options.decoders)
    source = SourceSettings(options.source)
    faults = source.faults()
    if faults:
        raise SettingsError(tuple(faults))
    exit_code = SUCCESS
    for check in examine_machine(source, options.data_root, date.today()):
        print(check, flush=True)
        if check.level is Level.FAIL:
            exit_code = FAILURE
    return exit_code


def _check_videos(path: str, decoders: int) -> int:
    """Print one line for each file, and a summary. Exit code 1 if one cannot be read."""
    settings = OwnVideosSettings(path, allow_private=True)
    found = read_entries(list_content(path), settings, playlist=lambda address: [(address, "")])
    places = {entry.place.text: entry.place for entry in found.entries}
    files = [Path(place.text) for place in places.values() if place.kind == "file"]
    verdicts: Counter[str] = Counter()
    for line, check in _progress_lines(files, decoders):
        verdicts[check.verdict] += 1
        print(line, flush=True)
        for detail in check.details():
            print(f"    {detail}")
    _print_left_out(found.left_out)
    counts = ", ".join(f"{verdicts[name]} {name}" for name in VERDICTS)
    addresses = len(places) - len(files)
    asked = f"; {addresses} addresses and ids were not asked" if addresses else ""
    print(f"{len(files)} files: {counts}{asked}")
    return FAILURE if verdicts["unreadable"] else SUCCESS


def _shown(path: Path) -> str:
    """A path on one line: a name may hold line breaks and orders to a terminal."""
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in str(path)
    )


def _print_left_out(left_out: Mapping[str, tuple[str, ...]]) -> None:
    for reason, cases in left_out.items():
        for case in cases:
            print(f"{reason:<10} {case}")


def _progress_lines(files: list[Path], decoders: int) -> Iterator[tuple[str, VideoCheck]]:
    """Each check with its line: how many are done, the time that is left, verdict and file."""
    started = time.monotonic()
    for done, check in enumerate(check_videos(files, DEFAULT_LIMITS, decoders), start=1):
        left = (time.monotonic() - started) / done * (len(files) - done)
        progress = f"[{done}/{len(files)}, {timedelta(seconds=round(left))} left]"
        yield f"{progress} {check.verdict:<10} {_shown(check.path)}", check


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--data-root",
        type=local_folder,
        default=Path("data"),
        help="folder for all data, as in [data] root",
    )
    parser.add_argument(
        "--source", default=YOUTUBE, help="where videos come from, as in [download] source"
    )
    parser.add_argument(
        "--videos",
        metavar="PATH",
        help="decode the files of this folder, list or table whole, and report on each",
    )
    parser.add_argument(
        "--decoders", type=int, default=2, help="files that --videos decodes at the same time"
    )
    parser.set_defaults(run=_doctor)

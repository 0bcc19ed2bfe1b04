"""`python -m trainer predict MODEL FOLDER VIDEO_ID`: one video for one person, told, drawn and kept as JSON.

Refuses to know how networks answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from storage.base.errors import LookupFailed, SettingsError
from storage.base.fingerprint import fingerprint, readable
from storage.base.paths import Layout, video_stem
from storage.base.records import FeatureTrack
from storage.features.store import FeatureStore
from storage.files.atomic_write import publish
from trainer.cli.given_paths import check_given_paths
from trainer.evaluation.phd2_protocol import PHD2

if TYPE_CHECKING:
    from trainer.inference.predict import Prediction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model.safetensors")
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="ROOT/<catalog>, with features as it was trained on"
    )
    parser.add_argument("video_id", metavar="VIDEO_ID", help="after --, if it begins with a dash")
    parser.add_argument("--user", default="", metavar="ID", help="a user of the catalog, whose marks are the history")
    parser.add_argument(
        "--history",
        nargs="+",
        default=[],
        metavar="VIDEO_ID:START-END",
        help="liked parts in seconds, of somebody else",
    )
    parser.add_argument("--top", type=int, default=PHD2.top, metavar="N", help="how many segments to point out")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")


def run(options: argparse.Namespace) -> Iterator[str]:
    """The segments in the order of time, then where picture and JSON lie."""
    check_given_paths(options.model, options.folder)
    if options.user and options.history:
        raise SettingsError(("--user names whose history is used, --history tells one: give one of them",))
    if options.top < 1:
        raise SettingsError((f"--top is at least 1, got {options.top}",))
    from trainer.inference.predict import Person, parse_liked, predict
    from trainer.training.fit import restore  # networks take seconds to import

    person = Person.of_user(options.user) if options.user else Person.who_likes(parse_liked(options.history))
    found = predict(restore(options.model, options.folder, options.device), options.video_id, person)
    yield from told(found, options.top)
    json_file, picture = keep(found, options.folder, options.top)
    yield f"json     {json_file}"
    yield f"picture  {picture}"


def told(found: Prediction, top: int) -> Iterator[str]:
    """A line for each segment, in the order of time; the `top` best bear a star."""
    from trainer.plots.timeline import clock

    whom = found.person or "anybody"
    yield f"{found.video_id} for {whom}, by {found.model}; {len(found.history)} liked parts are known"
    yield f"{'from':>7} {'to':>7} {'score':>12} {'rank':>5}"
    for (start, end), score, rank in zip(found.spans, found.scores, found.ranks, strict=True):
        yield f"{clock(start):>7} {clock(end):>7} {score:>12.5g} {rank:>5}{' *' if rank <= top else ''}"
    yield from (f"NOTE     {note}" for note in found.notes)


def keep(found: Prediction, folder: Path, top: int) -> tuple[Path, Path]:
    """JSON and PNG under `FOLDER/report/`, named after the video, the network and the history."""
    from trainer.plots.timeline import draw_timeline

    made_of = [found.checkpoint_sha256, found.person, [[c.video_id, c.start, c.end] for c in found.history]]
    report = Layout(folder.absolute().parent, folder.absolute().name).report
    stem = report / f"{video_stem(found.video_id)}.{fingerprint(made_of)}"
    json_file, picture = stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.png")
    publish(json_file, readable(found.table()), replace=True)
    publish(picture, draw_timeline(found, top=top, pictures=pictures_of(folder, found.video_id)), replace=True)
    return json_file, picture


def pictures_of(folder: Path, video_id: str) -> FeatureTrack | None:
    """The video's pictures, if the store has exactly one variant of them, and this video in it."""
    try:
        reader = FeatureStore(folder)["frames"]
        return reader[video_id].track() if video_id in reader else None
    except LookupFailed:
        return None

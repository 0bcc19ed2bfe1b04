"""`python -m trainer predict MODEL FOLDER VIDEO_ID`: one video for one person, told, drawn and kept
as JSON.

Refuses to know how networks answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from storage.base.errors import SettingsError
from trainer.cli.given_paths import check_given_paths
from trainer.evaluation.phd2_protocol import PHD2
from trainer.plots.prediction_report import format_prediction, save_prediction

if TYPE_CHECKING:
    pass


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model.safetensors")
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="ROOT/<catalog>, with features as it was trained on",
    )
    parser.add_argument("video_id", metavar="VIDEO_ID", help="after --, if it begins with a dash")
    parser.add_argument(
        "--user",
        default="",
        metavar="ID",
        help="a user of the catalog, whose marks are the history",
    )
    parser.add_argument(
        "--history",
        nargs="+",
        default=[],
        metavar="VIDEO_ID:START-END",
        help="liked parts in seconds, of somebody else",
    )
    parser.add_argument(
        "--top", type=int, default=PHD2.top, metavar="N", help="how many segments to point out"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")


def run(options: argparse.Namespace) -> Iterator[str]:
    """The segments in the order of time, then where picture and JSON lie."""
    check_given_paths(options.model, options.folder)
    if options.user and options.history:
        raise SettingsError(
            ("--user names whose history is used, --history tells one: give one of them",)
        )
    if options.top < 1:
        raise SettingsError((f"--top is at least 1, got {options.top}",))
    from trainer.inference.predict import UserHistory, parse_liked, predict
    from trainer.training.fit import load_trained_model  # networks take seconds to import

    person = (
        UserHistory.of_user(options.user)
        if options.user
        else UserHistory.from_clips(parse_liked(options.history))
    )
    found = predict(
        load_trained_model(options.model, options.folder, options.device), options.video_id, person
    )
    yield from format_prediction(found, options.top)
    json_file, picture = save_prediction(found, options.folder, options.top)
    yield f"json     {json_file}"
    yield f"picture  {picture}"

"""`python -m trainer predict MODEL FOLDER VIDEO_ID`: predicts one video's highlights for a person.

The prediction is printed, drawn, and kept as JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from storage.base.errors import SettingsError
from trainer.cli.options import (
    add_device,
    add_model_and_folder,
    check_at_least_one,
    check_model_and_folder,
)
from trainer.evaluation.phd2_protocol import PHD2
from trainer.plots.prediction_report import format_prediction, save_prediction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model_and_folder(parser)
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
        help="liked parts in seconds, of a person who is not a user of the catalog",
    )
    parser.add_argument(
        "--top", type=int, default=PHD2.top, metavar="N", help="number of segments to highlight"
    )
    add_device(parser)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Predict; yields the segments in the order of time, then the paths of JSON and picture."""
    check_model_and_folder(options)
    if options.user and options.history:
        raise SettingsError(("--user and --history both give a history: give only one of them",))
    check_at_least_one(options, "top")
    # Networks take seconds to import.
    from trainer.inference.predict import UserHistory, parse_liked, predict
    from trainer.training.fit import load_trained_model

    from_clips = UserHistory.from_clips(parse_liked(options.history))
    person = UserHistory.of_user(options.user) if options.user else from_clips
    restored = load_trained_model(options.model, options.folder, options.device)
    prediction = predict(restored, options.video_id, person)
    yield from format_prediction(prediction, options.top)
    json_file, picture = save_prediction(prediction, options.folder, options.top)
    yield f"json     {json_file}"
    yield f"picture  {picture}"

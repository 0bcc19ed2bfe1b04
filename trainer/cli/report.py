"""`python -m trainer report MODEL FOLDER`: a page with a network's predictions for some users.

Each user's target is drawn with its scores, the user's marks and, for a network with attention, the
liked clips with their weights, as in PR-Net's figure 7.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from storage.base.errors import LookupFailed
from storage.files.atomic_write import publish
from storage.scores import Key
from trainer.cli.options import (
    add_device,
    add_model_and_folder,
    check_at_least_one,
    check_model_and_folder,
)
from trainer.evaluation.phd2_protocol import PHD2
from trainer.evaluation.statistics import Evaluation, confidence_intervals
from trainer.plots.html_report import Report, ReportSection, render_page, report_metrics
from trainer.plots.prediction_report import pictures_of

if TYPE_CHECKING:
    from trainer.inference.predict import Prediction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model_and_folder(parser)
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument(
        "--users", nargs="+", default=[], metavar="ID", help="users to show, instead of --count"
    )
    parser.add_argument(
        "--count",
        type=int,
        default=6,
        metavar="N",
        help="number of users to show, from the best to the worst average precision",
    )
    add_device(parser)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Write the page; yields its path."""
    check_model_and_folder(options)
    check_at_least_one(options, "count")
    # Networks take seconds to import.
    from trainer.inference.predict import UserHistory, predict
    from trainer.inference.score_run import EvalRequest, evaluate_run, score_split
    from trainer.plots.timeline import draw_timeline
    from trainer.training.fit import load_trained_model

    # The whole split is scored, because the users to show are chosen by their metrics.
    request = EvalRequest(options.model, options.folder, options.split)
    answers = score_split(request, device=options.device)
    measured = evaluate_run(request, answers)
    restored = load_trained_model(options.model, options.folder, options.device)
    video_of_user = {user: video for user, video in answers.tracks if user in measured.ids}
    sections = []
    for user in choose_users(measured, options.users, options.count):
        video = video_of_user[user]
        prediction = predict(restored, video, UserHistory.of_user(user))
        png = draw_timeline(prediction, pictures=pictures_of(options.folder, video))
        caption = _caption(measured, (user, video), prediction)
        sections.append(ReportSection(f"user {user}, video {video}", caption, png))
    recipe, catalog = restored.recipe, restored.data.catalog.name
    intervals = confidence_intervals([measured])
    made_of = [
        ("recipe", f"{recipe.name}: {recipe.source}"),
        ("protocol", measured.protocol),
        ("checkpoint, sha256", restored.sha256),
        ("ids, sha256", next(iter(intervals.values())).ids_sha256),
    ]
    report = Report(
        title=f"{recipe.name} on {catalog}, {options.split} users",
        catalog=catalog,
        notes=tuple(dict.fromkeys(answers.provenance.marks)),
        summary=_summary(measured, options),
        metrics=report_metrics(intervals),
        sections=sections,
        made_of=made_of,
        gaps=recipe.gaps,
    )
    content = render_page(report)
    file = request.layout.report / f"{request.name}.html"
    publish(file, content, replace=True)
    yield f"page     {file}"


def choose_users(measured: Evaluation, users: Sequence[str], count: int) -> list[str]:
    """These users; if none is given, `count` users from the best to the worst average precision.

    Raises LookupFailed for a user without a value.
    """
    for user in users:
        if user not in measured.ids:
            reason = measured.dropped.get(user, "it is not a user of this split")
            raise LookupFailed(f"{user} has no metrics: {reason}")
    if users:
        return list(users)
    best_first = np.argsort(-measured.values["ap"], kind="stable")
    n_shown = min(count, len(best_first))
    ranks = np.linspace(0, len(best_first) - 1, n_shown).round().astype(int)
    return [measured.ids[position] for position in best_first[ranks]]


def _summary(measured: Evaluation, options: argparse.Namespace) -> str:
    count = len(measured.ids)
    dropped = f"; {len(measured.dropped)} have none" if measured.dropped else ""
    order = ", from the highest to the lowest average precision"
    if options.users:
        shown = f"The {len(options.users)} users that were asked for are shown below."
    elif options.count >= count:
        shown = f"All are shown below{order}."
    else:
        shown = f"{options.count} of them are shown below{order}."
    return (
        f"Means over {count} {options.split} users with a value{dropped}. An interval is the "
        f"range for other users of the same kind. {shown}"
    )


def _caption(measured: Evaluation, key: Key, prediction: Prediction) -> str:
    position = measured.ids.index(key[0])
    precision = 100 * float(measured.values["ap"][position])
    recall = 100 * float(measured.values[f"recall_at_{PHD2.top}"][position])
    return (
        f"average precision {precision:.1f} %, recall at {PHD2.top} {recall:.1f} % of "
        f"{len(prediction.spans)} segments; history of {len(prediction.history)} clips"
    )

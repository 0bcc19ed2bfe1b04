"""`python -m trainer report MODEL FOLDER`: a page that shows what a finished network says to users
of a split.

Each user's target is drawn with scores, what the user marked and, for a network with attention, the
liked parts with their weights, as in PR-Net's figure 7. Refuses to know how a page looks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from storage.base.errors import LookupFailed, SettingsError
from storage.files.atomic_write import publish
from storage.scores import Key
from trainer.cli.given_paths import check_given_paths
from trainer.evaluation.phd2_protocol import PHD2
from trainer.evaluation.statistics import Evaluation, confidence_intervals
from trainer.plots.html_report import ReportSection, render_page
from trainer.plots.prediction_report import pictures_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model.safetensors")
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="ROOT/<catalog>, with features as it was trained on",
    )
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument(
        "--users", nargs="+", default=[], metavar="ID", help="whom to show; else --count of them"
    )
    parser.add_argument(
        "--count", type=int, default=6, metavar="N", help="users from the best served to the worst"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Where the page lies."""
    check_given_paths(options.model, options.folder)
    if options.count < 1:
        raise SettingsError((f"--count is at least 1, got {options.count}",))
    from trainer.inference.predict import UserHistory, predict
    from trainer.inference.score_run import EvalRequest, evaluate_run, score_split
    from trainer.plots.timeline import draw_timeline
    from trainer.training.fit import load_trained_model  # networks take seconds to import

    question = EvalRequest(options.model, options.folder, options.split)
    answers = score_split(question, device=options.device)
    measured = evaluate_run(question, answers)
    restored = load_trained_model(options.model, options.folder, options.device)
    asked = {user: video for user, video in answers.tracks if user in measured.ids}
    users = chosen(measured, options.users, options.count)
    shown = []
    for user in users:
        video = asked[user]
        found = predict(restored, video, UserHistory.of_user(user))
        png = draw_timeline(found, pictures=pictures_of(options.folder, video))
        shown.append(
            ReportSection(
                f"user {user}, video {video}",
                _told(measured, (user, video), len(found.history)),
                png,
            )
        )
    numbers = [(name, str(found)) for name, found in confidence_intervals([measured]).items()]
    about = [
        ("recipe", f"{restored.recipe.name}: {restored.recipe.source}"),
        ("checkpoint", restored.sha256),
    ]
    content = render_page(
        f"{restored.recipe.name} on {restored.data.catalog.name}, {options.split} users",
        [*about, ("protocol", measured.protocol), *numbers],
        answers.provenance.marks,
        restored.recipe.gaps,
        shown,
    )
    file = question.layout.report / f"{question.name}.html"
    publish(file, content, replace=True)
    yield f"page     {file}"


def chosen(measured: Evaluation, users: Sequence[str], count: int) -> list[str]:
    """These users; or `count` of all at even distances between the best and the worst average
    precision.
    """
    if strangers := [user for user in users if user not in measured.ids]:
        why = measured.dropped.get(strangers[0], "it is no user of this split")
        raise LookupFailed(f"nothing is measured of {strangers[0]}: {why}")
    ranked = [measured.ids[place] for place in np.argsort(-measured.values["ap"], kind="stable")]
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return list(users) or [ranked[place] for place in places]


def _told(measured: Evaluation, key: Key, liked: int) -> str:
    place = measured.ids.index(key[0])
    top = f"recall_at_{PHD2.top}"
    precision, recall = (100 * float(measured.values[name][place]) for name in ("ap", top))
    return f"average precision {precision:.1f} %, recall at {PHD2.top} {recall:.1f} %; {liked} liked parts are known"

"""`python -m trainer score MODEL FOLDER`: scores and evaluates a split."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator

from trainer.base.progress import ProgressBar
from trainer.cli.options import (
    add_device,
    add_model_and_folder,
    add_workers,
    check_model_and_folder,
)
from trainer.evaluation.statistics import confidence_intervals


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model_and_folder(parser)
    parser.add_argument("--split", default="test", choices=("train", "validation", "test", "all"))
    add_device(parser)
    add_workers(parser)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Score and evaluate; yields each metric with its interval and sample size."""
    check_model_and_folder(options)
    # Networks take seconds to import.
    from trainer.inference.score_run import EvalRequest, evaluate_run, score_split

    request = EvalRequest(options.model, options.folder, options.split)
    with ProgressBar("video") as bar:
        answers = score_split(
            request,
            device=options.device,
            workers=options.workers,
            on_start=bar.start,
            on_batch=bar.advance,
        )
    measured = evaluate_run(request, answers)
    yield f"scores   {request.layout.scores(request.name)}"
    for mark in answers.provenance.marks:
        yield f"NOTE     {mark}"
    changes = answers.provenance.settings.get("code_changes")
    for change in changes if isinstance(changes, list) else []:
        yield f"NOTE     the code has changed since training: {change}"
    for metric, interval in confidence_intervals([measured]).items():
        yield f"{metric:<18} {interval}"
    reasons = sorted(Counter(measured.dropped.values()).items())
    dropped = ", ".join(f"{count} {reason}" for reason, count in reasons) or "none"
    yield f"dropped  {dropped}"

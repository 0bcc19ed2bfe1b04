"""`python -m trainer score MODEL FOLDER`: a finished network's scores of a split, kept and
measured.

Refuses to know what is published.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from trainer.base.progress import ProgressBar
from trainer.cli.given_paths import check_given_paths
from trainer.evaluation.statistics import confidence_intervals


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model.safetensors")
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="ROOT/<catalog>, with features as it was trained on",
    )
    parser.add_argument("--split", default="test", choices=("train", "validation", "test", "all"))
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--workers", type=int, default=0, help="processes that read ahead")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Every metric with its interval, number of users and marks."""
    check_given_paths(options.model, options.folder)
    from trainer.inference.score_run import (
        EvalRequest,
        evaluate_run,
        score_split,
    )  # networks take seconds to import

    question = EvalRequest(options.model, options.folder, options.split)
    with ProgressBar("video") as bar:
        answers = score_split(
            question,
            device=options.device,
            workers=options.workers,
            on_start=bar.start,
            on_batch=bar.advance,
        )
    measured = evaluate_run(question, answers)
    yield f"scores   {question.layout.scores(question.name)}"
    for mark in answers.provenance.marks:
        yield f"NOTE     {mark}"
    for name, found in confidence_intervals([measured]).items():
        yield f"{name:<18} {found}"
    reasons = Counter(measured.dropped.values())
    yield "dropped  " + (
        ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "nobody"
    )

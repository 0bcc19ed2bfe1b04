"""`python -m trainer fit RECIPE FOLDER`: train a recipe on a catalog's features, or go on with it.

Under `torchrun` all processes train together. Refuses to know how.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from storage.base.errors import SettingsError
from trainer.base.progress import ProgressBar
from trainer.config.recipe import load_recipe, recipe_names
from trainer.training.distributed import distributed_context
from trainer.training.fit import FitOptions, Run, fit

MOST_SEEDS, MOST_WORKERS = 1000, 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    names = ", ".join(recipe_names())
    parser.add_argument("recipe", metavar="RECIPE", help=f"a .toml file, or one of: {names}")
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="ROOT/<catalog>, with the features it reads"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="train N networks, with seeds 0 to N - 1"
    )
    add_choices(parser)


def add_choices(parser: argparse.ArgumentParser) -> None:
    """What every command that trains takes."""
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="TABLE.KEY=VALUE"
    )
    parser.add_argument(
        "--small",
        action="store_true",
        help="the recipe's small widths: a trial of seconds, no result",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--workers", type=int, default=0, help="processes that read ahead")


def check_counts(options: argparse.Namespace) -> None:
    """SettingsError for numbers of networks or processes that are none."""
    faults = []
    for name, least, most in (("seeds", 1, MOST_SEEDS), ("workers", 0, MOST_WORKERS)):
        if not least <= getattr(options, name) <= most:
            faults.append(f"--{name} is {least} to {most}, got {getattr(options, name)}")
    if faults:
        raise SettingsError(tuple(faults))


def run(options: argparse.Namespace) -> Iterator[str]:
    """The finished networks, one line each."""
    check_counts(options)
    recipe = load_recipe(options.recipe, changes=options.changes, small=options.small)
    with distributed_context(options.device) as group, ProgressBar("step") as bar:
        told = FitOptions(
            device=group.device,
            workers=options.workers,
            on_start=bar.start if group.is_first else FitOptions.on_start,
            on_step=lambda progress, loss: bar.advance_to(
                progress.step, f"epoch {progress.epoch}, loss {loss:.4g}"
            ),
        )
        for seed in range(options.seeds):
            path = fit(Run(recipe, options.folder, seed), told, group)
            if group.is_first:
                yield str(path)

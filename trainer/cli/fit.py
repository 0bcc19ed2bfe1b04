"""`python -m trainer fit RECIPE FOLDER`: trains a recipe on a catalog's features.

A training that was interrupted is resumed. Under `torchrun`, all processes train together.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from trainer.base.progress import ProgressBar
from trainer.cli.options import add_folder, add_seeds, add_training, check_training
from trainer.config.recipe import load_recipe, recipe_names
from trainer.training.distributed import distributed_context
from trainer.training.fit import FitOptions, Run, fit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    names = ", ".join(recipe_names())
    parser.add_argument("recipe", metavar="RECIPE", help=f"a .toml file, or one of: {names}")
    add_folder(parser)
    add_seeds(parser, 1, "train N networks, with seeds 0 to N - 1")
    add_training(parser)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Train; yields the file of each trained network."""
    check_training(options)
    recipe = load_recipe(options.recipe, changes=options.changes, small=options.small)
    with distributed_context(options.device) as group, ProgressBar("step") as bar:
        fit_options = FitOptions(
            device=group.device,
            workers=options.workers,
            # Only one of the processes shows a bar.
            on_start=bar.start if group.is_first else FitOptions.on_start,
            on_step=lambda progress, loss: bar.advance_to(
                progress.step, f"epoch {progress.epoch}, loss {loss:.4g}"
            ),
        )
        for seed in range(options.seeds):
            path = fit(Run(recipe, options.folder, seed), fit_options, group)
            if group.is_first:
                yield str(path)

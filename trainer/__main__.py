"""`python -m trainer COMMAND`: works with a catalog and its features, without Luigi.

A command is a row in `COMMANDS` and a module, imported only when it is used, with
`add_arguments(parser)` and `run(options)`, which yields lines to print as they come. Exit codes: 0
done, 2 wrong use, 4 a fault of the machine, 5 something on disk is not as recorded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from storage.base.errors import HighlightsError, IntegrityError, LeaseHeld, SystemicFault
from storage.commands import run_and_exit

DONE, WRONG_USE, IN_THE_WAY, VIOLATION = 0, 2, 4, 5

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("trainer.cli.fit", "train a recipe on a catalog's features"),
    "fit": ("trainer.cli.fit", "the same as train"),
    "score": ("trainer.cli.score", "score a split with a trained network"),
    "table": ("trainer.cli.table", "a table of a paper, published beside measured"),
    "predict": ("trainer.cli.predict", "one video for one person, segment by segment"),
    "report": (
        "trainer.cli.report",
        "a page of timelines: a trained network's predictions for some users",
    ),
    "view": ("trainer.cli.view", "look at a feature store in a browser"),
    "maps": ("trainer.cli.maps", "distinction maps of PLD-VHD drawn over frames"),
    "synthesize": (
        "trainer.cli.synthesize",
        "write synthetic features of users with known preferences, or of categories",
    ),
    "plant": ("trainer.cli.synthesize", "the same as synthesize"),
    "recipes": ("trainer.cli.recipes", "list the recipes, or print a JSON Schema for editors"),
    "baselines": ("trainer.cli.baselines", "metrics of rankers that learn nothing, on a catalog"),
}
"""Name → (module, one line of help)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = make_parser(given[0] if given else "").parse_args(given)
    try:
        for line in options.run(options):
            print(line, flush=True)
    except HighlightsError as error:
        print(error, file=sys.stderr)
        return _exit_code(error)
    return DONE


def _exit_code(error: HighlightsError) -> int:
    if isinstance(error, IntegrityError):
        return VIOLATION
    # Another process or the machine may be out of the way later: the command itself is right.
    if isinstance(error, LeaseHeld | SystemicFault):
        return IN_THE_WAY
    return WRONG_USE


def make_parser(command_name: str) -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer", description="Train, score and evaluate highlight models."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        # The others stay without arguments: importing their modules takes seconds.
        if name == command_name:
            implementation = import_module(module)
            implementation.add_arguments(command)
            command.set_defaults(run=implementation.run)
    return parser


if __name__ == "__main__":
    run_and_exit(main, is_training=True)

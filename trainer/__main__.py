"""`python -m trainer baselines ...`: what is done with a catalog and its features, without Luigi.

A command is a row in `COMMANDS` and a module, imported only when it is asked for, with
`add_arguments(parser)` and `run(options)`, which yields the lines to print as they come. Exit
codes: 0 done, 2 wrong use, 4 the machine is in the way, 5 something on disk is not as recorded.
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
    "fit": ("trainer.cli.fit", "train a recipe on a catalog's features"),
    "score": ("trainer.cli.score", "score a split with a finished network"),
    "table": ("trainer.cli.table", "a table of a paper, published beside measured"),
    "predict": ("trainer.cli.predict", "one video for one person, segment by segment"),
    "report": (
        "trainer.cli.report",
        "a page of timelines: what a finished network says to some users",
    ),
    "maps": ("trainer.cli.maps", "distinction maps of PLD-VHD drawn over frames"),
    "plant": ("trainer.cli.plant", "make a store with planted tastes or categories"),
    "baselines": ("trainer.cli.baselines", "what rankers that learn nothing score on a catalog"),
}
"""Name → (module, one line for a person)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = make_parser(given[0] if given else "").parse_args(given)
    try:
        for line in options.run(options):
            print(line, flush=True)
    except HighlightsError as error:
        print(error, file=sys.stderr)
        if isinstance(error, IntegrityError):
            return VIOLATION
        return IN_THE_WAY if isinstance(error, LeaseHeld | SystemicFault) else WRONG_USE
    return DONE


def make_parser(asked: str) -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer", description="Train, score and judge highlight models."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, told) in COMMANDS.items():
        command = commands.add_parser(name, help=told, description=told)
        if name == asked:
            found = import_module(module)
            found.add_arguments(command)
            command.set_defaults(run=found.run)
    return parser


if __name__ == "__main__":
    run_and_exit(main)

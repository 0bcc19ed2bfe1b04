"""`python -m pipeline`: commands that prepare, check and forecast runs.

A command is a row in `COMMANDS` and a module, imported only when it is used. Exit codes: 0 success
(possibly with warnings), 1 something would stop or spoil a run, or differs, 2 wrong use, 4 a file
or folder cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from models.registry import PluginError
from pipeline.cli.exit_codes import FAILURE, WRONG_USE
from storage.base.errors import HighlightsError, SettingsError
from storage.commands import run_and_exit

COMMANDS: dict[str, str] = {
    "doctor": "check whether this machine is fit for a run, or videos for a build",
    "weights": "published weights: list, fetch, import, forget",
    "verify": "recompute some rows of a store and compare",
    "rebase": "convert times of format version 1 to players' seconds",
    "golden": "write the golden outputs of an extractor",
    "status": "show how far the builds of a catalog are",
    "bench": "measure decoders and networks on this machine",
    "forecast": "estimate what a whole catalog will take",
}
"""Name → one line of help; the module of a command is `pipeline.cli.NAME`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = make_parser(given[0] if given else "").parse_args(given)
    try:
        code: int = options.run(options)
    # Errors of ours are messages for a person; a traceback would only hide them.
    except PluginError as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    except SettingsError as error:
        print("\n".join(error.faults), file=sys.stderr)
        return WRONG_USE
    except HighlightsError as error:
        print(error, file=sys.stderr)
        return FAILURE
    return code


def make_parser(command_name: str = "") -> argparse.ArgumentParser:
    """The parser of all commands; with the options of the one that is named."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline", description="Prepare, check and forecast runs."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        # The others stay without options: their modules import libraries of extras.
        if name == command_name:
            import_module(f"pipeline.cli.{name}").add_options(command)
    return parser


if __name__ == "__main__":
    run_and_exit(main)

"""`python -m pipeline`: commands that prepare, check and forecast runs.

Exit codes: 0 success (possibly with warnings), 1 something would stop or spoil a run, or differs,
2 wrong use, 4 a file or folder cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from models.registry import PluginError
from pipeline.cli import bench, doctor, forecast, golden, rebase, status, verify, weights
from pipeline.cli.exit_codes import FAILURE, WRONG_USE
from storage.base.errors import HighlightsError, SettingsError
from storage.commands import run_and_exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = make_parser().parse_args(arguments)
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


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline", description="Prepare, check and forecast runs."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    doctor.add_options(
        commands.add_parser("doctor", help="check whether this machine is fit for a run")
    )
    weights.add_options(
        commands.add_parser("weights", help="published weights: list, fetch, import, forget")
    )
    verify.add_options(
        commands.add_parser("verify", help="recompute some rows of a store and compare")
    )
    rebase.add_options(
        commands.add_parser("rebase", help="convert times of format version 1 to players' seconds")
    )
    golden.add_options(
        commands.add_parser("golden", help="write the golden outputs of an extractor")
    )
    status.add_options(
        commands.add_parser("status", help="show how far the builds of a catalog are")
    )
    bench.add_options(
        commands.add_parser("bench", help="measure decoders and networks on this machine")
    )
    forecast.add_options(
        commands.add_parser("forecast", help="estimate what a whole catalog will take")
    )
    return parser


if __name__ == "__main__":
    run_and_exit(main)

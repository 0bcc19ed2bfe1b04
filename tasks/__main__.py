"""`python -m tasks settings`: every setting, its default and its meaning.

Tasks are run by `luigi --module tasks TASK` or `video-highlights run TASK`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from storage.base.errors import SettingsError
from storage.commands import WRONG_USE, run_and_exit
from tasks.config.settings_reference import schema, template


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = make_parser().parse_args(arguments)
    try:
        if options.schema:
            text = json.dumps(schema(with_plugins=options.plugins), indent=1)
        else:
            text = template(with_plugins=options.plugins)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    print(text, end="")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m tasks", description="Show the settings.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    settings = commands.add_parser(
        "settings", help="print a settings file with every setting at its default"
    )
    settings.add_argument("--schema", action="store_true", help="print a JSON Schema instead")
    settings.add_argument(
        "--plugins", action="store_true", help="also the sections of installed plug-ins"
    )
    return parser


if __name__ == "__main__":
    run_and_exit(main)

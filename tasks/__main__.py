"""`python -m tasks settings`: every setting, its default and its meaning.

Tasks are run by `luigi --module tasks TASK` or `video-highlights run TASK`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from luigi.configuration import get_config

from models.registry import PluginError
from storage.base.errors import SettingsError
from storage.commands import run_and_exit
from tasks.config.exit_codes import Exit
from tasks.config.sections import SECTION_TYPES, section_types_of
from tasks.config.settings_reference import schema, template


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = make_parser().parse_args(arguments)
    try:
        sections = _sections(options.section)
    except (PluginError, SettingsError) as error:
        print(error, file=sys.stderr)
        return Exit.SETTINGS
    shown = json.dumps(schema(sections), indent=1) if options.schema else template(sections)
    print(shown, end="")
    return Exit.DONE


def _sections(names: Sequence[str]) -> dict[str, type[Any]]:
    """The named sections; without a name, all of ours and those of the settings file's plug-ins."""
    if names:
        return section_types_of(names)
    listed = get_config().get("extract", "extractors", "", raw=True)
    extractors = [name.strip().partition(".")[0] for name in listed.split(",")]
    return {**SECTION_TYPES, **section_types_of(filter(None, extractors))}


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m tasks", description="Show the settings.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    settings = commands.add_parser(
        "settings", help="print a settings file with every setting at its default"
    )
    settings.add_argument(
        "section",
        nargs="*",
        help="only these sections, such as c3d; also that of an installed package's extractor",
    )
    settings.add_argument("--schema", action="store_true", help="print a JSON Schema instead")
    return parser


if __name__ == "__main__":
    run_and_exit(main)

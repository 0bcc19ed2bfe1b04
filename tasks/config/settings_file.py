"""Which settings file a command reads, and reading it into Luigi's configuration.

The first of these is used: `--config FILE`, the environment variable LUIGI_CONFIG_PATH, and
`workflows.cfg` in the working folder. Without any of them every setting has its default.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from luigi.configuration import add_config_path

from storage.base.errors import SettingsError

DEFAULTS = Path(__file__).with_name("defaults.cfg")
USER_FILE = "workflows.cfg"
VARIABLE = "LUIGI_CONFIG_PATH"
OPTION = "--config"


def read_settings_file(arguments: Sequence[str]) -> None:
    """Read our defaults, then the user's file. Raises SettingsError if it cannot be read."""
    add_config_path(str(DEFAULTS))
    path = chosen_file(arguments)
    if path is None:
        return
    if not path.is_file():
        raise SettingsError(
            (f"there is no settings file {path}; correct {OPTION} or {VARIABLE}, or leave it out",)
        )
    try:
        add_config_path(str(path))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise SettingsError((f"{path}: {error}",)) from error


def chosen_file(arguments: Sequence[str]) -> Path | None:
    """The user's settings file; None if there is none."""
    named = _option(arguments) or os.environ.get(VARIABLE)
    if named:
        return Path(named)
    local = Path(USER_FILE)
    return local if local.is_file() else None


def _option(arguments: Sequence[str]) -> str | None:
    for place, word in enumerate(arguments):
        if word.startswith(f"{OPTION}="):
            return word.partition("=")[2]
        if word == OPTION:
            return arguments[place + 1] if place + 1 < len(arguments) else ""
    return None


def exit_if_unreadable() -> None:
    """Read the file of this process's command line; exit with code 2 if it cannot be read."""
    try:
        read_settings_file(sys.argv[1:])
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error

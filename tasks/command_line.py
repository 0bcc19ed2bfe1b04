"""Checks the command line of `luigi --module tasks` before Luigi acts on it.

Luigi prints a traceback for a misspelt task, a missing option or an unreadable value. Here each of
them gets a sentence, and the process ends with exit code 2. Luigi imports `tasks` while it reads
the command line, and calls a function for `--help` right afterwards; that function is replaced.
Settings files are checked in `tasks.config.settings`, except for Luigi's own settings.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, cast

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import get_config
from luigi.task_register import Register, TaskClassException

from pipeline.datasets.registry import DATASETS
from storage.base.errors import SettingsError
from tasks.config.exit_codes import Exit
from tasks.config.luigi_sections import SECTIONS, plugin_section
from tasks.config.luigi_values import parse_faults, value_faults
from tasks.config.settings_file import OPTION, USER_FILE

FaultsOf = Callable[[str], Sequence[str]]
"""Name of a catalog → all faults of its settings."""
HELP_CHECK = "_possibly_exit_with_help"
"""Luigi's function that is called between reading and using the command line."""


class CheckedParser(argparse.ArgumentParser):
    """Luigi's parser, which reports all faults at once."""

    task: type[luigi.Task]
    settings_faults: FaultsOf

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The options as typed. Ends the process with exit code 2 if there are faults."""
        # Plug-ins are imported here, after help was shown.
        _add_plugin_options(self, self.parse_known_args(args)[0])
        known, others = self.parse_known_args(args, namespace)
        given = vars(known)
        others = _without_options_of_unknown_catalog(others, given.get("catalog"))
        faults = [*self._unknown(others), *_luigi_faults(given), *_task_faults(self.task, given)]
        if faults:
            with _parsed_options(known):
                faults += self.settings_faults(given.get("catalog") or "sample")
            exit_with_faults(faults)
        return known

    def error(self, message: str) -> Any:
        """An option without its value."""
        exit_with_faults([message])

    def _unknown(self, words: Sequence[str]) -> Iterator[str]:
        """A sentence for each word that Luigi's parser did not recognize."""
        is_value_of_unknown = False
        for word in words:
            is_option = word.startswith("--")
            if is_option:
                yield self._unknown_option(word.partition("=")[0])
            elif not is_value_of_unknown:
                yield (
                    f"{word!r} is neither an option nor the value of one; a command names one task"
                )
            is_value_of_unknown = is_option and "=" not in word

    def _unknown_option(self, option: str) -> str:
        names: list[str] = []
        for action in self._actions:
            names += action.option_strings
        problem = f"there is no option {option}"
        near = difflib.get_close_matches(option, names, n=3, cutoff=0.75)
        return f"{problem}; near are {', '.join(near)}" if near else problem


def install_command_line_checks(settings_faults: FaultsOf) -> None:
    """Check every command line that Luigi reads from now on, including the present one."""
    exit_with_help: Callable[[Any, Any], None] = getattr(CmdlineParser, HELP_CHECK)

    def check(parser: argparse.ArgumentParser, known: argparse.Namespace) -> None:
        parser.add_argument(
            OPTION,
            metavar="FILE",
            help=f"settings file; default: {USER_FILE} in the working folder",
        )
        exit_with_help(parser, known)
        checked = cast(CheckedParser, parser)
        checked.task = _task_class(known.root_task)
        checked.settings_faults = settings_faults
        # Luigi made the parser already; with another class, its next call ends up in ours.
        checked.__class__ = CheckedParser
        # `--mine-mark` for `--mine-marks` would mean another option once there are two such.
        checked.allow_abbrev = False

    setattr(CmdlineParser, HELP_CHECK, staticmethod(check))


def _add_plugin_options(parser: argparse.ArgumentParser, known: argparse.Namespace) -> None:
    """Options `--NAME-key` for each plug-in that this command names: extractors and dataset."""
    asked = getattr(known, "extract_extractors", None)
    extractors = asked or get_config().get("extract", "extractors", "", raw=True)
    names = [one.strip().partition(".")[0] for one in extractors.split(",")]
    for name in dict.fromkeys([*names, getattr(known, "catalog", None) or ""]):
        if name in SECTIONS:
            continue
        try:
            section = plugin_section(name)
        except ValueError:  # PluginError is one
            continue  # `load_settings` reports it, beside all other faults
        for key, _ in section.get_params() if section is not None else ():
            option = f"--{name}-{key}".replace("_", "-")
            parser.add_argument(option, dest=f"{name}_{key}", help=f"setting {key} of {name}")


def _without_options_of_unknown_catalog(words: list[str], catalog: str | None) -> list[str]:
    """The unknown words without `--CATALOG-key VALUE`, if nothing offers that catalog.

    The fault is then the name of the catalog, which `load_settings` reports.
    """
    is_known = not catalog or catalog in DATASETS or catalog in DATASETS.plugin_names()
    if is_known or catalog in SECTIONS:
        return words
    kept, is_value = [], False
    for word in words:
        is_option = word.startswith("--")
        is_of_catalog = word.startswith(f"--{catalog}-")
        if not is_of_catalog and (is_option or not is_value):
            kept.append(word)
        is_value = is_of_catalog and "=" not in word
    return kept


def exit_with_faults(faults: Sequence[str]) -> NoReturn:
    """Print all faults, each once, and end the process with exit code 2."""
    sys.stderr.write(f"{SettingsError(tuple(dict.fromkeys(faults)))}\n")
    raise SystemExit(Exit.SETTINGS)


def _task_class(name: str | None) -> type[luigi.Task]:
    """The task of this name. Ends the process if there is no such task."""
    tasks = sorted(filter(_is_task, Register.task_names()))
    if name in tasks:
        task: type[luigi.Task] = Register.get_task_cls(name)
        return task
    problem = f"there is no task {name}" if name else "no task is named"
    near = difflib.get_close_matches(name or "", tasks, n=3)
    hint = f"tasks are {', '.join(tasks)}"
    if near:
        hint = f"near are {', '.join(near)}"
    exit_with_faults([f"{problem}; {hint}"])


def _is_task(name: str) -> bool:
    """Whether a person may name it: not a section of settings, and not a class of Luigi's own."""
    try:
        kind = Register.get_task_cls(name)
    except TaskClassException:
        return False
    is_luigis = kind.__module__.startswith("luigi")
    is_private = name.startswith("_")
    return not (is_luigis or is_private or issubclass(kind, luigi.Config))


def _luigi_faults(given: Mapping[str, Any]) -> Iterator[str]:
    """Unreadable values of tasks and of Luigi's own settings, in files and on the command line.

    `load_settings` reads the others.
    """
    config = get_config()
    for section, is_bare, key, parameter in Register.get_all_params():
        if section in SECTIONS:
            continue
        is_on_command_line = given.get(f"{section}_{key}")
        if is_on_command_line or config.has_option(section, key):
            prefix = "--" if is_bare else None
            yield from value_faults(section, {key: parameter}, given=given, options=prefix)
        yield from _older_name_faults(parameter)


def _older_name_faults(parameter: Any) -> Iterator[str]:
    """The same for a value that stands under an older name, such as [core]
    default_scheduler_port.
    """
    older = parameter._config_path
    if older is None:
        return
    section, name = older["section"], older["name"]
    if get_config().has_option(section, name):
        yield from value_faults(section, {name.replace("-", "_"): parameter}, given={})


def _task_faults(task: type[luigi.Task], given: Mapping[str, Any]) -> Iterator[str]:
    """Options of the task itself that are missing or have an unreadable value."""
    family = task.task_family
    for key, parameter in task.get_params():
        option = "--" + key.replace("_", "-")
        text = given.get(key)
        if text:
            yield from parse_faults(option, parameter, text)
            continue
        is_set_elsewhere = given.get(f"{family}_{key}") or get_config().has_option(family, key)
        if not is_set_elsewhere and not parameter.has_task_value(family, key):
            meaning = f": {parameter.description}" if parameter.description else ""
            yield f"{task.__name__} needs {option}{meaning}"


@contextmanager
def _parsed_options(known: argparse.Namespace) -> Iterator[None]:
    """Inside, settings are read with these options, although Luigi does not have them yet."""
    parser = object.__new__(CmdlineParser)
    parser.known_args = known
    previous = CmdlineParser._instance
    CmdlineParser._instance = parser
    try:
        yield
    finally:
        CmdlineParser._instance = previous

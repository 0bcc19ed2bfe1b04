"""What a person typed after `luigi --module tasks`, checked before Luigi acts on it: wrong use is
told and ends with 2.

Luigi answers a misspelt task, a missing option and an unreadable value with tracebacks. It imports
`tasks` while it reads the command line, and asks for help to be shown right afterwards: there
`install` steps in. What lies in settings files is checked in `tasks.config.settings`, unless it is
a setting of Luigi's own.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import get_config
from luigi.task_register import Register, TaskClassException

from storage.base.errors import SettingsError
from tasks.config.exit_codes import Exit
from tasks.config.luigi_sections import SECTIONS
from tasks.config.luigi_values import unreadable, value_faults

FaultsOf = Callable[[str], Sequence[str]]
"""Name of a catalog → everything wrong with its settings."""


class CheckedParser(argparse.ArgumentParser):
    """Luigi's parser, which tells everything that is wrong at once."""

    task: type[luigi.Task]
    settings_faults: FaultsOf

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The options as typed. Ends the process with exit code 2, if they cannot be used."""
        known, others = self.parse_known_args(args, namespace)
        given = vars(known)
        faults = [*self._unknown(others), *_luigi_faults(given), *_task_faults(self.task, given)]
        if faults:
            with _as_if_accepted(known):
                faults += self.settings_faults(given.get("catalog") or "sample")
            refuse(faults)
        return known

    def error(self, message: str) -> Any:
        """An option without its value, or an abbreviation of several options."""
        refuse([message])

    def _unknown(self, words: Sequence[str]) -> Iterator[str]:
        names = [name for action in self._actions for name in action.option_strings]
        value_of_unknown = False
        for word in words:
            option = word.partition("=")[0]
            if word.startswith("--"):
                near = difflib.get_close_matches(option, names, n=3, cutoff=0.75)
                yield f"there is no option {option}" + (
                    f"; near are {', '.join(near)}" if near else ""
                )
            elif not value_of_unknown:
                yield f"{word!r} is neither an option nor the value of one; a command names one task"
            value_of_unknown = word.startswith("--") and "=" not in word


def install(settings_faults: FaultsOf) -> None:
    """Check every command line that Luigi reads from now on, the one being read among them."""
    shown_help: Callable[[Any, Any], None] = CmdlineParser._possibly_exit_with_help

    def check(parser: argparse.ArgumentParser, known: argparse.Namespace) -> None:
        shown_help(parser, known)
        checked = cast(CheckedParser, parser)
        checked.task, checked.settings_faults = _named(known.root_task), settings_faults
        checked.__class__ = CheckedParser

    setattr(CmdlineParser, "_possibly_exit_with_help", staticmethod(check))  # noqa: B010  mypy: it is a method


def refuse(faults: Sequence[str]) -> None:
    """Tell and end."""
    sys.stderr.write(f"{SettingsError(tuple(dict.fromkeys(faults)))}\n")
    raise SystemExit(Exit.SETTINGS)


def _named(name: str | None) -> type[luigi.Task]:
    tasks = sorted(one for one in Register.task_names() if _is_task(one))
    if name in tasks:
        task: type[luigi.Task] = Register.get_task_cls(name)
        return task
    near = difflib.get_close_matches(name or "", tasks, n=3)
    hint = f"near are {', '.join(near)}" if near else f"tasks are {', '.join(tasks)}"
    refuse([f"there is no task {name}; {hint}" if name else f"no task is named; {hint}"])
    raise AssertionError


def _is_task(name: str) -> bool:
    try:
        kind = Register.get_task_cls(name)
    except TaskClassException:
        return False
    return not (
        issubclass(kind, luigi.Config)
        or kind.__module__.startswith("luigi")
        or name.startswith("_")
    )


def _luigi_faults(given: Mapping[str, Any]) -> Iterator[str]:
    """Values of Luigi's own settings and of tasks, in files and on the command line; others are
    read by `load`.
    """
    for section, is_bare, key, parameter in Register.get_all_params():
        if section in SECTIONS:
            continue
        if given.get(f"{section}_{key}") or get_config().has_option(section, key):
            prefix = "--" if is_bare else None
            yield from value_faults(section, {key: parameter}, given=given, options=prefix)
        older = parameter._config_path  # such as [core] default_scheduler_port
        if older and get_config().has_option(older["section"], older["name"]):
            yield from value_faults(
                older["section"], {older["name"].replace("-", "_"): parameter}, given={}
            )


def _task_faults(task: type[luigi.Task], given: Mapping[str, Any]) -> Iterator[str]:
    """Options of the task itself: each that it cannot do without, and each with a value that it
    cannot read.
    """
    for key, parameter in task.get_params():
        option, text = "--" + key.replace("_", "-"), given.get(key)
        elsewhere = given.get(f"{task.task_family}_{key}") or get_config().has_option(
            task.task_family, key
        )
        if text:
            yield from unreadable(option, parameter, text)
        elif not elsewhere and not parameter.has_task_value(task.task_family, key):
            meaning = f": {parameter.description}" if parameter.description else ""
            yield f"{task.__name__} needs {option}{meaning}"


@contextmanager
def _as_if_accepted(known: argparse.Namespace) -> Iterator[None]:
    """Inside, settings are read with these options, though Luigi will never be handed them."""
    parser = object.__new__(CmdlineParser)
    parser.known_args = known
    before, CmdlineParser._instance = CmdlineParser._instance, parser
    try:
        yield
    finally:
        CmdlineParser._instance = before

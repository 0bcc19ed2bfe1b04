"""Binds plain tables, as TOML gives them, to frozen dataclasses of settings.

The check is strict, and an error lists every fault of a table.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from models import settings_binding
from models.settings_binding import convert, unknown_name
from storage.base.errors import SettingsError

T = TypeVar("T")


def bind(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `kind` with the values of `table`, and defaults for the rest.

    Raises SettingsError with a sentence for each fault: an unknown name, a value of the wrong type,
    a missing value, or an error of the dataclass itself. `where` names the table in them.
    """
    if not isinstance(table, Mapping):
        raise SettingsError((f"{where} must be a table; got {table!r}",))
    bound = settings_binding.bind(kind, table, where=f"{where}.")
    if bound.settings is None:
        raise SettingsError(bound.faults)
    return bound.settings


def check_arguments(function: Callable[..., Any], values: Mapping[str, Any], where: str) -> None:
    """Raise SettingsError unless the function takes all these values by keyword.

    Each value must be of the type that the function states.
    """
    hints = typing.get_type_hints(function)
    known = dict.fromkeys(keyword_only_names(function))
    faults = []
    for name, value in values.items():
        place = f"{where}.{name}"
        if name not in known:
            faults.append(unknown_name(place, name, known))
            continue
        try:
            convert(hints[name], value)
        except ValueError as error:
            faults.append(f"{place} must be {error}; got {value!r}")
    if faults:
        raise SettingsError(tuple(sorted(faults)))


def keyword_only_names(function: Callable[..., Any]) -> list[str]:
    """The names of the keyword-only parameters of a function."""
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]

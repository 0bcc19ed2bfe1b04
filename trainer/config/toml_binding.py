"""Plain tables (as TOML gives them) → frozen dataclasses of settings, strictly, with every fault
told at once.

Refuses to know what the settings mean.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from storage.base.errors import SettingsError

T = TypeVar("T")

MAX_INTEGER = 2**31 - 1
"""No count, size or seed here is larger; libraries below fail on larger ones in ways of their
own.
"""


class _WrongValue(Exception):
    """A value that its field does not take; the text says what is taken."""


def bind(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `kind` with the values of `table`, defaults for the rest.

    Raises SettingsError with a sentence per fault: a name that is no field, a value of the wrong
    type, a missing value, or whatever the dataclass itself refuses. `where` names the table in
    those sentences.
    """
    if not isinstance(table, Mapping):
        raise SettingsError((f"{where} must be a table, got {table!r}",))
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    there = ", ".join(sorted(fields)) or "none"
    faults = [f"{where}.{name} is no setting; there are {there}" for name in table.keys() - fields]
    values = {}
    for name, value in table.items():
        if name in fields:
            try:
                values[name] = _convert(hints[name], value)
            except _WrongValue as unfit:
                faults.append(f"{where}.{name} must be {unfit}, got {value!r}")
    needed = [name for name, field in fields.items() if _has_no_default(field)]
    faults += [f"{where}.{name} is missing" for name in needed if name not in table]
    if faults:
        raise SettingsError(tuple(faults))
    try:
        return kind(**values)
    except ValueError as error:
        raise SettingsError((f"{where}: {error}",)) from error


def check_arguments(function: Callable[..., Any], values: Mapping[str, Any], where: str) -> None:
    """Raise SettingsError unless the function takes all these values by keyword, each of the type
    it states.
    """
    hints = typing.get_type_hints(function)
    taken = [
        p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY
    ]
    faults = [
        f"{where} has no setting {name}; it has {', '.join(taken) or 'none'}"
        for name in values.keys() - taken
    ]
    for name, value in values.items():
        if name in taken:
            try:
                _convert(hints[name], value)
            except _WrongValue as unfit:
                faults.append(f"{where}.{name} must be {unfit}, got {value!r}")
    if faults:
        raise SettingsError(tuple(sorted(faults)))


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _convert_settings(hint, value)
    if origin is Literal:
        return _convert_literal(arguments, value)
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value)
    if origin is tuple:
        return _convert_tuple(arguments, value)
    if origin is Sequence:
        return _convert_tuple((*arguments, Ellipsis), value)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _WrongValue("a table")
        return {
            _convert(arguments[0], key): _convert(arguments[1], item) for key, item in value.items()
        }
    return _convert_scalar(hint, value)


def _convert_settings(hint: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        raise _WrongValue("a table")
    try:
        return bind(hint, value, hint.__name__)
    except SettingsError as error:
        raise _WrongValue(f"right in all its parts ({'; '.join(error.faults)})") from error


def _convert_literal(allowed: tuple[Any, ...], value: Any) -> Any:
    if not any(type(value) is type(one) and value == one for one in allowed):
        raise _WrongValue(f"one of {', '.join(map(repr, allowed))}")
    return value


def _convert_union(hints: tuple[Any, ...], value: Any) -> Any:
    faults = []
    # TOML has no null: an empty text stands for it.
    if type(None) in hints and (value is None or value == ""):
        return None
    for hint in hints:
        if hint is type(None):
            continue
        try:
            return _convert(hint, value)
        except _WrongValue as unfit:
            faults.append(str(unfit))
    raise _WrongValue(" or ".join(faults))


def _convert_tuple(hints: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _WrongValue("a list")
    if len(hints) == 2 and hints[1] is Ellipsis:
        return tuple(_convert(hints[0], item) for item in value)
    if len(value) != len(hints):
        raise _WrongValue(f"a list of {len(hints)}")
    return tuple(_convert(hint, item) for hint, item in zip(hints, value, strict=True))


def _convert_scalar(hint: Any, value: Any) -> Any:
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:  # neither infinite nor NaN
            return float(value)
        raise _WrongValue("a finite number")
    if hint is int and type(value) is int:
        if abs(value) <= MAX_INTEGER:
            return value
        raise _WrongValue(f"a whole number up to {MAX_INTEGER}")
    if hint is Path and isinstance(value, str) and "\0" not in value:
        return Path(value)
    if hint in (str, bool) and type(value) is hint:
        return value
    raise _WrongValue(
        {
            float: "a number",
            int: "a whole number",
            str: "a text",
            bool: "true or false",
            Path: "a path",
        }[hint]
    )

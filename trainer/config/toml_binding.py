"""Binds plain tables, as TOML gives them, to frozen dataclasses of settings.

The check is strict, and an error lists every fault of a table.
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
"""Largest count, size or seed. Libraries fail on larger ones, each with an error of its own."""
_NOUNS = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    Path: "a path",
}


class _WrongValue(Exception):
    """A value that does not fit its field; the text says what the field takes."""


def bind(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `kind` with the values of `table`, and defaults for the rest.

    Raises SettingsError with a sentence for each fault: an unknown name, a value of the wrong type,
    a missing value, or an error of the dataclass itself. `where` names the table in them.
    """
    if not isinstance(table, Mapping):
        raise SettingsError((f"{where} must be a table, got {table!r}",))
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    names = sorted(field.name for field in fields)
    faults = _unknown_names(table, names, where)
    values, wrong_values = _convert_values(table, {name: hints[name] for name in names}, where)
    faults += wrong_values
    for field in fields:
        if field.name not in table and _has_no_default(field):
            faults.append(f"{where}.{field.name} is missing")
    if faults:
        raise SettingsError(tuple(faults))
    try:
        return kind(**values)
    except ValueError as error:
        raise SettingsError((f"{where}: {error}",)) from error


def check_arguments(function: Callable[..., Any], values: Mapping[str, Any], where: str) -> None:
    """Raise SettingsError unless the function takes all these values by keyword.

    Each value must be of the type that the function states.
    """
    hints = typing.get_type_hints(function)
    known = keyword_only_names(function)
    faults = _unknown_names(values, known, where)
    _, wrong_values = _convert_values(values, {name: hints[name] for name in known}, where)
    faults += wrong_values
    if faults:
        raise SettingsError(tuple(sorted(faults)))


def _convert_values(
    table: Mapping[str, Any], hints: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], list[str]]:
    """The values of the known names as their types hold them, and a fault for each other value."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, value in table.items():
        if name not in hints:
            continue
        try:
            values[name] = _convert(hints[name], value)
        except _WrongValue as wrong:
            faults.append(f"{where}.{name} must be {wrong}, got {value!r}")
    return values, faults


def _unknown_names(table: Mapping[str, Any], known: Sequence[str], where: str) -> list[str]:
    hint = f"choose from {', '.join(known)}" if known else "there are none"
    return [f"{where}.{name} is not a setting; {hint}" for name in table if name not in known]


def keyword_only_names(function: Callable[..., Any]) -> list[str]:
    """The names of the keyword-only parameters of a function."""
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any) -> Any:
    """The value as a field of this type holds it. _WrongValue if it does not fit."""
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _convert_settings(hint, value)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is None:
        return _convert_scalar(hint, value)
    if origin is Literal:
        return _convert_literal(arguments, value)
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value)
    if origin is tuple:
        return _convert_tuple(arguments, value)
    if origin is Sequence:
        return _convert_tuple((*arguments, Ellipsis), value)
    if issubclass(origin, Mapping):
        return _convert_mapping(arguments, value)
    raise TypeError(f"a settings field cannot be of type {hint}")


def _convert_settings(hint: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        raise _WrongValue("a table")
    try:
        return bind(hint, value, hint.__name__)
    except SettingsError as error:
        raise _WrongValue(f"right in all its parts ({'; '.join(error.faults)})") from error


def _convert_mapping(hints: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, dict):
        raise _WrongValue("a table")
    return {_convert(hints[0], key): _convert(hints[1], item) for key, item in value.items()}


def _convert_literal(allowed: tuple[Any, ...], value: Any) -> Any:
    # The types are compared too: 1 == True.
    if not any(type(value) is type(one) and value == one for one in allowed):
        raise _WrongValue(f"one of {', '.join(map(repr, allowed))}")
    return value


def _convert_union(hints: tuple[Any, ...], value: Any) -> Any:
    # TOML has no null: an empty text stands for it.
    if type(None) in hints and (value is None or value == ""):
        return None
    faults = []
    # The first type that fits: `int | float` keeps whole numbers whole.
    for hint in hints:
        if hint is type(None):
            continue
        try:
            return _convert(hint, value)
        except _WrongValue as wrong:
            faults.append(str(wrong))
    raise _WrongValue(" or ".join(faults))


def _convert_tuple(hints: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _WrongValue("a list")
    has_any_length = hints[-1] is Ellipsis
    if has_any_length:
        return tuple(_convert(hints[0], item) for item in value)
    if len(value) != len(hints):
        raise _WrongValue(f"a list of {len(hints)}")
    return tuple(_convert(hint, item) for hint, item in zip(hints, value, strict=True))


def _convert_scalar(hint: Any, value: Any) -> Any:
    if hint is float:
        return _convert_float(value)
    if hint is int:
        return _convert_int(value)
    if hint is Path:
        return _convert_path(value)
    if hint in (str, bool) and type(value) is hint:
        return value
    raise _WrongValue(_NOUNS[hint])


def _convert_path(value: Any) -> Path:
    if not isinstance(value, str):
        raise _WrongValue(_NOUNS[Path])
    # The operating system takes no path with a NUL.
    if "\0" in value:
        raise _WrongValue(_NOUNS[Path])
    return Path(value)


def _convert_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _WrongValue(_NOUNS[float])
    if not abs(value) <= sys.float_info.max:  # infinite, NaN, or a whole number without a float
        raise _WrongValue("a finite number")
    return float(value)


def _convert_int(value: Any) -> int:
    if type(value) is not int:
        raise _WrongValue(_NOUNS[int])
    if abs(value) > MAX_INTEGER:
        raise _WrongValue(f"a whole number up to {MAX_INTEGER}")
    return value

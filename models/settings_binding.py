"""Values from files and command lines → frozen dataclasses of settings, with every fault at once.

pydantic converts and checks each value by its field's type. A dataclass may check more in
`__post_init__`, which stops at its first fault; `bind` then takes the default for that field and
tries again, so that one look at the message is enough to repair a file.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import json
import math
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin

T = TypeVar("T")
MAX_INTEGER = 2**31 - 1
"""No count, size or seed here is larger; libraries below fail on larger ones in other ways."""
_WORDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
}


@dataclass(frozen=True)
class Bound(Generic[T]):
    """What `bind` found."""

    settings: T | None
    """None if there is any fault."""
    faults: tuple[str, ...]
    """One sentence for each fault: the setting, what is allowed, and the value."""


def bind(
    kind: type[T], table: Mapping[str, Any], *, where: str = "", from_text: bool = False
) -> Bound[T]:
    """An instance of the dataclass `kind` with the values of `table`, defaults for the rest.

    `from_text` says that every value is a text, as settings files and command lines have it; lists
    are separated by commas there. `where` is written before each setting's name, such as `[c3d] `.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    faults = [unknown_name(f"{where}{name}", name, fields) for name in table.keys() - fields]
    known = {name: given for name, given in table.items() if name in fields}
    values, unfit = _convert_all(kind, known, where, from_text=from_text)
    required = {name for name, field in fields.items() if _is_required(field)}
    faults += unfit
    faults += [f"{where}{name} is missing" for name in fields if name in required - table.keys()]
    # A value that was not converted is missing too, and its fault is listed already.
    settings, refused = _construct(kind, values, where, can_construct=required <= values.keys())
    faults += refused
    return Bound(None if faults else settings, tuple(faults))


def _convert_all(
    kind: type[Any], given: Mapping[str, Any], where: str, *, from_text: bool
) -> tuple[dict[str, Any], list[str]]:
    hints = typing.get_type_hints(kind)
    values, faults = {}, []
    for name, value in given.items():
        try:
            values[name] = convert(hints[name], value, from_text=from_text)
        except ValueError as error:
            faults.append(f"{where}{name} must be {error}; got {value!r}")
    return values, faults


def unknown_name(shown: str, name: str, known: Mapping[str, Any]) -> str:
    """A sentence about a name that is not known, with the nearest that is."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known)) or 'none'}"
    return f"{shown} is not a setting; {hint}"


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _construct(
    kind: type[T], values: Mapping[str, Any], where: str, *, can_construct: bool
) -> tuple[T | None, list[str]]:
    faults: list[str] = []
    left = dict(values)
    while can_construct:
        try:
            return kind(**left), faults
        except (ValueError, TypeError) as error:
            message = str(error)
            is_about_a_field = any(message.startswith(name) for name in left)
            # `data.` stands before a field's name, and `data: ` before any other sentence.
            prefix = where if is_about_a_field else f"{where.rstrip('. ')}: ".lstrip(": ")
            faults.append(f"{prefix}{message}")
            # Without the refused value, the class may have more to say about the others.
            refused = [name for name in left if message.startswith(name)]
            if not refused:
                return None, faults
            del left[max(refused, key=len)]
            can_construct = not any(
                _is_required(field) and field.name not in left
                for field in dataclasses.fields(kind)  # type: ignore[arg-type]
            )
    return None, faults


def convert(hint: Any, value: Any, *, from_text: bool = False) -> Any:
    """`value` as the type `hint` says. Raises ValueError with what is allowed, in words."""
    if dataclasses.is_dataclass(hint):
        return _convert_nested(hint, value)
    if from_text and isinstance(value, str):
        return _from_text(hint, value)
    is_literal = get_origin(hint) is Literal
    if is_literal and type(value) not in {type(one) for one in get_args(hint)}:
        raise ValueError(expected(hint))  # True equals 1, and pydantic takes one for the other
    if value == "" and type(None) in get_args(hint):
        return None  # TOML has no null: an empty text stands for it
    return _checked(hint, _validate(hint, value, is_strict=True))


def _convert_nested(hint: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError("a table")
    bound = bind(hint, value)
    if bound.settings is None:
        raise ValueError(f"right in all its parts ({'; '.join(bound.faults)})")
    return bound.settings


def _from_text(hint: Any, text: str) -> Any:
    if get_origin(hint) is tuple:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return tuple(_from_text(get_args(hint)[0], part) for part in parts)
    if hint is bool and text.lower() not in ("true", "false"):
        raise ValueError(_WORDS[bool])
    if hint is int and not text.strip().lstrip("+-").isdecimal():
        raise ValueError(_WORDS[int])  # pydantic would also take 4.0 and 4_000
    return _checked(hint, _validate(hint, text, is_strict=False))


def _validate(hint: Any, value: Any, *, is_strict: bool) -> Any:
    from pydantic import ValidationError

    adapter = _adapter(hint)
    try:
        if not is_strict:
            return adapter.validate_python(value)
        # JSON's own rules: a list may become a tuple and a text a path, but no text a number.
        return adapter.validate_json(json.dumps(value, default=str), strict=True)
    except (ValidationError, ValueError) as error:
        raise ValueError(expected(hint)) from error


@functools.cache
def _adapter(hint: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(hint)


def _checked(hint: Any, value: Any) -> Any:
    for number in _numbers(value):
        is_finite = not isinstance(number, float) or math.isfinite(number)
        is_small = not isinstance(number, int) or abs(number) <= MAX_INTEGER
        if not is_finite:
            raise ValueError(expected(hint))
        if not is_small:
            raise ValueError(f"a whole number up to {MAX_INTEGER}")
    return value


def _numbers(value: Any) -> Iterator[int | float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)


def expected(hint: Any) -> str:
    """What a type allows, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, types.UnionType):
        return _expected_union(arguments)
    if dataclasses.is_dataclass(hint):
        return "a table"
    if _is_kind(origin, Mapping):
        return f"a table, each value {expected(arguments[1])}" if arguments else "a table"
    if _is_kind(origin, Sequence):
        return _expected_list(arguments)
    return _WORDS.get(hint, str(hint))


def _is_kind(origin: Any, kind: type[Any]) -> bool:
    return isinstance(origin, type) and issubclass(origin, kind)


def _expected_union(arguments: tuple[Any, ...]) -> str:
    kinds = [expected(one) for one in arguments if one is not type(None)]
    if type(None) in arguments:
        kinds.append("empty")
    return " or ".join(kinds)


def _expected_list(arguments: tuple[Any, ...]) -> str:
    if len(arguments) > 1 and arguments[1] is not Ellipsis:
        return f"a list of {len(arguments)}"
    return f"a list, each {expected(arguments[0])}" if arguments else "a list"


def descriptions(kind: type[Any]) -> dict[str, str]:
    """Field → the text below it in the class, of a dataclass and of those it extends."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if dataclasses.is_dataclass(one):
            found |= _own_descriptions(one)
    return found


def _own_descriptions(kind: type[Any]) -> dict[str, str]:
    try:
        source = inspect.getsource(kind)
    except OSError:
        return {}  # made by `dataclasses.make_dataclass`, which writes no source
    (tree,) = ast.parse(textwrap.dedent(source)).body
    found = {}
    for statement, following in pairwise(tree.body if isinstance(tree, ast.ClassDef) else []):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found


def json_schema(kind: type[Any]) -> dict[str, Any]:
    """The JSON Schema of a dataclass, with its descriptions, for editors."""
    schema: dict[str, Any] = _adapter(typing.cast("typing.Hashable", kind)).json_schema()
    for name, text in descriptions(kind).items():
        schema.get("properties", {}).get(name, {})["description"] = text
    schema["additionalProperties"] = False
    return schema


def json_schema_of_type(hint: Any) -> dict[str, Any]:
    """The JSON Schema of a value of that type."""
    schema: dict[str, Any] = _adapter(hint).json_schema()
    return schema

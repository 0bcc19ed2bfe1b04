"""Every setting with its default and its meaning: as a page, as a settings file, as JSON Schema."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from models.settings_binding import json_schema
from tasks.config.sections import SECTION_TYPES, extractor_descriptions, section_descriptions

COLUMNS = 100


def text_of(value: Any) -> str:
    """A value as a settings file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def template(sections: Mapping[str, type[Any]] = SECTION_TYPES) -> str:
    """A settings file with every setting of these sections at its default, below its meaning."""
    blocks = ["\n".join(_template_section(name, kind)) for name, kind in sections.items()]
    return "\n\n".join(blocks) + "\n"


def _template_section(name: str, kind: type[Any]) -> Iterator[str]:
    described = _descriptions(name, kind)
    yield f"[{name}]"
    for field in dataclasses.fields(kind):
        yield from textwrap.wrap(
            described[field.name], COLUMNS, initial_indent="# ", subsequent_indent="# "
        )
        yield f"{field.name} = {text_of(field.default)}".rstrip()


def page() -> Iterator[str]:
    """Markdown blocks: a heading for each section, a paragraph for each setting."""
    for name, kind in SECTION_TYPES.items():
        described = section_descriptions(name)
        yield f"## `[{name}]`"
        for field in dataclasses.fields(kind):
            default = text_of(field.default)
            shown = f"`{default}`" if default else "empty"
            yield f"**`{field.name}`** (default: {shown})  \n{described[field.name]}"


def _descriptions(name: str, kind: type[Any]) -> dict[str, str]:
    is_plugin = name not in SECTION_TYPES
    return extractor_descriptions(kind) if is_plugin else section_descriptions(name)


def schema(sections: Mapping[str, type[Any]] = SECTION_TYPES) -> dict[str, Any]:
    """JSON Schema of these sections; lists are texts separated by commas in a settings file."""
    schemas = {}
    for name, kind in sections.items():
        section = json_schema(kind)
        for key, text in _descriptions(name, kind).items():
            section["properties"][key]["description"] = text
        schemas[name] = section
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of video-highlights",
        "type": "object",
        "properties": schemas,
    }

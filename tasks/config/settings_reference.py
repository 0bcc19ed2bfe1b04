"""Every setting with its default and its meaning: as a page, as a settings file, as JSON Schema."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Any

from models.settings_binding import json_schema
from tasks.config.sections import SECTION_TYPES, section_descriptions

COLUMNS = 100


def text_of(value: Any) -> str:
    """A value as a settings file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def template() -> str:
    """A settings file with every setting at its default, each below its meaning."""
    blocks = ["\n".join(_template_section(name, kind)) for name, kind in SECTION_TYPES.items()]
    return "\n\n".join(blocks) + "\n"


def _template_section(name: str, kind: type[Any]) -> Iterator[str]:
    described = section_descriptions(name)
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


def schema() -> dict[str, Any]:
    """JSON Schema of all sections; lists are texts separated by commas in a settings file."""
    sections = {}
    for name, kind in SECTION_TYPES.items():
        section = json_schema(kind)
        for key, text in section_descriptions(name).items():
            section["properties"][key]["description"] = text
        sections[name] = section
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of video-highlights",
        "type": "object",
        "properties": sections,
    }

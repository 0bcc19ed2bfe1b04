"""Every setting with its default and its meaning: as a page, as a settings file, as JSON Schema."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Any

from models.settings_binding import json_schema
from storage.base.errors import SettingsError
from tasks.config.sections import SECTION_TYPES, plugin_section_types, section_descriptions

COLUMNS = 100


def text_of(value: Any) -> str:
    """A value as a settings file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def section_types(*, with_plugins: bool) -> dict[str, type[Any]]:
    """Section → its class, of ours and, if asked, of the plug-ins, which are then imported.

    Raises SettingsError for a plug-in that cannot be used.
    """
    if not with_plugins:
        return SECTION_TYPES
    try:
        return {**SECTION_TYPES, **plugin_section_types()}
    except ValueError as error:  # PluginError is one
        raise SettingsError((str(error),)) from error


def template(*, with_plugins: bool = False) -> str:
    """A settings file with every setting at its default, each below its meaning."""
    types = section_types(with_plugins=with_plugins)
    blocks = ["\n".join(_template_section(name, kind)) for name, kind in types.items()]
    return "\n\n".join(blocks) + "\n"


def _template_section(name: str, kind: type[Any]) -> Iterator[str]:
    described = section_descriptions(name, kind)
    yield f"[{name}]"
    for field in dataclasses.fields(kind):
        # A plug-in may leave a setting without a text.
        yield from textwrap.wrap(
            described.get(field.name, ""), COLUMNS, initial_indent="# ", subsequent_indent="# "
        )
        has_default = field.default is not dataclasses.MISSING
        yield f"{field.name} = {text_of(field.default) if has_default else ''}".rstrip()


def page() -> Iterator[str]:
    """Markdown blocks: a heading for each section, a paragraph for each setting."""
    for name, kind in SECTION_TYPES.items():
        described = section_descriptions(name)
        yield f"## `[{name}]`"
        for field in dataclasses.fields(kind):
            default = text_of(field.default)
            shown = f"`{default}`" if default else "empty"
            yield f"**`{field.name}`** (default: {shown})  \n{described[field.name]}"


def schema(*, with_plugins: bool = False) -> dict[str, Any]:
    """JSON Schema of all sections; lists are texts separated by commas in a settings file."""
    sections = {}
    for name, kind in section_types(with_plugins=with_plugins).items():
        section = json_schema(kind)
        for key, text in section_descriptions(name, kind).items():
            section["properties"][key]["description"] = text
        sections[name] = section
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of video-highlights",
        "type": "object",
        "properties": sections,
    }

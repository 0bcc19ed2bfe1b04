"""JSON Schema of a recipe, for editors that check and complete TOML."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any

from models.highlight.registry import HIGHLIGHT_MODELS
from models.settings_binding import json_schema, json_schema_of_type
from trainer.config.recipe import STAGE_NAMES, OptimizerSettings, TrainingSettings, recipe_names
from trainer.config.toml_binding import keyword_only_names
from trainer.data.sources.settings import DataSettings
from trainer.losses.registry import DOMAIN_OBJECTIVES, OBJECTIVES
from trainer.losses.set_based.domain_steps import SetSampling

_TEXTS = {"type": "array", "items": {"type": "string"}}


def recipe_schema() -> dict[str, Any]:
    """The schema of a recipe's file: its tables, and the settings of each model and objective.

    It does not know which settings go together; loading a recipe checks that.
    """
    definitions: dict[str, Any] = {}
    tables = _tables(definitions)
    properties = {
        "extends": _described({"type": "string"}, "A recipe's name, or a .toml file."),
        "source": _described({"type": "string"}, "Paper, table and row."),
        "gaps": _described(_TEXTS, "What the source leaves open, and how it is filled here."),
        "stages": {"type": "array", "items": {"enum": list(STAGE_NAMES)}},
        **tables,
        "small": _table(tables, "Tables for a trial of seconds."),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of video-highlights",
        **_table(properties, "What defines a training run."),
        "$defs": definitions,
    }


def _tables(definitions: dict[str, Any]) -> dict[str, Any]:
    models = {
        name: _settings(spec.settings, definitions) for name, spec in HIGHLIGHT_MODELS.items()
    }
    objectives = {
        name: _arguments(one) for name, one in {**OBJECTIVES, **DOMAIN_OBJECTIVES}.items()
    }
    start = {"type": "object", "additionalProperties": {"enum": list(recipe_names())}}
    return {
        "model": _named(models),
        "data": _settings(DataSettings, definitions),
        "sets": _settings(SetSampling, definitions),
        "objective": _named(objectives),
        "optimizer": _settings(OptimizerSettings, definitions),
        "training": _settings(TrainingSettings, definitions),
        "start": _described(start, "Part of the network: the recipe that initialises it."),
    }


def _settings(kind: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a table of settings; an empty text stands for None, which TOML lacks.

    What it refers to goes to `definitions`, which belong at the root of the whole schema.
    """
    schema = json_schema(kind)
    definitions |= schema.pop("$defs", {})
    schema.pop("required", None)  # a recipe may inherit them
    for setting in schema["properties"].values():
        for choice in setting.get("anyOf", []):
            if choice == {"type": "null"}:
                choice.clear()
                choice["const"] = ""
    return schema


def _arguments(function: Callable[..., Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(function)
    names = keyword_only_names(function)
    return _table({name: json_schema_of_type(hints[name]) for name in names}, "")


def _named(kinds: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """A table whose `name` decides which settings it has; without a name, those of any."""
    every: dict[str, Any] = {"name": {"enum": sorted(kinds)}}
    for schema in kinds.values():
        every |= {name: {} for name in schema["properties"]}
    choices = []
    for name, schema in sorted(kinds.items()):
        properties = {"name": {"const": name}, **schema["properties"]}
        choices.append(
            {
                "if": {"properties": {"name": {"const": name}}, "required": ["name"]},
                "then": {"properties": properties, "additionalProperties": False},
            }
        )
    return {**_table(every, ""), "allOf": choices}


def _table(properties: Mapping[str, Any], description: str) -> dict[str, Any]:
    table = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return _described(table, description) if description else table


def _described(schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {**schema, "description": description}

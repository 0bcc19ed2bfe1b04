"""Every table and setting of a recipe as Markdown, with its default and its meaning."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

from models.highlight.base.contract import ModelSpec
from models.highlight.registry import HIGHLIGHT_MODELS
from models.settings_binding import descriptions, expected
from trainer.config.recipe import STAGE_NAMES, OptimizerSettings, TrainingSettings
from trainer.config.toml_binding import keyword_only_names
from trainer.data.sources.settings import DataSettings
from trainer.losses.registry import DOMAIN_OBJECTIVES, OBJECTIVES
from trainer.losses.set_based.domain_steps import SetSampling

_OF_MODEL = {"arrays", "unit", "history"}
"""Data settings whose default is the model's."""


def page() -> Iterator[str]:
    """Markdown blocks: the keys outside of tables, then each table."""
    yield "## Keys outside of tables"
    yield "\n".join(_top_level())
    yield "## `[model]`"
    yield (
        "`name` is a model of this page or of a plug-in. The other keys are its settings, which "
        "are listed below for each model."
    )
    yield "## `[objective]`"
    yield (
        "`name` is an objective of this page, needed by the stage `gradient`. The other keys are "
        "its settings, which are listed below for each objective."
    )
    for name, kind in (
        ("data", DataSettings),
        ("optimizer", OptimizerSettings),
        ("training", TrainingSettings),
        ("sets", SetSampling),
    ):
        yield f"## `[{name}]`"
        yield "\n".join(_settings(kind))
    yield "## `[start]`"
    yield "Part of the network = the recipe whose trained network initialises that part."
    yield "## `[small]`"
    yield "`[small.model]` and so on replace values of these tables with `--small`, for a trial."
    yield "## Models"
    for name, spec in HIGHLIGHT_MODELS.items():
        yield "\n".join(_model(name, spec))
    yield "## Objectives on one batch"
    for name, function in OBJECTIVES.items():
        yield "\n".join(_objective(name, function))
    yield "## Objectives on a labelled and an unlabelled batch"
    for name, steps in DOMAIN_OBJECTIVES.items():
        yield "\n".join(_objective(name, steps))


def _top_level() -> Iterator[str]:
    yield "- `extends`: a recipe's name, or a `.toml` file, whose values hold where yours has none."
    yield "- `source`: paper, table and row, as a text. Default: that of the model."
    yield "- `gaps`: a list of texts: what the source leaves open, and how it is filled here."
    stages = ", ".join(f"`{name}`" for name in STAGE_NAMES)
    yield (
        f"- `stages`: a list of {stages}, in the order in which they run. Default: `gradient`, or "
        "none for a model without parameters."
    )


def _model(name: str, spec: ModelSpec) -> Iterator[str]:
    yield f"### `{name}`"
    yield ""
    arrays = ", ".join(f"`{key}`" for key in spec.arrays) or "no array"
    yield f"{spec.source}. Reads {arrays}; unit `{spec.unit}`, history `{spec.history}`."
    lines = list(_settings(spec.settings))
    if lines:
        yield ""
        yield from lines


def _objective(name: str, function: Callable[..., Any]) -> Iterator[str]:
    yield f"### `{name}`"
    yield ""
    summary = (inspect.getdoc(function) or "").partition("\n\n")[0]
    yield " ".join(summary.split())
    names = keyword_only_names(function)
    hints, parameters = get_type_hints(function), inspect.signature(function).parameters
    if names:
        yield ""
    for one in names:
        yield _line(one, hints[one], parameters[one].default, "")


def _settings(kind: type[Any]) -> Iterator[str]:
    described, hints = descriptions(kind), get_type_hints(kind)
    for field in dataclasses.fields(kind):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        text = described.get(field.name, "")
        if kind is DataSettings and field.name in _OF_MODEL:
            text = f"Default: that of the model. {text}".strip()
        yield _line(field.name, hints[field.name], default, text)


def _line(name: str, hint: Any, default: Any, text: str) -> str:
    has_default = default not in (dataclasses.MISSING, inspect.Parameter.empty)
    shown = f", default `{_toml(default)}`" if has_default else ""
    # Some types are named by their allowed values, which may contain a bar.
    allowed = expected(hint).replace("|", "\\|")
    return f"- `{name}` ({allowed}{shown}){': ' if text else ''}{text}".rstrip()


def _toml(value: Any) -> str:
    """A default as a recipe writes it; an empty text stands for None, which TOML lacks."""
    if value is None:
        return '""'
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"{{{', '.join(f'{k} = {_toml(v)}' for k, v in vars(value).items())}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Path):
        return json.dumps(str(value))
    return str(value) if isinstance(value, float) else json.dumps(value)

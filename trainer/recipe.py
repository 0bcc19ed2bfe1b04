"""Recipes: everything a training run is made of, as TOML that names its source and its gaps.

    recipes/phd_ca.toml          model, data, objective, optimizer, training; what the paper leaves open, in `gaps`
    recipes/phd_ca_ed.toml       extends = "phd_ca": an ablation says only what differs

`[small]` repeats any of these tables with widths for a trial of seconds. Knows the models' and objectives' tables.
Refuses to know stores and runs.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from models.highlight.contract import ModelSpec
from models.highlight.table import highlight_model
from storage.errors import LookupFailed, SettingsError
from storage.fingerprint import fingerprint
from trainer.binding import bind
from trainer.data.settings import DataSettings
from trainer.objectives.domains import SetRules
from trainer.objectives.table import DOMAIN_OBJECTIVES, domain_objective, objective

_TABLES = ("model", "data", "sets", "objective", "optimizer", "training", "start")
_SHARED = ("data", "optimizer", "training")
_WORDS = ("source", "gaps", "stages", "small")


@dataclass(frozen=True)
class OptimizerSettings:
    """Which optimizer, and how its learning rate falls."""

    name: Literal["adam", "sgd", "rmsprop"] = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decay: float = 1.0
    """The learning rate is multiplied by this ..."""
    decay_every_epochs: int = 1
    """... after every so many epochs."""
    clip_norm: float | None = None
    """Gradients are scaled down to this norm; none of the papers says it does."""

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or not 0 < self.decay <= 1 or self.decay_every_epochs < 1:
            raise ValueError(f"learning_rate above 0, decay in (0, 1], decay_every_epochs from 1; got {self}")


@dataclass(frozen=True)
class TrainingSettings:
    """How long, in what batches, and by what the best epoch is chosen."""

    epochs: int = 10
    batch_size: int = 32
    """Examples of a step, over all processes."""
    scoring_batch_size: int = 1
    accumulate: int = 1
    """Batches whose gradients make one step."""
    precision: Literal["fp32", "bf16"] = "fp32"
    validate: bool = True
    """Score the validation users after each epoch and keep the best; else the last epoch is kept."""
    select_by: str = "ap"
    """Metric of the catalog's protocol that decides, on validation users only."""
    patience: int | None = None
    """Stop after so many epochs without a better validation score; None: never."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "scoring_batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        if self.patience is not None and not self.validate:
            raise ValueError("patience needs validate = true: stopping early on anything else would look at the test")


@dataclass(frozen=True)
class Recipe:
    """One system, ready to be trained."""

    name: str
    source: str
    """Paper, table and row."""
    gaps: tuple[str, ...]
    """What the source leaves open and what is done here instead; printed with every table."""
    spec: ModelSpec
    model_settings: Any
    data: DataSettings
    objective: str
    objective_settings: Mapping[str, Any]
    optimizer: OptimizerSettings
    training: TrainingSettings
    stages: tuple[str, ...]
    """What fitting consists of, in order; see `trainer.stages`."""
    sets: SetRules = field(default_factory=SetRules)
    """How sets are drawn, for an objective on two batches."""
    start: Mapping[str, str] = field(default_factory=dict)
    """Part of the network → recipe whose trained network it starts as; see `started`."""
    changes: tuple[str, ...] = ()
    """What was changed by hand."""
    is_small: bool = False
    table: Mapping[str, Any] = field(default_factory=dict)
    """The merged TOML: what a checkpoint keeps."""

    @property
    def has_rounds(self) -> bool:
        """Whether its objective is one of steps on two batches (`trainer.objectives.domains`)."""
        return self.objective in DOMAIN_OBJECTIVES

    @property
    def fingerprint(self) -> str:
        """12 hex digits over all that the recipe says, and those it starts from, apart from words for people."""
        said = {name: value for name, value in self.table.items() if name not in ("source", "gaps", "small")}
        started = {part: self.started(part).fingerprint for part in self.start}
        return fingerprint({"name": self.name, "small": self.is_small, **said, "start": started})

    def started(self, part: str) -> Recipe:
        """The recipe a part starts from: as small, and with the same changes to data, optimizer and training."""
        shared = [change for change in self.changes if change.partition(".")[0].strip() in _SHARED]
        return load_recipe(self.start[part], changes=shared, small=self.is_small)


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with the project, ascending."""
    return tuple(sorted(path.name.removesuffix(".toml") for path in _folder().iterdir() if path.name.endswith(".toml")))


def load_recipe(name: str, *, changes: Sequence[str] = (), small: bool = False) -> Recipe:
    """A recipe by its name, or a `.toml` file of your own.

    `changes` are `table.key=value` as TOML has them (`training.epochs=3`). Raises LookupFailed, which lists the names,
    and SettingsError with every fault.
    """
    table = _merged_file(name, ())
    shrunk = table.pop("small", {})
    if small:
        table = _merged(table, shrunk)
    for change in changes:
        table = _merged(table, _parsed_change(change))
    return replace(_recipe(Path(name).stem, table, is_small=small), changes=tuple(changes))


def restore_recipe(name: str, table: Mapping[str, Any], *, is_small: bool, asked: Sequence[str] = ()) -> Recipe:
    """The recipe that a checkpoint keeps, to be asked with other data settings (`data.history_videos=4`).

    SettingsError for a change to anything that was settled in training.
    """
    merged = copy.deepcopy(dict(table))
    for change in asked:
        parsed = _parsed_change(change)
        if set(parsed) != {"data"}:
            raise SettingsError((f"a trained network can be asked with other data settings alone; got {change!r}",))
        merged = _merged(merged, parsed)
    return _recipe(name, merged, is_small=is_small)


def _recipe(name: str, table: dict[str, Any], *, is_small: bool) -> Recipe:
    unknown = sorted(set(table) - {*_TABLES, *_WORDS})
    if unknown:
        raise SettingsError((f"recipe {name} has no table {', '.join(unknown)}; there are {', '.join(_TABLES)}",))
    model = dict(table.get("model", {}))
    goal = dict(table.get("objective", {}))
    spec = _spec(name, model.pop("name", ""))
    goal_name = goal.pop("name", "")
    stages = tuple(table.get("stages", ("gradient",) if spec.is_trained else ()))
    if "gradient" in stages:
        _check_objective(name, goal_name, goal)
    given = {"arrays": spec.arrays, "unit": spec.unit, "history": spec.history}
    return Recipe(
        name=name,
        source=table.get("source", spec.source),
        gaps=tuple(table.get("gaps", ())),
        spec=spec,
        model_settings=bind(spec.settings, model, f"{name}: model"),
        data=bind(DataSettings, given | table.get("data", {}), f"{name}: data"),
        objective=goal_name,
        objective_settings=goal,
        optimizer=bind(OptimizerSettings, table.get("optimizer", {}), f"{name}: optimizer"),
        training=bind(TrainingSettings, table.get("training", {}), f"{name}: training"),
        stages=stages,
        sets=bind(SetRules, table.get("sets", {}), f"{name}: sets"),
        start=table.get("start", {}),
        is_small=is_small,
        table=table,
    )


def _spec(recipe: str, model: str) -> ModelSpec:
    try:
        return highlight_model(model)
    except KeyError as error:
        raise SettingsError((f"recipe {recipe}: {error.args[0]}",)) from error


def _check_objective(recipe: str, name: str, settings: Mapping[str, Any]) -> None:
    make = domain_objective if name in DOMAIN_OBJECTIVES else objective
    try:
        make(name, **settings)
    except (KeyError, ValueError) as error:
        raise SettingsError((f"recipe {recipe}: {error.args[0]}",)) from error


def _folder() -> Any:
    return resources.files("trainer") / "recipes"


def _merged_file(name: str, children: tuple[str, ...]) -> dict[str, Any]:
    if name in children:
        raise SettingsError((f"recipes extend each other in a circle: {' → '.join([*children, name])}",))
    table = _read(name)
    parent = table.pop("extends", None)
    return table if parent is None else _merged(_merged_file(parent, (*children, name)), table)


def _read(name: str) -> dict[str, Any]:
    file = Path(name) if name.endswith(".toml") else _folder() / f"{name}.toml"
    if not file.is_file():
        raise LookupFailed(f"no recipe {name!r}; there are {', '.join(recipe_names())}, or give a .toml file")
    try:
        return tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise SettingsError((f"{file}: {error}",)) from error


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `under`, table by table; a table that is a value, such as data.max_items, is replaced whole.

    Another model or objective by name starts from its own defaults.
    """
    merged = copy.deepcopy(dict(under))
    for key, value in over.items():
        below = merged.get(key)
        if key in (*_TABLES, "small") and isinstance(value, Mapping) and isinstance(below, dict):
            is_other = "name" in value and value["name"] != below.get("name") and key in ("model", "objective")
            merged[key] = dict(value) if is_other else _merged(below, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _parsed_change(change: str) -> dict[str, Any]:
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise SettingsError((f"a change is table.key=value, such as training.epochs=3; got {change!r}",))
    try:
        return tomllib.loads(f"{key} = {value}")
    except tomllib.TOMLDecodeError:
        return tomllib.loads(f'{key} = "{value.strip()}"')

"""Recipes: everything a training run is made of, as TOML that names its source and its gaps.

    recipes/phd_ca.toml          model, data, objective, optimizer, training; what the paper leaves
    open, in `gaps` recipes/phd_ca_ed.toml       extends = "phd_ca": an ablation says only what
    differs

`[small]` repeats any of these tables with widths for a trial of seconds. Knows the models' and
objectives' tables. Refuses to know stores and runs.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from models.highlight.base.contract import ModelSpec
from models.highlight.registry import HIGHLIGHT_MODELS
from storage.base.errors import LookupFailed, SettingsError
from storage.base.fingerprint import fingerprint
from trainer.config.toml_binding import bind, check_arguments
from trainer.data.sources.settings import DataSettings
from trainer.losses.registry import (
    DOMAIN_OBJECTIVES,
    make_domain_objective,
    make_objective,
    objective_function,
)
from trainer.losses.set_based.domain_steps import SetSampling

_TABLES = ("model", "data", "sets", "objective", "optimizer", "training", "start")
_SHARED_TABLES = ("data", "optimizer", "training")
_OTHER_KEYS = ("source", "gaps", "stages", "small")
MAX_COUNT = 1_000_000
"""Epochs, or examples of a batch: more is a slip of the pen, not a plan."""
METRICS = (
    "ap", "ap_uninterpolated", "ap_step", "ap_trapezoid", "nmsd", "nmsd_mean", "nmsd_best", "recall_at_5",
    "top5_half", "top5_median", "top5_majority", "top5_each", "f_mean", "f_max",
)  # fmt: skip
"""What the protocols measure; which of them a catalog has, its dataset says."""
MAX_BYTES = 1_000_000
MAX_LAYER_SIZE = 65_536
"""Of any count or width of a network."""
STAGE_NAMES = ("gradient", "latent_ranking_svm", "ranking_svm", "fusion", "per_user")
"""What fitting may consist of; `trainer.training.stages` has a function for each."""
_CHANGE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,63}")
"""Of a recipe: it becomes part of the name of a folder."""


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
            raise ValueError(
                f"learning_rate above 0, decay in (0, 1], decay_every_epochs from 1; got {self}"
            )
        if not 0 <= self.momentum < 1 or not self.weight_decay >= 0:
            raise ValueError(f"momentum in [0, 1), weight_decay from 0; got {self}")
        if self.nesterov and (self.name != "sgd" or not self.momentum):
            raise ValueError(f"nesterov is for name = 'sgd' with a momentum above 0; got {self}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm is None or above 0, got {self.clip_norm}")


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
    """Score the validation users after each epoch and keep the best; else the last epoch is
    kept.
    """
    select_by: str = "ap"
    """Metric of the catalog's protocol that decides, on validation users only."""
    patience: int | None = None
    """Stop after so many epochs without a better validation score; None: never."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "scoring_batch_size", "accumulate"):
            if not 1 <= getattr(self, name) <= MAX_COUNT:
                raise ValueError(f"{name} is 1 to {MAX_COUNT}, got {getattr(self, name)}")
        if self.patience is not None and not 1 <= self.patience <= MAX_COUNT:
            raise ValueError(f"patience is None or 1 to {MAX_COUNT}, got {self.patience}")
        if self.select_by not in METRICS:
            raise ValueError(f"select_by is one of {', '.join(METRICS)}; got {self.select_by!r}")
        if self.patience is not None and not self.validate:
            raise ValueError(
                "patience needs validate = true: stopping early on anything else would look at the test"
            )


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
    """What fitting consists of, in order; see `trainer.training.stages`."""
    sets: SetSampling = field(default_factory=SetSampling)
    """How sets are drawn, for an objective on two batches."""
    start: Mapping[str, str] = field(default_factory=dict)
    """Part of the network → recipe whose trained network it starts as; see `started`."""
    changes: tuple[str, ...] = ()
    """What was changed by hand."""
    is_small: bool = False
    table: Mapping[str, Any] = field(default_factory=dict)
    """The merged TOML: what a checkpoint keeps."""

    @property
    def is_two_domain(self) -> bool:
        """Whether its objective is one of steps on two batches
        (`trainer.losses.set_based.domain_steps`).
        """
        return self.objective in DOMAIN_OBJECTIVES

    @property
    def fingerprint(self) -> str:
        """12 hex digits over all that the recipe says, and those it starts from, apart from words
        for people.
        """
        said = {
            name: value
            for name, value in self.table.items()
            if name not in ("source", "gaps", "small")
        }
        started = {part: self.start_recipe(part).fingerprint for part in self.start}
        return fingerprint({"name": self.name, "small": self.is_small, **said, "start": started})

    def start_recipe(self, part: str) -> Recipe:
        """The recipe a part starts from: as small, and with the same changes to data, optimizer and
        training.
        """
        shared = [
            change for change in self.changes if change.partition(".")[0].strip() in _SHARED_TABLES
        ]
        return load_recipe(self.start[part], changes=shared, small=self.is_small)


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with the project, ascending."""
    return tuple(
        sorted(
            path.name.removesuffix(".toml")
            for path in _recipes_folder().iterdir()
            if path.name.endswith(".toml")
        )
    )


def load_recipe(name: str, *, changes: Sequence[str] = (), small: bool = False) -> Recipe:
    """A recipe by its name, or a `.toml` file of your own.

    `changes` are `table.key=value` as TOML has them (`training.epochs=3`). Raises LookupFailed,
    which lists the names, and SettingsError with every fault.
    """
    if not _NAME.fullmatch(Path(name).stem):
        raise SettingsError(
            (f"a recipe is named in 1 to 64 of a-z 0-9 _ . -, got {Path(name).stem[:100]!r}",)
        )
    table = _read_extended(name, ())
    shrunk = table.pop("small", {})
    if not isinstance(shrunk, dict):
        raise SettingsError((f"recipe {name}: small must be a table, got {shrunk!r}",))
    if small:
        table = _merge_tables(table, shrunk)
    for change in changes:
        parsed = _parse_change(change)
        if "small" in parsed:
            raise SettingsError(
                (f"--small takes the recipe's small widths as they are; got {change!r}",)
            )
        table = _merge_tables(table, parsed)
    return replace(_build_recipe(Path(name).stem, table, is_small=small), changes=tuple(changes))


def restore_recipe(
    name: str, table: Mapping[str, Any], *, is_small: bool, changes: Sequence[str] = ()
) -> Recipe:
    """The recipe that a checkpoint keeps, to be asked with other data settings
    (`data.history_videos=4`).

    SettingsError for a change to anything that was settled in training.
    """
    merged = copy.deepcopy(dict(table))
    for change in changes:
        parsed = _parse_change(change)
        if set(parsed) != {"data"}:
            raise SettingsError(
                (f"a trained network can be asked with other data settings alone; got {change!r}",)
            )
        merged = _merge_tables(merged, parsed)
    return _build_recipe(name, merged, is_small=is_small)


def _build_recipe(name: str, table: dict[str, Any], *, is_small: bool) -> Recipe:
    unknown = sorted(set(table) - {*_TABLES, *_OTHER_KEYS})
    if unknown:
        raise SettingsError(
            (f"recipe {name} has no table {', '.join(unknown)}; there are {', '.join(_TABLES)}",)
        )
    written = {one: table.get(one, {}) for one in _TABLES}
    faults = [
        f"{one} must be a table, got {value!r}"
        for one, value in written.items()
        if not isinstance(value, dict)
    ]
    for word in ("stages", "gaps"):
        listed = table.get(word, [])
        if not isinstance(listed, list | tuple) or not all(isinstance(one, str) for one in listed):
            faults.append(f"{word} must be a list of texts, got {listed!r}")
    if not faults and (
        strange := [one for one in table.get("stages", []) if one not in STAGE_NAMES]
    ):
        faults.append(f"no stage {strange[0]!r}; there are {', '.join(STAGE_NAMES)}")
    if not isinstance(table.get("source", ""), str):
        faults.append(f"source must be a text, got {table['source']!r}")
    if faults:
        raise SettingsError(tuple(f"recipe {name}: {fault}" for fault in faults))
    _check_starts(name, table.get("start", {}))
    model = dict(table.get("model", {}))
    goal = dict(table.get("objective", {}))
    spec = _model_spec(name, model.pop("name", ""))
    goal_name = goal.pop("name", "")
    stages = tuple(table.get("stages", ("gradient",) if spec.is_trained else ()))
    if "gradient" in stages:
        _check_objective(name, goal_name, goal)
    given = {"arrays": spec.arrays, "unit": spec.unit, "history": spec.history}
    model_settings = bind(spec.settings, model, f"{name}: model")
    _check_sizes(name, model_settings)
    return Recipe(
        name=name,
        source=table.get("source", spec.source),
        gaps=tuple(table.get("gaps", ())),
        spec=spec,
        model_settings=model_settings,
        data=bind(DataSettings, given | table.get("data", {}), f"{name}: data"),
        objective=goal_name,
        objective_settings=goal,
        optimizer=bind(OptimizerSettings, table.get("optimizer", {}), f"{name}: optimizer"),
        training=bind(TrainingSettings, table.get("training", {}), f"{name}: training"),
        stages=stages,
        sets=bind(SetSampling, table.get("sets", {}), f"{name}: sets"),
        start=table.get("start", {}),
        is_small=is_small,
        table=table,
    )


def _model_spec(recipe: str, model: str) -> ModelSpec:
    try:
        return HIGHLIGHT_MODELS[model]
    except KeyError as error:
        raise SettingsError((f"recipe {recipe}: {error.args[0]}",)) from error


def _check_objective(recipe: str, name: str, settings: Mapping[str, Any]) -> None:
    try:
        check_arguments(objective_function(name), settings, f"recipe {recipe}: objective {name}")
        make = make_domain_objective if name in DOMAIN_OBJECTIVES else make_objective
        make(name, **settings)
    except (KeyError, ValueError) as error:
        raise SettingsError((f"recipe {recipe}: {error.args[0]}",)) from error


def _check_sizes(recipe: str, settings: Any) -> None:
    """Of a network: a slip of the pen must not fill the memory, or build layers for ever."""
    for one in fields(settings):
        value = getattr(settings, one.name)
        for number in value if isinstance(value, tuple) else (value,):
            if type(number) is int and not -1 <= number <= MAX_LAYER_SIZE:
                raise SettingsError(
                    (
                        f"recipe {recipe}: model.{one.name} is up to {MAX_LAYER_SIZE}, and not negative; got {value!r}",
                    )
                )


def _check_starts(recipe: str, start: Mapping[str, Any]) -> None:
    known = recipe_names()
    for part, other in start.items():
        if other not in known:
            told = f"start.{part} names a recipe that a part of the network starts as, one of {', '.join(known)}"
            raise SettingsError((f"recipe {recipe}: {told}; got {other!r}",))


def _recipes_folder() -> Any:
    return resources.files("trainer") / "recipes"


def _read_extended(name: str, children: tuple[str, ...]) -> dict[str, Any]:
    if name in children:
        raise SettingsError(
            (f"recipes extend each other in a circle: {' → '.join([*children, name])}",)
        )
    table = _read(name)
    parent = table.pop("extends", None)
    if not isinstance(parent, str | None):
        raise SettingsError(
            (f"recipe {name}: extends names a recipe, or a .toml file; got {parent!r}",)
        )
    return (
        table if parent is None else _merge_tables(_read_extended(parent, (*children, name)), table)
    )


def _read(name: str) -> dict[str, Any]:
    is_file = name.endswith(".toml")
    if not (is_file or name in recipe_names()) or (is_file and not Path(name).is_file()):
        raise LookupFailed(
            f"no recipe {name!r}; there are {', '.join(recipe_names())}, or give a .toml file"
        )
    file = Path(name) if is_file else _recipes_folder() / f"{name}.toml"
    try:
        content = file.read_bytes()[: MAX_BYTES + 1]
        if len(content) > MAX_BYTES:
            raise SettingsError((f"{file} is no recipe: it has more than {MAX_BYTES:,} bytes",))
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError((f"{file} is no TOML: {error}",)) from error
    except OSError as error:
        raise SettingsError((f"{file} cannot be read: {error.strerror}",)) from error


def _merge_tables(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `under`, table by table; a table that is a value, such as data.max_items, is
    replaced whole.

    Another model or objective by name starts from its own defaults.
    """
    merged = copy.deepcopy(dict(under))
    for key, value in over.items():
        below = merged.get(key)
        if key in (*_TABLES, "small") and isinstance(value, Mapping) and isinstance(below, dict):
            is_other = (
                "name" in value
                and value["name"] != below.get("name")
                and key in ("model", "objective")
            )
            merged[key] = dict(value) if is_other else _merge_tables(below, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _parse_change(change: str) -> dict[str, Any]:
    key, equals, value = change.partition("=")
    fault = SettingsError(
        (f"a change is table.key=value, such as training.epochs=3; got {change[:200]!r}",)
    )
    if not equals or not _CHANGE.fullmatch(key.strip()) or not change.isprintable():
        raise fault
    try:
        return tomllib.loads(f"{key} = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        pass  # a text without its quotation marks, as a shell leaves it
    try:
        return tomllib.loads(f'{key} = "{value.strip()}"')
    except tomllib.TOMLDecodeError as error:
        raise fault from error

"""Recipes: everything that defines a training run, as TOML that names its source and its gaps.

    recipes/phd_ca.toml     model, data, objective, optimizer, training; in `gaps` what the paper
                            leaves open
    recipes/phd_ca_ed.toml  extends = "phd_ca": an ablation holds only what differs

`[small]` repeats any of these tables with widths for a trial of seconds.
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
from models.registry import PluginError
from models.validation import above, at_least, between, one_of, unit_interval
from storage.base.errors import LookupFailed, SettingsError
from storage.base.fingerprint import fingerprint
from trainer.config.toml_binding import bind, check_arguments
from trainer.data.sources.settings import DataSettings
from trainer.losses.registry import (
    DOMAIN_OBJECTIVES,
    OBJECTIVES,
    make_domain_objective,
    make_objective,
    objective_function,
)
from trainer.losses.set_based.domain_steps import SetSampling

_TABLES = ("model", "data", "sets", "objective", "optimizer", "training", "start")
_SHARED_TABLES = ("data", "optimizer", "training")
_OTHER_KEYS = ("source", "gaps", "stages", "small")
MAX_COUNT = 1_000_000
"""Most epochs, or examples of a batch: a larger number is a typing error."""
METRICS = (
    "ap", "ap_uninterpolated", "ap_step", "ap_trapezoid", "nmsd", "nmsd_mean", "nmsd_best",
    "recall_at_5", "top5_half", "top5_median", "top5_majority", "top5_each", "f_mean", "f_max",
)  # fmt: skip
"""The metrics of all protocols; each dataset has some of them."""
MAX_BYTES = 1_000_000
MAX_LAYER_SIZE = 65_536
"""Largest count or width in the settings of a network."""
STAGE_NAMES = ("gradient", "latent_ranking_svm", "ranking_svm", "fusion", "per_user")
"""The stages of fitting; `trainer.training.stages` has a function for each."""
_CHANGE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,63}")
"""Name of a recipe: it becomes part of the name of a folder."""


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer, and how its learning rate decays."""

    name: Literal["adam", "sgd", "rmsprop"] = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decay: float = 1.0
    """The learning rate is multiplied by this after every `decay_every_epochs` epochs."""
    decay_every_epochs: int = 1
    clip_norm: float | None = None
    """Gradients are scaled down to this norm; None: not at all. No paper mentions it."""

    def __post_init__(self) -> None:
        above("learning_rate", self.learning_rate, 0)
        above("decay", self.decay, 0)
        unit_interval("decay", self.decay)
        at_least("decay_every_epochs", self.decay_every_epochs, 1)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1; got {self.momentum}")
        at_least("weight_decay", self.weight_decay, 0)
        if self.nesterov and self.name != "sgd":
            raise ValueError(f"nesterov needs name = 'sgd'; got name = {self.name!r}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0; got 0")
        if self.clip_norm is not None:
            above("clip_norm", self.clip_norm, 0)


@dataclass(frozen=True)
class TrainingSettings:
    """Number of epochs, batch sizes, and how the best epoch is selected."""

    epochs: int = 10
    batch_size: int = 32
    """Examples of a step, over all processes."""
    scoring_batch_size: int = 1
    accumulate: int = 1
    """Number of batches whose gradients are averaged for one step."""
    precision: Literal["fp32", "bf16"] = "fp32"
    validate: bool = True
    """Score the validation users after each epoch and keep the best epoch; else keep the last."""
    select_by: str = "ap"
    """Metric of the catalog's protocol that selects the best epoch, on validation users only."""
    patience: int | None = None
    """Stop after so many epochs without a better validation score; None: never."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "scoring_batch_size", "accumulate"):
            between(name, getattr(self, name), 1, MAX_COUNT)
        one_of("select_by", self.select_by, METRICS)
        if self.patience is None:
            return
        between("patience", self.patience, 1, MAX_COUNT)
        if not self.validate:
            raise ValueError(
                "patience needs validate = true: stopping early on anything else would use the "
                "test split"
            )


@dataclass(frozen=True)
class Recipe:
    """One system, ready to be trained."""

    name: str
    source: str
    """Paper, table and row."""
    gaps: tuple[str, ...]
    """Gaps of the source, and how they are filled here; printed with every table."""
    spec: ModelSpec
    model_settings: Any
    data: DataSettings
    objective: str
    objective_settings: Mapping[str, Any]
    optimizer: OptimizerSettings
    training: TrainingSettings
    stages: tuple[str, ...]
    """The stages of fitting, in order; see `trainer.training.stages`."""
    sets: SetSampling = field(default_factory=SetSampling)
    """How sets are sampled, for an objective on two batches."""
    start: Mapping[str, str] = field(default_factory=dict)
    """Part of the network → recipe whose trained network initialises it; see `start_recipe`."""
    changes: tuple[str, ...] = ()
    """The changes on the command line, as `table.key=value`."""
    is_small: bool = False
    table: Mapping[str, Any] = field(default_factory=dict)
    """The merged TOML, which checkpoints keep."""

    @property
    def is_two_domain(self) -> bool:
        """Whether its objective trains on two batches (`trainer.losses.set_based`)."""
        return self.objective in DOMAIN_OBJECTIVES

    @property
    def fingerprint(self) -> str:
        """12 hex digits over the recipe and those it starts from, without texts for people."""
        # Texts for people do not change a result, so they do not change the name of a run.
        hashed = dict(self.table)
        for name in ("source", "gaps", "small"):
            hashed.pop(name, None)
        started = {part: self.start_recipe(part).fingerprint for part in self.start}
        return fingerprint({"name": self.name, "small": self.is_small, **hashed, "start": started})

    def start_recipe(self, part: str) -> Recipe:
        """The recipe that initialises a part of the network.

        It is as small, with the same changes to data, optimizer and training.
        """
        shared = []
        for change in self.changes:
            table = change.partition(".")[0].strip()
            if table in _SHARED_TABLES:
                shared.append(change)
        return load_recipe(self.start[part], changes=shared, small=self.is_small)


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with the project, ascending."""
    files = [path.name for path in _recipes_folder().iterdir()]
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def load_recipe(name: str, *, changes: Sequence[str] = (), small: bool = False) -> Recipe:
    """A recipe by its name, or from a `.toml` file of your own.

    `changes` are `table.key=value` in TOML (`training.epochs=3`). Raises LookupFailed for an
    unknown name, with all names, and SettingsError with every fault.
    """
    if not _NAME.fullmatch(Path(name).stem):
        raise SettingsError(
            (
                "the name of a recipe has 1 to 64 of the characters a-z 0-9 _ . -; "
                f"got {Path(name).stem[:100]!r}",
            )
        )
    table = _read_extended(name, ())
    small_tables = table.pop("small", {})
    if not isinstance(small_tables, dict):
        raise SettingsError((f"recipe {name}: small must be a table, got {small_tables!r}",))
    if small:
        table = _merge_tables(table, small_tables)
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
    """The recipe of a checkpoint, with `changes` to its data settings (`data.history_videos=4`).

    SettingsError for a change to another table: training settled those.
    """
    merged = copy.deepcopy(dict(table))
    for change in changes:
        parsed = _parse_change(change)
        if set(parsed) != {"data"}:
            raise SettingsError(
                (f"only data settings of a trained model can be changed; got {change!r}",)
            )
        merged = _merge_tables(merged, parsed)
    return _build_recipe(name, merged, is_small=is_small)


def _build_recipe(name: str, table: dict[str, Any], *, is_small: bool) -> Recipe:
    _check_tables(name, table)
    _check_starts(name, table.get("start", {}))
    # Copies: the names are taken out of them, and `table` goes into checkpoints unchanged.
    model = dict(table.get("model", {}))
    objective = dict(table.get("objective", {}))
    spec = _model_spec(name, model.pop("name", ""))
    objective_name = objective.pop("name", "")
    default_stages = ("gradient",) if spec.is_trained else ()
    stages = tuple(table.get("stages", default_stages))
    if "gradient" in stages:
        _check_objective(name, objective_name, objective)
    model_settings = bind(spec.settings, model, f"{name}: model")
    _check_sizes(name, model_settings)
    # The model decides these; a recipe may still override them.
    data_of_model = {"arrays": spec.arrays, "unit": spec.unit, "history": spec.history}
    return Recipe(
        name=name,
        source=table.get("source", spec.source),
        gaps=tuple(table.get("gaps", ())),
        spec=spec,
        model_settings=model_settings,
        data=bind(DataSettings, data_of_model | table.get("data", {}), f"{name}: data"),
        objective=objective_name,
        objective_settings=objective,
        optimizer=bind(OptimizerSettings, table.get("optimizer", {}), f"{name}: optimizer"),
        training=bind(TrainingSettings, table.get("training", {}), f"{name}: training"),
        stages=stages,
        sets=bind(SetSampling, table.get("sets", {}), f"{name}: sets"),
        start=table.get("start", {}),
        is_small=is_small,
        table=table,
    )


def _check_tables(name: str, table: Mapping[str, Any]) -> None:
    """Raise SettingsError with every key of the TOML that is unknown or of the wrong type."""
    unknown = sorted(set(table) - {*_TABLES, *_OTHER_KEYS})
    if unknown:
        raise SettingsError(
            (f"recipe {name} has no table {', '.join(unknown)}; there are {', '.join(_TABLES)}",)
        )
    faults = _wrong_types(table)
    if not faults:
        unknown = [stage for stage in table.get("stages", []) if stage not in STAGE_NAMES]
        names = ", ".join(STAGE_NAMES)
        faults = [f"unknown stage {stage!r}; choose from {names}" for stage in unknown]
    if faults:
        raise SettingsError(tuple(f"recipe {name}: {fault}" for fault in faults))


def _wrong_types(table: Mapping[str, Any]) -> list[str]:
    """A fault for each key of the TOML whose value has the wrong type."""
    faults = []
    for key in _TABLES:
        if not isinstance(table.get(key, {}), dict):
            faults.append(f"{key} must be a table, got {table[key]!r}")
    for key in ("stages", "gaps"):
        if not _is_list_of_texts(table.get(key, [])):
            faults.append(f"{key} must be a list of texts, got {table[key]!r}")
    if not isinstance(table.get("source", ""), str):
        faults.append(f"source must be a text, got {table['source']!r}")
    return faults


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _model_spec(recipe: str, model: str) -> ModelSpec:
    if not model:
        raise SettingsError(
            (f'recipe {recipe} names no model: add a table [model] with name = "NAME"',)
        )
    try:
        spec = HIGHLIGHT_MODELS[model]
        HIGHLIGHT_MODELS.check_name(model)  # also of ours: a plug-in may offer the same name
        return spec
    except (KeyError, PluginError) as error:
        raise SettingsError((f"recipe {recipe}: {error.args[0]}",)) from error


def _check_objective(recipe: str, name: str, settings: Mapping[str, Any]) -> None:
    if not name:
        raise SettingsError(
            (
                f"recipe {recipe} names no objective: add a table [objective] with name = "
                f'"NAME", one of {", ".join(sorted({**OBJECTIVES, **DOMAIN_OBJECTIVES}))}',
            )
        )
    try:
        check_arguments(objective_function(name), settings, f"recipe {recipe}: objective {name}")
        make = make_domain_objective if name in DOMAIN_OBJECTIVES else make_objective
        make(name, **settings)
    except (KeyError, ValueError) as error:
        raise SettingsError((f"recipe {recipe}: {error.args[0]}",)) from error


def _check_sizes(recipe: str, settings: Any) -> None:
    """Raise SettingsError for a size that would fill the memory, or build layers without end."""
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        numbers = value if isinstance(value, tuple) else (value,)
        # `type(...) is int`: a bool is an int too. -1 stands for "all" in some models.
        sizes = [number for number in numbers if type(number) is int]
        lowest, highest = min(sizes, default=0), max(sizes, default=0)
        if lowest < -1 or highest > MAX_LAYER_SIZE:
            raise SettingsError(
                (
                    f"recipe {recipe}: model.{setting.name} must be 0 to {MAX_LAYER_SIZE}; "
                    f"got {value!r}",
                )
            )


def _check_starts(recipe: str, start: Mapping[str, Any]) -> None:
    known = recipe_names()
    for part, other in start.items():
        if other not in known:
            raise SettingsError(
                (
                    f"recipe {recipe}: start.{part} must name the recipe whose network initialises "
                    f"this part, one of {', '.join(known)}; got {other!r}",
                )
            )


def _recipes_folder() -> Any:
    return resources.files("trainer") / "recipes"


def _read_extended(name: str, children: tuple[str, ...]) -> dict[str, Any]:
    """The TOML of a recipe, merged with the recipe that it extends."""
    if name in children:
        raise SettingsError(
            (f"recipes extend each other in a circle: {' → '.join([*children, name])}",)
        )
    table = _read(name)
    parent = table.pop("extends", None)
    if parent is None:
        return table
    if not isinstance(parent, str):
        raise SettingsError(
            (f"recipe {name}: extends names a recipe, or a .toml file; got {parent!r}",)
        )
    return _merge_tables(_read_extended(parent, (*children, name)), table)


def _read(name: str) -> dict[str, Any]:
    file = _find_file(name)
    try:
        # One byte more than allowed shows that a file is too large without reading all of it.
        content = file.read_bytes()[: MAX_BYTES + 1]
        if len(content) > MAX_BYTES:
            raise SettingsError((f"{file} is not a recipe: it has more than {MAX_BYTES:,} bytes",))
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError((f"{file} is not valid TOML: {error}",)) from error
    except OSError as error:
        raise SettingsError((f"{file} cannot be read: {error.strerror}",)) from error


def _find_file(name: str) -> Any:
    """The file of a recipe: one of ours by name, or a `.toml` file. LookupFailed without one."""
    if name.endswith(".toml"):
        if Path(name).is_file():
            return Path(name)
        raise LookupFailed(f"there is no recipe file {name}; correct the path")
    if name in recipe_names():
        return _recipes_folder() / f"{name}.toml"
    raise LookupFailed(
        f"no recipe {name!r}; there are {', '.join(recipe_names())}, or give a .toml file"
    )


def _merge_tables(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """`override` on top of `base`, table by table.

    A table that is a value, such as data.max_items, is replaced as a whole. A model or objective
    with another name starts from its own defaults.
    """
    merged = copy.deepcopy(dict(base))
    for key, value in override.items():
        lower: Any = merged.get(key)
        are_tables = isinstance(value, Mapping) and isinstance(lower, dict)
        if not are_tables or key not in (*_TABLES, "small"):
            merged[key] = copy.deepcopy(value)
        elif _names_another(key, lower, value):
            merged[key] = dict(value)
        else:
            merged[key] = _merge_tables(lower, value)
    return merged


def _names_another(key: str, base: Mapping[str, Any], override: Mapping[str, Any]) -> bool:
    """Whether the override is of another model or objective than the base."""
    if key not in ("model", "objective") or "name" not in override:
        return False
    return bool(override["name"] != base.get("name"))


def _parse_change(change: str) -> dict[str, Any]:
    """`table.key=value` as a nested dict. SettingsError for anything else."""
    key, equals, value = change.partition("=")
    fault = SettingsError(
        (f"a change is table.key=value, such as training.epochs=3; got {change[:200]!r}",)
    )
    # `isprintable`: a line break would let one change set several keys.
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

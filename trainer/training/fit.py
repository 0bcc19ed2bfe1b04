"""Fitting: from a recipe, a catalog's features and a seed to a trained network on disk, once.

ROOT/<catalog>/runs/<recipe>-<12 hex digits>-seed0/
    model.safetensors   the trained network, with the metadata that scores and tables need
    model.0123456789ab.safetensors
                        a network that other code trained, kept when it was trained anew
    README.md           a card for people: data, weights, marks, licence
    last.safetensors    the last checkpoint, while the training loop runs
    best.safetensors    the weights of the best epoch, while the training loop runs
    log.csv             metrics of every epoch
    tensorboard/        the same for TensorBoard
"""

from __future__ import annotations

import dataclasses
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.highlight.base.output_check import check_first_output
from models.highlight.registry import HIGHLIGHT_MODELS
from models.plugin_errors import EXPECTED, place_in_package
from storage.base.errors import IntegrityError, LookupFailed, SettingsError
from storage.base.fingerprint import fingerprint
from storage.base.paths import Layout
from storage.base.records import STREAM_CLOCK
from storage.features.time_origin import MEANINGS
from storage.files.atomic_write import publish, remove, size_and_sha256
from storage.files.file_lock import lease, print_to_stderr
from storage.scores import Provenance
from trainer.base.model_card import model_card
from trainer.config.model_errors import explain_model_errors
from trainer.config.recipe import Recipe, restore_recipe
from trainer.config.run_code import code_changes, run_code, table_code_changes
from trainer.data import HighlightData, Loader, LoaderSettings, open_data
from trainer.evaluation.evaluate import evaluate_scores
from trainer.evaluation.score_split import score_batches
from trainer.losses.registry import make_domain_objective, make_objective
from trainer.training.checkpoint import (
    Checkpoint,
    checkpoint_digest,
    read_about,
    read_checkpoint,
    write_checkpoint,
)
from trainer.training.distributed import DistributedContext
from trainer.training.domain_batches import DomainBatchLoader, DomainBatchSettings
from trainer.training.loop import Progress, Training, train
from trainer.training.stages import StageContext, run_stages
from trainer.training.train_step import DomainSteps, SingleLoss, TrainStep

_ADVICE = "take the checkpoint from a copy, or train again"


@dataclass(frozen=True)
class FitOptions:
    """Options that do not change the result: none of them is part of a run's name."""

    device: str = "cpu"
    workers: int = 0
    checkpoint_minutes: float = 10.0
    on_start: Callable[[str, int], None] = lambda what, steps: None
    """Called with the name of the recipe and the number of steps before training starts."""
    on_step: Callable[[Progress, float], None] = lambda progress, loss: None


@dataclass(frozen=True)
class Run:
    """A recipe on a catalog's features with a seed, after which a run folder is named."""

    recipe: Recipe
    folder: Path
    """`ROOT/<catalog>`."""
    seed: int

    def data(self) -> HighlightData:
        """The catalog with the arrays that the recipe reads."""
        return open_data(self.folder, self.recipe.data)

    @property
    def layout(self) -> Layout:
        """The catalog's files."""
        return Layout(self.folder.absolute().parent, self.folder.absolute().name)

    def name(self, data: HighlightData) -> str:
        """`phd_ca-0123456789ab-seed0`: recipe, fingerprint of all inputs, and seed."""
        features = {
            name: [reader.name, reader.digest()] for name, reader in data.features.readers.items()
        }
        inputs = {
            "recipe": self.recipe.fingerprint,
            "catalog": size_and_sha256(self.layout.catalog_file)[1],
            "features": features,
        }
        return f"{self.recipe.name}-{fingerprint(inputs)}-seed{self.seed}"

    def run_folder(self, data: HighlightData) -> Path:
        """The folder of the run."""
        return self.layout.run(self.name(data))


def is_trained(run: Run, model: Path) -> bool:
    """Whether `model.safetensors` is there, and the code that trained it has not changed."""
    return model.is_file() and not _code_changes(run, model)


def _code_changes(run: Run, checkpoint: Path) -> tuple[str, ...]:
    return code_changes(read_about(checkpoint), run_code(run.recipe))


def fit(run: Run, options: FitOptions, context: DistributedContext | None = None) -> Path:
    """Train a run, or resume it; returns its `model.safetensors`. A finished run is returned as is.

    A run of other code is trained anew, and its network is kept under another name.

    Raises SettingsError, LookupFailed, Diverged, LeaseHeld if another process trains the run, or
    LeaseLost.
    """
    context = context or DistributedContext(device=options.device)
    data = run.data()
    folder = run.run_folder(data)
    finished = folder / "model.safetensors"
    if is_trained(run, finished):
        return finished
    folder.mkdir(parents=True, exist_ok=True)
    # Only the first process holds the lock and writes files.
    if not context.is_first:
        context.barrier()  # until the checkpoints of other code are out of the way
        _train(run, data, folder, options, context)
        context.barrier()
        return finished
    with _remove_empty_run_folder(folder), lease(folder / "training.lease", notify=print_to_stderr):
        if finished.is_file():
            changes = "; ".join(_code_changes(run, finished))
            print_to_stderr(f"{folder.name} is trained anew, because code has changed: {changes}")
        for unfinished in (folder / "last.safetensors", folder / "best.safetensors"):
            _keep_if_outdated(run, unfinished)
        context.barrier()
        model, about = _train(run, data, folder, options, context)
        context.barrier()  # until every process has read the files that are removed below
        _keep_if_outdated(run, finished)
        publish(folder / "README.md", model_card(about).encode(), replace=True)
        write_checkpoint(finished, Checkpoint(about, {"model": model.state_dict()}))
        for name in ("last.safetensors", "best.safetensors"):
            if (folder / name).is_file():
                remove(folder / name)
    return finished


def _keep_if_outdated(run: Run, checkpoint: Path) -> None:
    """Rename a checkpoint that other code wrote, so that it is neither continued nor replaced."""
    if not checkpoint.is_file():
        return
    if not _code_changes(run, checkpoint):
        return
    about = read_about(checkpoint)
    digest = fingerprint({"code": about.get("code"), "plugin": about.get("plugin")})
    kept = checkpoint.with_name(f"{checkpoint.stem}.{digest}{checkpoint.suffix}")
    checkpoint.replace(kept)
    print_to_stderr(f"{checkpoint} was trained by other code; it is kept as {kept.name}")


@contextmanager
def _remove_empty_run_folder(folder: Path) -> Iterator[None]:
    """Remove the folder of a run that failed before it wrote any weights."""
    try:
        yield
    except (SettingsError, LookupFailed):
        if not list(folder.glob("*.safetensors")):
            shutil.rmtree(folder / "tensorboard", ignore_errors=True)
            (folder / "log.csv").unlink(missing_ok=True)
        with suppress(OSError):  # not empty: an earlier try of the same run came further
            folder.rmdir()
            folder.parent.rmdir()
        raise


def _train(
    run: Run, data: HighlightData, folder: Path, options: FitOptions, context: DistributedContext
) -> tuple[nn.Module, dict[str, Any]]:
    recipe = run.recipe
    torch.manual_seed(run.seed)
    model = _build_model(recipe, data).to(context.device)
    # Before training: parts of the network that start from other recipes' trained networks.
    started_as = {part: _start_part(run, options, model, part, context) for part in recipe.start}
    about = _metadata(run, data, started_as)

    def gradient(network: nn.Module) -> None:
        training = Training(
            recipe, folder, about, context.device, context, options.checkpoint_minutes
        )
        batches: Loader | DomainBatchLoader
        train_step: TrainStep
        if recipe.is_two_domain:
            batches = _domain_batches(run, data, options, context)
            steps = make_domain_objective(recipe.objective, **recipe.objective_settings)
            train_step = DomainSteps(recipe, network, context, steps)
        else:
            settings = _loader_settings(run, options, context, context.device)
            batches = Loader(data.training(), settings)
            objective = make_objective(recipe.objective, **recipe.objective_settings)
            train_step = SingleLoss(recipe, network, context, objective)
        step_count = len(batches) * recipe.training.epochs // recipe.training.accumulate
        options.on_start(recipe.name, step_count)
        validate = None
        if recipe.training.validate:
            validate = _make_validate(run, data, context.device)
        progress = train(training, train_step, batches, validate, options.on_step)
        about["best_epoch"], about["epochs"] = progress.best_epoch, progress.epoch

    # Stages change the model in place; `gradient` also completes `about`.
    run_stages(
        StageContext(recipe, model, data, run.seed, context.device, options.workers, gradient)
    )
    return model, about


def _build_model(recipe: Recipe, data: HighlightData) -> nn.Module:
    shapes = ", ".join(f"{key} {tuple(shape)}" for key, shape in data.shapes.items())
    given = f"{recipe.model_settings} for positions of {shapes or 'no array'}"
    try:
        model = recipe.spec.build(recipe.model_settings, data.shapes)
        _check_module(model)
        # An unknown part fails here, before any other recipe is trained for it.
        for part in recipe.start:
            model.get_submodule(part)
    except (*EXPECTED, MemoryError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        place = place_in_package(error, HIGHLIGHT_MODELS.plugin_package(recipe.spec.name))
        where = f" ({place})" if place else ""
        raise SettingsError(
            (f"recipe {recipe.name}: its network cannot be built with {given}: {reason}{where}",)
        ) from error
    return model


def _check_module(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"build returned a {type(model).__name__}; it must return a torch.nn.Module"
        )


def _loader_settings(
    run: Run, options: FitOptions, context: DistributedContext, device: str = "cpu"
) -> LoaderSettings:
    return LoaderSettings(
        max(run.recipe.training.batch_size // context.world_size, 1),
        seed=run.seed,
        workers=options.workers,
        rank=context.rank,
        world_size=context.world_size,
        device=device,
    )


def _domain_batches(
    run: Run, data: HighlightData, options: FitOptions, context: DistributedContext
) -> DomainBatchLoader:
    recipe = run.recipe
    if data.segment_times is None:
        raise SettingsError(
            (f"recipe {recipe.name} trains on domains, but {data.catalog.name} has none",)
        )
    if recipe.training.validate and recipe.data.source:
        # Validation would select the best epoch on labels that domain adaptation must not use.
        raise SettingsError(
            (
                f"recipe {recipe.name} must not see labels of {recipe.data.domain}: "
                "set training.validate = false",
            )
        )
    loader_settings = _loader_settings(run, options, context)
    first = Loader(data.training(), loader_settings)
    second = None
    if recipe.data.against != "nothing":
        second = Loader(data.training(side="second"), loader_settings)
    settings = DomainBatchSettings(
        recipe.sets, run.seed, recipe.training.epochs, context.device, context.rank
    )
    return DomainBatchLoader(first, second, settings)


def _start_part(
    run: Run, options: FitOptions, model: nn.Module, part: str, context: DistributedContext
) -> str:
    """Initialise a part of the network from another recipe's run on the same features.

    Trains that run first if it is not finished. Returns the digest of its checkpoint.
    """
    path = fit(Run(run.recipe.start_recipe(part), run.folder, run.seed), options, context)
    context.barrier()  # only the first process writes the file
    model.get_submodule(part).load_state_dict(read_checkpoint(path, options.device).state["model"])
    return checkpoint_digest(path)


def _metadata(run: Run, data: HighlightData, started_as: Mapping[str, str]) -> dict[str, Any]:
    recipe = run.recipe
    plugin = HIGHLIGHT_MODELS.plugins.get(recipe.spec.name)
    return {
        **({} if plugin is None else {"plugin": dataclasses.asdict(plugin)}),
        "code": run_code(recipe),
        "recipe_name": recipe.name,
        "recipe": dict(recipe.table),
        "is_small": recipe.is_small,
        "seed": run.seed,
        "catalog": data.catalog.name,
        "trained_on": data.trained_on,
        "time_origin": data.features.time_origin,
        "shapes": {key: list(shape) for key, shape in data.shapes.items()},
        "notes": list(data.training().notes if recipe.stages else data.features.notes),
        "started_as": dict(started_as),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


def _make_validate(
    run: Run, data: HighlightData, device: str
) -> Callable[[nn.Module], Mapping[str, float]]:
    dataset = data.scoring("validation")
    settings = LoaderSettings(run.recipe.training.scoring_batch_size)

    def validate(network: nn.Module) -> Mapping[str, float]:
        with explain_model_errors(run.recipe):
            tracks = score_batches(
                network,
                Loader(dataset, settings),
                Provenance(run.recipe.name),
                device=device,
                precision=run.recipe.training.precision,
            )
        found = evaluate_scores(data.catalog, run.folder, run.recipe.data, "validation", tracks)
        return {name: float(np.mean(values)) for name, values in found.values.items()}

    return validate


@dataclass(frozen=True)
class TrainedModel:
    """A trained network, and the data that it can score."""

    recipe: Recipe
    model: nn.Module
    data: HighlightData
    about: Mapping[str, Any]
    sha256: str
    """sha256 of its file, which scores name as their origin."""

    @property
    def code_changes(self) -> tuple[str, ...]:
        """What of the code has changed since the training, each with its old and new digest."""
        return code_changes(self.about, run_code(self.recipe))

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for readers of its scores: what differs from training, code and time origins."""
        changed = [f"the code has changed since training: {change}" for change in self.code_changes]
        return (*changed, *self._time_notes())

    def _time_notes(self) -> tuple[str, ...]:
        # Releases that had only one time origin, the streams' own clocks, did not write it.
        trained_origin = self.about.get("time_origin", STREAM_CLOCK)
        data_origin = self.data.features.time_origin
        if trained_origin == data_origin:
            return ()
        trained_meaning = MEANINGS.get(trained_origin, trained_origin)
        return (f"trained on {trained_meaning}, asked about {MEANINGS[data_origin]}",)


def load_trained_model(
    path: Path, folder: Path, device: str, changes: Sequence[str] = ()
) -> TrainedModel:
    """A trained network with the features of a catalog; `changes` are other data settings.

    Raises SettingsError if the features differ from those of the training, IntegrityError if the
    checkpoint does not describe its network, or holds the tensors of another network. The first
    output of the network is checked: see `models.highlight.base.output_check`.
    """
    checkpoint = read_checkpoint(path, device)
    described = _read_description(path, checkpoint)
    recipe = _read_recipe(path, described, checkpoint.about, changes)
    data = open_data(folder, recipe.data, trained_on=described.trained_on)
    try:
        model = recipe.spec.build(recipe.model_settings, described.shapes)
        _check_module(model)
        model.load_state_dict(described.weights)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        changes = code_changes(checkpoint.about, run_code(recipe))
        if changes:
            raise _changed_code(path, changes, reason) from error
        raise IntegrityError(
            path, f"does not hold the network of its recipe: {reason}; {_ADVICE}"
        ) from error
    check_first_output(model, is_training=False)
    return TrainedModel(recipe, model.to(device), data, checkpoint.about, checkpoint_digest(path))


def _changed_code(path: Path, changes: Sequence[str], reason: str) -> SettingsError:
    """The fault of a checkpoint that does not suit code which was changed after the training."""
    return SettingsError(
        (
            f"{path} does not suit the present code, which has changed since training "
            f"({'; '.join(changes)}): {reason}; train it again with `python -m trainer fit`, or "
            "install the code that trained it",
        )
    )


@dataclass(frozen=True)
class _Description:
    """The parts of a checkpoint from which a network is built."""

    recipe_name: str
    recipe_table: Mapping[str, Any]
    is_small: bool
    trained_on: Any
    shapes: Mapping[str, tuple[int, ...]]
    weights: Any


def _read_description(path: Path, checkpoint: Checkpoint) -> _Description:
    about = checkpoint.about
    try:
        return _Description(
            recipe_name=str(about["recipe_name"]),
            recipe_table=dict(about["recipe"]),
            is_small=bool(about["is_small"]),
            trained_on=about["trained_on"],
            shapes={key: tuple(shape) for key, shape in about["shapes"].items()},
            weights=checkpoint.state["model"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(
            path, f"does not say what its network is made of: {error!r}; {_ADVICE}"
        ) from error


def _read_recipe(
    path: Path, described: _Description, about: Mapping[str, Any], changes: Sequence[str]
) -> Recipe:
    try:
        return restore_recipe(
            described.recipe_name,
            described.recipe_table,
            is_small=described.is_small,
            changes=changes,
        )
    except SettingsError as error:
        if changes:
            raise  # the changes may be wrong, and not the checkpoint
        changed = table_code_changes(about)
        if changed:
            raise _changed_code(path, changed, "; ".join(error.faults)) from error
        raise IntegrityError(
            path, f"holds no recipe of this release: {'; '.join(error.faults)}; {_ADVICE}"
        ) from error

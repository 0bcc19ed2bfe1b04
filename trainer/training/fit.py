"""From a recipe, a catalog's features and a seed to a trained network on disk, once.

    ROOT/<catalog>/runs/<recipe>-<12 hex digits>-seed0/
        model.safetensors    the finished network with all that a score, a table or a refusal needs
        to know of it last.safetensors best.safetensors log.csv tensorboard/    while, and after,
        the loop runs

Knows recipes, data, stages and protocols. Refuses to know tables and schedulers.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from storage.base.errors import IntegrityError, LookupFailed, SettingsError
from storage.base.fingerprint import fingerprint
from storage.base.paths import Layout
from storage.base.records import STREAM_CLOCK
from storage.features.time_origin import MEANINGS
from storage.files.atomic_write import remove, size_and_sha256
from storage.files.file_lock import lease, print_to_stderr
from storage.scores import Provenance
from trainer.config.recipe import Recipe, restore_recipe
from trainer.data import HighlightData, Loader, LoaderSettings, open_data
from trainer.evaluation.evaluate import evaluate_scores
from trainer.evaluation.score_split import score_batches
from trainer.losses.registry import make_domain_objective, make_objective
from trainer.training.checkpoint import (
    Checkpoint,
    checkpoint_digest,
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
    """How to run, not what to compute: none of it is part of a run's name."""

    device: str = "cpu"
    workers: int = 0
    checkpoint_minutes: float = 10.0
    on_start: Callable[[str, int], None] = lambda what, steps: None
    """Told what is about to be trained and how many steps it takes."""
    on_step: Callable[[Progress, float], None] = lambda progress, loss: None


@dataclass(frozen=True)
class Run:
    """A recipe on a catalog's features with a seed: what a run folder is named after."""

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
        """`phd_ca-0123456789ab-seed0`: the same for the same recipe, annotations and rows of
        features.
        """
        made_of = {
            "recipe": self.recipe.fingerprint,
            "catalog": size_and_sha256(self.layout.catalog_file)[1],
            "features": {
                name: [reader.name, reader.digest()]
                for name, reader in data.features.readers.items()
            },
        }
        return f"{self.recipe.name}-{fingerprint(made_of)}-seed{self.seed}"

    def run_folder(self, data: HighlightData) -> Path:
        """Its folder."""
        return self.layout.run(self.name(data))


def fit(run: Run, options: FitOptions, ranks: DistributedContext | None = None) -> Path:
    """Train the run to its end, or go on with it, or find it done; returns its `model.safetensors`.

    Raises SettingsError, LookupFailed, Diverged, LeaseHeld if another process trains it, or
    LeaseLost.
    """
    ranks = ranks or DistributedContext(device=options.device)
    data = run.data()
    place = run.run_folder(data)
    finished = place / "model.safetensors"
    if finished.is_file():
        return finished
    place.mkdir(parents=True, exist_ok=True)
    if not ranks.is_first:
        _train(run, data, place, options, ranks)
        ranks.wait()
        return finished
    with _remove_empty_run_folder(place), lease(place / "training.lease", notify=print_to_stderr):
        model, about = _train(run, data, place, options, ranks)
        ranks.wait()  # until every process has read what is removed below
        write_checkpoint(finished, Checkpoint(about, {"model": model.state_dict()}))
        for name in ("last.safetensors", "best.safetensors"):
            if (place / name).is_file():
                remove(place / name)
    return finished


@contextmanager
def _remove_empty_run_folder(place: Path) -> Iterator[None]:
    """A run that was refused leaves no empty folder behind."""
    try:
        yield
    except (SettingsError, LookupFailed):
        with suppress(OSError):  # it holds something: an earlier, longer try
            place.rmdir()
            place.parent.rmdir()
        raise


def _train(
    run: Run, data: HighlightData, place: Path, options: FitOptions, ranks: DistributedContext
) -> tuple[nn.Module, dict[str, Any]]:
    recipe = run.recipe
    torch.manual_seed(run.seed)
    model = _build_model(recipe, data).to(ranks.device)
    started_as = {part: _start_part(run, options, model, part, ranks) for part in recipe.start}
    about = _metadata(run, data, started_as)

    def gradient(network: nn.Module) -> None:
        training = Training(recipe, place, about, ranks.device, ranks, options.checkpoint_minutes)
        batches: Loader | DomainBatchLoader
        updates: TrainStep
        if recipe.is_two_domain:
            batches = _domain_batches(run, data, options, ranks)
            updates = DomainSteps(
                recipe,
                network,
                ranks,
                make_domain_objective(recipe.objective, **recipe.objective_settings),
            )
        else:
            batches = Loader(data.training(), _loader_settings(run, options, ranks, ranks.device))
            updates = SingleLoss(
                recipe,
                network,
                ranks,
                make_objective(recipe.objective, **recipe.objective_settings),
            )
        options.on_start(
            recipe.name, len(batches) * recipe.training.epochs // recipe.training.accumulate
        )
        validate = _make_validate(run, data, ranks.device) if recipe.training.validate else None
        progress = train(training, updates, batches, validate, options.on_step)
        about["best_epoch"], about["epochs"] = progress.best_epoch, progress.epoch

    run_stages(StageContext(recipe, model, data, run.seed, ranks.device, options.workers, gradient))
    return model, about


def _build_model(recipe: Recipe, data: HighlightData) -> nn.Module:
    try:
        model = recipe.spec.build(recipe.model_settings, data.shapes)
        for part in recipe.start:
            model.get_submodule(part)
    except (
        ValueError,
        KeyError,
        IndexError,
        ZeroDivisionError,
        AttributeError,
        RuntimeError,
        MemoryError,
    ) as error:
        told = str(error).partition("\n")[0] or type(error).__name__
        raise SettingsError(
            (
                f"recipe {recipe.name}: its network cannot be built of {recipe.model_settings}: {told}",
            )
        ) from error
    return model


def _loader_settings(
    run: Run, options: FitOptions, ranks: DistributedContext, device: str = "cpu"
) -> LoaderSettings:
    return LoaderSettings(
        max(run.recipe.training.batch_size // ranks.world_size, 1),
        seed=run.seed,
        workers=options.workers,
        rank=ranks.rank,
        world_size=ranks.world_size,
        device=device,
    )


def _domain_batches(
    run: Run, data: HighlightData, options: FitOptions, ranks: DistributedContext
) -> DomainBatchLoader:
    if data.segment_times is None:
        raise SettingsError(
            (f"recipe {run.recipe.name} learns from domains, and {data.catalog.name} has none",)
        )
    if run.recipe.training.validate and run.recipe.data.source:
        hidden = f"labels of {run.recipe.data.domain}"
        raise SettingsError(
            (f"recipe {run.recipe.name} must not see {hidden}: set training.validate = false",)
        )
    has_second = run.recipe.data.against != "nothing"
    loading = _loader_settings(run, options, ranks)
    first = Loader(data.training(), loading)
    second = Loader(data.training(side="second"), loading) if has_second else None
    settings = DomainBatchSettings(
        run.recipe.sets, run.seed, run.recipe.training.epochs, ranks.device, ranks.rank
    )
    return DomainBatchLoader(first, second, settings)


def _start_part(
    run: Run, options: FitOptions, model: nn.Module, part: str, ranks: DistributedContext
) -> str:
    """Give a part of the network the weights of another recipe's run on the same features; its
    checkpoint's digest.
    """
    path = fit(Run(run.recipe.start_recipe(part), run.folder, run.seed), options, ranks)
    ranks.wait()  # only the first process writes it
    model.get_submodule(part).load_state_dict(read_checkpoint(path, options.device).state["model"])
    return checkpoint_digest(path)


def _metadata(run: Run, data: HighlightData, started_as: Mapping[str, str]) -> dict[str, Any]:
    recipe = run.recipe
    return {
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
        answers = score_batches(
            network,
            Loader(dataset, settings),
            Provenance(run.recipe.name),
            device=device,
            precision=run.recipe.training.precision,
        )
        found = evaluate_scores(data.catalog, run.folder, run.recipe.data, "validation", answers)
        return {name: float(np.mean(values)) for name, values in found.values.items()}

    return validate


@dataclass(frozen=True)
class TrainedModel:
    """A finished network, and the data it can be asked about."""

    recipe: Recipe
    model: nn.Module
    data: HighlightData
    about: Mapping[str, Any]
    sha256: str
    """Of its file: what scores name as their origin."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What anybody who is told its answers has to know of the times it was trained on."""
        # A checkpoint without the attribute is of a release that knew the streams' own clocks
        # alone.
        trained, here = self.about.get("time_origin", STREAM_CLOCK), self.data.features.time_origin
        if trained == here:
            return ()
        return (f"trained on {MEANINGS.get(trained, trained)}, asked about {MEANINGS[here]}",)


def load_trained_model(
    path: Path, folder: Path, device: str, changes: Sequence[str] = ()
) -> TrainedModel:
    """A finished network with the features of a catalog, and other data settings where `changes` says
    so.

    SettingsError if the features are not those it was trained on, IntegrityError if the checkpoint
    does not say what a network is made of, or holds another network's tensors.
    """
    checkpoint = read_checkpoint(path, device)
    about = checkpoint.about
    try:
        name, table, is_small = (
            str(about["recipe_name"]),
            dict(about["recipe"]),
            bool(about["is_small"]),
        )
        trained_on, weights = about["trained_on"], checkpoint.state["model"]
        shapes = {key: tuple(shape) for key, shape in about["shapes"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(
            path, f"does not say what its network is made of: {error!r}; {_ADVICE}"
        ) from error
    try:
        recipe = restore_recipe(name, table, is_small=is_small, changes=changes)
    except SettingsError as error:
        if changes:
            raise
        raise IntegrityError(
            path, f"holds no recipe of this release: {'; '.join(error.faults)}; {_ADVICE}"
        ) from error
    data = open_data(folder, recipe.data, trained_on=trained_on)
    try:
        model = recipe.spec.build(recipe.model_settings, shapes)
        model.load_state_dict(weights)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError) as error:
        told = " ".join(str(error).split())[:300]
        raise IntegrityError(
            path, f"does not hold the network of its recipe: {told}; {_ADVICE}"
        ) from error
    return TrainedModel(recipe, model.to(device), data, about, checkpoint_digest(path))

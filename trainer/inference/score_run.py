"""Scores a split with a trained network and keeps the scores.

They are kept in `ROOT/<catalog>/scores/<run>.<split>/`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from storage.base.errors import LookupFailed
from storage.base.fingerprint import fingerprint
from storage.base.paths import Layout
from storage.base.records import JSON
from storage.catalog.catalog import read_catalog
from storage.scores import Provenance, ScoreRun, read_scores, write_scores
from trainer.config.model_errors import explain_model_errors
from trainer.config.recipe import restore_recipe
from trainer.config.run_code import run_code
from trainer.data import Loader, LoaderSettings
from trainer.data.user_examples import Split
from trainer.evaluation.evaluate import evaluate_scores
from trainer.evaluation.score_split import Prepare, score_batches
from trainer.evaluation.statistics import Evaluation
from trainer.training.checkpoint import checkpoint_digest, read_checkpoint
from trainer.training.fit import TrainedModel, load_trained_model
from trainer.training.user_svm import UserSVM


@dataclass(frozen=True)
class EvalRequest:
    """A trained network, and the users or videos of a catalog that it scores."""

    model: Path
    """A `model.safetensors`."""
    folder: Path
    """`ROOT/<catalog>`; not necessarily the catalog of the training."""
    split: Split
    data_changes: tuple[str, ...] = ()
    """Data settings that differ from the training, such as `data.history_videos=4`."""

    @property
    def name(self) -> str:
        """The name of the scores: the training's folder, the split, and a digest of `asked`."""
        changed = f".{fingerprint(self.data_changes)}" if self.data_changes else ""
        return f"{self.model.absolute().parent.name}.{self.split}{changed}"

    @property
    def layout(self) -> Layout:
        """The catalog's files."""
        return Layout(self.folder.absolute().parent, self.folder.absolute().name)


def score_split(
    request: EvalRequest,
    *,
    device: str,
    workers: int = 0,
    on_start: Callable[[str, int], None] = lambda what, examples: None,
    on_batch: Callable[[int], None] = lambda examples: None,
) -> ScoreRun:
    """Score the split and keep the scores; kept scores of the same network are read instead."""
    restored = load_trained_model(request.model, request.folder, device, request.data_changes)
    kept = _read_kept_scores(request, restored)
    if kept is not None:
        return kept
    dataset = restored.data.scoring(request.split)
    on_start(request.name, len(dataset))
    training = restored.recipe.training
    loader = Loader(dataset, LoaderSettings(training.scoring_batch_size, workers=workers))
    fitted: dict[str, Prepare] = {}
    if "per_user" in restored.recipe.stages:
        seed = restored.about["seed"]
        fitted["prepare"] = UserSVM(restored.data, request.split, seed, device)
    # Scores are kept with what made them, and are read again only if that is the same.
    with explain_model_errors(restored.recipe):
        answers = score_batches(
            restored.model,
            loader,
            _provenance(restored, request, dataset.notes),
            device=device,
            precision=training.precision,
            on_batch=on_batch,
            **fitted,
        )
    write_scores(request.layout, request.name, answers)
    return answers


def evaluate_run(request: EvalRequest, answers: ScoreRun) -> Evaluation:
    """Metrics of the answers, by the protocol of the catalog's dataset."""
    about = read_checkpoint(request.model).about
    recipe = restore_recipe(
        about["recipe_name"],
        about["recipe"],
        is_small=about["is_small"],
        changes=request.data_changes,
    )
    catalog = read_catalog(request.folder)
    return evaluate_scores(catalog, request.folder, recipe.data, request.split, answers)


def _read_kept_scores(request: EvalRequest, restored: TrainedModel) -> ScoreRun | None:
    """The kept scores, if this network gave them for these features."""
    try:
        kept = read_scores(request.layout, request.name)
    except LookupFailed:
        return None
    provenance = kept.provenance
    is_same_network = provenance.checkpoint_sha256 == restored.sha256
    is_same_time = provenance.time_origin == restored.data.features.time_origin
    # The digest of the features is computed only if the rest agrees, since it reads the store.
    if not is_same_network or not is_same_time:
        return None
    # Scores of releases without the record count as made by the present code.
    code = run_code(restored.recipe)
    if provenance.settings.get("code", code) != code:
        return None
    return kept if provenance.settings.get("features") == _features(restored) else None


def are_scores_current(request: EvalRequest) -> bool:
    """Whether scores are kept that the network in `request.model` gave as it is now."""
    try:
        kept = read_scores(request.layout, request.name)
    except LookupFailed:
        return False
    return kept.provenance.checkpoint_sha256 == checkpoint_digest(request.model)


def _features(restored: TrainedModel) -> dict[str, JSON]:
    return {
        name: f"{reader.name} {reader.digest()}"
        for name, reader in restored.data.features.readers.items()
    }


def _provenance(restored: TrainedModel, request: EvalRequest, notes: tuple[str, ...]) -> Provenance:
    about, features = restored.about, restored.data.features
    marks = list(features.notes)
    if restored.recipe.is_small:
        marks.append("small widths")
    return Provenance(
        model=restored.recipe.name,
        checkpoint_sha256=restored.sha256,
        features={name: reader.fingerprint for name, reader in features.readers.items()},
        marks=tuple(marks),
        settings={
            "features": _features(restored),
            "code": dict(run_code(restored.recipe)),
            "code_changes": list(restored.code_changes),
            "seed": about["seed"],
            "recipe": about["recipe"],
            "asked": list(request.data_changes),
            "notes": list(dict.fromkeys([*about["notes"], *notes, *restored.notes])),
            "versions": about["versions"],
            "gaps": list(restored.recipe.gaps),
        },
        time_origin=features.time_origin,
    )

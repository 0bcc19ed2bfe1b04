"""A finished network scores a split, and the scores are kept:
`ROOT/<catalog>/scores/<run>.<split>/`.

Refuses to know how networks are trained and how tables look.
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
from trainer.config.recipe import restore_recipe
from trainer.data import Loader, LoaderSettings
from trainer.data.user_examples import Split
from trainer.evaluation.evaluate import evaluate_scores
from trainer.evaluation.score_split import score_batches
from trainer.evaluation.statistics import Evaluation
from trainer.training.checkpoint import read_checkpoint
from trainer.training.fit import TrainedModel, load_trained_model
from trainer.training.user_svm import UserSVM


@dataclass(frozen=True)
class EvalRequest:
    """Which finished network is asked about which users of which catalog."""

    model: Path
    """A `model.safetensors`."""
    folder: Path
    """`ROOT/<catalog>`, which may be another catalog than the one it was trained on."""
    split: Split
    asked: tuple[str, ...] = ()
    """Data settings that are other than in training, such as `data.history_videos=4`."""

    @property
    def name(self) -> str:
        """What its scores are filed under: the training's folder, the split, and how else it was
        asked.
        """
        otherwise = f".{fingerprint(self.asked)}" if self.asked else ""
        return f"{self.model.absolute().parent.name}.{self.split}{otherwise}"

    @property
    def layout(self) -> Layout:
        """The catalog's files."""
        return Layout(self.folder.absolute().parent, self.folder.absolute().name)


def score_split(
    question: EvalRequest,
    *,
    device: str,
    workers: int = 0,
    on_start: Callable[[str, int], None] = lambda what, examples: None,
    on_batch: Callable[[int], None] = lambda examples: None,
) -> ScoreRun:
    """Score and keep, or read what was kept, if the same network gave it."""
    restored = load_trained_model(question.model, question.folder, device, question.asked)
    kept = _kept(question, restored)
    if kept is not None:
        return kept
    dataset = restored.data.scoring(question.split)
    on_start(question.name, len(dataset))
    settings = LoaderSettings(restored.recipe.training.scoring_batch_size, workers=workers)
    by_user = "per_user" in restored.recipe.stages
    prepare = (
        UserSVM(restored.data, question.split, restored.about["seed"], device) if by_user else None
    )
    answers = score_batches(
        restored.model,
        Loader(dataset, settings),
        _provenance(restored, question, dataset.notes),
        device=device,
        precision=restored.recipe.training.precision,
        **({"prepare": prepare} if prepare else {}),
        on_batch=on_batch,
    )
    write_scores(question.layout, question.name, answers)
    return answers


def evaluate_run(question: EvalRequest, answers: ScoreRun) -> Evaluation:
    """What the answers are worth under the protocol of the catalog's dataset."""
    table = read_checkpoint(question.model).about
    recipe = restore_recipe(
        table["recipe_name"], table["recipe"], is_small=table["is_small"], changes=question.asked
    )
    return evaluate_scores(
        read_catalog(question.folder), question.folder, recipe.data, question.split, answers
    )


def _kept(question: EvalRequest, restored: TrainedModel) -> ScoreRun | None:
    try:
        found = read_scores(question.layout, question.name)
    except LookupFailed:
        return None
    same = found.provenance.checkpoint_sha256 == restored.sha256
    same = same and found.provenance.time_origin == restored.data.features.time_origin
    return (
        found if same and found.provenance.settings.get("features") == _features(restored) else None
    )


def _features(restored: TrainedModel) -> dict[str, JSON]:
    return {
        name: f"{reader.name} {reader.digest()}"
        for name, reader in restored.data.features.readers.items()
    }


def _provenance(
    restored: TrainedModel, question: EvalRequest, notes: tuple[str, ...]
) -> Provenance:
    about, readers = restored.about, restored.data.features.readers
    return Provenance(
        model=restored.recipe.name,
        checkpoint_sha256=restored.sha256,
        features={name: reader.fingerprint for name, reader in readers.items()},
        marks=tuple(restored.data.features.notes)
        + (("small widths",) if restored.recipe.is_small else ()),
        settings={
            "features": _features(restored),
            "seed": about["seed"],
            "recipe": about["recipe"],
            "asked": list(question.asked),
            "notes": list(dict.fromkeys([*about["notes"], *notes, *restored.notes])),
            "versions": about["versions"],
            "gaps": list(restored.recipe.gaps),
        },
        time_origin=restored.data.features.time_origin,
    )

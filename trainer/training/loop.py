"""The training loop: epochs of steps, validation, the best epoch, and resumable checkpoints.

It gets the batches, the validation and the train step as arguments.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from trainer.config.recipe import Recipe
from trainer.training.checkpoint import (
    Checkpoint,
    random_state,
    read_checkpoint,
    set_random_state,
    write_checkpoint,
)
from trainer.training.distributed import DistributedContext
from trainer.training.metric_log import MetricLog
from trainer.training.train_step import Diverged, TrainStep

Validate = Callable[[nn.Module], Mapping[str, float]]
"""Scores the validation users with a network; metric → value."""


class BatchSource(Protocol):
    """The batches of an epoch; each iteration gives the rest of the current epoch."""

    def __len__(self) -> int:
        """Batches of a whole epoch."""

    def __iter__(self) -> Iterator[Any]:
        """The rest of this epoch."""

    def state_dict(self) -> dict[str, Any]:
        """The current position."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume at a position."""


@dataclass
class Progress:
    """The progress of a training run. Checkpoints hold these fields by name."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = -1
    best_score: float = -math.inf
    curves: list[dict[str, float]] = field(default_factory=list)
    """One row per epoch, as in `log.csv`."""


@dataclass(frozen=True)
class Training:
    """One run of one recipe with one seed, and its folder."""

    recipe: Recipe
    folder: Path
    about: Mapping[str, Any]
    """The metadata of its checkpoints."""
    device: str
    context: DistributedContext
    checkpoint_minutes: float = 10.0
    """Checkpoints are also written inside a long epoch, so that a kill costs minutes."""

    @property
    def last(self) -> Path:
        """The checkpoint from which an interrupted run resumes."""
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        """The weights of the best epoch so far."""
        return self.folder / "best.safetensors"


def train(
    training: Training,
    train_step: TrainStep,
    batches: BatchSource,
    validate: Validate | None,
    on_step: Callable[[Progress, float], None] = lambda progress, loss: None,
) -> Progress:
    """Train a network to the end of its recipe, from its last checkpoint if there is one.

    The network ends with its best weights. On the CPU an interrupted and resumed run gives the same
    weights, bit for bit, as one that was never interrupted. Raises Diverged.
    """
    run, model = _RunState(training, train_step, batches), train_step.model
    is_first = training.context.is_first
    with MetricLog(training.folder, run.progress.curves, is_writing=is_first) as log:
        while not run.is_over():
            started = time.perf_counter()
            row = run.epoch(on_step)
            metrics = validate(model) if validate else {}
            for name, value in metrics.items():
                row[f"validation_{name}"] = value
            row["seconds"] = time.perf_counter() - started
            run.end_epoch(row, has_validation=validate is not None)
            log.add(run.progress.curves)
    training.context.barrier()  # until the first process has written the best weights
    if validate is not None:
        model.load_state_dict(read_checkpoint(training.best, training.device).state["model"])
    return run.progress


class _RunState:
    """The changing state of a training run, written to checkpoints and restored from them."""

    def __init__(self, training: Training, train_step: TrainStep, batches: BatchSource) -> None:
        self.training, self.train_step, self.batches = training, train_step, batches
        self.model = train_step.model
        self.settings = training.recipe.training
        self.progress = Progress()
        self.loss_sum, self.loss_count = 0.0, 0
        self.checkpoint_at = time.monotonic()
        if training.last.is_file():
            self._restore(read_checkpoint(training.last, training.device).state)

    def is_over(self) -> bool:
        """Whether all epochs were run, or `patience` epochs brought no better score."""
        if self.progress.epoch >= self.settings.epochs:
            return True
        epochs_since_best = self.progress.epoch - 1 - self.progress.best_epoch
        patience = self.settings.patience
        return patience is not None and epochs_since_best >= patience

    def epoch(self, on_step: Callable[[Progress, float], None]) -> dict[str, float]:
        """Run the rest of this epoch; returns its row of the metric log."""
        self.model.train()
        for batch in self.batches:
            loss, has_changed = self.train_step.step(batch)
            if not math.isfinite(loss):
                raise Diverged(self.training.folder, self.progress.step, loss)
            self.loss_sum += loss
            self.loss_count += 1
            # Only between steps: a checkpoint holds no accumulated gradients.
            if has_changed:
                self.progress.step += 1
                on_step(self.progress, loss)
                self._write_checkpoint_if_due()
        self.progress.step += self.train_step.finish_epoch()
        return {
            "epoch": float(self.progress.epoch),
            "step": float(self.progress.step),
            "loss": self.training.context.mean(self.loss_sum / max(self.loss_count, 1)),
            "learning_rate": self.train_step.learning_rate,
        }

    def end_epoch(self, row: dict[str, float], *, has_validation: bool) -> None:
        """Write the weights if the epoch is the best, and a checkpoint in any case."""
        progress = self.progress
        name = f"validation_{self.settings.select_by}"
        # Without validation the epoch's number is the score: the last epoch is the best.
        score = row[name] if has_validation else float(progress.epoch)
        is_best = score > progress.best_score
        if is_best:
            progress.best_epoch, progress.best_score = progress.epoch, score
        # From here on `epoch` counts finished epochs; the checkpoint below stands between two.
        progress.curves.append(row)
        progress.epoch += 1
        self.train_step.decay()
        self.loss_sum, self.loss_count = 0.0, 0
        # Without validation the last epoch is the best, and its checkpoint holds the weights.
        if is_best and has_validation:
            self._write(self.training.best, {"model": self.model.state_dict()})
        self._write_checkpoint()

    def _write_checkpoint_if_due(self) -> None:
        if time.monotonic() - self.checkpoint_at > 60 * self.training.checkpoint_minutes:
            self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        self.checkpoint_at = time.monotonic()
        state = {
            "model": self.model.state_dict(),
            "updates": self.train_step.state_dict(),
            "random": random_state(),
            "place": self.batches.state_dict(),
            "progress": vars(self.progress),
            "losses": [self.loss_sum, self.loss_count],
        }
        self._write(self.training.last, state)

    def _write(self, path: Path, state: Mapping[str, Any]) -> None:
        if not self.training.context.is_first:
            return
        about = {
            **self.training.about,
            "epoch": self.progress.epoch,
            "best_epoch": self.progress.best_epoch,
        }
        write_checkpoint(path, Checkpoint(about, state))

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.train_step.load_state_dict(state["updates"])
        self.batches.load_state_dict(state["place"])
        self.progress = Progress(**state["progress"])
        self.loss_sum, self.loss_count = state["losses"]
        # Last: restoring the rest may draw random numbers.
        set_random_state(state["random"])

"""The training loop: epochs of steps, validation, the best kept, and a checkpoint from which the
rest is the same.

Refuses to know datasets, metrics and losses: it is handed batches, a validation and what a batch
does to a network.
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
"""A network → metric → value on validation users."""


class BatchSource(Protocol):
    """What an epoch is made of; each pass gives the rest of the current one."""

    def __len__(self) -> int:
        """Batches of a whole epoch."""

    def __iter__(self) -> Iterator[Any]:
        """The rest of this epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


@dataclass
class Progress:
    """Where a training is, in numbers that a checkpoint keeps."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = -1
    best_score: float = -math.inf
    curves: list[dict[str, float]] = field(default_factory=list)
    """One row an epoch: what `log.csv` shows."""


@dataclass(frozen=True)
class Training:
    """One run of one recipe with one seed, and where it lives."""

    recipe: Recipe
    folder: Path
    about: Mapping[str, Any]
    """What its checkpoints say of themselves."""
    device: str
    ranks: DistributedContext
    checkpoint_minutes: float = 10.0
    """A long epoch is kept on the way, so that a kill costs minutes."""

    @property
    def last(self) -> Path:
        """What an interrupted run goes on from."""
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        """The weights of the best epoch so far."""
        return self.folder / "best.safetensors"


def train(
    training: Training,
    updates: TrainStep,
    batches: BatchSource,
    validate: Validate | None,
    on_step: Callable[[Progress, float], None] = lambda progress, loss: None,
) -> Progress:
    """Train a network to the end of its recipe, from its last checkpoint if it has one; it ends
    with its best weights.

    On the CPU an interrupted and resumed run gives the same weights, bit for bit, as one that was
    never interrupted. Raises Diverged.
    """
    run, model = _RunState(training, updates, batches), updates.model
    with MetricLog(
        training.folder, run.progress.curves, is_writing=training.ranks.is_first
    ) as curves:
        while not run.is_over():
            started = time.perf_counter()
            row = run.epoch(on_step)
            row |= {
                f"validation_{name}": value
                for name, value in (validate(model) if validate else {}).items()
            }
            row["seconds"] = time.perf_counter() - started
            run.end_epoch(row, has_validation=validate is not None)
            curves.add(run.progress.curves)
    training.ranks.wait()  # until the first process has written the best weights
    if validate is not None:
        model.load_state_dict(read_checkpoint(training.best, training.device).state["model"])
    return run.progress


class _RunState:
    """The moving parts of a training, and their way into a checkpoint and back."""

    def __init__(self, training: Training, updates: TrainStep, batches: BatchSource) -> None:
        self.training, self.updates, self.batches = training, updates, batches
        self.model = updates.model
        self.settings = training.recipe.training
        self.progress = Progress()
        self.loss_sum, self.loss_count = 0.0, 0
        self.kept_at = time.monotonic()
        if training.last.is_file():
            self._restore(read_checkpoint(training.last, training.device).state)

    def is_over(self) -> bool:
        """Whether all epochs were run, or patience is at an end."""
        waited = self.progress.epoch - 1 - self.progress.best_epoch
        patience = self.settings.patience
        return self.progress.epoch >= self.settings.epochs or (
            patience is not None and waited >= patience
        )

    def epoch(self, on_step: Callable[[Progress, float], None]) -> dict[str, float]:
        """The steps that are left of this epoch."""
        self.model.train()
        for batch in self.batches:
            loss, has_moved = self.updates.step(batch)
            if not math.isfinite(loss):
                raise Diverged(self.training.folder, self.progress.step, loss)
            self.loss_sum, self.loss_count = self.loss_sum + loss, self.loss_count + 1
            if has_moved:
                self.progress.step += 1
                on_step(self.progress, loss)
                self._keep_now_and_then()
        self.progress.step += self.updates.finish()
        return {
            "epoch": float(self.progress.epoch),
            "step": float(self.progress.step),
            "loss": self.training.ranks.mean(self.loss_sum / max(self.loss_count, 1)),
            "learning_rate": self.updates.learning_rate,
        }

    def end_epoch(self, row: dict[str, float], *, has_validation: bool) -> None:
        """Keep the epoch if it is the best, and its checkpoint in any case."""
        progress = self.progress
        name = f"validation_{self.settings.select_by}"
        score = row[name] if has_validation else float(progress.epoch)
        is_best = score > progress.best_score
        if is_best:
            progress.best_epoch, progress.best_score = progress.epoch, score
        progress.curves.append(row)
        progress.epoch += 1
        self.updates.decay()
        self.loss_sum, self.loss_count = 0.0, 0
        if (
            is_best and has_validation
        ):  # without, the last epoch is the best, and its checkpoint holds its weights
            self._write(self.training.best, {"model": self.model.state_dict()})
        self._keep()

    def _keep_now_and_then(self) -> None:
        if time.monotonic() - self.kept_at > 60 * self.training.checkpoint_minutes:
            self._keep()

    def _keep(self) -> None:
        self.kept_at = time.monotonic()
        state = {
            "model": self.model.state_dict(),
            "updates": self.updates.state_dict(),
            "random": random_state(),
            "place": self.batches.state_dict(),
            "progress": vars(self.progress),
            "losses": [self.loss_sum, self.loss_count],
        }
        self._write(self.training.last, state)

    def _write(self, path: Path, state: Mapping[str, Any]) -> None:
        if self.training.ranks.is_first:
            about = {
                **self.training.about,
                "epoch": self.progress.epoch,
                "best_epoch": self.progress.best_epoch,
            }
            write_checkpoint(path, Checkpoint(about, state))

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.updates.load_state_dict(state["updates"])
        self.batches.load_state_dict(state["place"])
        self.progress = Progress(**state["progress"])
        self.loss_sum, self.loss_count = state["losses"]
        set_random_state(state["random"])

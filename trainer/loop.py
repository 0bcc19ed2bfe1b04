"""The training loop: epochs of steps, validation, the best kept, and a checkpoint from which the rest is the same.

Refuses to know datasets, metrics and losses: it is handed batches, a validation and an objective.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.highlight.contract import Batch, Scores
from storage.errors import SystemicFault
from trainer.checkpoint import Checkpoint, random_state, read_checkpoint, set_random_state, write_checkpoint
from trainer.curves import Curves
from trainer.data import Loader, to_device
from trainer.distributed import Ranks
from trainer.optimizers import make_optimizer, make_schedule
from trainer.recipe import Recipe
from trainer.targets import Targets

Objective = Callable[[Scores, Batch, Targets], Tensor]
Validate = Callable[[nn.Module], Mapping[str, float]]
"""A network → metric → value on validation users."""


class Diverged(SystemicFault):
    """The loss became infinite or not a number."""

    def __init__(self, run: Path, step: int, loss: float) -> None:
        super().__init__(run, step, loss)
        self.run, self.step, self.loss = run, step, loss

    def __str__(self) -> str:
        return (
            f"{self.run}: the loss is {self.loss} at step {self.step}; the last checkpoint is kept. Lower "
            "optimizer.learning_rate, set optimizer.clip_norm, or use training.precision = 'fp32'"
        )


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
    ranks: Ranks
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
    model: nn.Module,
    batches: Loader,
    objective: Objective,
    validate: Validate | None,
    on_step: Callable[[Progress, float], None] = lambda progress, loss: None,
) -> Progress:
    """Train `model` to the end of its recipe, from its last checkpoint if it has one; it ends with its best weights.

    On the CPU an interrupted and resumed run gives the same weights, bit for bit, as one that was never interrupted.
    Raises Diverged.
    """
    run = _Run(training, model, batches, objective)
    with Curves(training.folder, run.progress.curves, is_writing=training.ranks.is_first) as curves:
        while not run.is_over():
            started = time.perf_counter()
            row = run.epoch(on_step)
            row |= {f"validation_{name}": value for name, value in (validate(model) if validate else {}).items()}
            row["seconds"] = time.perf_counter() - started
            run.end_epoch(row, has_validation=validate is not None)
            curves.add(run.progress.curves)
    training.ranks.wait()  # until the first process has written the best weights
    model.load_state_dict(read_checkpoint(training.best, training.device).state["model"])
    return run.progress


class _Run:
    """The moving parts of a training, and their way into a checkpoint and back."""

    def __init__(self, training: Training, model: nn.Module, batches: Loader, objective: Objective) -> None:
        self.training, self.model, self.batches, self.objective = training, model, batches, objective
        self.settings = training.recipe.training
        self.learner = training.ranks.wrapped(model)
        self.optimizer = make_optimizer(model.parameters(), training.recipe.optimizer)
        self.schedule = make_schedule(self.optimizer, training.recipe.optimizer)
        self.progress = Progress()
        self.loss_sum, self.loss_count = 0.0, 0
        self.kept_at = time.monotonic()
        if training.last.is_file():
            self._restore(read_checkpoint(training.last, training.device).state)

    def is_over(self) -> bool:
        """Whether all epochs were run, or patience is at an end."""
        waited = self.progress.epoch - 1 - self.progress.best_epoch
        patience = self.settings.patience
        return self.progress.epoch >= self.settings.epochs or (patience is not None and waited >= patience)

    def epoch(self, on_step: Callable[[Progress, float], None]) -> dict[str, float]:
        """The steps that are left of this epoch."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        for number, (batch, targets, _) in enumerate(self.batches, 1):
            loss = self._gradients(batch, targets)
            self.loss_sum, self.loss_count = self.loss_sum + loss, self.loss_count + 1
            if number % self.settings.accumulate == 0:
                self._step()
                on_step(self.progress, loss)
                self._keep_now_and_then()
        if any(parameter.grad is not None for parameter in self.model.parameters()):
            self._step()
        return {
            "epoch": float(self.progress.epoch),
            "step": float(self.progress.step),
            "loss": self.training.ranks.mean(self.loss_sum / max(self.loss_count, 1)),
            "learning_rate": float(self.schedule.get_last_lr()[0]),
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
        self.schedule.step()
        self.loss_sum, self.loss_count = 0.0, 0
        if is_best:
            self._write(self.training.best, {"model": self.model.state_dict()})
        self._keep()

    def _gradients(self, batch: Batch, targets: Targets) -> float:
        device = self.training.device
        batch, targets = to_device(batch, device), to_device(targets, device)
        is_bf16 = self.settings.precision == "bf16"
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=is_bf16):
            scores = self.learner(batch)
        loss = self.objective(scores.float(), batch, targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(self.training.folder, self.progress.step, value)
        (loss / self.settings.accumulate).backward()  # type: ignore[no-untyped-call]
        return value

    def _step(self) -> None:
        clip = self.training.recipe.optimizer.clip_norm
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1

    def _keep_now_and_then(self) -> None:
        if time.monotonic() - self.kept_at > 60 * self.training.checkpoint_minutes:
            self._keep()

    def _keep(self) -> None:
        self.kept_at = time.monotonic()
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {name: value for name, value in self.schedule.state_dict().items() if _is_plain(value)},
            "random": random_state(),
            "place": self.batches.state_dict(),
            "progress": vars(self.progress),
            "losses": [self.loss_sum, self.loss_count],
        }
        self._write(self.training.last, state)

    def _write(self, path: Path, state: Mapping[str, Any]) -> None:
        if self.training.ranks.is_first:
            about = {**self.training.about, "epoch": self.progress.epoch, "best_epoch": self.progress.best_epoch}
            write_checkpoint(path, Checkpoint(about, state))

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.batches.load_state_dict(state["place"])
        self.progress = Progress(**state["progress"])
        self.loss_sum, self.loss_count = state["losses"]
        set_random_state(state["random"])


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str | list)

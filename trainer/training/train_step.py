"""How a batch changes a network: one loss on one batch, or the steps of a round on two.

Refuses to know epochs, validation and files.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.highlight.base.contract import Batch, Scores
from storage.base.errors import SettingsError, SystemicFault
from trainer.base.targets import Targets
from trainer.config.optimizers import make_optimizer, make_schedule
from trainer.config.recipe import Recipe
from trainer.data import DeviceBatch, to_device
from trainer.losses.set_based.domain_steps import DomainBatch, Steps
from trainer.training.distributed import DistributedContext

Objective = Callable[[Scores, Batch, Targets], Tensor]


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


class TrainStep(ABC):
    """A network, what moves it, and their way into a checkpoint and back."""

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        ranks: DistributedContext,
        parts: Mapping[str, nn.Module],
    ) -> None:
        """`parts`: name → what has an optimizer of its own; those without anything to learn have
        none.
        """
        self.recipe, self.model, self.ranks = recipe, model, ranks
        learning = {
            name: part
            for name, part in parts.items()
            if any(p.requires_grad for p in part.parameters())
        }
        if not learning:
            raise ValueError(
                "no parameter of this network learns; its recipe needs no gradient stage"
            )
        self.optimizers = {
            name: make_optimizer(part.parameters(), recipe.optimizer)
            for name, part in learning.items()
        }
        self.schedules = {
            name: make_schedule(one, recipe.optimizer) for name, one in self.optimizers.items()
        }

    @abstractmethod
    def step(self, batch: Any) -> tuple[float, bool]:
        """The loss of a batch, and whether weights moved: they do not if the loss is no number."""

    def finish(self) -> bool:
        """At the end of an epoch: whether weights moved once more."""
        return False

    def decay(self) -> None:
        """An epoch is over: learning rates fall as they are to."""
        for schedule in self.schedules.values():
            schedule.step()

    @property
    def learning_rate(self) -> float:
        """Of now; all parts have the same."""
        return float(next(iter(self.schedules.values())).get_last_lr()[0])

    def state_dict(self) -> dict[str, Any]:
        """What goes into a checkpoint, beside the network's weights."""
        return {
            "optimizers": {name: one.state_dict() for name, one in self.optimizers.items()},
            "schedules": {name: _plain(one.state_dict()) for name, one in self.schedules.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        for name, one in self.optimizers.items():
            one.load_state_dict(state["optimizers"][name])
        for name, schedule in self.schedules.items():
            schedule.load_state_dict(state["schedules"][name])

    def _clip(self) -> None:
        clip = self.recipe.optimizer.clip_norm
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)


class SingleLoss(TrainStep):
    """One loss on one batch; the gradients of `training.accumulate` batches make a step."""

    def __init__(
        self, recipe: Recipe, model: nn.Module, ranks: DistributedContext, objective: Objective
    ) -> None:
        super().__init__(recipe, model, ranks, {"all": model})
        self.objective = objective
        self.learner = ranks.wrapped(model)
        self.batches = 0

    def step(self, batch: DeviceBatch) -> tuple[float, bool]:
        """Forward and backward; a step after each `accumulate` batches."""
        device, settings = self.ranks.device, self.recipe.training
        seen, targets = to_device(batch.batch, device), to_device(batch.targets, device)
        is_bf16 = settings.precision == "bf16"
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=is_bf16):
            scores = self.learner(seen)
        loss = self.objective(scores.float(), seen, targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value, False
        (loss / settings.accumulate).backward()  # type: ignore[no-untyped-call]
        self.batches += 1
        if self.batches % settings.accumulate:
            return value, False
        self._step()
        return value, True

    def finish(self) -> bool:
        """A step with what gradients are left."""
        has_rest = self.batches % self.recipe.training.accumulate > 0
        if has_rest:
            self._step()
        self.batches = 0
        return has_rest

    def _step(self) -> None:
        self._clip()
        self.optimizers["all"].step()
        self.optimizers["all"].zero_grad(set_to_none=True)


class DomainSteps(TrainStep):
    """The steps of a domain objective, one after the other, each child of the network with its own
    optimizer.
    """

    def __init__(
        self, recipe: Recipe, model: nn.Module, ranks: DistributedContext, steps: Steps
    ) -> None:
        super().__init__(recipe, model, ranks, dict(model.named_children()))
        self.steps = steps
        if recipe.training.precision != "fp32" or recipe.training.accumulate != 1:
            raise SettingsError(
                (
                    f"recipe {recipe.name}: training on two batches knows precision = 'fp32' and accumulate = 1 alone",
                )
            )

    def step(self, batch: DomainBatch) -> tuple[float, bool]:
        """All steps of the round; answers the first one's loss."""
        losses = []
        for step in self.steps:
            moved = step.trained_children(self.model)
            for _ in range(step.repeats):
                self.model.zero_grad(set_to_none=True)
                loss = step.loss(self.model, batch)
                losses.append(float(loss.detach()))
                if not math.isfinite(losses[-1]):
                    return losses[-1], False
                # Released forms skip the step of sets without a highlight: neither momentum nor
                # decay moves anything.
                if not self.ranks.any(loss.requires_grad):
                    continue
                if loss.requires_grad:
                    loss.backward()  # type: ignore[no-untyped-call]
                self.ranks.average_gradients(self.model)
                self._clip()
                for name in moved:
                    if name in self.optimizers:
                        self.optimizers[name].step()
        self.model.zero_grad(set_to_none=True)
        return losses[0], True


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, bool | int | float | str | list)
    }

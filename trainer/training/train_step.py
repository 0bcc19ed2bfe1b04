"""Train steps: how a batch changes a network, by one loss on one batch, or by steps on two."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.highlight.base.output_check import check_first_output
from storage.base.errors import SettingsError, SystemicFault
from trainer.config.model_errors import explain_model_errors, explain_objective_errors
from trainer.config.optimizers import make_optimizer, make_schedule
from trainer.config.recipe import Recipe
from trainer.data import DeviceBatch, to_device
from trainer.losses.registry import Objective
from trainer.losses.set_based.domain_steps import DomainBatch, Step, Steps
from trainer.training.distributed import DistributedContext


class Diverged(SystemicFault):
    """The loss became infinite or not a number."""

    def __init__(self, run: Path, step: int, loss: float) -> None:
        super().__init__(run, step, loss)
        self.run, self.step, self.loss = run, step, loss

    def __str__(self) -> str:
        return (
            f"{self.run}: the loss is {self.loss} at step {self.step}; the last checkpoint is "
            "kept. Lower optimizer.learning_rate, set optimizer.clip_norm, or use "
            "training.precision = 'fp32'"
        )


class TrainStep(ABC):
    """A network with its optimizers and schedules: how a batch changes the weights."""

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        context: DistributedContext,
        parts: Mapping[str, nn.Module],
    ) -> None:
        """`parts` is name → a part of the network with an optimizer of its own.

        Parts without a parameter that requires a gradient get none. SettingsError if all are
        such. The first output of the network is checked.
        """
        self.recipe, self.model, self.context = recipe, model, context
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.schedules: dict[str, torch.optim.lr_scheduler.StepLR] = {}
        for name, part in parts.items():
            if any(parameter.requires_grad for parameter in part.parameters()):
                optimizer = make_optimizer(part.parameters(), recipe.optimizer)
                self.optimizers[name] = optimizer
                # One schedule for each optimizer, as torch needs it; all decay together.
                self.schedules[name] = make_schedule(optimizer, recipe.optimizer)
        if not self.optimizers:
            raise SettingsError(
                (
                    f"recipe {recipe.name}: no parameter of this network requires a gradient; "
                    "remove 'gradient' from stages",
                )
            )
        check_first_output(model, is_training=True)

    @abstractmethod
    def step(self, batch: Any) -> tuple[float, bool]:
        """Train on a batch; returns its loss, and whether weights changed.

        A loss that is not finite changes nothing: the caller ends the training.
        """

    def finish_epoch(self) -> bool:
        """At the end of an epoch: whether weights changed once more."""
        return False

    def decay(self) -> None:
        """Advance the learning rate schedules by one epoch."""
        for schedule in self.schedules.values():
            schedule.step()

    @property
    def learning_rate(self) -> float:
        """The current learning rate, which is the same for all parts."""
        any_schedule = next(iter(self.schedules.values()))
        return float(any_schedule.get_last_lr()[0])

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, without the network's weights."""
        optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        schedules = {
            name: _plain_values(schedule.state_dict()) for name, schedule in self.schedules.items()
        }
        return {"optimizers": optimizers, "schedules": schedules}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume at `state`."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, schedule in self.schedules.items():
            schedule.load_state_dict(state["schedules"][name])

    def _clip_gradients(self) -> None:
        clip_norm = self.recipe.optimizer.clip_norm
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)


class SingleLoss(TrainStep):
    """One loss on one batch; the gradients of `training.accumulate` batches make a step."""

    def __init__(
        self, recipe: Recipe, model: nn.Module, context: DistributedContext, objective: Objective
    ) -> None:
        super().__init__(recipe, model, context, {"all": model})
        self.objective = objective
        self.wrapped_model = context.wrap(model)
        self.batches = 0
        """Batches since the start of the epoch."""

    def step(self, batch: DeviceBatch) -> tuple[float, bool]:
        """Forward and backward; the optimizer steps after each `accumulate` batches."""
        device, settings = self.context.device, self.recipe.training
        inputs, targets = to_device(batch.batch, device), to_device(batch.targets, device)
        is_bf16 = settings.precision == "bf16"
        autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=is_bf16)
        with explain_model_errors(self.recipe), autocast:
            scores = self.wrapped_model(inputs)
        # Losses are computed in single precision, outside of autocast.
        with explain_objective_errors(self.recipe):
            loss = self.objective(scores.float(), inputs, targets)
        value = float(loss.detach())
        # Checked before `backward`: gradients of NaN would spoil the weights.
        if not math.isfinite(value):
            return value, False
        (loss / settings.accumulate).backward()  # type: ignore[no-untyped-call]
        self.batches += 1
        if self.batches % settings.accumulate:
            return value, False
        self._optimizer_step()
        return value, True

    def finish_epoch(self) -> bool:
        """A step with the gradients of the last batches, if they are fewer than `accumulate`."""
        has_gradients = self.batches % self.recipe.training.accumulate > 0
        if has_gradients:
            self._optimizer_step()
        self.batches = 0
        return has_gradients

    def _optimizer_step(self) -> None:
        self._clip_gradients()
        self.optimizers["all"].step()
        self.optimizers["all"].zero_grad(set_to_none=True)


class DomainSteps(TrainStep):
    """The steps of an objective on two batches; each child of the network has an optimizer."""

    def __init__(
        self, recipe: Recipe, model: nn.Module, context: DistributedContext, steps: Steps
    ) -> None:
        super().__init__(recipe, model, context, dict(model.named_children()))
        self.steps = steps
        if recipe.training.precision != "fp32" or recipe.training.accumulate != 1:
            raise SettingsError(
                (
                    f"recipe {recipe.name}: training on two batches supports only "
                    "training.precision = 'fp32' and training.accumulate = 1; got "
                    f"{recipe.training.precision!r} and {recipe.training.accumulate}",
                )
            )

    def step(self, batch: DomainBatch) -> tuple[float, bool]:
        """Run all steps on the batch; returns the loss of the first one.

        It ends at the first loss that is not finite and returns that one instead.
        """
        losses = []
        for step in self.steps:
            for _ in range(step.repeats):
                loss = self._update(step, batch)
                if not math.isfinite(loss):
                    return loss, False
                losses.append(loss)
        self.model.zero_grad(set_to_none=True)
        return losses[0], True

    def _update(self, step: Step, batch: DomainBatch) -> float:
        """One update of the children that the step trains; returns the loss."""
        with explain_objective_errors(self.recipe):
            children = step.trained_children(self.model)
        # Every loss also sends gradients to children that its step does not train.
        self.model.zero_grad(set_to_none=True)
        with explain_model_errors(self.recipe), explain_objective_errors(self.recipe):
            loss = step.loss(self.model, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value
        # Released forms skip sets without a highlight: their loss is a 0 without gradient. If all
        # processes skip, the optimizers must not step: momentum and weight decay would change
        # weights. If only some skip, all must average the gradients together.
        if not self.context.any(loss.requires_grad):
            return value
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        self.context.average_gradients(self.model)
        self._clip_gradients()
        for name in children:
            if name in self.optimizers:
                self.optimizers[name].step()
        return value


def _plain_values(state: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that a checkpoint can hold; a schedule's state also has functions."""
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, bool | int | float | str | list)
    }

"""Optimizers and schedules as recipes name them. Refuses to know what is optimised."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn, optim

from trainer.config.recipe import OptimizerSettings


def make_optimizer(
    parameters: Iterable[nn.Parameter], settings: OptimizerSettings
) -> optim.Optimizer:
    """The optimizer over the parameters that learn. ValueError if none does."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    if not learning:
        raise ValueError("no parameter of this network learns; its recipe needs no gradient stage")
    rate, decay = settings.learning_rate, settings.weight_decay
    match settings.name:
        case "adam":
            return optim.Adam(learning, lr=rate, weight_decay=decay)
        case "rmsprop":
            return optim.RMSprop(learning, lr=rate, weight_decay=decay, momentum=settings.momentum)
        case "sgd":
            return optim.SGD(
                learning,
                lr=rate,
                weight_decay=decay,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
            )


def make_schedule(
    optimizer: optim.Optimizer, settings: OptimizerSettings
) -> optim.lr_scheduler.StepLR:
    """The learning rate, multiplied by `decay` after every `decay_every_epochs` epochs."""
    return optim.lr_scheduler.StepLR(optimizer, settings.decay_every_epochs, settings.decay)

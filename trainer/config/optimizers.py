"""Optimizers and learning rate schedules, by the names that recipes use."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn, optim

from trainer.config.recipe import OptimizerSettings


def make_optimizer(
    parameters: Iterable[nn.Parameter], settings: OptimizerSettings
) -> optim.Optimizer:
    """The optimizer over the parameters that require a gradient. ValueError if none does."""
    # Frozen parameters are left out: weight decay would change them.
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise ValueError(
            "no parameter of this network requires a gradient: remove 'gradient' from stages"
        )
    rate, decay, momentum = settings.learning_rate, settings.weight_decay, settings.momentum
    match settings.name:
        case "adam":
            return optim.Adam(trained, lr=rate, weight_decay=decay)
        case "rmsprop":
            return optim.RMSprop(trained, lr=rate, weight_decay=decay, momentum=momentum)
        case "sgd":
            return optim.SGD(
                trained,
                lr=rate,
                weight_decay=decay,
                momentum=momentum,
                nesterov=settings.nesterov,
            )


def make_schedule(
    optimizer: optim.Optimizer, settings: OptimizerSettings
) -> optim.lr_scheduler.StepLR:
    """A schedule that multiplies the rate by `decay` after every `decay_every_epochs` epochs."""
    return optim.lr_scheduler.StepLR(optimizer, settings.decay_every_epochs, settings.decay)

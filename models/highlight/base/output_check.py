"""Checks that a network returns what the contract of highlight models asks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from models.highlight.base.contract import Batch, Scores


class OutputFault(ValueError):
    """A network's output breaks the contract; the message says what came and what is needed."""


def check_first_output(model: nn.Module, *, is_training: bool) -> None:
    """Check the next output of the model, and no later one.

    Its forward then raises OutputFault unless it returns `Scores` of the right shape and type, and
    in training something that has a gradient.
    """

    def check(_: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        handle.remove()
        (batch,) = inputs
        fault = _fault(output, batch)
        if not fault and is_training and torch.is_grad_enabled():
            fault = _fault_of_gradient(output)
        if fault:
            raise OutputFault(fault)

    handle = model.register_forward_hook(check)


def _fault(output: object, batch: Batch) -> str:
    """What is wrong with an output; empty if nothing is."""
    needed = f"it must return Scores with scores of shape {tuple(batch.mask.shape)}"
    if not isinstance(output, Scores):
        return f"forward returned {_described(output)}; {needed}"
    scores: object = output.scores
    if not isinstance(scores, torch.Tensor) or scores.shape != batch.mask.shape:
        return f"forward returned Scores whose scores are {_described(scores)}; {needed}"
    if not scores.is_floating_point():
        return f"forward returned scores of {scores.dtype}; they must be float32"
    for name, part in output.parts.items():
        if not isinstance(part, torch.Tensor):
            return f"forward returned the part {name!r} as {_described(part)}; it must be a Tensor"
    return ""


def _fault_of_gradient(output: object) -> str:
    if not isinstance(output, Scores):
        return ""
    tensors = [output.scores, *output.parts.values()]
    if any(tensor.requires_grad for tensor in tensors):
        return ""
    return (
        "the scores that forward returned have no gradient, so nothing can be trained; remove "
        "detach(), numpy() or torch.no_grad() between the parameters and the scores"
    )


def _described(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a Tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"

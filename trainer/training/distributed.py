"""Distributed training: the rank of this process under `torchrun`, and collective operations."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class DistributedContext:
    """The rank of this process in a training run; without `torchrun` it is rank 0 of 1."""

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, wrapped to average gradients over all processes if there are several."""
        if self.world_size == 1:
            return model
        device_ids = [torch.device(self.device)] if self.device.startswith("cuda") else None
        # Some batches leave parts of a network unused, such as a history encoder without history.
        return DistributedDataParallel(model, device_ids=device_ids, find_unused_parameters=True)

    def mean(self, value: float) -> float:
        """The mean of a number over all processes."""
        if self.world_size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return float(total) / self.world_size

    def average_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its mean over all processes; for a model without `wrap`."""
        if self.world_size == 1:
            return
        for parameter in model.parameters():
            if not parameter.requires_grad:
                continue
            # Every process must take part for every parameter, or the others wait for ever.
            gradient = parameter.grad
            if gradient is None:
                gradient = torch.zeros_like(parameter)
            distributed.all_reduce(gradient)
            parameter.grad = gradient / self.world_size

    def any(self, condition: bool) -> bool:
        """Whether the condition holds in any process."""
        if self.world_size == 1:
            return condition
        count = torch.tensor(int(condition), device=self.device)
        distributed.all_reduce(count)
        return bool(count)

    def barrier(self) -> None:
        """Wait until every process has called this."""
        if self.world_size > 1:
            distributed.barrier()


@contextlib.contextmanager
def distributed_context(device: str) -> Iterator[DistributedContext]:
    """Join the process group of `torchrun`, if there is one, and leave it at the end.

    `device` is `cpu`, `cuda` or `cuda:N`.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield DistributedContext(device=device)
        return
    # Each process has a GPU of its own; `torchrun` numbers the processes of a machine.
    own = f"cuda:{os.environ['LOCAL_RANK']}" if device.startswith("cuda") else device
    if own.startswith("cuda"):
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if own.startswith("cuda") else "gloo")
    try:
        yield DistributedContext(int(os.environ["RANK"]), world_size, own)
    finally:
        distributed.destroy_process_group()

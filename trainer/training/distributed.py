"""One process or several: what `torchrun` started us as, and the few things that have to be done
together.

Refuses to know models and data.
"""

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
    """This process among those of a training; a single one is rank 0 of 1."""

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model as it is, or one whose gradients are averaged over all processes."""
        if self.world_size == 1:
            return model
        places = [torch.device(self.device)] if self.device.startswith("cuda") else None
        return DistributedDataParallel(model, device_ids=places, find_unused_parameters=True)

    def mean(self, value: float) -> float:
        """The mean of a number over all processes."""
        if self.world_size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return float(total) / self.world_size

    def average_gradients(self, model: nn.Module) -> None:
        """Every gradient becomes its mean over all processes, where the model is not `wrapped`."""
        if self.world_size == 1:
            return
        for parameter in model.parameters():
            if parameter.requires_grad:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                distributed.all_reduce(gradient)
                parameter.grad = gradient / self.world_size

    def any(self, said: bool) -> bool:
        """Whether some process says so."""
        if self.world_size == 1:
            return said
        count = torch.tensor(int(said), device=self.device)
        distributed.all_reduce(count)
        return bool(count)

    def wait(self) -> None:
        """Until every process has come here."""
        if self.world_size > 1:
            distributed.barrier()


@contextlib.contextmanager
def distributed_context(device: str) -> Iterator[DistributedContext]:
    """What `torchrun` says this process is; joins and leaves the group. `device` is `cpu`, `cuda`
    or `cuda:N`.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield DistributedContext(device=device)
        return
    own = f"cuda:{os.environ['LOCAL_RANK']}" if device.startswith("cuda") else device
    if own.startswith("cuda"):
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if own.startswith("cuda") else "gloo")
    try:
        yield DistributedContext(int(os.environ["RANK"]), world_size, own)
    finally:
        distributed.destroy_process_group()

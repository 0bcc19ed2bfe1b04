"""Activations, sums and batch norms that overwrite their input, on a CPU and without a gradient.

The bits are those of torch's own. A new map has to be given pages by the operating system, which
on a CPU takes longer than the arithmetic on it. On a GPU, and for a gradient, nothing is
overwritten. Give them only what nothing else reads later, such as the output of a convolution.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class NormStatistics(NamedTuple):
    """What a batch norm has learned; each `(C,)`."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor


def computes_on_cpu_without_gradient(x: Tensor) -> bool:
    """Whether torch computes with `x` on a CPU and keeps nothing of it for a gradient."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def relu(x: Tensor) -> Tensor:
    """`torch.relu(x)`; may overwrite `x`."""
    return torch.relu_(x) if computes_on_cpu_without_gradient(x) else torch.relu(x)


def add(x: Tensor, y: Tensor, *, spare: Tensor) -> Tensor:
    """`x + y`; may overwrite `spare`, which is one of them."""
    # Of unlike layouts torch chooses one, in which a convolution may add up in another order.
    is_alike = x.stride() == y.stride() and x.shape == y.shape and x.dtype is y.dtype
    if is_alike and computes_on_cpu_without_gradient(x):
        return torch.add(x, y, out=spare)
    return x + y


def batch_norm(x: Tensor, statistics: NormStatistics, eps: float) -> Tensor:
    """`functional.batch_norm` of `(B, C, ...)` with fixed statistics; may overwrite `x`."""
    mean, variance, weight, bias = statistics
    is_float32 = x.dtype is weight.dtype is torch.float32
    if not (is_float32 and x.is_contiguous() and computes_on_cpu_without_gradient(x)):
        return functional.batch_norm(x, mean, variance, weight, bias, eps=eps)
    unused = x.new_empty(0), x.new_empty(0)
    torch.native_batch_norm(
        x, weight, bias, mean, variance, training=False, momentum=0.0, eps=eps, out=(x, *unused)
    )
    return x


class ReLU(nn.ReLU):
    """`nn.ReLU`; may overwrite its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        return relu(x)


class BatchNorm3d(nn.BatchNorm3d):
    """`nn.BatchNorm3d`; may overwrite its input."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, t, h, w)` → the same shape."""
        if self.training:
            return super().forward(x)
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return batch_norm(x, NormStatistics(mean, variance, self.weight, self.bias), self.eps)

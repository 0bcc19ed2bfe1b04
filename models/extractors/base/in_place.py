"""ReLU and batch norm that overwrite their input, on a CPU and without a gradient.

The bits are those of torch's own. A new map has to be given pages by the operating system, which
on a CPU takes longer than the arithmetic on it. On a GPU, and for a gradient, nothing is
overwritten. Give them only what nothing else reads later, such as the output of a convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def computes_on_cpu_without_gradient(x: Tensor) -> bool:
    """Whether torch computes with `x` on a CPU and keeps nothing of it for a gradient."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def relu(x: Tensor) -> Tensor:
    """`torch.relu(x)`; may overwrite `x`."""
    return torch.relu_(x) if computes_on_cpu_without_gradient(x) else torch.relu(x)


class ReLU(nn.ReLU):
    """`nn.ReLU`; may overwrite its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        return relu(x)


class BatchNorm3d(nn.BatchNorm3d):
    """`nn.BatchNorm3d`; may overwrite its input."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, t, h, w)` → the same shape."""
        is_float32 = x.dtype is self.weight.dtype is torch.float32
        if self.training or not is_float32 or not computes_on_cpu_without_gradient(x):
            return super().forward(x)
        unused = x.new_empty(0)
        torch.native_batch_norm(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            training=False,
            momentum=0.0,
            eps=self.eps,
            out=(x, unused, unused.clone()),
        )
        return x

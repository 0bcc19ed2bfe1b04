"""Video2GIF: ranks segments by their C3D feature; the published head, and PHD-GIFs' version.

Sources: M. Gygli, Y. Song, L. Cao, "Video2GIF: Automatic Generation of Animated GIFs from Video",
CVPR 2016 (code: github.com/gyglim/video2gif_code), and PHD-GIFs (ACM MM 2018), section 5.1, for
`video2gif_ours`, "a slight variation" that the paper does not describe; here it is PHD-CA without a
history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.history import (
    FNN,
    FNNSettings,
    scatter_to_positions,
    single_vector_array,
)


@dataclass(frozen=True)
class Video2GIFSettings(FNNSettings):
    """The head on pool5. For the array `c3d/fc6`, set hidden_widths to (512, 128)."""

    hidden_widths: tuple[int, ...] = (4096, 512, 128)
    dropouts: tuple[float, ...] = (0.0, 0.5, 0.0, 0.0)
    """Only after fc6. Place and rate are ours: the published code has no training."""


class Video2GIF(nn.Module):
    """A feed-forward network over each position; its scores have no bounds."""

    def __init__(self, key: str, width: int, settings: FNNSettings) -> None:
        super().__init__()
        self.key = key
        self.fnn = FNN(width, settings)

    def forward(self, batch: Batch) -> Scores:
        """Scores each position by itself; a segment's score is the mean of its rows' scores."""
        rows = batch.features[self.key][batch.mask]
        if self.fnn.settings.is_normalised:
            rows = functional.normalize(rows, dim=-1)
        return Scores(scatter_to_positions(self.fnn(rows), batch.mask))

    def load_fc6(self, tensors: Mapping[str, Tensor]) -> None:
        """Starts the first layer from C3D's `fc6.weight` (4096, 8192) and `fc6.bias` (4096,).

        As the authors did. KeyError if one is missing; ValueError if the first layer has another
        shape.
        """
        first = self.fnn.hidden[0]
        weight, bias = tensors["fc6.weight"], tensors["fc6.bias"]
        expected = tuple(first.get_parameter("weight").shape)
        if tuple(weight.shape) != expected or tuple(bias.shape) != expected[:1]:
            raise ValueError(
                f"C3D's fc6 has a weight {tuple(weight.shape)} and a bias {tuple(bias.shape)}, but "
                f"this head's first layer has a weight {expected}: read c3d/pool5 and let "
                f"hidden_widths start with {weight.shape[0]}"
            )
        with torch.no_grad():
            first.get_parameter("weight").copy_(weight)
            first.get_parameter("bias").copy_(bias)


def _build(settings: FNNSettings, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    return Video2GIF(*single_vector_array(shapes), settings)


VIDEO2GIF = ModelSpec(
    name="video2gif",
    source="Video2GIF (CVPR 2016) as released: C3D's fc6, then 512, 128 and 1",
    arrays=("c3d/pool5",),
    unit="row",
    history="none",
    settings=Video2GIFSettings,
    build=_build,
)
VIDEO2GIF_OURS = ModelSpec(
    name="video2gif_ours",
    source="PHD-GIFs (ACM MM 2018), section 5.1, Video2GIF (ours)",
    arrays=("c3d/pool5",),
    unit="segment",
    history="none",
    settings=FNNSettings,
    build=_build,
)

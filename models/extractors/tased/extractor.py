"""TASED-Net as an extractor: prepares frames and computes saliency maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.extractors.base.contract import random_seed
from models.extractors.base.inference import collect_rows, inference_context, to_precision
from models.extractors.base.resizing_extractor import ClipExtractor
from models.extractors.tased.network import TasedNet
from models.extractors.tased.settings import MAP_HEIGHT, MAP_WIDTH, TasedSettings
from models.extractors.tased.weights import initialise, load_weights


class TasedExtractor(ClipExtractor):
    """TASED-Net with its weights on a device, fed frame by frame."""

    def __init__(self, network: TasedNet, settings: TasedSettings, device: str) -> None:
        super().__init__(settings, device, (MAP_HEIGHT, MAP_WIDTH))
        self.network = to_precision(network.eval(), settings.precision).to(device)
        self.block_pixels = settings.block_pixels

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of 32 prepared frames → the float32 map of each window's last frame.

        A value of the map is the mean over a block of `block_pixels` by `block_pixels` pixels.
        """
        with inference_context(self.device):
            outputs = [
                {"saliency": self._block_means(clips)} for clips in self.clip_batches(windows)
            ]
        return {"saliency": collect_rows(outputs, "saliency")}

    def _block_means(self, clips: Tensor) -> Tensor:
        """`(B, 3, T, H, W)` uint8 → `(B, H / block_pixels, W / block_pixels)` float32."""
        # Contiguous, the authors' memory layout, so that convolutions add up in their order.
        maps = self.network(clips.contiguous())
        return functional.avg_pool2d(maps[:, None].float(), self.block_pixels)[:, 0]


def build_extractor(settings: TasedSettings, weights: str, device: str) -> TasedExtractor:
    """TASED-Net from the released state dict file, or from `random:SEED`."""
    network = TasedNet()
    seed = random_seed(weights)
    if seed is None:
        network.load_state_dict(load_weights(Path(weights)))
    else:
        initialise(network, seed)
    return TasedExtractor(network, settings, device)

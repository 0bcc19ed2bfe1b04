"""C3D as an extractor: prepares frames and computes rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from models.extractors.base.contract import random_seed
from models.extractors.base.inference import collect_rows, inference_context, to_precision
from models.extractors.base.resizing_extractor import ClipExtractor
from models.extractors.c3d.network import C3D, LAYOUTS, RESIZED_HEIGHT, RESIZED_WIDTH, initialise
from models.extractors.c3d.settings import C3DSettings
from models.weights.key_mapping import load_best_layout


class C3DExtractor(ClipExtractor):
    """C3D with its weights on a device, fed frame by frame."""

    def __init__(self, network: C3D, device: str) -> None:
        settings = network.settings
        super().__init__(settings, device, (RESIZED_HEIGHT, RESIZED_WIDTH))
        self.network = to_precision(network.eval(), settings.precision).to(device)

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of 16 prepared frames → float32 rows of each kept array."""
        with inference_context(self.device):
            outputs = [self.network(clips) for clips in self.clip_batches(windows)]
        return {name: collect_rows(outputs, name) for name in self.network.settings.arrays}


def build_extractor(settings: C3DSettings, weights: str, device: str) -> C3DExtractor:
    """C3D from a published state dict file, or from `random:SEED`."""
    network = C3D(settings)
    seed = random_seed(weights)
    if seed is None:
        network.load_state_dict(load_best_layout(Path(weights), LAYOUTS))
    else:
        initialise(network, seed)
    return C3DExtractor(network, device)

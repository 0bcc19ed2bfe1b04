"""Data loading: from feature stores to batches.

    data = open_data(Path("data/phd2"), DataSettings(("c3d/pool5",), unit="segment",
    history="shots")) train, test = data.training(), data.scoring("test") print(train.found.targets)
    # 26390 targets = 25101 used + 1289 unavailable:private loader = Loader(train,
    LoaderSettings(batch_size=32, seed=1, workers=2)) for batch, targets, examples in loader:
    # one epoch, or the rest of one
        ... checkpoint["loader"] = loader.state_dict()            # and `load_state_dict` goes on
        from there

`data.shapes` builds the model; `data.trained_on` goes into its checkpoint, and `open_data(...,
trained_on=...)` refuses features that are not those. `dataset.notes` is what every table made from
it has to say. A scoring loader gives every example once, in a fixed order, whole videos at true
time, and `examples` says whose scores they are.

Knows the store, the catalog and the contract of models. Refuses to know networks, losses and
metrics.
"""

from __future__ import annotations

from trainer.data.collate import DeviceBatch, to_device
from trainer.data.dataset import HighlightDataset
from trainer.data.loader import Loader, LoaderSettings
from trainer.data.open_data import HighlightData, open_data
from trainer.data.sources.settings import DataSettings
from trainer.data.user_examples import Example, ExampleCounts

__all__ = [
    "DataSettings",
    "DeviceBatch",
    "Example",
    "ExampleCounts",
    "HighlightData",
    "HighlightDataset",
    "Loader",
    "LoaderSettings",
    "open_data",
    "to_device",
]

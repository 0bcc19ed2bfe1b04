"""Data loading: from feature stores to batches.

    settings = DataSettings(("c3d/pool5",), unit="segment", history="shots")
    data = open_data(Path("data/phd2"), settings)
    train, test = data.training(), data.scoring("test")
    print(train.example_set.targets)  # 26390 targets = 25101 used + 1289 unavailable:private
    loader = Loader(train, LoaderSettings(batch_size=32, seed=1, workers=2))
    for batch, targets, examples in loader:  # one epoch, or the rest of one
        ...
        checkpoint["loader"] = loader.state_dict()  # `load_state_dict` continues from here

`data.shapes` builds the model. `data.trained_on` goes into its checkpoint, and `open_data(...,
trained_on=...)` rejects other features. Every table prints the `notes` of its dataset. A scoring
loader gives every example once, in a fixed order, with whole videos at true time; `examples` names
the user and video of each row.

`WindowDataset` is the plain door for networks of your own: windows of rows of any store, as a
dataset of torch, which `ResumableSampler` reads in an order that can be resumed.
"""

from __future__ import annotations

from trainer.data.collate import DeviceBatch, to_device
from trainer.data.dataset import HighlightDataset
from trainer.data.loader import Loader, LoaderSettings
from trainer.data.open_data import HighlightData, open_data
from trainer.data.resumable_sampler import ResumableSampler
from trainer.data.sources.settings import DataSettings
from trainer.data.user_examples import Example, ExampleCounts
from trainer.data.windows import WindowDataset

__all__ = [
    "DataSettings",
    "DeviceBatch",
    "Example",
    "ExampleCounts",
    "HighlightData",
    "HighlightDataset",
    "Loader",
    "LoaderSettings",
    "ResumableSampler",
    "WindowDataset",
    "open_data",
    "to_device",
]

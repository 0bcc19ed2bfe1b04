"""Score every test video with a function of your own, under PHD-GIFs' average precision."""

import sys
from pathlib import Path

import numpy as np

from trainer.data import DataSettings, Loader, LoaderSettings, open_data
from trainer.metrics.ranking import interpolated_ap, precision_recall_curve

data = open_data(Path(sys.argv[1]), DataSettings(("c3d/pool5",), unit="segment", history="none"))
found = []
for batch, targets, _ in Loader(data.scoring("test"), LoaderSettings(batch_size=4)):
    norms = batch.features["c3d/pool5"].norm(dim=-1)  # (videos, segments): your own score
    for scores, labels, exists in zip(norms, targets.positive, batch.mask, strict=True):
        if labels[exists].any():
            line = precision_recall_curve(scores[exists].numpy(), labels[exists].numpy())
            found.append(interpolated_ap(line))
print(f"mean average precision of {len(found)} videos: {np.mean(found):.3f}")

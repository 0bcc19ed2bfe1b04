"""Train a network of your own on a store, in plain PyTorch."""

import sys
from pathlib import Path

import torch

from trainer.data import DataSettings, Loader, LoaderSettings, open_data

data = open_data(Path(sys.argv[1]), DataSettings(("c3d/pool5",), unit="segment", history="none"))
network = torch.nn.Linear(data.shapes["c3d/pool5"][0], 1)
optimizer = torch.optim.Adam(network.parameters())
loader = Loader(data.training(), LoaderSettings(batch_size=8, seed=1))
for epoch in range(3):
    for batch, targets, _ in loader:
        scores = network(batch.features["c3d/pool5"]).squeeze(-1)  # (videos, segments)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            scores, targets.positive.float(), reduction="none"
        )
        loss = losses[batch.mask].mean()  # padding has no label
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")

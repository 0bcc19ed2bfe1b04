"""Train a network of your own on windows of any store's rows, with torch's own DataLoader."""

import sys

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from trainer.data import WindowDataset

key = sys.argv[2] if len(sys.argv) > 2 else "c3d/pool5"
data = WindowDataset(sys.argv[1], [key], window_rows=16, stride_rows=8, labels="user")
network = torch.nn.Linear(data.shapes[key][0], 1)
optimizer = torch.optim.Adam(network.parameters())
for epoch in range(3):
    for batch in torch.utils.data.DataLoader(data, batch_size=32, shuffle=True):
        scores, mask = network(batch[key]).squeeze(-1), batch["mask"]  # (windows, 16) each
        loss = binary_cross_entropy_with_logits(scores[mask], batch["label"][mask])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")

"""Scores a split with a trained network: whole videos, full histories, one track per example.

Ground truth and metrics are not used here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.highlight.base.contract import Batch
from storage.scores import Key, Provenance, ScoreRun, ScoreTrack, make_score_run
from trainer.data import DeviceBatch, HighlightDataset, Loader, to_device

Prepare: TypeAlias = Callable[[nn.Module, DeviceBatch], None]
"""Called before each batch is scored. A model with weights per user loads them here."""


def _no_preparation(model: nn.Module, loaded: DeviceBatch) -> None:
    """Most models are the same for all users."""


def score_batches(
    model: nn.Module,
    batches: Loader,
    provenance: Provenance,
    *,
    device: str,
    precision: str = "fp32",
    prepare: Prepare = _no_preparation,
    on_batch: Callable[[int], None] = lambda examples: None,
) -> ScoreRun:
    """Scores of every example of a scoring loader; dropped examples are absent, with the reason.

    Raises ValueError if a score is not finite.
    """
    tracks: list[ScoreTrack] = []
    model.eval()
    for loaded in batches:
        prepare(model, loaded)
        tracks += _tracks(model, loaded, device, precision)
        on_batch(len(loaded.examples))
    return make_score_run(provenance, tracks, absent_reasons(batches.dataset))


def absent_reasons(dataset: HighlightDataset) -> dict[Key, str]:
    """(user, video) → why the dataset has no example of it."""
    reasons: dict[Key, str] = {}
    for reason, names in dataset.example_set.targets.dropped.items():
        for name in names:
            # IDs of videos have no slash, but IDs of users may.
            user, _, video = name.rpartition("/")
            reasons[user, video] = reason
    return reasons


def _tracks(
    model: nn.Module, loaded: DeviceBatch, device: str, precision: str
) -> Iterator[ScoreTrack]:
    # The features stay as they are stored (float16) until they are on the device.
    batch = to_device(loaded.batch, device)
    with (
        torch.inference_mode(),
        torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"),
    ):
        scores = model(batch).scores.float().cpu().numpy()
    for row, example in enumerate(loaded.examples):
        yield _track(example.user_id, example.video_id, loaded.batch, row, scores[row])


def _track(
    user_id: str, video_id: str, batch: Batch, row: int, scores: NDArray[np.float32]
) -> ScoreTrack:
    # Shorter videos of a batch are padded; the mask has their true rows.
    exists = batch.mask[row].numpy()
    spans = batch.spans[row].numpy()[exists]
    if not np.isfinite(scores[exists]).all():
        raise ValueError(
            f"the network's scores of {video_id} for {user_id or 'all users'} are not all finite"
        )
    return ScoreTrack(
        user_id, video_id, float(spans[:, 1].max()), spans, scores[exists].astype(np.float32)
    )

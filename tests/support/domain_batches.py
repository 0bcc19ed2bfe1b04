"""Small domains for every objective on two batches."""

from __future__ import annotations

from dataclasses import replace

import torch

from models.highlight.base.contract import Batch
from tests.support.model_batches import batch
from trainer.base.targets import Targets
from trainer.losses.set_based.domain_steps import DomainBatch, SetSampling, sample_two_domains

MODEL = {
    "afn": "sl_module",
    "dan": "sl_module",
    "deep_coral": "sl_module",
    "dl_vhd": "dl_vhd",
    "lim": "lim",
    "mcd": "sl_mcd",
    "mini_net": "mini_net",
    "revgrad": "sl_revgrad",
    "source_only": "sl_module",
}
"""Objective → a model that it was written for."""


def labelled(given: Batch, seed: int = 0) -> Targets:
    """A third of the positions are highlights, the first that exists always; others are labelled 0
    or -1.
    """
    drawn = torch.rand(given.mask.shape, generator=torch.Generator().manual_seed(seed))
    labels = torch.where(drawn < 1 / 3, 1.0, torch.where(drawn < 2 / 3, 0.0, -1.0))
    labels[:, 0] = 1
    labels = labels.masked_fill(~given.mask, 0)
    return Targets(labels, labels > 0, torch.full((len(labels), 0, 2), -1))


def domains(name: str, size: int = 8) -> DomainBatch:
    """Sets of two labelled and two other videos of different lengths, the others' features
    elsewhere.
    """
    source, target = batch(name, (12, 7), seed=1), batch(name, (9, 14), seed=2)
    moved = {
        key: (values + 0.5).masked_fill(~target.mask.unsqueeze(-1), 0)
        for key, values in target.features.items()
    }
    generator = torch.Generator().manual_seed(3)
    return sample_two_domains(
        source, labelled(source), replace(target, features=moved), SetSampling(size=size), generator
    )

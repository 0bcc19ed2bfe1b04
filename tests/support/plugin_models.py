"""A linear model of another distribution, and a small store to train it on."""

from __future__ import annotations

import sys
from pathlib import Path

from models.highlight.registry import HIGHLIGHT_MODELS
from models.registry import installed_entry_points
from tests.support.plugins import install

NAME, MODULE = "vh_linear", "vh_linear_model"
CODE = """
from dataclasses import dataclass

import torch

from models.highlight.base.contract import ModelSpec, Scores


@dataclass(frozen=True)
class Settings:
    bias: bool = True


class Linear(torch.nn.Module):
    def __init__(self, settings, shapes):
        super().__init__()
        ((self.key, (width,)),) = shapes.items()
        self.layer = torch.nn.Linear(width, 1, bias=settings.bias)

    def forward(self, batch):
        return Scores(self.layer(batch.features[self.key]).squeeze(-1))


SPEC = ModelSpec(
    name="vh_linear",
    source="a test",
    arrays=("c3d/pool5",),
    unit="segment",
    history="none",
    settings=Settings,
    build=Linear,
)
"""
RECIPE = """
source = "a test"
[model]
name = "vh_linear"
[data]
targets = "last"
[objective]
name = "hinge"
[training]
epochs = 1
batch_size = 8
"""


def install_model(site: Path, code: str = CODE, *, version: str = "3") -> None:
    """Put the model into `site`, in place of the one that was there."""
    for old in site.glob("my_linear-*/*"):
        old.unlink()
    for old in site.glob("my_linear-*"):
        old.rmdir()
    points = f"{NAME} = {MODULE}:SPEC"
    install(site, "my-linear", version, "video_highlights.models", points, **{MODULE: code})
    forget_model()


def forget_model() -> None:
    """Load the model anew when it is next named, as another process would."""
    HIGHLIGHT_MODELS.pop(NAME, None)
    HIGHLIGHT_MODELS.plugins.pop(NAME, None)
    sys.modules.pop(MODULE, None)
    installed_entry_points.cache_clear()

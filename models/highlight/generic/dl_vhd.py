"""DL-VHD: two scorers on one set transformer, one for a category, one for highlights of another.

Source: Xu et al., "Cross-category Video Highlight Detection via Set-based Learning", ICCV 2021,
section 3.3; released code and commit are named in `set_transformer.py`.

`dl_vhd` is the paper's, `dl_vhd_released` the code's; they differ as the two SL-modules do. Given
the same weights the latter equals the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.history import single_vector_array
from models.highlight.base.set_transformer import SetTransformer
from models.highlight.generic.sl_module import ARRAYS, ReleasedSLSettings, Scorer, SLSettings
from models.validation import one_of


@dataclass(frozen=True)
class DLVHDSettings(SLSettings):
    """The paper's sizes, and which of the two learners there are."""

    learners: Literal["both", "coarse", "fine"] = "both"
    """coarse and fine are the ablations "L_coarse only" and "L_fine only", the source-only
    SL-module.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("learners", self.learners, ("both", "coarse", "fine"))


@dataclass(frozen=True)
class ReleasedDLVHDSettings(ReleasedSLSettings, DLVHDSettings):
    """As the released code has it; its defaults are those of the released SL-module."""


class DLVHD(nn.Module):
    """A shared transformer, a coarse scorer (the target category) and a fine one (highlights)."""

    def __init__(self, key: str, width: int, settings: DLVHDSettings) -> None:
        super().__init__()
        self.encoder = SetTransformer(key, width, settings)
        chosen = ("coarse", "fine") if settings.learners == "both" else (settings.learners,)
        self.scorers = nn.ModuleDict({name: Scorer(width, settings) for name in chosen})

    def forward(self, batch: Batch) -> Scores:
        """The mean of the learners' scores; `parts` has each learner's, and `embeddings`."""
        embeddings = self.encoder(batch)
        each = {name: scorer(embeddings, batch.mask) for name, scorer in self.scorers.items()}
        mean = torch.stack(list(each.values())).mean(dim=0)
        return Scores(mean, {"embeddings": embeddings, **each})


def _build(settings: DLVHDSettings, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    return DLVHD(*single_vector_array(shapes), settings)


DL_VHD = ModelSpec(
    name="dl_vhd",
    source="Set-based Learning (ICCV 2021), section 3.3, DL-VHD",
    arrays=ARRAYS,
    unit="segment",
    history="none",
    settings=DLVHDSettings,
    build=_build,
)
DL_VHD_RELEASED = replace(
    DL_VHD,
    name="dl_vhd_released",
    source="Set-based Learning (ICCV 2021), DL-VHD as released: train_dual_learner.py",
    settings=ReleasedDLVHDSettings,
)

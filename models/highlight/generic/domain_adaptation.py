"""Domain adaptation of the SL-module: with a discriminator (RevGrad), or a second scorer (MCD).

Sources: Set-based Learning (ICCV 2021), appendix 8, which puts five methods on the SL-module. DAN,
DeepCORAL and AFN compare embeddings and need only the SL-module itself; the two others are here:

- RevGrad: Y. Ganin, V. Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015.
- MCD: K. Saito, K. Watanabe, Y. Ushiku, T. Harada, "Maximum Classifier Discrepancy for Unsupervised
  Domain Adaptation", CVPR 2018.

No code of either was released for the SL-module. Losses and steps are in
`trainer.losses.set_based.domain_adaptation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.autograd import Function

from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.history import FNN, FNNSettings, single_vector_array
from models.highlight.base.set_transformer import SetTransformer
from models.highlight.generic.sl_module import ARRAYS, Scorer, SLModule, SLSettings

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class RevGradSettings(SLSettings):
    """The SL-module's sizes and the discriminator's."""

    discriminator_widths: tuple[int, ...] = (1024, 1024)
    """As RevGrad has it on AlexNet; set-based learning does not state its own."""
    discriminator_dropout: float = 0.5
    """After each hidden layer of the discriminator; as on AlexNet."""


class _Reversal(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        # A view: autograd ignores a function that returns its input itself.
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """x itself; its gradient is multiplied by -strength."""
    out: Tensor = _Reversal.apply(x, strength)
    return out


class RevGradSL(SLModule):
    """The SL-module, and a discriminator whose gradient reaches the transformer reversed."""

    def __init__(self, key: str, width: int, settings: RevGradSettings) -> None:
        super().__init__(key, width, settings)
        rates = (0.0, *[settings.discriminator_dropout] * len(settings.discriminator_widths))
        self.discriminator = FNN(width, FNNSettings(settings.discriminator_widths, rates))

    def discriminate(self, rows: Tensor, strength: float) -> Tensor:
        """`(N, D)` embeddings → `(N,)` log-odds of the source domain."""
        logits: Tensor = self.discriminator(reverse_gradient(rows, strength))
        return logits


class MCDSL(nn.Module):
    """One transformer and two scorers, which differ only in their initial weights."""

    def __init__(self, key: str, width: int, settings: SLSettings) -> None:
        super().__init__()
        self.encoder = SetTransformer(key, width, settings)
        self.scorers = nn.ModuleList(Scorer(width, settings) for _ in range(2))

    def forward(self, batch: Batch) -> Scores:
        """The mean of both scores, as MCD evaluates its ensemble; `parts` has `first`, `second`."""
        embeddings = self.encoder(batch)
        first, second = (scorer(embeddings, batch.mask) for scorer in self.scorers)
        return Scores(
            (first + second) / 2, {"embeddings": embeddings, "first": first, "second": second}
        )


def _needs_transformer(settings: SLSettings) -> None:
    if not settings.has_transformer:
        raise ValueError(
            "domain adaptation trains the transformer, because C3D is fixed: "
            "set has_transformer = true"
        )


def _revgrad(settings: RevGradSettings, shapes: Shapes) -> nn.Module:
    _needs_transformer(settings)
    return RevGradSL(*single_vector_array(shapes), settings)


def _mcd(settings: SLSettings, shapes: Shapes) -> nn.Module:
    _needs_transformer(settings)
    return MCDSL(*single_vector_array(shapes), settings)


SL_REVGRAD = ModelSpec(
    name="sl_revgrad",
    source="Set-based Learning (ICCV 2021), appendix 8, RevGrad on the SL-module",
    arrays=ARRAYS,
    unit="segment",
    history="none",
    settings=RevGradSettings,
    build=_revgrad,
)
SL_MCD = ModelSpec(
    name="sl_mcd",
    source="Set-based Learning (ICCV 2021), appendix 8, MCD on the SL-module",
    arrays=ARRAYS,
    unit="segment",
    history="none",
    settings=SLSettings,
    build=_mcd,
)

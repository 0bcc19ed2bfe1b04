"""What several highlight models share: means under masks, similarities to a history, the papers'
small networks.

Refuses to know any one paper's model. Letters in shapes are those of `contract.py`; D is the width
of a feature, N the number of positions of a batch that exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.highlight.base.contract import Batch

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "selu": torch.selu}


@dataclass(frozen=True)
class FNNSettings:
    """A feed-forward network that answers one number; the defaults are PHD-CA's."""

    hidden_widths: tuple[int, ...] = (512, 64)
    dropouts: tuple[float, ...] = (0.71, 0.18, 0.18)
    """Dropout before each layer: one number more than there are hidden layers."""
    activation: str = "relu"
    """relu or selu; the paper tried both and does not name the winner."""
    has_batch_norm: bool = False
    """After each hidden layer; the paper tried both and does not name the winner."""
    is_normalised: bool = False
    """Whether features are divided by their L2 norm first; no paper of this family says so."""

    def __post_init__(self) -> None:
        if not self.hidden_widths or min(self.hidden_widths) < 1:
            raise ValueError(
                f"hidden_widths holds one or more widths, each at least 1; got {self.hidden_widths}"
            )
        if len(self.dropouts) != len(self.hidden_widths) + 1 or not all(
            0 <= rate < 1 for rate in self.dropouts
        ):
            wanted = len(self.hidden_widths) + 1
            raise ValueError(
                f"dropouts holds {wanted} rates, each 0 to below 1; got {self.dropouts}"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is one of {', '.join(ACTIVATIONS)}; got {self.activation!r}"
            )


class FNN(nn.Module):
    """Rows in, one number a row out; `late` numbers more may join just before the last layer."""

    def __init__(self, inputs: int, settings: FNNSettings, late: int = 0) -> None:
        super().__init__()
        widths = (inputs, *settings.hidden_widths)
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        has_norm = settings.has_batch_norm
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(width) if has_norm else nn.Identity() for width in widths[1:]
        )
        self.last = nn.Linear(widths[-1] + late, 1)
        self.settings = settings

    def forward(self, rows: Tensor, late: Tensor | None = None) -> Tensor:
        """`(N, inputs)` and, if the network was built for it, `(N, late)` → `(N,)`."""
        rates = iter(self.settings.dropouts)
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            rows = functional.dropout(rows, next(rates), self.training)
            rows = ACTIVATIONS[self.settings.activation](norm(linear(rows)))
        rows = functional.dropout(rows, next(rates), self.training)
        if late is not None:
            rows = torch.cat([rows, late], dim=-1)
        answer: Tensor = self.last(rows).squeeze(-1)
        return answer


@dataclass(frozen=True)
class DistanceSettings:
    """The vector d of a position: how near the nearest elements of the history are (PHD-GIFs,
    sections 4.2 and 5.3).
    """

    nearest: int = 20
    """Length k of the vector; the paper's history has at most 20 shots."""
    reading: Literal["similarity", "distance"] = "similarity"
    """The paper speaks of cosine distances, drops those "further away" and fills up with zeros.
    Zero is the distance of twins, but the similarity of strangers, so the default reads
    "similarity"; `distance` is 1 - similarity, literally filled with zeros.
    """

    def __post_init__(self) -> None:
        if self.nearest < 1:
            raise ValueError(f"nearest is at least 1, got {self.nearest}")
        if self.reading not in ("similarity", "distance"):
            raise ValueError(f"reading is similarity or distance, got {self.reading!r}")


def single_vector_array(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, int]:
    """Key and width of the one array a model reads; ValueError unless there is one, and it holds
    vectors.
    """
    (key, shape), *more = shapes.items() or [("none", ())]
    if more or len(shape) != 1:
        raise ValueError(
            f"this model reads one array with a vector a position, such as c3d/pool5; got {dict(shapes)}"
        )
    return key, shape[0]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """`(..., L, D)` and `(..., L)` bool → `(..., D)`: the mean of what exists, zeros where nothing
    does.
    """
    total = values.masked_fill(~mask.unsqueeze(-1), 0).sum(dim=-2)
    return total / mask.sum(dim=-1, keepdim=True).clamp(min=1)


def history_elements(
    batch: Batch, key: str, *, is_normalised: bool = False
) -> tuple[Tensor, Tensor]:
    """`(B, K, D)`, each element the mean of its rows, and `(B, K)` bool, the elements that exist.

    With `is_normalised` rows are divided by their L2 norm before they are averaged.
    """
    rows = batch.history[key]
    if is_normalised:
        rows = functional.normalize(rows, dim=-1)
    return masked_mean(rows, batch.history_mask), batch.history_mask.any(dim=-1)


def cosine_similarities(positions: Tensor, elements: Tensor, exists: Tensor) -> Tensor:
    """Cosines of `(B, T, D)` with `(B, K, D)`: `(B, T, K)`, zero for elements that do not exist."""
    cosines = functional.normalize(positions, dim=-1) @ functional.normalize(elements, dim=-1).mT
    return cosines.masked_fill(~exists.unsqueeze(1), 0)


def k_nearest(cosines: Tensor, exists: Tensor, settings: DistanceSettings) -> Tensor:
    """The vectors d, `(B, T, nearest)`, from `similarities`: the most similar first, zeros where
    there are fewer.
    """
    ordered = cosines.masked_fill(~exists.unsqueeze(1), -torch.inf).sort(dim=-1, descending=True)[0]
    kept = functional.pad(
        ordered, (0, max(0, settings.nearest - ordered.shape[-1])), value=-torch.inf
    )
    kept = kept[..., : settings.nearest]
    values = kept if settings.reading == "similarity" else 1 - kept
    return values.masked_fill(kept.isinf(), 0)


def scatter_to_positions(values: Tensor, mask: Tensor) -> Tensor:
    """`(N,)` numbers of the N positions in a `(B, T)` mask, back in their places; float32, zero
    elsewhere.
    """
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, values.float())


def repeat_for_positions(of_user: Tensor, mask: Tensor) -> Tensor:
    """`(B, D)` → `(N, D)`: a user's vector for every position of a `(B, T)` mask."""
    return of_user.unsqueeze(1).expand(-1, mask.shape[1], -1)[mask]

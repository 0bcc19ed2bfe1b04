"""Shared parts of highlight models: masked means, similarities to a history, feed-forward networks.

Letters in shapes are those of `contract.py`; D is the width of a feature, N the number of positions
of a batch that exist.
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
from models.validation import at_least, dropout_rate, layer_widths, one_of

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "selu": torch.selu}


@dataclass(frozen=True)
class FNNSettings:
    """A feed-forward network with one output; the defaults are those of PHD-CA."""

    hidden_widths: tuple[int, ...] = (512, 64)
    dropouts: tuple[float, ...] = (0.71, 0.18, 0.18)
    """Dropout before each layer: one rate more than there are hidden layers."""
    activation: str = "relu"
    """relu or selu; the paper tried both and does not name the winner."""
    has_batch_norm: bool = False
    """After each hidden layer; the paper tried both and does not name the winner."""
    is_normalised: bool = False
    """Whether features are divided by their L2 norm first; no paper of this family says so."""

    def __post_init__(self) -> None:
        layer_widths("hidden_widths", self.hidden_widths)
        rates = len(self.hidden_widths) + 1
        if len(self.dropouts) != rates:
            raise ValueError(
                f"dropouts must list {rates} rates, one more than hidden_widths; "
                f"got {self.dropouts}"
            )
        for rate in self.dropouts:
            dropout_rate("each rate of dropouts", rate)
        one_of("activation", self.activation, ACTIVATIONS)


class FNN(nn.Module):
    """One number for each row; `late` further inputs may join just before the last layer."""

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
        # Dropout comes before each layer, the last one included.
        rates = iter(self.settings.dropouts)
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            rows = functional.dropout(rows, next(rates), self.training)
            rows = ACTIVATIONS[self.settings.activation](norm(linear(rows)))
        rows = functional.dropout(rows, next(rates), self.training)
        if late is not None:
            rows = torch.cat([rows, late], dim=-1)
        outputs: Tensor = self.last(rows).squeeze(-1)
        return outputs


@dataclass(frozen=True)
class DistanceSettings:
    """The vector d of a position: its similarities to the nearest elements of the history.

    PHD-GIFs, sections 4.2 and 5.3.
    """

    nearest: int = 20
    """Length k of the vector; the paper's history has at most 20 shots."""
    reading: Literal["similarity", "distance"] = "similarity"
    """The paper names cosine distances, drops those "further away" and fills up with zeros. Zero is
    the smallest distance, but the similarity of unrelated vectors, so the default is similarity.
    `distance` is 1 - similarity, filled with zeros as the paper says.
    """

    def __post_init__(self) -> None:
        at_least("nearest", self.nearest, 1)
        one_of("reading", self.reading, ("similarity", "distance"))


def single_vector_array(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, int]:
    """Key and width of a model's only array.

    ValueError unless there is exactly one array, with a vector for each position.
    """
    arrays = list(shapes.items())
    if len(arrays) != 1 or len(arrays[0][1]) != 1:
        raise ValueError(
            "this model reads exactly one array with a vector for each position, such as "
            f"c3d/pool5; got {dict(shapes)}"
        )
    key, (width,) = arrays[0]
    return key, width


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """`(..., L, D)` and `(..., L)` bool → `(..., D)`: the mean under the mask, 0 if it is empty."""
    # Filled, and not multiplied: NaN under the mask must not survive.
    total = values.masked_fill(~mask.unsqueeze(-1), 0).sum(dim=-2)
    return total / mask.sum(dim=-1, keepdim=True).clamp(min=1)


def history_elements(
    batch: Batch, key: str, *, is_normalised: bool = False
) -> tuple[Tensor, Tensor]:
    """`(B, K, D)`, each element the mean of its rows; `(B, K)` bool, which elements exist.

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
    """The vectors d, `(B, T, nearest)`, from `cosine_similarities`, the most similar first.

    Zeros fill up if fewer than `nearest` elements exist.
    """
    # -inf marks elements that do not exist: they sort last, also after negative cosines.
    existing = cosines.masked_fill(~exists.unsqueeze(1), -torch.inf)
    ordered = existing.sort(dim=-1, descending=True)[0]
    missing = max(0, settings.nearest - ordered.shape[-1])
    padded = functional.pad(ordered, (0, missing), value=-torch.inf)
    nearest = padded[..., : settings.nearest]
    values = nearest if settings.reading == "similarity" else 1 - nearest
    return values.masked_fill(nearest.isinf(), 0)


def scatter_to_positions(values: Tensor, mask: Tensor) -> Tensor:
    """`(N,)` numbers of the N positions in a `(B, T)` mask → `(B, T)` float32, zero elsewhere."""
    # Out of place, so that autograd sees it.
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, values.float())


def repeat_for_positions(of_user: Tensor, mask: Tensor) -> Tensor:
    """`(B, D)` → `(N, D)`: each user's vector, once for each position of a `(B, T)` mask."""
    return of_user.unsqueeze(1).expand(-1, mask.shape[1], -1)[mask]

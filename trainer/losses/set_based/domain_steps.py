"""Training on two batches, a labelled and an unlabelled one, in one step or in alternating steps.

An objective of this kind is a tuple of `Step`s, which `trainer.losses.registry` makes from a name.
The training loop makes each `DomainBatch` (`trainer.training.domain_batches`) and runs the steps on
it (`trainer.training.train_step.DomainSteps`). Most objectives are one step that trains everything;
MCD alternates three. Losses are computed in single precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from models.highlight.base.contract import Batch, Scores
from models.validation import between, one_of, unit_interval
from trainer.base.targets import Targets
from trainer.base.tensors import map_tensors
from trainer.losses.set_based import set_sampling

SetKind = Literal["random", "window", "bag"]


@dataclass(frozen=True)
class DomainBatch:
    """Sets of two domains; rows b of `source`, `target` and `mixed` belong together."""

    source: Batch
    """Sets of the category with labels. MINI-Net and LIM-s: short videos of the category."""
    targets: Targets
    """The labels of `source`; MINI-Net and LIM-s read none of them."""
    target: Batch
    """Sets of the category without labels. MINI-Net: long videos of other categories; LIM-s: long
    videos of the same category.
    """
    mixed: Batch | None = None
    """Sets with positions of both domains, for DL-VHD."""
    is_target: Tensor | None = None
    """`(B, N)` bool: the positions of `mixed` that come from the target."""
    progress: float = 1.0
    """The share of training that is done, 0 to 1, for RevGrad's schedule."""

    def __post_init__(self) -> None:
        unit_interval("progress", self.progress)
        if (self.mixed is None) != (self.is_target is None):
            raise ValueError("mixed and is_target must both be given, or neither")

    def select_rows(self, rows: Tensor) -> DomainBatch:
        """Only these sets, `(B,)` bool, of every batch."""

        def select(tensor: Tensor) -> Tensor:
            return tensor[rows]

        return replace(
            self,
            source=map_tensors(self.source, select),
            targets=map_tensors(self.targets, select),
            target=map_tensors(self.target, select),
            mixed=None if self.mixed is None else map_tensors(self.mixed, select),
            is_target=None if self.is_target is None else select(self.is_target),
        )


@dataclass(frozen=True)
class SetSampling:
    """How sets are sampled: as in the paper; `RELEASED_SAMPLING` is as in the released code."""

    kind: SetKind = "random"
    """random: `size` positions of a video. window: up to `size // 2` on each side of an anchor.
    bag: exactly `size`, the positions of a short video repeated (MINI-Net).
    """
    size: int = 20
    lowest: float = 0.5
    highest: float = 0.5
    """`lowest` to `highest` is the range of the share of the target in a mixed set."""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, get_args(SetKind))
        between("size", self.size, 2, 10_000)
        set_sampling.check_share(self.lowest, self.highest)

    def draw(
        self, mask: Tensor, generator: torch.Generator, anchors: Tensor | None = None
    ) -> Tensor:
        """`(B, N)` positions of a set in each video of a `(B, T)` mask.

        `anchors` `(B,)` are the middles of windows.
        """
        if self.kind == "window":
            return set_sampling.window_sets(
                mask, generator, largest_radius=self.size // 2, anchors=anchors
            )
        if self.kind == "bag":
            return set_sampling.bags(mask, self.size, generator)
        return set_sampling.random_sets(mask, self.size, generator)


RELEASED_SAMPLING = SetSampling("window", 20, 0.3, 0.7)


def sample_one_domain(
    source: Batch,
    targets: Targets,
    sampling: SetSampling,
    generator: torch.Generator,
    progress: float = 1.0,
    anchors: Tensor | None = None,
) -> DomainBatch:
    """Sets of whole videos without a second domain: both sides are the same, and none is mixed."""
    positions = sampling.draw(source.mask, generator, anchors)
    sets = set_sampling.gather_positions(source, positions)
    labels = set_sampling.gather_targets(targets, positions)
    return DomainBatch(sets, labels, sets, progress=progress)


def sample_two_domains(
    source: Batch,
    targets: Targets,
    target: Batch,
    sampling: SetSampling,
    generator: torch.Generator,
    progress: float = 1.0,
    anchors: tuple[Tensor | None, Tensor | None] = (None, None),
) -> DomainBatch:
    """Sets of whole videos of two domains, and sets mixed from those sets."""
    source_positions = sampling.draw(source.mask, generator, anchors[0])
    target_positions = sampling.draw(target.mask, generator, anchors[1])
    source_sets = set_sampling.gather_positions(source, source_positions)
    target_sets = set_sampling.gather_positions(target, target_positions)
    mixed, is_target = set_sampling.mix_sets(
        source_sets, target_sets, generator, lowest=sampling.lowest, highest=sampling.highest
    )
    labels = set_sampling.gather_targets(targets, source_positions)
    return DomainBatch(source_sets, labels, target_sets, mixed, is_target, progress)


@dataclass(frozen=True)
class Step:
    """One update of a network: a loss, and the children of the network that it trains."""

    name: str
    loss: Callable[[nn.Module, DomainBatch], Tensor]
    trains: tuple[str, ...] = ()
    """Names of the trained children; empty: all of them."""
    repeats: int = 1
    """How often the step is repeated on the same batch."""

    def trained_children(self, model: nn.Module) -> tuple[str, ...]:
        """Names of the trained children; ValueError if the model lacks one of them."""
        existing = tuple(name for name, _ in model.named_children())
        missing = sorted(set(self.trains) - set(existing))
        if missing:
            raise ValueError(
                f"the step {self.name!r} trains {', '.join(missing)}, but {type(model).__name__} "
                f"has {', '.join(existing)}: use the model that this objective was written for"
            )
        return self.trains or existing


Steps = tuple[Step, ...]


def forward_float32(model: nn.Module, batch: Batch) -> Scores:
    """The scores of the model in single precision: losses are never computed in less."""
    scores: Scores = model(batch)
    return scores.float()


def output_part(scores: Scores, name: str) -> Tensor:
    """The part of that name in a model's output; ValueError if there is none."""
    if name not in scores.parts:
        known = ", ".join(scores.parts) or "none"
        raise ValueError(
            f"this objective needs the part {name!r} in the model's output, which has {known}; "
            "use the model that this objective was written for"
        )
    return scores.parts[name]

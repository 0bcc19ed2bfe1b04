"""Training on two batches at once, a labelled and an unlabelled one, in one step or in several that
alternate.

An objective of this kind is a tuple of `Step`s (`trainer.losses.registry.domain_objective` makes it
from a name). Each round a loop makes a `DomainBatch` (`trainer.training.domain_batches`) and goes
through the steps (`trainer.training.train_step.DomainSteps`). Most objectives are one step that moves
everything; MCD alternates three. Gradients are cleared before each repetition, since a step's loss
also sends some to what the step does not move. Losses are computed in single precision. Refuses to
know which losses there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from models.highlight.base.contract import Batch, Scores
from trainer.base.targets import Targets
from trainer.losses.set_based import set_sampling

T = TypeVar("T", Batch, Targets)


@dataclass(frozen=True)
class DomainBatch:
    """What a round sees. Row b of `source`, `target` and `mixed` belong together; each row is a
    set.
    """

    source: Batch
    """Of the category with labels. MINI-Net and LIM-s: short videos of the wanted category."""
    targets: Targets
    """The truth about `source`; MINI-Net and LIM-s read none of it."""
    target: Batch
    """Of the category without. MINI-Net: long videos of other categories; LIM-s: long videos of the
    same one.
    """
    mixed: Batch | None = None
    """Positions of both, for DL-VHD."""
    is_target: Tensor | None = None
    """`(B, N)` bool: the positions of `mixed` that are of the target."""
    progress: float = 1.0
    """The share of training that is done, 0 to 1, for RevGrad's schedule."""

    def __post_init__(self) -> None:
        if not 0 <= self.progress <= 1:
            raise ValueError(f"progress is a share from 0 to 1, got {self.progress}")
        if (self.mixed is None) != (self.is_target is None):
            raise ValueError("mixed sets and what of them is of the target come together")

    def select_rows(self, rows: Tensor) -> DomainBatch:
        """These rows alone, `(B,)` bool, of everything."""
        mixed = None if self.mixed is None else _select_rows(self.mixed, rows)
        is_target = None if self.is_target is None else self.is_target[rows]
        source, targets, target = (
            _select_rows(self.source, rows),
            _select_rows(self.targets, rows),
            _select_rows(self.target, rows),
        )
        return replace(
            self, source=source, targets=targets, target=target, mixed=mixed, is_target=is_target
        )


def _select_rows(part: T, rows: Tensor) -> T:
    return replace(
        part, **{one.name: _select_value(getattr(part, one.name), rows) for one in fields(part)}
    )


def _select_value(value: Any, rows: Tensor) -> Any:
    return (
        value[rows]
        if isinstance(value, Tensor)
        else {key: tensor[rows] for key, tensor in value.items()}
    )


@dataclass(frozen=True)
class SetSampling:
    """How sets are drawn; the defaults are the paper's, and `RELEASED` is the code's."""

    kind: Literal["random", "window", "bag"] = "random"
    """random: `size` positions of a video. window: up to `size // 2` on each side of an anchor.
    bag: exactly `size`, a short video over and over (MINI-Net).
    """
    size: int = 20
    lowest: float = 0.5
    highest: float = 0.5
    """Bounds of the share of the target in a mixed set."""

    def __post_init__(self) -> None:
        if self.kind not in ("random", "window", "bag") or not 2 <= self.size <= 10_000:
            raise ValueError(f"kind is random, window or bag, size 2 to 10000; got {self}")
        if not 0 <= self.lowest <= self.highest <= 1:
            raise ValueError(
                f"0 <= lowest <= highest <= 1 must hold; got {self.lowest} and {self.highest}"
            )

    def draw(
        self, mask: Tensor, generator: torch.Generator, anchors: Tensor | None = None
    ) -> Tensor:
        """Places `(B, N)` of a set in each video of a `(B, T)` mask. `anchors` `(B,)` are the
        middles of windows.
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
    rules: SetSampling,
    generator: torch.Generator,
    progress: float = 1.0,
    anchors: Tensor | None = None,
) -> DomainBatch:
    """Sets of whole videos where there is no second category: they stand on both sides, and nothing
    is mixed.
    """
    chosen = rules.draw(source.mask, generator, anchors)
    drawn = set_sampling.gather_positions(source, chosen)
    return DomainBatch(
        drawn, set_sampling.gather_targets(targets, chosen), drawn, progress=progress
    )


def sample_two_domains(
    source: Batch,
    targets: Targets,
    target: Batch,
    rules: SetSampling,
    generator: torch.Generator,
    progress: float = 1.0,
    anchors: tuple[Tensor | None, Tensor | None] = (None, None),
) -> DomainBatch:
    """Sets of whole videos, and sets mixed from those sets."""
    chosen = rules.draw(source.mask, generator, anchors[0])
    others = rules.draw(target.mask, generator, anchors[1])
    source_sets, target_sets = (
        set_sampling.gather_positions(source, chosen),
        set_sampling.gather_positions(target, others),
    )
    mixed, is_target = set_sampling.mix_sets(
        source_sets, target_sets, generator, lowest=rules.lowest, highest=rules.highest
    )
    return DomainBatch(
        source_sets,
        set_sampling.gather_targets(targets, chosen),
        target_sets,
        mixed,
        is_target,
        progress,
    )


@dataclass(frozen=True)
class Step:
    """One kind of update."""

    name: str
    loss: Callable[[nn.Module, DomainBatch], Tensor]
    trains: tuple[str, ...] = ()
    """Names of the model's children that are updated; empty means all of them."""
    repeats: int = 1

    def trained_children(self, model: nn.Module) -> tuple[str, ...]:
        """Names of the children that are updated; ValueError if the model lacks one."""
        existing = tuple(name for name, _ in model.named_children())
        missing = sorted(set(self.trains) - set(existing))
        if missing:
            raise ValueError(
                f"the step {self.name!r} moves {', '.join(missing)}, and this {type(model).__name__} has "
                f"{', '.join(existing)}: take the model that this objective was written for"
            )
        return self.trains or existing


Steps = tuple[Step, ...]


def forward_float32(model: nn.Module, batch: Batch) -> Scores:
    """What the model says, in single precision: losses are never computed in less."""
    found: Scores = model(batch)
    return found.float()


def output_part(scores: Scores, name: str) -> Tensor:
    """A model's part of that name; ValueError if it answers none such."""
    if name not in scores.parts:
        known = ", ".join(scores.parts) or "none"
        raise ValueError(
            f"this objective reads the part {name!r} of a model's answer, which has {known}"
        )
    return scores.parts[name]

"""MHA+Fusion's losses against eq. 13 to 16 in plain numpy, and what each teaches the network."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.highlight.base.contract import Batch, Scores
from models.highlight.personalized.mha_fusion import SPEC, MHAFusionSettings
from tests.support.highlight_batches import random_batch, without_gradient
from trainer.base.targets import Targets
from trainer.losses.mha_fusion import mha_fusion

SHAPES = {
    "yolov5/p5": (6, 2, 2),
    "keypoint_rcnn/joints": (2, 17, 3),
    "keypoint_rcnn/joint_features": (2, 17, 4),
}
SMALL = MHAFusionSettings(
    clip_frames=4,
    target_frames=8,
    object_widths=(8, 8),
    pose_widths=(6, 6),
    attention_width=16,
    predictor_width=16,
)
LENGTHS, HIGHLIGHTS = (13, 8, 5), ((0, 2), (0, 3), (0, 10), (1, 5), (2, 4))
Objective = Callable[[Scores, Batch, Targets], Tensor]
LABEL = partial(mha_fusion, terms=["label"])
MARGIN = partial(mha_fusion, terms=["margin"])
SOFT = partial(mha_fusion, terms=["sparsity"])
THROUGH = partial(mha_fusion, terms=["sparsity"], sparsity="straight_through")
LITERAL = partial(mha_fusion, terms=["sparsity"], sparsity="literal", sparsity_reduction="sum")
WITHOUT_SPARSITY = partial(mha_fusion, terms=["label", "margin"])


def batch(positions: int = 0) -> Batch:
    return random_batch(SHAPES, LENGTHS, ((4, 7, 1), (2,), ()), positions=positions)


def targets(given: Batch) -> Targets:
    chosen = torch.zeros_like(given.mask)
    for user, position in HIGHLIGHTS:
        chosen[user, position] = True
    return Targets(chosen.float(), chosen, torch.full((len(chosen), 0, 2), -1))


def answer(given: Batch) -> Scores:
    logits = torch.from_numpy(np.random.default_rng(4).normal(size=(3, 40)) * 2)[
        :, : given.mask.shape[1]
    ]
    return Scores(logits.sigmoid(), {"logits": logits.requires_grad_()})


def by_hand(frame: Callable[[float, bool], float], *, mean: bool = True) -> float:
    """The mean over videos of a loss that is summed over frames, or averaged."""
    logits = np.random.default_rng(4).normal(size=(3, 40)) * 2
    videos = []
    for user, length in enumerate(LENGTHS):
        values = [
            frame(1 / (1 + math.exp(-logits[user, j])), (user, j) in HIGHLIGHTS)
            for j in range(length)
        ]
        videos.append(sum(values) / (length if mean else 1))
    return float(np.mean(videos))


def label(s: float, highlight: bool) -> float:
    return -10 * math.log(s) if highlight else -math.log(1 - s)


def margin(s: float, highlight: bool) -> float:
    return max(0, (1 if highlight else -1) * (0.5 - s))


def counted(s: float, _: bool) -> float:
    return max(0, (s > 0.5) - (s < 0.5))


def softly(s: float, _: bool) -> float:
    return 1 / (1 + math.exp(-(s - 0.5) / 0.1))


CASES: dict[str, tuple[Objective, float]] = {
    "label": (LABEL, by_hand(label)),
    "margin": (MARGIN, by_hand(margin)),
    "literal": (LITERAL, by_hand(counted, mean=False)),
    "straight_through": (THROUGH, by_hand(counted)),
    "soft": (SOFT, by_hand(softly)),
    "equation 16": (
        partial(mha_fusion, sparsity="literal", sparsity_reduction="sum"),
        by_hand(label) + by_hand(margin) + by_hand(counted, mean=False),
    ),
    "ours": (mha_fusion, by_hand(label) + by_hand(margin) + by_hand(softly)),
}


@pytest.mark.parametrize("positions", [0, 9])
@pytest.mark.parametrize("name", CASES)
def test_losses_are_those_of_the_equations(name: str, positions: int) -> None:
    objective, expected = CASES[name]
    given = batch(positions)
    assert objective(answer(given), given, targets(given)).item() == pytest.approx(
        expected, rel=1e-5
    )


def slope(objective: Objective) -> Tensor:
    given = batch()
    scores = answer(given)
    torch.autograd.backward(objective(scores, given, targets(given)))
    grad = scores.parts["logits"].grad
    assert grad is not None
    return grad


def test_the_printed_sparsity_loss_teaches_nothing() -> None:
    """Its slope is 0 everywhere, and so eq. 16 has the slope of its other two terms."""
    assert (slope(LITERAL) == 0).all()
    whole = partial(mha_fusion, sparsity="literal")
    torch.testing.assert_close(slope(whole), slope(WITHOUT_SPARSITY), rtol=0, atol=0)


def test_both_surrogates_lower_every_score() -> None:
    mask = batch().mask
    assert (slope(SOFT)[mask] > 0).all()
    assert (slope(SOFT)[~mask] == 0).all()
    torch.testing.assert_close(slope(THROUGH), slope(SOFT))


def trained(
    objective: Objective, *, until: float, steps: int = 250
) -> tuple[nn.Module, list[float]]:
    torch.manual_seed(1)
    given = batch()
    truth, model = targets(given), SPEC.build(SMALL, SHAPES)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses: list[float] = []
    while len(losses) < steps and (not losses or losses[-1] > until):
        optimiser.zero_grad()
        loss = objective(model(given), given, truth)
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize("name", ["label", "margin", "both", "soft", "straight_through"])
def test_one_batch_is_learned_by_heart(name: str) -> None:
    objectives = {
        "label": LABEL,
        "margin": MARGIN,
        "both": WITHOUT_SPARSITY,
        "soft": SOFT,
        "straight_through": THROUGH,
    }
    objective = objectives[name]
    _, losses = trained(objective, until=0.01)
    assert losses[-1] <= 0.01 < losses[0], losses[::25]


def test_all_three_together_end_at_the_share_of_highlights() -> None:
    """Sparsity counts right answers too: what is left at the end is their share, and every frame is
    right.
    """
    floor = float(
        np.mean([sum(who == user for who, _ in HIGHLIGHTS) / n for user, n in enumerate(LENGTHS)])
    )
    model, losses = trained(mha_fusion, until=floor + 0.03)
    assert losses[-1] <= floor + 0.03 < losses[0], (floor, losses[::25])
    given = batch()
    assert ((model(given).scores > 0.5) == targets(given).positive)[given.mask].all()


DEAD = {"temporal.bias", "shortcut.bias"}
"""Kept as in ST-GCN's release: a bias in front of a batch norm, which takes it out again."""


@pytest.mark.parametrize("streams", ["both", "objects", "poses"])
@pytest.mark.parametrize("name", ["label", "margin", "soft", "straight_through"])
def test_gradients_reach_all_that_should_learn(name: str, streams: str) -> None:
    torch.manual_seed(2)
    given = batch()
    model = SPEC.build(MHAFusionSettings(**(vars(SMALL) | {"streams": streams})), SHAPES).double()
    doubled = Batch(
        {key: values.double() for key, values in given.features.items()},
        given.mask,
        given.spans,
        {key: values.double() for key, values in given.history.items()},
        given.history_mask,
        given.history_spans,
    )
    objective = {"label": LABEL, "margin": MARGIN, "soft": SOFT, "straight_through": THROUGH}[name]
    torch.autograd.backward(objective(model(doubled), given, targets(given)))
    missing = {
        name for name in without_gradient(model) if ".".join(name.split(".")[-2:]) not in DEAD
    }
    assert missing == set()


def test_the_printed_sparsity_loss_reaches_no_parameter() -> None:
    torch.manual_seed(2)
    given, model = batch(), SPEC.build(SMALL, SHAPES)
    torch.autograd.backward(LITERAL(model(given), given, targets(given)))
    assert without_gradient(model) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sparsity": "hard"}, "sparsity must be of soft, straight_through, literal; got hard"),
        ({"sparsity_reduction": "max"}, "sparsity_reduction must be of mean, sum; got max"),
        ({"terms": []}, "terms must be of label, margin, sparsity; got none"),
        (
            {"terms": ["label", "hinge"]},
            "terms must be of label, margin, sparsity; got label, hinge",
        ),
        ({"temperature": 0.0}, "temperature must be above 0; got 0.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], says: str) -> None:
    given = batch()
    with pytest.raises(ValueError, match=says):
        mha_fusion(answer(given), given, targets(given), **changes)

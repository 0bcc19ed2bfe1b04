"""PR-Net's losses against eq. 8 and 9 in plain numpy, and what each teaches the network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import cast, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.highlight.base.contract import Batch, Scores
from models.highlight.personalized.pr_net import SPEC, EncoderKind, Preference, PRNetSettings
from tests.support.highlight_batches import random_batch, without_gradient
from trainer.base.targets import Targets
from trainer.losses.pr_net import (
    Reading,
    bidirectional_contrastive,
    pr_net_cross_entropy,
    pr_net_ranking,
    pr_net_triplet,
)

SHAPES = {"c3d/pool5": (24,)}
Objective = Callable[[Scores, Batch, Targets], Tensor]
OBJECTIVES: dict[str, Objective] = {
    "log": bidirectional_contrastive,
    "literal": partial(bidirectional_contrastive, reading="literal"),
    "ranking": pr_net_ranking,
    "cross_entropy": pr_net_cross_entropy,
    "triplet": pr_net_triplet,
}


def marked(batch: Batch, *positive: tuple[int, int]) -> Targets:
    """(user, position) of every highlight."""
    chosen = torch.zeros_like(batch.mask)
    for user, position in positive:
        chosen[user, position] = True
    return Targets(chosen.float(), chosen, torch.full((len(chosen), 0, 2), -1))


def batch(positions: int = 0) -> Batch:
    return random_batch(SHAPES, (16, 11, 9), ((4, 3, 2), (5,), ()), positions=positions)


TARGETS = ((0, 3), (0, 4), (1, 7))
"""The third video has no highlight."""


def answer(given: Batch, *, seed: int = 3, scale: float = 2) -> Scores:
    """Numbers as a network might give, the same for the same positions whatever the padding."""
    rng = np.random.default_rng(seed)
    values = {name: rng.normal(size=(3, 40)) * scale for name in ("highlight", "non_highlight")}
    embedded = {name: rng.normal(size=(3, 40, 6)) for name in ("frames", "preference")}
    parts = {
        name: torch.from_numpy(array)[:, : given.mask.shape[1]]
        for name, array in (values | embedded).items()
    }
    parts["non_highlight_preference"] = torch.from_numpy(rng.normal(size=6))
    return Scores(parts["highlight"], parts)


def apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(((a - b) ** 2).sum())


def chosen_by_hand(b: NDArray[np.float64], positive: list[int]) -> list[int]:
    unlabelled = [place for place in range(len(b)) if place not in positive]
    return sorted(unlabelled, key=lambda place: -b[place])[: 5 * len(positive)]


@pytest.mark.parametrize("reading", ["log", "literal"])
def test_equation_8(reading: Reading) -> None:
    given = batch()
    scores = answer(given)
    expected = []
    for user, length in ((0, 16), (1, 11)):
        high, low = (
            scores.parts[name][user, :length].numpy() for name in ("highlight", "non_highlight")
        )
        high_share, low_share = (
            np.exp(high) / np.exp(high).sum(),
            np.exp(low) / np.exp(low).sum(),
        )
        omega = [place for who, place in TARGETS if who == user]
        mho = chosen_by_hand(low, omega)
        first = sum(math.log(high_share[i] + low_share[i]) for i in omega + mho)
        if reading == "literal":
            expected.append(
                first - (sum(high_share[i] for i in omega) + sum(low_share[i] for i in mho))
            )
        else:
            expected.append(
                first
                - (
                    sum(math.log(high_share[i]) for i in omega)
                    + sum(math.log(low_share[i]) for i in mho)
                )
            )
    loss = bidirectional_contrastive(scores, given, marked(given, *TARGETS), reading=reading)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_ablations_are_what_they_say() -> None:
    given = batch()
    scores, targets = answer(given), marked(given, *TARGETS)
    ranking, entropy, triplet = [], [], []
    for user, length in ((0, 16), (1, 11)):
        high, low = (
            scores.parts[name][user, :length].numpy() for name in ("highlight", "non_highlight")
        )
        s, p = (scores.parts[name][user, :length].numpy() for name in ("frames", "preference"))
        u = scores.parts["non_highlight_preference"].numpy()
        s, p, u = (
            vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) for vectors in (s, p, u)
        )
        omega = [place for who, place in TARGETS if who == user]
        others = [place for place in range(length) if place not in omega]
        ranking.append(np.mean([max(0, 1 - high[y] + high[x]) for y in omega for x in others]))
        right = [np.exp(high[i]) if i in omega else np.exp(low[i]) for i in range(length)]
        entropy.append(
            np.mean(
                [-math.log(right[i] / (np.exp(high[i]) + np.exp(low[i]))) for i in range(length)]
            )
        )
        triplet.append(
            np.mean(
                [
                    max(0, 1 + apart(p[y], s[y]) - apart(p[y], s[x]))
                    + max(0, 1 + apart(u, s[x]) - apart(u, s[y]))
                    for y in omega
                    for x in chosen_by_hand(low, omega)
                ]
            )
        )
    assert float(pr_net_ranking(scores, given, targets)) == pytest.approx(
        np.mean(ranking), rel=1e-5
    )
    assert float(pr_net_cross_entropy(scores, given, targets)) == pytest.approx(
        np.mean(entropy), rel=1e-5
    )
    assert float(pr_net_triplet(scores, given, targets)) == pytest.approx(
        np.mean(triplet), rel=1e-5
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_changes_no_loss_and_no_gradient_is_nan(name: str) -> None:
    short, long = batch(), batch(positions=9)
    expected = OBJECTIVES[name](answer(short), short, marked(short, *TARGETS))
    parts = {key: values.requires_grad_() for key, values in answer(long).parts.items()}
    found = OBJECTIVES[name](Scores(parts["highlight"], parts), long, marked(long, *TARGETS))
    torch.autograd.backward(found)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for values in parts.values():
        assert values.grad is None or values.grad.isfinite().all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_without_any_highlight_teaches_nothing(name: str) -> None:
    given = batch()
    parts = {key: values.requires_grad_() for key, values in answer(given).parts.items()}
    loss = OBJECTIVES[name](Scores(parts["highlight"], parts), given, marked(given))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert all(values.grad is None or (values.grad == 0).all() for values in parts.values())


def test_all_unlabelled_frames_are_taken_where_there_are_not_five_times_as_many() -> None:
    """A highlight in three frames: ℧ is the other two, and no padding."""
    given = random_batch(SHAPES, (3, 8), ((1,), (1,)))
    parts = {
        key: values[:2].detach() for key, values in answer(given).parts.items() if values.dim() > 1
    }
    parts["highlight"].requires_grad_()
    torch.autograd.backward(
        bidirectional_contrastive(Scores(parts["highlight"], parts), given, marked(given, (0, 1)))
    )
    grad = parts["highlight"].grad
    assert grad is not None
    assert (grad[0, :3] != 0).all()
    assert (grad[0, 3:] == 0).all()


def test_the_literal_reading_pushes_highlights_down() -> None:
    """256 frames with equal scores: eq. 8 as printed lowers l of the highlight; in the log reading
    it rises.
    """
    given = random_batch(SHAPES, (256,), ((1,),))
    targets = marked(given, (0, 100))
    slopes = {}
    for reading in get_args(Reading):
        parts = {
            name: torch.zeros(1, 256, requires_grad=True) for name in ("highlight", "non_highlight")
        }
        answered = Scores(parts["highlight"], parts)
        torch.autograd.backward(
            bidirectional_contrastive(answered, given, targets, reading=reading)
        )
        grad = parts["highlight"].grad
        assert grad is not None
        slopes[reading] = float(grad[0, 100])
    assert slopes["literal"] > 0.4
    assert slopes["log"] < -0.4


@pytest.mark.parametrize("encoder", ["unet", "residual"])
@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "literal"])
def test_one_batch_is_learned_by_heart(name: str, encoder: EncoderKind) -> None:
    torch.manual_seed(1)
    given = batch()
    targets, objective = marked(given, *TARGETS), OBJECTIVES[name]
    settings = PRNetSettings(width=32, levels=2, residual_width=64, encoder=encoder)
    model = SPEC.build(settings, SHAPES)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(200):
        optimiser.zero_grad()
        loss = objective(model(given), given, targets)
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.item())
        if losses[-1] < 0.01:
            break
    assert losses[-1] < 0.01 < losses[0], losses[::20]


def test_the_literal_reading_goes_below_every_bound() -> None:
    """It has no minimum: on one batch it keeps falling, and gives all of l̃ to a frame that it was
    not asked about.
    """
    torch.manual_seed(1)
    given = batch()
    targets, objective = marked(given, *TARGETS), OBJECTIVES["literal"]
    model = SPEC.build(PRNetSettings(width=32, levels=2), SHAPES)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(50):
        optimiser.zero_grad()
        torch.autograd.backward(objective(model(given), given, targets))
        optimiser.step()
    scores = model(given)
    assert objective(scores, given, targets).item() < -100
    assert not targets.positive[
        [0, 1], scores.scores[:2].masked_fill(~given.mask[:2], -torch.inf).argmax(1)
    ].any()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("variant", get_args(Preference))
def test_gradients_reach_all_that_should_learn(name: str, variant: Preference) -> None:
    torch.manual_seed(2)
    given = batch()
    settings = dataclasses.replace(PRNetSettings(width=16, levels=2), preference=variant)
    model = SPEC.build(settings, SHAPES)
    torch.autograd.backward(OBJECTIVES[name](model(given), given, marked(given, *TARGETS)))
    assert without_gradient(model) == ({"non_highlight"} if name == "ranking" else set())


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        (
            partial(bidirectional_contrastive, reading=cast(Reading, "intended")),
            "reading must be one of log, literal; got 'intended'",
        ),
        (partial(bidirectional_contrastive, negatives_per_highlight=0), "at least 1; got 0"),
        (partial(pr_net_triplet, negatives_per_highlight=-1), "at least 1; got -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(objective: Objective, says: str) -> None:
    given = batch()
    with pytest.raises(ValueError, match=says):
        objective(answer(given), given, marked(given, *TARGETS))

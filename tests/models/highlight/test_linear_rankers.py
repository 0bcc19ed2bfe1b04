"""Rankers without hidden layers, on histories small enough to work out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.highlight.base.contract import Batch
from models.highlight.base.history import DistanceSettings
from models.highlight.personalized.linear_rankers import (
    SVMD,
    HighlightSVM,
    HighlightSVMSettings,
    LinearRanker,
    Residual,
    SimilarityRanker,
)
from models.highlight.personalized.personalized_summarization import (
    DurationRanker,
    DurationSettings,
)
from tests.support.model_batches import batch, small

KEY = "c3d/pool5"
POSITIONS = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]])
HISTORY = torch.tensor(
    [[[[4.0, 0.0], [2.0, 0.0]], [[0.0, -1.0], [0.0, 0.0]], [[5.0, 5.0], [0.0, 0.0]]]]
)
HISTORY_MASK = torch.tensor([[[True, True], [True, False], [True, False]]])
"""The elements point along x, against y, and along the diagonal."""
HALF = math.sqrt(0.5)
COSINES = torch.tensor([[1.0, 0.0, HALF], [0.0, -1.0, HALF], [HALF, -HALF, 1.0]])


def by_hand(history: Tensor = HISTORY, history_mask: Tensor = HISTORY_MASK) -> Batch:
    mask = torch.ones(1, 3, dtype=torch.bool)
    return Batch(
        features={KEY: POSITIONS},
        mask=mask,
        spans=torch.zeros(1, 3, 2, dtype=torch.float64),
        history={KEY: history},
        history_mask=history_mask,
        history_spans=torch.zeros(*history_mask.shape, 2, dtype=torch.float64),
    )


def test_max_similarity_is_the_largest_cosine() -> None:
    answer = SimilarityRanker(KEY, takes_largest=True)(by_hand())
    torch.testing.assert_close(answer.scores[0], torch.tensor([1, HALF, 1]))
    torch.testing.assert_close(answer.parts["similarities"][0], COSINES)


def test_max_similarity_may_be_negative() -> None:
    against = by_hand(HISTORY[:, 1:2], HISTORY_MASK[:, 1:2])
    torch.testing.assert_close(
        SimilarityRanker(KEY, takes_largest=True)(against).scores[0], torch.tensor([0, -1, -HALF])
    )


def test_video_mmr_is_the_mean_cosine() -> None:
    scores = SimilarityRanker(KEY, takes_largest=False)(by_hand()).scores
    torch.testing.assert_close(scores[0], COSINES.mean(dim=1))


def test_svm_d_reads_similarities_from_the_largest_down_and_zeros_after_them() -> None:
    found = SVMD(KEY, DistanceSettings(nearest=5)).descriptors(by_hand())[0]
    expected = torch.tensor([[1, HALF, 0, 0, 0], [HALF, 0, -1, 0, 0], [1, HALF, -HALF, 0, 0]])
    torch.testing.assert_close(found, expected)


def test_svm_d_leaves_out_the_elements_further_away() -> None:
    found = SVMD(KEY, DistanceSettings(nearest=1)).descriptors(by_hand())[0]
    torch.testing.assert_close(found, torch.tensor([[1], [HALF], [1]]))


def test_svm_d_may_read_distances_which_are_filled_with_zeros_too() -> None:
    found = SVMD(KEY, DistanceSettings(nearest=4, reading="distance")).descriptors(by_hand())[0]
    expected = torch.tensor([[0, 1 - HALF, 1, 0], [1 - HALF, 1, 2, 0], [0, 1 - HALF, 1 + HALF, 0]])
    torch.testing.assert_close(found, expected)


def test_the_linear_rankers_weigh_their_descriptors() -> None:
    ranker: LinearRanker
    for ranker in (HighlightSVM(KEY, 2, HighlightSVMSettings()), SVMD(KEY, DistanceSettings(3))):
        expected = ranker.descriptors(by_hand()) @ ranker.linear.weight[0] + ranker.linear.bias
        torch.testing.assert_close(ranker(by_hand()).scores, expected)


def test_highlight_svm_reads_directions_unless_told_otherwise() -> None:
    found = HighlightSVM(KEY, 2, HighlightSVMSettings()).descriptors(by_hand())[0]
    torch.testing.assert_close(found, torch.tensor([[1, 0], [0, 1], [HALF, HALF]]))
    raw = HighlightSVM(KEY, 2, HighlightSVMSettings(is_normalised=False)).descriptors(by_hand())
    torch.testing.assert_close(raw, POSITIONS)


def test_residual_starts_from_the_generic_score_and_never_trains_it() -> None:
    model, given = small("residual"), batch("residual")
    assert isinstance(model, Residual)
    model.train()
    generic = model.generic(given).scores
    torch.testing.assert_close(
        model(given).scores[given.mask], generic[given.mask], rtol=1e-6, atol=1e-7
    )
    torch.testing.assert_close(model.descriptors(given)[..., -1], generic)
    assert model.generic.training is False
    assert not any(p.requires_grad for p in model.generic.parameters())


def seconds(*durations: float) -> Tensor:
    return torch.tensor([[[10.0, 10.0 + duration] for duration in durations]], dtype=torch.float64)


def test_durations_like_the_users_own_score_highest() -> None:
    given = replace(
        by_hand(),
        spans=seconds(2, 4, 8),
        history_spans=seconds(3, 3, 3).unsqueeze(2).expand(1, 3, 2, 2),
    )
    scores = DurationRanker(DurationSettings(width_octaves=1.0))(given).scores[0]
    expected = [math.exp(-0.5 * math.log2(duration / 3) ** 2) for duration in (2, 4, 8)]
    torch.testing.assert_close(scores, torch.tensor(expected))


def test_a_clip_lasts_from_its_first_row_to_its_last() -> None:
    rows = torch.tensor([[[[5.0, 6.0], [6.0, 9.0]]]], dtype=torch.float64)
    given = by_hand(HISTORY[:, :1], HISTORY_MASK[:, :1])
    scores = DurationRanker(DurationSettings())(
        replace(given, spans=seconds(1, 3, 4), history_spans=rows)
    ).scores[0]
    assert scores.argmax() == 2
    assert scores[2] == pytest.approx(1)


@pytest.mark.parametrize("wrong", [{"nearest": 0}, {"reading": "angle"}])
def test_distance_settings_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DistanceSettings(**wrong)  # type: ignore[arg-type]

"""PHD-GIFs' versions and Video2GIF against their formulas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.highlight.base.history import FNNSettings
from models.highlight.generic.video2gif import Video2GIF
from models.highlight.personalized.phd_gifs import PHDCA, PHDRH, PHDSA, LateFusion, PHDSettings
from tests.support.model_batches import WIDTH, batch, reordered, small

KEY = "c3d/pool5"


def profile(user: int) -> Tensor:
    """The mean over elements of the means over their rows, the long way."""
    given = batch("phd_ca")
    means = []
    for element, rows in zip(given.history[KEY][user], given.history_mask[user], strict=True):
        if rows.any():
            means.append(element[rows].mean(dim=0))
    return torch.stack(means).mean(dim=0)


def layers(fnn: nn.Module, rows: Tensor) -> Tensor:
    """Hidden layers with ReLU, by hand."""
    for layer in fnn.get_submodule("hidden").children():
        rows = torch.relu(layer(rows))
    return rows


@pytest.mark.parametrize("user", [0, 1])
def test_phd_ca_concatenates_segment_and_mean_history(user: int) -> None:
    model, given = small("phd_ca"), batch("phd_ca")
    assert isinstance(model, PHDCA)
    rows = given.features[KEY][user][given.mask[user]]
    hidden = layers(model.fnn, torch.cat([rows, profile(user).expand(len(rows), -1)], dim=1))
    expected = model.fnn.last(hidden).squeeze(1)
    torch.testing.assert_close(model(given).scores[user][given.mask[user]], expected)


def test_the_distances_join_at_the_input_or_at_the_last_layer() -> None:
    early, late = small("phd_ca_ed", nearest=4), small("phd_ca_ld", nearest=4)
    assert isinstance(early, PHDCA)
    assert isinstance(late, PHDCA)
    assert [early.fnn.hidden[0].in_features, early.fnn.last.in_features] == [2 * WIDTH + 4, 64]
    assert [late.fnn.hidden[0].in_features, late.fnn.last.in_features] == [2 * WIDTH, 64 + 4]


def test_phd_sa_mixes_each_dimension_with_the_same_weights() -> None:
    model, given = small("phd_sa", filters=3), batch("phd_sa")
    assert isinstance(model, PHDSA)
    first, second = nn.Conv1d(2, 3, kernel_size=1), nn.Conv1d(3, 1, kernel_size=1)
    for convolution, linear in ((first, model.mix), (second, model.flatten)):
        convolution.weight.data = linear.weight.data.unsqueeze(-1)
        assert convolution.bias is not None
        convolution.bias.data = linear.bias.data
    rows = given.features[KEY][0][given.mask[0]]
    mixed = second(
        torch.relu(first(torch.stack([rows, profile(0).expand(len(rows), -1)], dim=1)))
    ).squeeze(1)
    expected = model.fnn.last(layers(model.fnn, mixed)).squeeze(1)
    torch.testing.assert_close(model(given).scores[0][given.mask[0]], expected)


@pytest.mark.parametrize("user", [0, 1])
def test_phd_rh_takes_the_state_after_the_last_element(user: int) -> None:
    model, given = small("phd_rh"), batch("phd_rh")
    assert isinstance(model, PHDRH)
    exists = given.history_mask[user].any(dim=1)
    rows, row_mask = given.history[KEY][user][exists], given.history_mask[user][exists]
    elements = torch.stack([r[m].mean(dim=0) for r, m in zip(rows, row_mask, strict=True)])
    _, (state, _) = model.lstm(elements[None])
    positions = given.features[KEY][user][given.mask[user]]
    hidden = layers(model.fnn, torch.cat([positions, state[0].expand(len(positions), -1)], dim=1))
    torch.testing.assert_close(
        model(given).scores[user][given.mask[user]], model.fnn.last(hidden).squeeze(1)
    )


def test_phd_rh_hears_the_order_and_not_the_gaps() -> None:
    model, given = small("phd_rh"), batch("phd_rh")
    moved = reordered(given, (2, 0, 1))
    assert (model(moved).scores[0] - model(given).scores[0]).abs().max() > 1e-6
    torch.testing.assert_close(model(moved).scores[1], model(given).scores[1])


@pytest.mark.parametrize("name", ["phd_ca_svm_d", "video2gif_svm_d"])
def test_late_fusion_adds_omega_times_the_second_score(name: str) -> None:
    model, given = small(name), batch(name)
    assert isinstance(model, LateFusion)
    torch.testing.assert_close(model(given).scores, model.first(given).scores)
    model.omega.fill_(0.3)
    answer = model(given)
    torch.testing.assert_close(
        answer.scores, model.first(given).scores + 0.3 * model.second(given).scores
    )
    assert "omega" in model.state_dict()
    swapped = replace(given, history=batch(name, seed=5).history)
    assert (model(swapped).scores - answer.scores).abs().max() > 1e-6


def test_fc6_of_c3d_starts_the_published_head() -> None:
    model = small("video2gif")
    assert isinstance(model, Video2GIF)
    fc6 = {"fc6.weight": torch.randn(32, WIDTH), "fc6.bias": torch.randn(32)}
    model.load_fc6(fc6)
    assert torch.equal(model.fnn.hidden[0].get_parameter("weight"), fc6["fc6.weight"])
    with pytest.raises(ValueError, match="read c3d/pool5"):
        model.load_fc6({"fc6.weight": torch.randn(4096, 8192), "fc6.bias": torch.randn(4096)})


def test_batch_norm_sees_only_positions_that_exist() -> None:
    given = batch("video2gif_ours", lengths=(9, 2))
    model = small("video2gif_ours", has_batch_norm=True, dropouts=(0, 0, 0)).train()
    rows = given.features[KEY][given.mask]
    again = small("video2gif_ours", has_batch_norm=True, dropouts=(0, 0, 0)).train()
    assert isinstance(again, Video2GIF)
    torch.testing.assert_close(model(given).scores[given.mask], again.fnn(rows))


def test_dropout_comes_before_each_layer_at_its_own_rate() -> None:
    model = small("video2gif_ours", dropouts=(0.9, 0, 0)).train()
    given = batch("video2gif_ours")
    assert not torch.equal(model(given).scores, model(given).scores)
    sure = small("video2gif_ours", dropouts=(0, 0, 0)).train()
    assert torch.equal(sure(given).scores, sure(given).scores)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_widths": ()},
        {"dropouts": (0.5,)},
        {"dropouts": (0.5, 1.0, 0)},
        {"activation": "tanh"},
    ],
)
def test_settings_that_make_no_network_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FNNSettings(**wrong)
    with pytest.raises(ValueError, match="nearest"):
        PHDSettings(nearest=0)

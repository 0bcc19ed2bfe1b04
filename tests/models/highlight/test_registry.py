"""What every highlight model promises: shapes, masks, users without history, gradients, published
sizes.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from models.highlight.registry import HIGHLIGHT_MODELS
from tests.support.model_batches import PERSONAL, alone, batch, reordered, small, with_rubbish

TRAINED = [name for name, spec in HIGHLIGHT_MODELS.items() if spec.is_trained]
SET_TRANSFORMER = 5 * (
    3 * 4096**2 + (4096**2 + 4096) + (4096 * 8192 + 8192) + (8192 * 4096 + 4096) + 4 * 4096
)
"""671,252,480: projections without bias, attention's output, the feed-forward block, two layer
norms.
"""
SCORER = (4096 * 1024 + 1024) + (1024 * 256 + 256) + (256 + 1)
PARAMETERS = {
    "a_vhd": 37_945_472
    + 9_364
    + (2 * (8192 * 1024 + 1024) + 8192 * 8192 + 8192)
    + (8192 * 9216 + 9216),
    "dl_vhd": SET_TRANSFORMER + 2 * SCORER,
    "dl_vhd_released": SET_TRANSFORMER + 2 * SCORER,
    "fcsn": 37_945_472 + 9_364,
    "highlight_svm": 8192 + 1,
    "lim": (4096 * 512 + 512) + (8192 * 512 + 512) + 2 * ((512 * 128 + 128) + (128 + 1)),
    "max_similarity": 0,
    "mini_net": (4096 * 128 + 128)
    + 3 * (128 * 128 + 128)
    + 2 * (128 * 64 + 64)
    + (64 + 1)
    + (128 * 2 + 2),
    "personalized_summarization": 0,
    "phd_ca": (16384 * 512 + 512) + (512 * 64 + 64) + (64 + 1),
    "phd_ca_ed": (16404 * 512 + 512) + (512 * 64 + 64) + (64 + 1),
    "phd_ca_ld": (16384 * 512 + 512) + (512 * 64 + 64) + (84 + 1),
    "phd_ca_svm_d": (16384 * 512 + 512) + (512 * 64 + 64) + (64 + 1) + (20 + 1),
    "phd_rh": 4 * (8192 * 512 + 512 * 512 + 2 * 512) + (8704 * 512 + 512) + (512 + 1),
    "phd_sa": (2 * 4 + 4) + (4 + 1) + (8192 * 256 + 256) + (256 + 1),
    "pld_vhd": 21_260_693,
    "residual": (8193 + 1) + (8192 * 512 + 512) + (512 * 64 + 64) + (64 + 1),
    "sl_mcd": SET_TRANSFORMER + 2 * SCORER,
    "sl_module": SET_TRANSFORMER + SCORER,
    "sl_module_released": SET_TRANSFORMER + SCORER,
    "sl_revgrad": SET_TRANSFORMER
    + SCORER
    + (4096 * 1024 + 1024)
    + (1024 * 1024 + 1024)
    + (1024 + 1),
    "svm_d": 20 + 1,
    "video2gif": (8192 * 4096 + 4096) + (4096 * 512 + 512) + (512 * 128 + 128) + (128 + 1),
    "video2gif_ours": (8192 * 512 + 512) + (512 * 64 + 64) + (64 + 1),
    "video2gif_svm_d": (8192 * 512 + 512) + (512 * 64 + 64) + (64 + 1) + (20 + 1),
    "video_mmr": 0,
}
"""At the papers' sizes, written as the layers are; of FCSN's encoder and decoder as counted in the
authors' code.
"""
ORDERED = {"phd_rh"}
"""Models for which the order of the history is part of the input."""
MANY_ARRAYS = {"mha_fusion", "personalized_summarization", "pr_net"}
"""Models that read several arrays, or none."""
PUBLISHED = {
    "c3d/pool5": (8192,),
    "c3d/fc6": (4096,),
    "c3d.segments/fc7_linear": (4096,),
    "frames/jpeg": (32, 224, 384, 3),
    "keypoint_rcnn/joints": (5, 17, 3),
}


def learning(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters that training reaches, before ω is learned."""
    fitted = (
        "second.",
        "discriminator.",
        "pairs.",
        "classifier.",
        "non_highlight",
    )  # by an SVM, or through what parts alone tell
    return [
        (name, p)
        for name, p in model.named_parameters()
        if p.requires_grad and not name.startswith(fitted)
    ]


@pytest.mark.parametrize("name", HIGHLIGHT_MODELS)
def test_a_row_is_named_as_its_spec(name: str) -> None:
    assert HIGHLIGHT_MODELS[name].name == name
    assert dataclasses.is_dataclass(HIGHLIGHT_MODELS[name].settings)


def test_a_model_that_is_not_there_is_told_from_those_that_are() -> None:
    with pytest.raises(KeyError, match="phd_ca_svm_d"):
        HIGHLIGHT_MODELS["phd_cb"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_sizes(name: str) -> None:
    spec = HIGHLIGHT_MODELS[name]
    with torch.device("meta"):
        model = spec.build(spec.settings(), {key: PUBLISHED[key] for key in spec.arrays})
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", HIGHLIGHT_MODELS)
def test_scores_have_the_shape_of_the_mask(name: str) -> None:
    given = batch(name)
    scores = small(name)(given).scores
    assert scores.shape == given.mask.shape
    assert scores.dtype == torch.float32
    assert scores[given.mask].isfinite().all()
    assert scores[given.mask].std() > 1e-6, "positions are told apart"


@pytest.mark.parametrize("name", HIGHLIGHT_MODELS)
def test_what_no_mask_allows_changes_no_score(name: str) -> None:
    model, given = small(name), batch(name)
    clean, spoilt = model(given).scores, model(with_rubbish(given)).scores
    torch.testing.assert_close(spoilt[given.mask], clean[given.mask], rtol=0, atol=0)


@pytest.mark.parametrize("name", HIGHLIGHT_MODELS)
def test_a_video_in_a_batch_scores_as_it_does_alone(name: str) -> None:
    model, given = small(name), batch(name, (40, 7, 7, 1), ((1, 2, 1), (), (4,), (1, 1)))
    together = model(given).scores
    for user in range(len(given.mask)):
        single = model(alone(given, user)).scores[0]
        torch.testing.assert_close(together[user][given.mask[user]], single, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", HIGHLIGHT_MODELS)
def test_nobody_in_a_batch_has_a_history(name: str) -> None:
    scores = small(name)(batch(name, histories=((), ()))).scores
    assert scores.isfinite().all()


@pytest.mark.parametrize(
    "name", [name for name in PERSONAL if name not in ("phd_ca_svm_d", "video2gif_svm_d")]
)
def test_the_history_counts(name: str) -> None:
    model, given = small(name), batch(name)
    other = batch(name, seed=2)
    swapped = dataclasses.replace(given, history=other.history, history_spans=other.history_spans)
    assert (model(given).scores - model(swapped).scores)[given.mask].abs().max() > 1e-6


@pytest.mark.parametrize("name", [name for name in PERSONAL if name not in ORDERED])
def test_the_order_of_the_history_does_not_count(name: str) -> None:
    model, given = small(name), batch(name)
    shuffled = reordered(given, (2, 0, 1))  # the second user's only element now has gaps before it
    torch.testing.assert_close(model(shuffled).scores, model(given).scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_reach_every_parameter_that_learns(name: str) -> None:
    given = batch(name, (40, 30), ((1, 2, 1), (2, 2, 2)))
    model = small(name)
    answer = model(given)
    loss = (answer.scores.square() * given.mask).sum()
    if "reconstruction" in answer.parts:
        loss = loss + answer.parts["reconstruction"].square().sum()
    loss.backward()
    assert learning(model)
    for parameter_name, parameter in learning(model):
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", [name for name in HIGHLIGHT_MODELS if name not in MANY_ARRAYS])
def test_a_second_array_is_refused(name: str) -> None:
    spec = HIGHLIGHT_MODELS[name]
    with pytest.raises(ValueError, match="reads exactly one array"):
        spec.build(spec.settings(), {"c3d/pool5": (8,), "c3d/fc6": (4,)})

"""FCSN and Adaptive-FCSN against the first author's code: committed numbers, and the code itself if
it is there.

`HIGHLIGHTS_REFERENCES=FOLDER pytest -m slow tests/models/highlight/test_a_vhd.py`, where FOLDER
holds a checkout of mrochan/adaptive-highlight, named adaptive-highlight.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.highlight.base.contract import Batch
from models.highlight.personalized.a_vhd import FCSN, AVHDSettings, Decoder, Encoder, FCSNSettings
from tests.models.goldens import make_adaptive_highlight as maker
from tests.models.goldens.reference import checkout
from tests.support.model_batches import batch, reordered, small, with_rubbish

GOLDEN = json.loads(maker.GOLDEN.read_text())["values"]
PUBLISHED = {size: size for size in maker.SIZES}


def as_batch(rows: dict[str, NDArray[np.float32]]) -> Batch:
    """One video; each vector of the history is a video whose one row it is."""
    video, history = (
        torch.from_numpy(rows["video"])[None],
        torch.from_numpy(rows["history"])[None, :, None],
    )
    mask, history_mask = (
        torch.ones(video.shape[:2], dtype=torch.bool),
        torch.ones(history.shape[:3], dtype=torch.bool),
    )
    return Batch(
        features={maker.KEY: video},
        mask=mask,
        spans=torch.zeros(*mask.shape, 2, dtype=torch.float64),
        history={maker.KEY: history},
        history_mask=history_mask,
        history_spans=torch.zeros(*history_mask.shape, 2, dtype=torch.float64),
    )


def logits(network: FCSN, rows: dict[str, Any]) -> NDArray[Any]:
    with torch.inference_mode():
        answer = network.eval()(as_batch(rows))
    torch.testing.assert_close(
        answer.scores, functional.softmax(answer.parts["logits"], dim=-1)[..., 1]
    )
    found: NDArray[Any] = answer.parts["logits"][0].numpy()
    return found


@pytest.mark.parametrize("length", maker.LENGTHS)
@pytest.mark.parametrize("kind", maker.KINDS)
def test_small_networks_equal_the_authors(kind: str, length: int) -> None:
    network = maker.network(kind, maker.SIZES)
    network.load_state_dict(maker.weights(network))
    found = logits(network, maker.video(length, maker.LENGTHS[length], maker.SIZES[8192]))
    expected = np.array(GOLDEN[f"{kind} {length}"])
    assert expected.std() > 1e-3 or length == 1
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=1e-5 * max(1.0, float(abs(expected).max()))
    )


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 256])
@pytest.mark.parametrize("kind", maker.KINDS)
def test_published_networks_equal_the_authors(kind: str, length: int) -> None:
    folder = checkout("adaptive-highlight")
    network = maker.network(kind, PUBLISHED)
    tensors, rows = maker.weights(network), maker.video(length, 15, 8192)
    network.load_state_dict(tensors)
    expected = maker.reference(kind, folder, tensors, PUBLISHED, rows)
    error = abs(logits(network, rows) - expected).max() / max(1, abs(expected).max())
    sys.stdout.write(
        f"{kind} {length}: largest error {error:.1e}, largest logit {abs(expected).max():.2f}\n"
    )
    assert error <= 1e-5


def test_any_length_has_a_logit_for_each_row() -> None:
    network = FCSN(maker.KEY, 8, FCSNSettings((1, 1, 1, 1, 1), 1))
    for length in range(1, 420):
        assert logits(network, maker.video(length, 1, 8)).shape == (length, 2)


def test_rows_are_normalised_inside_unless_told_otherwise() -> None:
    given = batch("a_vhd")
    scaled = dataclasses.replace(
        given,
        features={key: values * 7 for key, values in given.features.items()},
        history={key: values * 3 for key, values in given.history.items()},
    )
    torch.testing.assert_close(small("a_vhd")(scaled).scores, small("a_vhd")(given).scores)
    raw = small("a_vhd", is_normalised=False)
    assert (raw(scaled).scores - raw(given).scores).abs().max() > 1e-5


def test_the_history_vector_of_a_video_is_the_mean_of_its_normalised_rows() -> None:
    given = batch("a_vhd", histories=((3,), (3,)))
    rows = functional.normalize(given.history[maker.KEY], dim=-1)
    averaged = dataclasses.replace(
        given,
        history={maker.KEY: rows.mean(dim=2, keepdim=True)},
        history_mask=given.history_mask[:, :, :1],
    )
    averaged = dataclasses.replace(
        averaged, features={maker.KEY: functional.normalize(given.features[maker.KEY], dim=-1)}
    )
    raw = small("a_vhd", is_normalised=False)
    torch.testing.assert_close(small("a_vhd")(given).scores, raw(averaged).scores)


def convolution() -> FCSN:
    """Weights that keep the scale: torch's own leave little of so small a network."""
    network = maker.network("conv", maker.SIZES)
    network.load_state_dict(maker.weights(network))
    return network.eval()


def test_the_convolution_reads_the_history_in_order_and_ignores_gaps_and_padding() -> None:
    model = convolution()
    given = batch("a_vhd", histories=((2, 1, 3), (2,), ()), lengths=(9, 5, 7))
    scores = model(given).scores
    torch.testing.assert_close(
        model(with_rubbish(given)).scores[given.mask], scores[given.mask], rtol=0, atol=0
    )
    moved = model(reordered(given, (2, 0, 1))).scores
    torch.testing.assert_close(moved[1:], scores[1:])
    assert (moved[0] - scores[0]).abs().max() > 1e-6


def test_gradients_reach_the_convolution() -> None:
    model = convolution().train()
    model(batch("a_vhd", lengths=(30, 20))).parts["logits"].square().sum().backward()
    assert [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()
    ] == []


def test_without_history_adaptive_fcsn_is_fcsn() -> None:
    adaptive, plain = small("a_vhd"), small("fcsn")
    plain.load_state_dict(
        {k: v for k, v in adaptive.state_dict().items() if not k.startswith("history.")}
    )
    torch.testing.assert_close(
        adaptive(batch("a_vhd", histories=((), ()))).scores,
        plain(batch("a_vhd", histories=((), ()))).scores,
    )


@torch.inference_mode()
def test_what_differs_between_rows_outweighs_the_norms_epsilon_if_weights_begin_as_in_fcn() -> None:
    torch.manual_seed(0)
    rows = functional.normalize(torch.randn(1, 600, 64).relu() + 1, dim=-1).mT
    varying = {}
    for initial in ("torch", "fcn"):
        encoder = Encoder(64, FCSNSettings((32,) * 5, 64, initial=initial)).eval()
        varying[initial] = min(
            float(found[..., 2:-2].var(dim=-1).mean()) for found in encoder(rows)
        )
    assert varying["torch"] < 1e-5 < 10 * 1e-5 < varying["fcn"]


def test_upsampling_that_begins_as_interpolation_leaves_a_line_a_line() -> None:
    decoder = Decoder(FCSNSettings((1,) * 5, 1, initial="fcn"))
    line = torch.arange(20.0).expand(1, 2, 20)
    for layer, stride in ((decoder.upscore2, 2), (decoder.upscore16, 16)):
        steps = layer(line)[0, :, 2 * stride : -2 * stride].diff(dim=-1)
        torch.testing.assert_close(steps, torch.full_like(steps, 1 / stride))


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": (1, 2)},
        {"hidden_width": 0},
        {"dropout": 1.0},
        {"norm": "batch"},
        {"attention_reduction": 0},
        {"initial": "zero"},
    ],
)
def test_settings_that_make_no_network_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AVHDSettings(**wrong)

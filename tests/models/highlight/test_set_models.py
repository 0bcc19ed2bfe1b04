"""The set transformer and what scores on it: order, context, the paper's and the code's form;
MINI-Net; LIM.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.highlight.base.contract import Batch
from models.highlight.base.set_transformer import Layer, SetSettings, SetTransformer, neighbour_sets
from models.highlight.generic.domain_adaptation import MCDSL, RevGradSL, reverse_gradient
from models.highlight.generic.lim import LIM
from models.highlight.generic.sl_module import ReleasedSLSettings, SLSettings
from models.highlight.registry import HIGHLIGHT_MODELS
from tests.conftest import REPOSITORY
from tests.models.goldens import make_mini_net as maker
from tests.support.model_batches import WIDTH, batch, small

KEY = "c3d.segments/fc7_linear"
SET_MODELS = [
    "sl_module",
    "sl_module_released",
    "dl_vhd",
    "dl_vhd_released",
    "sl_revgrad",
    "sl_mcd",
]


def shuffled(given: Batch, order: Tensor) -> Batch:
    return replace(
        given,
        features={key: values[:, order] for key, values in given.features.items()},
        mask=given.mask[:, order],
        spans=given.spans[:, order],
    )


@pytest.mark.parametrize("name", SET_MODELS)
def test_a_set_has_no_order(name: str) -> None:
    model, given = small(name, test_sets="whole"), batch(name)
    order = torch.randperm(given.mask.shape[1], generator=torch.Generator().manual_seed(1))
    scores, moved = model(given).scores, model(shuffled(given, order)).scores
    torch.testing.assert_close(moved, scores[:, order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SET_MODELS)
def test_a_score_depends_on_the_other_segments_only_through_the_transformer(name: str) -> None:
    given = batch(name, (9,))
    features = given.features[KEY].clone()
    features[0, 4] = features[0, 4].flip(0)  # a constant more would be lost in the norm
    other = replace(given, features={KEY: features})
    model = small(name)
    assert (model(given).scores - model(other).scores)[0, 3].abs() > 1e-7
    if name not in ("sl_revgrad", "sl_mcd"):
        alone = small(name, has_transformer=False)
        torch.testing.assert_close(
            alone(given).scores[0, :4], alone(other).scores[0, :4], rtol=0, atol=0
        )
        torch.testing.assert_close(alone(given).parts["embeddings"], given.features[KEY])


@pytest.mark.parametrize(("scale", "divisor"), [("head", WIDTH // 8), ("width", WIDTH)])
def test_a_layer_is_pre_norm_attention_and_feed_forward(scale: Any, divisor: int) -> None:
    torch.manual_seed(0)
    network = SetTransformer(
        KEY, WIDTH, SetSettings(layers=1, hidden_width=32, scale=scale, test_sets="whole")
    ).eval()
    given = batch("sl_module", (6,))
    x, layer = given.features[KEY][0], network.layers[0]
    assert isinstance(layer, Layer)
    normed = functional.layer_norm(
        x, (WIDTH,), layer.attention_norm.weight, layer.attention_norm.bias
    )
    query, key, value = (normed @ layer.query_key_value.weight.T).chunk(3, dim=1)
    heads = []
    for head in range(8):
        at = slice(head * WIDTH // 8, (head + 1) * WIDTH // 8)
        heads.append(
            (query[:, at] @ key[:, at].T / math.sqrt(divisor)).softmax(dim=1) @ value[:, at]
        )
    x = x + layer.attention_out(torch.cat(heads, dim=1))
    normed = functional.layer_norm(x, (WIDTH,), layer.forward_norm.weight, layer.forward_norm.bias)
    x = x + layer.forward_out(functional.gelu(layer.forward_in(normed)))
    torch.testing.assert_close(network(given)[0], x, rtol=1e-5, atol=1e-5)


def test_neighbours_by_hand() -> None:
    mask = torch.tensor([[1, 1, 0, 1, 1], [1, 0, 0, 0, 0]]).bool()
    places, exists, centre = neighbour_sets(mask, 4, is_repeated=True)
    assert places.tolist() == [[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 3], [2, 3, 3, 3], [4, 4, 4, 4]]
    assert exists.all()
    assert places[torch.arange(5), centre].tolist() == list(range(5))
    places, exists, centre = neighbour_sets(mask, 2, is_repeated=False)
    assert [row[there].tolist() for row, there in zip(places, exists, strict=True)] == [
        [0, 1],
        [0, 1, 2],
        [1, 2, 3],
        [2, 3],
        [4],
    ]
    assert places[torch.arange(5), centre].tolist() == list(range(5))


@pytest.mark.parametrize("name", ["sl_module", "sl_module_released"])
def test_outside_training_each_segment_is_scored_among_its_neighbours(name: str) -> None:
    """Sets made by hand, as the paper and as the code say, and scored as whole ones; more of them
    than go at once.
    """
    length, model, whole = 70, small(name, set_size=6), small(name, test_sets="whole")
    given = batch(name, (length,))
    for place in (0, 1, 2, 35, 66, 68, 69):
        if name == "sl_module":
            chosen = [min(max(place + step, 0), length - 1) for step in (-2, -1, 0, 1, 2, 3)]
        else:
            chosen = [
                place + step for step in (-3, -2, -1, 0, 1, 2, 3) if 0 <= place + step < length
            ]
        alone = replace(
            given,
            features={KEY: given.features[KEY][:, chosen]},
            mask=given.mask[:, chosen],
            spans=given.spans[:, chosen],
        )
        expected = whole(alone).scores[0, chosen.index(place)]
        torch.testing.assert_close(model(given).scores[0, place], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SET_MODELS)
def test_in_training_a_row_is_a_set_and_padding_changes_nothing(name: str) -> None:
    model, given = small(name, dropout=0.0, scorer_dropout=0.0).train(), batch(name, (9, 5))
    whole = small(name, test_sets="whole")
    scores = model(given).scores
    torch.testing.assert_close(scores, whole(given).scores)
    rubbish = {
        key: values.masked_fill(~given.mask.unsqueeze(-1), torch.nan)
        for key, values in given.features.items()
    }
    torch.testing.assert_close(
        model(replace(given, features=rubbish)).scores, scores, rtol=0, atol=0
    )
    assert not scores[~given.mask].any()
    nothing = model(replace(given, mask=torch.zeros_like(given.mask))).scores
    assert not nothing.any()
    assert nothing.isfinite().all()


def test_the_two_forms_differ_where_they_say() -> None:
    given = batch("sl_module", (9,))
    released = small("sl_module_released")
    raw = small("sl_module_released", is_squashed=False)
    torch.testing.assert_close(released(given).scores, 2 * raw(given).scores.sigmoid() - 1)
    paper = small("sl_module", scale="width", test_sets="clipped")
    torch.testing.assert_close(paper(given).scores, raw(given).scores)
    assert (SLSettings().scorer_dropout, ReleasedSLSettings().scorer_dropout) == (0.0, 0.5)
    settings = HIGHLIGHT_MODELS["dl_vhd_released"].settings()
    assert (settings.scale, settings.is_squashed, settings.test_sets, settings.learners) == (
        "width",
        True,
        "clipped",
        "both",
    )


def test_dl_vhd_scores_the_mean_of_both_learners() -> None:
    answer = small("dl_vhd")(batch("dl_vhd"))
    torch.testing.assert_close(answer.scores, (answer.parts["coarse"] + answer.parts["fine"]) / 2)
    assert (answer.parts["coarse"] - answer.parts["fine"]).abs().max() > 1e-4
    mcd = small("sl_mcd")
    assert isinstance(mcd, MCDSL)
    answer = mcd(batch("sl_mcd"))
    torch.testing.assert_close(answer.scores, (answer.parts["first"] + answer.parts["second"]) / 2)


def test_a_reversed_gradient_is_turned_and_scaled() -> None:
    x = torch.randn(4, requires_grad=True)
    (reverse_gradient(x, 0.3) * torch.arange(4)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    torch.testing.assert_close(x.grad, -0.3 * torch.arange(4))
    model = small("sl_revgrad")
    assert isinstance(model, RevGradSL)
    rows = torch.randn(5, WIDTH)
    torch.testing.assert_close(model.discriminate(rows, 0.0), model.discriminator(rows))


@pytest.mark.parametrize(
    ("name", "wrong", "complaint"),
    [
        ("sl_module", {"heads": 7}, "multiple of heads"),
        ("sl_module", {"layers": 0}, "at least 1"),
        ("sl_module", {"dropout": 1.0}, "dropout"),
        ("sl_module", {"scale": "root"}, "scale"),
        ("sl_module", {"test_sets": "window"}, "test_sets"),
        ("sl_module", {"scorer_widths": ()}, "scorer_widths"),
        ("dl_vhd", {"learners": "none"}, "learners"),
        ("dl_vhd_released", {"learners": "none"}, "learners"),
        ("sl_revgrad", {"has_transformer": False}, "has_transformer"),
        ("sl_mcd", {"has_transformer": False}, "has_transformer"),
        ("mini_net", {"layers": 0}, "layers"),
        ("lim", {"pair_widths": ()}, "pair_widths"),
    ],
)
def test_settings_that_make_no_network_are_refused(
    name: str, wrong: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        small(name, **wrong)


def test_mini_net_equals_the_authors() -> None:
    golden = {
        name: np.array(value)
        for name, value in json.loads(maker.GOLDEN.read_text())["values"].items()
    }
    network = maker.network()
    network.load_state_dict(maker.weights())
    bags = np.concatenate(list(maker.bags().values()))
    given = batch("mini_net", [maker.SIZE] * len(bags))
    given = replace(given, features={maker.KEY: torch.from_numpy(bags)})
    with torch.inference_mode():
        answer = network(given)
    np.testing.assert_allclose(answer.parts["weights"], golden["weights"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(answer.parts["bag_logits"], golden["bag_logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(answer.scores[: maker.BAGS], golden["scores"], rtol=0, atol=1e-5)
    longer = replace(
        given,
        features={maker.KEY: functional.pad(given.features[maker.KEY], (0, 0, 0, 4), value=9.0)},
        mask=functional.pad(given.mask, (0, 4)),
    )
    with torch.inference_mode():
        np.testing.assert_allclose(
            network(longer).parts["bag_logits"], golden["bag_logits"], rtol=0, atol=1e-5
        )


def test_lims_second_network_looks_at_both_segments() -> None:
    model = small("lim")
    assert isinstance(model, LIM)
    short, long = torch.randn(6, WIDTH), torch.randn(6, WIDTH)
    logits = model.pair_logits(short, long)
    assert logits.shape == (6,)
    assert (model.pair_logits(long, short) - logits).abs().max() > 1e-4


FULL_SIZE_STEP = """
import resource, torch
from models.highlight.base.contract import Batch
from models.highlight.generic.sl_module import SL_MODULE, SLSettings
from trainer.losses.set_based.set_kl import set_divergence
from trainer.base.targets import Targets

torch.manual_seed(0)
model = SL_MODULE.build(SLSettings(test_sets="whole"), {"c3d.segments/fc7_linear": (4096,)})
features = {"c3d.segments/fc7_linear": torch.randn(1, 20, 4096)}
nothing, labels = torch.zeros(1, 0, 0), (torch.arange(20) < 3).float()[None]
batch = Batch(features, torch.ones(1, 20).bool(), torch.zeros(1, 20, 2), {}, nothing.bool(), torch.zeros(1, 0, 0, 2))
targets = Targets(labels, labels > 0, torch.zeros(1, 0, 2).long())
sgd = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)

def loss():
    return set_divergence(model(batch), batch, targets)

with torch.no_grad():
    before = float(loss() if model.eval() else 0)
model.train()
loss().backward()
sgd.step()
with torch.no_grad():
    after = float(loss() if model.eval() else 0)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(sum(p.numel() for p in model.parameters()), before, after, peak)
"""


@pytest.mark.slow
def test_the_published_size_trains_a_step_in_bounded_memory() -> None:
    """Weights, gradients and momentum are 8.1 GB in single precision; all the rest has to fit into
    one more.
    """
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "2"}
    words = [sys.executable, "-c", FULL_SIZE_STEP]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    weights, before, after, peak_bytes = (float(word) for word in done.stdout.split())
    assert weights == 675_710_465
    assert after < before, "a step of training lowers the loss on its own set"
    assert 3 * 4 * weights < peak_bytes < 3 * 4 * weights + 1e9

"""PR-Net against its equations written out in plain numpy, and against what padding, order and
variants must not do.
"""

from __future__ import annotations

import dataclasses
import math
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.highlight.base.contract import Batch, Scores
from models.highlight.personalized.pr_net import (
    SPEC,
    EncoderKind,
    Preference,
    PRNet,
    PRNetSettings,
    Ranking,
)
from tests.support.highlight_batches import (
    count_parameters,
    random_batch,
    reordered,
    without_history,
)

SHAPES = {"c3d/pool5": (24,)}
SMALL = PRNetSettings(width=16, levels=2, residual_width=8)
VARIANTS = get_args(Preference)
LENGTHS, CLIPS = (13, 9, 6), ((4, 7, 1), (5,), ())
"""Three users: three clips, one clip, none."""

Vector = NDArray[np.float64]


def network(settings: PRNetSettings = SMALL, seed: int = 0) -> PRNet:
    """As it scores, with statistics of its norm as a training might leave them."""
    torch.manual_seed(seed)
    model = SPEC.build(settings, SHAPES)
    assert isinstance(model, PRNet)
    dice = np.random.default_rng(seed)
    with torch.no_grad():
        for values in (
            model.norm.norm.running_mean,
            model.norm.norm.running_var,
            model.norm.norm.bias,
        ):
            assert values is not None
            values.copy_(torch.from_numpy(dice.uniform(0.1, 0.6, len(values))))
    return model.double().eval()


def batch(positions: int = 0) -> Batch:
    made = random_batch(SHAPES, LENGTHS, CLIPS, positions=positions)
    as_double = {key: values.double() for key, values in made.features.items()}
    return dataclasses.replace(
        made,
        features=as_double,
        history={key: values.double() for key, values in made.history.items()},
    )


def cosine(a: Vector, b: Vector) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def preferences(
    s: Vector, clips: list[Vector], g: Vector, variant: str
) -> tuple[Vector, list[float], float]:
    """Eq. 2 to 5 for one frame: what it is compared with, the weights of the clips, and the share
    of p^u.
    """
    if variant == "G" or not clips:
        return (np.zeros_like(s) if variant in ("U", "meanU") else g), [0.0] * len(clips), 0.0
    exponentials = [
        1.0 if variant.startswith("mean") else math.exp(9 * cosine(s, clip)) for clip in clips
    ]
    weights = [value / sum(exponentials) for value in exponentials]
    user = np.sum([weight * clip for weight, clip in zip(weights, clips, strict=True)], axis=0)
    if variant in ("U", "meanU"):
        return user, weights, 1.0
    q1, q2 = math.exp(9 * cosine(s, user)), math.exp(9 * cosine(s, g))
    return (user * q1 + g * q2) / (q1 + q2), weights, q1 / (q1 + q2)


def alone(model: PRNet, rows: torch.Tensor) -> Vector:
    """S of a sequence without any padding, `(T, d)`, from the layers themselves."""
    unit = torch.nn.functional.normalize(rows, dim=-1)
    with torch.no_grad():
        out = model.encoder(
            model.reduce(unit).unsqueeze(0), torch.ones(1, len(rows), dtype=torch.bool)
        )[0].numpy()
    mean, variance, scale, shift = (
        values.detach().numpy()
        for values in (
            model.norm.norm.running_mean,
            model.norm.norm.running_var,
            *model.norm.norm.parameters(),
        )
        if values is not None
    )
    return np.asarray((out - mean) / np.sqrt(variance + 1e-5) * scale + shift)


@pytest.mark.parametrize("encoder", ["unet", "residual"])
def test_in_training_target_and_history_are_normed_together(encoder: EncoderKind) -> None:
    """All their frames together have mean 0 and the variance that keeps products small; padding has
    no part in it.
    """
    model, given = network(dataclasses.replace(SMALL, encoder=encoder)).train(), batch(positions=3)
    torch.nn.init.zeros_(model.norm.norm.bias)
    with torch.no_grad():
        frames = model(given).parts["frames"][given.mask]
        seen = model.norm.norm.running_mean
    model = network(dataclasses.replace(SMALL, encoder=encoder))
    raw = [(given.features["c3d/pool5"][user, :length]) for user, length in enumerate(LENGTHS)]
    liked = [
        given.history["c3d/pool5"][user, number, :rows]
        for user, clips in enumerate(CLIPS)
        for number, rows in enumerate(clips)
    ]
    model.norm.norm.reset_running_stats()
    torch.nn.init.zeros_(model.norm.norm.bias)
    plain = [alone(model, rows) * np.sqrt(1 + 1e-5) / 16**-0.25 for rows in (*raw, *liked)]
    everything = np.concatenate(plain)
    mean, variance = everything.mean(0), everything.var(0)
    expected = (np.concatenate(plain[: len(raw)]) - mean) / np.sqrt(variance + 1e-5) * 16**-0.25
    np.testing.assert_allclose(frames.numpy(), expected, atol=1e-9)
    assert seen is not None
    before = network(dataclasses.replace(SMALL, encoder=encoder)).norm.norm.running_mean
    assert before is not None
    np.testing.assert_allclose(seen.numpy(), 0.9 * before.numpy() + 0.1 * mean, atol=1e-9)


def test_attention_begins_sharp_on_features_that_all_point_one_way() -> None:
    """Features that are never negative have cosines near 1, and a history of two kinds would look
    like one.
    """
    torch.manual_seed(0)
    dice = np.random.default_rng(1)
    common, kinds = 3 * dice.random(24), dice.normal(size=(2, 24))

    def shown(kind: int, rows: int) -> torch.Tensor:
        values = np.maximum(common + kinds[kind] + 0.1 * dice.normal(size=(rows, 24)), 0)
        return torch.from_numpy(values).float()

    mask, liked = torch.ones(1, 40, dtype=torch.bool), torch.ones(1, 2, 8, dtype=torch.bool)
    history = torch.stack([shown(0, 8), shown(1, 8)])[None]
    features = torch.cat([shown(0, 20), shown(1, 20)])[None]
    given = Batch(
        {"c3d/pool5": features},
        mask,
        torch.zeros(1, 40, 2, dtype=torch.float64),
        {"c3d/pool5": history},
        liked,
        torch.zeros(1, 2, 8, 2, dtype=torch.float64),
    )
    flat = torch.nn.functional.normalize(features[0], dim=-1)
    assert (flat @ flat.T).min() > 0.6
    model = SPEC.build(PRNetSettings(width=16, levels=1), SHAPES).train()
    with torch.no_grad():
        attention = model(given).parts["attention"][0]
    own = torch.cat([attention[:20, 0], attention[20:, 1]])
    assert own.mean() > 0.9, own


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("encoder", ["unet", "residual"])
def test_scores_are_those_of_the_equations(variant: Preference, encoder: EncoderKind) -> None:
    """Every sequence is encoded alone here: padding and neighbours in a batch have no say
    either.
    """
    settings = dataclasses.replace(SMALL, preference=variant, encoder=encoder)
    model, given = network(settings), batch(positions=3)
    with torch.no_grad():
        answer = model(given)
    g = np.zeros(16) if model.generic is None else model.generic.detach().numpy()
    for user, (length, liked) in enumerate(zip(LENGTHS, CLIPS, strict=True)):
        frames = alone(model, given.features["c3d/pool5"][user, :length])
        clips = [
            alone(model, given.history["c3d/pool5"][user, number, :rows]).mean(0)
            for number, rows in enumerate(liked)
        ]
        for place, s in enumerate(frames):
            p, weights, share = preferences(s, clips, g, variant)
            assert float(answer.scores[user, place]) == pytest.approx(float(s @ p), abs=1e-9)
            expected_b = float(s @ model.non_highlight.detach().numpy())
            assert float(answer.parts["non_highlight"][user, place]) == pytest.approx(
                expected_b, abs=1e-9
            )
            assert float(answer.parts["user_weight"][user, place]) == pytest.approx(share, abs=1e-9)
            if variant != "G":
                found = answer.parts["attention"][user, place]
                np.testing.assert_allclose(
                    found, np.pad(weights, (0, len(found) - len(weights))), atol=1e-9
                )


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_a_history_is_nothing(variant: Preference) -> None:
    model, given = network(dataclasses.replace(SMALL, preference=variant)), batch()
    with torch.no_grad():
        torch.testing.assert_close(model(reordered(given, [2, 0, 1])).scores, model(given).scores)


def test_a_user_without_history_has_the_generic_preference_alone() -> None:
    """The same scores as the variant G with the same weights, whether K is 0 or masks say so."""
    full, generic = network(), network(dataclasses.replace(SMALL, preference="G"))
    generic.load_state_dict(full.state_dict())
    given = batch()
    with torch.no_grad():
        expected = generic(given).scores
        torch.testing.assert_close(full(without_history(given)).scores, expected)
        torch.testing.assert_close(full(given).scores[2], expected[2])
        assert not torch.allclose(full(given).scores[0], expected[0])


@pytest.mark.parametrize("variant", ["U", "meanU"])
def test_without_history_and_generic_preference_no_frame_is_better_than_another(
    variant: Preference,
) -> None:
    model = network(dataclasses.replace(SMALL, preference=variant))
    assert model.generic is None
    with torch.no_grad():
        assert (model(without_history(batch())).scores == 0).all()


@pytest.mark.parametrize("ranks_by", ["highlight", "difference", "ratio"])
@pytest.mark.parametrize("more", [1, 2, 19])
def test_padding_changes_no_score(ranks_by: Ranking, more: int) -> None:
    model = network(dataclasses.replace(SMALL, ranks_by=ranks_by))
    given, padded = batch(), batch(positions=more)
    with torch.no_grad():
        expected, found = model(given), model(padded)
    for user, length in enumerate(LENGTHS):
        torch.testing.assert_close(found.scores[user, :length], expected.scores[user, :length])


@pytest.mark.parametrize("length", [1, 2, 3, 5, 31, 64])
def test_videos_of_any_length_have_scores(length: int) -> None:
    model = network(dataclasses.replace(SMALL, levels=4))
    given = random_batch(SHAPES, (length,), ((1, 2),))
    answer: Scores = model.float()(given)
    assert answer.scores.shape == (1, length)
    assert answer.scores.isfinite().all()


def test_what_ranks_is_a_setting() -> None:
    given, answers = batch(), {}
    for name in get_args(Ranking):
        with torch.no_grad():
            answers[name] = network(dataclasses.replace(SMALL, ranks_by=name))(given)
    parts = answers["highlight"].parts
    for user, length in enumerate(LENGTHS):
        highlight, other = (
            parts[name][user, :length].numpy() for name in ("highlight", "non_highlight")
        )
        shares = [np.exp(values) / np.exp(values).sum() for values in (highlight, other)]
        expected = {
            "highlight": highlight,
            "difference": highlight - other,
            "ratio": shares[0] / sum(shares),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(answers[name].scores[user, :length], values, rtol=1e-5)


def unet_parameters(d: int) -> int:
    """2 convolutions with norms on each of 4 levels down, at the bottom, and on each of 4 levels up
    (there the first is from 2d to d); the last convolution.
    """
    one, double, norm = 3 * d * d + d, 3 * 2 * d * d + d, 2 * d
    return 4 * 2 * (one + norm) + 2 * (one + norm) + 4 * (double + one + 2 * norm) + one


def test_parameters_at_the_full_width() -> None:
    """The linear layer from 8192 to d, the encoder, its norm, g and u."""
    pool5 = {"c3d/pool5": (8192,)}
    with torch.device("meta"):
        full = SPEC.build(PRNetSettings(), pool5)
        residual = SPEC.build(PRNetSettings(encoder="residual"), pool5)
        literal = SPEC.build(PRNetSettings(width=0), pool5)
    assert count_parameters(full) == 8192 * 512 + 512 + unet_parameters(512) + 4 * 512 == 22_312_960
    block = 2 * 18_432 * 512 + 18_432 + 512
    assert count_parameters(residual) == 8192 * 512 + 512 + block + 4 * 512 == 23_090_176
    assert block > unet_parameters(512), "the paper says that the block has more than M"
    assert count_parameters(literal) == unet_parameters(8192) + 4 * 8192 == 4_630_994_944


def test_half_precision_runs() -> None:
    model = network().float()
    with torch.autocast("cpu", torch.bfloat16):
        answer = model(random_batch(SHAPES, LENGTHS, CLIPS))
    assert answer.scores.isfinite().all()
    assert answer.scores.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"encoder": "lstm"}, "encoder must be one of unet, residual; got 'lstm'"),
        ({"preference": "u"}, "preference must be one of full, G, U, meanU, meanU\\+G; got 'u'"),
        ({"ranks_by": "b"}, "ranks_by must be one of highlight, difference, ratio; got 'b'"),
        ({"kernel": 4}, "kernel must be an odd number, at least 1; got 4"),
        ({"levels": -1}, "levels must be at least 0; got -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PRNetSettings(**changes)  # type: ignore[arg-type]

"""MHA+Fusion against its equations in plain numpy, and against what padding, order and absence must
not do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from typing import cast, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.highlight.base.contract import Batch
from models.highlight.base.masking import WeightKind
from models.highlight.personalized.mha_fusion import (
    SPEC,
    FrameWeights,
    LongClips,
    MHAFusion,
    MHAFusionSettings,
    Stream,
    Streams,
)
from models.highlight.personalized.mha_fusion_encoders import (
    PrimingConv3D,
    PrimingSTGCN,
    center_keypoints,
)
from tests.support.highlight_batches import (
    Shapes,
    count_parameters,
    random_batch,
    reordered,
    without_history,
)

SHAPES = {
    "yolov5/p5": (6, 2, 2),
    "keypoint_rcnn/joints": (2, 17, 3),
    "keypoint_rcnn/joint_features": (2, 17, 4),
}
FULL = {
    "yolov5/p5": (512, 4, 4),
    "keypoint_rcnn/joints": (5, 17, 3),
    "keypoint_rcnn/joint_features": (5, 17, 512),
}
SMALL = MHAFusionSettings(
    clip_frames=4,
    target_frames=8,
    object_widths=(6, 5),
    pose_widths=(4, 3),
    attention_width=7,
    predictor_width=9,
)
LENGTHS, CLIPS = (13, 8, 5), ((4, 7, 1), (2,), ())
"""Three users: a target of two windows and three clips, one of them long; one clip; none."""

Matrix = NDArray[np.float64]


def network(
    settings: MHAFusionSettings = SMALL, shapes: Shapes = SHAPES, *, seed: int = 0
) -> MHAFusion:
    """In evaluation, after a look at one batch, so that the norms have something to say."""
    torch.manual_seed(seed)
    model = cast(MHAFusion, SPEC.build(settings, shapes)).double()
    with torch.no_grad():
        model(batch(shapes=shapes, seed=9))
    return model.eval()


def batch(positions: int = 0, shapes: Shapes = SHAPES, *, seed: int = 0) -> Batch:
    """Random numbers; the second person is in every second frame only."""
    made = random_batch(shapes, LENGTHS, CLIPS, positions=positions, seed=seed)
    features = {key: _half_alone(key, values.double()) for key, values in made.features.items()}
    history = {key: _half_alone(key, values.double()) for key, values in made.history.items()}
    return dataclasses.replace(made, features=features, history=history)


def _half_alone(key: str, values: Tensor) -> Tensor:
    if "keypoint" not in key:
        return values
    steps = torch.arange(values.shape[-4]) % 2 == 0
    values[..., 1, :, :] *= steps[:, None, None]
    return values


def fully(layer: torch.nn.Module, x: Matrix) -> Matrix:
    linear = cast(torch.nn.Linear, layer)
    return cast(Matrix, x @ linear.weight.detach().numpy().T + linear.bias.detach().numpy())


def sigmoid(x: Matrix) -> Matrix:
    return 1 / (1 + np.exp(-x))


def softmax(x: Matrix) -> Matrix:
    return cast(Matrix, np.exp(x) / np.exp(x).sum())


def frame_weights(layer: FrameWeights, z: Matrix, length: int) -> Matrix:
    """Eq. 4 or 5 for one sequence, `(frames,)`; the frames from `length` on are padding."""
    hidden = np.maximum(fully(layer.inner, z.reshape(-1)), 0)
    return np.where(np.arange(len(z)) < length, sigmoid(fully(layer.outer, hidden)), 0)


def primed(stream: Stream, arrays: Sequence[Tensor], frames: int, *, target: bool) -> Matrix:
    """z or y of one sequence alone, without padding; then zeros up to `frames`."""
    layers = stream.prime_target if target else stream.prime_clips
    mask = torch.ones(1, len(arrays[0]), dtype=torch.bool)
    with torch.no_grad():
        if isinstance(layers, PrimingConv3D):
            z = layers(torch.cat(list(arrays), 1).unsqueeze(0), mask)[0]
        else:
            present = torch.cat(list(arrays), -1).ne(0).flatten(2).any(2)
            ready = torch.cat((center_keypoints(arrays[0]), arrays[1]), -1)
            z = layers(ready.unsqueeze(0), present.unsqueeze(0), mask)[0]
    return np.pad(z.numpy(), ((0, frames - len(z)), (0, 0)))


def expected_scores(model: MHAFusion, given: Batch, user: int) -> Matrix:
    """Eq. 4 to 12 for one user."""
    similar: list[list[Matrix]] = []
    for name, keys in model.arrays.items():
        stream = cast(Stream, model.streams[name])
        psi = np.zeros(stream.width)
        for number, length in enumerate(CLIPS[user]):
            clip = [given.history[key][user, number, :length] for key in keys]
            if length > 4:  # 7 frames become the middles of four parts: 0.875, 2.625, 4.375, 6.125
                clip = [values[[0, 2, 4, 6]] for values in clip]
            z = primed(stream, clip, 4, target=False)
            pooled = z.T @ frame_weights(stream.weigh_clip_frames, z, length)
            psi += pooled * sigmoid(fully(stream.weigh_clips, pooled))
        shares = (
            softmax(psi / np.sqrt(stream.width))
            if CLIPS[user]
            else np.full(stream.width, 1 / stream.width)
        )
        similar.append([])
        for start in range(0, LENGTHS[user], 8):
            window = [
                given.features[key][user, start : min(start + 8, LENGTHS[user])] for key in keys
            ]
            z = primed(stream, window, 8, target=True)
            similar[-1].append(
                (z * frame_weights(stream.weigh_target_frames, z, len(window[0]))[:, None]) @ shares
            )
    joined = [np.concatenate(streams) for streams in zip(*similar, strict=True)]
    scores = [sigmoid(fully(model.outer, np.maximum(fully(model.inner, h), 0))) for h in joined]
    return np.concatenate(scores)[: LENGTHS[user]]


@pytest.mark.parametrize("streams", ["both", "objects", "poses"])
def test_scores_are_those_of_the_equations(streams: Streams) -> None:
    """Every sequence goes through its layers alone here: padding and neighbours in a batch have no
    say either.
    """
    model, given = network(dataclasses.replace(SMALL, streams=streams)), batch(positions=2)
    with torch.no_grad():
        found = model(given).scores
    for user, length in enumerate(LENGTHS):
        np.testing.assert_allclose(
            found[user, :length], expected_scores(model, given, user), rtol=1e-5
        )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("more", [1, 3, 16])
def test_padding_changes_no_score(more: int, training: bool) -> None:
    """Nor does it in training, where batch norms look at everything that is there."""
    with torch.no_grad():
        expected, found = (
            network().train(training)(batch(positions=count)).scores for count in (0, more)
        )
    for user, length in enumerate(LENGTHS):
        torch.testing.assert_close(found[user, :length], expected[user, :length])


def test_without_masks_padding_changes_scores() -> None:
    """The paper's text, kept as a variant."""
    with torch.no_grad():
        literal = network(dataclasses.replace(SMALL, masks_padding=False))
        short, long = literal(batch()).scores, literal.train()(batch(positions=3)).scores
    assert short.isfinite().all()
    assert not torch.allclose(long[:, :5], short[:, :5])


@pytest.mark.parametrize("weights", ["sigmoid", "softmax", "linear"])
def test_the_order_of_clips_is_nothing(weights: WeightKind) -> None:
    model, given = network(dataclasses.replace(SMALL, weights=weights)), batch()
    with torch.no_grad():
        torch.testing.assert_close(model(reordered(given, [2, 0, 1])).scores, model(given).scores)


def test_clips_change_scores_and_users_without_clips_have_none_that_could() -> None:
    model, given = network(), batch()
    with torch.no_grad():
        answer, bare = model(given).scores, model(without_history(given)).scores
    assert not torch.allclose(answer[0, :13], bare[0, :13])
    torch.testing.assert_close(answer[2, :5], bare[2, :5])


def test_a_batch_in_training_may_hold_no_clips_and_no_persons() -> None:
    given = without_history(batch())
    features = {
        key: values * (0 if "keypoint" in key else 1) for key, values in given.features.items()
    }
    model = network().train()
    scores = model(dataclasses.replace(given, features=features)).scores
    torch.autograd.backward(scores.sum())
    assert scores.isfinite().all()
    assert all(parameter.grad is not None for parameter in model.parameters()), (
        "every rank has the same gradients"
    )


def test_long_clips_are_resampled_or_cut() -> None:
    given = batch()
    rows = {}
    for rule in get_args(LongClips):
        with torch.no_grad():
            rows[rule] = network(dataclasses.replace(SMALL, long_clips=rule))(given).parts[
                "history_rows"
            ]
    assert rows["resample"][0].tolist() == [[0, 1, 2, 3], [0, 2, 4, 6], [0, -1, -1, -1]]
    assert rows["cut"][0, 1].tolist() == [0, 1, 2, 3]
    assert (rows["cut"][2] == -1).all()


def test_parts_say_what_was_weighed_how() -> None:
    with torch.no_grad():
        answer = network()(batch())
    for name in ("objects", "poses"):
        clips, frames = answer.parts[f"{name}_clip_weights"], answer.parts[f"{name}_frame_weights"]
        assert ((clips > 0) == batch().history_mask.any(2)).all()
        assert ((frames > 0) == (answer.parts["history_rows"] >= 0)).all()
    torch.testing.assert_close(answer.parts["logits"].float().sigmoid(), answer.scores)
    assert ((answer.scores >= 0) & (answer.scores <= 1)).all()


def test_persons_are_the_same_at_any_size_and_place() -> None:
    torch.manual_seed(0)
    joints = torch.rand(3, 2, 17, 3) * 100 + 20
    joints[0, 1] = 0
    moved = torch.cat((joints[..., :2] * 3 + 50, joints[..., 2:]), -1)
    moved[0, 1] = 0
    torch.testing.assert_close(center_keypoints(moved), center_keypoints(joints))
    assert (center_keypoints(joints)[0, 1] == 0).all()


def test_the_places_of_persons_are_nothing() -> None:
    """Ours: the mean over persons. Swapping two for the whole video changes nothing."""
    torch.manual_seed(0)
    layers = PrimingSTGCN(3, (4, 3)).eval()
    persons, mask = torch.randn(2, 6, 2, 17, 3), torch.ones(2, 6, dtype=torch.bool)
    present = torch.rand(2, 6, 2) > 0.3
    persons *= present[..., None, None]
    swapped = layers(persons.flip(2), present.flip(2), mask)
    torch.testing.assert_close(swapped, layers(persons, present, mask))


def parameters_of_a_stream(
    priming: int, d: int, clip_frames: int, target_frames: int, hidden: int
) -> int:
    """Priming twice, frame weights of clips and target, clip weights."""
    heads = sum(
        frames * d * hidden + hidden + hidden * frames + frames
        for frames in (clip_frames, target_frames)
    )
    return 2 * priming + heads + d + 1


def test_parameters_at_the_full_widths() -> None:
    with torch.device("meta"):
        models = {
            name: SPEC.build(MHAFusionSettings(streams=name), FULL) for name in get_args(Streams)
        }
    widths = (512, 128, 128, 64)
    conv3d = sum(27 * a * b + 2 * b for a, b in pairwise(widths))
    joints, stgcn = (515, 64, 64, 32), 2 * 17 * 515
    for number, (a, b) in enumerate(pairwise(joints)):
        spatial, temporal = 3 * (a * b + b), 9 * b * b + b
        shortcut = a * b + b + 2 * b if number and a != b else 0
        stgcn += 3 * 17 * 17 + spatial + 2 * b + temporal + 2 * b + shortcut
    objects = parameters_of_a_stream(conv3d, 64, 32, 256, 128)
    poses = parameters_of_a_stream(stgcn, 5 * 32, 32, 256, 128)

    def predictor(streams: int) -> int:
        return streams * 256 * 256 + 256 + 256 * 256 + 256

    assert count_parameters(models["both"]) == objects + poses + predictor(2) == 13_844_608
    assert count_parameters(models["objects"]) == objects + predictor(1)
    assert count_parameters(models["poses"]) == poses + predictor(1)


def test_half_precision_runs() -> None:
    model, given = network().float().train(), random_batch(SHAPES, LENGTHS, CLIPS)
    with torch.autocast("cpu", torch.bfloat16):
        answer = model(given)
    assert answer.scores.isfinite().all()
    assert answer.scores.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "shapes", "says"),
    [
        (
            {},
            {"c3d/pool5": (8,)},
            "the stream objects reads arrays named p3, p4, p5; the recipe has c3d/pool5",
        ),
        (
            {},
            {"yolov5/p5": (6, 2, 2)},
            "the stream poses reads arrays named joints, joint_features",
        ),
        (
            {"streams": "objects"},
            {"a/p3": (6, 2, 2), "a/p5": (6, 4, 4)},
            "have the shape \\(C, g, g\\), with one g",
        ),
        (
            {"streams": "poses"},
            {"a/joints": (17, 3)},
            "have the shape \\(P, 17, C\\), with one P; got a/joints",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    settings: dict[str, str], shapes: Shapes, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        SPEC.build(MHAFusionSettings(**settings), shapes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"streams": "faces"}, "streams must be one of both, objects, poses; got 'faces'"),
        ({"long_clips": "drop"}, "long_clips must be one of resample, cut; got 'drop'"),
        ({"weights": "relu"}, "weights must be one of sigmoid, softmax, linear; got 'relu'"),
        ({"pose_widths": ()}, "must list one or more widths"),
        ({"clip_frames": 0}, "must be at least 1"),
        ({"dropout": 1.0}, "below 1; got 1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MHAFusionSettings(**changes)  # type: ignore[arg-type]

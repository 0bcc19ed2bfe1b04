"""The pose autoencoder: who is there, what a graph convolution joins, and what does not count."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.extractors.keypoint_rcnn.settings import KEYPOINTS
from models.highlight.base.skeleton import BONES, bone_weights
from models.highlight.generic.highlight_me import GraphUnit, HighlightMeSettings
from models.highlight.registry import HIGHLIGHT_MODELS
from tests.support.model_batches import PERSONS, batch, small

KEY = "keypoint_rcnn/joints"


def reached(
    unit: GraphUnit, x: Tensor, present: Tensor, at: tuple[int, int, int]
) -> set[tuple[int, int, int]]:
    """Frames, persons and joints whose input the output at `at` depends on."""
    x = x.clone().requires_grad_()
    unit(x, present)[0][at].sum().backward()
    assert x.grad is not None
    return {(f, p, j) for f, p, j in x.grad[0].abs().sum(dim=-1).nonzero().tolist()}


def test_the_skeleton_is_one_connected_body() -> None:
    assert len({frozenset(bone) for bone in BONES}) == 19
    torch.testing.assert_close(bone_weights().sum(dim=1), torch.ones(17))
    steps = torch.matrix_power(bone_weights() + torch.eye(17), 16)
    assert (steps > 0).all()


def test_a_unit_joins_bones_persons_and_frames() -> None:
    torch.manual_seed(0)
    unit = GraphUnit(2, 16, kernel_frames=3)
    x, present = torch.rand(1, 6, 2, 17, 2), torch.ones(1, 6, 2, dtype=torch.bool)
    nose, eyes = (
        KEYPOINTS.index("nose"),
        {KEYPOINTS.index("left_eye"), KEYPOINTS.index("right_eye")},
    )
    wanted = {(f, 0, j) for f in (1, 2, 3) for j in (nose, *eyes)} | {
        (f, 1, nose) for f in (1, 2, 3)
    }
    assert reached(unit, x, present, (2, 0, nose)) == wanted


def test_a_person_whose_numbers_are_zero_is_not_there() -> None:
    model, given = small("highlight_me"), batch("highlight_me")
    joints = given.features[KEY].clone()
    joints[:, :, 1:] = 0
    answer = model(replace(given, features={KEY: joints}))
    assert answer.parts["present"].sum() == given.mask.sum()
    more = torch.cat([joints, torch.zeros_like(joints)], dim=2)
    torch.testing.assert_close(model(replace(given, features={KEY: more})).scores, answer.scores)


def test_frames_without_persons_score_zero_and_the_others_more() -> None:
    model, given = small("highlight_me"), batch("highlight_me")
    joints = given.features[KEY].clone()
    joints[0, 3] = 0
    scores = model(replace(given, features={KEY: joints})).scores
    assert scores[0, 3] == 0
    assert (scores[0, :3] > 0).all()


def test_the_size_of_a_video_does_not_count() -> None:
    model, given = small("highlight_me"), batch("highlight_me")
    larger = replace(given, features={KEY: given.features[KEY] * 4})
    torch.testing.assert_close(model(larger).scores, model(given).scores)


def test_what_is_no_pose_is_refused() -> None:
    spec = HIGHLIGHT_MODELS["highlight_me"]
    with pytest.raises(ValueError, match="persons"):
        spec.build(spec.settings(), {"c3d/pool5": (8192,)})
    with pytest.raises(ValueError, match="odd"):
        HighlightMeSettings(kernel_frames=4)
    spec.build(spec.settings(), {KEY: (PERSONS, 17, 3)})

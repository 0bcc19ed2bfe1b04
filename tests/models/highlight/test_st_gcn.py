"""ST-GCN's unit and partitions against the authors' numbers; COCO's skeleton against COCO; and
frames that are missing.

The whole comparison: `HIGHLIGHTS_REFERENCES=FOLDER pytest -m slow
tests/models/highlight/test_st_gcn.py`, where FOLDER holds a checkout of yysijie/st-gcn under the
name st-gcn.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.extractors.keypoint_rcnn.settings import KEYPOINTS
from models.highlight.base.st_gcn import (
    COCO_CENTER,
    COCO_CHAINS,
    COCO_LINKS,
    STGCNUnit,
    spatial_partition,
)
from tests.models.goldens import make_st_gcn
from tests.models.goldens.make_st_gcn import UNITS, importance, inputs, kept, weights
from tests.models.goldens.reference import checkout, relative_error

GOLDEN = json.loads(Path(make_st_gcn.__file__).with_name("st_gcn.json").read_text())
OPENPOSE = "4-3 3-2 7-6 6-5 13-12 12-11 10-9 9-8 11-5 8-2 5-1 2-1 0-1 15-0 14-0 17-15 16-14"
"""The release's graph of 18 joints; 1 is the neck, its centre."""
THEIR_NAMES = {
    "spatial": "gcn.conv",
    "spatial_norm.norm": "tcn.0",
    "temporal": "tcn.2",
    "temporal_norm.norm": "tcn.3",
    "shortcut": "residual.0",
    "shortcut_norm.norm": "residual.1",
}


def graph(*, farthest: int | None) -> NDArray[np.float64]:
    links = [(int(a), int(b)) for a, b in (link.split("-") for link in OPENPOSE.split())]
    return spatial_partition(18, links, [1], farthest=farthest)


def unit(name: str) -> STGCNUnit:
    """Ours, with the weights of the reference."""
    before, after, residual = UNITS[name]
    ours = STGCNUnit(before, after, torch.from_numpy(graph(farthest=1)), residual=residual)
    shapes = {
        key: tuple(tensor.shape) for key, tensor in ours.state_dict().items() if key != "importance"
    }
    names = {
        key: THEIR_NAMES[key.rpartition(".")[0]] + "." + key.rpartition(".")[2] for key in shapes
    }
    theirs = weights({names[key]: shape for key, shape in shapes.items()})
    ours.load_state_dict(
        {key: theirs[names[key]] for key in shapes} | {"importance": importance(name)}
    )
    return ours.double()


def answer(name: str, mode: str) -> Tensor:
    with torch.no_grad():
        x = inputs(name)
        out: Tensor = unit(name).train(mode == "train")(
            x, torch.ones(len(x), x.shape[2], dtype=torch.bool)
        )
        return out


def test_the_partition_is_the_releases() -> None:
    expected = np.zeros((3, 18, 18))
    for k, j, i, value in GOLDEN["graph"]:
        expected[k, j, i] = value
    np.testing.assert_allclose(graph(farthest=1), expected, rtol=1e-15)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", UNITS)
def test_the_unit_is_the_releases(name: str, mode: str) -> None:
    assert (
        relative_error(kept(answer(name, mode).numpy()), GOLDEN["values"][f"{name}/{mode}"]) < 1e-10
    )


@pytest.mark.slow
def test_the_unit_is_the_releases_beside_it() -> None:
    theirs = make_st_gcn.answers(checkout("st-gcn"))
    np.testing.assert_allclose(graph(farthest=1), theirs.pop("graph"), rtol=1e-15)
    for name, expected in theirs.items():
        assert relative_error(answer(*name.split("/")).numpy(), expected) < 1e-12
        assert kept(expected) == pytest.approx(GOLDEN["values"][name], rel=1e-9, abs=1e-12)


def test_partitions_follow_the_distance_from_the_centre_everywhere() -> None:
    """A chain of four with its centre at one end: 0 - 1 - 2 - 3. Columns sum to 1, each link has a
    nearer end.
    """
    found = spatial_partition(4, [(0, 1), (1, 2), (2, 3)], [0])
    np.testing.assert_allclose(found.sum((0, 1)), 1)
    np.testing.assert_allclose(np.diagonal(found[0]), [1 / 2, 1 / 3, 1 / 3, 1 / 2])
    assert {(int(j), int(i)) for j, i in np.argwhere(found[2])} == {(0, 1), (1, 2), (2, 3)}
    assert {(int(j), int(i)) for j, i in np.argwhere(found[1])} == {(1, 0), (2, 1), (3, 2)}


def test_the_skeleton_is_cocos() -> None:
    """The numbers of `skeleton` in person_keypoints_val2017.json, counted from 1."""
    coco = (
        "16-14 14-12 17-15 15-13 12-13 6-12 7-13 6-7 6-8 7-9 8-10 9-11 2-3 1-2 1-3 2-4 3-5 4-6 5-7"
    )
    expected = {frozenset(int(joint) - 1 for joint in link.split("-")) for link in coco.split()}
    assert len(COCO_LINKS) == 19
    assert {frozenset(link) for link in COCO_LINKS} == expected
    assert np.isfinite(spatial_partition(17, COCO_LINKS, COCO_CENTER)).all()


def test_five_chains_hold_every_joint() -> None:
    assert len(COCO_CHAINS) == 5
    assert set().union(*COCO_CHAINS) == set(range(len(KEYPOINTS)))
    links = {frozenset(link) for link in COCO_LINKS}
    for limb in COCO_CHAINS[1:]:
        assert all(frozenset(pair) in links for pair in pairwise(limb))
        assert limb[0] in COCO_CHAINS[0]


@pytest.mark.parametrize("training", [True, False])
def test_missing_frames_touch_nothing(training: bool) -> None:
    """Two skeletons of 12 and 7 frames: padded to 20 as without padding, in training too, where
    norms look around.
    """
    torch.manual_seed(0)
    whole = STGCNUnit(3, 8, torch.from_numpy(graph(farthest=None)).float()).train(training)
    mask = torch.arange(20) < torch.tensor([[12], [7]])
    x = torch.randn(2, 3, 20, 18) * mask[:, None, :, None]
    out = whole(x, mask)
    assert (out.transpose(1, 2)[~mask] == 0).all()
    torch.testing.assert_close(
        whole(x[:, :, :12], mask[:, :12]), out[:, :, :12], rtol=1e-4, atol=1e-5
    )

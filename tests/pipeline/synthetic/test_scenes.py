"""Six kinds of scene: told apart by how they look and move, and not by the colour of one pixel."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.synthetic.scenes import KINDS, random_scene_style, render_scene

TIMES = np.arange(0, 2, 0.1)
SEED = 5


def picture(kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    return render_scene(kind, random_scene_style(kind, rng), TIMES, width=64, height=48)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_has_its_shape_and_moves(kind: str) -> None:
    frames = picture(kind, np.random.default_rng(SEED))
    assert frames.shape == (20, 48, 64, 3)
    assert frames.dtype == np.uint8
    changed = np.abs(np.diff(frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert (changed > 1).all(), "a frame is all but the one before"
    assert frames.std() > 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_depends_on_its_time_alone(kind: str) -> None:
    style = random_scene_style(kind, np.random.default_rng(SEED))
    together = render_scene(kind, style, TIMES, width=64, height=48)
    alone = render_scene(kind, style, TIMES[7:8], width=64, height=48)
    assert (together[7:8] == alone).all()


def test_two_scenes_of_a_kind_differ() -> None:
    rng = np.random.default_rng(SEED)
    for kind in KINDS:
        assert np.abs(picture(kind, rng).astype(int) - picture(kind, rng).astype(int)).mean() > 10


def looks_and_motion(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean and spread of each colour, and mean change over time, downwards and to the right."""
    unit = frames / 255
    changes = [np.abs(np.diff(unit, axis=axis)).mean() for axis in (0, 1, 2)]
    return np.array([*unit.mean((0, 1, 2)), *unit.std((0, 1, 2)), *changes])


def middle_pixel(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(frames[:, 24, 32].mean(0) / 255)


def share_right(features: NDArray[np.float64], labels: NDArray[np.int64], n_known: int) -> float:
    """Nearest centroid on standardised features: the first `n_known` teach, the others are
    judged.
    """
    known, asked = features[:n_known], features[n_known:]
    mean, spread = known.mean(0), known.std(0)
    kinds = [
        (known[labels[:n_known] == kind] - mean).mean(0) / spread for kind in range(len(KINDS))
    ]
    distances = [(((asked - mean) / spread - kind) ** 2).sum(1) for kind in kinds]
    return float((np.argmin(distances, axis=0) == labels[n_known:]).mean())


def test_kinds_are_told_apart_by_looks_and_motion_but_not_by_one_pixel() -> None:
    rng = np.random.default_rng(SEED)
    labels = np.arange(180) % len(KINDS)
    scenes = [picture(list(KINDS)[label], rng) for label in labels]
    by_all = share_right(np.array([looks_and_motion(frames) for frames in scenes]), labels, 90)
    by_pixel = share_right(np.array([middle_pixel(frames) for frames in scenes]), labels, 90)
    assert by_all > 0.9 > by_pixel > 1 / len(KINDS), (
        f"seed {SEED}: {by_all=}, {by_pixel=}; chance is 1/6"
    )


def test_pictures_are_the_same_on_every_machine() -> None:
    """A digest that was computed once: no operation that processors round apart may reach a
    pixel.
    """
    rng = np.random.default_rng(SEED)
    digest = hashlib.sha256(b"".join(picture(kind, rng).tobytes() for kind in KINDS)).hexdigest()
    assert digest[:16] == "f864d5cb638a2204"

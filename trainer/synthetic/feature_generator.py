"""Generates features of synthetic scenes: kinds, seen through a fixed random projection with noise.

A kind is a direction of length 1. A row is `max(0, projection · (kind + video + scene) + noise)`,
not negative, as in the arrays it replaces. Arrays have the names and shapes of the real extractors,
with few channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.base.records import FeatureTrack, Ragged

TASTE_DIMENSIONS = 6
"""Dimensions in which users differ. With more of them, a network needs more users to learn how to
compare directions.
"""
LATENT = TASTE_DIMENSIONS + 2
Kind = tuple[float, ...]
"""A direction in `LATENT` dimensions, rounded as in the written tables."""
STYLE = 0.35
"""Length of what all scenes of a video share, and of what only one scene has; a kind has 1."""
C3D_ROW_SECONDS = 16 / 30
"""16 frames at 30 per second."""
FRAME_SECONDS = 0.5
JOINTS = 17
MAX_PERSONS = 3
FRAME_PIXELS = (640.0, 360.0)
POSE_PIXELS = 40.0
"""How far a kind moves a keypoint."""


@dataclass(frozen=True)
class Scene:
    """`[start, end)` seconds of a video show one kind."""

    start: float
    end: float
    kind: Kind


@dataclass(frozen=True)
class FeatureVariant:
    """A feature variant to be generated."""

    name: str
    row_seconds: float
    arrays: Mapping[str, tuple[int, ...]]
    """Array → shape of a row, or of an item of it."""


def clip_variant(width: int) -> FeatureVariant:
    """C3D's variant."""
    return FeatureVariant("c3d", C3D_ROW_SECONDS, {"pool5": (width,)})


def frame_variants(
    object_shape: tuple[int, int, int], joint_channels: int
) -> tuple[FeatureVariant, ...]:
    """The variants of detected objects and persons."""
    persons = {"boxes": (5,), "joints": (JOINTS, 3), "joint_features": (JOINTS, joint_channels)}
    return (
        FeatureVariant("yolov5", FRAME_SECONDS, {"p5": object_shape}),
        FeatureVariant("keypoint_rcnn", FRAME_SECONDS, persons),
    )


def generate_track(
    video_id: str, scenes: Sequence[Scene], variant: FeatureVariant, *, seed: int, noise: float
) -> FeatureTrack:
    """All rows of one video; the last row is whole."""
    n_rows = max(1, int(scenes[-1].end / variant.row_seconds))
    starts = np.arange(n_rows) * variant.row_seconds
    spans = np.stack([starts, starts + variant.row_seconds], 1)
    scene_starts = [scene.start for scene in scenes]
    scene_of_row = np.searchsorted(scene_starts, spans.mean(axis=1), side="right") - 1
    latents = _latents(video_id, scenes, seed)[scene_of_row]
    # Each variant has noise of its own, and all have the same latents.
    noise_source = _Noise(seed, noise, seeded_rng(seed, video_id, variant.name))
    if variant.name == "keypoint_rcnn":
        arrays = _persons(latents, variant.arrays["joint_features"], noise_source)
        return FeatureTrack(video_id, spans, arrays)
    (name, shape), *_ = variant.arrays.items()
    projected = _projected(latents, f"{variant.name}/{name}", shape, noise_source)
    return FeatureTrack(video_id, spans, {name: projected})


@dataclass(frozen=True)
class _Noise:
    """The seed of projections, and the noise on values."""

    seed: int
    scale: float
    rng: np.random.Generator


def _latents(video_id: str, scenes: Sequence[Scene], seed: int) -> NDArray[np.float64]:
    """`(scenes, LATENT)`: the sum of kind, video and scene; the same for every variant."""
    rng = seeded_rng(seed, video_id, "latents")
    styles = rng.normal(size=(1, LATENT)) + rng.normal(size=(len(scenes), LATENT))
    kinds = np.array([scene.kind for scene in scenes])
    # Divided by the root of the dimensions, so that STYLE is a length.
    return np.asarray(kinds + STYLE / np.sqrt(LATENT) * styles)


def _projected(
    latents: NDArray[np.float64], name: str, shape: tuple[int, ...], noise: _Noise
) -> NDArray[np.float16]:
    """`(rows, *shape)` values."""
    clean = latents @ _projection(name, int(np.prod(shape)), noise.seed)
    values = np.maximum(clean + noise.scale * noise.rng.normal(size=clean.shape), 0)
    return values.reshape(len(latents), *shape).astype(np.float16)


def _persons(
    latents: NDArray[np.float64], feature_shape: tuple[int, ...], noise: _Noise
) -> dict[str, NDArray[np.float16] | Ragged]:
    """0 to `MAX_PERSONS` persons in each row, whose pose shows the row's kind."""
    rng = noise.rng
    n_persons = rng.integers(0, MAX_PERSONS + 1, len(latents))
    of_person = np.repeat(latents, n_persons, axis=0)
    moved = (of_person @ _projection("joints", JOINTS * 2, noise.seed)).reshape(-1, JOINTS, 2)
    moved = POSE_PIXELS * (moved + noise.scale * rng.normal(size=moved.shape))
    centres = np.array(FRAME_PIXELS) * rng.uniform(0.3, 0.7, (len(of_person), 1, 2))
    joints = centres + moved
    scores = rng.uniform(0.5, 3, (len(of_person), JOINTS, 1))
    # Detectors give the boxes of a frame by falling score.
    falling = np.sort(rng.uniform(0.1, 1, (len(latents), MAX_PERSONS)), axis=1)[:, ::-1]
    box_scores = falling[np.arange(MAX_PERSONS) < n_persons[:, None]]
    boxes = np.concatenate([joints.min(axis=1), joints.max(axis=1), box_scores[:, None]], 1)
    features = _projected(of_person, "joint_features", feature_shape, noise)
    return {
        "boxes": Ragged(boxes.astype(np.float32), n_persons),
        "joints": Ragged(np.concatenate([joints, scores], 2).astype(np.float32), n_persons),
        "joint_features": Ragged(features, n_persons),
    }


def _projection(name: str, width: int, seed: int) -> NDArray[np.float64]:
    return seeded_rng(seed, name, "projection").normal(size=(LATENT, width))


def seeded_rng(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends only on the seed and the names."""
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])

"""Features of planted scenes: what kind a scene shows, seen through a fixed random projection, with
noise.

A kind is a direction, of length 1. A row is `max(0, projection · (kind + video + scene) + noise)`,
non-negative as the arrays it stands for. Arrays have the names and forms that the real extractors
give them, and few channels. Refuses to know users.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.base.records import FeatureTrack, Ragged

TASTE_DIMENSIONS = 6
"""Of what people differ in. More of them need more users until a network has learned to compare
directions.
"""
LATENT = TASTE_DIMENSIONS + 2
Kind = tuple[float, ...]
"""A direction in `LATENT` dimensions, rounded as it is written down."""
STYLE = 0.35
"""Length of what all scenes of a video share, and of what is peculiar to one scene; a kind has
1.
"""
C3D_ROW_SECONDS = 16 / 30
"""16 frames at 30 a second."""
FRAME_SECONDS = 0.5
JOINTS = 17
MAX_PERSONS = 3
FRAME_PIXELS = (640.0, 360.0)
POSE_PIXELS = 40.0
"""How far a kind moves a joint."""


@dataclass(frozen=True)
class Scene:
    """`[start, end)` seconds of a video show one kind."""

    start: float
    end: float
    kind: Kind


@dataclass(frozen=True)
class FeatureVariant:
    """One variant to be written."""

    variant: str
    row_seconds: float
    arrays: Mapping[str, tuple[int, ...]]
    """Array → shape of a row, or of an item of it."""


def clip_variant(width: int) -> FeatureVariant:
    """C3D's variant."""
    return FeatureVariant("c3d", C3D_ROW_SECONDS, {"pool5": (width,)})


def frame_variants(
    object_shape: tuple[int, int, int], joint_channels: int
) -> tuple[FeatureVariant, ...]:
    """The variants of objects and persons."""
    persons = {"boxes": (5,), "joints": (JOINTS, 3), "joint_features": (JOINTS, joint_channels)}
    return (
        FeatureVariant("yolov5", FRAME_SECONDS, {"p5": object_shape}),
        FeatureVariant("keypoint_rcnn", FRAME_SECONDS, persons),
    )


def generate_track(
    video_id: str, scenes: Sequence[Scene], stream: FeatureVariant, *, seed: int, noise: float
) -> FeatureTrack:
    """All rows of one video; they end with the last whole row."""
    rows = max(1, int(scenes[-1].end / stream.row_seconds))
    starts = np.arange(rows) * stream.row_seconds
    spans = np.stack([starts, starts + stream.row_seconds], 1)
    shown = np.searchsorted([scene.start for scene in scenes], spans.mean(axis=1), side="right") - 1
    latents = _latents(video_id, scenes, seed)[shown]
    rng = seeded_rng(seed, video_id, stream.variant)
    if stream.variant == "keypoint_rcnn":
        return FeatureTrack(
            video_id, spans, _persons(latents, stream.arrays["joint_features"], seed, noise, rng)
        )
    (name, shape), *_ = stream.arrays.items()
    return FeatureTrack(
        video_id, spans, {name: _seen(latents, f"{stream.variant}/{name}", shape, seed, noise, rng)}
    )


def _latents(video_id: str, scenes: Sequence[Scene], seed: int) -> NDArray[np.float64]:
    """`(scenes, LATENT)`: kind, video and scene; the same for every variant."""
    rng = seeded_rng(seed, video_id, "latents")
    styles = rng.normal(size=(1, LATENT)) + rng.normal(size=(len(scenes), LATENT))
    return np.asarray(np.array([scene.kind for scene in scenes]) + STYLE / np.sqrt(LATENT) * styles)


def _seen(
    latents: NDArray[np.float64],
    name: str,
    shape: tuple[int, ...],
    seed: int,
    noise: float,
    rng: np.random.Generator,
) -> NDArray[np.float16]:
    clean = latents @ _projection(name, int(np.prod(shape)), seed)
    seen = np.maximum(clean + noise * rng.normal(size=clean.shape), 0)
    return seen.reshape(len(latents), *shape).astype(np.float16)


def _persons(
    latents: NDArray[np.float64],
    features: tuple[int, ...],
    seed: int,
    noise: float,
    rng: np.random.Generator,
) -> dict[str, NDArray[np.float16] | Ragged]:
    lengths = rng.integers(0, MAX_PERSONS + 1, len(latents))
    each = np.repeat(latents, lengths, axis=0)
    moved = (each @ _projection("joints", JOINTS * 2, seed)).reshape(-1, JOINTS, 2)
    moved = POSE_PIXELS * (moved + noise * rng.normal(size=moved.shape))
    places = np.array(FRAME_PIXELS) * rng.uniform(0.3, 0.7, (len(each), 1, 2)) + moved
    scores = rng.uniform(0.5, 3, (len(each), JOINTS, 1))
    best = np.sort(rng.uniform(0.1, 1, (len(latents), MAX_PERSONS)), axis=1)[:, ::-1]
    box_scores = best[np.arange(MAX_PERSONS) < lengths[:, None]]
    boxes = np.concatenate([places.min(axis=1), places.max(axis=1), box_scores[:, None]], 1)
    return {
        "boxes": Ragged(boxes.astype(np.float32), lengths),
        "joints": Ragged(np.concatenate([places, scores], 2).astype(np.float32), lengths),
        "joint_features": Ragged(
            _seen(each, "joint_features", features, seed, noise, rng), lengths
        ),
    }


def _projection(name: str, width: int, seed: int) -> NDArray[np.float64]:
    return seeded_rng(seed, name, "projection").normal(size=(LATENT, width))


def seeded_rng(seed: int, *names: str) -> np.random.Generator:
    """Dice that follow from the seed and the names alone."""
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])

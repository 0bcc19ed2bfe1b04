"""Clips of a drawn world for pixel-level models: something bright moves over a background; where it
is, is known.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from storage.base.paths import Layout
from storage.base.records import Annotation, FeatureTrack, Group, Ragged, Video
from storage.catalog.catalog import Catalog, write_catalog
from tests.support.stores import SHARDS, write_variant

HEIGHT, WIDTH = 32, 64
SIDE = 12
COLOURS = ((230, 60, 40), (40, 90, 220))
"""RGB of the object in a highlight, and in what is none."""


def scene(
    rng: np.random.Generator, frames: int, *, is_highlight: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """`(frames, H, W, 3)` uint8 RGB and `(frames, H, W)` bool: a square on a noisy ground, and
    where the square is.
    """
    ground = rng.integers(70, 130, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pictures = np.repeat(ground[None], frames, axis=0)
    covered = np.zeros((frames, HEIGHT, WIDTH), bool)
    corner = rng.uniform(0, [HEIGHT - SIDE, WIDTH - SIDE])
    speed = rng.uniform(-1, 1, 2)
    for number in range(frames):
        top, left = (
            np.clip(corner + number * speed, 0, [HEIGHT - SIDE, WIDTH - SIDE]).round().astype(int)
        )
        pictures[number, top : top + SIDE, left : left + SIDE] = COLOURS[not is_highlight]
        covered[number, top : top + SIDE, left : left + SIDE] = True
    return pictures, covered


def jpegs(pictures: NDArray[np.uint8]) -> Ragged:
    """As the `frames` extractor stores them, at quality 95."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, 95]
    encoded = [
        cv2.imencode(".jpg", picture[..., ::-1].copy(), flags)[1].reshape(-1)
        for picture in pictures
    ]
    return Ragged(np.concatenate(encoded), np.array([len(one) for one in encoded], np.int64))


def frame_spans(count: int, seconds: float = 0.1) -> NDArray[np.float64]:
    """Frames side by side from 0 s."""
    starts = np.arange(count) * seconds
    return np.stack([starts, starts + seconds], 1)


def write_films(
    root: Path,
    films: int,
    *,
    scenes: int = 2,
    frames: int = 16,
    every: int = 4,
    mark: str = "planted:0",
    seed: int = 0,
) -> Path:
    """A catalog of films of `scenes` scenes each, highlights and others in turn, with every frame
    as a picture and, of every `every`-th frame, the saliency `(H / 4, W / 4)` of its object, dim
    but above β; `mark` is its weights.
    """
    rng = np.random.default_rng(seed)
    names = [f"v{number}" for number in range(films)]
    marks = []
    pictures, saliency = [], []
    for name in names:
        kinds = [number % 2 == int(name[1:]) % 2 for number in range(scenes)]
        drawn = [scene(rng, frames, is_highlight=kind) for kind in kinds]
        seen, where = (
            np.concatenate([one for one, _ in drawn]),
            np.concatenate([one for _, one in drawn]),
        )
        spans = frame_spans(len(seen))
        marks += [
            Annotation(name, "ann", number * frames * 0.1, (number + 1) * frames * 0.1)
            for number, kind in enumerate(kinds)
            if kind
        ]
        coarse = where.reshape(len(where), HEIGHT // 4, 4, WIDTH // 4, 4).mean((2, 4)) * 0.01
        pictures.append(FeatureTrack(name, spans, {"jpeg": jpegs(seen)}))
        saliency.append(
            FeatureTrack(name, spans[::every], {"saliency": coarse[::every].astype(np.float16)})
        )
    catalog = Catalog(
        name="films", videos=tuple(map(Video, names)), users=(), links=(), annotations=tuple(marks),
        shard_count=SHARDS, time_unit="seconds",
    )  # fmt: skip
    write_catalog(Layout(root, "films"), catalog)
    write_variant(root / "films", pictures, variant="frames", settings={"extractor": "frames"})
    write_variant(
        root / "films", saliency, variant="tased", settings={"extractor": "tased", "weights": mark}
    )
    return root / "films"


def write_category_films(
    root: Path, films: int, *, scenes: int = 2, frames: int = 16, seed: int = 0
) -> Path:
    """The same films as a judged catalog, as the category sample is: of one domain, every second
    one for testing, with all frames as pictures, and in its sources where the object is. Saliency
    is left to be planted.
    """
    rng = np.random.default_rng(seed)
    sources = Layout(root, "films").sources
    sources.mkdir(parents=True)
    names = [f"v{number}" for number in range(films)]
    marks, groups, pictures = [], [], []
    for number, name in enumerate(names):
        kinds = [place % 2 == number % 2 for place in range(scenes)]
        drawn = [scene(rng, frames, is_highlight=kind) for kind in kinds]
        seen, where = (
            np.concatenate([one for one, _ in drawn]),
            np.concatenate([one for _, one in drawn]),
        )
        seconds = frames * 0.1
        marks += [
            Annotation(name, "match", place * seconds, (place + 1) * seconds, 1.0 if kind else -1.0)
            for place, kind in enumerate(kinds)
        ]
        groups += [
            Group("domain", "films", name),
            Group("vlist_sel", ("train", "test")[number % 2], name),
        ]
        pictures.append(FeatureTrack(name, frame_spans(len(seen)), {"jpeg": jpegs(seen)}))
        np.save(sources / f"{name}.figure.npy", np.packbits(where, axis=2))
    catalog = Catalog(
        name="films", videos=tuple(map(Video, names)), users=(), links=(), annotations=tuple(marks),
        shard_count=SHARDS, time_unit="seconds", origin={"reader": "category sample"}, groups=tuple(groups),
    )  # fmt: skip
    write_catalog(Layout(root, "films"), catalog)
    write_variant(root / "films", pictures, variant="frames", settings={"extractor": "frames"})
    return root / "films"

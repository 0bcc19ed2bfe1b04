"""Single flipped bits in every kind of file that is read back: none is read as other numbers with
the default settings.

A flip is found (an error of ours, or the verdict `altered`), or it changes nothing that is read, as
in an index that is rebuilt, or in the blanks of settings.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from models.extractors.base.sampling import ConsecutiveFrames, EveryFrame
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.download.access.source import SourceSettings
from pipeline.download.fetch import fetch
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.process_video import process_video
from pipeline.extraction.shard_job import ShardJob
from pipeline.media.media_file import Media
from storage.base.errors import HighlightsError
from storage.base.paths import Layout
from storage.base.records import Annotation, Group, Link, User, Video
from storage.base.video_status import DONE, State, failure_status
from storage.catalog.catalog import Catalog, read_catalog, shard_of, write_catalog
from storage.features import manifest_index, spool
from storage.features.manifest import ManifestEntry
from storage.features.store import FeatureStore
from storage.files.hdf5 import read_layout
from storage.scores import Provenance, ScoreTrack, make_score_run, read_scores, write_scores
from tests.support.feature_samples import make_track
from tests.support.tiny_extractor import tiny_variant
from tests.support.videos import coded_video
from trainer.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

SEED = 20261201
IDS = ("-first", "a1", "b2", "c3", "d4")
VARIANTS = (
    tiny_variant("clips", ConsecutiveFrames(4, 4), 4),
    tiny_variant("singles", EveryFrame(), 1),
)
FOUND, SAME = "found", "read as it was"


class World:
    """A small catalog, built by the real shard code from files of a folder, with everything that is
    read back.
    """

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root / "data", "tiny")
        self.videos = root / "videos"
        self.videos.mkdir()
        for number, video_id in enumerate(IDS[:4]):
            coded_video(self.videos / f"{video_id}.mp4", 12 + 5 * number)
        marks = [
            Annotation(video_id, "ann", 0.5, 1.25 + number) for number, video_id in enumerate(IDS)
        ]
        catalog = Catalog(
            "tiny", tuple(Video(i, 2.5) for i in IDS), (User("ann", "train"),), (Link("ann", "a1", "target"),),
            tuple(marks), 2, "seconds", {"reader": "made up"}, (Group("domain", "dog", "b2"),),
        )  # fmt: skip
        write_catalog(self.layout, catalog)
        for shard in range(2):
            job = ShardJob(self.layout, shard, catalog.shard_ids(shard), VARIANTS, 2000)
            process_shard(
                job,
                fetch=self.fetched,
                decoder=InlineDecoder(),
                device="cpu",
                on_video=lambda *_: None,
            )
        self.variants = [self.layout.variant(one.name, one.fingerprint()) for one in VARIANTS]
        for variant in self.variants:
            manifest_index.refresh_index(variant)
        self.spool = root / "spool"
        for number, video_id in enumerate(IDS):
            track = make_track(video_id, 4 + number)
            spool.put(
                self.spool,
                video_id,
                ManifestEntry(DONE, rows=track.rows, digest=track.digest()),
                track,
            )
        spool.put(self.spool, "gone", ManifestEntry(failure_status("private", "says its page")))
        self.checkpoint = root / "model.safetensors"
        weights = torch.linspace(-1, 1, 700).reshape(7, 100)
        write_checkpoint(
            self.checkpoint, Checkpoint({"seed": 3, "notes": ["none"]}, {"model": {"w": weights}})
        )
        spans = np.array([[0.0, 1.0], [1.0, 2.5]])
        scored = ScoreTrack("ann", "a1", 2.5, spans, np.array([0.25, 3.0], np.float32))
        write_scores(
            self.layout, "run.test", make_score_run(Provenance("ranker", "ab" * 32), [scored])
        )

    def fetched(self, video_id: str, retry: bool = False) -> Media:
        shard = shard_of(video_id, 2)
        return fetch(
            video_id,
            layout=self.layout,
            shard=shard,
            source=SourceSettings(str(self.videos)),
            retry=retry,
        )

    def features(self) -> str:
        store = FeatureStore(self.layout.folder)
        told = []
        for name in store.variants():
            reader = store[name]
            told += [name, reader.settings, reader.statuses, reader.provenance, reader.digest()]
            told += [(i, asdict(reader.entry(i)), reader[i].track().digest()) for i in reader]
        return repr(told)

    def catalog(self) -> str:
        found = read_catalog(self.layout.folder)
        tables = [
            tuple(rows)
            for rows in (found.videos, found.users, found.links, found.annotations, found.groups)
        ]
        return repr((found.name, found.shard_count, found.time_unit, found.origin, tables))

    def spooled(self) -> dict[str, str]:
        found = spool.SpooledVideos(self.spool)
        return {
            i: repr(entry) + (found.track(i).digest() if entry.is_done else "")
            for i, entry in found.entries.items()
        }

    def weights(self) -> str:
        found = read_checkpoint(self.checkpoint)
        return (
            repr(found.about)
            + hashlib.sha256(found.state["model"]["w"].numpy().tobytes()).hexdigest()
        )

    def scores(self) -> str:
        found = read_scores(self.layout, "run.test")
        return repr(found.provenance) + repr(
            [(k, v.spans.tolist(), v.scores.tolist()) for k, v in found.tracks.items()]
        )

    def records(self) -> str:
        found = [self.fetched(video_id) for video_id in IDS[:4]]
        return repr([(media.sha256, media.size_bytes, media.facts) for media in found])

    def rows(self, video_id: str) -> str:
        """The digest of the rows that are made from the kept file now, or the verdict instead."""
        variant = VARIANTS[1]
        fed = [(variant, variant.build("cpu"))]
        (outcome,) = process_video(video_id, self.fetched(video_id), fed, InlineDecoder())
        if outcome.status.state is not State.DONE:
            return str(outcome.status.reason)
        assert outcome.track is not None
        return outcome.track.digest()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("flips"))


def flipped(path: Path, bit: int, ask: Callable[[], object]) -> object:
    """What `ask` answers, or the error of ours that it raises, while one bit of the file is
    flipped.
    """
    whole = path.read_bytes()
    content = bytearray(whole)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    try:
        return ask()
    except HighlightsError as error:
        return error
    finally:
        path.write_bytes(whole)


def judged(world: World, kind: str, path: Path, bit: int) -> str:
    """`found`, `read as it was`, or what was read instead."""
    if kind == "media":
        video_id = path.stem
        told = flipped(path, bit, lambda: world.rows(video_id))
        return FOUND if told == "altered" or isinstance(told, HighlightsError) else f"rows {told}"
    if kind == "journal":
        truth = world.spooled()
        left = flipped(path, bit, world.spooled)
        assert isinstance(left, dict)
        whole = (
            left.items() <= truth.items() and len(truth) - len(left) <= 1
        )  # at most the damaged one is done again
        return (FOUND if left != truth else SAME) if whole else f"spool {left}"
    ask = {
        "catalog": world.catalog,
        "checkpoint": world.weights,
        "scores": world.scores,
        "media record": world.records,
    }.get(kind, world.features)
    truth_told = ask()
    told = flipped(path, bit, ask)
    if isinstance(told, HighlightsError):
        return FOUND
    return SAME if told == truth_told else f"{kind}: {told}"


def files(world: World) -> dict[str, list[Path]]:
    features = [variant.folder for variant in world.variants]
    return {
        "part": [path for folder in features for path in sorted(folder.glob("*.h5"))],
        "checksums": [path for folder in features for path in sorted(folder.glob("*.sums"))],
        "sidecar": [path for folder in features for path in sorted(folder.glob("shard_*.json"))],
        "index": [variant.index_file for variant in world.variants],
        "settings": [variant.settings_file for variant in world.variants],
        "catalog": [*sorted(world.layout.folder.glob("*.csv")), world.layout.catalog_file],
        "checkpoint": [world.checkpoint],
        "scores": sorted(world.layout.scores("run.test").iterdir()),
        "journal": sorted(world.spool.iterdir()),
        "media record": [world.layout.media_record(i, shard_of(i, 2)) for i in IDS[:4]],
        "media": sorted(world.videos.iterdir()),
    }


@pytest.mark.parametrize("flips", [220, pytest.param(1100, marks=pytest.mark.slow)])
def test_no_flipped_bit_is_read_as_other_numbers(world: World, flips: int) -> None:
    dice = random.Random(SEED)
    before = (world.features(), world.catalog(), world.records())
    seen: Counter[tuple[str, str]] = Counter()
    wrong = []
    kinds = files(world)
    for number in range(flips):
        kind = list(kinds)[number % len(kinds)]
        path = dice.choice(kinds[kind])
        bit = dice.randrange(8 * path.stat().st_size)
        status = judged(world, kind, path, bit)
        seen[kind, status if status in (FOUND, SAME) else "OTHER NUMBERS"] += 1
        if status not in (FOUND, SAME):
            wrong.append((kind, path.name, bit, status[:200]))
    assert wrong == [], f"seed {SEED}"
    assert (world.features(), world.catalog(), world.records()) == before
    for kind in kinds:  # that a flip changes nothing is the exception everywhere but in what is rebuilt or has blanks
        if kind not in ("index", "settings"):
            assert seen[kind, FOUND] >= 0.9 * flips / len(kinds), seen


def test_without_checks_flips_are_read(world: World, tmp_path: Path) -> None:
    """The campaign sees what is wrong: with `check=False`, flipped rows come as numbers."""
    copy = Path(shutil.copytree(world.layout.folder, tmp_path / "tiny"))
    part = sorted((copy / "features").glob("singles-*/*.h5"))[0]
    content = bytearray(part.read_bytes())
    content[read_layout(part).extents["arrays/mean"].offset_bytes + 5] ^= 1
    part.write_bytes(content)
    store = FeatureStore(copy, check=False)["singles"]
    assert any(store[i].track().digest() != store.entry(i).digest for i in store)

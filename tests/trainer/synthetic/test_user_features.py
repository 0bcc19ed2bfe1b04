"""The planted store holds what it says: PHD2's timing, tastes in the marks, a signal that simple
rankers can find.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from pipeline.datasets.readers.phd2 import read_phd2_catalog
from storage.catalog.catalog import read_catalog
from storage.features.store import FeatureStore
from trainer.data import DataSettings, HighlightData, Loader, LoaderSettings, open_data
from trainer.data.sources.intervals import covered_seconds
from trainer.synthetic.feature_generator import LATENT
from trainer.synthetic.user_features import (
    SyntheticUserSettings,
    Timing,
    published_timing,
    synthesize_users,
    timing_of,
)

KEY = "c3d/pool5"
SETTINGS = SyntheticUserSettings(
    seed=1, train_users=40, test_users=120, max_videos=8, fewest_tastes=2
)
SMALL = SyntheticUserSettings(
    seed=4, train_users=3, test_users=2, max_videos=3, with_frames=True, lost_share=0.2
)
Features = NDArray[np.float32]
Truth = NDArray[np.bool_]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize_users(tmp_path_factory.mktemp("data"), SETTINGS)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize_users(tmp_path_factory.mktemp("data"), SMALL)


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "sources" / name).open() as file:
        return list(csv.DictReader(file))


def opened(folder: Path, whose: str = "own") -> HighlightData:
    return open_data(folder, DataSettings((KEY,), "segment", "shots", holdout_users=1, whose=whose))  # type: ignore[arg-type]


def samples(
    data: HighlightData, split: str, *, training: bool = False
) -> Iterator[tuple[Features, Truth, Features]]:
    """Segments, which of them a user marked (at least half as much as the most marked one),
    history.
    """
    dataset = data.training() if training else data.scoring(split)  # type: ignore[arg-type]
    for batch, _, examples in Loader(dataset, LoaderSettings(1)):
        covered = covered_seconds(
            batch.spans[0].numpy(),
            data.required_user_labels.highlights(examples[0].user_id, examples[0].video_id),
        )
        truth = covered >= max(covered.max() / 2, 1e-9)
        yield batch.features[KEY][0].numpy(), truth, batch.history[KEY][batch.history_mask].numpy()


@pytest.fixture(scope="module")
def precisions(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Ranker → average precision on segments, for each test user with a history."""
    train = list(samples(opened(folder), "train", training=True))
    segments, positive = (
        np.concatenate([x for x, _, _ in train]),
        np.concatenate([y for _, y, _ in train]),
    )
    centre = segments.mean(axis=0)
    spread = np.cov(segments.T) + 0.01 * np.eye(segments.shape[1])
    generic = np.linalg.solve(
        spread, segments[positive].mean(axis=0) - segments[~positive].mean(axis=0)
    )
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    tests = [list(samples(opened(folder, whose), "test")) for whose in ("own", "other")]
    for (target, truth, own), (_, _, other) in zip(*tests, strict=True):
        if truth.any() and len(own) and len(other):
            scores = {"random": rng.random(len(truth)), "generic": (target - centre) @ generic}
            for whose, history in (("own", own), ("other", other)):
                near = cosines(target - centre, history - centre)
                scores |= {f"mean {whose}": near.mean(axis=1), f"closest {whose}": near.max(axis=1)}
                scores[f"generic and closest {whose}"] = scaled(scores["generic"]) + scaled(
                    near.max(axis=1)
                )
            for name, values in scores.items():
                found.setdefault(name, []).append(float(average_precision_score(truth, values)))
    return {name: np.array(values) for name, values in found.items()}


def cosines(some: Features, others: Features) -> Features:
    lengths = np.linalg.norm(some, axis=1)[:, None] * np.linalg.norm(others, axis=1)[None]
    return np.asarray(some @ others.T / lengths)


def scaled(values: Features) -> Features:
    return np.asarray((values - values.mean()) / (values.std() + 1e-9))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("generic", "random"),
        ("generic and closest own", "generic"),
        ("closest own", "mean own"),
        ("generic and closest own", "generic and closest other"),
    ],
)
def test_what_was_planted_can_be_found(
    precisions: dict[str, NDArray[np.float64]], better: str, worse: str
) -> None:
    gains = precisions[better] - precisions[worse]
    assert len(gains) > 100
    assert gains.mean() > 3 * gains.std(ddof=1) / np.sqrt(len(gains)), (
        f"{gains.mean():.3f} over {len(gains)} users"
    )


def test_histories_of_others_take_the_gain_away(precisions: dict[str, NDArray[np.float64]]) -> None:
    gain = (precisions["generic and closest own"] - precisions["generic"]).mean()
    rest = (precisions["generic and closest other"] - precisions["generic"]).mean()
    assert rest < 0.4 * gain


def test_marks_lie_in_scenes_of_kinds_the_user_likes(folder: Path) -> None:
    tastes: dict[str, set[str]] = {}
    everybodys = {
        " ".join(f"{place == axis:.3f}" for place in range(LATENT))
        for axis in (LATENT - 2, LATENT - 1)
    }
    for row in table(folder, "tastes.csv"):
        tastes.setdefault(row["user_id"], set(everybodys)).add(row["kind"])
    scenes: dict[str, list[tuple[float, float, str]]] = {}
    for row in table(folder, "scenes.csv"):
        scenes.setdefault(row["video_id"], []).append(
            (float(row["start"]), float(row["end"]), row["kind"])
        )
    catalog = read_catalog(folder)
    for mark in catalog.annotations:
        (kind,) = (
            kind
            for start, end, kind in scenes[mark.video_id]
            if start - 0.02 <= mark.start < end - 0.02
        )
        assert kind in tastes[mark.annotator]
        assert (
            mark.end
            <= max(end for start, end, _ in scenes[mark.video_id] if start - 0.02 <= mark.start)
            + 0.1
        )
    owner = {link.video_id: link.user_id for link in catalog.links}
    liked = {
        video: sum(kind in tastes[owner[video]] for *_, kind in found)
        for video, found in scenes.items()
    }
    marked = {
        video: sum(mark.video_id == video for mark in catalog.annotations) for video in scenes
    }
    assert liked == marked  # no liked scene is left unmarked
    assert {len(kinds) - 2 for kinds in tastes.values()} == {2, 3}


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Timing:
    return timing_of(read_phd2_catalog({"test": shared_data / "phd2" / "testing.csv"}))


def test_timing_is_that_of_the_published_table(real: Timing) -> None:
    ours = published_timing()
    assert np.median(ours.gif_seconds) == pytest.approx(np.median(real.gif_seconds), rel=0.05)
    assert ours.gif_seconds.mean() == pytest.approx(real.gif_seconds.mean(), rel=0.1)
    assert np.median(ours.history_videos) == pytest.approx(np.median(real.history_videos), abs=1)
    assert np.median(ours.video_seconds) == pytest.approx(186.5, rel=0.05)
    assert ours.video_seconds.mean() == pytest.approx(235, rel=0.05)


def test_planting_with_the_timing_of_a_real_catalog(real: Timing, tmp_path: Path) -> None:
    folder = synthesize_users(
        tmp_path, SyntheticUserSettings(train_users=2, test_users=1, max_videos=2), real
    )
    known = {video.claimed_duration_seconds for video in read_catalog(folder).videos}
    assert known <= set(np.ceil(real.video_seconds))


def test_planting_twice_changes_nothing_and_another_seed_changes_all(
    small: Path, tmp_path: Path
) -> None:
    again = synthesize_users(tmp_path, SMALL)
    for name in ("c3d", "yolov5", "keypoint_rcnn"):
        assert FeatureStore(again)[name].digest() == FeatureStore(small)[name].digest()
        assert FeatureStore(again)[name].fingerprint == FeatureStore(small)[name].fingerprint
    files = {path: path.stat().st_mtime_ns for path in again.rglob("*.h5")}
    synthesize_users(tmp_path, SMALL)
    assert {path: path.stat().st_mtime_ns for path in again.rglob("*.h5")} == files
    other = synthesize_users(
        tmp_path / "other", SyntheticUserSettings(seed=5, train_users=3, test_users=2, max_videos=3)
    )
    assert not {v.video_id for v in read_catalog(other).videos} & {
        v.video_id for v in read_catalog(small).videos
    }


def test_every_report_can_say_that_it_is_planted(small: Path) -> None:
    assert read_catalog(small).origin["reader"] == "planted:4"
    for name in ("c3d", "yolov5", "keypoint_rcnn"):
        reader = FeatureStore(small)[name]
        assert reader.settings["weights"] == "planted:4"
        assert {str(made["weights"]) for made in reader.provenance.values()} == {"planted:4"}
    (note,) = opened(small).scoring("test").notes
    assert "planted:4" in note


def test_some_videos_are_gone_in_every_variant(small: Path) -> None:
    gone = [
        {v for v, status in FeatureStore(small)[name].statuses.items() if status.reason}
        for name in ("c3d", "yolov5")
    ]
    assert gone[0] == gone[1]
    assert 0 < len(gone[0]) < len(read_catalog(small).videos)


def test_frames_have_the_forms_of_the_real_extractors_and_the_same_signal(small: Path) -> None:
    arrays = ("yolov5/p5", "keypoint_rcnn/joints", "keypoint_rcnn/joint_features")
    items = {key: 3 for key in arrays if key.startswith("keypoint")}
    data = open_data(small, DataSettings(arrays, "row", "clips", max_items=items, holdout_users=1))
    assert data.shapes == {arrays[0]: (8, 2, 2), arrays[1]: (3, 17, 3), arrays[2]: (3, 17, 8)}
    kinds: dict[str, list[NDArray[Any]]] = {}
    scenes = table(small, "scenes.csv")
    for batch, _, examples in Loader(data.training(), LoaderSettings(1)):
        mine = [row for row in scenes if row["video_id"] == examples[0].video_id]
        middles = batch.spans[0].mean(dim=1).numpy()
        for row in mine:
            inside = (middles >= float(row["start"])) & (middles < float(row["end"]))
            maps = batch.features[arrays[0]][0].reshape(len(middles), -1).numpy()[inside]
            if len(maps) > 4:
                kinds.setdefault(row["kind"], []).append(maps.mean(axis=0))
    same = [
        np.linalg.norm(a - b)
        for found in kinds.values()
        for a in found
        for b in found
        if a is not b
    ]
    centres = [np.mean(found, axis=0) for found in kinds.values()]
    other = [np.linalg.norm(a - b) for a in centres for b in centres if a is not b]
    assert np.median(other) > 1.2 * np.median(same)


@pytest.mark.parametrize(
    "change",
    [{"fewest_tastes": 0}, {"most_tastes": 4}, {"noise": -1}, {"lost_share": 1.0}, {"width": 0}],
)
def test_settings_that_plant_nothing_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        SyntheticUserSettings(**change)  # type: ignore[arg-type]

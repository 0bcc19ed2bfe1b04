"""PHD2's protocol: segments give what frames give, every user is accounted for, chance gets its
published row.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from storage.base.errors import SettingsError
from storage.base.records import Annotation, Link, User, Video
from storage.catalog.catalog import Catalog
from storage.scores import ScoreTrack
from trainer.evaluation.baselines import BASELINES, baseline_tracks
from trainer.evaluation.phd2_protocol import (
    PER_FRAME,
    Targets,
    evaluate,
    find_targets,
    scored_durations,
)
from trainer.evaluation.statistics import Evaluation, confidence_intervals
from trainer.metrics.ranking import interpolated_ap, nmsd, precision_recall_curve

SEEDS = 4
TOLERANCE = 4.5
"""Standard deviations of a mean of so many seeds. The published row is one run of the authors' own
dice.
"""
PUBLISHED = {"ap": (0.1297, 0.0025), "nmsd": (0.5060, 0.0093), "recall_at_5": (0.2138, 0.0090)}
"""PHD-GIFs, table 1, Random; and the standard deviation of one run, measured over 20 seeds."""


def catalog(
    marks: Iterable[Annotation], durations: dict[str, float | None], time_unit: str = "seconds"
) -> Catalog:
    rows = tuple(marks)
    pairs = {(row.annotator, row.video_id) for row in rows}
    return Catalog(
        name="tiny",
        videos=tuple(Video(video_id, seconds) for video_id, seconds in durations.items()),
        users=tuple(User(user, "test") for user in {user for user, _ in pairs}),
        links=tuple(Link(user, video_id, "target") for user, video_id in pairs),
        annotations=rows,
        shard_count=1,
        time_unit=time_unit,
    )


def track(
    user: str, video_id: str, seconds: float, spans: list[list[float]], scores: list[float]
) -> ScoreTrack:
    return ScoreTrack(
        user, video_id, seconds, np.array(spans, np.float64), np.array(scores, np.float32)
    )


def test_segments_give_what_frames_give() -> None:
    """One user with three marks, two of which overlap and one of which overruns the video; every
    frame spelled out.
    """
    spans = [[3.0, 8.0], [6.0, 11.0], [29.0, 99.0]]
    made = catalog([Annotation("v", "u", start, end) for start, end in spans], {"v": 32.4})
    asked = find_targets(made, "test")
    scores = np.random.default_rng(0).random(7).astype(np.float32)
    tracks = {
        ("u", "v"): track(
            "u", "v", 32.4, asked.known["u", "v"].grid.spans.tolist(), scores.tolist()
        )
    }
    found = evaluate(asked, tracks).values
    instants = (np.arange(162) + 0.5) / 5
    frame_scores = scores[(instants // 5).astype(int)].astype(np.float64)
    marks = [((start <= instants) & (instants < end)).astype(int) for start, end in spans]
    union = np.max(marks, axis=0)
    assert found["ap"][0] == pytest.approx(
        interpolated_ap(precision_recall_curve(frame_scores, union))
    )
    assert found["ap_step"][0] == pytest.approx(average_precision_score(union, frame_scores))
    assert found["nmsd"][0] == pytest.approx(nmsd(frame_scores, union))
    alone = [nmsd(frame_scores, mark) for mark in marks]
    assert found["nmsd_mean"][0] == pytest.approx(np.mean(alone))
    assert found["nmsd_best"][0] == pytest.approx(min(alone))
    best = np.argsort(-scores, kind="stable")[:5]
    assert found["recall_at_5"][0] == pytest.approx(
        union[np.isin(instants // 5, best)].sum() / union.sum()
    )


def test_every_user_is_measured_or_dropped_for_a_reason() -> None:
    marks = [Annotation(f"v{number}", f"u{number}", 2.0, 4.0) for number in range(5)]
    marks[1] = Annotation("v1", "u1", 50.0, 60.0)
    asked = find_targets(
        catalog(marks, {"v0": 20.0, "v1": 20.0, "v2": None, "v3": 20.0, "v4": 20.0}), "test"
    )
    tracks = {("u0", "v0"): track("u0", "v0", 20.0, [[0, 20]], [1])}
    found = evaluate(asked, tracks, {("u3", "v3"): "no_features"})
    assert found.ids == ("u0",)
    assert found.dropped == {
        "u1": "empty_truth",
        "u2": "unknown_duration",
        "u3": "no_features",
        "u4": "no_scores",
    }


def test_a_decoded_duration_goes_before_a_claimed_one() -> None:
    made = catalog([Annotation("v", "u", 2.0, 4.0)], {"v": 20.0})
    tracks = [track(user, "v", 31.0, [[0, 31]], [1]) for user in ("u", "w")]
    assert (
        len(find_targets(made, "test", durations=scored_durations(tracks)).known["u", "v"].frames)
        == 7
    )
    with pytest.raises(ValueError, match=r"31\.0 s in one track, 30\.0 s"):
        scored_durations([*tracks, track("x", "v", 30.0, [[0, 30]], [1])])
    assert len(find_targets(made, "test").known["u", "v"].frames) == 4


def test_scores_for_everybody_serve_every_user() -> None:
    made = catalog(
        [Annotation("v", "u1", 0.0, 5.0), Annotation("v", "u2", 10.0, 15.0)], {"v": 20.0}
    )
    everybody = track("", "v", 20.0, [[0, 5], [5, 10], [10, 15], [15, 20]], [4, 3, 2, 1])
    found = evaluate(find_targets(made, "test"), {("", "v"): everybody})
    assert dict(zip(found.ids, found.values["ap"], strict=True)) == {
        "u1": 1,
        "u2": pytest.approx(1 / 3),
    }
    own = track("u2", "v", 20.0, [[10, 15], [0, 10], [15, 20]], [1, 0, 0])
    found = evaluate(find_targets(made, "test"), {("", "v"): everybody, ("u2", "v"): own})
    assert found.values["ap"].tolist() == [1, 1]


def test_what_cannot_be_asked_is_refused() -> None:
    made = catalog([Annotation("v", "u", 2.0, 4.0)], {"v": 20.0})
    with pytest.raises(SettingsError, match=r"has no targets in the split .*; its users: test"):
        find_targets(made, "validation")
    with pytest.raises(SettingsError, match="in frames"):
        find_targets(catalog([Annotation("v", "u", 2.0, 4.0)], {"v": 20.0}, "frames"), "test")


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Targets:
    from pipeline.datasets.readers.phd2 import read_phd2_catalog

    return find_targets(read_phd2_catalog({"test": shared_data / "phd2" / "testing.csv"}), "test")


def chance(asked: Targets, seeds: int) -> list[Evaluation]:
    return [
        evaluate(asked, baseline_tracks(BASELINES["random"], asked, seed)) for seed in range(seeds)
    ]


def test_chance_gets_the_published_random_row(published: Targets) -> None:
    found = confidence_intervals(chance(published, SEEDS))
    assert (found["ap"].n, found["ap"].n_dropped) == (844, 6)
    for metric, (value, sd) in PUBLISHED.items():
        assert found[metric].mean == pytest.approx(
            value, abs=TOLERANCE * sd * np.hypot(1, SEEDS**-0.5)
        ), metric
    # Not interpolated, the published row would be 5 standard deviations away.
    assert abs(found["ap_uninterpolated"].mean - 0.1297) > TOLERANCE * 0.0025


@pytest.mark.slow
def test_twenty_seeds_of_chance(published: Targets) -> None:
    found = confidence_intervals(chance(published, 20))
    assert found["ap"].mean == pytest.approx(0.126, abs=0.003)
    assert found["nmsd"].mean == pytest.approx(0.511, abs=0.009)
    assert found["recall_at_5"].mean == pytest.approx(0.213, abs=0.009)
    for metric, (_, sd) in PUBLISHED.items():
        assert found[metric].seed_sd == pytest.approx(sd, rel=0.5)


def test_a_score_for_every_frame_is_another_scale(shared_data: Path) -> None:
    """8.5 mAP and 48.1 nMSD where segments give 12.6 and 51.1: granularity alone does that."""
    from pipeline.datasets.readers.phd2 import read_phd2_catalog

    made = read_phd2_catalog({"test": shared_data / "phd2" / "testing.csv"})
    asked = find_targets(made, "test", PER_FRAME)
    found = evaluate(asked, baseline_tracks(BASELINES["random"], asked))
    assert found.protocol == "phd2-frames/1"
    assert found.values["ap"].mean() == pytest.approx(0.085, abs=0.002)
    assert found.values["nmsd"].mean() == pytest.approx(0.481, abs=0.007)


def test_position_alone_beats_chance(published: Targets) -> None:
    """People mark early: whatever a model learns has to be shown beside this."""
    found = {
        name: evaluate(published, baseline_tracks(BASELINES[name], published))
        for name in ("early", "late")
    }
    means = {name: run.values["ap"].mean() for name, run in found.items()}
    assert means["early"] > means["late"] > 0.13

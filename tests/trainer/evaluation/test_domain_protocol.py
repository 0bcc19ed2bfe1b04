"""From scores to the numbers of catalogs of domains; chance and oracle on the real annotations, as
measured before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from storage.base.errors import SettingsError
from storage.base.paths import Layout
from storage.base.records import Annotation, Group, Video
from storage.catalog.catalog import Catalog, read_catalog, write_catalog
from storage.scores import Provenance, ScoreTrack, make_score_run
from tests.support.annotated_stores import write_domains
from tests.support.published_annotations import published
from trainer.__main__ import DONE, main
from trainer.data import DataSettings, open_data
from trainer.data.labels.annotator_labels import AnnotatorLabels
from trainer.data.labels.segment_times import SegmentTimes
from trainer.evaluation.baselines import video_ranker
from trainer.evaluation.domain_protocol import (
    all_domains,
    evaluate,
    evaluate_ranker,
    evaluated_videos,
    segment_scores,
    split_settings,
)
from trainer.evaluation.statistics import ConfidenceInterval, Evaluation
from trainer.evaluation.summary_protocol import (
    ReferenceSummaries,
    evaluate_summaries,
    fixed_length_shots,
    frame_scores_of,
    reference_summaries,
)
from trainer.paper_tables.domain_cells import merge_evaluations, metric_intervals
from trainer.paper_tables.published import Table, load_table
from trainer.paper_tables.reproduce import TableRequest, reproduce

SEEDS = 8
RANDOM_STEP_AP = {
    "dog": 0.450, "gymnastics": 0.653, "parkour": 0.468, "skating": 0.300, "skiing": 0.562, "surfing": 0.518,
}  # fmt: skip


def estimate(
    catalog: Catalog, ranker: str, split: str, keys: Sequence[str], seeds: int = SEEDS
) -> dict[str, ConfidenceInterval]:
    asked = evaluated_videos(catalog, split, split_settings(""))
    runs = [evaluate_ranker(asked, video_ranker(ranker, seed)) for seed in range(seeds)]
    return metric_intervals(
        Table("", "", "", dict.fromkeys(keys, ""), domains=all_domains(catalog)), runs
    )


def is_near(found: ConfidenceInterval, expected: float) -> bool:
    """Within sampling error: what was measured before came from one run, or a few."""
    assert found.seed_sd is not None
    return bool(abs(found.mean - expected) < 4 * found.seed_sd * np.hypot(1, SEEDS**-0.5))


def test_chance_on_youtube_highlights(shared_data: Path) -> None:
    keys = [
        *(f"ap_step:{domain}" for domain in RANDOM_STEP_AP),
        "ap_step",
        "ap_trapezoid",
        "ap_step@videos",
    ]
    found = estimate(published("youtube-highlights", shared_data).catalog, "random", "test", keys)
    for domain, expected in RANDOM_STEP_AP.items():
        assert is_near(found[f"ap_step:{domain}"], expected)
    assert is_near(found["ap_trapezoid"], 0.453)
    assert found["ap_step"].mean == pytest.approx(
        np.mean([found[f"ap_step:{one}"].mean for one in RANDOM_STEP_AP])
    )
    assert found["ap_step@videos"].n == found["ap_step"].n == 196
    assert found["ap_step:dog"].n == 25
    assert found["ap_step@videos"].mean > found["ap_step"].mean


def test_chance_and_oracle_on_tvsum(shared_data: Path) -> None:
    catalog = published("tvsum", shared_data).catalog
    keys = ("top5_half", "top5_median")
    chance = estimate(catalog, "random", "all", keys)
    best = estimate(catalog, "oracle", "all", keys, seeds=1)
    assert is_near(chance["top5_half"], 0.570)
    assert is_near(chance["top5_median"], 0.417)
    assert best["top5_half"].mean == pytest.approx(0.894, abs=0.002)
    assert best["top5_median"].mean == pytest.approx(0.808, abs=0.002)
    tested = estimate(catalog, "oracle", "test", keys, seeds=1)
    assert tested["top5_half"].n == 30
    assert tested["top5_half"].mean == pytest.approx(0.889, abs=0.002)


def test_the_oracle_is_right_where_there_is_one_truth(shared_data: Path) -> None:
    found = estimate(
        published("cosum", shared_data).catalog,
        "oracle",
        "all",
        ("top5_majority", "top5_each"),
        seeds=1,
    )
    # Of exca3's three shots no judge chose any, and it counts 0, as in MINI-Net's code: a third of
    # one domain of ten.
    assert found["top5_majority"].mean == pytest.approx(1 - 1 / 30)
    assert 0.9 < found["top5_each"].mean < 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_domains(tmp_path_factory.mktemp("domains"), absent=("dog01",))


def answered(folder: Path, domain: str) -> tuple[Evaluation, Catalog]:
    """An evaluation of scores that were drawn, clip by clip."""
    catalog, dice = read_catalog(folder), np.random.default_rng(0)
    store = open_data(folder, DataSettings(("c3d.segments/fc6",), "segment", "none", domain=domain))
    tracks = []
    for example in store.scoring("test").example_set.examples:
        spans = store.features.row_spans(example.video_id)
        scores = dice.random(len(spans)).astype(np.float32)
        tracks.append(ScoreTrack("", example.video_id, float(spans.max()), spans, scores))
    answers = make_score_run(Provenance("drawn"), tracks, {("", "dog01"): "unavailable:private"})
    asked = evaluated_videos(catalog, "test", split_settings(""), [domain])
    return evaluate(asked, answers, SegmentTimes(folder, catalog)), catalog


def test_a_video_s_number_is_scikit_learns_and_nobody_is_lost(folder: Path) -> None:
    found, catalog = answered(folder, "dog")
    assert found.ids == ("dog/dog03", "dog/dog05", "dog/dog07")
    assert found.dropped == {"dog/dog01": "unavailable:private"}
    dice = np.random.default_rng(0)
    for place, video in enumerate(("dog03", "dog05", "dog07")):
        marks = sorted((row.start, row.value) for row in catalog.annotations
                       if (row.video_id, row.annotator) == (video, "match"))  # fmt: skip
        scores = dice.random(len(marks)).astype(np.float32)
        expected = average_precision_score([value > 0 for _, value in marks], scores)
        assert found.values["ap_step"][place] == pytest.approx(expected)


def test_rows_of_other_spans_are_averaged_over_a_segment_by_time() -> None:
    spans = np.array([[0.0, 2.0], [2.0, 4.0], [4.0, 6.0]])
    track = ScoreTrack("", "v", 6.0, spans, np.array([1.0, 2.0, 4.0], np.float32))
    seconds = np.array([[0.0, 3.0], [3.0, 6.0], [np.nan, np.nan], [8.0, 9.0]])
    scores, places = segment_scores(track, seconds)
    assert places.tolist() == [0, 1]
    np.testing.assert_allclose(scores, [(2 * 1 + 2) / 3, (2 + 2 * 4) / 3])


def test_clips_that_overlap_keep_their_own_scores() -> None:
    seconds = np.array([[0.0, 4.0], [2.0, 6.0], [4.0, 8.0]])
    track = ScoreTrack("", "v", 6.0, seconds[:2], np.array([1.0, 2.0], np.float32))
    scores, places = segment_scores(track, seconds)
    assert (scores.tolist(), places.tolist()) == (
        [1.0, 2.0],
        [0, 1],
    )  # the third has no row, and no neighbour's score


def test_annotations_in_frames_need_rows_that_say_where_they_lie(
    folder: Path, tmp_path: Path
) -> None:
    catalog = read_catalog(folder)
    write_catalog(Layout(tmp_path, "domains"), catalog)
    places = SegmentTimes(tmp_path / "domains", catalog)
    judged = AnnotatorLabels(catalog, "dog").annotated_video("dog03")
    assert judged is not None
    assert not places.is_available
    with pytest.raises(SettingsError, match=r"c3d\.segments"):
        places.seconds("dog03", judged)


def test_a_segment_of_an_event_is_what_events_of_the_domain_cover() -> None:
    rows = [("sport/Run", 0.0, 3.0), ("sport/Jump", 2.0, 6.0), ("social/Chat", 6.0, 10.0)]
    catalog = Catalog(
        "activitynet",
        (Video("v", 12.0),),
        (),
        (),
        tuple(Annotation("v", *row) for row in rows),
        1,
        "seconds",
        {"reader": "ActivityNet"},
        (
            Group("domain", "sport", "v"),
            Group("domain", "social", "v"),
            Group("set_learning", "test", "v"),
        ),
    )
    sport = AnnotatorLabels(catalog, "sport").annotated_video("v")
    assert sport is not None
    np.testing.assert_allclose(sport.values[0], [1, (6 - 3.2) / 3.2, 0, 0], atol=1e-9)
    assert sport.positive.tolist() == [True, True, False, False]
    assert evaluated_videos(catalog, "test", split_settings("")).groups == {
        "social/v": "social",
        "sport/v": "sport",
    }
    with pytest.raises(SettingsError, match=r"data\.domain"):
        AnnotatorLabels(catalog, "")


def test_averages_stand_only_where_every_domain_has_a_number(folder: Path) -> None:
    (dog, _), (skiing, _) = (answered(folder, domain) for domain in ("dog", "skiing"))
    metrics = dict.fromkeys(("ap_step:dog", "ap_step", "ap_step@videos", "ap_step@columns"), "")
    both = Table("", "", "", metrics, domains=("dog", "skiing"))
    found = metric_intervals(both, [merge_evaluations([dog, skiing])])
    of_each = [run.values["ap_step"] for run in (dog, skiing)]
    assert (
        found["ap_step"].mean
        == found["ap_step@columns"].mean
        == pytest.approx(np.mean([v.mean() for v in of_each]))
    )
    assert found["ap_step@videos"].mean == pytest.approx(np.concatenate(of_each).mean())
    assert found["ap_step:dog"].n_dropped == 1
    assert list(metric_intervals(both, [dog])) == ["ap_step:dog"]


def test_the_command_has_a_line_for_each_domain(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["baselines", str(folder), "--seeds", "2"]) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == "domains, highlight-clips/1 on vlist_sel/test, percent, mean [95 % over videos]"
    )
    assert lines[1].startswith("videos: 12 of 12")
    named = {tuple(line.split()[:2]) for line in lines[3:]}
    assert {("random", "ap_step"), ("oracle", "ap_trapezoid"), ("early", "ap_step")} <= named
    assert sum("mean over videos" in line for line in lines) == len(named)


def test_summaries_of_summe(shared_data: Path) -> None:
    catalog = published("summe", shared_data).catalog
    ids = [video.video_id for video in catalog.videos][:6]
    truth = reference_summaries(catalog, ids, fixed_length_shots)
    dice = np.random.default_rng(0)

    def by_chance(video: ReferenceSummaries) -> NDArray[np.float64]:
        return np.repeat(dice.normal(size=len(video.edges) - 1), np.diff(video.edges))

    best, chance = (
        evaluate_summaries(catalog, truth, scores, "pieces").values["f_max"]
        for scores in (lambda video: video.ratings.mean(axis=0), by_chance)
    )
    assert len(best) == 6
    assert (best > chance).all()
    assert 0.1 < chance.mean() < 0.5 < best.mean() < 0.9  # chance is not 0 for scores below 0


def test_chance_stands_beside_published_f_scores(shared_data: Path, tmp_path: Path) -> None:
    catalog = published("summe", shared_data).catalog
    write_catalog(Layout(tmp_path, "summe"), catalog)
    rows = reproduce(TableRequest(load_table("mha-fusion-2"), tmp_path / "summe"))
    found = {row.row.name: row.intervals["f_max"] for row in rows if row.intervals}
    assert set(found) == {"(chance)", "(oracle)"}
    assert found["(chance)"].n == 25
    assert found["(chance)"].high < found["(oracle)"].low


def test_a_frame_has_the_mean_of_the_rows_that_cover_it_and_else_of_those_before() -> None:
    video = ReferenceSummaries(
        "v", 5.0, np.array([0, 10]), np.zeros((1, 10)), np.zeros((1, 10), np.bool_)
    )
    spans = np.array([[1.0, 3.0], [2.0, 4.0]])
    answers = make_score_run(
        Provenance("m"), [ScoreTrack("", "v", 5.0, spans, np.array([1.0, 3.0], np.float32))]
    )
    assert frame_scores_of(answers)(video).tolist() == [1, 1, 1, 1, 2, 2, 3, 3, 3, 3]
    with pytest.raises(LookupError, match="no_scores"):
        frame_scores_of(make_score_run(Provenance("m"), []))(video)

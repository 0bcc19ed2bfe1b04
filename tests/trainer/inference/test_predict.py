"""`python -m trainer predict` and `report`: the scores are those of scoring, the history is what
was told.
"""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.base.errors import LookupFailed, SettingsError
from trainer.__main__ import DONE, WRONG_USE, main
from trainer.config.recipe import load_recipe
from trainer.data.sources.intervals import Intervals
from trainer.evaluation.phd2_protocol import PHD2
from trainer.evaluation.time_grid import TimeGrid
from trainer.inference.predict import Prediction, UserHistory, parse_liked, predict, segment_grid
from trainer.inference.score_run import EvalRequest, score_split
from trainer.plots.timeline import draw_timeline, minutes_seconds
from trainer.synthetic.user_features import SyntheticUserSettings, Timing, synthesize_users
from trainer.training.fit import FitOptions, Run, TrainedModel, fit, load_trained_model

TIMING = Timing(
    np.array([41.0, 62.0, 83.0]), np.array([2.0, 4.0, 6.0]), np.array([1, 2]), np.array([2, 3])
)
PLANTED = SyntheticUserSettings(
    seed=1, train_users=8, test_users=3, max_videos=3, noise=0.5, width=16, lost_share=0
)
CHANGES = ("data.targets=every", "data.holdout_users=2", "training.epochs=1")
MODELS = ("pr_net", "phd_ca", "highlight_svm", "residual")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize_users(tmp_path_factory.mktemp("planted"), PLANTED, TIMING)


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, Path]:
    recipes = {name: load_recipe(name, changes=CHANGES, small=True) for name in MODELS}
    return {name: fit(Run(recipe, folder, 0), FitOptions()) for name, recipe in recipes.items()}


@pytest.fixture(scope="module")
def pr_net(folder: Path, models: dict[str, Path]) -> TrainedModel:
    return load_trained_model(models["pr_net"], folder, "cpu")


def targets(restored: TrainedModel) -> list[tuple[str, str]]:
    test = {user.user_id for user in restored.data.catalog.users if user.split == "test"}
    return [
        (link.user_id, link.video_id)
        for link in restored.data.catalog.links
        if link.role == "target" and link.user_id in test
    ]


def liked_of(restored: TrainedModel, user: str, but: str) -> dict[str, Intervals]:
    marks = restored.data.required_user_labels
    videos = {link.video_id for link in restored.data.catalog.links if link.user_id == user} - {but}
    return {video: marks.highlights(user, video) for video in sorted(videos)}


@pytest.mark.parametrize("name", ["pr_net", "phd_ca", "highlight_svm"])
def test_a_users_target_gets_the_scores_of_scoring(
    folder: Path, models: dict[str, Path], name: str
) -> None:
    tracks = score_split(EvalRequest(models[name], folder, "test"), device="cpu").tracks
    restored = load_trained_model(models[name], folder, "cpu")
    for user, video in targets(restored):
        track, found = tracks[user, video], predict(restored, video, UserHistory.of_user(user))
        grid = TimeGrid(track.duration_seconds, PHD2.segment_seconds, PHD2.frames_per_second)
        np.testing.assert_allclose(
            found.scores, grid.mean_scores(track.spans, track.scores.astype(float)), rtol=1e-5
        )
        np.testing.assert_array_equal(found.spans, grid.spans)
        np.testing.assert_array_equal(
            found.marked, restored.data.required_user_labels.highlights(user, video)
        )
        assert any("planted:1" in note for note in found.notes)
        assert "small widths: a trial, not a result" in found.notes


def test_somebody_who_likes_the_same_parts_gets_the_same_scores(pr_net: TrainedModel) -> None:
    user, video = targets(pr_net)[0]
    liked = liked_of(pr_net, user, video)
    known, told = (
        predict(pr_net, video, UserHistory.of_user(user)),
        predict(pr_net, video, UserHistory.from_clips(liked)),
    )
    np.testing.assert_allclose(told.scores, known.scores, rtol=1e-6)
    assert [(clip.video_id, clip.start) for clip in told.history] == [
        (clip.video_id, clip.start) for clip in known.history
    ]
    assert told.marked.shape == (0, 2)
    other = dict(list(liked.items())[:1])
    assert not np.allclose(
        predict(pr_net, video, UserHistory.from_clips(other)).scores, known.scores
    )


def test_each_liked_part_has_its_weight_in_each_segment(pr_net: TrainedModel) -> None:
    user, video = targets(pr_net)[0]
    found = predict(pr_net, video, UserHistory.of_user(user))
    marks = sum(len(intervals) for intervals in liked_of(pr_net, user, video).values())
    assert len(found.history) == marks > 1
    weights = np.stack([clip.weights["attention"] for clip in found.history])
    assert weights.shape == (marks, len(found.scores))
    np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-5)
    for clip in found.history:
        inside = [
            b > clip.start and a < clip.end for a, b in liked_of(pr_net, user, video)[clip.video_id]
        ]
        assert any(inside)


def test_nobody_in_particular_is_told_so(pr_net: TrainedModel) -> None:
    _, video = targets(pr_net)[0]
    found = predict(pr_net, video, UserHistory())
    assert found.history == ()
    assert any("the history is empty" in note for note in found.notes)
    assert not any("left out" in note for note in found.notes)


def test_liked_parts_of_the_video_itself_are_left_out_and_that_is_told(
    pr_net: TrainedModel,
) -> None:
    _, video = targets(pr_net)[0]
    found = predict(pr_net, video, UserHistory.from_clips({video: np.array([[0.0, 1.0]])}))
    assert found.history == ()
    assert any(f"liked parts of {video} are left out" in note for note in found.notes)


def prediction(scores: list[float], end: float) -> Prediction:
    spans = TimeGrid(end, 5.0, 5.0).spans
    return Prediction("v", "", "m", "", spans, np.array(scores), np.zeros((0, 2)), (), ())


def test_the_best_segments_in_the_order_of_time() -> None:
    found = prediction([0.1, 0.9, 0.9, 0.0, 0.5, 0.2], 28.0)
    assert found.ranks == (5, 1, 2, 6, 3, 4)
    assert found.best(15.0) == [(5.0, 15.0), (20.0, 25.0)]
    assert found.best(17.9) == [(5.0, 15.0), (20.0, 25.0)]
    assert found.best(18.0) == [(5.0, 15.0), (20.0, 28.0)]
    assert found.best(1.0) == [(5.0, 10.0)]


def test_a_reel_that_is_shorter_than_asked_says_why() -> None:
    """Segments of 5, 5 and 3.87 seconds, the last one best."""
    found = prediction([0.1, 0.2, 0.9], 13.87)
    assert found.describe_length(10) == (
        "8.87 of at most 10 seconds: the next best segment, of 5.00 seconds, does not fit, and segments are not cut"
    )
    assert found.describe_length(8.87) == "8.87 of at most 8.87 seconds"
    assert found.describe_length(60) == "13.87 of at most 60 seconds: the video has no more"
    assert (
        found.describe_length(2)
        == "3.87 of at most 2 seconds: the best segment is longer, and segments are not cut"
    )


@pytest.mark.parametrize("seconds", [1 / 60, 1 / 12, 0.5 / PHD2.frames_per_second])
def test_a_video_too_short_for_a_segment_is_told(seconds: float) -> None:
    with pytest.raises(
        SettingsError, match=r"brief has features of .* seconds, and no segment lies in"
    ):
        segment_grid("brief", np.array([[0.0, seconds]]))


def test_the_shortest_video_has_one_segment() -> None:
    seconds = 0.6 / PHD2.frames_per_second
    assert segment_grid("brief", np.array([[0.0, seconds]])).spans.tolist() == [[0.0, seconds]]


def test_a_timeline_is_a_picture() -> None:
    for scores in ([0.1, 0.9, 0.4], [0.0, 0.0, 0.0]):
        with Image.open(io.BytesIO(draw_timeline(prediction(scores, 13.0)))) as picture:
            assert min(picture.size) > 200
    assert [minutes_seconds(seconds) for seconds in (0, 65, 61.94)] == ["0:00", "1:05", "1:01.9"]


@pytest.mark.parametrize(
    "text", ["abc", "abc:3", "abc:4-3", "abc:3-3", "abc:-1-3", "a b:1-2", "abc:1-2s"]
)
def test_liked_parts_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="a liked part is VIDEO_ID:START-END"):
        parse_liked([text])


def test_liked_parts_that_overlap_are_one() -> None:
    found = parse_liked(["-x_1:3-5.5", "-x_1:5-7", "b:0-1"])
    assert {video: parts.tolist() for video, parts in found.items()} == {
        "-x_1": [[3.0, 7.0]],
        "b": [[0.0, 1.0]],
    }


def test_what_cannot_be_asked_is_told(
    folder: Path, models: dict[str, Path], pr_net: TrainedModel
) -> None:
    user, video = targets(pr_net)[0]
    with pytest.raises(LookupFailed, match="nosuch has no features here"):
        predict(pr_net, "nosuch", UserHistory())
    with pytest.raises(LookupFailed, match="has no user 'nobody'"):
        predict(pr_net, video, UserHistory.of_user("nobody"))
    history = next(iter(liked_of(pr_net, user, video)))
    with pytest.raises(SettingsError, match=r"ends at .* 500-501 is not in it"):
        predict(pr_net, video, UserHistory.from_clips(parse_liked([f"{history}:500-501"])))
    svm = load_trained_model(models["highlight_svm"], folder, "cpu")
    with pytest.raises(SettingsError, match="uses no history"):
        predict(svm, video, UserHistory.from_clips(parse_liked([f"{history}:1-2"])))
    with pytest.raises(SettingsError, match="fits weights for each user"):
        predict(
            load_trained_model(models["residual"], folder, "cpu"), video, UserHistory.of_user(user)
        )


def test_the_command_tells_draws_and_keeps(
    folder: Path, models: dict[str, Path], pr_net: TrainedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    user, video = targets(pr_net)[0]
    assert (
        main(
            [
                "predict",
                str(models["pr_net"]),
                str(folder),
                "--user",
                user,
                "--top",
                "2",
                "--",
                video,
            ]
        )
        == DONE
    )
    told = capsys.readouterr().out
    assert len(re.findall(r" \*$", told, re.MULTILINE)) == 2
    kept = json.loads(Path(re.findall(r"^json +(.+)$", told, re.MULTILINE)[0]).read_text())
    found = predict(pr_net, video, UserHistory.of_user(user))
    assert [segment["score"] for segment in kept["segments"]] == found.scores.tolist()
    assert kept["history"][0]["weights"]["attention"]
    with Image.open(re.findall(r"^picture +(.+)$", told, re.MULTILINE)[0]) as picture:
        assert picture.format == "PNG"
    asked = ["predict", str(models["pr_net"]), str(folder), video]
    assert main([*asked, "--user", user, "--history", f"{video}:1-2"]) == WRONG_USE
    assert main([*asked, "--top", "0"]) == WRONG_USE


@pytest.mark.parametrize("count", ["0", "-1", "-5"])
def test_a_report_of_nobody_is_refused(
    folder: Path, models: dict[str, Path], capsys: pytest.CaptureFixture[str], count: str
) -> None:
    assert main(["report", str(models["pr_net"]), str(folder), "--count", count]) == WRONG_USE
    assert f"--count must be at least 1, got {count}" in capsys.readouterr().err


def test_a_report_shows_users_from_the_best_to_the_worst(
    folder: Path, models: dict[str, Path], pr_net: TrainedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(models["pr_net"]), str(folder), "--count", "2"]) == DONE
    page = Path(re.findall(r"^page +(.+)$", capsys.readouterr().out, re.MULTILINE)[0]).read_text()
    precisions = [float(number) for number in re.findall(r"average precision ([\d.]+) %", page)]
    assert precisions == sorted(precisions, reverse=True)
    pictures = [
        base64.b64decode(text) for text in re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    ]
    assert len(pictures) == len(precisions) == 2
    assert "planted:1" in page
    assert "eq. 8 is read with a logarithm" in page
    user = targets(pr_net)[-1][0]
    assert main(["report", str(models["pr_net"]), str(folder), "--users", user]) == DONE
    assert (
        f"user {user}, video"
        in Path(re.findall(r"^page +(.+)$", capsys.readouterr().out, re.M)[0]).read_text()
    )
    assert main(["report", str(models["pr_net"]), str(folder), "--users", "nobody"]) == WRONG_USE

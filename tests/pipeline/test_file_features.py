"""Features of one file in memory are those that a build stores, and nothing is left behind."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.extractors.registry import EXTRACTORS
from models.settings_binding import bind
from pipeline import extract_features, file_features
from pipeline.decoding.events import Event
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.extraction.variant import Variant
from pipeline.file_features import FileFeatures, NoFeatures
from pipeline.media.media_file import Media, digest
from pipeline.sampling.planner import VideoSampling
from storage.base.errors import SettingsError, VideoError
from storage.base.paths import Layout
from storage.features.store import FeatureStore
from tests.support.plugins import MEAN_COLOUR, install
from tests.support.videos import coded_video

YOLO = {"size": "n", "input_pixels": 64, "frames_per_second": 5.0, "arrays": ["p5", "detections"]}
SETTINGS: dict[str, dict[str, Any]] = {"yolov5": YOLO, "frames": {"frames_per_second": 2.0}}
RANDOM = {"yolov5": "random:3"}


@pytest.fixture(autouse=True)
def _self_test_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The known outputs of networks have tests of their own, and take seconds."""
    monkeypatch.setattr(file_features, "run_self_test", lambda *_: None)
    file_features._pass_self_test.cache_clear()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coded_video(tmp_path_factory.mktemp("videos") / "-clip_1.mp4", 24)


def built(root: Path, video: Path, weights: str) -> FeatureStore:
    """A store of the one video, made by the code of builds."""
    variants = []
    for name, given in SETTINGS.items():
        spec = EXTRACTORS[name]
        settings = bind(spec.settings_type, given).settings
        variants.append(Variant(name, spec, settings, weights if spec.needs_weights else ""))
    layout = Layout(root, "tiny")
    media = Media(video, digest(video), video.stat().st_size)
    with SubprocessDecoder() as decoder:
        process_shard(
            ShardJob(layout, 0, (video.stem,), tuple(variants), 10**6),
            fetch=lambda *_: media, decoder=decoder, device="cpu", on_video=lambda *_: None,
        )  # fmt: skip
    return FeatureStore(layout.folder)


def extracted(video: Path, **options: Any) -> FileFeatures:
    arguments: dict[str, Any] = {"weights": RANDOM, "settings": SETTINGS, "device": "cpu"}
    return extract_features(video, [*SETTINGS], **{**arguments, **options})


def contents(*folders: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


def test_rows_are_those_of_a_store_bit_for_bit(tmp_path: Path, video: Path) -> None:
    store, found = built(tmp_path, video, RANDOM["yolov5"]), extracted(video)
    assert list(found) == ["yolov5", "frames"]
    for name, track in found.items():
        stored = store[name]["-clip_1"].track()
        assert track.rows > 1
        # The digest is over the id, the spans and every array with its dtype and shape.
        assert track.digest() == stored.digest()
        assert found.full_names[name] == store[name].name
        assert found.descriptions[name] == store[name].settings
        entry = store[name].entry("-clip_1")
        assert found.facts["source"] == entry.facts["source"]


def test_the_settings_of_a_store_can_be_given_as_they_are(tmp_path: Path, video: Path) -> None:
    store = built(tmp_path, video, RANDOM["yolov5"])
    settings = {name: store[name].settings["settings"] for name in SETTINGS}
    found = extracted(video, settings=settings)
    assert set(found.full_names.values()) == set(store.variants())


def test_one_decode_in_a_child_feeds_all(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int | None] = []

    class Watched(SubprocessDecoder):
        def decode(
            self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
        ) -> Generator[Event, None, None]:
            assert len(samplings) == 2
            for number, event in enumerate(super().decode(video_id, path, samplings)):
                if number == 0:
                    pids.append(self.pid)
                yield event

    monkeypatch.setattr(file_features, "SubprocessDecoder", Watched)
    extracted(video)
    (pid,) = pids
    assert pid is not None
    assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def weights_file(folder: Path) -> Path:
    """Weights of the network that `random:3` gives, as a file."""
    import torch

    from models.extractors.yolov5.network import YOLOv5
    from models.extractors.yolov5.settings import SIZES, YOLOv5Settings
    from models.extractors.yolov5.weights import initialise

    network = YOLOv5(SIZES["n"], YOLOv5Settings().release)
    initialise(network, 3)
    folder.mkdir()
    torch.save(network.state_dict(), folder / "yolov5n.pt")
    return folder / "yolov5n.pt"


def test_a_weights_file_is_read_and_nothing_is_written(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, work = tmp_path / "scratch", tmp_path / "work"
    scratch.mkdir()
    work.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(work)
    weights = weights_file(tmp_path / "weights")
    before = contents(tmp_path, video.parent)
    found = extracted(video, weights={"yolov5": weights})
    after = contents(tmp_path, video.parent)
    assert {path: after.get(path) for path in before if path != scratch} == {
        path: time for path, time in before.items() if path != scratch
    }
    assert after.keys() == before.keys()
    assert found.marks == ()
    assert found.descriptions["yolov5"]["weights"] == f"sha256:{digest(weights)}"
    # The same numbers as from the seed that made the file, under another name.
    random = extracted(video)
    assert found["yolov5"].digest() == random["yolov5"].digest()
    assert found.full_names["yolov5"] != random.full_names["yolov5"]


def test_another_file_under_the_same_name_is_another_network(tmp_path: Path, video: Path) -> None:
    import torch

    weights = weights_file(tmp_path / "weights")
    first = extracted(video, weights={"yolov5": weights})
    tensors = torch.load(weights, weights_only=True)
    torch.save({name: tensor * 0.5 for name, tensor in tensors.items()}, weights)
    assert extracted(video, weights={"yolov5": weights})["yolov5"].digest() != (
        first["yolov5"].digest()
    )


def test_random_weights_are_asked_for_and_marked(video: Path) -> None:
    with pytest.raises(SettingsError, match="yolov5: it needs weights="):
        extract_features(video, ["yolov5"])
    (mark,) = extracted(video).marks
    assert mark.startswith("yolov5-")
    assert "random:3 weights: no result about real videos" in mark


def test_all_wrong_arguments_are_named_at_once(tmp_path: Path, video: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        extract_features(
            tmp_path / "none.mp4", ["c3d", "yolo", "frames", "../x"],
            weights={"frames": "random:0", "c3d": "none.pickle"},
            settings={"tased": {}, "frames": {"quality_": 3}},
            device="tpu", backend="vlc", limits={"max_second": 3.0}, video_id="a b",
        )  # fmt: skip
    message = str(caught.value)
    for part in (
        "there is no file", "unknown extractor 'yolo'; choose one of c3d", "got '../x'",
        "there is no weights file 'none.pickle'", "settings names 'tased'", "quality_ is not",
        "device must be", "backend must be one of", "did you mean max_seconds?", "a video id is",
    ):  # fmt: skip
        assert part in message
    with pytest.raises(SettingsError, match="takes no weights"):
        extract_features(video, ["frames"], weights={"frames": "random:0"})
    with pytest.raises(SettingsError, match="each once; got frames, frames"):
        extract_features(video, ["frames", "frames"])


def test_rows_of_segments_need_a_catalog(video: Path) -> None:
    with pytest.raises(SettingsError, match="a row for each annotated segment"):
        extract_features(
            video, ["c3d"], weights={"c3d": "random:0"}, settings={"c3d": {"sampling": "segments"}}
        )


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, video: Path) -> None:
    text = tmp_path / "page.mp4"
    text.write_text("<html>this is no video</html>")
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(video.read_bytes()[:600])
    for path, reason in ((text, "not_a_video"), (damaged, "")):
        with pytest.raises(NoFeatures) as caught:
            extract_features(path, ["frames"])
        error = caught.value
        assert isinstance(error, VideoError)
        assert str(error).startswith(f"{path} gives no frames: rejected:{reason}")
        assert error.extractors == ("frames",)
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own
        assert (str(copy), copy.status) == (str(error), error.status)


def test_an_extractor_without_a_row_is_named(video: Path, tmp_path: Path) -> None:
    short = coded_video(tmp_path / "short.mp4", 5)
    with pytest.raises(NoFeatures, match="gives no c3d: rejected:too_short") as caught:
        extract_features(
            short, ["frames", "c3d"], weights={"c3d": "random:0"}, device="cpu",
            settings={"c3d": {"arrays": ["fc6"]}},
        )  # fmt: skip
    assert caught.value.extractors == ("c3d",)


def test_limits_hold(video: Path) -> None:
    with pytest.raises(NoFeatures, match="rejected:too_long"):
        extract_features(video, ["frames"], limits={"max_seconds": 1.0})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("clip.mp4", "clip"), ("a b (1).MP4", "a-b-1-"), ("日本.mp4", "-"), ("x" * 90, "x" * 64)],
)
def test_the_id_is_what_is_valid_of_the_name(
    tmp_path: Path, video: Path, name: str, expected: str
) -> None:
    path = tmp_path / name
    path.hardlink_to(video)
    assert extract_features(path, ["frames"])["frames"].video_id == expected
    assert extract_features(path, ["frames"], video_id="-mine")["frames"].video_id == "-mine"


def test_a_second_group_of_settings_is_another_extractor(video: Path) -> None:
    found = extract_features(
        video, ["frames", "frames.dense"], settings={"frames.dense": {"frames_per_second": 5.0}}
    )
    assert found["frames.dense"].rows > found["frames"].rows


def test_an_extractor_of_another_package_works(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(
        tmp_path, "my-colours", "2.0", "video_highlights.extractors",
        "mean_colour = vh_colours_of_file:SPEC", vh_colours_of_file=MEAN_COLOUR,
    )  # fmt: skip
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        found = extract_features(video, ["mean_colour", "frames"])
        assert found["mean_colour"].arrays["mean"].shape == (3, 3)  # type: ignore[union-attr]
    finally:
        EXTRACTORS.pop("mean_colour", None)
        EXTRACTORS.plugins.pop("mean_colour", None)


def test_a_network_that_does_not_give_its_known_outputs_is_not_used(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = []
    monkeypatch.setattr(file_features, "run_self_test", lambda *given: tested.append(given))
    for _ in range(2):
        extracted(video)
    assert [given[0].name for given in tested] == ["yolov5", "frames"]  # once in a process
    assert not any(given[2].exists() for given in tested)


def test_importing_the_package_stays_light() -> None:
    code = (
        "import sys, json, pipeline\n"
        "print(json.dumps(sorted({'torch', 'av', 'numpy', 'cv2', 'h5py'} & {*sys.modules})))\n"
        "assert callable(pipeline.extract_features)\n"
        "print(json.dumps(sorted({'torch', 'av', 'cv2'} & {*sys.modules})))\n"
        "try: pipeline.extract_feature\n"
        "except AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, _, message = done.stdout.splitlines()
    assert json.loads(before) == []
    assert message == "module 'pipeline' has no attribute 'extract_feature'"

"""No network reads times of two origins; checkpoints and scores say since when theirs count."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from storage import FeatureStore
from storage.base.errors import SettingsError
from storage.base.paths import Layout
from storage.base.records import CONTAINER_START, STREAM_CLOCK
from storage.features.compaction import rebase
from storage.features.manifest_file import read_manifest
from storage.files.checksummed_json import seal, unseal
from storage.scores import read_scores
from tests.conftest import REPOSITORY
from tests.trainer.training.test_fit import PLANTED, run
from trainer.data.sources.features import Features
from trainer.inference.predict import UserHistory, predict
from trainer.inference.score_run import EvalRequest, score_split
from trainer.synthetic.user_features import synthesize_users
from trainer.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from trainer.training.fit import FitOptions, fit, load_trained_model

pytestmark = pytest.mark.filterwarnings("ignore::storage.features.store.UnsealedParts")

KEYS = ("c3d/pool5", "frames/jpeg")
MAX_ITEMS = {"frames/jpeg": 10_000}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store of format version 1, with two variants."""
    return shutil.copytree(
        REPOSITORY / "tests" / "storage" / "data" / "store_v1" / "phd2", tmp_path / "phd2"
    )


def bring_over(folder: Path, variant: str) -> None:
    layout = FeatureStore(folder)[variant].layout
    for shard in range(2):
        known = read_manifest(layout, shard)
        assert known is not None
        done = [video_id for video_id, entry in known.entries.items() if entry.is_done]
        rebase(layout, shard, dict.fromkeys(done, "kept"), {})


def test_one_network_never_reads_two_origins(old: Path) -> None:
    assert Features(old, KEYS, max_items=MAX_ITEMS).time_origin == STREAM_CLOCK
    bring_over(old, "c3d")
    with pytest.raises(
        SettingsError,
        match=r"a network that reads c3d-.* cannot mix times.*python -m pipeline rebase",
    ):
        Features(old, KEYS, max_items=MAX_ITEMS)
    assert Features(old, KEYS[:1], max_items={}).time_origin == CONTAINER_START
    assert Features(old, KEYS[1:], max_items=MAX_ITEMS).time_origin == STREAM_CLOCK
    bring_over(old, "frames")
    assert Features(old, KEYS, max_items=MAX_ITEMS).time_origin == CONTAINER_START


def test_checkpoints_and_scores_say_since_when_times_count(tmp_path: Path) -> None:
    folder = synthesize_users(tmp_path, dataclasses.replace(PLANTED, train_users=8, test_users=3))
    made = run(folder, "training.epochs=1")
    model = fit(made, FitOptions())
    found = read_checkpoint(model)
    assert found.about["time_origin"] == CONTAINER_START
    assert load_trained_model(model, folder, "cpu").notes == ()
    asked = EvalRequest(model, folder, "test")
    assert score_split(asked, device="cpu").provenance.time_origin == CONTAINER_START

    # One that an earlier release trained says nothing, and it is told beside each of its answers.
    about = {name: value for name, value in found.about.items() if name != "time_origin"}
    write_checkpoint(model, Checkpoint(about, {"model": found.state["model"]}))
    (note,) = load_trained_model(model, folder, "cpu").notes
    assert "trained on seconds on each stream's own clock" in note
    answers = score_split(asked, device="cpu")
    notes = answers.provenance.settings["notes"]
    assert isinstance(notes, list)
    assert note in notes
    video_id = next(iter(answers.tracks))[1]
    assert note in predict(load_trained_model(model, folder, "cpu"), video_id, UserHistory()).notes

    # Scores of an earlier release are read as what they are, and are not taken for an answer in
    # players' seconds.
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    path = layout.scores(asked.name) / "run.json"
    record = unseal(path, path.read_bytes())
    assert isinstance(record["provenance"], dict)
    del record["provenance"]["time_origin"]
    path.write_bytes(seal({**record, "format_version": 1}))
    assert read_scores(layout, asked.name).provenance.time_origin == STREAM_CLOCK
    assert score_split(asked, device="cpu").provenance.time_origin == CONTAINER_START
    assert read_scores(layout, asked.name).provenance.time_origin == CONTAINER_START

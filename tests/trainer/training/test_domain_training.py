"""Training on domains: what each side sees, how sets follow from seed and round, and going on where
one stopped.
"""

from __future__ import annotations

import csv
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.base.errors import LookupFailed, SettingsError
from storage.catalog.catalog import read_catalog
from tests.conftest import REPOSITORY
from tests.support.annotated_stores import DOMAINS, FRAMES_PER_SECOND, write_domains
from tests.trainer.training.test_fit import KillAt, Killed, same, weights
from trainer.config.recipe import load_recipe
from trainer.data import DataSettings, HighlightData, Loader, LoaderSettings, open_data
from trainer.data.labels.splits import split_videos
from trainer.losses.set_based.domain_steps import DomainBatch
from trainer.training.checkpoint import read_checkpoint
from trainer.training.domain_batches import DomainBatchLoader, DomainBatchSettings
from trainer.training.fit import FitOptions, Run, fit
from trainer.training.latent_svm import best_highlights

ARRAYS = ("c3d.segments/fc7_linear",)


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_domains(tmp_path_factory.mktemp("domains"), absent=("dog00",))


@pytest.fixture
def folder(domains: Path, tmp_path: Path) -> Path:
    """The store, with runs of this test alone."""
    return Path(shutil.copytree(domains, tmp_path / domains.name))


def opened(folder: Path, **settings: object) -> HighlightData:
    return open_data(folder, DataSettings(ARRAYS, "segment", "none", **settings))  # type: ignore[arg-type]


def videos(data: HighlightData, *, side: str = "first") -> set[str]:
    return {example.video_id for example in data.training(side=side).example_set.examples}  # type: ignore[arg-type]


def test_each_side_sees_its_own_videos_and_every_other_one_is_accounted_for(domains: Path) -> None:
    data = opened(domains, source="surfing", domain="dog", against="domain")
    assert videos(data) == {"surfing00", "surfing02", "surfing04", "surfing06"}
    assert videos(data, side="second") == {"dog02", "dog04", "dog06"}
    assert data.training(side="second").example_set.targets.dropped == {
        "unavailable:private": ("dog00",)
    }
    scored = data.scoring("test")
    assert {example.video_id for example in scored.example_set.examples} == {
        "dog01",
        "dog03",
        "dog05",
        "dog07",
    }
    others = opened(domains, domain="dog", against="others", second_seconds=(20.0, 1e9))
    assert videos(others, side="second") == {
        "skiing02",
        "skiing04",
        "skiing06",
        "surfing02",
        "surfing04",
        "surfing06",
    }
    assert others.training(side="second").example_set.targets.dropped["of another duration"] == (
        "skiing00",
        "surfing00",
    )


def test_a_row_is_a_clip_with_what_was_judged_of_it(domains: Path) -> None:
    catalog = read_catalog(domains)
    judged = {(row.start, row.end): row.value for row in catalog.annotations if row.annotator == "match"
              and row.video_id == "skiing05"}  # fmt: skip
    loader = Loader(opened(domains, domain="skiing", pairs=3).scoring("test"), LoaderSettings(1))
    (loaded,) = [one for one in loader if one.examples[0].video_id == "skiing05"]
    spans = loaded.batch.spans[0].numpy() * FRAMES_PER_SECOND
    assert [judged[tuple(span)] for span in spans] == loaded.targets.labels[0].tolist()
    assert torch.equal(loaded.targets.positive[0], loaded.targets.labels[0] > 0)
    highs, lows = loaded.targets.pairs[0].T
    assert loaded.targets.positive[0][highs].all()
    assert not loaded.targets.positive[0][lows].any()


def test_rows_of_other_spans_are_averaged_into_clips_or_labelled_by_them(domains: Path) -> None:
    """The clips' own rows, read once as if they were any rows: clip k is the mean of what shares
    time with it.
    """
    own = next(iter(Loader(opened(domains, domain="dog").scoring("test"), LoaderSettings(1))))
    as_rows = open_data(domains, DataSettings(ARRAYS, "row", "none", domain="dog"))
    rows = next(iter(Loader(as_rows.scoring("test"), LoaderSettings(1))))
    assert torch.equal(rows.batch.spans, own.batch.spans)
    # A clip is covered by itself whole, and by its neighbours for a half, which is not more than
    # half.
    assert torch.equal(rows.targets.labels, own.targets.labels.clamp(min=-1))


def test_readers_travel_between_processes(domains: Path) -> None:
    dataset = opened(domains, domain="dog").training()
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own bytes
    for here, there in zip(
        Loader(dataset, LoaderSettings(2)), Loader(copy, LoaderSettings(2)), strict=True
    ):
        assert torch.equal(here.batch.features[ARRAYS[0]], there.batch.features[ARRAYS[0]])


def test_a_video_may_come_once_for_each_of_its_clips(domains: Path) -> None:
    once, often = (opened(domains, domain="skiing", every_segment=every) for every in (False, True))
    clips = sum(
        int(loaded.batch.mask.sum()) for loaded in Loader(once.training(), LoaderSettings(1))
    )
    assert len(often.training()) == clips
    anchors = [
        one.anchor for one in often.training().example_set.examples if one.video_id == "skiing02"
    ]
    assert anchors == list(range(len(anchors)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"domain": "cat"}, "no group 'cat'"),
        ({"domain": "dog", "grouping": "umt"}, "no train part of the split 'umt'"),
        ({"domain": "dog", "first_seconds": (900.0, 901.0)}, "no video left in dog"),
        ({"domain": "dog", "holdout_videos": 9}, "no video to train on"),
    ],
)
def test_what_is_not_there_is_told(domains: Path, settings: dict[str, object], said: str) -> None:
    with pytest.raises((LookupFailed, SettingsError), match=said):
        opened(domains, **settings).training()


def test_settings_that_make_no_sense_are_refused() -> None:
    for settings in (
        {"source": "dog"},
        {"source": "dog", "domain": "dog"},
        {"domain": "dog", "against": "domain"},
    ):
        with pytest.raises(ValueError, match="source"):
            DataSettings(ARRAYS, "segment", "none", **settings)  # type: ignore[arg-type]


def test_folds_part_every_domain(domains: Path) -> None:
    catalog = read_catalog(domains)
    everything: list[str] = []
    for fold in range(4):
        settings = DataSettings(ARRAYS, "segment", "none", grouping=f"folds-4-{fold}")
        tested, trained = (
            set(split_videos(catalog, split, settings, domain="")[0]) for split in ("test", "train")
        )
        assert not tested & trained
        assert len(tested | trained) == len(catalog.videos)
        assert all(sum(video.startswith(domain) for video in tested) == 2 for domain in DOMAINS)
        everything += tested
    assert sorted(everything) == [video.video_id for video in catalog.videos]


def rounds(folder: Path, seed: int = 0) -> DomainBatchLoader:
    recipe = load_recipe("dl_vhd", small=True)
    data = open_data(folder, recipe.data)
    loading = LoaderSettings(2, seed=seed)
    first, second = (Loader(data.training(side=side), loading) for side in ("first", "second"))
    return DomainBatchLoader(first, second, DomainBatchSettings(recipe.sets, seed, epochs=3))


def equal(one: DomainBatch, other: DomainBatch) -> bool:
    pairs = ((one.source, other.source), (one.target, other.target), (one.mixed, other.mixed))
    return all(
        a is not None
        and b is not None
        and torch.equal(a.features[ARRAYS[0]], b.features[ARRAYS[0]])
        for a, b in pairs
    )


def test_rounds_go_on_where_they_stopped(domains: Path) -> None:
    straight, places = [], []
    whole = rounds(domains)
    for _ in range(3):
        for one in whole:
            straight.append(one)
            places.append(whole.state_dict())
    assert len(straight) == 6
    assert [round(one.progress, 1) for one in straight] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert not equal(straight[0], straight[2])
    for done in range(1, 6):
        again = rounds(domains)
        again.load_state_dict(places[done - 1])
        rest = [one for _ in range(3) for one in again][: 6 - done]
        assert all(equal(one, other) for one, other in zip(straight[done:], rest, strict=True))
    assert not equal(next(iter(rounds(domains, seed=1))), straight[0])


@pytest.mark.parametrize(
    ("name", "minutes"),
    [("dl_vhd", 0.0), ("sl_mcd", 10.0)],
    ids=["kept after each round", "kept after each epoch"],
)
def test_broken_off_and_resumed_is_as_if_never_broken_off(
    folder: Path, tmp_path: Path, name: str, minutes: float
) -> None:
    recipe = load_recipe(name, changes=("training.epochs=3",), small=True)
    straight = weights(fit(Run(recipe, folder, 0), FitOptions()))
    (folder / "runs").rename(tmp_path / "straight")
    kill, broken = KillAt({1, 3, 4}), 0
    while not list(folder.glob("runs/*/model.safetensors")):
        try:
            fit(Run(recipe, folder, 0), FitOptions(checkpoint_minutes=minutes, on_step=kill))
        except Killed:
            broken += 1
            torch.manual_seed(broken)  # another process would begin with other random numbers
    assert broken == 3
    assert same(straight, weights(next(folder.glob("runs/*/model.safetensors"))))


def test_the_best_epoch_on_held_out_videos_is_kept_and_never_one_on_the_target(
    folder: Path,
) -> None:
    kept = (
        "training.validate=true",
        "training.select_by=ap_step",
        "training.epochs=3",
        "data.holdout_videos=2",
    )
    path = fit(
        Run(load_recipe("sl_module_wo_t", changes=kept, small=True), folder, 0), FitOptions()
    )
    rows = list(csv.DictReader((path.parent / "log.csv").read_text().splitlines()))
    best = max(range(3), key=lambda epoch: float(rows[epoch]["validation_ap_step"]))
    assert read_checkpoint(path).about["best_epoch"] == best
    with pytest.raises(SettingsError, match="must not see labels of dog"):
        fit(Run(load_recipe("dl_vhd", changes=kept, small=True), folder, 0), FitOptions())
    with pytest.raises(SettingsError, match=r"set data\.holdout_videos"):
        fit(
            Run(load_recipe("sl_module_wo_t", changes=kept[:3], small=True), folder, 0),
            FitOptions(),
        )


def test_what_the_loop_cannot_do_is_refused(folder: Path) -> None:
    for change in ("training.precision=bf16", "training.accumulate=2"):
        with pytest.raises(SettingsError, match="fp32"):
            fit(Run(load_recipe("dl_vhd", changes=(change,), small=True), folder, 0), FitOptions())
    alone = load_recipe("dl_vhd", changes=("data.source=", "data.against=nothing"), small=True)
    with pytest.raises(SettingsError, match="mixed sets"):
        fit(Run(alone, folder, 0), FitOptions())


def test_the_best_half_of_the_highlights_is_taken_for_sound() -> None:
    scores, positive = (
        np.array([3.0, 1.0, 5.0, 2.0, 3.0]),
        np.array([True, True, False, True, True]),
    )
    assert best_highlights(scores, positive, 0.5).tolist() == [True, False, False, False, True]
    assert best_highlights(scores, positive, 0.01).tolist() == [True, False, False, False, False]


@pytest.mark.slow
def test_a_step_at_the_published_width_takes_bounded_memory() -> None:
    """Weights, gradients and momentum of 680 million numbers are 8.2 GB; what comes on top is
    small.
    """
    command = [sys.executable, "-m", "benchmarks.set_step", "--recipes", "dl_vhd", "--steps", "1"]
    ended = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=1200
    )
    _, name, _, loss, gigabytes, _ = (
        cell.strip() for cell in ended.stdout.splitlines()[-1].split("|")
    )
    assert name == "dl_vhd"
    assert np.isfinite(float(loss))
    assert float(gigabytes) < 11


@pytest.mark.slow
def test_two_processes_train_together(folder: Path) -> None:
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "trainer",
    ]
    ended = subprocess.run(
        [*launch, "fit", "dl_vhd", str(folder), "--small"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    path = next(folder.glob("runs/*/model.safetensors"))
    assert all(torch.isfinite(value).all() for value in weights(path).values())
    assert len(ended.stdout.splitlines()) == 1

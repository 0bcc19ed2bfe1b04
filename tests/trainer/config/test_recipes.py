"""Every recipe that comes with the project: it loads, its full width is what it was, and at [small]
it runs.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.highlight.registry import HIGHLIGHT_MODELS
from tests.support.annotated_stores import write_domains
from tests.support.synthetic_store import write_category_films
from trainer.config.recipe import Recipe, load_recipe, recipe_names
from trainer.evaluation.statistics import Evaluation
from trainer.inference.score_run import EvalRequest, evaluate_run, score_split
from trainer.synthetic.saliency import SaliencySettings, synthesize_saliency
from trainer.synthetic.user_features import SyntheticUserSettings, Timing, synthesize_users
from trainer.training.checkpoint import read_checkpoint
from trainer.training.fit import FitOptions, Run, fit, load_trained_model

SHAPES = {
    "c3d/pool5": (8192,),
    "yolov5/p5": (512, 4, 4),
    "keypoint_rcnn/joints": (5, 17, 3),
    "keypoint_rcnn/joint_features": (5, 17, 512),
    "tased/saliency": (28, 48),
    "c3d.segments/fc6": (4096,),
    "c3d.segments/fc7_linear": (4096,),
}
"""What the extractors' default settings keep of a row."""

PARAMETERS = {
    "a_vhd": 197_357_844,
    "a_vhd_convolution": 147_216_788,
    "dl_vhd": 680_168_450,
    "dl_vhd_coarse": 675_710_465,
    "dl_vhd_fine": 675_710_465,
    "fcsn": 37_954_836,
    "highlight_me": 72_323,
    "highlight_svm": 8_193,
    "lim_s": 6_424_066,
    "lsvm": 4_097,
    "max_similarity": 0,
    "mha_fusion": 13_844_608,
    "mha_fusion_objects": 7_395_681,
    "mha_fusion_poses": 6_514_975,
    "mini_net": 590_787,
    "personalized_summarization": 0,
    "phd_ca": 8_422_017,
    "phd_ca_ed": 8_432_257,
    "phd_ca_ld": 8_422_037,
    "phd_ca_svm_d": 8_422_038,
    "phd_rh": 22_287_361,
    "phd_sa": 2_097_682,
    "pld_vhd": 21_260_693,
    "pld_vhd_c3d": 35_478_209,
    "pr_net": 22_312_960,
    "pr_net_mean_u": 22_312_448,
    "pr_net_residual": 23_090_176,
    "pr_net_u": 22_312_448,
    "residual": 4_235_907,
    "sl_afn": 675_710_465,
    "sl_coral": 675_710_465,
    "sl_dan": 675_710_465,
    "sl_mcd": 680_168_450,
    "sl_module": 675_710_465,
    "sl_module_wo_t": 4_457_985,
    "sl_revgrad": 680_956_418,
    "svm_d": 21,
    "video2gif": 35_721_985,
    "video2gif_ours": 4_227_713,
    "video2gif_segments": 2_163_457,
    "video2gif_svm_d": 4_227_734,
    "video_mmr": 0,
}
"""Of the networks at full width; FCSN's is what its author's code has (37.95 million)."""

SAME_NETWORK = {
    "dl_vhd": ("released", "wo_distill"),
    "sl_coral": ("released",),
    "sl_dan": ("released",),
    "sl_module": ("released",),
    "video2gif": ("video2gif_l1",),
    "pld_vhd": ("wo_spatial", "wo_temporal"),
    "pld_vhd_c3d": ("wo_spatial", "wo_temporal"),
    "pr_net": ("ce", "g", "h0", "h5", "literal", "mean_u_g", "ranking", "triplet"),
    "mha_fusion": (
        "0", "10", "5", "literal", "no_label", "no_label_literal", "no_margin", "no_margin_literal", "no_sparsity"
    ),
}  # fmt: skip
"""Recipe → the ablations that change its training and nothing of its size."""

ABLATIONS = {
    child if child.startswith(parent) else f"{parent}_{child}": PARAMETERS[parent]
    for parent, children in SAME_NETWORK.items()
    for child in children
}
"""Ablation → parameters of its network."""


def each_with_ablations_slow(names: Iterable[str]) -> list[Any]:
    """Parameters of a test; what is trained otherwise, and not another network, is for
    `make test-slow`.
    """
    return [
        pytest.param(name, marks=pytest.mark.slow) if name in ABLATIONS else name for name in names
    ]


def shape_of(key: str, recipe: Recipe) -> tuple[int, ...]:
    """Of one position."""
    clip = recipe.data.clip
    return (
        (clip.frames, clip.height, clip.width, 3) if clip and key == "frames/jpeg" else SHAPES[key]
    )


def test_full_widths_have_as_many_parameters_as_they_had() -> None:
    found = {}
    for name in recipe_names():
        recipe = load_recipe(name)
        with torch.device("meta"):
            model = recipe.spec.build(
                recipe.model_settings, {key: shape_of(key, recipe) for key in recipe.data.arrays}
            )
        found[name] = sum(parameter.numel() for parameter in model.parameters())
    assert found == PARAMETERS | ABLATIONS


def test_every_model_that_reads_a_history_has_a_recipe() -> None:
    made = {load_recipe(name).spec.name for name in recipe_names()}
    assert {name for name, spec in HIGHLIGHT_MODELS.items() if spec.history != "none"} <= made


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_says_where_it_is_from_and_what_is_left_open_there(name: str) -> None:
    recipe = load_recipe(name)
    assert "(" in recipe.source
    assert recipe.gaps


def test_a_table_that_is_a_value_is_replaced_whole() -> None:
    assert set(load_recipe("mha_fusion").data.max_items) == {
        "keypoint_rcnn/joints",
        "keypoint_rcnn/joint_features",
    }
    assert load_recipe("mha_fusion_objects").data.max_items == {}


def test_a_recipe_that_starts_from_others_hands_its_changes_on_and_is_named_after_them() -> None:
    plain, changed = (
        load_recipe("phd_ca_svm_d", changes=changes) for changes in ((), ("training.epochs=3",))
    )
    assert (
        plain.start_recipe("first").training.epochs,
        changed.start_recipe("first").training.epochs,
    ) == (
        16,
        3,
    )
    assert changed.start_recipe("second").name == "svm_d"
    assert load_recipe("residual", small=True).start_recipe("generic").is_small
    assert (
        len({plain.fingerprint, changed.fingerprint, plain.start_recipe("first").fingerprint}) == 3
    )


TIMING = Timing(
    video_seconds=np.array([41.0, 62.0, 83.0]),
    gif_seconds=np.array([2.0, 4.0, 6.0]),
    gifs_of_video=np.array([1, 2]),
    history_videos=np.array([2, 3]),
)
PLANTED = SyntheticUserSettings(
    seed=3, train_users=12, test_users=3, max_videos=3, noise=0.5, width=16, with_frames=True
)
"""With this seed, networks of one or two small epochs rank well enough that fusing them with
another has a weight.
"""
CHANGES = ("data.targets=every", "data.holdout_users=3", "training.epochs=2")
DURATIONS = ("data.first_seconds=[0.0, 30.0]", "data.second_seconds=[30.0, 1e9]")
"""Short and long for clips that were drawn, of videos of 16 to 58 seconds."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of video for each of a few users, and all arrays that any recipe reads."""
    return synthesize_users(tmp_path_factory.mktemp("planted"), PLANTED, TIMING)


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of three domains."""
    return write_domains(tmp_path_factory.mktemp("domains"))


OF_DOMAINS = [name for name in recipe_names() if load_recipe(name).data.domain]
OF_PIXELS = [name for name in recipe_names() if load_recipe(name).data.clip is not None]


OF_USERS = sorted(set(recipe_names()) - set(OF_DOMAINS) - set(OF_PIXELS))


@pytest.mark.parametrize("name", each_with_ablations_slow(OF_USERS))
def test_small_runs_from_a_store_to_numbers(name: str, folder: Path) -> None:
    found = measured_small(load_recipe(name, changes=CHANGES, small=True), folder)
    assert len(found.ids) + len(found.dropped) == PLANTED.test_users


@pytest.mark.parametrize("name", each_with_ablations_slow(OF_DOMAINS))
def test_small_runs_on_a_domain_from_a_store_to_numbers(name: str, domains: Path) -> None:
    durations = DURATIONS if load_recipe(name).data.first_seconds else ()
    found = measured_small(load_recipe(name, changes=durations, small=True), domains)
    assert len(found.ids) == 4
    assert (found.values["scored_segments"] == 1).all()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of an object, with saliency of it."""
    folder = write_category_films(tmp_path_factory.mktemp("films"), 6)
    synthesize_saliency(folder, SaliencySettings(frames_per_second=2.5, first_second=0.3))
    return folder


@pytest.mark.parametrize("name", each_with_ablations_slow(OF_PIXELS))
def test_small_runs_on_pixels_from_a_store_to_numbers(name: str, films: Path) -> None:
    found = measured_small(load_recipe(name, small=True), films)
    assert found.ids == ("films/v1", "films/v3", "films/v5")
    assert (found.values["scored_segments"] == 1).all()


def measured_small(recipe: Recipe, folder: Path) -> Evaluation:
    path = fit(Run(recipe, folder, 0), FitOptions())
    torch.manual_seed(0)
    fresh = recipe.spec.build(
        recipe.model_settings, load_trained_model(path, folder, "cpu").data.shapes
    ).state_dict()
    trained = read_checkpoint(path).state["model"]
    assert bool(recipe.stages) == any(not torch.equal(trained[key], fresh[key]) for key in fresh)
    if "gradient" in recipe.stages:
        losses = [
            float(row["loss"])
            for row in csv.DictReader((path.parent / "log.csv").read_text().splitlines())
        ]
        assert len(losses) == 2
        assert np.isfinite(losses).all()
    question = EvalRequest(path, folder, "test")
    answers = score_split(question, device="cpu")
    assert any(np.ptp(track.scores) > 0 for track in answers.tracks.values())
    found = evaluate_run(question, answers)
    assert len(found.ids) > 1
    assert all((values >= 0).all() and (values <= 1).all() for values in found.values.values())
    return found

"""What recipes are worth where it is known what there is to find: planted tastes and categories, and drawn videos.

Rows and settings are those of the tables `planted`, `planted-category` and `planted-pld-vhd`, with one seed.
Differences are taken user by user or video by video; an interval of 95 % over them has to lie above what is claimed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.layout import Layout
from trainer.cells import cells
from trainer.estimates import Estimate, Evaluation, difference, estimates
from trainer.fit import FitOptions, Run, fit, restore
from trainer.maps import cover, video_maps
from trainer.planted import PlantedSettings, plant
from trainer.planted_category import CategorySettings, plant_category
from trainer.planted_saliency import SaliencySettings, plant_saliency
from trainer.published import load_table
from trainer.scoring import Question, answer, judge

pytestmark = pytest.mark.slow
LUIGI = [str(Path(sys.executable).with_name("luigi")), "--module", "tasks", "BuildCategorySampleFeatures"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """As the tables' numbers were made: networks this small are slower with more."""
    torch.set_num_threads(1)


def trained(
    table: str, folder: Path, names: tuple[str, ...], *, small: bool = True
) -> Mapping[str, tuple[Path, Evaluation]]:
    """Row → its network and what it is worth, with seed 0."""
    found = {}
    for row in load_table(table).rows:
        if row.name in names:
            (cell,) = cells(load_table(table), row, (), small=small)
            path = fit(Run(cell.recipe, folder, 0), FitOptions())
            question = Question(path, folder, "test", cell.asked)
            found[row.name] = path, judge(question, answer(question, device="cpu"))
    return found


def gain(found: Mapping[str, tuple[Path, Evaluation]], one: str, other: str, metric: str = "ap_step") -> Estimate:
    """What one row has more than another."""
    return estimates([difference(found[one][1], found[other][1])])[metric]


GENERIC = ("Video2GIF (ours)", "PR-Net_G")
PERSONAL = ("SVM-D", "PHD-CA", "PR-Net")


@pytest.fixture(scope="module")
def tastes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Path, Evaluation]]:
    settings = PlantedSettings(seed=4, train_users=250, test_users=400, max_videos=10)
    names = (*GENERIC, *PERSONAL, *(f"{name}, another's history" for name in PERSONAL))
    return trained("planted", plant(tmp_path_factory.mktemp("data"), settings), names, small=False)


@pytest.mark.parametrize("personal", PERSONAL)
def test_who_knows_the_user_gains_by_it(tastes: Mapping[str, tuple[Path, Evaluation]], personal: str) -> None:
    for other in (*GENERIC, f"{personal}, another's history"):
        assert gain(tastes, personal, other, "ap").low > 0, f"{personal} against {other}"


CATEGORY = (
    "Video2GIF, on segments", "SL-module (w/o T)", "SL-module: the oracle", "SL-module: source-only",
    "DL-VHD (L_coarse only)", "DL-VHD (w/o L_distill)", "DL-VHD (full model)", "DL-VHD, lambda 0.3",
)  # fmt: skip


@pytest.fixture(scope="module")
def category(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Path, Evaluation]]:
    folder = plant_category(tmp_path_factory.mktemp("data"), CategorySettings())
    return trained("planted-category", folder, CATEGORY)


@pytest.mark.parametrize("pairs", ["Video2GIF, on segments", "SL-module (w/o T)"])
def test_a_set_beats_segments_by_themselves(category: Mapping[str, tuple[Path, Evaluation]], pairs: str) -> None:
    assert gain(category, "SL-module: the oracle", pairs).low > 0


def test_two_learners_reach_another_category(category: Mapping[str, tuple[Path, Evaluation]]) -> None:
    for more, less in (
        ("DL-VHD (full model)", "SL-module: source-only"),
        ("DL-VHD (w/o L_distill)", "SL-module: source-only"),
        ("DL-VHD, lambda 0.3", "DL-VHD (w/o L_distill)"),
        ("DL-VHD, lambda 0.3", "DL-VHD (L_coarse only)"),
        ("SL-module: the oracle", "DL-VHD, lambda 0.3"),
    ):
        assert gain(category, more, less).low > 0, f"{more} against {less}"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The category sample by the real command, with planted saliency."""
    root = tmp_path_factory.mktemp("drawn")
    built = subprocess.run(LUIGI, cwd=root, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "48 ids = 48 done" in built.stdout
    folder = Layout(root / "data", "category-sample").folder
    plant_saliency(folder, SaliencySettings())
    return folder


PIXELS = ("C3D w/o temporal", "C3D w/o spatial", "C3D full")


@pytest.fixture(scope="module")
def pixels(drawn: Path) -> Mapping[str, tuple[Path, Evaluation]]:
    return trained("planted-pld-vhd", drawn, PIXELS)


def test_pixels_owe_what_they_find_to_time(pixels: Mapping[str, tuple[Path, Evaluation]]) -> None:
    assert gain(pixels, "C3D full", "C3D w/o temporal").low > 0.2


def iou(path: Path, folder: Path) -> float:
    """Of the maps of test videos' highlights with the drawn figure."""
    found = [cover(video, folder) for video in video_maps(restore(path, folder, "cpu"), "test", "cpu")]
    return float(np.mean([one.iou for one in found if one is not None]))


def test_maps_cover_the_figure_and_owe_it_to_saliency(
    pixels: Mapping[str, tuple[Path, Evaluation]], drawn: Path
) -> None:
    full, without = (iou(pixels[name][0], drawn) for name in ("C3D full", "C3D w/o spatial"))
    assert full > 0.5
    assert without < 0.2

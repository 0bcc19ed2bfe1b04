"""Maps of a finished network: as they are drawn, and how well they cover what was drawn there."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.annotated_stores import write_domains
from tests.support.synthetic_store import HEIGHT, WIDTH, write_category_films
from trainer.__main__ import main
from trainer.config.recipe import load_recipe
from trainer.data.sources.figure_masks import read_figure_mask
from trainer.inference.distinction_maps import VideoMaps, map_iou
from trainer.plots.map_overlay import GAP_PIXELS, LEGEND_PIXELS, video_contact_sheet
from trainer.synthetic.saliency import SaliencySettings, synthesize_saliency
from trainer.training.fit import FitOptions, Run, fit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_category_films(tmp_path_factory.mktemp("films"), 4)
    synthesize_saliency(folder, SaliencySettings(frames_per_second=2.5, first_second=0.3))
    return folder


def of_video(folder: Path, maps: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> VideoMaps:
    frames = np.arange(0, 32, 4)
    is_highlight = np.arange(8) < 4  # film v0 begins with its highlight
    pictures = np.zeros((8, HEIGHT, WIDTH, 3), np.uint8)
    return VideoMaps("v0", pictures, maps, is_highlight, frames)


def test_a_map_that_is_the_figure_covers_it_and_others_do_not(folder: Path) -> None:
    figure = read_figure_mask(folder, "v0")[::4].astype(np.float32)
    found = map_iou(of_video(folder, figure), folder)
    assert found is not None
    assert found.iou == 1
    share = figure[:4].mean()
    assert found.everywhere == pytest.approx(share, rel=1e-5)
    assert found.elsewhere <= 1
    nothing = map_iou(of_video(folder, np.zeros_like(figure)), folder)
    assert nothing is not None
    assert (nothing.iou, nothing.elsewhere) == (0, 0)
    outside_highlights = np.where(np.arange(8)[:, None, None] < 4, figure, 1)
    assert map_iou(of_video(folder, outside_highlights), folder) == found, "only highlights count"


def test_a_sheet_has_a_row_for_each_video(folder: Path) -> None:
    figure = read_figure_mask(folder, "v0")[::4].astype(np.float32)
    drawn = video_contact_sheet([of_video(folder, figure), of_video(folder, figure)], columns=3)
    cell = 2 * HEIGHT + LEGEND_PIXELS
    assert drawn.shape == (2 * cell + GAP_PIXELS, 3 * WIDTH + 2 * GAP_PIXELS, 3)


def test_the_command_draws_and_measures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fit(Run(load_recipe("pld_vhd_c3d", small=True), folder, 0), FitOptions())
    assert main(["maps", str(path), str(folder), "--videos", "1", "--columns", "2"]) == 0
    told, written = capsys.readouterr().out.splitlines()
    assert told.startswith("pld_vhd_c3d: maps of highlights and the figure, 2 videos: IoU 0.")
    picture = cv2.imread(written)
    assert picture is not None
    assert picture.shape == (2 * HEIGHT + LEGEND_PIXELS, 2 * WIDTH + GAP_PIXELS, 3)


def test_a_network_without_maps_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_domains(tmp_path)
    path = fit(Run(load_recipe("sl_module_wo_t", small=True), folder, 0), FitOptions())
    assert main(["maps", str(path), str(folder)]) == 2
    assert (
        "sl_module_wo_t makes no distinction maps: take a recipe of pld_vhd"
        in capsys.readouterr().err
    )

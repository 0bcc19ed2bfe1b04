"""Maps drawn over frames: nothing where nothing is distinct, colour where it is, cells in reading
order.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer.plots.map_overlay import GAP_PIXELS, LEGEND_PIXELS, contact_sheet, overlay, write_sheet

HEIGHT, WIDTH = 8, 12


def pictures(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    levels = np.arange(count, dtype=np.uint8) * 10 + 50
    return np.broadcast_to(levels[:, None, None, None], (count, HEIGHT, WIDTH, 3)).copy()


def test_where_nothing_is_distinct_the_picture_stays() -> None:
    picture = pictures(1)[0]
    distinctions = np.zeros((HEIGHT, WIDTH))
    assert (overlay(picture, distinctions) == picture).all()
    distinctions[2:4, 3:6] = 1
    drawn = overlay(picture, distinctions).astype(int)
    assert (drawn[distinctions == 0] == picture[distinctions == 0]).all()
    red, green, blue = drawn[2, 3]
    assert red > green == blue, "full distinction is red"


def test_a_sheet_has_frame_map_and_score_of_each_in_reading_order() -> None:
    distinctions = np.zeros((5, HEIGHT, WIDTH), np.float32)
    distinctions[4] = 0.5
    sheet = contact_sheet(pictures(5), distinctions, columns=3)
    cell = 2 * HEIGHT + LEGEND_PIXELS
    assert sheet.shape == (2 * cell + GAP_PIXELS, 3 * WIDTH + 2 * GAP_PIXELS, 3)
    left, top = WIDTH + GAP_PIXELS, cell + GAP_PIXELS
    assert (sheet[top : top + HEIGHT, left : left + WIDTH] == 90).all(), (
        "the fifth frame, second row, second column"
    )
    bar = sheet[top + 2 * HEIGHT + LEGEND_PIXELS // 2, left : left + WIDTH, 0]
    assert (bar == 60).sum() == WIDTH // 2, "as long as the mean of the map"
    assert (sheet[top:, 2 * left :] == 255).all(), "no sixth"


def test_a_sheet_is_a_png_that_opens(tmp_path: Path) -> None:
    distinctions = np.linspace(0, 1, 2 * HEIGHT * WIDTH).reshape(2, HEIGHT, WIDTH)
    write_sheet(tmp_path / "sheet.png", contact_sheet(pictures(2), distinctions))
    read = cv2.imread(str(tmp_path / "sheet.png"))
    assert read is not None
    assert (read[..., ::-1] == contact_sheet(pictures(2), distinctions)).all()


@pytest.mark.parametrize(
    "wrong", [np.full((HEIGHT, WIDTH), 1.2), np.full((HEIGHT, WIDTH), np.nan), np.zeros((4, 4))]
)
def test_what_is_no_map_of_the_frame_is_refused(
    wrong: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> None:
    with pytest.raises(ValueError, match=r"distinctions must be 0 to 1|does not fit a picture"):
        overlay(pictures(1)[0], wrong)
    with pytest.raises(ValueError, match="at least 1"):
        contact_sheet(pictures(0), np.zeros((0, HEIGHT, WIDTH)))

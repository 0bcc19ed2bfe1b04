"""Pictures are drawn whatever ids and titles hold, and say them sign by sign."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.base.paths import Layout
from storage.base.records import Annotation
from storage.catalog.catalog import read_catalog, write_catalog
from tests.trainer.plots.test_store_overview import store as store  # the fixture
from trainer.inference.predict import HistoryClip, Prediction
from trainer.plots.captions import LONGEST, as_caption
from trainer.plots.store_overview import draw_overview
from trainer.plots.time_breakdown import draw_times
from trainer.plots.timeline import draw_timeline

IDS = {
    "mathematics that is none": r"$\frac$",
    "one dollar": "a$b",
    "two dollars": "$5 to $6",
    "dollars and an underscore": "$a_$",
    "an underscore before it": "_user",
    "a backslash and a dollar": r"a\$b\$",
    "braces and percent": "{x} %s %",
    "lines": "a\nb\r\n\tc",
    "Chinese": "张三李四",
    "Arabic and Hebrew": "\u0645\u0631 \u05e9\u05dc",
    "emoji": "\U0001f600\u200d\U0001f3fd",
    "control signs": "a\x00b\x1b[31m\x7f",
    "half a pair": "a\udc80b",
    "turned around": "a\u202eb",
    "combined": "e\u0301\u0327",
    "very long": "x" * 5000,
    "nothing": "",
}


@pytest.mark.parametrize("kind", IDS)
def test_a_timeline_is_drawn_with_any_id(kind: str) -> None:
    text = IDS[kind]
    spans = np.array([[0.0, 5.0], [5.0, 9.0]])
    clip = HistoryClip(text, 0.0, 5.0, {"attention": np.array([0.5, 0.25])})
    found = Prediction(
        text, text, text, "", spans, np.array([0.1, 0.2]), np.zeros((0, 2)), (clip,), (text,)
    )
    with Image.open(io.BytesIO(draw_timeline(found))) as picture:
        assert picture.size[0] == 1210


@pytest.mark.parametrize(
    "kind", ["mathematics that is none", "Chinese", "an underscore before it", "lines"]
)
def test_times_are_drawn_with_any_name(kind: str, tmp_path: Path) -> None:
    text = IDS[kind]
    with Image.open(
        draw_times({text: {text: 2.0}, f"{text} more": {text: 1.0}}, tmp_path / "times.png")
    ) as picture:
        assert picture.size[0] == 1210


@pytest.mark.parametrize("kind", ["mathematics that is none", "Chinese", "emoji"])
def test_an_overview_is_drawn_with_any_user(kind: str, store: Path) -> None:
    catalog = read_catalog(store)
    layout = Layout(store.parent, store.name)
    marks = tuple(
        Annotation(catalog.videos[0].video_id, text, 0, 1) for text in (IDS[kind], "_other")
    )
    write_catalog(layout, dataclasses.replace(catalog, annotations=marks))
    draw_overview(store, pictures="frames", clips="c3d", array="pool5", into=store / "overview.png")
    with Image.open(store / "overview.png") as picture:
        assert picture.size[0] == 1430


def test_what_is_drawn_says_what_it_was() -> None:
    assert as_caption("user-1_a $5 é") == "user-1_a $5 é"
    assert as_caption("a\nb\tc") == "a b c"
    assert as_caption("a\x00b\x7f") == r"a\x00b\x7f"
    assert as_caption("\udc80") == r"\udc80"
    assert as_caption("\U000f0000") == r"\U000f0000", "a private sign, which no font of ours has"
    assert (len(as_caption("x" * 100)), as_caption("x" * 100)[-1]) == (LONGEST, "…")

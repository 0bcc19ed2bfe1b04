"""The report page: order, names of metrics, bars from zero, and texts that stay texts."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np

from trainer.evaluation.statistics import Evaluation, confidence_intervals
from trainer.plots.html_report import METRICS, Report, ReportSection, render_page, report_metrics

HOSTILE = "</style><script>alert(1)</script>"


def page_of(**changes: object) -> str:
    evaluation = Evaluation(
        "phd2-segments/1",
        ("a", "b", "c"),
        {"ap": np.array([0.1, 0.2, 0.3]), "nmsd": np.array([0.5, 0.6, 0.7])},
    )
    report = {
        "title": f"pr_net on {HOSTILE}", "catalog": "c", "notes": ["c3d: random:0"],
        "summary": "Means over 3 users.",
        "metrics": report_metrics(confidence_intervals([evaluation])),
        "sections": [ReportSection("user a", HOSTILE, b"\x89PNG")],
        "made_of": [("checkpoint, sha256", "ab" * 32)], "gaps": ["an open point"],
    }  # fmt: skip
    return render_page(Report(**{**report, **changes})).decode()  # type: ignore[arg-type]


def test_metrics_are_named_with_their_intervals() -> None:
    page = page_of()
    assert "mean average precision, interpolated" in page
    assert "20.00 %" in page
    assert re.search(r"\[1\d\.\d\d, [23]\d\.\d\d\]", page)
    assert "lower is better" in page
    assert "best 3" not in page


def test_pictures_come_before_hashes() -> None:
    page = page_of()
    places = [page.index(text) for text in ("random:0", "20.00 %", "data:image/png", "ab" * 32)]
    assert places == sorted(places)


def test_bars_begin_at_zero() -> None:
    (first, *_) = re.findall(r'<rect x="0" y="1" width="([\d.]+)"', page_of())
    assert float(first) == 20


def test_texts_stay_texts_and_nothing_runs() -> None:
    page = page_of()
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(page)
    assert "script" not in tags
    (style,) = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"sha256-{digest}" in page.replace("&#43;", "+")
    assert "script-src &#39;none&#39;" in page


def test_every_metric_has_a_name() -> None:
    from trainer.config.recipe import METRICS as ALL

    assert set(ALL) <= set(METRICS)

"""Names of plug-ins that settings cannot have, and the sections of those that they can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.datasets.registry import DATASETS
from tasks.__main__ import main
from tasks.config.luigi_sections import SECTIONS, plugin_section
from tasks.config.settings import settings_faults
from tests.pipeline.datasets.test_plugin_reader import CODE
from tests.support.plugins import install

MODULE = "vh_named_reader"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(SECTIONS)
    yield tmp_path
    for name in [*DATASETS.plugins]:
        del DATASETS[name], DATASETS.plugins[name]
    for name in set(SECTIONS) - before:
        del SECTIONS[name]


def offer(site: Path, name: str) -> None:
    points = f"{name} = {MODULE}:SPEC"
    modules = {MODULE: CODE.replace("BODY", "return None")}
    install(site, "my-data", "1", "video_highlights.datasets", points, **modules)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("c3d", "dataset 'c3d' has the name of an extractor"),
        ("download", "dataset 'download' of a plug-in has the name of a settings section"),
        ("core", "has the name of a settings section, [core]; give its entry point another name"),
        ("Mine", "a dataset is named like 'phd2', in 1 to 64 of a-z 0-9 _ -; got 'Mine'"),
        ("tvsum", "dataset 'tvsum' is built in, and my-data offers the same name"),
    ],
)
def test_a_name_with_another_meaning_is_refused(site: Path, name: str, message: str) -> None:
    before = plugin_section(name)
    offer(site, name)
    assert any(message in fault for fault in settings_faults(name))
    assert plugin_section(name) is before or name == "Mine"


def test_the_sections_of_plugins_are_listed_when_asked(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(site, "vh_named")
    assert main(["settings"]) == 0
    assert "[vh_named]" not in capsys.readouterr().out
    assert main(["settings", "--plugins"]) == 0
    assert "\n\n[vh_named]\n" in capsys.readouterr().out
    assert main(["settings", "vh_named"]) == 0
    assert capsys.readouterr().out.endswith("marks =\n")


def test_a_plugin_that_cannot_be_listed_is_named(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, "my-data", "1", "video_highlights.datasets", "vh_named = vh_nothing_here:SPEC")
    assert main(["settings", "--plugins"]) == 2
    assert "'vh_named' of my-data cannot be imported" in capsys.readouterr().err

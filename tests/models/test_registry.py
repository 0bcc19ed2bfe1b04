"""Rows of other distributions: loaded when named, refused when two have one name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from models.registry import PluginError, Registry
from tests.support.plugins import install

GROUP = "video_highlights.tests"
ROW = "from tests.models.test_registry import Row\n"


class Row:
    """What the registry of these tests holds."""

    def __init__(self, text: str) -> None:
        self.text = text


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def registry() -> Registry[Row]:
    return Registry("thing", {"ours": Row("built in")}, kind=Row, group=GROUP)


def test_a_plugin_is_imported_when_it_is_named_and_not_before(site: Path) -> None:
    install(
        site, "other-things", "1.2", GROUP, "theirs = vh_other:ROW", vh_other=f"{ROW}ROW = Row('x')"
    )
    things = registry()
    assert list(things) == ["ours"]
    assert things.plugin_names() == {"theirs"}
    assert "vh_other" not in sys.modules
    assert things["theirs"].text == "x"
    assert things["theirs"] is things.find("theirs")
    plugin = things.plugins["theirs"]
    assert (plugin.distribution, plugin.version) == ("other-things", "1.2")
    assert len(plugin.code_sha256) == 64
    assert things.plugins.keys() == {"theirs"}


def test_the_code_hash_changes_with_the_code(site: Path) -> None:
    source = f"{ROW}ROW = Row('x')"
    install(site, "first", "1", GROUP, "one = vh_first:ROW", vh_first=source)
    install(site, "second", "1", GROUP, "two = vh_second:ROW", vh_second=source + "\n# changed")
    things = registry()
    assert things["one"].text == things["two"].text
    assert things.plugins["one"].code_sha256 != things.plugins["two"].code_sha256


def test_an_unknown_name_lists_ours_and_those_of_plugins(site: Path) -> None:
    install(site, "other", "1", GROUP, "theirs = vh_unused:ROW")
    with pytest.raises(KeyError, match=r"unknown thing 'nothing'; choose one of ours, theirs"):
        registry()["nothing"]
    with pytest.raises(KeyError, match="a package may offer it, which is not installed here"):
        registry().chosen("nothing")
    with pytest.raises(KeyError, match=r"unknown thing 'theirz'.*; did you mean theirs\?"):
        registry().chosen("theirz")
    assert registry().find("nothing") is None


def test_a_name_of_ours_is_refused_if_a_plugin_offers_it_too(site: Path) -> None:
    install(site, "rude", "1", GROUP, "ours = vh_rude:ROW", vh_rude=f"{ROW}ROW = Row('x')")
    things = registry()
    assert things["ours"].text == "built in"
    with pytest.raises(PluginError, match=r"thing 'ours' is built in, and rude offers the same"):
        things.check_name("ours")
    for look in (things.chosen, things.find):
        with pytest.raises(PluginError, match="is built in, and rude offers the same"):
            look("ours")


def test_a_row_under_another_name_than_its_entry_point_is_refused(site: Path) -> None:
    source = f"{ROW}ROW = Row('x')\nROW.name = 'mine'"
    install(site, "forgetful", "1", GROUP, "theirs = vh_forgetful:ROW", vh_forgetful=source)
    with pytest.raises(
        PluginError,
        match=r"'theirs' of forgetful: the entry point is called 'theirs', but its Row has "
        r"name='mine'; write the same name in both",
    ):
        registry()["theirs"]


def test_a_name_that_two_plugins_offer_is_refused(site: Path) -> None:
    for name in ("first", "second"):
        install(site, name, "1", GROUP, f"theirs = vh_{name}:ROW")
    with pytest.raises(PluginError, match=r"thing 'theirs' is offered by first and second"):
        registry()["theirs"]


def test_a_row_that_calls_itself_otherwise_is_refused(site: Path) -> None:
    source = f"{ROW}ROW = Row('x')\nROW.name = 'another'"
    install(site, "other", "1", GROUP, "theirs = vh_misnamed:ROW", vh_misnamed=source)
    with pytest.raises(PluginError, match="but its Row has name='another'"):
        registry()["theirs"]


def test_an_unknown_name_offers_a_near_one(site: Path) -> None:
    install(site, "other", "1", GROUP, "theirs = vh_unused:ROW")
    with pytest.raises(KeyError, match=r"'their'; choose one of ours, theirs; did you mean"):
        registry()["their"]


def test_the_package_of_a_plugin(site: Path) -> None:
    code = f"{ROW}ROW = Row('x')"
    install(site, "other", "1", GROUP, "theirs = vh_packaged:ROW", vh_packaged=code)
    things = registry()
    assert things.plugin_package("theirs") == ""  # not loaded yet
    assert things["theirs"].text == "x"
    assert things.plugin_package("theirs") == "vh_packaged"
    assert things.plugin_package("ours") == ""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise OSError('no library')", r"cannot be imported \(OSError: no library\); reinstall"),
        ("ROW = 'a text'", r"is a str; the entry point must name a Row"),
        ("OTHER = 1", r"cannot be imported \(AttributeError"),
    ],
    ids=["fails", "wrong type", "absent"],
)
def test_a_broken_plugin_is_named(site: Path, source: str, message: str) -> None:
    name = f"vh_broken_{abs(hash(source))}"
    install(site, "broken", "1", GROUP, f"theirs = {name}:ROW", **{name: source})
    with pytest.raises(PluginError, match=message):
        registry()["theirs"]

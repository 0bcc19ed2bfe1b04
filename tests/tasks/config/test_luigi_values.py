"""Percent signs and variables in a settings file, and values that Luigi cannot read: each told with
its place.
"""

from __future__ import annotations

import configparser
import importlib
from pathlib import Path
from typing import Any

import luigi
import pytest
from luigi.configuration import get_config

from storage.base.paths import folder_faults
from tasks.config.luigi_sections import FiniteNumber
from tasks.config.luigi_values import PercentAsTyped, value_faults


def read(value: str) -> str:
    parser = configparser.ConfigParser(interpolation=PercentAsTyped())
    parser.read_string(f"[section]\nother = 7\nkey = {value}\n")
    return parser["section"]["key"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("http://user:p%40ss@host:3128", "http://user:p%40ss@host:3128"),
        ("http://user:p%%40ss@host:3128", "http://user:p%40ss@host:3128"),
        ("100%", "100%"),
        ("100%%", "100%"),
        ("%%(other)s", "%(other)s"),
        ("date +%s", "date +%s"),
        ("50%%%", "50%%"),
        ("${A_NAME}/x", "of%40all/x"),
    ],
)
def test_a_percent_sign_is_one_and_two_are_one(
    monkeypatch: pytest.MonkeyPatch, typed: str, meant: str
) -> None:
    monkeypatch.setenv("A_NAME", "of%40all")
    assert read(typed) == meant


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("%(other)s/x", "refers to another setting by %(...)s"),
        ("p%%%(other)s", "refers to another setting by %(...)s"),
        ("a ${NO_SUCH_VARIABLE}", "uses ${NO_SUCH_VARIABLE}, which the environment does not have"),
    ],
)
def test_what_would_change_its_meaning_is_refused(typed: str, reason: str) -> None:
    with pytest.raises(configparser.InterpolationError) as error:
        read(typed)
    assert reason in str(error.value)
    assert typed not in str(error.value), "a value may be a password"


def test_the_rule_holds_for_the_settings_of_this_process() -> None:
    importlib.import_module("tasks")
    config = get_config()
    config.set("of-a-test", "key", "p%40ss %d")
    try:
        assert config.get("of-a-test", "key") == "p%40ss %d"
    finally:
        config.remove_section("of-a-test")


READERS: dict[str, tuple[Any, str, str]] = {
    "count": (luigi.IntParameter(), "1.5", "a whole number"),
    "ratio": (luigi.FloatParameter(), "half", "a number"),
    "rate": (FiniteNumber(), "nan", "a finite number"),
    "limit": (FiniteNumber(), "1e400", "a finite number"),
    "wait": (FiniteNumber(), "-inf", "a finite number"),
    "switch": (
        luigi.BoolParameter(parsing=luigi.BoolParameter.EXPLICIT_PARSING),
        "perhaps",
        "true or false",
    ),
    "day": (luigi.DateParameter(), "31.1.2026", "a date such as 2026-01-31"),
    "names": (luigi.ListParameter(), "a, b", 'a JSON list such as ["a", "b"]'),
    "mapping": (luigi.DictParameter(), "a=1", 'a JSON object such as {"a": 1}'),
    "choice": (luigi.ChoiceParameter(choices=("left", "right")), "up", "one of left, right"),
    "span": (luigi.TimeDeltaParameter(), "soon", "what Luigi's TimeDeltaParameter reads"),
}


@pytest.mark.parametrize("key", READERS)
def test_each_kind_of_value_is_refused_with_place_form_and_value(key: str) -> None:
    parameter, wrong, form = READERS[key]
    config = get_config()
    config.set("of-a-test", key, wrong)
    try:
        (in_file,) = value_faults("of-a-test", {key: parameter}, given={})
    finally:
        config.remove_section("of-a-test")
    assert in_file.startswith(f"[of-a-test] {key} takes {form}")
    assert in_file.endswith(f"; got {wrong!r}")
    (on_line,) = value_faults("of-a-test", {key: parameter}, given={f"of-a-test_{key}": wrong})
    assert on_line.startswith(f"--of-a-test-{key} takes {form}")


def test_a_setting_that_is_not_there_is_told() -> None:
    assert list(value_faults("of-a-test", {"count": luigi.IntParameter()}, given={})) == [
        "[of-a-test] count is not set; write it in workflows.cfg, as the comment above it explains"
    ]


@pytest.mark.parametrize(
    "place", ["s3://bucket/x", "s3:/bucket/x", "gs://bucket", "http://host/x", "file:///x"]
)
def test_an_address_is_not_a_folder_to_keep_data_in(place: str) -> None:
    (fault,) = folder_faults(place)
    assert fault.startswith(f"is an address of {place.partition(':')[0]}, got {place!r}")
    assert "name a folder" in fault


def test_a_folder_need_not_exist_but_must_be_able_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert folder_faults(str(tmp_path / "new" / "folder")) == ()
    assert folder_faults("data") == ()
    assert folder_faults(str(tmp_path / "file" / "below")) == (
        f"is not a folder: {tmp_path / 'file'} is a file",
    )
    (home,) = folder_faults("~/data")
    assert "write that folder out" in home
    assert folder_faults(" ") == ("is empty; name a folder",)

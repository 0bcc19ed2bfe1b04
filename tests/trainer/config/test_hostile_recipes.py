"""Recipes and tables with hostile values end in one message with the value and what is allowed;
nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from storage.base.errors import HighlightsError, LookupFailed, SettingsError
from trainer.__main__ import main
from trainer.config.recipe import STAGE_NAMES, load_recipe
from trainer.paper_tables import published
from trainer.paper_tables.published import load_table
from trainer.synthetic.user_features import SyntheticUserSettings, synthesize_users
from trainer.training.checkpoint import Checkpoint, write_checkpoint
from trainer.training.stages import STAGE_FUNCTIONS

WHOLE = ("training.epochs", "training.batch_size", "training.accumulate", "training.patience", "data.history_videos",
         "model.attention_dimensions", "data.pairs", "optimizer.decay_every_epochs", "sets.size")  # fmt: skip
REAL = ("optimizer.learning_rate", "optimizer.momentum", "optimizer.weight_decay", "optimizer.clip_norm",
        "optimizer.decay", "data.segment_seconds", "sets.lowest", "objective.margin")  # fmt: skip
NEVER_WHOLE = (
    "nan",
    "inf",
    "-inf",
    "-3",
    "1.5",
    "1e9",
    "9" * 30,
    "true",
    "'x'",
    "[]",
    "{a=1}",
    "1979-05-27",
    "3 4",
)
NEVER_REAL = ("nan", "inf", "-inf", "1e400", "true", "'x'", "[1]", "{a=1}", "1979-05-27", "-3")


def refused(recipe: str, *changes: str) -> str:
    """The message, on as many lines as there are faults and one more."""
    with pytest.raises(SettingsError) as raised:
        load_recipe(recipe, changes=changes)
    return str(raised.value)


@pytest.mark.parametrize("key", [key for key in WHOLE if not key.startswith("model.")])
@pytest.mark.parametrize("value", NEVER_WHOLE)
def test_a_whole_number_is_one(key: str, value: str) -> None:
    assert key.rpartition(".")[2] in refused("phd_ca", f"{key}={value}")


@pytest.mark.parametrize("key", REAL)
@pytest.mark.parametrize("value", NEVER_REAL)
def test_a_number_is_finite_and_in_its_range(key: str, value: str) -> None:
    if (key, value) == ("objective.margin", "-3"):
        pytest.skip("any finite margin is one")
    assert key.rpartition(".")[2] in refused("phd_ca", f"{key}={value}")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("training.epochs=1000000000", "epochs must be 1 to 1000000; got 1000000000"),
        ("training.select_by='x'", "select_by must be one of ap, ap_uninterpolated"),
        ("training=3", "training must be a table, got 3"),
        ("model=3", "model must be a table, got 3"),
        ("optimizer=''", "optimizer must be a table, got ''"),
        ("stages=3", "stages must be a list of texts, got 3"),
        ("stages=['x']", "unknown stage 'x'; choose from gradient, "),
        ("gaps=[1]", r"gaps must be a list of texts, got [1]"),
        ("source=3", "source must be a text, got 3"),
        ("small={model={x=1}}", "--small takes the recipe's small widths as they are"),
        ("start={encoder='../../x'}", "one of a_vhd, "),
        ("start={encoder=3}", "got 3"),
        ("data.arrays=['../x']", "arrays are keys such as c3d/pool5"),
        ("data.arrays=['c3d/pool5','c3d/pool5']", "arrays names each key once"),
        ("objective.margin='x'", "objective hinge.margin must be a finite number; got 'x'"),
        (
            "objective.colour=3",
            "objective hinge.colour is not a setting; there are margin, power",
        ),
        ("objective.name=3", "unknown objective 3"),
        ("model.name='../x'", "unknown highlight model '../x'"),
        (
            "tráining.epochs=3",
            "a change is table.key=value, such as training.epochs=3; got 'tráining",
        ),
        ("training.=3", "a change is table.key=value"),
        ("training.epochs=3\ntraining.batch_size=4", r"got 'training.epochs=3\ntraining"),
        ("training.epochs=\x00", "a change is table.key=value"),
        ("training.epochs=" + "[" * 5000, "epochs"),
        ("no.such.table=1", "recipe phd_ca has no table no; there are model, data"),
    ],
)
def test_what_is_not_a_setting_is_told(change: str, told: str) -> None:
    assert told in refused("phd_ca", change)


@pytest.mark.parametrize("recipe", ["max_similarity", "video_mmr"])
def test_a_model_without_settings_says_so(recipe: str) -> None:
    assert f"{recipe}: model.width is not a setting; there are none" in refused(
        recipe, "model.width=3"
    )


@pytest.mark.parametrize("value", ["-5", "70000", "2000000000"])
@pytest.mark.parametrize("key", ["layers", "heads", "hidden_width"])
def test_a_network_has_no_absurd_size(key: str, value: str) -> None:
    assert key in refused("sl_module", f"model.{key}={value}")


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "recipe mine names no model: add a table [model]"),
    "no text": (b"\xff\xfe\x00", "is not valid TOML"),
    "no TOML": (b"[model\n", "is not valid TOML"),
    "a key twice": (b"[training]\nepochs = 1\nepochs = 2\n", "is not valid TOML"),
    "a table twice": (b"[model]\n[model]\n", "is not valid TOML"),
    "nested without end": (b"a = " + b"[" * 100_000, "is not valid TOML"),
    "very large": (b"# " + b"x" * 1_100_000, "has more than 1,000,000 bytes"),
    "extends a number": (b"extends = 3\n", "extends names a recipe, or a .toml file; got 3"),
    "extends itself": (b'extends = "{self}"\n', "recipes extend each other in a circle"),
    "extends a path": (
        b'extends = "../recipes/phd_ca"\n',
        "no recipe '../recipes/phd_ca'; there are ",
    ),
    "rows": (
        b'extends = "phd_ca"\n[[training]]\nepochs = 1\n',
        "training must be a table, got [{'epochs': 1}]",
    ),
    "small rows": (b'extends = "phd_ca"\nsmall = 3\n', "small must be a table, got 3"),
    "not a number": (
        b'extends = "phd_ca"\n[optimizer]\nlearning_rate = nan\n',
        "must be a finite number; got nan",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_refused_in_words(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, told = FILES[kind]
    file = tmp_path / "mine.toml"
    file.write_bytes(content.replace(b"{self}", str(file).encode()))
    code = main(["fit", str(file), str(tmp_path / "none")])
    said = capsys.readouterr()
    assert (code, said.out, told in said.err) == (2, "", True), said.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    "name", ["Mine.toml", "mi ne.toml", "-mine.toml", "汉.toml", f"{'x' * 100}.toml", "$x.toml"]
)
def test_a_file_is_named_as_a_folder_can_be(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b'extends = "phd_ca"\n')
    assert "has 1 to 64 of the characters a-z" in refused(str(tmp_path / name))


def test_a_folder_that_ends_in_toml_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "x.toml").mkdir()
    with pytest.raises(LookupFailed, match="no recipe"):
        load_recipe(str(tmp_path / "x.toml"))


def test_every_stage_is_known_to_recipes() -> None:
    assert tuple(STAGE_FUNCTIONS) == STAGE_NAMES


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize_users(
        tmp_path_factory.mktemp("planted"),
        SyntheticUserSettings(train_users=6, test_users=3, max_videos=3),
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("fit", "phd_ca", "--seeds", "0"), "--seeds must be 1 to 1000, got 0"),
        (("fit", "phd_ca", "--seeds", "1000000000"), "--seeds must be 1 to 1000, got 1000000000"),
        (("fit", "phd_ca", "--workers", "-1"), "--workers must be 0 to 256, got -1"),
        (
            ("fit", "phd_ca", "--set", "start={nothing_such='phd_ca'}"),
            "its network cannot be built",
        ),
        (
            ("fit", "phd_ca", "--set", "training.epochs=nan"),
            "epochs must be a whole number; got nan",
        ),
        (("fit", "phd_ca", "--set", "data.arrays=['c3d/none']"), "none"),
        (("fit", "../phd_ca"), "no recipe '../phd_ca'; there are "),
        (
            ("table", "planted", "--set", "training.epochs=-1"),
            "epochs must be 1 to 1000000; got -1",
        ),
        (("table", "planted", "--seeds", "-1"), "--seeds must be 1 to 1000, got -1"),
        (("table", "../planted"), "no table '../planted'; there are "),
    ],
)
def test_a_command_with_hostile_values_leaves_nothing(
    arguments: tuple[str, ...], told: str, planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(planted.rglob("*"))
    command, name, *others = arguments
    code = main([command, name, str(planted), *others])
    said = capsys.readouterr()
    assert (code, told in said.err) == (2, True), said.err
    assert sorted(planted.rglob("*")) == before


GOOD = 'title = "t"\nsource = "s"\n[metrics]\nap = "mAP"\n'
TABLES: dict[str, tuple[str, str]] = {
    "no TOML": ("[", "is not valid TOML"),
    "no rows": (GOOD, "must have rows with different names"),
    "rows that are none": ("rows = 3\n" + GOOD, "rows must be a list of tables, got 3"),
    "a row twice": (
        GOOD + '[[rows]]\nname = "a"\nquoted = "q"\n' * 2,
        "must have rows with different names",
    ),
    "a row without a name": (
        GOOD + '[[rows]]\nquoted = "q"\n',
        "a row's name must be a text, got None",
    ),
    "a published NaN": (
        GOOD + '[[rows]]\nname = "a"\nquoted = "q"\n[rows.published]\nap = nan\n',
        "finite number",
    ),
    "an unknown metric": (
        GOOD + '[[rows]]\nname = "a"\nquoted = "q"\n[rows.published]\nx = 1\n',
        "['x']",
    ),
    "an unknown key": (
        GOOD + '[[rows]]\nname = "a"\nquoted = "q"\ncolour = 3\n',
        "colour is not a setting",
    ),
    "a row of nothing": (
        GOOD + '[[rows]]\nname = "a"\n',
        "exactly one of recipe, baseline and quoted",
    ),
    "a range without end": (
        GOOD + '[[rows]]\nname = "a"\nquoted = "q"\nk = [1000000000]\n',
        "k must be a list of 0",
    ),
    "against nobody": (
        GOOD + '[[rows]]\nname = "a"\nquoted = "q"\nagainst = ["b"]\n',
        "compares rows with b",
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_refused_in_words(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, told = TABLES[kind]
    (tmp_path / "mine.toml").write_text(content)
    folder: Any = lambda: tmp_path  # noqa: E731
    monkeypatch.setattr(published, "_folder", folder)
    with pytest.raises(HighlightsError) as raised:
        load_table("mine")
    assert told in str(raised.value)


def about(**changes: Any) -> dict[str, Any]:
    """What a finished network says of itself, but for `changes`; those that are ... are left
    out.
    """
    told = {
        "recipe_name": "phd_sa",
        "recipe": {"model": {"name": "phd_sa"}},
        "is_small": True,
        "seed": 0,
    }
    said = told | {"trained_on": {}, "shapes": {"c3d/pool5": [8]}} | changes
    return {key: value for key, value in said.items() if value is not ...}


GOOD_RECIPE = {"model": {"name": "phd_sa"}, "objective": {"name": "hinge"}}
ABOUTS: dict[str, tuple[dict[str, Any], str]] = {
    "without a recipe": (
        about(recipe=...),
        "does not say what its network is made of: KeyError('recipe')",
    ),
    "a recipe that is a number": (about(recipe=3), "does not say what its network is made of"),
    "shapes that are a text": (about(shapes="x"), "does not say what its network is made of"),
    "without features": (about(trained_on=...), "KeyError('trained_on')"),
    "a model that is none": (
        about(recipe={"model": {"name": "x"}}),
        "unknown highlight model 'x'",
    ),
    "a setting that is none": (
        about(recipe={"model": {"name": "phd_sa", "x": 1}}),
        "holds no recipe of this release",
    ),
    "a momentum of nine": (
        about(recipe={**GOOD_RECIPE, "optimizer": {"momentum": 9.0}}),
        "momentum must be",
    ),
}


@pytest.mark.parametrize("kind", ABOUTS)
@pytest.mark.parametrize("command", [("predict", "video"), ("score",), ("report",)])
def test_a_checkpoint_that_says_nothing_usable_is_one_line(
    kind: str,
    command: tuple[str, ...],
    planted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said, told = ABOUTS[kind]
    write_checkpoint(
        tmp_path / "model.safetensors", Checkpoint(said, {"model": {"a": torch.zeros(2)}})
    )
    name, *others = command
    code = main([name, str(tmp_path / "model.safetensors"), str(planted), *others])
    shown = capsys.readouterr()
    assert (code, told in shown.err, shown.err.count("\n")) == (5, True, 1), shown.err


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit of the length": lambda raw: bytes([raw[0] ^ 8]) + raw[1:],
    "an enormous length": lambda raw: b"\xff" * 8 + raw[8:],
    "a length of gigabytes": lambda raw: (2**33).to_bytes(8, "little") + raw[8:],
    "no length": lambda raw: bytes(8) + raw[8:],
    "a bit of the header": lambda raw: raw[:40] + bytes([raw[40] ^ 1]) + raw[41:],
    "cut in the header": lambda raw: raw[:100],
    "cut in the tensors": lambda raw: raw[:-3],
    "empty": lambda raw: b"",
    "zeros": lambda raw: bytes(len(raw)),
    "a page": lambda raw: b"<html>sign in</html>",
    "twice": lambda raw: raw + raw,
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_one_line(
    kind: str, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.safetensors"
    write_checkpoint(file, Checkpoint(about(), {"model": {"a": torch.zeros(2)}}))
    file.write_bytes(DAMAGES[kind](file.read_bytes()))
    code = main(["predict", str(file), str(planted), "video"])
    shown = capsys.readouterr()
    assert (code, shown.out, shown.err.count("\n")) == (5, "", 1), shown.err
    assert str(file) in shown.err

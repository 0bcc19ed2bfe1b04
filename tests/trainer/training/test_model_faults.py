"""Mistakes in a model of one's own end with exit code 2 and one sentence, before any training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.plugin_models import CODE, RECIPE, forget_model, install_model
from trainer.__main__ import main
from trainer.synthetic.user_features import SyntheticUserSettings, synthesize_users

PLANTED = SyntheticUserSettings(seed=3, train_users=8, test_users=3, max_videos=4, width=16)
FORWARD = "return Scores(self.layer(batch.features[self.key]).squeeze(-1))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize_users(tmp_path_factory.mktemp("planted"), PLANTED)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    yield site
    forget_model()


def refused(
    site: Path, folder: Path, code: str, capsys: pytest.CaptureFixture[str], recipe: str = RECIPE
) -> str:
    """The message of a fit with this model, which must end with exit code 2 and leave no run."""
    install_model(site, code)
    file = site / "line.toml"
    file.write_text(recipe)
    assert main(["fit", str(file), str(folder)]) == 2
    assert not (folder / "runs").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (
            "return Scores(self.layer(batch.features[self.key]))",
            "forward returned Scores whose scores are a Tensor of shape (6, 60, 1); it must return "
            "Scores with scores of shape (6, 60)",
        ),
        (
            "return self.layer(batch.features[self.key]).squeeze(-1)",
            "forward returned a Tensor of shape (6, 60); it must return Scores with scores of",
        ),
        ("return None", "forward returned a NoneType; it must return Scores with scores of shape"),
        (FORWARD.replace("))", ").detach())", 1).replace(".detach()", "")[:-1] + ".detach())",
         "have no gradient"),
        ("return Scores(batch.mask.long())", "forward returned scores of torch.int64"),
        (
            "return Scores(self.layer(batch.features['c3d/fc9']).squeeze(-1))",
            "KeyError: 'c3d/fc9' (",
        ),
    ],
    ids=["shape", "tensor", "none", "detached", "integers", "raises"],
)  # fmt: skip
def test_an_output_that_breaks_the_contract(
    site: Path, folder: Path, forward: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert FORWARD in CODE
    found = refused(site, folder, CODE.replace(FORWARD, forward), capsys)
    assert "recipe line, model vh_linear: " in found
    assert message in found


def test_an_error_in_forward_names_its_file_and_line(
    site: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = refused(site, folder, CODE.replace(FORWARD, "return batch.nothing"), capsys)
    line = CODE[: CODE.index(FORWARD)].count("\n") + 1
    assert f"{site / 'vh_linear_model.py'}, line {line}, in forward" in found


@pytest.mark.parametrize(
    ("before", "after", "messages"),
    [
        (
            "build=Linear",
            "build=lambda settings, shapes: None",
            ["build returned a NoneType; it must return a torch.nn.Module"],
        ),
        (
            "build=Linear",
            "build=lambda settings: None",
            ["cannot be built with", "takes 1 positional"],
        ),
        (
            "((self.key, (width,)),)",
            "((self.key, (width, height)),)",
            ["for positions of c3d/pool5 (16,)", "not enough values to unpack", "in __init__"],
        ),
        (
            "torch.nn.Linear(width, 1, bias=settings.bias)",
            "None",
            ["no parameter of this network requires a gradient"],
        ),
        ("settings=Settings", "settings=dict", ["must be a frozen dataclass, got <class 'dict'>"]),
        ("@dataclass(frozen=True)", "@dataclass", ["Settings must be a frozen dataclass; write"]),
        ('unit="segment"', 'unit="segments"', ["unit is one of row, segment; got 'segments'"]),
        (
            'arrays=("c3d/pool5",)',
            'arrays="c3d/pool5"',
            ["arrays is a tuple such as ('c3d/pool5',), got 'c3d/pool5'"],
        ),
        ("import torch", "import torch, nothing_here", ["cannot be imported (ModuleNotFoundError"]),
        (
            'name="vh_linear"',
            'name="another"',
            ["is called 'vh_linear', but its ModelSpec has name='another'; write the same name"],
        ),
    ],
)
def test_a_spec_or_a_build_that_breaks_the_contract(
    site: Path,
    folder: Path,
    before: str,
    after: str,
    messages: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert before in CODE
    found = refused(site, folder, CODE.replace(before, after), capsys)
    for message in messages:
        assert message in found


def test_an_objective_that_needs_what_the_model_lacks(
    site: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = RECIPE.replace('"hinge"', '"cross_entropy"')
    found = refused(site, folder, CODE, capsys, recipe)
    assert "the objective cross_entropy needs the part 'logits' in the Scores of the model" in found


def test_an_array_that_the_store_lacks(
    site: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = RECIPE.replace("[data]", '[data]\narrays = ["yolov5/p5"]')
    found = refused(site, folder, CODE, capsys, recipe)
    assert "has no variant 'yolov5'; it has c3d-" in found
    assert "The recipe reads yolov5/p5: extract these features, or name other arrays" in found
    wrong = RECIPE.replace("[data]", "[data]\narrays = 3")
    found = refused(site, folder, CODE, capsys, wrong)
    assert "line: data.arrays must be a list, each a text; got 3" in found
    assert "positional argument" not in found


def test_a_recipe_without_a_model_or_an_objective(
    site: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = RECIPE.replace('[objective]\nname = "hinge"\n', "")
    found = refused(site, folder, CODE, capsys, without)
    assert 'names no objective: add a table [objective] with name = "NAME", one of' in found
    found = refused(site, folder, CODE, capsys, "[training]\nepochs = 1\n")
    assert 'recipe line names no model: add a table [model] with name = "NAME"' in found


def test_a_model_with_the_name_of_ours_is_refused(
    site: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install_model(site)
    (points,) = site.glob("my_linear-*/entry_points.txt")
    points.write_text(points.read_text().replace("vh_linear =", "phd_ca ="))
    assert main(["fit", "phd_ca", str(folder)]) == 2
    message = capsys.readouterr().err
    assert "highlight model 'phd_ca' is built in, and my-linear offers the same name" in message


def test_scores_of_the_wrong_shape_are_refused_in_scoring_too(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install_model(site)
    (tmp_path / "line.toml").write_text(RECIPE)
    store = synthesize_users(tmp_path, PLANTED)
    assert main(["fit", str(tmp_path / "line.toml"), str(store)]) == 0
    (model,) = store.glob("runs/*/model.safetensors")
    install_model(site, CODE.replace(".squeeze(-1)", ""))
    capsys.readouterr()
    assert main(["score", str(model), str(store)]) == 2
    assert "forward returned Scores whose scores are a Tensor of shape (" in capsys.readouterr().err

"""A model whose code has changed is trained anew, and scores of its old weights say so."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.plugin_models import CODE, RECIPE, forget_model, install_model
from trainer.__main__ import main
from trainer.config.recipe import load_recipe
from trainer.config.run_code import code_changes, run_code
from trainer.synthetic.user_features import SyntheticUserSettings, synthesize_users
from trainer.training.checkpoint import Checkpoint, read_about, read_checkpoint, write_checkpoint

PLANTED = SyntheticUserSettings(seed=3, train_users=8, test_users=3, max_videos=4, width=16)
SCALED = CODE.replace("super().__init__()", "super().__init__()\n        self.scale = 2")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    # Python would take a cached module whose source has the same second and size.
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    install_model(folder)
    yield folder
    forget_model()
    importlib.invalidate_caches()


@pytest.fixture
def fitted(site: Path, tmp_path: Path) -> tuple[str, Path]:
    """The recipe and the store of a trained model."""
    recipe = tmp_path / "line.toml"
    recipe.write_text(RECIPE)
    folder = synthesize_users(tmp_path, PLANTED)
    assert main(["fit", str(recipe), str(folder)]) == 0
    return str(recipe), folder


def model_of(folder: Path) -> Path:
    (model,) = folder.glob("runs/*/model.safetensors")
    return model


def rewrite_about(path: Path, **about: object) -> None:
    """Write a checkpoint as a release did that kept other records; None removes one."""
    checkpoint = read_checkpoint(path)
    kept = {**checkpoint.about, **about}
    kept = {name: value for name, value in kept.items() if value is not None}
    write_checkpoint(path, Checkpoint(kept, checkpoint.state))


def test_changed_code_is_trained_anew_and_the_old_network_is_kept(
    fitted: tuple[str, Path], site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folder = fitted
    model = model_of(folder)
    first, name = model.read_bytes(), model.parent.name
    install_model(site, SCALED)
    assert main(["fit", recipe, str(folder)]) == 0
    message = capsys.readouterr().err
    assert f"{name} is trained anew, because code has changed: model: trained with" in message
    assert "my-linear 3, code" in message
    assert model_of(folder).parent.name == name
    assert model.read_bytes() != first
    (old,) = model.parent.glob("model.*.safetensors")
    assert old.read_bytes() == first
    again = model.stat().st_mtime_ns
    assert main(["fit", recipe, str(folder)]) == 0
    assert model.stat().st_mtime_ns == again


@pytest.mark.parametrize("change", ["comment", "record of no release"])
def test_a_comment_or_a_missing_record_trains_nothing(
    fitted: tuple[str, Path], site: Path, change: str
) -> None:
    recipe, folder = fitted
    model = model_of(folder)
    if change == "comment":
        install_model(site, CODE.replace("SPEC =", "# The row.\nSPEC ="))
    else:
        rewrite_about(model, code=None, plugin=None)
    before = model.stat().st_mtime_ns
    assert main(["fit", recipe, str(folder)]) == 0
    assert model.stat().st_mtime_ns == before


@pytest.mark.parametrize("has_record", [True, False])
def test_another_version_of_a_plugin_is_trained_anew(
    fitted: tuple[str, Path], site: Path, has_record: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folder = fitted
    if not has_record:  # as releases before the record of code
        rewrite_about(model_of(folder), code=None)
    install_model(site, version="4")
    assert main(["fit", recipe, str(folder)]) == 0
    message = capsys.readouterr().err
    assert "trained with my-linear 3," in message
    assert "now my-linear 4," in message


def test_an_interrupted_training_of_other_code_is_not_continued(
    fitted: tuple[str, Path], site: Path
) -> None:
    recipe, folder = fitted
    model = model_of(folder)
    last = model.rename(model.with_name("last.safetensors"))  # its state would not even load
    install_model(site, SCALED)
    assert main(["fit", recipe, str(folder)]) == 0
    assert model.is_file()
    assert not last.exists()
    assert list(model.parent.glob("last.*.safetensors"))


def test_scores_of_old_weights_name_both_codes(
    fitted: tuple[str, Path], site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = fitted
    score = ["score", str(model_of(folder)), str(folder)]
    assert main(score) == 0
    first = capsys.readouterr().out
    assert "the code has changed" not in first
    install_model(site, CODE.replace("squeeze(-1)", "squeeze(-1).neg()"))
    assert main(score) == 0
    second = capsys.readouterr().out
    assert (
        "NOTE     the code has changed since training: model: trained with my-linear 3, code"
        in second
    )
    assert first.splitlines()[2] != second.splitlines()[3]  # scored anew, and not read


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("torch.nn.Linear(width, 1,", "torch.nn.Linear(width, 2,"),
        ("bias: bool = True", "bias: bool = True\n\n    def __post_init__(self):\n"
         "        raise ValueError('bias is gone')"),
    ],
    ids=["network", "settings"],
)  # fmt: skip
def test_weights_that_do_not_suit_changed_code_are_no_damage(
    fitted: tuple[str, Path],
    site: Path,
    before: str,
    after: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, folder = fitted
    install_model(site, CODE.replace(before, after))
    assert main(["score", str(model_of(folder)), str(folder)]) == 2
    message = capsys.readouterr().err
    assert "does not suit the present code, which has changed since training" in message
    assert "train it again" in message


def test_weights_of_a_model_that_is_not_installed_are_no_damage(
    fitted: tuple[str, Path], site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = fitted
    for file in site.glob("my_linear-*/entry_points.txt"):
        file.unlink()
    forget_model()
    assert main(["score", str(model_of(folder)), str(folder)]) == 2
    message = capsys.readouterr().err
    assert "unknown highlight model 'vh_linear'" in message
    assert "my-linear 3, code" in message


def test_the_record_of_our_own_models_names_every_start() -> None:
    assert set(run_code(load_recipe("phd_ca"))) == {"model", "objective"}
    assert "start.first.model" in run_code(load_recipe("phd_ca_svm_d"))
    code = run_code(load_recipe("phd_ca"))
    assert code["model"].startswith("video-highlights, code ")
    other = {**code, "objective": "video-highlights, code 000000000000"}
    (change,) = code_changes({"code": code}, other)
    assert change == f"objective: trained with {code['objective']}, now {other['objective']}"


def test_what_a_spec_reads_is_part_of_the_code(site: Path) -> None:
    recipe = load_recipe("phd_ca")
    assert replace(recipe, changes=()).fingerprint == recipe.fingerprint
    install_model(site)
    table = {"model": {"name": "vh_linear"}}
    first = run_code(replace(recipe, table=table, start={}))
    install_model(site, CODE.replace('history="none"', 'history="clips"'))
    assert run_code(replace(recipe, table=table, start={})) != first


def test_the_header_of_a_checkpoint_is_read_alone(fitted: tuple[str, Path], tmp_path: Path) -> None:
    model = model_of(fitted[1])
    assert read_about(model) == read_checkpoint(model).about
    (tmp_path / "damaged").write_bytes(b"\xff" * 40)
    (tmp_path / "empty").write_bytes(b"")
    assert read_about(tmp_path / "damaged") == read_about(tmp_path / "empty") == {}

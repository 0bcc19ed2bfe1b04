"""The settings stored in a checkpoint lead back to the extractor, or to the reason why not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from models.extractors.registry import EXTRACTORS
from pipeline.extraction.variant import Variant
from pipeline.extraction.variant_from_settings import variant_from_description
from storage.base.errors import SettingsError
from storage.base.fingerprint import to_json_value
from storage.base.records import JSON


def variant(name: str, weights: str = "random:3", **settings: object) -> Variant:
    spec = EXTRACTORS[name.partition(".")[0]]
    return Variant(
        name, spec, spec.settings_type(**settings), weights if spec.needs_weights else ""
    )


def described(made: Variant) -> dict[str, JSON]:
    """As it comes back from a checkpoint's JSON."""
    found = to_json_value(made.description())
    assert isinstance(found, dict)
    return found


def back(made: Variant, tmp_path: Path, **configured: str) -> Variant:
    return variant_from_description(
        made.name, described(made), configured=configured, converted=tmp_path
    )


@pytest.mark.parametrize("name", sorted(EXTRACTORS))
def test_every_extractor_is_found_again(name: str, tmp_path: Path) -> None:
    made = variant(name)
    assert back(made, tmp_path).full_name == made.full_name


def test_settings_other_than_the_defaults_are_found_again(tmp_path: Path) -> None:
    made = variant("c3d.dense", arrays=("fc6",), stride_frames=8, precision="bf16")
    again = back(made, tmp_path)
    assert (again.full_name, again.settings) == (made.full_name, made.settings)


def test_weights_are_known_by_their_content(tmp_path: Path) -> None:
    file, other = tmp_path / "c3d.pickle", tmp_path / "other.pickle"
    file.write_bytes(b"some weights")
    other.write_bytes(b"others")
    made, copy = variant("c3d", str(file)), tmp_path / "copy.pickle"
    copy.write_bytes(file.read_bytes())
    assert back(made, tmp_path, weights=str(copy)).weights == str(copy)
    with pytest.raises(
        SettingsError, match=r"\[c3d\] weights: .* none is named; set it to the path"
    ):
        back(made, tmp_path)
    with pytest.raises(SettingsError, match=r"other.pickle is another file"):
        back(made, tmp_path, weights=str(other))


def test_files_among_the_settings_are_too(tmp_path: Path) -> None:
    mean = tmp_path / "mean.npy"
    mean.write_bytes(b"a volume")
    made = variant("c3d", mean=str(mean))
    assert back(made, tmp_path, mean=str(mean)).full_name == made.full_name
    with pytest.raises(SettingsError, match=r"\[c3d\] mean: .* none is named"):
        back(made, tmp_path)


def test_what_no_extractor_makes_is_refused(tmp_path: Path) -> None:
    good = described(variant("c3d"))
    settings = good["settings"]
    assert isinstance(settings, dict)
    for change, says in (
        ({"weights": "planted:1"}, "no extractor made"),
        ({"extractor": "i3d"}, "no extractor i3d here; a package may offer it"),
        ({"segments": {}}, "a new video has none"),
        ({"settings": {**settings, "tempo": 2}}, "there is no setting tempo"),
        (
            {"settings": {**settings, "precision": "fp64"}},
            "cannot extract with the model's settings",
        ),
        ({"numerics_version": 99}, "this release makes"),
    ):
        with pytest.raises(SettingsError, match=says):
            variant_from_description("c3d", {**good, **change}, configured={}, converted=tmp_path)


def test_nothing_of_a_variant_is_left_out(tmp_path: Path) -> None:
    made = variant("yolov5", size="n", input_pixels=320, arrays=("p5",))
    again = back(made, tmp_path)
    differing = {
        field.name
        for field in dataclasses.fields(made)
        if getattr(made, field.name) != getattr(again, field.name)
        and field.name != "converted_folder"
    }
    assert differing == set()

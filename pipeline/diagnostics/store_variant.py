"""Rebuilds the variant that a feature folder's settings.json describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.extractors.registry import EXTRACTORS
from pipeline.extraction.variant import Variant
from pipeline.weights.weights_folder import WeightsFolder
from storage.base.errors import SettingsError
from storage.base.paths import Layout
from storage.catalog.catalog import read_catalog
from storage.features.store import VariantReader, variant_layouts

_FILE = "sha256:"


def open_variant(folder: Path) -> VariantReader:
    """The variant kept in a feature folder, `ROOT/<catalog>/features/<variant>-<fingerprint>`."""
    found = [
        one
        for one in variant_layouts(folder.absolute().parents[1])
        if one.folder == folder.absolute()
    ]
    if not found:
        own = [
            str(folder / one.folder.relative_to(folder.absolute()))
            for one in variant_layouts(folder)
        ]
        there = ", or ".join(own) or "ROOT/<catalog>/features/<variant>-<fingerprint>"
        raise SettingsError((f"{folder} is no feature folder; give {there}",))
    return VariantReader(found[0])


def layout_of_variant(folder: Path) -> Layout:
    """The layout a feature folder is part of."""
    catalog = folder.absolute().parents[1]
    return Layout(catalog.parent, catalog.name)


def variant_of_store(
    reader: VariantReader, folder: WeightsFolder, weights: str, files: Mapping[str, str]
) -> Variant:
    """The variant that settings.json describes. `weights` and `files` name what only their sha256
    is stored of, where no registered file in `folder` has that sha256.

    Raises SettingsError if the code, the weights, the files or the annotated segments are not those
    the features were made with.
    """
    told = reader.settings
    spec = EXTRACTORS.get(str(told["extractor"]))
    if spec is None or spec.numerics_version != told["numerics_version"]:
        raise SettingsError(
            (f"{reader.name} was made by {told['extractor']} of numerics version {told['numerics_version']}; "
             f"this code has {f'version {spec.numerics_version}' if spec else 'no such extractor'}",)
        )  # fmt: skip
    chosen = _weights(reader.name, str(told["weights"]), folder, weights)
    settings = spec.settings_type(**_fields(told["settings"], folder, files))
    variant = Variant(reader.layout.variant, spec, settings, chosen, folder.converted)
    variant = variant.of_catalog(lambda: read_catalog(reader.layout.folder.parents[1]).segments)
    differing = [key for key, value in variant.description().items() if told.get(key) != value]
    if differing:
        lines = [
            f"{key}: {told.get(key)} stored, {variant.description()[key]} here" for key in differing
        ]
        raise SettingsError((f"{reader.name} cannot be made again: " + "; ".join(lines),))
    return variant


def _weights(name: str, stored: str, folder: WeightsFolder, named: str) -> str:
    if not stored.startswith(_FILE):
        return stored
    if named:
        return str(folder.resolve(named))
    if (found := folder.find_by_content(stored)) is None:
        raise SettingsError(
            (
                f"{name} was made with weights of {stored}, and {folder.path} has no such file; name it with --weights",
            )
        )
    return str(found)


def _fields(
    settings: Mapping[str, Any], folder: WeightsFolder, files: Mapping[str, str]
) -> dict[str, Any]:
    if strange := sorted(files.keys() - settings.keys()):
        raise SettingsError(
            (f"--file names {', '.join(strange)}; settings are {', '.join(sorted(settings))}",)
        )
    found = {
        name: files.get(name) or folder.find_by_content(value)
        for name, value in settings.items()
        if isinstance(value, str) and value.startswith(_FILE)
    }
    if missing := [name for name, path in found.items() if path is None]:
        told = (
            f"{name} is a file of {settings[name]}, which {folder.path} has not" for name in missing
        )
        raise SettingsError(
            tuple(
                f"{line}; give --file {name}=PATH" for name, line in zip(missing, told, strict=True)
            )
        )
    plain = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    return plain | {name: str(path) for name, path in found.items()}

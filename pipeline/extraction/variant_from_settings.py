"""From the settings that a store or a checkpoint keeps of its features, back to the variant that
makes such features.

A network scores a new video only on features made exactly as those it was trained on. Refuses to
know networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.extractors.base.contract import ExtractorSpec
from models.extractors.registry import EXTRACTORS
from pipeline.extraction.variant import Variant, weights_identity
from storage.base.errors import SettingsError
from storage.base.fingerprint import differing_settings, fingerprint
from storage.base.records import JSON

Described = Mapping[str, JSON]


def variant_from_description(
    name: str, described: Described, *, configured: Mapping[str, str], converted: Path
) -> Variant:
    """The variant `name` whose description is `described`.

    `configured` has what a description cannot: the path of the weights under `weights`, and of any
    other file under the name of its setting. SettingsError if it cannot be made here, with what
    would have to be other.
    """
    spec = _spec(name, described)
    settings = described.get("settings")
    if not isinstance(settings, dict) or "segments" in described:
        raise SettingsError(
            (
                f"{name} has a row for each annotated segment of its catalog, and a new video has none",
            )
        )
    weights = _file(name, "weights", str(described.get("weights", "")), configured)
    try:
        chosen = _chosen(spec, name, settings, configured)
        variant = Variant(name, spec, chosen, weights, converted)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            (f"{name}: this release cannot extract with the model's settings: {error}",)
        ) from error
    if variant.fingerprint() != fingerprint(described):
        theirs, ours = differing_settings([described, variant.description()])
        raise SettingsError(
            (f"{name}: the model wants features with {theirs}; this release would make {ours}",)
        )
    return variant


def _spec(name: str, described: Described) -> ExtractorSpec:
    spec = EXTRACTORS.get(str(described.get("extractor")))
    weights = str(described.get("weights", ""))
    if spec is None or weights.startswith("planted:"):
        raise SettingsError(
            (
                f"the model was trained on {name} features that no extractor made ({weights or 'foreign'})",
            )
        )
    return spec


def _chosen(
    spec: ExtractorSpec, name: str, settings: Mapping[str, JSON], configured: Mapping[str, str]
) -> Any:
    known = {field.name for field in dataclasses.fields(spec.settings_type)}
    if unknown := sorted(set(settings) - known):
        raise ValueError(f"there is no setting {', '.join(unknown)}")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    texts = {key: value for key, value in values.items() if isinstance(value, str)}
    return spec.settings_type(
        **values | {key: _file(name, key, text, configured) for key, text in texts.items()}
    )


def _file(name: str, setting: str, identity: str, configured: Mapping[str, str]) -> str:
    """The configured file of that sha256; a text that names none is itself."""
    if not identity.startswith("sha256:"):
        return identity
    path = configured.get(setting, "")
    if path and Path(path).is_file() and weights_identity(path) == identity:
        return path
    found = f"{path} is another file" if path else "none is named"
    raise SettingsError(
        (
            f"[{name}] {setting}: the model was trained with the file {identity}, and {found}; name it there",
        )
    )

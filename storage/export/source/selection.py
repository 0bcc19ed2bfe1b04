"""Which videos, variants and arrays an export holds, decided before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from storage.base.errors import LookupFailed, SettingsError
from storage.base.records import CONTAINER_START
from storage.catalog.catalog import Catalog, read_catalog
from storage.export.source.chosen_ids import chosen_ids
from storage.features.part_reader import ArrayFormat
from storage.features.store import FeatureStore, VariantReader

Refusal = Callable[[str, ArrayFormat], str]
"""Why a format cannot hold an array of that name and form; empty if it can."""


@dataclass(frozen=True)
class VariantChoice:
    """One variant of an export."""

    reader: VariantReader
    arrays: Mapping[str, ArrayFormat]
    """The arrays to write, by name; none if no selected video has features."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Array that was not asked for by name and cannot be written → why."""

    @property
    def name(self) -> str:
        """The variant's full name."""
        return self.reader.name

    @property
    def is_left_out(self) -> bool:
        """Whether it has arrays, but none that can be written."""
        return bool(self.skipped) and not self.arrays


@dataclass(frozen=True)
class Selection:
    """The videos and variants of an export."""

    catalog: Catalog
    ids: tuple[str, ...]
    """Ids of the catalog, ascending, with features or without."""
    variants: tuple[VariantChoice, ...]
    rule: str
    """How the ids were chosen: `all`, `ids of a file`, or `split NAME`."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Variant that was not asked for by name, and has no array that the form can hold → why."""

    def done_ids(self, variant: VariantChoice) -> tuple[str, ...]:
        """The selected videos that have rows in a variant, ascending."""
        return tuple(video_id for video_id in self.ids if video_id in variant.reader)


@dataclass(frozen=True)
class SelectionRequest:
    """What the user asks for. Empty means everything."""

    variants: tuple[str, ...] = ()
    """Names of variants, full or short."""
    arrays: tuple[str, ...] = ()
    """`variant/array`, or `array` where one variant is exported."""
    ids: tuple[str, ...] | None = None
    split: str = ""
    """A split of the users, a group of the videos, or `grouping/group`."""
    clip_seconds: float = 0.0
    """Length of the clips that rows are averaged over; 0 keeps rows as stored."""


def select(folder: Path, request: SelectionRequest, refusal: Refusal) -> Selection:
    """The videos, variants and arrays of an export of the catalog in `folder`.

    Raises:
        SettingsError: the request contradicts itself, or a named array cannot be written.
        LookupFailed: a name is not in the store.
    """
    catalog = read_catalog(folder)
    ids, rule = chosen_ids(catalog, request.ids, request.split)
    asked = _asked_arrays(request)
    choices = [
        _choose(reader, ids, asked, refusal, request.clip_seconds)
        for reader in _readers(folder, request, asked)
    ]
    left_out = {
        choice.name: "; ".join(f"{name}: {why}" for name, why in choice.skipped.items())
        for choice in choices
        if choice.is_left_out
    }
    kept = tuple(choice for choice in choices if not choice.is_left_out)
    selection = Selection(catalog, ids, kept, rule, left_out)
    _check_not_empty(selection, is_named=bool(request.variants))
    return selection


def _readers(
    folder: Path, request: SelectionRequest, asked: Mapping[str, Sequence[str]]
) -> list[VariantReader]:
    """The variants asked for by name, else those of the arrays asked for, else all."""
    store = FeatureStore(folder)
    names = request.variants or tuple(filter(None, asked)) or store.variants()
    if not names:
        raise LookupFailed(f"{folder} has no features yet; build some first")
    readers = {reader.name: reader for reader in map(store.__getitem__, names)}
    if "" in asked and len(readers) != 1:
        array = asked[""][0]
        raise SettingsError((
            f"--arrays {array} names no variant, and {len(readers)} are exported; write "
            f"{next(iter(readers))}/{array}",
        ))  # fmt: skip
    return list(readers.values())


def _check_not_empty(selection: Selection, *, is_named: bool) -> None:
    """Raise SettingsError if nothing would be written, or not what was asked for by name."""
    has_arrays = any(choice.arrays for choice in selection.variants)
    if has_arrays and not is_named:
        return
    faults = [
        f"{name} has no array that this form can hold: {why}"
        for name, why in selection.left_out.items()
    ]
    if not faults and not has_arrays:
        faults = [
            f"none of the {len(selection.ids)} selected videos has features in "
            + ", ".join(choice.name for choice in selection.variants)
        ]
    if faults:
        raise SettingsError(tuple(faults))


def _asked_arrays(request: SelectionRequest) -> dict[str, list[str]]:
    """Variant as it was written → arrays asked of it; the key is empty where none was named."""
    asked: dict[str, list[str]] = {}
    for text in request.arrays:
        variant, _, array = text.rpartition("/")
        if not array:
            raise SettingsError((f"--arrays takes variant/array, such as c3d/fc6, got {text!r}",))
        asked.setdefault(variant, []).append(array)
    return asked


def _choose(
    reader: VariantReader,
    ids: Sequence[str],
    asked: Mapping[str, Sequence[str]],
    refusal: Refusal,
    clip_seconds: float,
) -> VariantChoice:
    first = next((video_id for video_id in ids if video_id in reader), None)
    if first is None:
        return VariantChoice(reader, {})
    if clip_seconds:
        _check_clock(reader)
    handle = reader[first]
    named = _named_arrays(reader, asked)
    # An unknown name raises LookupFailed, which lists the names.
    formats = {name: handle[name].format for name in named or handle.arrays}
    skipped = _skipped(formats, refusal, clip_seconds)
    if named:
        _refuse_named(reader, skipped)
    chosen = {name: array for name, array in formats.items() if name not in skipped}
    return VariantChoice(reader, chosen, skipped)


def _refuse_named(reader: VariantReader, skipped: Mapping[str, str]) -> None:
    if skipped:
        texts = [f"--arrays {reader.name}/{name}: {why}" for name, why in skipped.items()]
        raise SettingsError(tuple(texts))


def _skipped(
    formats: Mapping[str, ArrayFormat], refusal: Refusal, clip_seconds: float
) -> dict[str, str]:
    """The arrays that cannot be written → why."""
    skipped: dict[str, str] = {}
    for name, array in formats.items():
        if why := refusal(name, array) or _no_mean(array, clip_seconds):
            skipped[name] = why
    return skipped


def _named_arrays(reader: VariantReader, asked: Mapping[str, Sequence[str]]) -> list[str]:
    """The arrays that are asked of a variant by its full name, its short name, or by no name."""
    named: list[str] = []
    for key in ("", reader.name, reader.layout.variant):
        named += asked.get(key, ())
    return named


def _no_mean(array: ArrayFormat, clip_seconds: float) -> str:
    if not clip_seconds:
        return ""
    if array.ragged:
        return "its rows differ in length, so they have no mean; use --clip-seconds 0"
    if array.dtype.kind != "f":
        return f"a mean of {array.dtype} says nothing; use --clip-seconds 0"
    return ""


def _check_clock(reader: VariantReader) -> None:
    other = reader.time_origins - {CONTAINER_START}
    if other:
        raise SettingsError((
            f"{reader.name} counts its times from {', '.join(sorted(other))}, so second 0 of a "
            f"clip is unknown; run `python -m pipeline rebase {reader.layout.folder.parents[1]}`, "
            "or export rows as stored with --clip-seconds 0",
        ))  # fmt: skip

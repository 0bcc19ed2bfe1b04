"""Which videos, variants and arrays an export holds, decided before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from storage.base.errors import LookupFailed, SettingsError
from storage.base.records import CONTAINER_START
from storage.catalog.catalog import Catalog, read_catalog
from storage.catalog.csv_tables import text_column
from storage.features.part_reader import ArrayFormat
from storage.features.store import FeatureStore, VariantReader

Refusal = Callable[[str, ArrayFormat], str]
"""Why a format cannot hold an array of that name and form; empty if it can."""
MAX_NAMED = 5
"""How many unknown ids an error names."""


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
    ids, rule = _chosen_ids(catalog, request)
    store = FeatureStore(folder)
    asked = _asked_arrays(request)
    names = list(request.variants) or [name for name in asked if name] or list(store.variants())
    if not names:
        raise LookupFailed(f"{folder} has no features yet; build some first")
    readers = {reader.name: reader for reader in (store[name] for name in dict.fromkeys(names))}
    if "" in asked and len(readers) != 1:
        raise SettingsError((
            f"--arrays {asked[''][0]} names no variant, and {len(readers)} are exported; write "
            f"{next(iter(readers))}/{asked[''][0]}",
        ))  # fmt: skip
    choices = [_choose(reader, ids, asked, refusal, request) for reader in readers.values()]
    left_out = {
        choice.name: "; ".join(f"{name}: {why}" for name, why in choice.skipped.items())
        for choice in choices
        if choice.skipped and not choice.arrays
    }
    kept = tuple(choice for choice in choices if choice.name not in left_out)
    selection = Selection(catalog, ids, kept, rule, left_out)
    _check_not_empty(selection, is_named=bool(request.variants))
    return selection


def _check_not_empty(selection: Selection, *, is_named: bool) -> None:
    has_arrays = any(choice.arrays for choice in selection.variants)
    faults = [
        f"{name} has no array that this form can hold: {why}"
        for name, why in selection.left_out.items()
        if is_named or not has_arrays
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
    request: SelectionRequest,
) -> VariantChoice:
    first = next((video_id for video_id in ids if video_id in reader), None)
    if first is None:
        return VariantChoice(reader, {})
    if request.clip_seconds:
        _check_clock(reader)
    handle = reader[first]
    named = [
        name
        for key, names in asked.items()
        if key in ("", reader.name, reader.layout.variant)
        for name in names
    ]
    chosen: dict[str, ArrayFormat] = {}
    skipped: dict[str, str] = {}
    for name in named or handle.arrays:
        array = handle[name].format  # raises LookupFailed, which lists the names
        why = refusal(name, array) or _no_mean(array, request.clip_seconds)
        if why and named:
            raise SettingsError((f"--arrays {reader.name}/{name} cannot be exported so: {why}",))
        if why:
            skipped[name] = why
        else:
            chosen[name] = array
    return VariantChoice(reader, chosen, skipped)


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


def _chosen_ids(catalog: Catalog, request: SelectionRequest) -> tuple[tuple[str, ...], str]:
    known = set(text_column(catalog.videos, "video_id"))
    if request.ids is not None and request.split:
        raise SettingsError(("give --ids or --split, not both",))
    if request.ids is not None:
        unknown = sorted(set(request.ids) - known)
        if unknown:
            named = ", ".join(repr(video_id) for video_id in unknown[:MAX_NAMED])
            raise LookupFailed(
                f"{len(unknown)} of {len(set(request.ids))} ids are not in the catalog "
                f"{catalog.name}: {named}{', ...' if len(unknown) > MAX_NAMED else ''}"
            )
        return tuple(sorted(set(request.ids))), "ids of a file"
    if request.split:
        return tuple(sorted(split_ids(catalog, request.split))), f"split {request.split}"
    return tuple(sorted(known)), "all"


def split_ids(catalog: Catalog, name: str) -> frozenset[str]:
    """The videos of a split: `grouping/group`, a split of the users, or a group by its name.

    The videos of a split of users are those that its users are linked to.

    Raises:
        LookupFailed: there is none, or more than one; lists what there is.
    """
    grouping, _, group = name.rpartition("/")
    if grouping:
        return catalog.group(grouping, group)
    users = {user.user_id for user in catalog.users if user.split == name}
    if users:
        return frozenset(link.video_id for link in catalog.links if link.user_id in users)
    found = [one for one, groups in catalog.groupings.items() if name in groups]
    if len(found) == 1:
        return catalog.group(found[0], name)
    known = sorted({user.split for user in catalog.users})
    known += [f"{one}/{member}" for one, groups in catalog.groupings.items() for member in groups]
    raise LookupFailed(
        f"{catalog.name} has {len(found) or 'no'} splits named {name!r}; "
        f"it has {', '.join(known) or 'none'}"
    )


def read_ids(path: Path) -> tuple[str, ...]:
    """The ids in a text file, one on each line; blank lines are skipped.

    Raises:
        SettingsError: the file cannot be read as text, or holds no id.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError((f"--ids {path} cannot be read as text: {error}",)) from error
    ids = tuple(line.strip() for line in lines if line.strip())
    if not ids:
        raise SettingsError((f"--ids {path} holds no id; write one on each line",))
    return ids

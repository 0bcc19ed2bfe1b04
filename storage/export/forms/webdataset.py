"""Exports as WebDataset: tar files with one sample for each video.

    <id>.<variant>.<array>.npy           values; of a ragged array all items
    <id>.<variant>.<array>.lengths.npy   number of items of each row, only of a ragged array
    <id>.<variant>.spans.npy             (rows, 2) float64 seconds
    <id>.json                            id, variants and metadata of the video

The reader makes a sample of members with the same name up to the first dot, and keys of the rest
in lower case; so member names are lower case, and the dots of a variant's name are underscores. It
decodes by the last suffix: `.npy` and `.json` come back as they were.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from storage.base.errors import SettingsError
from storage.base.records import Array
from storage.export.forms.contract import ExportPlan, Plain, ReadBack
from storage.export.source.rows import SPANS, ExportedRows

SHARD_BYTES = 256 * 1024**2
"""A tar file that has grown above this is closed, and the next one begun."""


def _short_names(plan: ExportPlan) -> dict[str, str]:
    """Full name of each variant → its key in a sample: the short name where that is enough."""
    variants = plan.selection.variants
    counts = Counter(variant.reader.layout.variant for variant in variants)
    return {
        variant.name: (
            variant.reader.layout.variant
            if counts[variant.reader.layout.variant] == 1
            else variant.name
        ).replace(".", "_")
        for variant in variants
    }


def member_names(plan: ExportPlan) -> dict[str, tuple[str, str]]:
    """Key in a sample, without `.npy` → the variant's full name and the name of the array.

    Raises:
        SettingsError: two arrays would have the same key.
    """
    names: dict[str, tuple[str, str]] = {}
    for full_name, short in _short_names(plan).items():
        for array in _array_names(plan, full_name):
            key = f"{short}.{array.replace('/values', '').replace('/', '.')}".lower()
            if key in names:
                other = "/".join(names[key])
                raise SettingsError((
                    f"{full_name}/{array} and {other} would both be {key}.npy, because WebDataset "
                    "reads names in lower case; choose one with --arrays",
                ))  # fmt: skip
            names[key] = (full_name, array)
    return names


def _array_names(plan: ExportPlan, variant_name: str) -> Iterator[str]:
    (variant,) = (one for one in plan.selection.variants if one.name == variant_name)
    yield SPANS
    for name, array in variant.arrays.items():
        if array.ragged:
            yield f"{name}/values"
            yield f"{name}/lengths"
        else:
            yield name


class TarWriter:
    """Writes one sample for each video; equal content, equal bytes."""

    def __init__(self, plan: ExportPlan) -> None:
        self._plan = plan
        self._keys = {place: key for key, place in member_names(plan).items()}
        self._tar: tarfile.TarFile | None = None
        self._number = 0
        self._bytes = 0

    def add(self, video_id: str, variants: Mapping[str, ExportedRows]) -> None:
        """Write one video."""
        metadata = self._plan.selection.catalog.shareable_metadata.get(video_id, {})
        content = {
            "video_id": video_id,
            "variants": sorted(variants),
            "metadata": dict(sorted(metadata.items())),
        }
        # All members of a sample follow each other, in one file.
        tar = self._opened()
        self._put(tar, f"{video_id}.json", json.dumps(content, ensure_ascii=True).encode())
        for variant, rows in variants.items():
            for name, array in rows.plain_arrays().items():
                member = f"{video_id}.{self._keys[variant, name]}.npy"
                self._put(tar, member, _npy(array))
        if self._bytes > SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """Finish the current tar file."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None

    def _opened(self) -> tarfile.TarFile:
        if self._tar is None:
            path = self._plan.folder / f"shard-{self._number:06d}.tar"
            self._tar = tarfile.open(path, "x", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            self._number += 1
            self._bytes = 0
        return self._tar

    def _put(self, tar: tarfile.TarFile, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)  # time 0, owner 0: no trace of this machine
        member.size = len(content)
        member.mode = 0o644
        tar.addfile(member, io.BytesIO(content))
        self._bytes += len(content)


def _npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def read_tars(plan: ExportPlan) -> ReadBack:
    """Every video of the export, as `tarfile` and `np.load` read it."""
    places = member_names(plan)
    for path in sorted(plan.folder.glob("shard-*.tar")):
        for video_id, members in _samples(path):
            found: dict[str, dict[str, Array]] = {}
            for key, array in members.items():
                variant, name = places[key]
                found.setdefault(variant, {})[name] = array
            for variant, plain in found.items():
                yield variant, video_id, plain


def _samples(path: Path) -> Iterator[tuple[str, Plain]]:
    """Id and arrays of each sample of a tar file."""
    current: str | None = None
    members: dict[str, Array] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            video_id, _, key = member.name.partition(".")
            if video_id != current and current is not None:
                yield current, members
                members = {}
            current = video_id
            file = tar.extractfile(member)
            if file is not None and key.endswith(".npy"):
                content = io.BytesIO(file.read())
                members[key.removesuffix(".npy")] = np.load(content, allow_pickle=False)
    if current is not None:
        yield current, members

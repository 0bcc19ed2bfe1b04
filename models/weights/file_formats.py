"""A weights file of any published form → its tensors: torch's zip, torch's older form, a plain
pickle, safetensors.

Reads bytes of one open file. Refuses what is compressed, encrypted, doubled or too short, and never
executes anything.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

from models.weights.safe_unpickler import InvalidCheckpoint, PickleGlobal, read_pickle
from models.weights.state_dict import (
    DTYPES,
    STORAGES,
    Checkpoint,
    Storage,
    StoredTensor,
    parse_checkpoint,
)

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
MAX_HEADER_BYTES = 100_000_000
MAX_ENTRIES = 200_000


def read_checkpoint(file: IO[bytes]) -> Checkpoint:
    """Everything a seekable file holds. Raises Refused, which says why."""
    head = file.read(16)
    file.seek(0)
    try:
        if head.startswith(b"PK"):
            return _read_zip(file)
        if head[8:9] == b"{":
            return _read_safetensors(file)
        return _read_pickles(file)
    except (
        zipfile.BadZipFile,
        UnicodeDecodeError,
        struct.error,
        EOFError,
        RecursionError,
    ) as error:
        raise InvalidCheckpoint(f"it is damaged: {error}") from error


def _read_zip(file: IO[bytes]) -> Checkpoint:
    with zipfile.ZipFile(file) as archive:
        entries = _checked_entries(archive)
        roots = [
            name.removesuffix("data.pkl")
            for name in entries
            if name.count("/") == 1 and name.endswith("data.pkl")
        ]
        if len(roots) != 1 or f"{roots[0]}constants.pkl" in entries:
            raise InvalidCheckpoint(
                "it is a zip, but not one that torch.save writes; a TorchScript file holds code"
            )
        root = roots[0]
        if entries.get(f"{root}byteorder") and archive.read(f"{root}byteorder") != b"little":
            raise InvalidCheckpoint("it was written on a big-endian machine")
        storages: dict[str, Storage] = {}

        def load(identifier: Any) -> Storage:
            dtype, key, count = _storage_named(identifier)
            if key not in storages:
                storages[key] = Storage(
                    dtype, count, [_entry(archive, entries, f"{root}data/{key}")]
                )
            return _same(storages[key], dtype, count)

        return parse_checkpoint(
            read_pickle(io.BytesIO(_entry(archive, entries, f"{root}data.pkl")), load)
        )


def _checked_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    listed = archive.infolist()
    entries = {entry.filename: entry for entry in listed}
    if len(entries) != len(listed) or len(listed) > MAX_ENTRIES:
        raise InvalidCheckpoint(f"it lists {len(listed)} entries of {len(entries)} names")
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in listed):
        raise InvalidCheckpoint("it is compressed or encrypted, as torch.save never does")
    return entries


def _entry(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], name: str) -> bytes:
    if name not in entries:
        raise InvalidCheckpoint(f"it has no entry {name[-100:]!r}")
    return archive.read(entries[name])


def _storage_named(identifier: Any) -> tuple[str, str, int]:
    """dtype, key and count of `("storage", torch.FloatStorage, key, location, count, ...)`."""
    if not isinstance(identifier, tuple) or len(identifier) < 5 or identifier[0] != "storage":
        raise InvalidCheckpoint("it refers to something that is no block of numbers")
    kind, key, count = identifier[1], str(identifier[2]), identifier[4]
    if (
        not isinstance(kind, PickleGlobal)
        or kind.text not in STORAGES
        or type(count) is not int
        or count < 0
    ):
        raise InvalidCheckpoint("it refers to a block of numbers of an unknown kind")
    if any(part is not None for part in identifier[5:]):
        raise InvalidCheckpoint(
            "it refers to a part of a block, as no release of torch has done for years"
        )
    return STORAGES[kind.text], key, count


def _same(storage: Storage, dtype: str, count: int) -> Storage:
    if (storage.dtype, storage.count) != (dtype, count):
        raise InvalidCheckpoint(
            f"it calls one block {storage.count} {storage.dtype} and {count} {dtype}"
        )
    return storage


def _read_pickles(file: IO[bytes]) -> Checkpoint:
    """A plain pickle, or torch's older form: five pickles, then the blocks."""
    first = read_pickle(file)
    if first != LEGACY_MAGIC:
        if file.read(1):
            raise InvalidCheckpoint("something follows its pickle")
        return parse_checkpoint(first)
    version, system = read_pickle(file), read_pickle(file)
    if (
        version != LEGACY_VERSION
        or not isinstance(system, dict)
        or system.get("little_endian") is not True
    ):
        raise InvalidCheckpoint(f"it is of version {version!r} or from a big-endian machine")
    storages: dict[str, Storage] = {}

    def load(identifier: Any) -> Any:
        if (
            isinstance(identifier, tuple)
            and identifier[:1] == ("module",)
            and isinstance(identifier[1], PickleGlobal)
        ):
            return identifier[1]  # a class, beside the text of its source code, which nobody reads
        dtype, key, count = _storage_named(identifier)
        return _same(storages.setdefault(key, Storage(dtype, count)), dtype, count)

    top = read_pickle(file, load)
    _fill(file, read_pickle(file), storages)
    return parse_checkpoint(top)


def _fill(file: IO[bytes], keys: Any, storages: Mapping[str, Storage]) -> None:
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise InvalidCheckpoint("the blocks it lists are not those it refers to")
    for key in map(str, keys):
        storage = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.count:
            raise InvalidCheckpoint(
                f"block {key[:40]} has {count} numbers, its pickle says {storage.count}"
            )
        storage.block.append(file.read(count * DTYPES[storage.dtype].itemsize))
        storage.numbers()
    if file.read(1):
        raise InvalidCheckpoint("something follows its blocks")


def _read_safetensors(file: IO[bytes]) -> Checkpoint:
    (size,) = struct.unpack("<Q", file.read(8))
    if size > MAX_HEADER_BYTES:
        raise InvalidCheckpoint(f"its header would have {size} bytes")
    try:
        header = json.loads(file.read(size))
    except ValueError as error:
        raise InvalidCheckpoint(f"its header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise InvalidCheckpoint("its header is no JSON object")
    header.pop("__metadata__", None)
    blocks = file.read()
    tensors = {name: _block(name, entry, blocks) for name, entry in header.items()}
    if sum(len(tensor.data) for tensor in tensors.values()) != len(blocks):
        raise InvalidCheckpoint("its tensors do not fill it")
    return Checkpoint(tensors, {"root": ""})


def _block(name: str, entry: Any, blocks: bytes) -> StoredTensor:
    try:
        dtype, (start, end), shape = entry["dtype"], entry["data_offsets"], tuple(entry["shape"])
        count = 1
        for length in shape:
            count *= length
        if not 0 <= start <= end <= len(blocks) or count * DTYPES[dtype].itemsize != end - start:
            raise InvalidCheckpoint(f"{name[:100]} has the bytes {start} to {end} of {len(blocks)}")
        return StoredTensor(dtype, shape, blocks[start:end])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidCheckpoint(f"{name[:100]} is described wrongly: {error}") from error


def safetensors_stream(tensors: Mapping[str, StoredTensor]) -> Iterator[bytes]:
    """A safetensors file, piece by piece. Equal tensors, equal bytes: wide dtypes first, then by
    name.
    """
    order = sorted(tensors, key=lambda name: (-DTYPES[tensors[name].dtype].itemsize, name))
    header: dict[str, Any] = {}
    at = 0
    for name in order:
        tensor = tensors[name]
        end = at + len(tensor.data)
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    yield from (tensors[name].data for name in order)

"""Reads weights files of every published format, without executing anything in them.

The formats: torch's zip, torch's older format, a plain pickle, and safetensors. Compressed,
encrypted or truncated files, and zips with repeated names, are refused.
"""

from __future__ import annotations

import io
import json
import math
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
    # By content, and not by suffix: published files are named .pt, .pth, .pkl and .pickle freely.
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
        root = _zip_root(entries)
        byteorder = f"{root}byteorder"
        if byteorder in entries and archive.read(byteorder) != b"little":
            raise InvalidCheckpoint("it was written on a big-endian machine")
        storages: dict[str, Storage] = {}

        def load_storage(identifier: Any) -> Storage:
            dtype, key, count = _parse_storage_id(identifier)
            if key not in storages:
                block = _read_entry(archive, entries, f"{root}data/{key}")
                storages[key] = Storage(dtype, count, [block])
            return _check_same_storage(storages[key], dtype, count)

        pickled = io.BytesIO(_read_entry(archive, entries, f"{root}data.pkl"))
        return parse_checkpoint(read_pickle(pickled, load_storage))


def _checked_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    entries = {info.filename: info for info in infos}
    if len(entries) != len(infos) or len(infos) > MAX_ENTRIES:
        raise InvalidCheckpoint(f"it lists {len(infos)} entries of {len(entries)} names")
    if not all(map(_is_stored_plainly, infos)):
        raise InvalidCheckpoint("it is compressed or encrypted, which torch.save never does")
    return entries


def _is_stored_plainly(info: zipfile.ZipInfo) -> bool:
    is_encrypted = bool(info.flag_bits & 1)
    return info.compress_type == zipfile.ZIP_STORED and not is_encrypted


def _zip_root(entries: Mapping[str, zipfile.ZipInfo]) -> str:
    """The folder inside the zip, with its slash, that holds `data.pkl`."""
    pickles = [name for name in entries if name.endswith("data.pkl") and name.count("/") == 1]
    if len(pickles) == 1:
        root = pickles[0].removesuffix("data.pkl")
        is_torch_script = f"{root}constants.pkl" in entries
        if not is_torch_script:
            return root
    raise InvalidCheckpoint(
        "it is a zip, but not one that torch.save writes; a TorchScript file holds code"
    )


def _read_entry(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], name: str
) -> bytes:
    if name not in entries:
        raise InvalidCheckpoint(f"it lacks the entry {name[-100:]!r}")
    return archive.read(entries[name])


def _parse_storage_id(identifier: Any) -> tuple[str, str, int]:
    """dtype, key and count of `("storage", torch.FloatStorage, key, location, count, ...)`."""
    if not _is_storage_id(identifier):
        raise InvalidCheckpoint("it refers to something other than a block of numbers")
    _, kind, key, _, count, *views = identifier
    is_known = isinstance(kind, PickleGlobal) and kind.text in STORAGES
    is_count = type(count) is int and count >= 0
    if not is_known or not is_count:
        raise InvalidCheckpoint("it refers to a block of numbers of an unknown kind")
    # Releases of torch from before 2017 stored views of blocks here.
    if views != [None] * len(views):
        raise InvalidCheckpoint(
            "it refers to a part of a block, which only old releases of torch do"
        )
    return STORAGES[kind.text], str(key), count


def _is_storage_id(identifier: Any) -> bool:
    is_long_enough = isinstance(identifier, tuple) and len(identifier) >= 5
    return is_long_enough and identifier[0] == "storage"


def _check_same_storage(storage: Storage, dtype: str, count: int) -> Storage:
    if (storage.dtype, storage.count) != (dtype, count):
        raise InvalidCheckpoint(
            f"it describes one block as {storage.count} {storage.dtype} and as {count} {dtype}"
        )
    return storage


def _read_pickles(file: IO[bytes]) -> Checkpoint:
    """A plain pickle, or torch's older format: five pickles, then the blocks."""
    first = read_pickle(file)
    if first != LEGACY_MAGIC:
        if file.read(1):
            raise InvalidCheckpoint("something follows its pickle")
        return parse_checkpoint(first)
    _check_legacy_header(version=read_pickle(file), system=read_pickle(file))
    storages: dict[str, Storage] = {}

    def load_persistent(identifier: Any) -> Any:
        if _is_class_id(identifier):
            return identifier[1]  # the text of its source code beside it is ignored
        dtype, key, count = _parse_storage_id(identifier)
        storage = storages.setdefault(key, Storage(dtype, count))
        return _check_same_storage(storage, dtype, count)

    top = read_pickle(file, load_persistent)
    _fill_storages(file, read_pickle(file), storages)
    return parse_checkpoint(top)


def _check_legacy_header(version: Any, system: Any) -> None:
    is_little_endian = isinstance(system, dict) and system.get("little_endian") is True
    if version != LEGACY_VERSION or not is_little_endian:
        raise InvalidCheckpoint(f"it is of version {version!r} or from a big-endian machine")


def _is_class_id(identifier: Any) -> bool:
    """Whether it is `("module", CLASS, ...)`, a class of a network that was pickled whole."""
    if not isinstance(identifier, tuple) or identifier[:1] != ("module",):
        return False
    return isinstance(identifier[1], PickleGlobal)


def _fill_storages(file: IO[bytes], keys: Any, storages: Mapping[str, Storage]) -> None:
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise InvalidCheckpoint("it lists other blocks than it refers to")
    for key in map(str, keys):
        storage = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.count:
            raise InvalidCheckpoint(
                f"block {key[:40]} has {count} numbers, its pickle says {storage.count}"
            )
        storage.block.append(file.read(count * DTYPES[storage.dtype].itemsize))
        storage.numbers()  # raises if the block is too short
    if file.read(1):
        raise InvalidCheckpoint("something follows its blocks")


def _read_safetensors(file: IO[bytes]) -> Checkpoint:
    (size,) = struct.unpack("<Q", file.read(8))
    if size > MAX_HEADER_BYTES:
        raise InvalidCheckpoint(f"its header would have {size} bytes")
    try:
        header = json.loads(file.read(size))
    except ValueError as error:
        raise InvalidCheckpoint(f"its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise InvalidCheckpoint("its header is not a JSON object")
    header.pop("__metadata__", None)
    blocks = file.read()
    tensors = {name: _safetensors_entry(name, entry, blocks) for name, entry in header.items()}
    # Neither gaps nor overlaps: the sizes add up to the file.
    if sum(len(tensor.data) for tensor in tensors.values()) != len(blocks):
        raise InvalidCheckpoint("its tensors do not fill it")
    return Checkpoint(tensors, {"root": ""})


def _safetensors_entry(name: str, entry: Any, blocks: bytes) -> StoredTensor:
    try:
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        start, end = entry["data_offsets"]
        size = math.prod(shape) * DTYPES[dtype].itemsize
        is_inside = 0 <= start <= end <= len(blocks)
        if not is_inside or size != end - start:
            raise InvalidCheckpoint(f"{name[:100]} has the bytes {start} to {end} of {len(blocks)}")
        return StoredTensor(dtype, shape, blocks[start:end])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidCheckpoint(f"the entry of {name[:100]} is invalid: {error}") from error


def safetensors_stream(tensors: Mapping[str, StoredTensor]) -> Iterator[bytes]:
    """A safetensors file, piece by piece.

    Equal tensors give equal bytes: wide dtypes come first, then names decide.
    """
    order = sorted(tensors, key=lambda name: (-DTYPES[tensors[name].dtype].itemsize, name))
    header: dict[str, Any] = {}
    start = 0
    for name in order:
        tensor = tensors[name]
        end = start + len(tensor.data)
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    yield struct.pack("<Q", len(text)) + text
    yield from (tensors[name].data for name in order)

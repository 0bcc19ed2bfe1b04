"""Records of a pickled checkpoint → named tensors as bytes, and the plain attributes of pickled
networks.

Knows how torch and numpy describe a tensor, and where checkpoints keep their state dict. Refuses to
know files, and imports neither torch nor any network's code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.weights.safe_unpickler import InvalidCheckpoint, PickleCall, PickleGlobal

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
"""safetensors' dtype → numpy's of the same width; numpy has no bfloat16, so its bits travel as
integers.
"""
STORAGES = {
    "torch.DoubleStorage": "F64", "torch.FloatStorage": "F32", "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16", "torch.LongStorage": "I64", "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16", "torch.CharStorage": "I8", "torch.ByteStorage": "U8", "torch.BoolStorage": "BOOL",
}  # fmt: skip
_NUMPY = {"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u1": "U8",
          "b1": "BOOL"}  # fmt: skip
ROOTS = ("ema", "model", "state_dict")
"""Where a checkpoint keeps what counts, in the order in which the official loaders look."""
MAX_TENSORS = 100_000
MAX_NESTING = 200
MAX_KEPT_NUMBERS = 4096
"""A tensor that is no parameter or buffer is kept as an attribute if it is this small: strides,
anchors.
"""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor: contiguous little-endian bytes."""

    dtype: str
    """A key of `DTYPES`."""
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds, as plain data."""

    tensors: Mapping[str, StoredTensor]
    """Published parameter name → tensor."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON: `root`, where in the file the tensors were; `modules`, each pickled module's class and
    attributes.
    """


@dataclass(frozen=True)
class Storage:
    """A block of numbers that tensors look at. Filled after the pickle is read, where a file keeps
    them behind it.
    """

    dtype: str
    count: int
    block: list[bytes] = field(default_factory=list)

    def numbers(self) -> NDArray[Any]:
        """All of them."""
        expected = self.count * DTYPES[self.dtype].itemsize
        if len(self.block) != 1 or len(self.block[0]) < expected:
            raise InvalidCheckpoint(
                f"a storage of {self.count} numbers ({self.dtype}) is not there in full"
            )
        return np.frombuffer(self.block[0], DTYPES[self.dtype], self.count)


def parse_checkpoint(top: Any) -> Checkpoint:
    """The tensors and attributes of what a pickle held. Raises Refused."""
    root, found = _root(top)
    if _is_module(found):
        modules: dict[str, Any] = {}
        tensors = dict(_limited(_walk(found, "", modules, 0)))
        return Checkpoint(tensors, {"root": root, "modules": modules})
    entries = as_dict(found)
    if entries is None:
        raise InvalidCheckpoint(
            f"it holds a {_kind(top)}, expected tensors by name or a pickled network"
        )
    return Checkpoint(dict(_limited(_named_tensors(entries))), {"root": root})


def _root(top: Any) -> tuple[str, Any]:
    entries = as_dict(top)
    for name in ROOTS if entries else ():
        inner = entries.get(name) if entries else None
        if isinstance(inner, tuple) and inner and _is_module(inner[0]):
            inner = inner[
                0
            ]  # some releases of YOLOv5 kept the averaged network beside a count of its updates
        if _is_module(inner) or as_dict(inner):
            return name, inner
    return "", top


def _kind(thing: Any) -> str:
    return thing.maker.text if isinstance(thing, PickleCall) else type(thing).__name__


def _limited(pairs: Iterator[tuple[str, StoredTensor]]) -> Iterator[tuple[str, StoredTensor]]:
    seen: set[str] = set()
    for name, tensor in pairs:
        if name in seen or len(seen) >= MAX_TENSORS:
            raise InvalidCheckpoint(
                f"it holds {name!r} twice"
                if name in seen
                else f"it holds more than {MAX_TENSORS} tensors"
            )
        seen.add(name)
        yield name, tensor


def as_dict(thing: Any) -> dict[Any, Any] | None:
    """A dict, or a record of an ordered one, as a dict; None for anything else."""
    if isinstance(thing, dict):
        return thing
    if isinstance(thing, PickleCall) and thing.maker.text in (
        "collections.OrderedDict",
        "collections.defaultdict",
    ):
        listed = (
            thing.arguments[0] if thing.arguments and isinstance(thing.arguments[0], list) else []
        )
        return dict([*(tuple(pair) for pair in listed), *thing.items])  # Python 2 lists the pairs
    return None


def _named_tensors(entries: Mapping[Any, Any]) -> Iterator[tuple[str, StoredTensor]]:
    for name, value in entries.items():
        tensor = stored_tensor_of(value)
        if not isinstance(name, str) or tensor is None:
            raise InvalidCheckpoint(f"{str(name)[:100]!r} is a {_kind(value)}, expected a tensor")
        yield name, tensor


def _is_module(thing: Any) -> bool:
    state = (
        thing.state
        if isinstance(thing, PickleCall) and thing.maker.text not in _NOT_MODULES
        else None
    )
    return isinstance(state, dict) and {"_parameters", "_buffers", "_modules"} <= state.keys()


_NOT_MODULES = frozenset({"numpy.dtype", "numpy.core.multiarray._reconstruct"})


def _walk(
    module: PickleCall, prefix: str, modules: dict[str, Any], depth: int
) -> Iterator[tuple[str, StoredTensor]]:
    """A module's state dict, in torch's order; notes each module's class and attributes in
    `modules`.
    """
    if depth > MAX_NESTING or len(modules) > MAX_TENSORS:
        raise InvalidCheckpoint("its modules are nested or repeated without end")
    state = module.state
    modules[prefix.removesuffix(".")] = {
        "class": module_class(module),
        "attributes": _attributes(state),
    }
    transient = state.get("_non_persistent_buffers_set") or ()
    for group in ("_parameters", "_buffers"):
        for name, value in (as_dict(state[group]) or {}).items():
            if value is None or (group == "_buffers" and name in _members(transient)):
                continue
            yield from _named_tensors({f"{prefix}{name}": value})
    for name, child in (as_dict(state["_modules"]) or {}).items():
        if child is None:
            continue
        if not _is_module(child):
            raise InvalidCheckpoint(f"{prefix}{name} is a {_kind(child)}, expected a module")
        yield from _walk(child, f"{prefix}{name}.", modules, depth + 1)


def module_class(module: PickleCall) -> str:
    """`models.yolo.Detect`; objects pickled in protocol 0 or 1 name it as an argument."""
    if module.maker.text == "copyreg._reconstructor" and module.arguments:
        named = module.arguments[0]
        return named.text if isinstance(named, PickleGlobal) else ""
    return module.maker.text


def _members(group: Any) -> Any:
    if isinstance(group, PickleCall):
        group = group.arguments[0] if group.arguments else ()
    return group if isinstance(group, list | tuple | set | frozenset) else ()


def _attributes(state: Mapping[Any, Any]) -> dict[str, Any]:
    plain = {
        str(name): _plain(value) for name, value in state.items() if not str(name).startswith("_")
    }
    return {name: value[0] for name, value in plain.items() if value is not None}


def _plain(value: Any, depth: int = 0) -> tuple[Any] | None:
    """The JSON form of a value, in a tuple of one; None for what has none."""
    if value is None or isinstance(value, bool | int | str):
        return (value,)
    if isinstance(value, float):
        return (value,) if math.isfinite(value) else None
    if depth > 8:
        return None
    entries = as_dict(value)
    if entries is not None:
        return _collected({str(key): _plain(item, depth + 1) for key, item in entries.items()})
    if isinstance(value, list | tuple):
        items = [_plain(item, depth + 1) for item in value]
        return ([item[0] for item in items if item is not None],) if None not in items else None
    return _small_tensor(value)


def _collected(entries: Mapping[str, tuple[Any] | None]) -> tuple[Any] | None:
    return ({key: item[0] for key, item in entries.items() if item is not None},)


def _small_tensor(value: Any) -> tuple[Any] | None:
    tensor = stored_tensor_of(value)
    if tensor is None or math.prod(tensor.shape) > MAX_KEPT_NUMBERS or tensor.dtype == "BF16":
        return None
    numbers = np.frombuffer(tensor.data, DTYPES[tensor.dtype]).reshape(tensor.shape)
    return (numbers.tolist(),) if np.isfinite(numbers).all() else None


def stored_tensor_of(value: Any) -> StoredTensor | None:
    """The tensor that a record describes, torch's or numpy's; None if it describes something else.
    Raises Refused.
    """
    if not isinstance(value, PickleCall):
        return None
    maker, arguments = value.maker.text, value.arguments
    if maker == "torch._utils._rebuild_parameter":
        return stored_tensor_of(arguments[0]) if arguments else None
    if maker in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
        return _torch_tensor(arguments)
    if maker == "numpy.core.multiarray._reconstruct":
        return _numpy_array(value.state)
    if maker == "numpy.core.numeric._frombuffer":
        data, dtype, shape, order = _exactly(arguments, 4)
        return _from_bytes(data, dtype, shape, fortran=order == "F")
    if maker == "numpy.core.multiarray.scalar":
        dtype, data = _exactly(arguments, 2)
        return _from_bytes(data, dtype, (), fortran=False)
    return None


def _exactly(values: Any, count: int) -> tuple[Any, ...]:
    if not isinstance(values, tuple) or len(values) != count:
        raise InvalidCheckpoint(
            f"a tensor is described by {values if values is None else len(values)} things, not {count}"
        )
    return values


def _torch_tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    storage, offset, shape, strides = _exactly(arguments[:4], 4)
    shape = _shape(
        shape.arguments[0] if isinstance(shape, PickleCall) and shape.arguments else shape
    )
    strides = _shape(strides)
    if (
        not isinstance(storage, Storage)
        or type(offset) is not int
        or len(strides) != len(shape)
        or offset < 0
    ):
        raise InvalidCheckpoint("a tensor does not say what it looks at")
    reach = (
        offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + 1
    )
    count = math.prod(shape)
    if count and (reach > storage.count or count > storage.count):
        raise InvalidCheckpoint(
            f"a tensor of shape {shape} looks at {max(reach, count)} numbers of {storage.count}"
        )
    if not count:
        return StoredTensor(storage.dtype, shape, b"")
    numbers = storage.numbers()[offset:]
    steps = tuple(stride * numbers.itemsize for stride in strides)
    return StoredTensor(
        storage.dtype, shape, np.lib.stride_tricks.as_strided(numbers, shape, steps).tobytes()
    )


def _shape(value: Any) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, tuple | list) else (-1,)
    if len(sizes) > 8 or not all(type(size) is int and 0 <= size < 2**40 for size in sizes):
        raise InvalidCheckpoint(f"a tensor has the shape or strides {str(sizes)[:100]}")
    return sizes


def _numpy_array(state: Any) -> StoredTensor:
    _, shape, dtype, fortran, data = _exactly(state, 5)
    return _from_bytes(data, dtype, shape, fortran=bool(fortran))


def _from_bytes(data: Any, dtype: Any, shape: Any, *, fortran: bool) -> StoredTensor:
    kind, raw, sizes = _numpy_dtype(dtype), _raw(data), _shape(shape)
    count = math.prod(sizes)
    if len(raw) != count * DTYPES[kind].itemsize:
        raise InvalidCheckpoint(f"an array of shape {sizes} ({kind}) has {len(raw)} bytes")
    if fortran:
        raw = np.frombuffer(raw, DTYPES[kind]).reshape(sizes, order="F").tobytes(order="C")
    return StoredTensor(kind, sizes, raw)


def _numpy_dtype(dtype: Any) -> str:
    """`numpy.dtype('f4', ...)` with the byte order as its state."""
    if isinstance(dtype, PickleCall) and dtype.maker.text == "numpy.dtype" and dtype.arguments:
        code = dtype.arguments[0]
        order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "="
        if isinstance(code, str) and code.lstrip("<|=") in _NUMPY and order in ("<", "|", "="):
            return _NUMPY[code.lstrip("<|=")]
    raise InvalidCheckpoint("an array holds something else than little-endian numbers")


def _raw(data: Any) -> bytes:
    """Bytes; pickled before protocol 3 as latin-1 text."""
    if isinstance(data, PickleCall) and data.maker.text == "_codecs.encode":
        data = data.arguments[0] if data.arguments[1:] in (("latin1",), ("latin-1",)) else None
    if isinstance(data, str):
        return data.encode("latin-1")
    if not isinstance(data, bytes | bytearray):
        raise InvalidCheckpoint(f"an array's numbers are a {_kind(data)}")
    return bytes(data)

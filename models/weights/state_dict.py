"""Turns the records of a pickled checkpoint into named tensors.

For networks that were pickled whole it also collects their plain attributes. Imports neither torch
nor any network's code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
"""safetensors' dtype → numpy's of the same width. numpy lacks bfloat16: its bits are integers."""
STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
_NUMPY = {
    "f8": "F64", "f4": "F32", "f2": "F16",
    "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8",
    "u1": "U8", "b1": "BOOL",
}  # fmt: skip
ROOTS = ("ema", "model", "state_dict")
"""Keys under which checkpoints keep their network, in the order of the official loaders."""
MAX_TENSORS = 100_000
MAX_NESTING = 200
MAX_KEPT_NUMBERS = 4096
"""Largest tensor that is kept as an attribute, such as strides and anchors."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor: contiguous little-endian bytes."""

    dtype: str
    """A key of `DTYPES`."""
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a file, as plain data."""

    tensors: Mapping[str, StoredTensor]
    """Published parameter name → tensor."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON: `root`, the key that held the tensors; `modules`, the class and the attributes of each
    pickled module.
    """


@dataclass(frozen=True)
class Storage:
    """A block of numbers that tensors are views of.

    Some formats keep the blocks behind the pickle: `block` is filled after the pickle is read.
    """

    dtype: str
    count: int
    block: list[bytes] = field(default_factory=list)

    def numbers(self) -> NDArray[Any]:
        """All numbers of the block. Raises InvalidCheckpoint if some are missing."""
        expected = self.count * DTYPES[self.dtype].itemsize
        if len(self.block) != 1 or len(self.block[0]) < expected:
            raise InvalidCheckpoint(
                f"a storage of {self.count} numbers ({self.dtype}) is incomplete"
            )
        return np.frombuffer(self.block[0], DTYPES[self.dtype], self.count)


def parse_checkpoint(top: Any) -> Checkpoint:
    """The tensors and attributes of a pickle's object. Raises InvalidCheckpoint."""
    root, found = _find_root(top)
    if _is_module(found):
        modules: dict[str, Any] = {}
        tensors = dict(_checked_names(_walk_modules(found, "", modules, 0)))
        return Checkpoint(tensors, {"root": root, "modules": modules})
    entries = as_dict(found)
    if entries is None:
        raise InvalidCheckpoint(
            f"it holds a {_kind(top)}, expected tensors by name or a pickled network"
        )
    return Checkpoint(dict(_checked_names(_named_tensors(entries))), {"root": root})


def _find_root(top: Any) -> tuple[str, Any]:
    """The key under which a checkpoint keeps its network, and the network; else `top` itself."""
    entries = as_dict(top) or {}
    for key in ROOTS:
        inner = _without_update_count(entries.get(key))
        if _is_module(inner) or as_dict(inner):
            return key, inner
    return "", top


def _without_update_count(value: Any) -> Any:
    """Some releases of YOLOv5 stored the averaged network in a tuple with a count of updates."""
    if isinstance(value, tuple) and value and _is_module(value[0]):
        return value[0]
    return value


def _kind(thing: Any) -> str:
    return thing.maker.text if isinstance(thing, PickleCall) else type(thing).__name__


def _checked_names(
    pairs: Iterator[tuple[str, StoredTensor]],
) -> Iterator[tuple[str, StoredTensor]]:
    """The same pairs; InvalidCheckpoint for a repeated name, or for too many."""
    seen: set[str] = set()
    for name, tensor in pairs:
        if name in seen:
            raise InvalidCheckpoint(f"it holds {name!r} twice")
        if len(seen) >= MAX_TENSORS:
            raise InvalidCheckpoint(f"it holds more than {MAX_TENSORS} tensors")
        seen.add(name)
        yield name, tensor


def as_dict(thing: Any) -> dict[Any, Any] | None:
    """A dict, or the record of an OrderedDict or defaultdict, as a dict; None for others."""
    if isinstance(thing, dict):
        return thing
    if not isinstance(thing, PickleCall) or thing.maker.text not in _DICTS:
        return None
    # Python 2 passes the pairs as an argument; later versions set them as items.
    pairs: list[Any] = []
    if thing.arguments and isinstance(thing.arguments[0], list):
        pairs = thing.arguments[0]
    return dict([*map(tuple, pairs), *thing.items])


_DICTS = frozenset({"collections.OrderedDict", "collections.defaultdict"})


def _named_tensors(entries: Mapping[Any, Any]) -> Iterator[tuple[str, StoredTensor]]:
    for name, value in entries.items():
        tensor = stored_tensor_of(value)
        if not isinstance(name, str) or tensor is None:
            raise InvalidCheckpoint(f"{str(name)[:100]!r} is a {_kind(value)}, expected a tensor")
        yield name, tensor


def _is_module(thing: Any) -> bool:
    if not isinstance(thing, PickleCall) or thing.maker.text in _NOT_MODULES:
        return False
    state = thing.state
    return isinstance(state, dict) and {"_parameters", "_buffers", "_modules"} <= state.keys()


_NOT_MODULES = frozenset({"numpy.dtype", "numpy.core.multiarray._reconstruct"})


def _walk_modules(
    module: PickleCall, prefix: str, modules: dict[str, Any], depth: int
) -> Iterator[tuple[str, StoredTensor]]:
    """A module's state dict, in torch's order.

    Adds the class and the attributes of the module, and of all below it, to `modules`.
    """
    if depth > MAX_NESTING or len(modules) > MAX_TENSORS:
        raise InvalidCheckpoint("its modules are nested or repeated without end")
    modules[prefix.removesuffix(".")] = {
        "class": module_class(module),
        "attributes": _attributes(module.state),
    }
    yield from _own_tensors(module.state, prefix)
    for name, child in _present(module.state["_modules"]):
        if not _is_module(child):
            raise InvalidCheckpoint(f"{prefix}{name} is a {_kind(child)}, expected a module")
        yield from _walk_modules(child, f"{prefix}{name}.", modules, depth + 1)


def _own_tensors(state: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, StoredTensor]]:
    """The parameters and the persistent buffers of one module."""
    for name, value in _present(state["_parameters"]):
        yield from _named_tensors({f"{prefix}{name}": value})
    not_persistent = _members(state.get("_non_persistent_buffers_set") or ())
    for name, value in _present(state["_buffers"]):
        if name not in not_persistent:
            yield from _named_tensors({f"{prefix}{name}": value})


def _present(group: Any) -> Iterator[tuple[Any, Any]]:
    """The entries of a module's dict that are not None, as torch stores an absent bias."""
    for name, value in (as_dict(group) or {}).items():
        if value is not None:
            yield name, value


def module_class(module: PickleCall) -> str:
    """`models.yolo.Detect`; objects pickled in protocol 0 or 1 name it as an argument."""
    if module.maker.text != "copyreg._reconstructor" or not module.arguments:
        return module.maker.text
    named = module.arguments[0]
    return named.text if isinstance(named, PickleGlobal) else ""


def _members(group: Any) -> Any:
    """The members of a collection, also of the record of a set."""
    if isinstance(group, PickleCall):
        group = group.arguments[0] if group.arguments else ()
    return group if isinstance(group, list | tuple | set | frozenset) else ()


def _attributes(state: Mapping[Any, Any]) -> dict[str, Any]:
    """The public attributes of a module that have a JSON form."""
    public = {name: value for name, value in state.items() if not str(name).startswith("_")}
    return _plain_dict(public, depth=0)


def _plain(value: Any, depth: int = 0) -> tuple[Any] | None:
    """The JSON form of a value, in a tuple of one; None for a value without one."""
    # In a tuple, because the JSON form of None is None.
    if value is None or isinstance(value, bool | int | str):
        return (value,)
    if isinstance(value, float):
        return (value,) if math.isfinite(value) else None
    if depth > 8:
        return None
    entries = as_dict(value)
    if entries is not None:
        return (_plain_dict(entries, depth + 1),)
    if isinstance(value, list | tuple):
        return _plain_list(value, depth + 1)
    return _plain_tensor(value)


def _plain_dict(entries: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    """The entries that have a JSON form."""
    plain = {str(key): _plain(value, depth) for key, value in entries.items()}
    return {key: item[0] for key, item in plain.items() if item is not None}


def _plain_list(values: Sequence[Any], depth: int) -> tuple[Any] | None:
    """None if any item has no JSON form, because the positions of the others would move."""
    items = []
    for value in values:
        plain = _plain(value, depth)
        if plain is None:
            return None
        items.append(plain[0])
    return (items,)


def _plain_tensor(value: Any) -> tuple[Any] | None:
    tensor = stored_tensor_of(value)
    if tensor is None or tensor.dtype == "BF16":
        return None
    if math.prod(tensor.shape) > MAX_KEPT_NUMBERS:
        return None
    numbers = np.frombuffer(tensor.data, DTYPES[tensor.dtype]).reshape(tensor.shape)
    return (numbers.tolist(),) if np.isfinite(numbers).all() else None


def stored_tensor_of(value: Any) -> StoredTensor | None:
    """The tensor of a record of torch or numpy; None for other objects.

    Raises InvalidCheckpoint.
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
        return _tensor_of_bytes(data, dtype, shape, fortran=order == "F")
    if maker == "numpy.core.multiarray.scalar":
        dtype, data = _exactly(arguments, 2)
        return _tensor_of_bytes(data, dtype, (), fortran=False)
    return None


def _exactly(values: Any, count: int) -> tuple[Any, ...]:
    if not isinstance(values, tuple):
        raise InvalidCheckpoint(f"a tensor is described by a {_kind(values)}, not a tuple")
    if len(values) != count:
        raise InvalidCheckpoint(f"a tensor is described by {len(values)} values, not {count}")
    return values


def _torch_tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    storage, offset, sizes, steps = _exactly(arguments[:4], 4)
    if isinstance(sizes, PickleCall) and sizes.arguments:
        sizes = sizes.arguments[0]  # torch.Size(...)
    shape, strides = _checked_sizes(sizes), _checked_sizes(steps)
    if not isinstance(storage, Storage) or type(offset) is not int:
        raise InvalidCheckpoint("a tensor does not say which numbers it views")
    if not math.prod(shape):
        return StoredTensor(storage.dtype, shape, b"")
    _check_inside(storage, offset, shape, strides)
    numbers = storage.numbers()[offset:]
    byte_strides = tuple(stride * numbers.itemsize for stride in strides)
    view = np.lib.stride_tricks.as_strided(numbers, shape, byte_strides)
    return StoredTensor(storage.dtype, shape, view.tobytes())


def _check_inside(
    storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    """InvalidCheckpoint if a view reads beyond its block: `as_strided` does not check that."""
    if offset < 0 or len(strides) != len(shape):
        raise InvalidCheckpoint("a tensor does not say which numbers it views")
    steps = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    last = offset + sum(steps)
    # The count is checked too: strides of 0 could repeat a small block without end.
    needed = max(last + 1, math.prod(shape))
    if needed > storage.count:
        raise InvalidCheckpoint(
            f"a tensor of shape {shape} looks at {needed} numbers of {storage.count}"
        )


def _checked_sizes(value: Any) -> tuple[int, ...]:
    """A shape, or strides, of plausible numbers."""
    if isinstance(value, tuple | list) and len(value) <= 8 and all(map(_is_size, value)):
        return tuple(value)
    raise InvalidCheckpoint(f"a tensor has the shape or strides {str(value)[:100]}")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**40


def _numpy_array(state: Any) -> StoredTensor:
    _, shape, dtype, fortran, data = _exactly(state, 5)
    return _tensor_of_bytes(data, dtype, shape, fortran=bool(fortran))


def _tensor_of_bytes(data: Any, dtype: Any, shape: Any, *, fortran: bool) -> StoredTensor:
    kind, raw, sizes = _numpy_dtype(dtype), _as_bytes(data), _checked_sizes(shape)
    count = math.prod(sizes)
    if len(raw) != count * DTYPES[kind].itemsize:
        raise InvalidCheckpoint(f"an array of shape {sizes} ({kind}) has {len(raw)} bytes")
    if fortran:
        raw = np.frombuffer(raw, DTYPES[kind]).reshape(sizes, order="F").tobytes(order="C")
    return StoredTensor(kind, sizes, raw)


def _numpy_dtype(dtype: Any) -> str:
    """The dtype of a record `numpy.dtype('f4', ...)`, whose state holds the byte order."""
    match dtype:
        case PickleCall(PickleGlobal("numpy.dtype"), (str(code), *_)):
            name = code.lstrip("<|=")
            is_little_endian = _byte_order(dtype) in ("<", "|", "=")
            if is_little_endian and name in _NUMPY:
                return _NUMPY[name]
    raise InvalidCheckpoint("an array holds something other than little-endian numbers")


def _byte_order(dtype: PickleCall) -> Any:
    state = dtype.state
    return state[1] if isinstance(state, tuple) and len(state) > 1 else "="


def _as_bytes(data: Any) -> bytes:
    """The bytes of an array. Protocols before 3 store them as latin-1 text."""
    if isinstance(data, PickleCall) and data.maker.text == "_codecs.encode":
        data = _encoded_text(data.arguments)
    if isinstance(data, str):
        return data.encode("latin-1")
    if not isinstance(data, bytes | bytearray):
        raise InvalidCheckpoint(f"an array's numbers are a {_kind(data)}")
    return bytes(data)


def _encoded_text(arguments: tuple[Any, ...]) -> Any:
    """The text of `_codecs.encode(TEXT, "latin1")`; None for another encoding."""
    if arguments[1:] in (("latin1",), ("latin-1",)):
        return arguments[0]
    return None

"""Reads pickles into plain data and inert records, without any import, call or attribute access.

Python's own unpickler is not used, so none of its abilities must be disabled. A record holds the
name and the arguments of what a file asks for; a file that asks for more than checkpoints need is
refused. `models.weights.state_dict` interprets the records.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any

MAX_OPERATIONS = 20_000_000
"""The largest official checkpoint has 100,000."""
MAX_DEPTH = 10_000
"""Objects on the stack at once."""

FUNCTIONS = frozenset(
    {
        "_codecs.encode",
        "builtins.frozenset",
        "builtins.set",
        "collections.OrderedDict",
        "collections.defaultdict",
        "copyreg._reconstructor",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.core.numeric._frombuffer",
        "numpy.dtype",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch.device",
    }
)
"""Functions that a file may ask to call. None is called: the request becomes a `PickleCall`."""
_STORAGE_KINDS = (
    "BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short",
)  # fmt: skip
_TORCH_DTYPES = (
    "bfloat16", "bool", "float16", "float32", "float64", "int16", "int32", "int64", "int8", "uint8",
)  # fmt: skip
NAMES = frozenset(
    {
        "builtins.dict",
        "builtins.int",
        "builtins.list",
        "builtins.object",
        "numpy.ndarray",
        *(f"torch.{kind}Storage" for kind in _STORAGE_KINDS),
        *(f"torch.{dtype}" for dtype in _TORCH_DTYPES),
    }
)
"""Other names that a file may use."""
CLASS_ROOTS = (
    "models.",
    "ultralytics.",
    "utils.",
    "torch.nn.modules.",
    "torch.nn.parallel.",
    "torch.nn.parameter.",
)
"""Classes of networks that were pickled whole. Their objects become records of their attributes."""

_RENAMED = (
    ("__builtin__.", "builtins."),
    ("copy_reg.", "copyreg."),
    ("numpy._core.", "numpy.core."),
)
"""Module name in other releases → today's name."""


class InvalidCheckpoint(ValueError):
    """A file asks for something that no checkpoint needs, or is damaged."""


@dataclass(frozen=True)
class PickleGlobal:
    """A name in a file, such as `torch.FloatStorage`: a text, never the object."""

    text: str

    @property
    def is_class(self) -> bool:
        """Whether it is a class of a pickled network."""
        return self.text.startswith(CLASS_ROOTS)

    @property
    def may_be_called(self) -> bool:
        """Whether a checkpoint may ask to call it."""
        return self.text in FUNCTIONS or self.is_class


@dataclass(eq=False)
class PickleCall:
    """An object that a file asks for: its maker, the arguments, and what it is filled with."""

    maker: PickleGlobal
    arguments: tuple[Any, ...]
    state: Any = None
    items: list[tuple[Any, Any]] = field(default_factory=list)
    elements: list[Any] = field(default_factory=list)


PersistentLoad = Callable[[Any], Any]
"""What a persistent id (a tuple of plain data and names) stands for; raises Refused."""


def no_persistent_ids(_: Any) -> Any:
    """For pickles without persistent ids."""
    raise InvalidCheckpoint(
        "it refers to data outside itself, which only files written by torch.save have"
    )


def read_pickle(file: IO[bytes], persistent_load: PersistentLoad = no_persistent_ids) -> Any:
    """The object of the pickle that starts here; `file` then stands behind it. Raises Refused."""
    machine = _Machine(persistent_load)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
            machine.step(operation.name, argument)
            # Limits against files that are small but expand without end.
            if count > MAX_OPERATIONS or len(machine.stack) > MAX_DEPTH:
                raise InvalidCheckpoint("it is longer or deeper than any checkpoint")
        return machine.finish()
    except InvalidCheckpoint:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InvalidCheckpoint(f"it is not a valid pickle: {error}") from error


def allowed_global(module: str, name: str) -> PickleGlobal:
    """The name in today's spelling; InvalidCheckpoint unless a checkpoint may use it."""
    found = PickleGlobal(_todays_name(f"{module}.{name}"))
    # A dot in the name itself would reach an attribute of the named object.
    if "." in name or not _is_allowed(found):
        raise InvalidCheckpoint(f"it asks for {found.text[:120]!r}, which no checkpoint needs")
    return found


def _is_allowed(found: PickleGlobal) -> bool:
    is_known = found.may_be_called or found.text in NAMES
    return is_known and all(part.isidentifier() for part in found.text.split("."))


def _todays_name(text: str) -> str:
    for old, new in _RENAMED:
        if text.startswith(old):
            text = new + text.removeprefix(old)
    return text


class _Machine:
    """A pickle machine that makes records where the real one would call something."""

    def __init__(self, persistent_load: PersistentLoad) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._persistent_load = persistent_load

    def finish(self) -> Any:
        """The object that is left after STOP."""
        if len(self.stack) != 1 or self._marks:
            raise InvalidCheckpoint(f"it ends with {len(self.stack)} objects on the stack, not one")
        return self.stack[0]

    def step(self, operation: str, argument: Any) -> None:
        """Run one operation, by its name in `pickletools`."""
        if operation in _IGNORED:
            return
        if operation in _LITERALS:
            self.stack.append(argument)
        elif operation in _CONSTANTS:
            self.stack.append(_CONSTANTS[operation]())
        elif operation in _STEPS:
            _STEPS[operation](self, argument)
        else:
            raise InvalidCheckpoint(f"it uses the operation {operation}, which no checkpoint needs")

    def mark(self, _: Any) -> None:
        self._marks.append(len(self.stack))

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        popped = self.stack[start:]
        del self.stack[start:]
        return popped

    def pop(self, _: Any) -> None:
        # The real machine lets POP remove a mark.
        if self._marks and self._marks[-1] == len(self.stack):
            self._marks.pop()
        else:
            self.stack.pop()

    def pop_mark(self, _: Any) -> None:
        self._since_mark()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def put(self, index: int) -> None:
        self._memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self._memo[index])

    def collect(self, make: Callable[[list[Any]], Any]) -> None:
        self.stack.append(make(self._since_mark()))

    def short_tuple(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise InvalidCheckpoint("it takes more objects than are on the stack")
        del self.stack[-count:]
        self.stack.append(items)

    def append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, PickleCall):
            target.elements.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise InvalidCheckpoint(f"it appends to a {type(target).__name__}")

    def add_items(self, _: Any) -> None:
        values = self._since_mark()
        if not isinstance(self.stack[-1], set):
            raise InvalidCheckpoint(f"it adds to a {type(self.stack[-1]).__name__} as to a set")
        self.stack[-1].update(values)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([(key, value)])

    def set_items(self, _: Any) -> None:
        self._fill(_pairs(self._since_mark()))

    def _fill(self, pairs: list[tuple[Any, Any]]) -> None:
        target = self.stack[-1]
        if isinstance(target, PickleCall):
            target.items.extend(pairs)
        elif isinstance(target, dict):
            target.update(pairs)
        else:
            raise InvalidCheckpoint(f"it sets items of a {type(target).__name__}")

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(allowed_global(module, name))

    def stack_name(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise InvalidCheckpoint("it names something with an object other than text")
        self.stack.append(allowed_global(module, name))

    def call(self, _: Any) -> None:
        arguments, maker = self.stack.pop(), self.stack.pop()
        self._make(maker, arguments)

    def call_with_names(self, _: Any) -> None:
        named, arguments, maker = self.stack.pop(), self.stack.pop(), self.stack.pop()
        if named:
            raise InvalidCheckpoint("it makes an object with named arguments")
        self._make(maker, arguments)

    def instance(self, argument: str) -> None:
        arguments = tuple(self._since_mark())
        self.name(argument)
        self._make(self.stack.pop(), arguments)

    def object_since_mark(self, _: Any) -> None:
        maker, *arguments = self._since_mark()
        self._make(maker, tuple(arguments))

    def _make(self, maker: Any, arguments: Any) -> None:
        if not isinstance(maker, PickleGlobal):
            raise InvalidCheckpoint(f"it calls {type(maker).__name__!r}")
        if not maker.may_be_called or not isinstance(arguments, tuple):
            raise InvalidCheckpoint(f"it calls {maker.text!r}")
        self.stack.append(PickleCall(maker, arguments))

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], PickleCall):
            raise InvalidCheckpoint(f"it sets the state of a {type(self.stack[-1]).__name__}")
        self.stack[-1].state = state

    def persistent(self, argument: Any) -> None:
        self.stack.append(self._persistent_load(argument))

    def persistent_on_stack(self, _: Any) -> None:
        self.stack.append(self._persistent_load(self.stack.pop()))


def _pairs(values: Iterable[Any]) -> list[tuple[Any, Any]]:
    flat = list(values)
    return list(zip(flat[::2], flat[1::2], strict=True))


_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})
_LITERALS = frozenset(
    {
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
        "STRING", "BINSTRING", "SHORT_BINSTRING",
        "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
        "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    }
)  # fmt: skip
"""Operations whose argument is the object. `pickletools` reads texts of Python 2 as latin-1."""
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": _Machine.memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "LIST": lambda machine, _: machine.collect(list),
    "TUPLE": lambda machine, _: machine.collect(tuple),
    "FROZENSET": lambda machine, _: machine.collect(frozenset),
    "DICT": lambda machine, _: machine.collect(lambda values: dict(_pairs(values))),
    "TUPLE1": lambda machine, _: machine.short_tuple(1),
    "TUPLE2": lambda machine, _: machine.short_tuple(2),
    "TUPLE3": lambda machine, _: machine.short_tuple(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.add_items,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_names,
    "INST": _Machine.instance,
    "OBJ": _Machine.object_since_mark,
    "BUILD": _Machine.build,
    "PERSID": _Machine.persistent,
    "BINPERSID": _Machine.persistent_on_stack,
}
"""Operation → its method. Others (extension codes, external buffers) are refused."""

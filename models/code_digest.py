"""A digest of the Python code that an object comes from, to notice that the code has changed.

Comments, docstrings and layout do not count, and the Python version makes no difference. Code is
read from its files, and nothing is imported.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec, resolve_name
from pathlib import Path

_WITHOUT_EFFECT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
"""Fields of a syntax tree that do not change what code computes."""


def module_of(thing: object) -> str:
    """The module that defines a class or function; of a `functools.partial`, that of its function.

    Of any other object, the module of its class.
    """
    while isinstance(thing, functools.partial):
        thing = thing.func
    module = getattr(thing, "__module__", None)
    return str(module or type(thing).__module__)


def code_sha256(modules: Iterable[str], follows: Callable[[str], bool]) -> str:
    """sha256 hex digest over the code of the modules and of all modules that they import.

    An imported module counts if `follows(name)` is true and its source file is found.
    """
    found: dict[str, str] = {}
    waiting = sorted(set(modules))
    while waiting:
        module = waiting.pop()
        path = _source_file(module)
        if module in found or path is None:
            continue
        status = path.stat()
        found[module], imported = _read(path, module, status.st_mtime_ns, status.st_size)
        waiting += filter(follows, imported)
    lines = [f"{module} {sha256}\n" for module, sha256 in sorted(found.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _source_file(module: str) -> Path | None:
    """The file of a module; None if it has no Python source, or is not a module."""
    for path in _candidates(module):
        if path.suffix == ".py" and path.is_file():
            return path
    return None


def _candidates(module: str) -> Iterator[Path]:
    """The files that the module may be, best first."""
    top_level, *rest = module.split(".")
    try:
        spec = find_spec(top_level)
    except ValueError:  # a module that was made without a file
        spec = None
    if spec is None:
        return
    if not rest:
        yield Path(spec.origin or "")
        return
    for folder in spec.submodule_search_locations or ():
        base = Path(folder, *rest)
        yield base / "__init__.py"
        yield base.with_name(f"{base.name}.py")


@functools.lru_cache(maxsize=512)
def _read(path: Path, module: str, _changed_ns: int, _size: int) -> tuple[str, tuple[str, ...]]:
    """The digest of one file, and what it imports. The time and size are part of the key."""
    tree = ast.parse(path.read_bytes())
    digest = hashlib.sha256("\n".join(_tokens(tree)).encode("utf-8", "surrogatepass"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return digest.hexdigest(), tuple(sorted(set(_imported_names(tree, package))))


def _tokens(node: object) -> Iterator[str]:
    """The syntax tree as words; empty fields are left out, since Python versions add some."""
    if isinstance(node, list):
        for item in node:
            if not _is_docstring(item):
                yield from _tokens(item)
    elif isinstance(node, ast.AST):
        yield type(node).__name__
        for name, value in ast.iter_fields(node):
            is_empty = value is None or value == []
            if not is_empty and name not in _WITHOUT_EFFECT:
                yield name
                yield from _tokens(value)
        yield "end"
    else:
        yield repr(node)


def _is_docstring(node: object) -> bool:
    """Whether a statement is only a text: a docstring, or a text below a field."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def _imported_names(tree: ast.Module, package: str) -> Iterator[str]:
    """Full names of all that a module imports: modules, and names that may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            written = "." * node.level + (node.module or "")
            base = resolve_name(written, package) if node.level else written
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}"

"""Figures of the product code: `python -m tests.code_figures [FOLDER]`, by default of this
checkout.

Branches are counted as McCabe does: each `if`, conditional expression, loop, comprehension and its
conditions, `except`, `case`, and each further operand of `and` and `or`. Lines of a function are
those from `def` to its end, without its docstring.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

PACKAGES = ("storage", "models", "pipeline", "trainer", "tasks")
MANY_BRANCHES = 10
WIDE_COLUMNS = 100
SHORT_LINES = 5
"""A function below so many lines has no meaningful branches per line."""
DUPLICATE_LINES = 8
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Figures:
    """What is compared."""

    files: int
    largest_folder: tuple[int, str]
    functions: int
    branches_per_line_p90: float
    over_ten_branches: int
    most_branches: tuple[int, str]
    lines: int
    widest_columns: int
    wide_lines: int
    comment_share: float
    duplicated_lines: int

    def __str__(self) -> str:
        return "\n".join(
            [
                f"files                          {self.files}",
                f"modules in the largest folder  {self.largest_folder[0]} ({self.largest_folder[1]})",
                f"functions                      {self.functions}",
                f"branches per line, p90         {self.branches_per_line_p90:.2f}",
                f"functions over {MANY_BRANCHES} branches     {self.over_ten_branches}",
                f"most branches                  {self.most_branches[0]} ({self.most_branches[1]})",
                f"lines                          {self.lines}",
                f"widest line                    {self.widest_columns}",
                f"lines over {WIDE_COLUMNS} columns         {100 * self.wide_lines / self.lines:.1f} %",
                f"comment lines                  {100 * self.comment_share:.1f} %",
                f"lines in copies of {DUPLICATE_LINES} or more   {self.duplicated_lines}",
            ]
        )


def branches(function: Function) -> int:
    """Decisions of a function, those of functions inside it left out."""
    return sum(_weight(node) for node in _own_nodes(function))


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def _weight(node: ast.AST) -> int:
    if isinstance(
        node, ast.If | ast.IfExp | ast.For | ast.While | ast.ExceptHandler | ast.match_case
    ):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return 0


def lines_of(function: Function) -> int:
    """Lines from `def` to the end, without the docstring."""
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    if is_docstring and len(function.body) > 1:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


def functions_of(path: Path) -> Iterator[Function]:
    """Every function and method of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def comment_lines(text: str) -> int:
    """Lines that hold a comment, alone or after code."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def duplicated(files: list[Path]) -> int:
    """Lines that stand in a run of `DUPLICATE_LINES` or more code lines which occurs more than
    once.
    """
    places: dict[tuple[str, ...], list[tuple[Path, int]]] = {}
    for path in files:
        lines = [
            (number, line.strip()) for number, line in enumerate(path.read_text().splitlines())
        ]
        code = [
            (number, line)
            for number, line in lines
            if line and not line.startswith(("import ", "from ", "#"))
        ]
        for start in range(len(code) - DUPLICATE_LINES + 1):
            run = code[start : start + DUPLICATE_LINES]
            places.setdefault(tuple(line for _, line in run), []).append((path, start))
    repeated = {
        (path, start + offset)
        for found in places.values()
        if len(found) > 1
        for path, start in found
        for offset in range(DUPLICATE_LINES)
    }
    return len(repeated)


def figures(root: Path) -> Figures:
    """The figures of a checkout's product code."""
    files = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    modules = Counter(
        str(path.parent.relative_to(root)) for path in files if path.name != "__init__.py"
    )
    folder, count = modules.most_common(1)[0]
    lines = [line for path in files for line in path.read_text().splitlines()]
    measured = [
        (branches(function), lines_of(function), f"{path.relative_to(root)}:{function.name}")
        for path in files
        for function in functions_of(path)
    ]
    densities = sorted(number / length for number, length, _ in measured if length >= SHORT_LINES)
    most, _, name = max(measured)
    return Figures(
        files=len(files),
        largest_folder=(count, folder),
        functions=len(measured),
        branches_per_line_p90=densities[int(0.9 * len(densities))],
        over_ten_branches=sum(1 + number > MANY_BRANCHES for number, _, _ in measured),
        most_branches=(most, name),
        lines=len(lines),
        widest_columns=max(map(len, lines)),
        wide_lines=sum(len(line) > WIDE_COLUMNS for line in lines),
        comment_share=sum(comment_lines(path.read_text()) for path in files) / len(lines),
        duplicated_lines=duplicated(files),
    )


if __name__ == "__main__":
    print(figures(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else REPOSITORY))  # noqa: T201

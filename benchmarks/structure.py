"""Figures of a package's structure: sizes of functions, modules and packages, long lines, imports between packages.

    python benchmarks/structure.py                            # gradaudit itself
    python benchmarks/structure.py zennit httpx structlog     # beside other installed packages, or folders

A function's size is the number of Python tokens in its body, without docstring, comments, line breaks and indentation.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import statistics
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path

WIDTH = 100
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Structure:
    """What was counted.  ``functions`` and ``modules`` map a place to its size, ``packages`` a folder to its modules."""

    functions: dict[str, int]
    modules: dict[str, int]
    packages: dict[str, int]
    arrows: int
    long_lines: int
    comprehensions: int

    @property
    def lines(self) -> int:
        return sum(self.modules.values())

    def over(self, tokens: int) -> list[str]:
        return [place for place, size in self.functions.items() if size > tokens]


def structure_of(folder: Path) -> Structure:
    """Count every Python file below ``folder``, a package's own folder."""
    functions: dict[str, int] = {}
    modules: dict[str, int] = {}
    packages: dict[str, int] = {}
    arrows: set[tuple[str, str]] = set()
    long_lines = comprehensions = 0
    for path in sorted(folder.rglob("*.py")):
        place = str(path.relative_to(folder))
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        lines = text.splitlines()
        modules[place] = len(lines)
        if path.name != "__init__.py":
            parent = str(path.parent.relative_to(folder))
            packages[parent] = packages.get(parent, 0) + 1
        long_lines += sum(len(line) > WIDTH for line in lines)
        comprehensions += sum(isinstance(node, COMPREHENSIONS) for node in ast.walk(tree))
        functions |= {f"{place}:{name}": size for name, size in function_sizes(text, tree)}
        arrows |= package_arrows(tree, folder, path)
    return Structure(functions, modules, packages, len(arrows), long_lines, comprehensions)


def function_sizes(text: str, tree: ast.Module) -> list[tuple[str, int]]:
    """(name with line, tokens of the body) of every function and method."""
    tokens = [
        t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in NO_CODE
    ]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            start = (body[0].lineno, 0) if body else (node.end_lineno or 0, 1_000_000)
            end = (node.end_lineno or 0, node.end_col_offset or 0)
            size = sum(start <= t.start and t.end <= end for t in tokens)
            found.append((f"{node.name} (line {node.lineno})", size))
    return found


def package_arrows(tree: ast.Module, folder: Path, path: Path) -> set[tuple[str, str]]:
    """(importing, imported) top-level parts of the package, of imports that run."""
    own = path.relative_to(folder).parts[0].removesuffix(".py")
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for child in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in skipped:
            parts = node.module.split(".")
            if parts[0] == folder.name:
                names = parts[1:2] or [alias.name for alias in node.names]
                found |= {(own, name) for name in names if name != own}
    return found


def row(name: str, found: Structure) -> str:
    sizes = list(found.functions.values())
    over = [len(found.over(limit)) for limit in (400, 300, 200)]
    longest = max(found.modules, key=found.modules.__getitem__)
    fullest = max(found.packages, key=found.packages.__getitem__)
    return (
        f"{name}: {found.lines} lines, {found.long_lines / found.lines:.1%} over {WIDTH} columns; "
        f"{len(sizes)} functions, median {statistics.median(sizes):g} tokens, over 400 / 300 / 200: "
        f"{over[0]} / {over[1]} / {over[2] / len(sizes):.1%}; "
        f"comprehensions in 100 lines {100 * found.comprehensions / found.lines:.1f}; "
        f"arrows between packages {found.arrows}; longest module {longest} ({found.modules[longest]}); "
        f"most modules in a package {found.packages[fullest]} ({fullest})"
    )


def folder_of(name: str) -> Path:
    if Path(name).is_dir():
        return Path(name)
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{name} is neither a folder nor an installed package.")
    return Path(spec.origin).parent


def main() -> None:
    own = Path(__file__).parents[1] / "gradaudit"
    for folder in [own, *map(folder_of, sys.argv[1:])]:
        found = structure_of(folder)
        print(row(folder.name, found))
        if folder == own:
            for place in sorted(found.over(300), key=found.functions.__getitem__, reverse=True):
                print(f"    {found.functions[place]} tokens: {place}")


if __name__ == "__main__":
    main()

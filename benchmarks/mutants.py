"""Do the tests notice?  One wrong constant or rule at a time is put into a copy of the package, and its tests are run.

    make mutants                                 everything, about half an hour of two cores; writes reports/mutants.md
    python benchmarks/mutants.py --only named    the mutations written by hand alone
    python benchmarks/mutants.py --since main    only in files that changed since a revision
    python benchmarks/mutants.py --tests-of REV  the named ones against the tests of another revision (the column "before")

Two kinds of mutants, both described in benchmarks/mutants.toml, the one place that names files of the package and of the tests:

named   a text inside one definition, what takes its place, and why that matters
drawn   a sample of what mutmut (https://mutmut.readthedocs.io) generates for the listed modules, in proportion to how much it finds in each

Only mutmut's generator is used.  Its own runner passes decorated functions over, and nearly every formula here is registered by a
decorator; it also starts from one run of the whole suite.  Instead, one process imports the large libraries once and forks for every
mutant: the child finds the package in a temporary copy of the tree, in which one file is changed, and runs the tests of that module
until the first failure.  Strings outside functions (labels of cards) are not drawn.

A mutant is killed by a failing test, by an import that fails, by a crash, or by running five times as long as the tests do without it.
The command fails where a named mutant survives, where more than 15 % of the drawn ones do, or where a survivor has no explanation in
benchmarks/mutants.toml.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import datetime
import difflib
import gc
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks" / "mutants.toml"
STORE = ROOT / "reports" / "mutants.json"
REPORT = ROOT / "reports" / "mutants.md"
COPIED = (
    "gradaudit",
    "tests",
    "benchmarks",
    "data_manifests",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "Makefile",
)
WARM = (
    "numpy", "pandas", "pyarrow", "scipy.stats", "scipy.optimize", "statsmodels.api", "sklearn.metrics", "sklearn.decomposition", "skimage.measure",
    "torch", "hypothesis.extra.numpy", "cv2", "PIL.Image", "pydantic", "pytest",
)  # fmt: skip
"""Imported once, before the first fork; without them a child takes seconds longer, nothing else."""
MOST_SURVIVORS = 0.15


class TableError(Exception):
    """benchmarks/mutants.toml does not fit the package."""


@dataclass(frozen=True)
class Module:
    """Files of one module (paths or patterns below the root), the tests that guard it, and tests to leave out because they take long."""

    name: str
    files: tuple[str, ...]
    tests: tuple[str, ...]
    deselect: tuple[str, ...] = ()

    def paths(self) -> list[Path]:
        found = sorted(
            {path for pattern in self.files for path in ROOT.glob(pattern) if path.suffix == ".py"}
        )
        if not found:
            raise TableError(
                f"Module {self.name!r}: no file matches {', '.join(self.files)}. Where did it move? Name its new place in {TABLE.name}."
            )
        return found


@dataclass(frozen=True)
class Mutant:
    """One changed file: ``was`` and ``becomes`` are the lines that differ, ``source`` is the whole file with the change."""

    module: Module
    file: str
    definition: str
    was: str
    becomes: str
    source: str
    why: str = ""

    @property
    def key(self) -> str:
        return f"{self.module.name}.{self.definition}: {self.was} -> {self.becomes}"


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: ``killed`` with the test (or the accident) that noticed it, and the seconds it took."""

    killed: bool
    by: str
    seconds: float


# ── the tables ──────────────────────────────────────────────────────────────────────────────────────────────────────


def read_table() -> dict[str, Any]:
    with TABLE.open("rb") as file:
        return tomllib.load(file)


def modules_of(table: dict[str, Any]) -> dict[str, Module]:
    return {
        name: Module(
            name, tuple(entry["files"]), tuple(entry["tests"]), tuple(entry.get("deselect", ()))
        )
        for name, entry in table["module"].items()
    }


def named_mutants(table: dict[str, Any]) -> list[Mutant]:
    """Every mutation written by hand; ``TableError`` names all that do not fit the package any more."""
    modules, found, wrong = modules_of(table), [], []
    for entry in table["named"]:
        try:
            found.append(_named(modules[entry["module"]], entry))
        except TableError as error:
            wrong.append(str(error))
    if wrong:
        raise TableError(
            f"{len(wrong)} of {len(table['named'])} named mutations do not fit the package:\n"
            + "\n".join(wrong)
        )
    return found


def _named(module: Module, entry: dict[str, str]) -> Mutant:
    name, find, put = entry["in"], entry["find"], entry["put"]
    places = [
        (path, span)
        for path in module.paths()
        for span in _spans(path.read_text(encoding="utf-8"), name)
    ]
    if len(places) != 1:
        raise TableError(
            f"  {module.name}.{name}: defined {len(places)} times in {', '.join(module.files)}, expected once."
        )
    path, (start, end) = places[0]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    body = "".join(lines[start:end])
    found = list(re.finditer(_pattern(find), body))
    if len(found) != 1:
        raise TableError(
            f"  {module.name}.{name}: {find!r} is there {len(found)} times, expected once."
        )
    changed = body[: found[0].start()] + put + body[found[0].end() :]
    source = "".join([*lines[:start], changed, *lines[end:]])
    return _mutant(module, path, name, "".join(lines), source, entry["why"])


def _pattern(find: str) -> str:
    """The text with any space between its tokens, as a formatter may break a line there."""
    tokens = re.findall(r"\w+|[^\w\s]", find)
    spaced = [rf"(?:,\s*)?{re.escape(t)}" if t in ")]}" else re.escape(t) for t in tokens]
    return r"\s*".join(spaced)


def _spans(source: str, name: str) -> Iterator[tuple[int, int]]:
    """Lines [start, end) of a function, class, method ("Class.method") or module constant, decorators included."""
    first, _, rest = name.partition(".")
    for node in ast.parse(source).body:
        if first in _defined(node):
            inner = (
                [n for n in getattr(node, "body", []) if rest in _defined(n)] if rest else [node]
            )
            for part in inner:
                lines = [part.lineno, *(d.lineno for d in getattr(part, "decorator_list", []))]
                yield min(lines) - 1, part.end_lineno or part.lineno


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = (
        node.targets
        if isinstance(node, ast.Assign)
        else [node.target]
        if isinstance(node, ast.AnnAssign)
        else []
    )
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def _mutant(
    module: Module, path: Path, definition: str, old: str, new: str, why: str = ""
) -> Mutant:
    changed = [
        line
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")
        if line[:3] not in ("---", "+++")
    ]
    was, becomes = (
        " ⏎ ".join(line[1:].strip() for line in changed if line[0] == sign) for sign in "-+"
    )
    return Mutant(module, path.relative_to(ROOT).as_posix(), definition, was, becomes, new, why)


# ── drawing from mutmut ─────────────────────────────────────────────────────────────────────────────────────────────


def generated_mutants(module: Module) -> list[Callable[[], Mutant | None]]:
    """Everything that mutmut's operators find in the module's functions, decorated or not, and in numbers outside of them.

    Each is written out when it is called (a tenth of a second), and is None where the code comes out the same.
    """
    import libcst as cst
    from mutmut.mutation.file_mutation import MutationVisitor, deep_replace
    from mutmut.mutation.mutators import mutation_operators
    from mutmut.mutation.pragma_handling import IgnoredCode

    class Everywhere(MutationVisitor):  # type: ignore[misc]
        """mutmut's visitor passes decorated functions over, because its runner copies functions; here they are rewritten in place."""

        def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
            return not isinstance(node, cst.FunctionDef) and bool(
                super()._skip_node_and_children(node)
            )

    def written(path: Path, tree: cst.Module, mutation: Any, name: str) -> Mutant | None:
        old, new = (
            path.read_text(encoding="utf-8"),
            deep_replace(tree, mutation.original_node, mutation.mutated_node).code,
        )
        return (
            None
            if ast.dump(ast.parse(old)) == ast.dump(ast.parse(new))
            else _mutant(module, path, name, old, new)
        )

    found = []
    for path in module.paths():
        wrapper = cst.MetadataWrapper(cst.parse_module(path.read_text(encoding="utf-8")))
        visitor = Everywhere(mutation_operators, IgnoredCode(set(), set(), set()))
        wrapper.visit(visitor)
        for mutation in visitor.mutations:
            inside = mutation.contained_by_top_level_function
            if isinstance(inside, cst.FunctionDef) or isinstance(
                mutation.original_node, cst.BaseNumber
            ):
                name = inside.name.value if isinstance(inside, cst.FunctionDef) else "(constants)"
                found.append(partial(written, path, wrapper.module, mutation, name))
    return found


def shares(sizes: Sequence[int], total: int) -> list[int]:
    """``total`` divided in proportion to ``sizes``, by largest remainder; never more than there is."""
    exact = [total * size / max(sum(sizes), 1) for size in sizes]
    given = [min(int(x), size) for x, size in zip(exact, sizes, strict=True)]
    for k in sorted(range(len(sizes)), key=lambda k: int(exact[k]) - exact[k])[
        : min(total, sum(sizes)) - sum(given)
    ]:
        given[k] += 1
    return given


def drawn_mutants(
    modules: Sequence[Module], count: int, seed: int
) -> tuple[list[Mutant], dict[str, int]]:
    """A sample over the modules, and how many mutants there are in each."""
    everything = {module.name: generated_mutants(module) for module in modules}
    chosen: list[Mutant] = []
    for (name, mutants), share in zip(
        everything.items(), shares([len(m) for m in everything.values()], count), strict=True
    ):
        random.Random(f"{seed} {name}").shuffle(mutants)
        real = (mutant for write in mutants if (mutant := write()) is not None)
        chosen += islice(real, share)
    return chosen, {name: len(mutants) for name, mutants in everything.items()}


# ── running ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Copy:
    """A temporary copy of the tree, in which one child at a time runs."""

    root: Path
    original: dict[str, bytes] = field(default_factory=dict)

    def put(self, file: str, source: str) -> None:
        path = self.root / file
        self.original[file] = path.read_bytes()
        path.write_text(source, encoding="utf-8")
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            stale.unlink()

    def restore(self) -> None:
        for file, content in self.original.items():
            (self.root / file).write_bytes(content)
        self.original.clear()
        shutil.rmtree(self.root / ".hypothesis", ignore_errors=True)


def copy_of_the_tree(folder: Path, tests_of: str = "") -> Copy:
    """The working tree's package and tests, or the package with the tests of another revision."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "build")
            )
        elif (ROOT / name).exists():
            shutil.copy2(ROOT / name, folder / name)
    if tests_of:
        shutil.rmtree(folder / "tests")
        packed = subprocess.run(
            ["git", "archive", tests_of, "tests"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=packed, check=True)
    return Copy(folder)


class FirstFailure:
    """Remembers the test that failed first."""

    def __init__(self) -> None:
        self.name = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.name:
            self.name = f"{report.nodeid} does not load"


def run_tests_and_leave(copy: Path, module: Module, note: Path, keep_bytecode: bool) -> NoReturn:
    """In the forked child: the module's tests in the copy, the outcome in ``note``, never a return."""
    os.setsid()  # what the tests start is ended with them
    with (note.with_suffix(".log")).open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    code, first = 99, FirstFailure()
    try:
        import pytest

        os.chdir(copy)
        sys.dont_write_bytecode = not keep_bytecode
        sys.path[:] = [
            str(copy),
            str(copy / "tests"),
            *(p for p in sys.path if Path(p or ".").resolve() not in (ROOT, ROOT / "benchmarks")),
        ]
        os.environ["PYTHONPATH"] = str(copy)
        there = [test for test in module.tests if (copy / test.partition("::")[0]).exists()]
        options = [
            "-x",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            "-m",
            "not slow and not browser",
            "--hypothesis-profile=mutants",
        ]
        options += [
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",
        ]  # hypothesis is loaded already: see ``warm_up``
        code = int(
            pytest.main(
                [*there, *options, *(f"--deselect={test}" for test in module.deselect)],
                plugins=[first],
            )
        )
        loaded = sys.modules.get("gradaudit")
        if loaded is not None and not str(loaded.__file__).startswith(str(copy)):
            code, first.name = 98, f"the tests loaded {loaded.__file__}"
    except BaseException:
        traceback.print_exc()
    finally:
        note.write_text(json.dumps({"code": code, "first": first.name}))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(min(code, 99))


@dataclass
class _Running:
    job: int
    copy: Copy
    note: Path
    started: float
    limit: float


class Runner:
    """Runs mutants in forked children, as many at once as there are copies of the tree."""

    def __init__(self, folder: Path, workers: int, tests_of: str = "") -> None:
        self.folder = folder
        self.copies = []
        for k in range(workers):
            place = folder / f"tree{k}"
            place.mkdir()
            self.copies.append(copy_of_the_tree(place, tests_of))
        self.seconds: dict[str, float] = {}

    def control(self, modules: Sequence[Module]) -> None:
        """The tests without a mutant, in every copy (so that each has its bytecode): they must pass, and their time limits the mutants'."""
        for module in modules:
            results = self._run(
                [(module, None, "")] * len(self.copies), self.copies, limit=900, keep_bytecode=True
            )
            for k, result in enumerate(results):
                if result.killed:
                    tail = (self.folder / f"{k}.log").read_text(errors="replace")[-3000:]
                    raise TableError(
                        f"Without any mutant, the tests of {module.name!r} fail: {result.by}\n{tail}"
                    )
            self.seconds[module.name] = max(result.seconds for result in results)
            print(
                f"  {module.name}: {self.seconds[module.name]:.1f} s without a mutant", flush=True
            )

    def outcomes(self, mutants: Sequence[Mutant]) -> list[Outcome]:
        jobs = [(m.module, m.file, m.source) for m in mutants]
        return self._run(jobs, self.copies, names=[m.key for m in mutants])

    def _run(
        self, jobs: Sequence[tuple[Module, str | None, str]], copies: Sequence[Copy], limit: float = 0.0, keep_bytecode: bool = False,
        names: Sequence[str] = (),
    ) -> list[Outcome]:  # fmt: skip
        waiting, free, running, found = deque(range(len(jobs))), list(copies), {}, {}
        while waiting or running:
            while waiting and free:
                job, copy = waiting.popleft(), free.pop()
                module, file, source = jobs[job]
                if file is not None:
                    copy.put(file, source)
                note = self.folder / f"{job}.json"
                note.unlink(missing_ok=True)
                pid = os.fork()
                if pid == 0:
                    run_tests_and_leave(copy.root, module, note, keep_bytecode)
                running[pid] = _Running(
                    job, copy, note, time.monotonic(), limit or 30 + 5 * self.seconds[module.name]
                )
            time.sleep(0.05)
            for pid, one in list(running.items()):
                late = time.monotonic() - one.started > one.limit
                if late:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
                if os.waitpid(pid, 0 if late else os.WNOHANG)[0] == pid:
                    del running[pid]
                    one.copy.restore()
                    free.append(one.copy)
                    found[one.job] = self._outcome(one, late)
                    if names:
                        said = (
                            "survived"
                            if not found[one.job].killed
                            else f"killed by {found[one.job].by}"
                        )
                        print(
                            f"  [{len(found)}/{len(jobs)}, {found[one.job].seconds:.0f} s] {names[one.job]}\n      {said}",
                            flush=True,
                        )
        return [found[k] for k in range(len(jobs))]

    @staticmethod
    def _outcome(one: _Running, late: bool) -> Outcome:
        seconds = time.monotonic() - one.started
        if late:
            return Outcome(True, f"no end within {one.limit:.0f} s", seconds)
        if not one.note.exists():
            return Outcome(True, "a crash", seconds)
        said = json.loads(one.note.read_text())
        if said["code"] == 98:
            raise TableError(f"Outside of the copy: {said['first']}")
        return Outcome(
            said["code"] != 0,
            said["first"] or f"pytest's exit code {said['code']}" if said["code"] else "",
            seconds,
        )


def warm_up() -> None:
    """Load what every child needs but the package itself; one thread, so that forking is sound."""
    os.environ.update(
        dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    )
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from hypothesis import Phase, settings

    settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
    )
    gc.collect()
    gc.freeze()  # what is loaded here is never searched for garbage again: statsmodels asks for that at every call
    if "gradaudit" in sys.modules:
        raise TableError(
            "The package was loaded before the first fork: the children would not see their mutants."
        )


# ── the report ──────────────────────────────────────────────────────────────────────────────────────────────────────


def kept() -> dict[str, Any]:
    return json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() else {}


def keep(figures: dict[str, Any]) -> None:
    STORE.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def told(mutants: Sequence[Mutant], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [
        {
            "module": m.module.name,
            "in": m.definition,
            "was": m.was,
            "becomes": m.becomes,
            "why": m.why,
            "killed": o.killed,
            "by": o.by,
        }
        for m, o in zip(mutants, outcomes, strict=True)
    ]


def key_of(row: dict[str, Any]) -> str:
    return f"{row['module']}.{row['in']}: {row['was']} -> {row['becomes']}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else "(nothing)"


def explanations(table: dict[str, Any]) -> dict[str, str]:
    return {key_of(entry): entry["why"] for entry in table.get("survivor", [])}


def report(figures: dict[str, Any], table: dict[str, Any]) -> str:
    named, drawn, before = (
        figures["named"],
        figures["drawn"],
        figures.get("before", {"rows": [], "tests_of": "–"}),
    )
    earlier = {key_of(row): row["killed"] for row in before["rows"]}
    survived = [row for row in named["rows"] if not row["killed"]]
    known = [earlier[key_of(row)] for row in named["rows"] if key_of(row) in earlier]
    lines = [
        "# Do the tests notice?", "",
        "One wrong constant or rule at a time is put into a copy of the package, and the fast tests of that module are run: a mutant that no test",
        "notices survives. Written by `make mutants` (`benchmarks/mutants.py`, whose tables are in `benchmarks/mutants.toml`).", "",
        f"Run on {figures['date']} with `{figures['command']}`, seed {drawn['seed']}, mutmut {figures['mutmut']}.", "",
        "## Named mutations", "",
        f"{len(named['rows'])} mutations written by hand: {len(survived)} survive. "
        f"With the tests of {before['tests_of']}, before those that this page asks for were written, "
        f"{sum(not k for k in known)} of {len(known)} survived.", "",
        "| module | definition | was | becomes | why it matters | before | now |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in named["rows"]:
        then = {True: "killed", False: "**survived**", None: "–"}[earlier.get(key_of(row))]
        now = (
            f"killed by {_code(row['by'].partition('tests/')[2] or row['by'])}"
            if row["killed"]
            else "**survived**"
        )
        lines.append(
            f"| {row['module']} | `{row['in']}` | {_code(row['was'])} | {_code(row['becomes'])} | {_cell(row['why'])} | {then} | {now} |"
        )
    rows, why = drawn["rows"], explanations(table)
    left = [row for row in rows if not row["killed"]]
    lines += [
        "", "## Drawn mutants", "",
        f"{len(rows)} of the {sum(drawn['sizes'].values())} mutants that mutmut generates for these modules, drawn in proportion: "
        f"{len(left)} survive ({len(left) / max(len(rows), 1):.0%}; at most {MOST_SURVIVORS:.0%} may).", "",
        "| module | generated | drawn | survived |", "|---|---:|---:|---:|",
    ]  # fmt: skip
    for name, size in drawn["sizes"].items():
        mine = [row for row in rows if row["module"] == name]
        lines.append(
            f"| {name} | {size} | {len(mine)} | {sum(not row['killed'] for row in mine)} |"
        )
    if left:
        lines += [
            "",
            "| module | definition | was | becomes | why it may stay |",
            "|---|---|---|---|---|",
        ]
    for row in left:
        reason = why.get(key_of(row), "**not explained**")
        lines.append(
            f"| {row['module']} | `{row['in']}` | {_code(row['was'])} | {_code(row['becomes'])} | {_cell(reason)} |"
        )
    return "\n".join(lines) + "\n"


def shortcomings(figures: dict[str, Any], table: dict[str, Any]) -> list[str]:
    named, drawn, why = figures["named"]["rows"], figures["drawn"]["rows"], explanations(table)
    left = [row for row in drawn if not row["killed"]]
    found = [f"The named mutant survives: {key_of(row)}" for row in named if not row["killed"]]
    if len(left) > MOST_SURVIVORS * len(drawn):
        found.append(
            f"{len(left)} of {len(drawn)} drawn mutants survive; at most {MOST_SURVIVORS:.0%} may."
        )
    return found + [
        f"A survivor without explanation in {TABLE.name}: {key_of(row)}"
        for row in left
        if key_of(row) not in why
    ]


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=11, help="of the draw")
    parser.add_argument("--draw", type=int, default=100, help="how many of mutmut's mutants")
    parser.add_argument(
        "--only", choices=("named", "drawn"), help="one kind alone; the report is not rewritten"
    )
    parser.add_argument(
        "--module", action="append", help="these modules alone; the report is not rewritten"
    )
    parser.add_argument(
        "--match",
        default="",
        help="only mutants whose line holds this text; the report is not rewritten",
    )
    parser.add_argument(
        "--since",
        default="",
        help="only files that changed since this revision; the report is not rewritten",
    )
    parser.add_argument(
        "--tests-of",
        default="",
        help="run the named ones against this revision's tests, and keep the outcome as 'before'",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--report",
        action="store_true",
        help="write the report again from reports/mutants.json, without running anything",
    )
    return parser.parse_args()


def chosen(mutants: Sequence[Mutant], ask: argparse.Namespace) -> list[Mutant]:
    changed = None
    if ask.since:
        listed = subprocess.run(
            ["git", "diff", "--name-only", ask.since],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        changed = set(listed.splitlines())
    return [
        m for m in mutants
        if (not ask.module or m.module.name in ask.module) and ask.match in m.key and (changed is None or m.file in changed)
    ]  # fmt: skip


def main() -> int:
    ask, table = arguments(), read_table()
    if ask.report:
        figures = kept()
        REPORT.write_text(report(figures, table), encoding="utf-8")
        return _said(shortcomings(figures, table))
    named = [] if ask.only == "drawn" else chosen(named_mutants(table), ask)
    drawn, sizes = [], {}
    if ask.only != "named" and not ask.tests_of:
        print(f"Drawing {ask.draw} mutants with seed {ask.seed}", flush=True)
        drawn, sizes = drawn_mutants(
            [m for m in modules_of(table).values() if not ask.module or m.name in ask.module],
            ask.draw,
            ask.seed,
        )
        drawn = chosen(drawn, ask)
    warm_up()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        runner = Runner(Path(folder), max(1, ask.workers), ask.tests_of)
        runner.control(list({m.module.name: m.module for m in (*named, *drawn)}.values()))
        named_rows, drawn_rows = (
            told(named, runner.outcomes(named)),
            told(drawn, runner.outcomes(drawn)),
        )
    figures = kept()
    if ask.tests_of:
        figures["before"] = {"tests_of": ask.tests_of, "rows": named_rows}
        keep(figures)
        print(
            f"{sum(not row['killed'] for row in named_rows)} of {len(named_rows)} survive the tests of {ask.tests_of}"
        )
        return 0
    import importlib.metadata

    figures |= {
        "date": datetime.date.today().isoformat(), "command": "make mutants", "mutmut": importlib.metadata.version("mutmut"),
        "named": {"rows": named_rows}, "drawn": {"seed": ask.seed, "sizes": sizes, "rows": drawn_rows},
    }  # fmt: skip
    if not (ask.only or ask.module or ask.match or ask.since):
        keep(figures)
        REPORT.write_text(report(figures, table), encoding="utf-8")
    return _said(shortcomings(figures, table))


def _said(wrong: Sequence[str]) -> int:
    print("\n".join(wrong) if wrong else "Every mutant is killed or explained.", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TableError as error:
        sys.exit(str(error))

"""What the package imports at run time is what pyproject.toml declares: each import a dependency, each dependency an import."""

import ast
import re
import sys
import tomllib
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "gradaudit"
PROJECT = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
DISTRIBUTION_OF = {
    "PIL": "pillow",
    "importlinter": "import-linter",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "cv2": "opencv-python-headless",
    "pytorch_grad_cam": "grad-cam",
}
"""Import name -> distribution, where they differ by more than - and _."""

NOT_IMPORTED = {
    "s3fs": "fsspec opens s3:// with it",
    "gcsfs": "fsspec opens gs:// with it",
    "aiohttp": "fsspec opens https:// with it",
    "ipykernel": "runs the notebooks",
    "nbclient": "runs the notebooks",
    "nbformat": "reads the notebooks",
    "statsmodels": "notebook 03 compares with it",
}
"""Declared and imported nowhere in the package, with the reason."""

NOT_AT_RUN_TIME = {"dev", "test", "parity"}
"""Extras of developers: what they bring is for tests, types and comparisons."""

NOT_OURS = {"gradaudit"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {normal(re.match(r"[A-Za-z0-9._-]+", requirement)[0]) for requirement in requirements}


def imports_of(text: str) -> set[str]:
    """Distributions that a module imports anywhere in it, also by name: ``importlib.import_module("timm")``, ``imported_extra("onnx", ...)``.

    What stands under ``if TYPE_CHECKING`` does not run.
    """
    tree = ast.parse(text)
    skipped = set()
    for branch in ast.walk(tree):
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING"):
            skipped |= {id(node) for child in branch.body for node in ast.walk(child)}
    names = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
            "import_module",
            "imported_extra",
            "importorskip",
        ):
            first = node.args[0]
            names |= {first.value} if isinstance(first, ast.Constant) else set()
    tops = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - NOT_OURS
    return {normal(DISTRIBUTION_OF.get(top, top)) for top in tops}


def run_time_imports() -> dict[str, set[str]]:
    """Distribution -> modules that import it."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in imports_of(path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(str(path.relative_to(PACKAGE)))
    return found


def run_time_extras() -> dict[str, set[str]]:
    return {
        extra: declared(needs)
        for extra, needs in PROJECT["optional-dependencies"].items()
        if extra not in NOT_AT_RUN_TIME
    }


def test_every_import_is_declared():
    known = declared(PROJECT["dependencies"]).union(*run_time_extras().values())
    missing = {
        name: sorted(modules) for name, modules in run_time_imports().items() if name not in known
    }
    assert not missing, f"imported and declared neither as a dependency nor in an extra: {missing}"


def test_every_declared_dependency_is_imported():
    unused = (
        declared(PROJECT["dependencies"]).union(*run_time_extras().values())
        - set(run_time_imports())
        - set(NOT_IMPORTED)
    )
    assert not unused, (
        f"declared and imported nowhere: {sorted(unused)}. Move it to the extra that needs it, or give the reason in NOT_IMPORTED"
    )


def test_what_the_tests_import_is_declared_too():
    folder = Path(__file__).parent
    ours = {normal(path.stem) for path in folder.glob("*.py")} | {"tests"}
    known = declared(PROJECT["dependencies"]).union(
        *map(declared, PROJECT["optional-dependencies"].values())
    )
    found = {
        name: path.name
        for path in sorted(folder.glob("*.py"))
        for name in imports_of(path.read_text(encoding="utf-8"))
    }
    assert not {name: module for name, module in found.items() if name not in known | ours}


def test_an_extra_is_no_dependency_and_each_reason_is_still_needed():
    extras = set().union(*run_time_extras().values())
    assert not extras & declared(PROJECT["dependencies"])
    assert set(NOT_IMPORTED) <= extras
    assert not set(NOT_IMPORTED) & set(run_time_imports())


def test_imports_of_an_extra_stand_inside_functions():
    """At the top of a module they would be needed by everybody."""
    optional = set().union(*run_time_extras().values())
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = "\n".join(
            ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
        )
        assert not imports_of(top) & optional, path


def test_the_readme_installs_what_exists():
    text = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    pip install (.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert commands
    for command in commands:
        assert re.fullmatch(r"-c constraints\.txt ('\.\[[a-z,]+\]'|\.)", command), (
            f"no index has gradaudit, a checkout has: {command}"
        )
        named = re.findall(r"[a-z]+", command.partition("[")[2])
        assert set(named) <= set(PROJECT["optional-dependencies"])
    described = set(re.findall(r"`\[([a-z]+)\]`", text))
    assert described == set(PROJECT["optional-dependencies"]) - NOT_AT_RUN_TIME


def test_imports_are_found_wherever_they_stand():
    text = "import a.b\nfrom c import d\nif TYPE_CHECKING:\n    import e\ndef f():\n    import PIL.Image\n    importlib.import_module('g_h.i')\n    imported_extra('j', 'x')\n"
    assert imports_of(text) == {"a", "c", "pillow", "g-h", "j"}

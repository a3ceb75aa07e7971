"""The plan of the house, executed: layers and wings by import-linter, sizes by counting, and what is loaded when."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.application.use_cases import lint_imports
from importlinter.configuration import configure

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gradaudit"
_spec = importlib.util.spec_from_file_location("structure", ROOT / "benchmarks" / "structure.py")
structure = importlib.util.module_from_spec(_spec)
sys.modules["structure"] = structure
_spec.loader.exec_module(structure)
FORBIDDEN_NAMES = {"utils", "helpers", "common", "base", "misc", "util", "helper"}
ROOT_ENTRIES = {
    "pyproject.toml", "README.md", "Makefile", "LICENSE", "constraints.txt", "gradaudit", "tests", "benchmarks", "reports", "notebooks",
    "data_manifests", "docs", "changelog.d", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "Dockerfile",
}  # fmt: skip
STRUCTURE = structure.structure_of(PACKAGE)


def test_the_contracts_of_the_layers_hold(monkeypatch, capsys):
    """Layers, wings, torch and circles, as pyproject.toml states them; `lint-imports` says which import breaks one."""
    monkeypatch.chdir(ROOT)
    configure()
    held = lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None)
    assert held, capsys.readouterr().out


def test_a_contract_is_seen_to_break(tmp_path):
    """Teeth: the same contracts over a copy in which the table wing imports torch."""
    copy = tmp_path / "gradaudit"
    for path in PACKAGE.rglob("*.py"):
        target = copy / path.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    broken = copy / "cohort" / "population.py"
    broken.write_text(broken.read_text(encoding="utf-8") + "\nimport torch\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
    ]
    found = subprocess.run(
        [*command, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert found.returncode == 1, found.stdout + found.stderr
    assert "gradaudit.cohort.population -> torch" in found.stdout


def test_functions_are_short():
    """Tokens of a body without its docstring; `python benchmarks/structure.py` lists the longest."""
    assert not STRUCTURE.over(400)
    assert len(STRUCTURE.over(300)) <= 15
    assert len(STRUCTURE.over(200)) <= len(STRUCTURE.functions) / 10


def test_modules_and_packages_are_small():
    assert {place: lines for place, lines in STRUCTURE.modules.items() if lines > 450} == {}
    assert {place: count for place, count in STRUCTURE.packages.items() if count > 11} == {}
    assert STRUCTURE.long_lines / STRUCTURE.lines <= 0.03


@pytest.mark.parametrize("place", STRUCTURE.modules)
def test_a_module_is_named_for_what_it_holds(place):
    assert Path(place).stem not in FORBIDDEN_NAMES


@pytest.mark.parametrize("place", [p for p in STRUCTURE.modules if p.endswith("__init__.py")])
def test_a_package_says_what_comes_in_and_what_goes_out(place):
    """The README's tree and a newcomer start from these paragraphs."""
    first = (PACKAGE / place).read_text(encoding="utf-8")
    assert first.startswith('"""')
    assert len(first.split('"""')[1].strip()) > 40


def test_the_root_holds_only_what_is_planned():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    entries = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {entry for entry in entries if not entry.startswith(".")} <= ROOT_ENTRIES


TORCH_FREE = (
    "import gradaudit.cli",
    "import gradaudit; gradaudit.Plan; gradaudit.read_manifest; gradaudit.disparity; gradaudit.analyze",
    "import gradaudit.result, gradaudit.report",
)


@pytest.mark.parametrize("statement", TORCH_FREE)
def test_the_table_wing_loads_no_torch(statement):
    code = f"{statement}\nimport sys\nassert 'torch' not in sys.modules, 'torch was loaded'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_loads_no_torch():
    code = "import sys; sys.argv = ['gradaudit', '--help']\ntry:\n    from gradaudit.cli import main; main()\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_public_names_all_resolve():
    import gradaudit

    for name in gradaudit.__all__:
        assert getattr(gradaudit, name) is not None
    assert set(gradaudit.__all__) == set(gradaudit._MODULE_OF)
    assert callable(gradaudit.audit)
    with pytest.raises(AttributeError, match="no attribute 'audits'"):
        gradaudit.audits  # noqa: B018


def test_no_package_bears_the_name_of_a_public_function():
    """Importing it would replace the function: `gradaudit.audit` would become a module."""
    import gradaudit

    assert not {place.split("/")[0] for place in STRUCTURE.modules if "/" in place} & set(
        gradaudit.__all__
    )

"""The floor plan, executed: which rooms exist, what each may import, and that the table wing never loads torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gradaudit"
ROOT = PACKAGE.parent

# Floor by floor, from the ground up; a room may import rooms of lower floors, and on its own floor those to its left.
FLOORS = (
    ("errors", "registry", "records", "config"),
    ("metrics", "derivations", "regions", "rules", "tables", "labels", "paths", "image_list", "starting_plan", "manifest", "stats", "storage", "unmeasured", "dermoscopy"),
    (
        "images", "batches", "layouts", "capture", "targets", "cams", "perturbation", "pixels", "concepts", "operators", "weights", "model_files", "output_activation", "models", "demo_network",
        "contrasts", "analysed_rows", "between", "within", "subgroups", "overlays", "report.figures", "report.blocks",
    ),
    (
        "engine", "acceleration", "measuring", "explaining", "layer_list", "checks", "merits", "merit_differences", "performance", "sentences", "privacy", "limits", "census", "flow", "distributions", "disclosure",
        "description", "analysis", "cards", "gallery", "report.wording", "report.glossary", "report.composition", "report.heat", "report.performance",
        "report.method", "report.sections", "report.build", "report", "result",
    ),
    ("auditing", "demo"),
    ("", "cli", "__main__"),
)  # fmt: skip
TORCH_WING = {
    "images", "batches", "layouts", "capture", "targets", "cams", "perturbation", "pixels", "concepts", "operators", "weights", "model_files", "output_activation", "models", "demo_network",
    "engine", "acceleration", "measuring", "explaining", "layer_list", "checks",
}  # fmt: skip
TABLE_WING = {
    "contrasts", "analysed_rows", "between", "within", "subgroups", "sentences", "merits", "merit_differences", "performance", "privacy", "limits", "census", "flow", "distributions", "disclosure", "description", "gallery",
    "analysis", "cards", "result", "report.figures", "report.blocks", "report.wording", "report.glossary", "report.composition", "report.heat", "report.performance", "report.method",
    "report.sections", "report.build", "report",
}  # fmt: skip
JOINERS = {"auditing", "demo", "", "__main__", "cli"}
FORBIDDEN_NAMES = {"utils", "helpers", "common", "base", "misc", "util", "helper"}
ORDER = [room for floor in FLOORS for room in floor]
ROOT_ENTRIES = {
    "pyproject.toml", "README.md", "Makefile", "LICENSE", "constraints.txt", "gradaudit", "tests", "benchmarks", "reports", "notebooks",
    "data_manifests",
}  # fmt: skip


def rooms() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports anywhere in it, also inside functions; imports for type checkers only do not run."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
        for child in branch.body
        for node in ast.walk(child)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = {name for name in whole if name.removeprefix("gradaudit.") in rooms()}
            names |= inner if inner == whole else inner | {node.module}  # "from package import room" needs the room alone
        elif isinstance(node, ast.ImportFrom) and node.level:
            pytest.fail(f"{path}: relative import; write the room's whole name")
    known = rooms()
    return {room for name in names if name.startswith("gradaudit.") and (room := name.removeprefix("gradaudit.")) in known}


@pytest.mark.parametrize("room", sorted(rooms()))
def test_every_room_is_on_the_plan(room):
    assert room in ORDER, f"{room} is not on the floor plan"
    assert room.split(".")[-1] not in FORBIDDEN_NAMES


@pytest.mark.parametrize("room", sorted(rooms()))
def test_imports_point_down(room):
    for imported in imported_rooms(rooms()[room]) - {room}:
        assert ORDER.index(imported) < ORDER.index(room), f"{room} imports {imported}, which lies above it"


@pytest.mark.parametrize("room", sorted(rooms()))
def test_wings_do_not_meet(room):
    other = TABLE_WING if room in TORCH_WING else TORCH_WING if room not in JOINERS else set()
    assert not imported_rooms(rooms()[room]) & other


@pytest.mark.parametrize("room", sorted(r for r in rooms() if r not in TORCH_WING | JOINERS))
def test_no_torch_outside_its_wing(room):
    for node in ast.walk(ast.parse(rooms()[room].read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & {"torch", "torchvision", "timm"}


def test_the_root_holds_only_what_is_planned():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False)
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
    assert set(gradaudit.__all__) == set(gradaudit._ROOM_OF)
    assert callable(gradaudit.audit)
    with pytest.raises(AttributeError, match="no attribute 'audits'"):
        gradaudit.audits  # noqa: B018

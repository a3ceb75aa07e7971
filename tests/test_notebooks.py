"""Every notebook runs from its first cell to its last, in a kernel of its own."""

import shutil
import warnings
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


ON_THE_DEMO = "gradaudit-demo"


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            p,
            id=p.stem,
            marks=[pytest.mark.xdist_group("demo")] if ON_THE_DEMO in p.read_text("utf-8") else [],
        )
        for p in NOTEBOOKS
    ],
)
def test_notebook_runs(path, tmp_path, request):
    if ON_THE_DEMO in path.read_text("utf-8"):
        shutil.copytree(request.getfixturevalue("built_demo"), tmp_path / ON_THE_DEMO)
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the kernel's client, not our code, warns about its event loop
        nbclient.NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            resources={"metadata": {"path": str(tmp_path)}},
        ).execute()
    assert any(cell.get("outputs") for cell in notebook.cells)


def test_there_are_notebooks():
    assert NOTEBOOKS

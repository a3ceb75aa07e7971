"""What several test files need, built once."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def built_demo(tmp_path_factory) -> Path:
    """The demo, smaller than `gradaudit demo` writes it (`make report` has that one).  Its users share one worker: xdist_group("demo")."""
    from gradaudit.demos.dermoscopy import (
        DemoSettings,
        write_demo,
    )  # here, so that collecting the tests of the table wing loads no torch

    settings = DemoSettings(patients=40, train_images=800, side=128)
    return write_demo(tmp_path_factory.mktemp("demo") / "gradaudit-demo", settings=settings).parent


@pytest.fixture(scope="session")
def rendered():
    """HTML of the documents of result_documents.py, by name.  Its users share one worker: xdist_group("report")."""
    import result_documents

    return result_documents.Rendered()


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Run the entry point as the console script does; returns (exit code, stdout, stderr)."""

    from gradaudit.cli import entry

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["gradaudit", *map(str, arguments)])
        try:
            entry.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


LONGEST_FIRST = ("demo", "report")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay on one worker, with what its fixtures build; the longest groups come first, lest one worker end alone."""
    groups = {}
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        name = mark.args[0] if mark else str(item.path.relative_to(Path(__file__).parent))
        if mark is None:
            item.add_marker(pytest.mark.xdist_group(name))
        groups[item] = LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)
    items.sort(key=groups.__getitem__)

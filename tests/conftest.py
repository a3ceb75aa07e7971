"""What several test files need, built once."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def built_demo(tmp_path_factory) -> Path:
    """The demo with its default settings, as `gradaudit demo` writes it.  Its users share one worker: xdist_group("demo")."""
    from gradaudit.demo import write_demo  # here, so that collecting the tests of the table wing loads no torch

    return write_demo(tmp_path_factory.mktemp("demo") / "gradaudit-demo").parent

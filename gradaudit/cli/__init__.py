"""The command line: arguments become calls, and results become a summary and an exit code.

Progress and problems go to stderr; stdout has the summary alone. Both wings are reached through
``workflows``; torch is imported only by the commands that measure.

Exit codes: 0 criteria met, or none declared; 1 criteria not met; 2 usage, configuration or data
error, or an error of the user's own code; 3 insufficient evidence (``--allow-insufficient`` maps it
to 0); 70 an error of gradaudit itself; 130 interrupted. `compare` ends with 0, and with 1 where
``--fail-on worse`` is given and a disparity is shown to be larger.
"""

from gradaudit.cli import (
    audit_commands,
    compare_commands,
    data_commands,
    model_commands,
    power_commands,
)  # importing a module registers its commands
from gradaudit.cli.entry import main

__all__ = [
    "audit_commands",
    "compare_commands",
    "data_commands",
    "main",
    "model_commands",
    "power_commands",
]

"""``python -m gradaudit``."""

from gradaudit.cli.entry import main

main()

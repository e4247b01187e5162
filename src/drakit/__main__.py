"""`python -m drakit` is the command `dra`."""

from drakit.cli import main

main()

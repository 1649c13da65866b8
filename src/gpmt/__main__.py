"""``python -m gpmt``: the command line, for launchers that start modules."""

from gpmt.cli import main

main()

"""`python -m override_gap`: the command line."""

from override_gap.reports.cli.main import entry

entry()

"""`python -m override_gap`: the command line."""

import os
import sys

# `python -m` puts the current folder first on sys.path, where a file in it would take the place of an installed package. A
# user's own source is found there all the same: probes/environment.py puts the folder last while such code runs.
if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

from override_gap.reports.cli.main import entry

entry()

"""The entries of hashes.txt that an audit needs: the package's own dependencies without extras, and theirs in turn.

python .ci/audit_hashes.py .ci/hashes.txt > .ci/hashes-audit.txt, in an environment that holds them (`make hashes`).
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(package: str) -> set[str]:
    """Canonical names of all packages that a package needs here, torch's included, without itself."""
    seen: set[tuple[str, str]] = set()
    todo = [(package, "")]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in requires(name) or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(needed.name), wanted) for wanted in ("", *needed.extras)]
    return {name for name, _ in seen} - {package}


def entries(hashes: str) -> dict[str, str]:
    """The entries of a file of hashes by canonical name."""
    return {canonicalize_name(text.split("==")[0]): text for text in re.split(r"\n(?=[\w.-]+==)", hashes.strip())}


if __name__ == "__main__":
    needed = closure("override-gap")
    print("\n".join(text for name, text in entries(Path(sys.argv[1]).read_text()).items() if name in needed))

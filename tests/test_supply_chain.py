"""What is installed is what was pinned: hashes and pins name the same versions, and nothing names a place to fetch from."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
HASHES = (ROOT / ".ci" / "hashes.txt").read_text()


def pins(text: str) -> dict[str, str]:
    return {
        name.lower().replace("_", "-"): version for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.M)
    }


def test_hashes_and_constraints_name_the_same_versions() -> None:
    wanted = pins((ROOT / "constraints.txt").read_text())
    assert wanted.pop("torch"), "torch differs by the kind of machine and has no hash"
    wanted.pop("atheris", None)
    held = pins(HASHES)
    held.pop("atheris", None)
    assert held == wanted, "run `make hashes` after a change of constraints.txt"


def test_every_pin_has_the_hash_of_a_file() -> None:
    entries = re.split(r"\n(?=[\w.-]+==)", HASHES.strip())
    assert len(entries) == len(pins(HASHES))
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


def test_no_file_of_pins_names_a_host() -> None:
    for name in ("constraints.txt", ".ci/hashes.txt", ".ci/tools.txt"):
        assert not re.search(r"://|index-url|find-links", (ROOT / name).read_text()), name

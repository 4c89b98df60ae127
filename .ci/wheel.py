"""Build the wheel of the checked-out commit twice and compare: python wheel.py FOLDER. Exit code 1 if the files differ."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build_wheel(source: Path, out: Path) -> Path:
    """The wheel of a fresh clone; its files carry the commit's time, not the clock's."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    time = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=source, check=True, capture_output=True, text=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": time.stdout.strip()}
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return next(out.glob("*.whl"))


def build_twice(folder: Path) -> tuple[list[Path], list[str]]:
    """Two wheels of the same commit, each from a clone of its own, and their sha256."""
    wheels = [build_wheel(folder / f"source-{n}", folder / f"out-{n}") for n in (1, 2)]
    return wheels, [sha256(wheel.read_bytes()).hexdigest() for wheel in wheels]


def main(out: Path) -> int:
    """Build twice, compare, copy the wheel to `out`."""
    with tempfile.TemporaryDirectory() as folder:
        wheels, digests = build_twice(Path(folder))
        if digests[0] != digests[1]:
            print(f"the two wheels differ: {' '.join(digests)}", file=sys.stderr)
            return 1
        out.mkdir(parents=True, exist_ok=True)
        wheel = out / wheels[0].name
        wheel.write_bytes(wheels[0].read_bytes())
        print(f"{wheel}: built twice, sha256 {digests[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

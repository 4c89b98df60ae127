"""The wheel, built twice from two copies of the commit that is checked out: python wheel.py FOLDER. Equal, or exit code 1."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def built(source: Path, out: Path) -> Path:
    """One wheel of a fresh clone; its files carry the commit's time, whatever the clock says."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    stamp = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=source, check=True, capture_output=True, text=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": stamp.stdout.strip()}
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return next(out.glob("*.whl"))


def twice(folder: Path) -> tuple[list[Path], list[str]]:
    """Two wheels and their sha256."""
    wheels = [built(folder / f"source-{n}", folder / f"out-{n}") for n in (1, 2)]
    return wheels, [sha256(wheel.read_bytes()).hexdigest() for wheel in wheels]


def main(out: Path) -> int:
    """Build, compare, keep one."""
    with tempfile.TemporaryDirectory() as folder:
        wheels, digests = twice(Path(folder))
        if digests[0] != digests[1]:
            print(f"the two wheels differ: {' '.join(digests)}", file=sys.stderr)
            return 1
        out.mkdir(parents=True, exist_ok=True)
        kept = out / wheels[0].name
        kept.write_bytes(wheels[0].read_bytes())
        print(f"{kept}: built twice, sha256 {digests[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

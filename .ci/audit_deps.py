"""Known vulnerabilities among the pinned packages, by pip-audit: python audit_deps.py CONSTRAINTS.

Exit code 0: every package was looked up and none has any; 1: some have; 3: packages could not be looked up, and which.
"""

from __future__ import annotations

import json
import subprocess
import sys


def main(constraints: str) -> int:
    """Look every pin up, as it stands: nothing is installed and nothing is resolved."""
    words = [
        "--requirement",
        constraints,
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    done = subprocess.run([sys.executable, "-m", "pip_audit", *words], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"could not check: the database of vulnerabilities did not answer ({reason})", file=sys.stderr)
        return 3
    found = [
        (own["name"], own["version"], flaw["id"], flaw["fix_versions"])
        for own in packages
        for flaw in own.get("vulns", [])
    ]
    skipped = [own["name"] for own in packages if "skip_reason" in own]
    for name, version, flaw, fixed in found:
        print(f"{name} {version}: {flaw}, mended in {', '.join(fixed) or 'no version yet'}")
    print(f"{len(packages) - len(skipped)} of {len(packages)} packages looked up, {len(found)} known vulnerabilities")
    if skipped:
        print(
            f"could not check {len(skipped)} packages, {skipped[0]} first: the database knows nothing of them",
            file=sys.stderr,
        )
    return 1 if found else 3 if skipped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""Known vulnerabilities of the pinned packages, by pip-audit: python audit_deps.py CONSTRAINTS.

Exit code 0: every package was looked up and none has any; 1: some have; 3: packages could not be looked up, and which.
"""

from __future__ import annotations

import json
import subprocess
import sys

FLAGS = "--no-deps --disable-pip --format json --progress-spinner off".split()


def main(constraints: str) -> int:
    """Look up every pin as it stands: nothing is installed and nothing is resolved."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", constraints, *FLAGS]
    audit = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(audit.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (audit.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"could not check: the database of vulnerabilities did not answer ({reason})", file=sys.stderr)
        return 3
    count = 0
    for package in packages:
        for vulnerability in package.get("vulns", []):
            count += 1
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    print(f"{len(packages) - len(skipped)} of {len(packages)} packages looked up, {count} known vulnerabilities")
    if skipped:
        print(
            f"could not check {len(skipped)} packages that the database does not list: {', '.join(skipped)}",
            file=sys.stderr,
        )
    return 1 if count else 3 if skipped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""Where the time of an audit went, as RUN/profile.json and as lines for the terminal."""

from __future__ import annotations

from pathlib import Path

from probes.profile import PARTS, Profile
from probes.remote import store_at


def write_profile(profile: Profile, run: Path | str) -> str:
    """Write RUN/profile.json: `seconds` by part, which sum to `total`; returns the table to print."""
    total = sum(profile.seconds.values())
    store_at(run).write_json("profile.json", {"total": total, "seconds": profile.seconds, "meaning": PARTS})
    rows = [
        f"  {part:<11}{seconds:8.1f} s {100 * seconds / total:4.0f}%  {PARTS[part]}"
        for part, seconds in profile.seconds.items()
    ]
    return "\n".join([f"{total:.1f} s by the clock, of which", *rows])

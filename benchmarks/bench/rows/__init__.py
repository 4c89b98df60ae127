"""One file per section of docs/performance.md; each has `TITLE`, `LIMITS` (what limits it), `SUBJECTS` and `run`."""

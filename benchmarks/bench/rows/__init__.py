"""Rows: one file a row of docs/performance.md; each has `GOAL_OF`, what limits it, and `run`."""

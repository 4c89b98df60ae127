"""Run folders: their tables, checksums, lock and repair."""

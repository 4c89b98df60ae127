"""Memory: how many rows a batch may have so that it fits beside the model in the memory that is free."""

from __future__ import annotations

from pathlib import Path

import torch

from probes.subject import Subject

#: The share of the free memory that a batch may take: estimates are not exact, and other programs want some too.
SHARE = 0.5
#: More rows than this gain nothing: arithmetic is what limits a batch long before.
MOST = 128


def rows_that_fit(subject: Subject, positions: int, free: int | None = None) -> int:
    """Rows of so many positions that fit, between 1 and MOST. `free`: bytes, asked of the device by default."""
    free = free_bytes(subject.device) if free is None else free
    return max(1, min(MOST, int(SHARE * free // row_bytes(subject, positions))))


def row_bytes(subject: Subject, positions: int) -> int:
    """What one row takes at most, in bytes.

    At each position, in the model's dtype: the stream after every layer, kept for the base's and the delivered pass, and
    the widest layer's inner state three times over (gate, value and product). At the one position read, in float32: the
    logits of the base, the delivered pass, the pass under way, and a copy.
    """
    config = subject.model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * subject.d_model
    size = torch.finfo(subject.dtype).bits // 8
    each = size * (2 * subject.n_layers * subject.d_model + 3 * inner + 8 * subject.d_model)
    return positions * each + 4 * 4 * subject.unembedding.shape[0]


def free_bytes(device: torch.device) -> int:
    """Free memory where the model is: of the GPU, or of the machine, as Linux tells it; 4 GiB where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    told = Path("/proc/meminfo")
    for line in told.read_text().splitlines() if told.is_file() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 4 * 2**30

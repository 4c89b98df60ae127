"""Budget: what a change of gain may cost on unrelated questions, and by which measure success is judged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

MEASURES = ("top1", "answer")
KEEP = 0.95
"""The share of unrelated answers that is to stay unless the user states a budget."""


@dataclass(frozen=True)
class Budget:
    """Bounds of the price: `keep`, the least share of the base's unrelated answers that stay; `kl`, the largest mean KL there.

    `kl` is KL(base || adapted) in nats per token. None: no bound. `measure` judges overrides and answers kept: `top1` (the
    first token) or `answer` (in words). Raises ValueError for a bound outside its range.
    """

    keep: float | None = KEEP
    kl: float | None = None
    measure: str = "top1"

    def __post_init__(self) -> None:
        for name, bound in (("keep", self.keep), ("kl", self.kl)):
            if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float)):
                raise ValueError(f"{name} is a number, got {bound!r}")
        if self.keep is None and self.kl is None:
            raise ValueError("a budget needs a bound: keep (as 0.95 of unrelated answers), kl (as 0.05 nats), or both")
        if self.keep is not None and not 0 < self.keep < 1:
            near = f"; did you mean {self.keep / 100:g}?" if 1 < self.keep < 100 else ""
            raise ValueError(f"keep is a share of unrelated answers above 0 and below 1, got {self.keep:g}{near}")
        if self.kl is not None and not (math.isfinite(self.kl) and self.kl > 0):
            raise ValueError(f"kl is a number of nats per token above 0, got {self.kl:g}")
        if self.measure not in MEASURES:
            raise ValueError(f"measure is {' or '.join(MEASURES)}, got {self.measure!r}")

    def __str__(self) -> str:
        bounds = [] if self.keep is None else [f"at least {self.keep:.4g} of unrelated answers kept"]
        bounds += [] if self.kl is None else [f"KL up to {self.kl:g} nats per token there"]
        return ", ".join(bounds)

    def as_json(self) -> dict[str, Any]:
        """The budget as summary.json and gains.json hold it."""
        return {"keep": self.keep, "kl": self.kl, "measure": self.measure}

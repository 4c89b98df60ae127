"""Audits with a known truth: override, retention and KL as curves of the gain, in closed form, with clustered items.

An item is overridden from its own gain on (log normal, part of which its knowledge point shares), and an unrelated answer is
lost from its own gain on; KL is its own factor (log normal) times the squared gain. So that
P(overridden at s) = Phi((log s - flip) / sqrt(point^2 + item^2)), P(lost at s) likewise, and E KL = kl s^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from override_gap.analyses.readings import RunFrame

GAINS = (0.0, 0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)


def name_of(gain: float) -> str:
    return {0.0: "base", 1.0: "as-delivered"}.get(gain, f"uniform-{gain:g}")


@dataclass(frozen=True)
class Curves:
    """Medians of the gains at which items flip and answers are lost (logs), spread by point and item, mean KL at gain 1."""

    flip: float = 0.0
    lose: float = 1.2
    point: float = 0.4
    item: float = 0.2
    kl: float = 0.03
    reached: float = 1.0
    """The share of knowledge points that any gain overrides."""

    @property
    def spread(self) -> float:
        return float(np.hypot(self.point, self.item))

    def override(self, gain: float) -> float:
        return 0.0 if gain == 0 else self.reached * float(norm.cdf((np.log(gain) - self.flip) / self.spread))

    def kept(self, gain: float) -> float:
        return 1.0 if gain == 0 else 1 - float(norm.cdf((np.log(gain) - self.lose) / self.spread))

    def mean_kl(self, gain: float) -> float:
        return self.kl * gain**2

    def draw(self, rng, points: int = 60, conflicts: int = 3, unrelated: int = 2, gains=GAINS) -> RunFrame:
        """One audit of so many knowledge points, with conflicts and unrelated questions of each."""
        parts = []
        for split, each, centre in (("conflict", conflicts, self.flip), ("retention", unrelated, self.lose)):
            point = np.repeat(np.arange(points), each)
            own = centre + rng.normal(0, self.point, points)[point] + rng.normal(0, self.item, len(point))
            if split == "conflict":
                own[rng.random(points)[point] >= self.reached] = np.inf
            factor = self.kl * np.exp(rng.normal(0, 0.7, len(point)) - 0.7**2 / 2)
            for gain in gains:
                passed = np.log(gain) >= own if gain > 0 else np.zeros(len(own), bool)
                parts.append(
                    pd.DataFrame(
                        {
                            "item": [f"{split}-{n}" for n in range(len(point))],
                            "point": [f"p{p}" for p in point],
                            "split": split,
                            "condition": name_of(gain),
                            "known": True,
                            "success_top1": passed if split == "conflict" else ~passed,
                            "success_margin": passed,
                            "gain_mean": gain,
                            "kl": factor * gain**2,
                        }
                    )
                )
        rows = pd.concat(parts, ignore_index=True).assign(status="ok", error=None)
        for name in ("prior_logprob", "prior_margin", "push", "pull", "adapter_margin", "net_margin"):
            rows[name] = 0.0
        manifest = {"conditions": [name_of(gain) for gain in gains]}
        return RunFrame(manifest, rows)

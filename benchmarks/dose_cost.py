"""What one item of the probe prior-dose costs, counted in forward passes of one row; a backward pass counts as two more.

    python -m benchmarks.dose_cost [SUBJECT] [ADAPTERS] [ITEMS] [N]

The defaults are the organism, its hypernetwork and its items, and 12 conflicts that the base knows. A pass that resumes from the
base's lower layers counts as a whole one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from override_gap.analyses.readings import load
from override_gap.margins.items.item import Item
from override_gap.probes.items import open_items
from override_gap.probes.plan import Plan
from override_gap.probes.run.dose_sample import draw_sample
from override_gap.probes.run.loop import run
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject


def main(subject: str = "organism", adapters: str = "hypernetwork", items: str = "organism", count: str = "12") -> None:
    """Audit the sampled conflicts with and without the probe, and print the difference per item."""
    model = open_subject(subject)
    source = open_source(adapters, model)
    everything = open_items(items)
    chosen = draw_sample(model, source, everything, int(count), 0).chosen
    kept = [item for item in everything if item.id in chosen or item.split == "retention"]
    with_probe, table = counted(model, source, kept, int(count), ("margins", "prior-dose"))
    without, _ = counted(model, source, kept, int(count), ("margins",))
    n = table["item"].nunique()
    forward, backward = (with_probe[name] - without[name] for name in ("forward", "backward"))
    arms = ", ".join(sorted(table["arm"].unique()))
    print(
        f"{subject}, {n} items, arms {arms}: {(forward + 2 * backward) / n:.0f} passes per item "
        f"({forward / n:.0f} forward, {backward / n:.0f} of them with gradients)"
    )


def counted(
    model: Any, source: Any, items: list[Item], count: int, probes: tuple[str, ...]
) -> tuple[dict[str, int], Any]:
    """The rows that a run feeds to the model, and its table of doses."""
    rows = {"forward": 0, "backward": 0}

    def count_rows(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = args[0] if args else named["input_ids"]
        rows["forward"] += len(ids)
        rows["backward"] += len(ids) if torch.is_grad_enabled() else 0

    plan = Plan(policies="as-delivered,null-other", probes=probes, dose_items=count)
    with tempfile.TemporaryDirectory() as out:
        handle = model.decoder.register_forward_pre_hook(count_rows, with_kwargs=True)
        run(plan, model, source, items, Path(out) / "run")
        handle.remove()
        return rows, load(Path(out) / "run").table("prior_dose")


if __name__ == "__main__":
    main(*sys.argv[1:])

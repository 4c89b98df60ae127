"""Are components of margins those of TransformerLens: attention, MLP and heads of the organism and of SmolLM2?

Each item's margin is split here, by hooks with its adapter attached, and by TransformerLens: by its cache of a model of its own,
with the adapter merged into the weights and the final norm folded (`decompose_resid`, `stack_head_results`, `logit_attrs`).
Printed: the largest difference over items and components.

    python benchmarks/components.py [--items 24]

With `--families`: of the tiny random models of `benchmarks/families`, which are split, and into how many heads.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.families.check import QUESTIONS, random_adapters, word_tokenizer
from benchmarks.families.configs import FAMILIES, build
from override_gap.analyses.calibration import markdown
from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.items.item import Document, Item
from override_gap.probes.attach.stack import stack
from override_gap.probes.environment import quietly
from override_gap.probes.errors import SubjectError
from override_gap.probes.items import open_items
from override_gap.probes.readings.components import Components, read_components
from override_gap.probes.readings.prior import Prior, locate, read_prior
from override_gap.probes.sources import open_source
from override_gap.probes.sources.custom import encode_updates
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject, wrap
from override_gap.probes.subject.stream_writers import stream_writers

ITEMS = {"organism": "organism", "smollm2": "benchmark"}


def folded(subject: Subject, adapter: Adapter | None) -> Any:
    """A bridge over a copy of the model with the adapter in its weights; the final norm is folded into the unembedding."""
    from transformer_lens.model_bridge import TransformerBridge

    model = copy.deepcopy(subject.model)
    for path, update in adapter.parts() if adapter is not None else ():
        weight = model.get_submodule(path).weight
        weight.data += update.dense().to(weight)
    bridge = TransformerBridge.boot_transformers(
        subject.name, hf_model=model, tokenizer=subject.tokenizer, device="cpu"
    )
    bridge.enable_compatibility_mode(
        disable_warnings=True, center_writing_weights=False, center_unembed=False, fold_value_biases=False
    )
    return bridge


def theirs(bridge: Any, prior: Prior, row: int) -> dict[str, float]:
    """TransformerLens's shares of one item's margin, by its own labels."""
    length = int(prior.batch.at[row]) + 1
    with torch.no_grad():
        _, cache = bridge.run_with_cache(prior.batch.ids[row : row + 1, :length])
    shares: dict[str, float] = {}
    parts = cache.decompose_resid(return_labels=True, pos_slice=-1)
    for stacked, labels in (parts, cache.stack_head_results(return_labels=True, pos_slice=-1)):
        values = cache.logit_attrs(stacked, prior.pre[row : row + 1], prior.doc[row : row + 1], pos_slice=-1)
        shares |= dict(zip(labels, values[:, 0].tolist(), strict=True))
    return shares


def gaps(ours: Components, shares: torch.Tensor, row: int, other: dict[str, float]) -> dict[str, float]:
    """Largest difference by kind of component."""
    found: dict[str, float] = {}
    for column, part in enumerate(ours.names):
        label = f"L{part.layer}H{part.head}"
        if part.name in ("attention", "mlp"):
            label = f"{part.layer}_{'attn' if part.name == 'attention' else 'mlp'}_out"
        if label in other:
            gap = abs(shares[row, column].item() - other[label])
            found[part.name] = max(found.get(part.name, 0.0), gap)
    return found


def rows(name: str, count: int) -> list[dict[str, Any]]:
    """One row per kind of component, base and adapted."""
    subject = open_subject(name, device="cpu")
    conflicts = [item for item in open_items(ITEMS[name]) if item.split == "conflict"]
    items = conflicts[:: max(1, len(conflicts) // count)][:count]
    documents = [Document(item.document) for item in items]
    adapters = encode_updates(open_source("hypernetwork", subject), documents)
    prior = read_prior(subject, items, [locate(subject, item) for item in items], layers=True)
    ones = torch.ones(len(items), subject.n_layers)
    ours = read_components(subject, prior, stack(subject, adapters), ones, stream_writers(subject))
    largest: dict[tuple[str, str], float] = {}
    base = folded(subject, None)
    for row, adapter in enumerate(adapters):
        for condition, shares, bridge in (
            ("base", ours.base, base),
            ("as-delivered", ours.adapted, folded(subject, adapter)),
        ):
            for kind, gap in gaps(ours, shares, row, theirs(bridge, prior, row)).items():
                largest[condition, kind] = max(largest.get((condition, kind), 0.0), gap)
        print(f"{name}: item {row + 1} of {len(items)}", file=sys.stderr)
    return [
        {
            "subject": name,
            "condition": c,
            "component": kind,
            "items": len(items),
            "largest difference, nats": f"{gap:.1e}",
        }
        for (c, kind), gap in largest.items()
    ]


def family_row(model_type: str) -> dict[str, Any]:
    """Whether a family's margins are split, the base's and under random adapters of the maps that write into the stream."""
    try:
        with quietly():
            subject = wrap(build(model_type), word_tokenizer(), model_type)
        writers = stream_writers(subject)
    except SubjectError as refusal:
        return {"model type": model_type, "split": "no", "heads": "", "why not": str(refusal)[:150]}
    answers = ("w40", "w41")
    items = [
        Item(f"i{n}", "p", "conflict", "w3 w4", " ".join(f"w{token}" for token in question), *answers)
        for n, question in enumerate(QUESTIONS)
    ]
    prior = read_prior(subject, items, [locate(subject, item) for item in items], layers=True)
    outputs = {w.heads.path for layer in writers for w in layer if w.heads is not None}
    sites = {site.module: path for path, site in subject.sites.items()}
    outputs |= {sites[w.module] for layer in writers for w in layer if w.module in sites}
    inside = [path for path in subject.sites if layer_of(path) is not None]
    adapters = stack(subject, random_adapters(subject, sorted(outputs) or inside))
    ours = read_components(subject, prior, adapters, torch.ones(len(items), subject.n_layers), writers)
    heads = sorted({sum(p.name == "head" and p.layer == n for p in ours.names) for n in range(subject.n_layers)})
    closed = bool(ours.closed.all()) and bool(ours.heads_closed.all())
    why = "" if closed else "the sum misses the margin"
    return {
        "model type": model_type,
        "split": "yes" if closed else "no",
        "heads": "/".join(map(str, heads)),
        "why not": why,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 where a difference is above 1e-3 nats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=24, help="conflicts per subject")
    parser.add_argument("--subjects", nargs="*", choices=ITEMS, default=list(ITEMS))
    parser.add_argument("--families", action="store_true", help="which families are split, instead")
    args = parser.parse_args(argv)
    if args.families:
        table = [family_row(model_type) for model_type in sorted(FAMILIES)]
        split = [row for row in table if row["split"] == "yes"]
        print(f"{len(split)} of {len(table)} families are split; the others:\n")
        print(markdown(pd.DataFrame([row for row in table if row["split"] == "no"])))
        print("\nHeads by layer:", "; ".join(f"{row['model type']} {row['heads']}" for row in split))
        return 0
    table = [row for name in args.subjects for row in rows(name, args.items)]
    print(markdown(pd.DataFrame(table)))
    return int(any(float(row["largest difference, nats"]) > 1e-3 for row in table))


if __name__ == "__main__":
    raise SystemExit(main())

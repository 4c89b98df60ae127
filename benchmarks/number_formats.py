"""Readings in bfloat16 and float16 against float32 of the same weights: margins, answers, verdict.

Every run is an audit of the same conflicts under the same adapters, made from the float32 base whatever the format of the
audited model; compared are the rows that both formats measured, item by item and condition by condition. A weight or an
activation of fewer digits is what differs, nothing else.

    python benchmarks/number_formats.py --out runs/formats > docs/number-formats.md

If interrupted, give the same command again to resume. 194 conflicts on SmolLM2 took 25 minutes on one core for all three.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from override_gap.analyses.readings import RunFrame, Table, load
from override_gap.analyses.verdict import verdict
from override_gap.probes.items import open_items
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject
from override_gap.reports.cli._progress import ProgressBar

FORMATS = ("float32", "bfloat16", "float16")
POLICIES = "as-delivered,uniform,slb"
#: Conditions compared; the verdict needs all uniform gains.
COMPARED = ("base", "as-delivered", "uniform-1.5", "uniform-2", "uniform-3", "slb")
MARGINS = ("prior_margin", "adapter_margin", "net_margin", "prior_logprob")

HEAD = """# Number formats

Models are often run with numbers of 16 bits instead of 32 to save memory and time. Do the tool's results change when that is
done? This page compares the two on the same model and questions: how far the measured values move, how many single answers
change, and whether the verdict, the one word in which a report sums up why a method fails, stays the same.

Readings in bfloat16 and float16 against float32 of the same weights; `python benchmarks/number_formats.py` writes this page.
{subject} with the adapters of `{adapters}`, {count} conflicts of `{items}`; the adapters are the same in all formats. The
model runs in the format named; margins are float32 products of its final state in every format. A difference is that of one
item under one condition.

What a format can do: it holds a number to a relative error u of 2^-8 (bfloat16), 2^-11 (float16) or 2^-24 (float32), and
float16 nothing above 65504. Every layer rounds, so the final state is off by more than that. `--dtype auto` is bfloat16 on
CUDA and float32 elsewhere.
"""

CHECKS = """
## What is checked, and how closely

In float32 the checks' tolerances are 1e-3 nats. In bfloat16 and float16 they follow from what the format rounds:

- **Parity**, our logits against the model's own on a text and on special tokens, before a run and after each unit: a logit z
  may be off by u (|z| + the largest of its position), with 2 |z| where the model scales its logits and 3 |z| more where it
  caps them; and for half of all logits by half of that at most, since rounding is rarely at its bound and a cap or a scale
  that was missed always is. On SmolLM2 the largest is 0.5 of the bound.
- **Attribution**, the sum over layers against the margin: 8 u sqrt(sum of (h_i w_i)^2), h the final state and w the margin's
  direction, and at most 0.5 nats (float16: 0.1). On SmolLM2 the largest is 0.2 of that. A row that misses is an error row.
- **Handshake**: an adapter alone and in a batch, and beside the weights and merged into them (the method's own model), within
  8 u times the largest logit; merged also within 25% of what the adapter moves. On SmolLM2: 0.6 of the bound and 7%. An
  adapter that moves no logit by 4 u times the largest is refused: what it does cannot be told from rounding.

The model keeps the attention implementation that it was opened with: on SmolLM2 in bfloat16, `sdpa` and `eager` differ by up to
3.0 nats on special tokens and 0.6 on English text, in float32 by 1e-4. Logits that are not finite (float16 overflows in models
with large activations, Gemma-3 among them) are refused by that name before the run; where only an adapter at some gain
overflows, that row is an error row.
"""


def audits(subject: str, adapters: str, items: str, limit: int | None, answers: int, out: Path) -> dict[str, RunFrame]:
    """The same audit in every format, each in a folder of its own under `out`."""
    conflicts = [item for item in open_items(items) if item.split == "conflict"][:limit]
    frames = {}
    for dtype in FORMATS:
        print(f"{dtype}: {len(conflicts)} conflicts", file=sys.stderr)
        plan = Plan(
            subject=subject,
            adapters=adapters,
            policies=POLICIES,
            probes=("margins", "layers", "answers"),
            dtype=dtype,
            device="cpu",
            answers=answers,
        )
        model = open_subject(subject, device="cpu", dtype=dtype)
        with ProgressBar(quiet=False) as bar:
            frames[dtype] = load(run(plan, model, open_source(adapters, model), conflicts, out / dtype, bar))
    return frames


def paired(exact: RunFrame, rounded: RunFrame) -> Table:
    """Rows that both formats measured, with the columns of float32 as they are and of the other format under `_rounded`."""
    tables = [f.readings[f.readings["status"] == "ok"].set_index(["item", "condition"]) for f in (exact, rounded)]
    return tables[0].join(tables[1], how="inner", rsuffix="_rounded").reset_index()


def margin_rows(pairs: dict[str, Table]) -> list[str]:
    """Median and largest difference of every margin, nats, by format and condition."""
    lines = ["| format | condition | rows | " + " | ".join(f"{m}: median, largest" for m in MARGINS) + " |"]
    lines.append("|---|---|---|" + "---|" * len(MARGINS))
    for dtype, rows in pairs.items():
        for condition in COMPARED:
            chosen = rows[rows["condition"] == condition]
            cells = [_differences(chosen[margin], chosen[f"{margin}_rounded"]) for margin in MARGINS]
            lines.append(f"| {dtype} | {condition} | {len(chosen)} | {' | '.join(cells)} |")
    return lines


def _differences(exact: Table, rounded: Table) -> str:
    gap = np.abs(exact.to_numpy(float) - rounded.to_numpy(float))
    return f"{np.median(gap):.3f}, {gap.max():.2f}"


def outcome_rows(pairs: dict[str, Table]) -> list[str]:
    """How many outcomes differ from float32's, of how many, by format and condition."""
    outcomes = ("known", "success_margin", "success_top1", "success_answer")
    lines = [
        "| format | condition | " + " | ".join(outcomes) + " | same text |",
        "|---|---|" + "---|" * (len(outcomes) + 1),
    ]
    for dtype, rows in pairs.items():
        for condition in COMPARED:
            chosen = rows[rows["condition"] == condition]
            cells = [_changed(chosen, name) for name in outcomes]
            texts = chosen[chosen["answer_text"].notna()]
            same = int((texts["answer_text"] == texts["answer_text_rounded"]).sum())
            lines.append(f"| {dtype} | {condition} | {' | '.join(cells)} | {same} of {len(texts)} |")
    return lines


def _changed(rows: Table, name: str) -> str:
    filled = rows[rows[name].notna() & rows[f"{name}_rounded"].notna()]
    return f"{int((filled[name].astype(bool) != filled[f'{name}_rounded'].astype(bool)).sum())} of {len(filled)}"


def verdict_rows(frames: dict[str, RunFrame]) -> list[str]:
    """The verdict of each format, and what the run's own checks gave."""
    lines = [
        "| format | verdict | failing as delivered | fixed by scaling up | parity, nats | attribution, nats | error rows |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for dtype, frame in frames.items():
        reached, parity = verdict(frame), frame.manifest["parity"]
        shares = [
            str(round(e.value, 3)) if e is not None and e.value is not None else "-"
            for e in (reached.failing, reached.rescued)
        ]
        errors = int((frame.readings["status"] != "ok").sum())
        gaps = f"{parity['logits_max_abs']:.2g} | {parity['attribution_max_abs']:.2g}"
        lines.append(f"| {dtype} | {reached.label} | {' | '.join(shares)} | {gaps} | {errors} |")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Audit in every format and print the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--subject", default="smollm2")
    parser.add_argument("--adapters", default="hypernetwork")
    parser.add_argument("--items", default="benchmark")
    parser.add_argument("--limit", type=int, help="the first so many conflicts")
    parser.add_argument("--answers", type=int, default=48, help="items answered in words")
    parser.add_argument("--out", type=Path, default=Path("runs/formats"), help="folder for the run folders")
    args = parser.parse_args(argv)
    frames = audits(args.subject, args.adapters, args.items, args.limit, args.answers, args.out)
    pairs = {dtype: paired(frames["float32"], frame) for dtype, frame in frames.items() if dtype != "float32"}
    count = frames["float32"].readings["item"].nunique()
    print(HEAD.format(subject=args.subject, adapters=args.adapters, items=args.items, count=count))
    print("\n".join(["## The verdict", "", *verdict_rows(frames), ""]))
    print("\n".join(["## Margins", "", "Nats, |difference from float32|.", "", *margin_rows(pairs), ""]))
    print("\n".join(["## Outcomes", "", "Outcomes that differ from float32's.", "", *outcome_rows(pairs)]))
    print(CHECKS, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

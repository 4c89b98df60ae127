"""`override-gap adapters describe`: a method's adapters against each other and against the weights that they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from override_gap.reports.cli._args import add_code_flags, add_map_flags, add_model_flags
from override_gap.reports.cli._say import say, say_json
from override_gap.reports.cli.main import DONE, parser

EPILOG = """examples:
  override-gap adapters describe --adapters hypernetwork
  override-gap adapters describe --subject smollm2 --adapters compact:mine.safetensors --items conflicts.jsonl --json
  override-gap adapters describe --adapters fitted --documents 16 --spectra 0

No question is asked. This says what the adapters are, never what they do (`override-gap audit`).
"""
ABOUT = "compare a method's adapters with each other, and their updates with the base's weights"


def main(argv: Sequence[str]) -> int:
    """Print how much of the adapters is each document's own, by layer, and what their updates are beside the base's weights."""
    words = parser("adapters", EPILOG)
    words.prog, words.description = f"{words.prog} describe", ABOUT
    add_model_flags(words)
    words.add_argument("--adapters", metavar="A", help="see `override-gap list adapters` (default: as for audit)")
    add_map_flags(words)
    words.add_argument("--items", metavar="I", help="the items whose documents are encoded (default: as for audit)")
    words.add_argument(
        "--documents", type=int, default=64, metavar="N", help="a sample of so many documents (default 64)"
    )
    spectra = "adapters whose updates are set beside the base's weights, by singular values (default 2; 0: none)"
    words.add_argument("--spectra", type=int, default=2, metavar="N", help=spectra)
    words.add_argument("--seed", type=int, default=0, metavar="N", help="which documents are drawn (default 0)")
    add_code_flags(words)
    words.add_argument("--json", action="store_true", help="print every number as JSON")
    args = words.parse_args(argv)
    if args.documents < 2 or args.spectra < 0:
        words.error("--documents needs 2 or more, --spectra 0 or more")
    from override_gap.analyses.adapter_geometry import AdapterGeometry
    from override_gap.margins.geometry import gram
    from override_gap.probes.items import open_items
    from override_gap.probes.plan import plan_from
    from override_gap.probes.readings.spectra import read_spectra
    from override_gap.probes.run.adapter_sample import encoded_sample
    from override_gap.probes.run.audit import open_plan
    from override_gap.probes.run.exported import exported_into, scratch_folder

    names = ("subject", "adapters", "adapter_map", "shared_adapter", "items", "device", "dtype", "seed")
    plan = plan_from({name: value for name in names if (value := getattr(args, name)) is not None})
    items = open_items(plan.items)
    with scratch_folder() as scratch:
        file = exported_into(plan, items, args.python, scratch)
        subject, source = open_plan(plan, args.trust_remote_code, file=file)
        sample = encoded_sample(subject, source, items, args.documents, plan.seed)
        geometry = AdapterGeometry.of(gram(sample.adapters), sample.relations, plan.seed)
        spectra = [s for adapter in sample.adapters[: args.spectra] for s in read_spectra(subject, adapter)]
    by_layer = _by_layer(spectra)
    report = {
        "subject": plan.subject,
        "adapters": plan.adapters,
        **geometry.as_json(),
        "spectra": {"adapters": min(args.spectra, len(sample.adapters)), "layers": by_layer},
    }
    if args.json:
        say_json(report)
        return DONE
    say(f"{plan.subject}, {plan.adapters}: {geometry}", "")
    say(*_table(geometry.layers, {row["layer"]: row for row in by_layer}))
    return DONE


def _by_layer(spectra: Sequence[Any]) -> list[dict[str, Any]]:
    """Per layer the mean over its maps and adapters, and how many intruders there are among the vectors looked at."""
    rows = []
    for layer in sorted({spectrum.layer for spectrum in spectra}):
        own = [spectrum for spectrum in spectra if spectrum.layer == layer]
        means = {name: sum(getattr(s, name) for s in own) / len(own) for name in ("stable_rank", "inside", "by_chance")}
        counts = {name: sum(getattr(s, name) for s in own) for name in ("intruders", "looked_at")}
        rows.append({"layer": layer, **means, **counts})
    return rows


def _table(layers: Sequence[Mapping[str, Any]], spectra: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """A line per layer, in 80 columns."""
    head = f"{'layer':>5} {'norm':>8} {'own':>5} {'same':>5} {'other':>5} {'rank':>5}"
    lines = [f"{head} {'stable':>7} {'in span':>12} {'intruders':>10}" if spectra else head]
    for row in layers:
        numbers = [_cell(row[name]) for name in ("own_share", "same_relation", "other_relation")]
        line = f"{row['layer']:>5} {row['norm']:>8.3g} {' '.join(numbers)} {row['effective_rank']:>5.1f}"
        if (own := spectra.get(row["layer"])) is not None:
            span = f"{own['inside']:.2f} ({own['by_chance']:.2f})"
            line += f" {own['stable_rank']:>7.2f} {span:>12} {own['intruders']:>4} of {own['looked_at']:<3}"
        lines.append(line)
    lines += [
        "",
        "norm: root mean square over documents, weight units; own: own share of the squared",
        "norm; same, other: mean cosine between documents of one relation, of different",
        "ones; rank: effective rank over documents",
    ]
    if spectra:
        lines += [
            "stable: stable rank of an update; in span: share of it in the span of the weight's",
            "leading left singular vectors (by chance); intruders: leading singular vectors of",
            "the changed weight that are unlike every one of the weight's own",
        ]
    return lines


def _cell(value: float | None) -> str:
    return f"{'-':>5}" if value is None else f"{value:>5.2f}"

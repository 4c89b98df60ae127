"""`override-gap adapters`: write a method's adapters to files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from override_gap.reports.cli._args import add_trust_flags, writable
from override_gap.reports.cli.main import DONE, parser

EXAMPLES = """examples:
  override-gap adapters export --adapters hypernetwork --form peft --out adapters/organism
  override-gap adapters export --subject smollm2 --adapters rank-one --items counterfact.json --limit 50 \\
      --form compact --out rank-one.safetensors
  override-gap audit --subject smollm2 --adapters compact:rank-one.safetensors --items counterfact.json --limit 50

peft: a folder of PEFT folders named by document key; the scale is folded into B and lora_alpha equals the rank, so that PEFT
gives the same model. compact: one safetensors file with document ids, hashes, scales and the base's fingerprint.
"""


def main(argv: Sequence[str]) -> int:
    """Encode the items' documents and write their adapters; prints how many, and the --adapters words that read them."""
    options = parser("adapters", EXAMPLES)
    options.add_argument("action", choices=("export",), metavar="ACTION", help="export")
    options.add_argument("--subject", metavar="S", default="organism", help="as for audit")
    options.add_argument("--adapters", metavar="A", help="see `override-gap list adapters` (default: as for audit)")
    options.add_argument("--items", metavar="I", help="the items whose documents are encoded (default: as for audit)")
    options.add_argument("--limit", type=int, metavar="N", help="only the documents of the first N items")
    options.add_argument("--form", choices=("peft", "compact"), default="compact", help="default: compact")
    options.add_argument("--out", type=Path, metavar="PATH", required=True, help="a new file, or for peft a new folder")
    options.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N, mps or map, as for audit")
    options.add_argument("--dtype", default="auto", help="auto (default), float32, bfloat16 or float16")
    add_trust_flags(options)
    options.add_argument("--quiet", action="store_true", help="no progress")
    args = options.parse_args(argv)
    writable(args.out, folder=args.form == "peft")
    from override_gap.margins.items.item import documents_of
    from override_gap.margins.text import plural
    from override_gap.probes.items import open_items
    from override_gap.probes.plan import plan_from
    from override_gap.probes.sources import open_source
    from override_gap.probes.sources.export import export
    from override_gap.probes.subject.load import open_subject

    names = ("subject", "adapters", "items", "limit")
    plan = plan_from({name: value for name in names if (value := getattr(args, name)) is not None})
    items = open_items(plan.items)[: plan.limit]
    documents = [document for document in documents_of(items) if document.text.strip()]
    if not args.quiet:
        print(
            f"subject {plan.subject}, adapters {plan.adapters}, {plural(len(documents), 'document')}", file=sys.stderr
        )
    subject = open_subject(plan.subject, device=args.device, dtype=args.dtype, trust=args.trust_remote_code)
    source = open_source(plan.adapters, subject, allow_pickle=args.allow_pickle)
    count = export(subject, source, documents, args.form, args.out)
    print(f"{plural(count, 'adapter')}: --adapters {'compact:' if args.form == 'compact' else ''}{args.out}")
    return DONE

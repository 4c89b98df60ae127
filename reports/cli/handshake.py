"""`override-gap handshake`: check a source's adapters on a few documents before an audit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from override_gap.reports.cli.main import DONE, WRONG, parser

EPILOG = """examples:
  override-gap handshake --adapters hypernetwork
  override-gap handshake --subject smollm2 --adapters my_method:source --items conflicts.jsonl
  override-gap handshake --subject ./my-model --adapters doc-to-lora:factors.safetensors --json

Exit code 0: no check failed; 2: one did, or the adapters could not be read.
"""


def main(argv: Sequence[str]) -> int:
    """Print every check with its numbers; exit code 2 if one failed."""
    made = parser("handshake", EPILOG)
    made.add_argument("--subject", metavar="S", default="organism", help="as for audit")
    made.add_argument("--adapters", metavar="A", required=True, help="see `override-gap list adapters`")
    made.add_argument("--items", metavar="I", help="whose documents are encoded (default: those of audit)")
    made.add_argument(
        "--allow-pickle", action="store_true", help="open a Doc-to-LoRA checkpoint, with a stated list of classes"
    )
    made.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python that a model's own folder brings; read it first",
    )
    made.add_argument("--json", action="store_true", help="print the checks as JSON")
    args = made.parse_args(argv)
    from override_gap.probes.items import open_items
    from override_gap.probes.plan import plan_from
    from override_gap.probes.run.handshake import MEANING, check_adapters
    from override_gap.probes.sources import open_source
    from override_gap.probes.subject.load import open_subject

    given = {"subject": args.subject, "adapters": args.adapters, **({"items": args.items} if args.items else {})}
    items = open_items(plan_from(given).items)
    subject = open_subject(args.subject, trust=args.trust_remote_code)
    found = check_adapters(subject, open_source(args.adapters, subject, allow_pickle=args.allow_pickle), items)
    if args.json:
        print(json.dumps({"checks": [asdict(check) for check in found.checks], "norms": found.norms}))
        return WRONG if found.failed else DONE
    words = {True: "passed", False: "FAILED", None: "not checked"}
    for check in found.checks:
        print(f"{check.name:<10} {words[check.passed]:<12} {MEANING[check.name]}: {check.says}")
    for document, shared in found.norms:
        print(f"norm: document part {document:.4g}, shared part {shared:.4g}")
    return WRONG if found.failed else DONE

"""`override-gap handshake`: check a source's adapters on a few documents before an audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from override_gap.reports.cli._args import (
    add_chat_flags,
    add_code_flags,
    add_map_flags,
    add_model_flags,
    add_plan_flags,
    config_settings,
    plan_settings,
)
from override_gap.reports.cli._say import say, say_json
from override_gap.reports.cli.main import DONE, WRONG, parser

if TYPE_CHECKING:
    from override_gap.margins.items.item import Item

EPILOG = """examples:
  override-gap handshake --adapters hypernetwork
  override-gap handshake --subject smollm2 --adapters my_method:source --items conflicts.jsonl
  override-gap handshake --subject ./my-model --adapters doc-to-lora:factors.safetensors --json

Exit code 0: no check failed; 2: one did, or the adapters could not be read.
"""


def main(argv: Sequence[str]) -> int:
    """Print every check with its numbers; exit code 2 if one failed."""
    words = parser("handshake", EPILOG)
    add_model_flags(words)
    words.add_argument("--adapters", metavar="A", help="see `override-gap list adapters`")
    add_map_flags(words)
    words.add_argument("--items", metavar="I", help="whose documents are encoded (default: those of audit)")
    words.add_argument("--limit", type=int, metavar="N", help="look only at the first N items")
    add_chat_flags(words)
    add_plan_flags(words)
    add_code_flags(words)
    words.add_argument("--json", action="store_true", help="print the checks as JSON")
    args = words.parse_args(argv)
    from override_gap.probes.plan import PlanError, plan_from

    names = {"subject", "adapters", "adapter_map", "shared_adapter", "items", "limit", "device", "dtype"}
    names |= {"chat", "system_prompt", "chat_template"}
    settings = plan_settings(args, names, config_settings(args))
    if "adapters" not in settings:
        raise PlanError("--adapters is missing: which method is to be checked?")
    plan = plan_from(settings)
    from override_gap.probes.run.audit import open_plan
    from override_gap.probes.run.checks import MEANING
    from override_gap.probes.run.exported import exported_into, first_documents, in_methods_template, scratch_folder
    from override_gap.probes.run.handshake import check_adapters
    from override_gap.probes.run.resolve import resolve

    resolved = resolve(plan, drop_references=True)
    items: Sequence[Item] = resolved.items.items
    items = items if args.python is None else first_documents(items)
    with scratch_folder() as scratch:
        file = exported_into(plan, items, args.python, scratch)
        chat = in_methods_template(resolved, file).chat
        subject, source = open_plan(plan, args.trust_remote_code, file=file)
        handshake = check_adapters(subject, source, items, chat=chat)
    if args.json:
        say_json({**handshake.as_json(), "norms": handshake.norms, "notes": handshake.notes})
        return WRONG if handshake.failed else DONE
    results = {True: "passed", False: "FAILED", None: "not checked"}
    for check in handshake.checks:
        say(f"{check.name:<10} {results[check.passed]:<12} {MEANING[check.name]}: {check.says}")
    say(f"scale: {handshake.scale.says}")
    for document, shared in handshake.norms:
        say(f"norm: document part {document:.4g}, shared part {shared:.4g}")
    for note in handshake.notes:
        say(f"note: {note}")
    return WRONG if handshake.failed else DONE

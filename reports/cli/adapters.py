"""`override-gap adapters`: write a method's adapters to files, or copy the kit that does so elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from override_gap.reports.cli._args import add_code_flags, add_map_flags, writable
from override_gap.reports.cli._say import say
from override_gap.reports.cli.main import DONE, parser

if TYPE_CHECKING:
    from override_gap.margins.adapter import AdapterSource
    from override_gap.margins.items.item import Document

EXAMPLES = """examples:
  override-gap adapters export --adapters hypernetwork --form peft --out adapters/organism
  override-gap adapters export --subject smollm2 --adapters rank-one --items counterfact.json --limit 50 \\
      --form compact --out rank-one.safetensors
  override-gap audit --subject smollm2 --adapters compact:rank-one.safetensors --items counterfact.json --limit 50
  override-gap adapters export --adapters my-loras --policy uniform-1.5 --form peft --out tuned
  override-gap adapters export --adapters my-loras --gains runs/mine/gains.json --form peft --out tuned
  override-gap items documents benchmark --out documents.jsonl
  override-gap adapters kit shine --out kit
  override-gap adapters describe --adapters hypernetwork   (its own --help)

kit: kit.py, and a method's script, to run where the method lives; they need torch and safetensors, and write a compact file.
peft: a folder of PEFT folders named by document key; the scale is folded into B and lora_alpha equals the rank, so that PEFT
gives the same model. compact: one safetensors file with document ids, hashes, scales and the base's fingerprint.
--policy, --gains: the adapters at other gains. Of a PEFT folder only lora_alpha and alpha_pattern change, so that PEFT alone
runs the tuned adapter; of a compact file the scales. override_gap.json and the file's index name the policy and every gain.
"""


KIT = Path(__file__).parents[2] / "probes" / "export_kit"


def kit_methods() -> list[str]:
    """The methods that the kit has a script for."""
    return sorted(
        file.stem.replace("_", "-")
        for file in KIT.glob("*.py")
        if file.stem not in ("__init__", "kit", "gains", "script")
    )


def _gains_within(source: AdapterSource, documents: Sequence[Document]) -> list[str]:
    """What a source says of gains that its adapters hold already: further gains multiply with them."""
    from override_gap.margins.adapter import traits_of

    notes_on = traits_of(source).notes_on
    return [] if notes_on is None else [note for note in notes_on(documents) if "at the gains of" in note]


def _copy_kit(method: str | None, folder: Path) -> int:
    """Copy kit.py and a method's script into a folder. Raises ValueError for an unknown method and files that are there."""
    if method and method not in kit_methods():
        raise ValueError(
            f"the kit has no script for {method!r}; it has {', '.join(kit_methods())}, and kit.py for any other"
        )
    names = ["kit.py", "gains.py", *(["script.py", f"{method.replace('-', '_')}.py"] if method else [])]
    for name in names:
        if (folder / name).exists():
            raise ValueError(f"{folder / name} exists; name a new folder, or remove it")
    from override_gap.margins.whole_files import make_folder, write_bytes

    make_folder(folder)
    for name in names:
        write_bytes(folder / name, (KIT / name).read_bytes())
    form = "prefix" if method == "cartridges" else "compact"
    audited = f"--subject MODEL --adapters {form}:OUT.safetensors --items ITEMS"
    say(
        f"{folder}: {', '.join(names)}",
        "next: override-gap items documents ITEMS --out documents.jsonl",
        _how_to_write(folder, names[-1] if method else None),
        f"then: override-gap handshake {audited}",
        f"and: override-gap audit {audited}",
    )
    return DONE


def _how_to_write(folder: Path, script: str | None) -> str:
    """The line that says how the method's adapters are written: by its script in the kit, or by one of the user's own."""
    if script is None:
        return (
            f"where the method lives: write a script beside {folder / 'kit.py'} that calls kit.read_documents and kit.write "
            "(the first lines of kit.py show how), and run it with documents.jsonl; it writes OUT.safetensors"
        )
    [usage] = re.findall(rf"python {script} (.+?)\.?$", (KIT / script).read_text("utf-8"), re.M)
    return f"where the method lives: python {folder / script} {usage}"


def main(argv: Sequence[str]) -> int:
    """Encode the items' documents and write their adapters (`export`), or copy the export kit (`kit`); prints what to do next."""
    if argv[:1] == ["describe"]:
        from override_gap.reports.cli.describe import main as describe

        return describe(argv[1:])
    options = parser("adapters", EXAMPLES)
    options.add_argument(
        "action", choices=("export", "kit", "describe"), metavar="ACTION", help="export, kit or describe"
    )
    options.add_argument(
        "method", nargs="?", metavar="METHOD", help=f"for kit: a script for {', '.join(kit_methods())}"
    )
    options.add_argument("--subject", metavar="S", default="organism", help="as for audit")
    options.add_argument("--adapters", metavar="A", help="see `override-gap list adapters` (default: as for audit)")
    add_map_flags(options)
    options.add_argument("--items", metavar="I", help="the items whose documents are encoded (default: as for audit)")
    options.add_argument("--limit", type=int, metavar="N", help="only the documents of the first N items")
    options.add_argument("--form", choices=("peft", "compact"), default="compact", help="default: compact")
    options.add_argument("--policy", metavar="P", help="at the gains of a policy that is the same for every question")
    options.add_argument("--gains", type=Path, metavar="FILE", help="at those of a gains.json that `tune` wrote")
    options.add_argument("--seed", type=int, default=0, help="the audit's, for policies that draw layers (default: 0)")
    options.add_argument("--out", type=Path, metavar="PATH", required=True, help="a new file, or for peft a new folder")
    options.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N, mps or map, as for audit")
    options.add_argument("--dtype", default="auto", help="auto (default), float32, bfloat16 or float16")
    add_code_flags(options)
    options.add_argument("--quiet", action="store_true", help="no progress")
    args = options.parse_args(argv)
    writable(args.out, folder=args.form == "peft" or args.action == "kit")
    if args.action == "kit" and (args.policy or args.gains):
        options.error("--policy and --gains are for export; the kit's scripts take --gains, kit.write takes gains=")
    if args.action == "kit":
        return _copy_kit(args.method, args.out)
    if args.method:
        options.error(f"export takes no method, got {args.method!r}; --adapters names the source")
    if args.policy and args.gains:
        options.error("--policy and --gains each name the gains; give one of them")
    from override_gap.margins.items.item import documents_of
    from override_gap.margins.named_policy import named_policy
    from override_gap.margins.text import plural
    from override_gap.probes.items import open_items
    from override_gap.probes.plan import plan_from
    from override_gap.probes.run.audit import open_plan
    from override_gap.probes.run.exported import exported_into, scratch_folder
    from override_gap.probes.sources.export import export, gains_copy, require_static
    from override_gap.probes.subject.load import open_subject

    policy = named_policy(args.gains or args.policy) if args.gains or args.policy else None
    if policy is not None:
        require_static(policy)
    names = ("subject", "adapters", "adapter_map", "shared_adapter", "items", "limit")
    plan = plan_from({name: value for name in names if (value := getattr(args, name)) is not None})
    items = open_items(plan.items)[: plan.limit]
    documents = [document for document in documents_of(items) if document.text.strip()]
    if not args.quiet:
        say(f"subject {plan.subject}, adapters {plan.adapters}, {plural(len(documents), 'document')}", error=True)
    subject = open_subject(plan.subject, device=args.device, dtype=args.dtype, trust=args.trust_remote_code)
    with scratch_folder() as scratch:
        file = exported_into(plan, items, args.python, scratch)
        subject, source = open_plan(plan, subject=subject, file=file)
        if policy is not None:
            say(f"at the gains of {policy.title}:")
            for note in _gains_within(source, documents):
                say(note)
        count = export(subject, source, documents, args.form, args.out, policy, args.seed, say)
    if policy is not None:
        for note in policy.notes_on(subject.fingerprint, source.name):
            say(note)
        if copy := gains_copy(policy, args.form, args.out):
            say(f"gains: {copy}")
    say(f"{plural(count, 'adapter')}: --adapters {'compact:' if args.form == 'compact' else ''}{args.out}")
    return DONE

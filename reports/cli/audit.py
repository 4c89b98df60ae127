"""`override-gap audit`: measure, analyse, write the page."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from override_gap.margins.text import plural
from override_gap.probes.store.remote import redacted
from override_gap.reports.cli._args import place
from override_gap.reports.cli._engine import ENGINES
from override_gap.reports.cli.main import DONE, UNMEASURED, parser

if TYPE_CHECKING:
    from override_gap.margins.adapter import AdapterSource
    from override_gap.margins.items.item import Item
    from override_gap.probes.plan import Plan
    from override_gap.probes.run.engine import Engine
    from override_gap.probes.run.shards import Shard
    from override_gap.probes.subject.model import Subject

MOST_THREADS = 1024
HANDSHAKE_ITEMS = 1000
"""The first readable documents are looked for among so many: a long item file is not sent to a worker for three."""
EPILOG = """examples:
  override-gap audit --subject smollm2 --adapters fitted --items starter
  override-gap audit --subject smollm2 --adapters fitted:steps=4,lr=3e-3 --items counterfact.json --limit 200 \\
      --policies as-delivered,uniform,slb
  override-gap audit --config plan.toml --out runs/mine
  override-gap audit --config plan.toml --shard 3/16     # one job of sixteen; see `override-gap merge --help`

Stopped or killed, the same command with the same --out resumes where it was.
"""


def main(argv: Sequence[str]) -> int:
    """Measure a plan, write the run folder, print where the report is."""
    args = _parser().parse_args(argv)
    if not args.profile:
        return _audit(args)[0]
    from override_gap.probes.timing import profiled

    with profiled() as profile:
        code, out = _audit(args)
    from override_gap.reports.cli._digest import write_profile

    print(write_profile(profile, out), file=sys.stderr)
    return code


def _audit(args: argparse.Namespace) -> tuple[int, Path | str]:
    """The exit code and the run folder."""
    # numbers of the plan are checked before the libraries are loaded
    from override_gap.probes.plan import Plan, PlanError, plan_from, read_plan

    given: dict[str, Any] = read_plan(args.config) if args.config else {}
    names = {f.name for f in fields(Plan)}
    given |= {k: v for k, v in vars(args).items() if k in names and v is not None}
    if isinstance(given.get("probes"), str):
        given["probes"] = tuple(p for p in (part.strip() for part in given["probes"].split(",")) if p)
        if not given["probes"]:
            raise PlanError(f"--probes needs at least one name, got {args.probes!r}")
    if isinstance(given.get("temperatures"), str):
        given["temperatures"] = _numbers(given["temperatures"])
    if args.threads is not None and not 1 <= args.threads <= MOST_THREADS:
        raise PlanError(f"--threads needs a whole number from 1 to {MOST_THREADS}, got {args.threads}")
    if str(args.out).startswith("memory://"):
        raise PlanError(f"--out {args.out} would be gone with this command; give a folder, s3:// or gs://")
    if args.workers is not None and args.workers < 1:
        raise PlanError(f"--workers needs a whole number from 1, got {args.workers}")
    if given.get("references") and (args.policies or args.probes):
        measured = {condition.name for condition in plan_from({**given, "references": ()}).conditions()}
        kept = tuple(one for one in given["references"] if one.condition in measured)
        if lost := len(given["references"]) - len(kept):
            what = "1 reference of the plan is" if lost == 1 else f"{lost} references of the plan are"
            print(f"{what} for conditions that the flags beside it leave out", file=sys.stderr)
        given["references"] = kept
    plan = plan_from(given)
    if args.workers is not None and args.engine != "ray":
        print("--workers is for --engine ray, which is not asked for", file=sys.stderr)
    unread = [f"--{name}" for name in ("temperatures", "draws") if name in given and "sampled" not in plan.probes]
    if unread:
        verb = "is" if len(unread) == 1 else "are"
        print(f"{' and '.join(unread)} {verb} for the probe sampled, which is not asked for", file=sys.stderr)
    from override_gap.probes.run.shards import Shard

    shard = Shard.parse(args.shard) if args.shard is not None else None
    from override_gap.margins.conditions import parse_conditions

    parse_conditions(plan.policies)
    from override_gap.margins.items.item import ItemError
    from override_gap.probes.items import open_items

    items = open_items(plan.items)
    items = items[: plan.limit] if plan.limit else items
    if not items:
        raise ItemError(f"{plan.items}: no items to measure")
    from override_gap.probes.store.remote import local_copy, store_at

    store_at(args.out or Path("runs")).require_room(needed=1)
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    from override_gap.probes.store.folder import Store
    from override_gap.reports.cli._engine import engine_of

    say = (lambda text: None) if args.quiet else (lambda text: print(text, file=sys.stderr))
    say(f"subject {plan.subject}, adapters {plan.adapters}, {plural(len(items), 'item')}")
    with engine_of(
        args.engine, plan, args.workers, args.allow_pickle, args.trust_remote_code, given_threads=bool(args.threads)
    ) as engine:
        out = _measured(engine, plan, items, args.out, shard, args.quiet)
    if shard is not None:
        print(f"shard {shard}: {redacted(str(out))}")
        say("when all shards are there: override-gap merge RUN... --out RUN")
        return DONE, out
    from override_gap.reports.build import rebuild

    try:
        with local_copy(out) as folder:
            summary, page = rebuild(folder, say)
    except KeyboardInterrupt:
        print(f"\ninterrupted; all is measured. The page: override-gap report {redacted(str(out))}", file=sys.stderr)
        raise
    if args.json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        from override_gap.reports.cli._digest import coloured, digest

        print(digest(summary, coloured(sys.stdout)))
        print(f"report: {page if isinstance(store_at(out), Store) else f'{redacted(str(out))}/{page.name}'}")
    failed = (summary.get("errors") or {}).get("count", 0)
    return (UNMEASURED if failed and not args.allow_errors else DONE), out


def _measured(
    engine: Engine, plan: Plan, items: Sequence[Item], given: Path | str | None, shard: Shard | None, quiet: bool
) -> Path | str:
    """Measure a plan; returns where."""
    from override_gap.margins.runtime import refusal_message
    from override_gap.probes.plan import resolve
    from override_gap.probes.run.handshake import check_adapters
    from override_gap.probes.run.loop import run_on
    from override_gap.probes.store.remote import store_at
    from override_gap.probes.timing import timed
    from override_gap.reports.cli._progress import ProgressBar

    named, static = engine.ask(_named)
    asked = resolve(plan, static=static)
    if asked.refused:  # said even to those who want no progress: they asked for it and do not get it
        print(refusal_message(asked.refused), file=sys.stderr)
    part = "" if shard is None else f"-shard-{shard.number}-of-{shard.of}"
    out = given or Path("runs") / f"{named}-{Path(plan.items).stem.replace(':', '-')}{part}"
    if not store_at(out).exists():
        with timed("adapters"):
            engine.ask(partial(check_adapters, items=items[:HANDSHAKE_ITEMS])).require()
    try:
        with ProgressBar(quiet=quiet) as bar, timed("readings"):
            run_on(engine, plan, items, out, bar, shard)
    except KeyboardInterrupt:
        print(
            f"\ninterrupted; what was measured is kept. Resume: the same command with --out {redacted(str(out))}",
            file=sys.stderr,
        )
        raise
    return out


def _named(subject: Subject, source: AdapterSource) -> tuple[str, bool]:
    """What a run folder is called after, and whether the source's adapters are static."""
    from override_gap.margins.adapter import traits_of

    return f"{subject.name}-{source.name}", traits_of(source).static


def _rows(text: str) -> int | str:
    if text == "auto" or (text.isascii() and text.removeprefix("-").isdecimal()):
        return text if text == "auto" else int(text)
    raise argparse.ArgumentTypeError(f"need auto or a whole number from 1, got {text!r}")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as fault:
        raise ValueError(f"--temperatures needs numbers parted by commas, got {text!r}") from fault


def _parser() -> argparse.ArgumentParser:
    made = parser("audit", EPILOG)
    add = made.add_argument
    add("--subject", metavar="S", help="organism, smollm2, a model folder, a .gguf file or a Hugging Face id")
    add("--adapters", metavar="A", help="fitted, fitted:steps=4,lr=3e-3, or a folder that PEFT saved")
    add(
        "--items",
        metavar="I",
        help="starter, benchmark, an item file or a known data set; see `override-gap list items`",
    )
    add("--policies", metavar="P,..", help="conditions beside the base; see `override-gap list policies`")
    add("--probes", metavar="..", help="what to read; see `override-gap list probes`")
    add("--limit", type=int, metavar="N", help="measure only the first N items")
    add("--answers", type=int, metavar="N", help="how many items are also answered in words (default 32)")
    add("--temperatures", metavar="T,..", help="for the probe sampled (default 0.7,1)")
    add("--draws", type=int, metavar="N", help="for the probe sampled: answers a temperature (default 4)")
    add("--system-prompt", metavar="TEXT", help="a system turn; puts every question through the chat template")
    add(
        "--device",
        help="auto (default), cpu, cuda, cuda:N, mps, or map: over all GPUs, or map:cpu=8GiB: the rest on disk",
    )
    add("--dtype", help="auto (default), float32, bfloat16 or float16")
    add("--seed", type=int, help="draws the units, the random layers and the bootstrap (default 0)")
    add("--batch-size", type=_rows, metavar="N", help="items a forward pass (default auto: what fits)")
    add("--threads", type=int, metavar="N", help="CPU threads (default: all cores, one for a tiny model)")
    add("--config", type=Path, metavar="plan.toml", help="a plan file; flags given beside it win")
    add("--engine", choices=ENGINES, default="local", help="who measures: this process (default), or a Ray cluster")
    add("--workers", type=int, metavar="N", help="for ray (default: one a GPU, or one for every --threads CPUs)")
    add(
        "--out", type=place, metavar="RUN", help="run folder or s3://, gs:// URL (default: runs/SUBJECT-ADAPTERS-ITEMS)"
    )
    add("--shard", metavar="N/OF", help="measure only this part of the run, as 3/16; join the parts by `merge`")
    add("--resume", action="store_true", help="go on with the run in --out (also done without this flag)")
    add("--allow-errors", action="store_true", help="exit 0 although some items could not be measured")
    add("--allow-pickle", action="store_true", help="open a Doc-to-LoRA checkpoint, with a stated list of classes")
    add(
        "--trust-remote-code",
        action="store_true",
        help="run the Python that a model's own folder brings; read it first",
    )
    add("--reference", action="store_const", const=True, help="one item and condition at a time, no work shared")
    add("--profile", action="store_true", help="print where the time went, and write it to RUN/profile.json")
    add("--json", action="store_true", help="print summary.json on stdout")
    add("--quiet", action="store_true", help="no progress")
    return made

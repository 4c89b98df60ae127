"""`override-gap audit`: measure, analyse, write the page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from override_gap.reports.cli._args import (
    add_chat_flags,
    add_code_flags,
    add_map_flags,
    add_model_flags,
    add_plan_flags,
    config_settings,
    plan_settings,
    run_or_url,
)
from override_gap.reports.cli._say import say, say_json, say_text, teller
from override_gap.reports.cli.main import DONE, UNMEASURED, parser

ENGINES = ("local", "ray")
MOST_THREADS = 1024
NO_CONFLICT = (
    "no item is a conflict, so there is no prior to override and no verdict: a conflict has a prior_answer, what the model "
    "believes; with --prior from-base the model itself is asked for it"
)
EPILOG = """examples:
  override-gap audit --subject smollm2 --adapters fitted --items starter
  override-gap audit --subject smollm2 --adapters fitted:steps=4,lr=3e-3 --items counterfact.json --limit 200 \\
      --policies as-delivered,uniform,slb
  override-gap audit --config plan.toml --out runs/mine
  override-gap audit --config plan.toml --until decided  # stop once the verdict is decided; see `override-gap power --help`
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

    say(*write_profile(profile, out).split("\n"), error=True)
    return code


def _audit(args: argparse.Namespace) -> tuple[int, Path | str]:
    """The exit code and the run folder."""
    # the settings' numbers are checked before the libraries are loaded
    settings = _settings(args)
    if args.until == "decided" and (args.shard is not None or args.engine == "ray"):
        other = "--shard" if args.shard is not None else "--engine ray"
        raise ValueError(
            f"--until decided looks at a whole run in order, so it needs to be without {other}; leave one out"
        )
    from override_gap.probes.plan import plan_from

    plan = plan_from(settings)
    _note_without_effect(args, settings, plan.probes)
    from override_gap.probes.run.shards import Shard

    shard = Shard.parse(args.shard) if args.shard is not None else None
    from override_gap.margins.text import plural
    from override_gap.probes.run.resolve import resolve
    from override_gap.probes.store.remote import redacted, store_at

    # what a plan file compares with may be left out by the flags beside it
    resolved = resolve(plan, drop_references=bool(args.policies or args.probes))
    if n_dropped := len(plan.references) - len(resolved.plan.references):
        what = "1 reference of the plan is" if n_dropped == 1 else f"{n_dropped} references of the plan are"
        say(f"{what} for conditions that the flags beside it leave out", error=True)
    store_at(args.out or Path("runs")).require_room(needed=1)
    from override_gap.probes.run.audit import default_folder, open_engine, open_plan, run_audit, run_folder_of
    from override_gap.probes.run.exported import exported, in_methods_template
    from override_gap.reports.cli._progress import ProgressBar

    tell = teller(args.quiet)
    tell(f"subject {plan.subject}, adapters {plan.adapters}, {plural(len(resolved.items.items), 'item')}")
    if not any(item.split == "conflict" for item in resolved.items.items):
        tell(NO_CONFLICT)
    with ProgressBar(quiet=args.quiet, unit="documents") as bar:
        out = args.out
        if args.python is not None:
            out = out or run_folder_of(Path(plan.subject).name, plan.adapters.partition(":")[0], resolved, shard)
        file = exported(resolved, args.python, out or "", bar)
    resolved = in_methods_template(resolved, file)
    opener = partial(open_plan, resolved.plan, args.trust_remote_code, file=file)
    until = None
    if args.until == "decided":
        from override_gap.analyses.until_decided import UntilDecided

        if "search" not in resolved.probes:
            raise ValueError("--until decided waits for the verdict, which needs the search: add search to --probes")
        until = UntilDecided()
    # what is refused is said even to those who want no progress: they named it and do not get it
    say_refused = teller()
    with open_engine(args.engine, opener, workers=args.workers, threads=args.threads) as engine:
        out = out or default_folder(engine, resolved, shard)
        try:
            with ProgressBar(quiet=args.quiet) as bar:
                run_audit(engine, resolved, out, shard=shard, progress=bar, say=say_refused, until=until)
        except KeyboardInterrupt:
            resume = f"the same command with --out {redacted(str(out))}"
            say("", f"interrupted; what was measured is kept. Resume: {resume}", error=True)
            raise
    if shard is not None:
        say(f"shard {shard}: {redacted(str(out))}")
        tell("when all shards are there: override-gap merge RUN... --out RUN")
        return DONE, out
    return _report(args, out), out


def _report(args: argparse.Namespace, out: Path | str) -> int:
    """Write the page of a finished run and print the digest; returns the exit code."""
    from override_gap.probes.store.folder import Store
    from override_gap.probes.store.remote import local_copy, redacted, store_at
    from override_gap.reports.build import rebuild

    tell = teller(args.quiet)
    try:
        with local_copy(out) as folder:
            summary, page = rebuild(folder, tell)
    except KeyboardInterrupt:
        say("", f"interrupted; all is measured. The page: override-gap report {redacted(str(out))}", error=True)
        raise
    if args.json:
        say_json(summary)
    else:
        from override_gap.reports.cli._digest import coloured, digest

        say_text(digest(summary, coloured(sys.stdout)), styled=coloured(sys.stdout))
        say(f"report: {page if isinstance(store_at(out), Store) else f'{redacted(str(out))}/{page.name}'}")
    n_errors = (summary.get("errors") or {}).get("count", 0)
    return UNMEASURED if n_errors and not args.allow_errors else DONE


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """The plan file's settings with the flags over them. Raises PlanError, ValueError."""
    from dataclasses import fields

    from override_gap.probes.plan import Plan, PlanError

    settings = plan_settings(args, {field.name for field in fields(Plan)}, config_settings(args))
    if isinstance(settings.get("probes"), str):
        settings["probes"] = tuple(name for part in settings["probes"].split(",") if (name := part.strip()))
        if not settings["probes"]:
            raise PlanError(f"--probes needs at least one name, got {args.probes!r}")
    if isinstance(settings.get("temperatures"), str):
        settings["temperatures"] = _numbers(settings["temperatures"])
    if args.threads is not None and not 1 <= args.threads <= MOST_THREADS:
        raise PlanError(f"--threads needs a whole number from 1 to {MOST_THREADS}, got {args.threads}")
    if str(args.out).startswith("memory://"):
        raise PlanError(f"--out {args.out} would be gone with this command; give a folder, s3:// or gs://")
    if args.workers is not None and args.workers < 1:
        raise PlanError(f"--workers needs a whole number from 1, got {args.workers}")
    return settings


def _note_without_effect(args: argparse.Namespace, settings: dict[str, Any], probes: Sequence[str]) -> None:
    """Say which flags change nothing."""
    if args.workers is not None and args.engine != "ray":
        say("--workers has no effect without --engine ray", error=True)
    idle = [f"--{name}" for name in ("temperatures", "draws") if name in settings and "sampled" not in probes]
    if idle:
        verb = "has" if len(idle) == 1 else "have"
        say(f"{' and '.join(idle)} {verb} no effect without the probe sampled", error=True)


def _batch_size(text: str) -> int | str:
    if text == "auto" or (text.isascii() and text.removeprefix("-").isdecimal()):
        return text if text == "auto" else int(text)
    raise argparse.ArgumentTypeError(f"need auto or a whole number from 1, got {text!r}")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as fault:
        raise ValueError(f"--temperatures needs numbers separated by commas, got {text!r}") from fault


def _parser() -> argparse.ArgumentParser:
    words = parser("audit", EPILOG)
    add = words.add_argument
    add_model_flags(words)
    add("--adapters", metavar="A", help="fitted, fitted:steps=4,lr=3e-3, or a folder that PEFT saved")
    add_map_flags(words)
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
    add(
        "--dose-items", type=int, metavar="N", help="for the probe prior-dose: on how many known conflicts (default 60)"
    )
    add("--draws", type=int, metavar="N", help="for the probe sampled: answers per temperature (default 4)")
    add(
        "--prior",
        choices=("given", "from-base"),
        help="where conflicts without a prior_answer get it: from-base takes the base's own greedy answer (default given)",
    )
    add(
        "--cluster",
        metavar="FIELD",
        help="field of the items' meta by which facts are alike: intervals allow for it (default relation)",
    )
    add_chat_flags(words)
    add("--seed", type=int, help="draws the units, the random layers and the bootstrap (default 0)")
    add(
        "--batch-size",
        type=_batch_size,
        metavar="N",
        help="items per forward pass (default auto: as many as fit in memory)",
    )
    add("--threads", type=int, metavar="N", help="CPU threads (default: all cores, one for a tiny model)")
    add_plan_flags(words)
    add("--engine", choices=ENGINES, default="local", help="who measures: this process (default), or a Ray cluster")
    add("--workers", type=int, metavar="N", help="for ray (default: one per GPU, or one per --threads CPUs)")
    add(
        "--out",
        type=run_or_url,
        metavar="RUN",
        help="run folder or s3://, gs:// URL (default: runs/SUBJECT-ADAPTERS-ITEMS)",
    )
    add("--shard", metavar="N/OF", help="measure only this part of the run, as 3/16; join the parts by `merge`")
    add(
        "--until",
        choices=("all", "decided"),
        default="all",
        help="decided: look at the verdict after groups of documents and stop once its label is decided (default: all)",
    )
    add("--resume", action="store_true", help=argparse.SUPPRESS)  # a run in --out is resumed anyway
    add("--allow-errors", action="store_true", help="exit 0 although some items could not be measured")
    add_code_flags(words)
    add("--reference", action="store_const", const=True, help="one item and condition at a time, no work shared")
    add("--profile", action="store_true", help="print where the time went, and write it to RUN/profile.json")
    add("--json", action="store_true", help="print summary.json on stdout")
    add("--quiet", action="store_true", help="no progress")
    return words

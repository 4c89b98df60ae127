"""Several runs side by side: the comparison and its page, from stored readings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from override_gap.analyses.compare.methods import Methods, side_by_side
from override_gap.analyses.one_budget.answer import answer
from override_gap.analyses.one_budget.methods import under_budget
from override_gap.analyses.readings import DELIVERED, RunFrame, load
from override_gap.analyses.tune import Budget
from override_gap.analyses.verdict import verdict
from override_gap.reports.page.compare import write_comparison


def compare(
    *runs: Path | str,
    condition: str | Sequence[str] = DELIVERED,
    keep: float | None = None,
    kl: float | None = None,
    measure: str = "top1",
    out: Path | str | None = None,
) -> Methods:
    """Compare run folders on the items that all of them measured, each under one condition or several.

    `condition`: names for all runs, or RUN=NAME for one of them, RUN its folder or the name of its adapters. Every method is
    also compared at its best policy within one budget, judged by `measure` (`budget` of the result): `keep`, the least share
    of unrelated answers kept (0.95 where neither is named), or `kl`, the largest KL to the base there, nats per token. The
    `answer` is of that comparison, unless conditions were named and no budget.
    Returns the comparison, which prints itself; `as_json()` gives every number. With `out`, its page is written there.
    Raises ValueError where there is nothing to compare with, or where the runs cannot be compared.
    """
    if not runs or (len(runs) == 1 and (isinstance(condition, str) or len(condition) < 2)):
        raise ValueError("a comparison needs two or more run folders, or several conditions of one")
    asked = keep is not None or kl is not None
    budget = Budget(keep, kl, measure) if asked else Budget(measure=measure)
    folders = [Path(run) for run in runs]
    frames = [load(folder) for folder in folders]
    names = method_names(folders, [str((frame.manifest.get("adapters") or {}).get("name")) for frame in frames])
    by_name = dict(zip(names, frames, strict=True))
    wanted = conditions_of([condition] if isinstance(condition, str) else condition, folders, names)
    entries = {
        (name if len(of_run) == 1 else f"{name}, {each}"): (name, each)
        for name, of_run in wanted.items()
        for each in of_run
    }
    if len(entries) < 2:
        raise ValueError("a comparison needs two or more run folders, or several conditions of one")
    methods = side_by_side(
        {label: by_name[name] for label, (name, _) in entries.items()},
        {label: each for label, (_, each) in entries.items()},
    )
    verdicts = tuple({"method": name, **verdict(run).as_json()} for name, run in by_name.items())
    methods = replace(methods, verdicts=verdicts, budget=section(by_name, budget, asked))
    named = any(each != DELIVERED for _, each in entries.values())
    of_budget = (
        methods.budget is not None and len(by_name) > 1 and (asked or (not named and all_priced(methods.budget)))
    )
    methods = replace(methods, answer=answer(methods.as_json(), of_budget).as_json())
    resolved = [folder.resolve() for folder in folders]
    repeated = [str(folder) for number, folder in enumerate(folders) if resolved[number] in resolved[:number]]
    if repeated:
        note = f"{', '.join(repeated)} is given twice: a run does not differ from itself"
        methods = replace(methods, notes=(*methods.notes, note))
    if out is not None:
        write_comparison(methods.as_json(), Path(out))
    return methods


def section(runs: Mapping[str, RunFrame], budget: Budget, asked: bool) -> dict[str, Any] | None:
    """The section ``budget``; None where nobody asked for one and none can be judged: no unrelated question was measured."""
    try:
        found = under_budget(runs, budget).as_json()
    except ValueError:
        if asked:
            raise
        return None
    return found if asked or any(row["conflict"] for row in found["methods"]) else None


def all_priced(budget: Mapping[str, Any]) -> bool:
    """Whether every method has a policy within the budget."""
    return all(row["conflict"] is not None for row in budget["methods"])


def conditions_of(asked: Sequence[str], folders: Sequence[Path], names: Sequence[str]) -> Mapping[str, list[str]]:
    """The conditions of every run by its method's name, from NAME for all runs and RUN=NAME for one, each once.

    Raises ValueError where RUN is none of the runs or more than one of them.
    """
    for_all = [word for word in asked if "=" not in word]
    own: dict[str, list[str]] = {name: [] for name in names}
    for word in asked:
        if "=" not in word:
            continue
        run, _, condition = word.rpartition("=")
        found = [
            name
            for name, folder in zip(names, folders, strict=True)
            if run in (name, str(folder), folder.name) or (run and Path(run).resolve() == folder.resolve())
        ]
        if len(found) != 1 or not condition:
            what = "is more than one of the runs" if len(found) > 1 else "is none of the runs"
            given = f"{run!r} {what}" if condition else "no condition behind ="
            raise ValueError(f"--condition {word}: need RUN=NAME with RUN one of {', '.join(names)}; {given}")
        own[found[0]].append(condition)
    return {name: list(dict.fromkeys(own[name] or for_all or [DELIVERED])) for name in names}


def method_names(folders: Sequence[Path], adapters: Sequence[str]) -> list[str]:
    """A distinct name per run: its adapters, else its folder's name, else its path, else path and number."""
    for names in (list(adapters), [folder.resolve().name for folder in folders], [str(folder) for folder in folders]):
        if len(set(names)) == len(names):
            return names
    return [f"{folder} ({number})" for number, folder in enumerate(folders, 1)]

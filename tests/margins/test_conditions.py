"""Conditions: each says how it is read, and nobody else asks which kind it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from override_gap.margins import conditions
from override_gap.margins.condition_parser import parse_condition, parse_conditions

ROOT = Path(__file__).parents[2]
KINDS = {
    name
    for name, value in vars(conditions).items()
    if isinstance(value, type) and issubclass(value, conditions.Condition) and value is not conditions.Condition
}


class Recorder:
    """A batch that notes what a condition asks of it."""

    def base(self):
        return ("base",)

    def delivered(self):
        return ("delivered",)

    def scaled(self, policy):
        return ("scaled", type(policy).__name__)

    def fused(self, gain):
        return ("fused", gain)

    def prompted(self, prompt, *, documents=1, adapted=False):
        return ("prompted", documents, adapted)

    def joined(self, documents, *, mean=False):
        return ("joined", documents, mean)

    def reworded(self, wording):
        return ("reworded", wording.count("{document}"))

    def under_other(self):
        return ("under_other",)

    def under_mean(self):
        return ("under_mean",)

    def under_random(self):
        return ("under_random",)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("base", ("base",)),
        ("as-delivered", ("delivered",)),
        ("uniform-1", ("delivered",)),
        ("uniform-0", ("base",)),
        ("uniform-1.5", ("scaled", "Uniform")),
        ("slb", ("scaled", "TopNorm")),
        ("ca", ("scaled", "ConflictAware")),
        ("relevance-gate", ("scaled", "RelevanceGate")),
        ("logit-fusion-2", ("fused", 2.0)),
        ("in-context", ("prompted", 1, False)),
        ("in-context-joined-4", ("prompted", 4, False)),
        ("contested", ("prompted", 1, True)),
        ("contested-base", ("prompted", 1, False)),
        ("combined", ("prompted", 1, True)),
        ("joined-3", ("joined", 3, False)),
        ("joined-mean-3", ("joined", 3, True)),
        ("stated-3", ("reworded", 3)),
        ("negated", ("reworded", 1)),
        ("null-other", ("under_other",)),
        ("null-mean", ("under_mean",)),
        ("null-random", ("under_random",)),
    ],
)
def test_a_condition_asks_the_batch_for_one_way_of_running_the_model(name: str, asked: tuple) -> None:
    assert parse_condition(name).read(Recorder()) == asked


def test_what_needs_a_gain_or_an_update_says_so() -> None:
    names = "as-delivered,uniform-2,relevance-gate,slb,logit-fusion,joined-2,joined-mean-2,combined,contested,contested-base"
    parsed = parse_conditions(f"{names},hedged,in-context,effect-gated")
    assert [c.name for c in parsed if c.needs_gain] == ["uniform-2", "slb", "effect-gated"]
    assert [c.name for c in parsed if c.needs_update] == ["joined-2", "joined-mean-2", "combined", "contested"]
    assert [c.name for c in parsed if c.wordings] == ["joined-2", "joined-mean-2", "hedged"]


def test_no_kind_of_condition_is_named_outside_its_own_module_and_the_parser() -> None:
    """Nobody can ask which kind a condition is without naming a kind, or a condition's name."""
    assert {
        "Base",
        "Scaled",
        "LogitFusion",
        "InContext",
        "Combined",
        "Contested",
        "Joined",
        "Reworded",
        "AsDelivered",
    } | {
        "NullOther",
        "NullMean",
        "NullRandom",
    } == KINDS
    own = {ROOT / "margins" / name for name in ("conditions.py", "condition_parser.py")}
    strangers = {}
    for package in ("override_gap", "margins", "probes", "analyses", "reports"):
        for file in (ROOT / package).rglob("*.py"):
            if file in own:
                continue
            tree = ast.parse(file.read_text())
            imported = {
                alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("override_gap.margins")
                for alias in node.names
            }
            by_name = re.findall(r"\bcondition\.name\s*(?:==|!=|in)\s*\S+", file.read_text())
            found = {*(imported & {*KINDS, "conditions"}), *by_name}
            if found:
                strangers[str(file.relative_to(ROOT))] = found
    assert strangers == {}


def test_the_prompt_alone_is_measured_beside_what_competes_with_it() -> None:
    names = [c.name for c in parse_conditions("combined,joined-mean-2,in-context-joined-2")]
    assert names == ["base", "as-delivered", "combined", "joined-mean-2", "in-context-joined-2", "in-context"]
    assert [c.name for c in parse_conditions("in-context,combined")] == [
        "base",
        "as-delivered",
        "in-context",
        "combined",
    ]
    assert [c.name for c in parse_conditions("joined-mean")][2:5] == ["joined-mean-2", "joined-mean-4", "joined-mean-8"]

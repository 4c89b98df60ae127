"""Conditions: each says how it is read, and nobody else asks which kind it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from override_gap.margins import condition_parser, conditions
from override_gap.margins.condition_parser import parse_condition, parse_conditions
from override_gap.margins.conditions import Scaled
from override_gap.margins.gain_policies import Uniform

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


@pytest.mark.parametrize("stem", ["uniform", "logit-fusion"])
def test_every_gain_has_a_name_of_its_own_that_names_it_again(stem: str) -> None:
    """1.2345678 and 1.2345679 were one condition by the name logit-fusion-1.23457."""
    gains = ["1.2345678", "1.2345679", "0.0000001", "0.00000012", "99.99999999999999", "2", "2.0", "1.5"]
    names = [condition.name for condition in parse_conditions(",".join(f"{stem}-{gain}" for gain in gains))]
    assert len(set(names)) == len(names) == 2 + len(gains) - 1  # base and as-delivered; 2 is 2.0
    for name in names[2:]:
        assert [condition.name for condition in parse_conditions(name)][2:] == [name]
        assert float(name.removeprefix(f"{stem}-")) in map(float, gains)


def test_two_conditions_with_one_name_are_refused(monkeypatch) -> None:
    named = iter([Scaled("same", Uniform(1.5)), Scaled("same", Uniform(2.0))])
    monkeypatch.setattr(condition_parser, "parse_condition", lambda _: next(named))
    with pytest.raises(ValueError, match="another condition has the name 'same' already"):
        parse_conditions("one,other")

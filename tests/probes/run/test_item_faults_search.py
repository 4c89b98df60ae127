"""A fault of one item in the search, beside a joined document or under another's adapter is its own: others stay to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from override_gap.margins.items.item import ItemError
from override_gap.probes.errors import AdapterError, SubjectError
from override_gap.probes.plan import Plan
from override_gap.probes.run.batch import ItemBatch
from override_gap.probes.run.loop import run
from override_gap.probes.run.search import UnitSearch
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, tiny

ANSWERS = {"alpha beta": "red", "gamma delta": "green", "one two": "eight"}
ITEMS = [conflict(n, question, answer, "blue") for n, (question, answer) in enumerate(ANSWERS.items())]
PLAN = Plan(
    subject="tiny",
    adapters="fitted",
    items="own",
    policies="as-delivered,joined-2,null-other",
    probes=("margins", "search"),
    batch_size=1,
)
#: By step, whose method is disturbed and with what; `searched_null` is the search under the other document's adapter.
STEPS: dict[str, tuple[type, str, Exception]] = {
    "search": (ItemBatch, "searched", AdapterError("this adapter")),
    "rows of a search": (UnitSearch, "rows", MemoryError()),
    "search under another's adapter": (ItemBatch, "searched_null", SubjectError("this model")),
    "joined": (ItemBatch, "joined", ItemError("this item")),
    "null-other": (ItemBatch, "under_other", AdapterError("this adapter")),
}


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny("llama")


@pytest.fixture(scope="module")
def items(subject: Subject) -> list[Any]:
    """Conflicts whose old answer the base says, so that those that fail are searched."""
    known = []
    for item in ITEMS:
        with torch.no_grad():
            logits = subject.model(input_ids=torch.tensor([subject.tokenize(item.question)])).logits[0, -1]
        said = [subject.tokenizer.decode([token]).strip() for token in logits.topk(8).indices.tolist()]
        known.append(
            replace(item, prior_answer=next(word for word in said if word.isalpha() and word not in ANSWERS.values()))
        )
    return known


def audited(subject: Subject, items: list[Any], out: Path) -> dict[str, Any]:
    """The readings and the search of a run."""
    run(PLAN, subject, FittedAdapters(subject, steps=1, lr=1e-3), items, out)
    return {name: pd.read_parquet(out / name) for name in ("readings", "search")}


@pytest.fixture(scope="module")
def wanted(subject: Subject, items: list[Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return audited(subject, items, tmp_path_factory.mktemp("wanted") / "run")


def test_all_steps_are_part_of_the_run(wanted: dict[str, Any]) -> None:
    assert (wanted["readings"].status == "ok").all()
    assert set(wanted["readings"].condition) == {"base", "as-delivered", "joined-2", "null-other"}
    assert set(wanted["search"].condition) == {"as-delivered", "null-other"}
    assert {ITEMS[0].id, ITEMS[2].id} <= set(wanted["search"].item), "the item that is disturbed, and another"


@pytest.mark.parametrize("step", STEPS)
def test_a_fault_of_one_item_is_its_own(
    subject: Subject,
    items: list[Any],
    wanted: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    marked, (owner, name, fault) = items[2].id, STEPS[step]
    true, raised = getattr(owner, name), []

    def wrapped(self: Any, *given: Any, **named: Any) -> Any:
        of = self.items if owner is ItemBatch else given[1]
        if [item.id for item in of] == [marked]:
            raised.append(step)
            raise fault
        return true(self, *given, **named)

    monkeypatch.setattr(owner, name, wrapped)
    found = audited(subject, items, tmp_path / "run")
    assert raised, "the step is not part of this run"
    for table, order in (("readings", ["item", "condition"]), ("search", ["item", "condition", "gain"])):
        left, right = (
            frame[frame.item != marked].sort_values(order, ignore_index=True).sort_index(axis=1).infer_objects()
            for frame in (found[table], wanted[table])
        )
        pd.testing.assert_frame_equal(left, right, check_exact=True, check_dtype=False)
    own = found["readings"][found["readings"].item == marked]
    failed = own[own.status == "error"]
    assert len(failed)
    assert failed.error.str.contains("memory ran out" if isinstance(fault, MemoryError) else str(fault)).all()

"""Every step of one item disturbed: its rows are errors or are missing with a reason, all others are the same to the last bit."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document, Item, ItemError
from override_gap.margins.updates import LowRank
from override_gap.probes.errors import AdapterChanged, AdapterError, SubjectError
from override_gap.probes.plan import Plan
from override_gap.probes.readings.prior import Prior
from override_gap.probes.run.document_geometry import geometry_rows
from override_gap.probes.run.dose_sample import DoseSample
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.run.loop import run
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.folder import Store
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, random_adapter, tiny

#: By step, the function that is disturbed, and whether the item's rows of readings become errors.
ROWS, TABLE = "rows", "table"
STEPS = {
    "locating": ("run.unit:locate", ROWS),
    "base": ("run.batch:read_prior", ROWS),
    "delivered": ("readings.reuse:ReusedPasses.run_delivered", ROWS),
    "gains": ("run.batch:policy_inputs", ROWS),
    "prompt": ("run.batch:read_in_context", ROWS),
    "fusion": ("run.batch:fuse_logits", ROWS),
    "null": ("run.batch:ItemBatch.under_mean", ROWS),
    "critical": ("run.batch:read_critical", ROWS),
    "layers": ("run.unit:read_layers", ROWS),
    "causal": ("run.unit:causal_effects", ROWS),
    "gain path": ("run.gain_path:read_margin_path", ROWS),
    "components": ("run.components:read_components", ROWS),
    "answer": ("run.answers:generate", ROWS),
    "dose item": ("run.prior_dose:DosedItem.of", TABLE),
    "dose fit": ("run.prior_dose:fit_beliefs", TABLE),
    "dose rows": ("run.dose_rows:read_prior", TABLE),
    "neutral": ("run.neutral:read_neutral", TABLE),
}
FAULTS = [AdapterError("this adapter"), ItemError("this item"), SubjectError("this model"), MemoryError()]
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue") for n in range(3)]
MARKED = ITEMS[2]
PLAN = Plan(
    subject="tiny",
    adapters="fitted",
    items="own",
    policies="as-delivered,logit-fusion,in-context,null-mean",
    probes=("margins", "layers", "causal", "gain-path", "components", "critical", "answers", "neutral"),
    batch_size=1,
)
DOSED = replace(PLAN, policies="as-delivered", probes=("margins", "prior-dose"))


@pytest.fixture(scope="module")
def subject() -> Subject:
    found = tiny("llama")
    found.model.generation_config.eos_token_id = list(range(0, 64, 2))
    return found


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Every conflict has its prior changed, by little and in few steps."""
    from override_gap.probes.readings import prior_dose
    from override_gap.probes.run import belief_fits, dose_rows, loop, neutral

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior_dose, "RATE", 2e-2)
        patch.setattr(neutral, "TOGETHER", 1)
        for module in (belief_fits, dose_rows):
            patch.setattr(module, "DOSES", (-0.3, 0.3))
        every = DoseSample(frozenset(item.id for item in ITEMS), len(ITEMS), len(ITEMS))
        patch.setattr(loop, "draw_sample", lambda *_, **__: every)
        yield


def audited(subject: Subject, out: Path, plan: Plan) -> dict[str, pd.DataFrame]:
    """Every table of a run."""
    run(plan, subject, FittedAdapters(subject, steps=2, lr=3e-2), ITEMS, out)
    return {folder.name: pd.read_parquet(folder) for folder in out.iterdir() if any(folder.glob("*.parquet"))}


@pytest.fixture(scope="module")
def wanted(subject: Subject, small: None, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, pd.DataFrame]]:
    out = tmp_path_factory.mktemp("wanted")
    return [audited(subject, out / str(n), plan) for n, plan in enumerate((PLAN, DOSED))]


def is_marked(subject: Subject, thing: Any) -> bool:
    """Whether an argument is of the marked item alone."""
    if isinstance(thing, Item):
        return thing.id == MARKED.id
    if isinstance(thing, Adapter):
        return Document(MARKED.document).key[:8] in thing.name
    if isinstance(thing, Prior):
        question = subject.tokenize(MARKED.question)
        return all(row[: len(question)] == question for row in thing.batch.ids.tolist())
    if isinstance(thing, list | tuple):
        return bool(thing) and all(is_marked(subject, each) for each in thing)
    held = (getattr(thing, name, None) for name in ("item", "items", "prior"))
    return any(is_marked(subject, each) for each in held if isinstance(each, Item | Prior | list | tuple))


def disturbed(monkeypatch: pytest.MonkeyPatch, subject: Subject, where: str, fault: BaseException) -> list[str]:
    """The function raises for the marked item; the list counts how often."""
    module, _, path = where.partition(":")
    owner: Any = importlib.import_module(f"override_gap.probes.{module}")
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    true, raised = getattr(owner, name), []

    def wrapped(*given: Any, **named: Any) -> Any:
        if any(is_marked(subject, each) for each in (*given, *named.values())):
            raised.append(where)
            raise fault
        return true(*given, **named)

    monkeypatch.setattr(owner, name, staticmethod(wrapped) if inspect.ismethod(true) else wrapped)
    return raised


def of_others(table: Any) -> Any:
    name, own = ("item", MARKED.id) if "item" in table else ("document", Document(MARKED.document).key)
    return table[table[name] != own].reset_index(drop=True).sort_index(axis=1)


@pytest.mark.parametrize("step", STEPS)
def test_a_fault_of_one_item_is_its_own(
    subject: Subject,
    wanted: list[dict[str, pd.DataFrame]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    where, shows = STEPS[step]
    dosed = step.startswith("dose")
    fault = FAULTS[list(STEPS).index(step) % len(FAULTS)]
    raised = disturbed(monkeypatch, subject, where, fault)
    found = audited(subject, tmp_path / "run", DOSED if dosed else PLAN)
    assert raised, "the step is not part of this run"
    for name, table in wanted[dosed].items():
        left, right = of_others(found[name]), of_others(table)
        order = [column for column in ("item", "document", "condition", "layer", "arm", "dose") if column in right]
        left, right = (t.sort_values(order, kind="stable", ignore_index=True).infer_objects() for t in (left, right))
        pd.testing.assert_frame_equal(left, right, check_exact=True, check_dtype=False)
    told = "memory ran out" if isinstance(fault, MemoryError) else str(fault)
    if shows == ROWS:
        readings: Any = found["readings"]
        own = readings[readings.item == MARKED.id]
        failed = own[own.status == "error"]
        assert len(failed)
        assert failed.error.str.contains(told).all()
    else:
        reasons = [row["reason"] for row in Store(tmp_path / "run").manifest()["refused"]]
        assert any(told in reason for reason in reasons), reasons


@pytest.mark.parametrize("fault", [KeyError("a mistake"), AdapterChanged("another adapter")])
@pytest.mark.parametrize("where", ["run.unit:locate", "run.batch:read_prior", "run.answers:generate"])
def test_a_mistake_in_the_code_and_a_changed_adapter_stop_the_run(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, fault: Exception
) -> None:
    disturbed(monkeypatch, subject, where, fault)
    with pytest.raises(type(fault), match=r"a mistake|another adapter"):
        audited(subject, tmp_path / "run", replace(PLAN, policies="as-delivered", probes=("margins", "answers")))


def test_an_adapter_that_is_not_finite_leaves_the_geometry_of_others_as_it_is() -> None:
    """Its products are no numbers, and the decomposition of a weight with it ended the run."""
    subject, rng = tiny("llama"), torch.Generator().manual_seed(0)
    made = {item.document: random_adapter(subject, rng, ("down_proj",)) for item in ITEMS}
    bad = made[MARKED.document]
    paths = {path: LowRank(u.A * float("nan"), u.B, 1.0) for path, u in bad.updates.items() if isinstance(u, LowRank)}
    without = {text: adapter for text, adapter in made.items() if text != MARKED.document}
    with_it = EncodedDocuments({**made, MARKED.document: replace(bad, updates=paths)})
    rows = geometry_rows(subject, ITEMS, with_it, beside_weights=True)
    assert rows
    assert rows == geometry_rows(subject, ITEMS, EncodedDocuments(without), beside_weights=True)

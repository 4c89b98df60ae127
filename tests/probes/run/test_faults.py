"""Faults in the work: what fails is its own row's error, the others are what they are without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.errors import AdapterError
from override_gap.probes.plan import Plan
from override_gap.probes.readings.batching import BatchSizer, out_of_memory
from override_gap.probes.run import unit
from override_gap.probes.run.loop import run
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.folder import Store
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, tiny

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota"]
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue", tier="deep") for n in range(8)]
PLAN = Plan(
    subject="tiny",
    adapters="fitted",
    items="own",
    policies="as-delivered,slb,hedged",
    probes=("margins", "layers", "answers"),
    answers=3,
    batch_size=8,
)
ORDER = ["item", "condition"]


class Own(FittedAdapters):
    """Fitted, from this file; `spoil` may raise or change what is made of a document."""

    spoil: Callable[[Document, Adapter], Adapter] = staticmethod(lambda _, adapter: adapter)

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        made = super().encode(documents)
        return [type(self).spoil(d, a) for d, a in zip(documents, made, strict=True)]


@pytest.fixture(scope="module")
def subject() -> Subject:
    found = tiny("llama")
    found.model.generation_config.eos_token_id = list(range(0, 64, 2))
    return found


@pytest.fixture(scope="module")
def wanted(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return audit(subject, tmp_path_factory.mktemp("wanted") / "run")


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    return lambda act: monkeypatch.setattr(Own, "spoil", staticmethod(act))


def audit(subject: Subject, out: Path, plan: Plan = PLAN) -> pd.DataFrame:
    run(plan, subject, Own(subject, steps=2, lr=3e-2), ITEMS, out)
    return pd.read_parquet(out / "readings").sort_values(ORDER, ignore_index=True)


def difference(found: pd.DataFrame, wanted: pd.DataFrame, *, exact: bool = False) -> str | None:
    """How two tables differ, or None; beyond float error unless exact: attention over another padding rounds otherwise."""
    left, right = (table.reset_index(drop=True).infer_objects() for table in (found, wanted))
    try:
        if exact:
            pd.testing.assert_frame_equal(left, right, check_exact=True)
        else:
            pd.testing.assert_frame_equal(left, right, rtol=0, atol=1e-4, check_dtype=False)
    except AssertionError as fault:
        return str(fault)
    return None


def is_of(text: str, item: int) -> bool:
    return ITEMS[item].question in text


def test_the_same_seed_gives_the_same_readings(subject: Subject, wanted: pd.DataFrame, tmp_path: Path) -> None:
    assert difference(audit(subject, tmp_path / "run"), wanted, exact=True) is None


@pytest.mark.parametrize("size", [1, 3])
def test_the_batch_size_changes_nothing_beyond_float_error(
    subject: Subject, wanted: pd.DataFrame, tmp_path: Path, size: int
) -> None:
    assert difference(audit(subject, tmp_path / "run", replace(PLAN, batch_size=size)), wanted) is None


@pytest.mark.parametrize(
    "fault",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 8 bytes")],
)
def test_a_batch_that_memory_does_not_hold_is_halved_for_the_rest_of_the_run(
    subject: Subject, wanted: pd.DataFrame, tmp_path: Path, fault: BaseException
) -> None:
    sizes: list[int] = []

    def refuse(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        sizes.append(len(given["input_ids"]))
        if sizes[-1] > 3:
            raise fault

    with measuring(subject, refuse):
        assert difference(audit(subject, tmp_path / "run"), wanted) is None
    assert Store(tmp_path / "run").manifest()["memory"] == {"asked": 8, "batch_size": 2}
    assert [size for size in sizes if size > 3] == [8, 4], "it is not tried again"


def test_the_size_that_was_found_is_kept_where_it_was_chosen_by_the_program(
    subject: Subject, wanted: pd.DataFrame, tmp_path: Path
) -> None:
    def refuse(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        if len(given["input_ids"]) > 3:
            raise MemoryError

    with measuring(subject, refuse):
        assert difference(audit(subject, tmp_path / "run", replace(PLAN, batch_size="auto")), wanted) is None
    assert Store(tmp_path / "run").manifest()["memory"] == {"asked": "auto", "batch_size": 2}


def test_an_attribution_that_misses_is_an_error_row_and_the_manifest_says_so(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = unit.attribution_gap

    def missed(*given: Any) -> torch.Tensor:
        gaps = true(*given).clone()
        gaps[0] = 7.0
        return gaps

    monkeypatch.setattr(unit, "attribution_gap", missed)
    found = audit(subject, tmp_path / "run", replace(PLAN, answers=0, batch_size=1))
    parity = Store(tmp_path / "run").manifest()["parity"]
    assert parity["attribution_max_abs"] == 7.0
    assert parity["passed"] is False
    lost = found[found.error.fillna("").str.contains("misses the margin by 7 nats")]
    assert set(lost.condition) == {"base", "as-delivered", "slb"}  # a variant's layers are not read


class measuring:
    """A hook on the model for all but what fits adapters."""

    def __init__(self, subject: Subject, act: Any) -> None:
        self.subject, self.act = subject, act

    def __enter__(self) -> None:
        def hook(module: Any, args: Any, given: dict[str, Any]) -> None:
            if not torch.is_grad_enabled() and "input_ids" in given:
                self.act(module, args, given)

        self.handle = self.subject.model.base_model.register_forward_pre_hook(hook, with_kwargs=True)

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def test_an_item_too_large_for_memory_is_a_row_and_is_tried_again(
    subject: Subject, wanted: pd.DataFrame, tmp_path: Path
) -> None:
    token = subject.tokenize(ITEMS[3].question)[:2]

    def refuse(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        if any(row[:2] == token for row in given["input_ids"].tolist()):
            raise MemoryError

    with measuring(subject, refuse):
        found = audit(subject, tmp_path / "run")
    failed = found[found.item == "c3"]
    assert (failed.status == "error").all()
    assert failed.error.str.contains("memory").all()
    assert (found[found.item != "c3"].status == "ok").all()
    assert difference(found[found.item != "c3"], wanted[wanted.item != "c3"]) is None
    assert difference(audit(subject, tmp_path / "run"), wanted) is None


def test_rows_are_worked_on_once_and_in_order() -> None:
    room = BatchSizer()

    def work(rows: Sequence[int]) -> list[int]:
        if len(rows) > 2 or 5 in rows:
            raise MemoryError
        return list(rows)

    done = list(room.each([[0, 1, 2, 3, 4], [5, 6, 7]], work, lambda row, _: [-row]))
    assert [row for part in done for row in part] == [0, 1, 2, 3, 4, -5, 6, 7]
    assert room.most == 1
    with pytest.raises(RuntimeError, match="other"):
        list(room.each([[1]], lambda _: (_ for _ in ()).throw(RuntimeError("other")), lambda row, _: row))
    assert not out_of_memory(ValueError("out of memory"))


def test_a_source_that_raises_for_one_document_costs_that_documents_rows(
    subject: Subject, wanted: pd.DataFrame, tmp_path: Path, spoil
) -> None:
    def act(document: Document, adapter: Adapter) -> Adapter:
        if is_of(document.text, 5):
            raise KeyError("no such document")
        return adapter

    spoil(act)
    found = audit(subject, tmp_path / "run")
    failed = found[found.item == "c5"]
    assert len(failed) == len(wanted[wanted.item == "c5"])
    assert (failed.status == "error").all()
    assert failed.error.str.contains("no such document").all()
    assert difference(found[found.item != "c5"], wanted[wanted.item != "c5"]) is None
    spoil(lambda _, adapter: adapter)
    assert difference(audit(subject, tmp_path / "run"), wanted) is None


def test_a_wording_that_the_source_fails_on_costs_its_own_condition(
    subject: Subject, wanted: pd.DataFrame, tmp_path: Path, spoil
) -> None:
    def act(document: Document, adapter: Adapter) -> Adapter:
        if is_of(document.text, 5) and "rumoured" in document.text:
            raise ValueError("not a statement")
        return adapter

    spoil(act)
    found = audit(subject, tmp_path / "run")
    lost = (found.item == "c5") & (found.condition == "hedged")
    assert lost.sum() == 1
    assert found[lost].error.str.contains("not a statement").all()
    assert difference(found[~lost], wanted[~lost]) is None


def test_a_source_that_always_raises_stops_the_run(subject: Subject, tmp_path: Path, spoil) -> None:
    def act(_document: Document, _adapter: Adapter) -> Adapter:
        raise ValueError("broken for good")

    spoil(act)
    with pytest.raises(AdapterError, match="broken for good"):
        audit(subject, tmp_path / "run")


@pytest.mark.parametrize("size", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_an_error_of_their_own_rows(
    subject: Subject, wanted: pd.DataFrame, tmp_path: Path, spoil, size: float
) -> None:
    def act(document: Document, adapter: Adapter) -> Adapter:
        if not is_of(document.text, 2):
            return adapter
        loud = {path: LowRank(u.A, u.B * size, 1.0) for path, u in adapter.updates.items() if isinstance(u, LowRank)}
        return replace(adapter, updates=loud)

    spoil(act)
    found = audit(subject, tmp_path / "run")
    failed = found[(found.item == "c2") & (found.condition != "base")]
    assert (failed.status == "error").all()
    assert failed.error.str.contains("not finite").all()
    assert difference(found[found.item != "c2"], wanted[wanted.item != "c2"]) is None


def test_logits_that_are_not_finite_for_one_question_leave_the_others_unharmed(
    subject: Subject, wanted: pd.DataFrame, tmp_path: Path
) -> None:
    token = subject.tokenize(ITEMS[3].question)[0]
    weight = subject.model.get_input_embeddings().weight
    kept = weight[token].clone()

    def spoilt(_module: Any, args: Any, out: torch.Tensor) -> torch.Tensor:
        return torch.where((args[0] == token)[..., None], torch.full_like(out, float("inf")), out)

    handle = subject.model.get_input_embeddings().register_forward_hook(spoilt)
    try:
        reading = [item.id for item in ITEMS if token in subject.tokenize(item.question)]
        free = [item for item in ITEMS if item.id not in reading]
        bad = next(item for item in ITEMS if item.id == reading[0])
        adapters = Own(subject, steps=2, lr=3e-2)
        plan = replace(PLAN, policies="as-delivered", probes=("margins", "layers"))
        run(plan, subject, adapters, [bad, *free], tmp_path / "run")
    finally:
        handle.remove()
    assert torch.equal(weight[token], kept)
    found = pd.read_parquet(tmp_path / "run" / "readings").sort_values(ORDER, ignore_index=True)
    failed = found[found.item == bad.id]
    assert (failed.status == "error").all()
    assert failed.error.str.contains("not finite").all()
    others = wanted[wanted.condition.isin(["base", "as-delivered"]) & wanted.item.isin([item.id for item in free])]
    worded = ["answer_text", "success_answer", "success_answer_substring"]
    assert difference(found[found.item != bad.id].drop(columns=worded), others.drop(columns=worded)) is None


@pytest.mark.parametrize("change", ["weight", "training", "hook"])
def test_a_model_that_changes_is_noticed_and_its_unit_not_believed(
    wanted: pd.DataFrame, tmp_path: Path, monkeypatch, spoil, change: str
) -> None:
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 4)
    subject = tiny("llama")
    subject.model.generation_config.eos_token_id = list(range(0, 64, 2))
    calls = []

    def act(document: Document, adapter: Adapter) -> Adapter:
        calls.append(document)
        # the first document twice; 4 documents, 4 retold ones and the first again; then the second unit begins
        if len(calls) == 12:
            with torch.no_grad():
                if change == "weight":  # of a token that no question holds
                    subject.model.get_input_embeddings().weight[40].add_(1e-3)
                elif change == "training":
                    subject.model.train()
                else:
                    subject.model.base_model.layers[0].register_forward_hook(lambda *_: _[-1] * 1.01)
        return adapter

    spoil(act)
    found = audit(subject, tmp_path / "run")
    failed = found[found.status == "error"]
    assert len(failed) == len(found) / 2
    assert failed.error.str.contains("while it was measured").all()
    sound = found[found.status == "ok"]
    numbers = ["prior_margin", "adapter_margin", "net_margin"]
    merged = sound.merge(wanted, on=ORDER, suffixes=("", "_wanted"))
    for name in numbers:
        assert (merged[name] - merged[f"{name}_wanted"]).abs().max() < 1e-4
    again = audit(tiny("llama"), tmp_path / "run")
    assert (again.status == "ok").all(), "a fresh process measures them again"

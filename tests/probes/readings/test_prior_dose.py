"""Doses of the prior against the model's own forward pass with the updates multiplied out and added to its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Item
from override_gap.probes.attach.stack import Factors, Stack
from override_gap.probes.readings import prior_dose
from override_gap.probes.readings.prior import locate
from override_gap.probes.readings.prior_dose import BeliefUpdates, fit_updates, gains_for, other_layers
from override_gap.probes.readings.question_rows import QuestionRows
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, tiny
from tests.families import DOWN

ITEMS = [
    conflict(0, "alpha beta gamma"),
    conflict(1, "one two three", "red", "blue"),
    conflict(2, "pi rho sigma tau", "zeta", "eta"),
]
#: A random model knows no fact that two questions share: the same words at the end are the most that they can have in common.
OTHERWISE = [replace(item, question=f"mu {item.question}") for item in ITEMS]


@contextmanager
def merged(subject: Subject, parts: list[tuple[Adapter, float]]) -> Iterator[None]:
    """The model with gain * scale * B A added to its weights, which are put back."""
    before = {}
    for adapter, gain in parts:
        for path, update in adapter.parts():
            weight = subject.model.get_submodule(path).weight
            before.setdefault(path, weight.detach().clone())
            delta = gain * update.scale * update.B @ update.A
            with torch.no_grad():
                weight += delta if weight.shape == delta.shape and not is_transposed(subject, path) else delta.T
    try:
        yield
    finally:
        with torch.no_grad():
            for path, weight in before.items():
                subject.model.get_submodule(path).weight.copy_(weight)


def is_transposed(subject: Subject, path: str) -> bool:
    return type(subject.model.get_submodule(path)).__name__ == "Conv1D"


@torch.no_grad()
def own_margin(subject: Subject, item: Item) -> float:
    """z[y_pre] - z[y_doc] by the model's own forward pass over the question alone."""
    place = locate(subject, item)
    logits = subject.model(input_ids=torch.tensor([place.prefix])).logits[0, -1]
    return float(logits[place.pre] - logits[place.doc])


def down(subject: Subject, family: str) -> list[str]:
    return [path for path in subject.sites if path.endswith(DOWN.get(family, ("down_proj",)))]


def rows_of(subject: Subject, items: list[Item], first: int = 0) -> QuestionRows:
    return QuestionRows.of(subject, [locate(subject, item) for item in items], first)


def as_adapter(updates: Stack, n: int) -> Adapter:
    from override_gap.margins.updates import LowRank

    sites: Mapping[str, Factors] = updates.sites  # type: ignore[assignment]
    return Adapter(f"row {n}", {path: LowRank(pair.A[n], pair.B[n]) for path, pair in sites.items()})


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large steps: these models are small, and tests are to be fast."""
    monkeypatch.setattr(prior_dose, "RATE", 2e-2)
    monkeypatch.setattr(prior_dose, "BEYOND", 0.1)


def test_a_dose_moves_the_margin_of_the_updated_weights_by_itself(subject: Subject, family: str) -> None:
    # gemma2 caps its logits at 2 here: its margins cannot move by more than 4 in all
    furthest = {"gemma2": 0.5, "gpt2": -1.0}.get(family, 2.0)
    asked, taught = rows_of(subject, ITEMS), rows_of(subject, OTHERWISE)
    before = [own_margin(subject, item) for item in ITEMS]
    fitted = fit_updates(subject, down(subject, family), taught, asked, furthest, [1, 2, 3])
    doses = torch.tensor([furthest, furthest / 2, furthest / 4])
    found = gains_for(asked, fitted, doses)
    assert (asked.base - torch.tensor(before)).abs().max() < 1e-4
    assert (found.moved - doses).abs().max() <= prior_dose.CLOSE
    for n, item in enumerate(ITEMS):
        with merged(subject, [(as_adapter(fitted.updates, n), found.gains[n].item())]):
            after = own_margin(subject, item)
        assert after - before[n] == pytest.approx(doses[n].item(), abs=0.1)
        assert after - before[n] == pytest.approx(found.moved[n].item(), abs=1e-3)


def test_gains_are_where_a_fine_grid_of_gains_crosses_the_dose() -> None:
    subject = tiny("llama")
    asked = rows_of(subject, ITEMS)
    fitted = fit_updates(subject, down(subject, "llama"), rows_of(subject, OTHERWISE), asked, 2.0, [1, 2, 3])
    found = gains_for(asked, fitted, torch.full((3,), 1.0))
    grid = torch.linspace(0, 1, 201)
    for n in range(3):
        rows = [n] * len(grid)
        moved = asked.moved(rows, fitted.updates.only(rows), grid)
        nearest = grid[(moved - 1.0).abs().argmin()].item()
        assert found.gains[n].item() == pytest.approx(nearest, abs=0.01)


def test_an_update_does_not_depend_on_those_fitted_beside_it() -> None:
    subject = tiny("llama")
    asked, taught, paths = rows_of(subject, ITEMS), rows_of(subject, OTHERWISE), down(subject, "llama")
    together = fit_updates(subject, paths, taught, asked, 1.0, [1, 2, 3])
    alone = fit_updates(subject, paths, taught.repeated([1]), asked.repeated([1]), 1.0, [2])
    for path in paths:
        one, many = alone.updates.sites[path], together.updates.sites[path]
        assert (one.B[0] @ one.A[0] - many.B[1] @ many.A[1]).abs().max() < 1e-4
    assert alone.moved[0].item() == pytest.approx(together.moved[1].item(), abs=1e-3)


def test_upper_layers_alone_resume_from_the_base_and_read_the_same() -> None:
    subject = tiny("llama")
    paths = [path for path in down(subject, "llama") if ".0." not in path]
    whole = fit_updates(subject, paths, rows_of(subject, OTHERWISE), rows_of(subject, ITEMS), 1.0, [1, 2, 3])
    part = fit_updates(subject, paths, rows_of(subject, OTHERWISE, 1), rows_of(subject, ITEMS, 1), 1.0, [1, 2, 3])
    assert rows_of(subject, ITEMS, 1).blocks is not None
    assert (whole.moved - part.moved).abs().max() < 1e-3


def test_a_dose_out_of_reach_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior_dose, "STEPS", 1)
    monkeypatch.setattr(prior_dose, "RATE", 1e-5)
    subject = tiny("llama")
    asked = rows_of(subject, ITEMS)
    fitted = fit_updates(subject, down(subject, "llama"), rows_of(subject, OTHERWISE), asked, 8.0, [1, 2, 3])
    found = gains_for(asked, fitted, torch.full((3,), 8.0))
    assert (found.moved < 8 - prior_dose.REACHED).all()
    assert (found.gains <= prior_dose.MOST_GAIN).all()
    read = asked.moved([0, 1, 2], fitted.updates, found.gains)
    assert (read - found.moved).abs().max() < 1e-4


def test_the_regula_falsi_ends_on_a_curve_that_is_flat_first() -> None:
    """moved(g) = 8.5 g^6: plain regula falsi creeps along it."""

    class Curve(QuestionRows):
        def __init__(self) -> None:
            pass

        def moved(self, rows, updates, gains):
            return 8.5 * gains**6

    zero = Stack({"x.0": Factors(torch.zeros(2, 1, 1), torch.zeros(2, 1, 1))}, 2)
    doses = torch.tensor([0.5, 8.0])
    fitted = BeliefUpdates(zero, torch.tensor([8.5, 8.5]), 1)
    found = gains_for(Curve(), fitted, doses)  # type: ignore[arg-type]
    assert (found.gains - (doses / 8.5) ** (1 / 6)).abs().max() < 0.01


def test_other_layers_are_the_same_maps_where_the_adapter_does_not_act() -> None:
    subject = tiny("llama")
    first = [path for path in subject.sites if ".1.mlp.down_proj" in path or ".1.self_attn.q_proj" in path]
    found = other_layers(subject, first, first)
    assert sorted(found) == sorted(
        path for layer in (0, 2) for path in (p.replace(".1.", f".{layer}.", 1) for p in first)
    )
    assert other_layers(subject, down(subject, "llama"), down(subject, "llama")) == []
    assert all(
        ".0." in path for path in other_layers(subject, first, [*first, "model.layers.2.input_layernorm.weight"])
    )

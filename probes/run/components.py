"""Rows of the table `components`: what attention, its heads and the MLP of every layer add to an item's margin."""

from __future__ import annotations

from typing import Any

from override_gap.margins.condition_names import BASE, DELIVERED
from override_gap.probes.errors import SubjectError
from override_gap.probes.readings.components import Components, read_components
from override_gap.probes.run.batch import ItemBatch
from override_gap.probes.store.mechanism_tables import COMPONENTS
from override_gap.probes.subject.model import NO_NORM
from override_gap.probes.subject.partial_forward import KEPT_BYTES

PROBE = "components"


def component_rows(batch: ItemBatch) -> tuple[list[dict[str, Any]], tuple[dict[str, str], ...]]:
    """The rows of a batch, and what was not read of it: rows of `probe` with their `reason`.

    Two of the passes keep every block's input, so a large batch is read in parts.
    """
    subject = batch.setup.subject
    if subject.norm is None:
        return [], ({"probe": PROBE, "reason": NO_NORM},)
    try:
        writers = batch.setup.stream_writers
    except SubjectError as reason:
        return [], ({"probe": PROBE, "reason": str(reason)},)
    finite = (batch.at_gain_one.margins.net.isfinite() & batch.prior.strength.to(subject.device).isfinite()).tolist()
    numbers = [n for n, ok in enumerate(finite) if ok]
    per_row = batch.prior.batch.ids.shape[1] * subject.d_model * subject.n_layers * 8
    step = max(1, KEPT_BYTES // per_row)
    rows: list[dict[str, Any]] = []
    unread: dict[str, None] = {}
    for start in range(0, len(numbers), step):
        chosen = numbers[start : start + step]
        gains = batch.norms.new_ones(len(chosen), subject.n_layers)
        parts = read_components(subject, batch.prior.only(chosen), batch.stack.only(chosen), gains, writers)
        rows += _rows(batch, chosen, parts)
        unread |= dict.fromkeys(_gaps(parts))
    if any(all(writer.heads is None for writer in modules if writer.mixes) for modules in writers):
        unread["in some layers the heads of attention cannot be told apart"] = None
    return rows, tuple({"probe": PROBE, "reason": reason} for reason in unread)


def _gaps(parts: Components) -> list[str]:
    """Why rows are missing."""
    reasons = []
    if not bool(parts.closed.all()):
        reasons.append("the components of some items miss their margin by more than rounding; these items have no rows")
    if not bool((parts.heads_closed | ~parts.closed).all()):
        reasons.append(
            "the heads of some items miss their attention by more than rounding; these items have no head rows"
        )
    return reasons


def _rows(batch: ItemBatch, numbers: list[int], parts: Components) -> list[dict[str, Any]]:
    columns = {
        BASE: {"attribution": parts.base},
        DELIVERED: {
            "attribution": parts.adapted,
            "rescaled": parts.rescaled,
            "own": parts.own,
            "response": parts.response,
        },
    }
    closed, heads_closed = parts.closed.tolist(), parts.heads_closed.tolist()
    rows = []
    for condition, tensors in columns.items():
        lists = {name: tensor.cpu().double().tolist() for name, tensor in tensors.items()}
        for k, n in enumerate(numbers):
            item = batch.items[n]
            identity = {"item": item.id, "point": item.point, "split": item.split, "condition": condition}
            for column, component in enumerate(parts.names):
                if not closed[k] or (component.name in ("head", "bias") and not heads_closed[k]):
                    continue
                values = {name: by_row[k][column] for name, by_row in lists.items()}
                rows.append(
                    {
                        **identity,
                        "layer": component.layer,
                        "component": component.name,
                        "head": component.head,
                        **values,
                    }
                )
    assert not rows or set(rows[0]) <= set(COMPONENTS.names)
    return rows

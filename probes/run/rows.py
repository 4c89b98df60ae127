"""Rows: what was measured, as the columns of the run folder's tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.attribution import predicted_critical_gain
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item
from override_gap.probes.readings.adapted import Adapted
from override_gap.probes.readings.layers import LayerProfile
from override_gap.probes.readings.prior import Prior
from override_gap.probes.subject.model import Subject


def identity(item: Item, condition: str) -> dict[str, Any]:
    """The columns that an item has before anything is measured."""
    frequency = item.meta.get("frequency")
    wording = item.meta.get("wording")
    return {
        "item": item.id,
        "point": item.point,
        "split": item.split,
        "tier": item.tier,
        "condition": condition,
        "frequency": float(frequency) if isinstance(frequency, int | float) else None,
        "wording": None if wording is None else str(wording),
        "question": item.question,
        "document": item.document,
        "answer": item.answer,
        "prior_answer": item.prior_answer,
        "aliases": list(item.aliases),
        "prior_aliases": list(item.prior_aliases),
    }


def failed(item: Item, condition: str, reason: str) -> dict[str, Any]:
    """The row of an item that could not be measured: its reason and no numbers."""
    return {**identity(item, condition), "status": "error", "error": reason}


def readings(
    subject: Subject,
    items: Sequence[Item],
    places: Sequence[Divergence],
    prior: Prior,
    state: Adapted,
    condition: str,
    gains: Float[Tensor, "batch layer"] | None,
    norms: Sequence[float | None],
) -> list[dict[str, Any]]:
    """One row an item for one condition; an item whose logits are not finite becomes an error row."""
    m = state.margins
    columns = {
        "prior_logprob": prior.strength,
        "prior_logprob_per_token": prior.strength / prior.n_answer,
        "prior_margin": m.prior,
        "push": m.push,
        "pull": m.pull,
        "adapter_margin": m.adapter,
        "net_margin": m.net,
        "base_top_prob": prior.top_prob,
        "top_prob": state.top_prob,
        "doc_logprob": state.doc_logprob,
    }
    lists = {name: tensor.detach().cpu().double().tolist() for name, tensor in columns.items()}
    top, doc, kept = state.top.tolist(), prior.doc.tolist(), prior.top_at_divergence.tolist()
    base = prior.top.tolist()
    words = {token: subject.tokenizer.decode([token]) for token in {*base, *top}}
    rows = []
    for n, (item, place) in enumerate(zip(items, places, strict=True)):
        numbers = {name: values[n] for name, values in lists.items()}
        if not all(map(math.isfinite, numbers.values())):
            rows.append(failed(item, condition, "the model's logits are not finite"))
            continue
        retention = item.split == "retention"
        wins = numbers["net_margin"] > 0
        known = float(prior.known[n])
        rows.append(
            {
                **identity(item, condition),
                **numbers,
                "known": None if math.isnan(known) else bool(known),
                "success_margin": not wins if retention else wins,
                "success_top1": top[n] == (kept[n] if retention else doc[n]),
                "base_top_token": words[base[n]],
                "top_token": words[top[n]],
                "gain_mean": None if gains is None else float(gains[n].mean()),
                "adapter_norm": norms[n],
                "n_question_tokens": place.n_question_tokens,
                "status": "ok",
                "error": None,
            }
        )
    return rows


def critical(rows: Sequence[dict[str, Any]], measured: Sequence[float | None]) -> None:
    """Add the critical gains to the as-delivered rows of the items they were measured for."""
    for row, gain in zip(rows, measured, strict=True):
        if row["status"] == "ok" and gain is not None:
            row["critical_gain"] = gain
            row["critical_gain_predicted"] = predicted_critical_gain(row["prior_margin"], row["adapter_margin"])


def layers(
    items: Sequence[Item],
    condition: str,
    profile: LayerProfile,
    norms: Float[Tensor, "batch layer"],
    gains: Float[Tensor, "batch layer"],
    extra: Mapping[str, Float[Tensor, "batch layer"]],
) -> list[dict[str, Any]]:
    """One row an item and layer; layer -1 holds the embedding and the constant terms of the attribution."""
    rows = []
    shares, lens = profile.attribution.cpu().double().tolist(), profile.lens.cpu().double().tolist()
    sizes, loud = norms.double().tolist(), gains.double().tolist()
    added = {name: tensor.detach().cpu().double().tolist() for name, tensor in extra.items()}
    for n, item in enumerate(items):
        where = {"item": item.id, "point": item.point, "split": item.split, "condition": condition}
        rows.append({**where, "layer": -1, "attribution": _finite(shares[n][0])})
        for layer in range(len(lens[n])):
            rows.append(
                {
                    **where,
                    "layer": layer,
                    "norm": sizes[n][layer],
                    "gain": loud[n][layer],
                    "attribution": _finite(shares[n][layer + 1]),
                    "lens": _finite(lens[n][layer]),
                    **{name: _finite(values[n][layer]) for name, values in added.items()},
                }
            )
    return rows


def stacked_norms(norms: Sequence[Float[Tensor, " layer"]]) -> Float[Tensor, "batch layer"]:
    """The layer norms of a batch's adapters, in float32 for the policies."""
    return torch.stack(list(norms)).float()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

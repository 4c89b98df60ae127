"""Rows of the tables of a run folder, made from the tensors of a batch; probes/store/schema.py states their columns."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.attribution import predicted_critical_gain
from override_gap.margins.condition_names import BASE
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item
from override_gap.probes.readings.adapted import Adapted
from override_gap.probes.readings.layers import LayerProfile
from override_gap.probes.readings.prior import Prior
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.parity import format_name


def identity(item: Item, condition: str) -> dict[str, Any]:
    """The columns that the item and the condition determine, without measuring."""
    frequency = item.meta.get("frequency")
    wording, prior_from = item.meta.get("wording"), item.meta.get("prior_from")
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
        "prior_from": None if prior_from is None else str(prior_from),
        "relation": meta_text(item, "relation"),
        "kind": meta_text(item, "kind"),
        "needs": meta_text(item, "needs"),
        # once per item, not once per condition
        "meta": json.dumps(item.meta, sort_keys=True, default=str) if item.meta and condition == BASE else None,
    }


def meta_text(item: Item, name: str) -> str | None:
    """A field of an item's meta as text; None where it is absent, empty, or a list or a table."""
    value = item.meta.get(name)
    return str(value) if isinstance(value, str | int | float) and str(value).strip() else None


def add_clusters(table: Sequence[dict[str, Any]], items: Sequence[Item], name: str) -> None:
    """Add to each row the field of its item's meta by which facts are alike."""
    by_item = {item.id: meta_text(item, name) for item in items}
    for row in table:
        row["cluster"] = by_item.get(row["item"])


def failed(item: Item, condition: str, reason: str) -> dict[str, Any]:
    """The row of an item that could not be measured: the reason, and no numbers."""
    return {**identity(item, condition), "status": "error", "error": reason}


def refused(item: Item, condition: str, reason: str) -> dict[str, Any]:
    """The row of an item for which a condition has no adapter, or cannot know its gains in use: the reason, and no numbers."""
    return {**identity(item, condition), "status": "refused", "error": reason}


def not_finite(subject: Subject) -> str:
    """Why a row holds no numbers where the model's logits are not finite; a format of fewer digits may be the cause."""
    dtype = subject.coarsest_dtype
    return "the model's logits are not finite" + ("" if dtype == torch.float32 else f" in {format_name(dtype)}")


def readings(
    subject: Subject,
    items: Sequence[Item],
    divergences: Sequence[Divergence],
    prior: Prior,
    state: Adapted,
    condition: str,
    gains: Float[Tensor, "batch layer"] | None,
    norms: Sequence[float | None],
) -> list[dict[str, Any]]:
    """One row per item under one condition; an item whose logits are not finite becomes an error row."""
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
    kl = state.kl.detach().cpu().double().tolist()
    lists = {name: tensor.detach().cpu().double().tolist() for name, tensor in columns.items()}
    top, doc, base_arg_max = state.top.tolist(), prior.doc.tolist(), prior.top_at_divergence.tolist()
    base_top = prior.top.tolist()
    texts = {token: subject.tokenizer.decode([token]) for token in {*base_top, *top}}
    rows = []
    for n, (item, divergence) in enumerate(zip(items, divergences, strict=True)):
        numbers = {name: values[n] for name, values in lists.items()}
        if not all(map(math.isfinite, numbers.values())):
            rows.append(failed(item, condition, not_finite(subject)))
            continue
        retention = item.split == "retention"
        document_wins = numbers["net_margin"] > 0
        known = float(prior.known[n])
        rows.append(
            {
                **identity(item, condition),
                **numbers,
                "known": None if math.isnan(known) else bool(known),
                "success_margin": not document_wins if retention else document_wins,
                "success_top1": top[n] == (base_arg_max[n] if retention else doc[n]),
                "base_top_token": texts[base_top[n]],
                "top_token": texts[top[n]],
                # infinite where the condition alone gives some token no probability at all
                "kl": _finite(kl[n]),
                "gain_mean": None if gains is None else float(gains[n].mean()),
                "adapter_norm": norms[n],
                "n_question_tokens": divergence.n_question_tokens,
                "n_prior_tokens": divergence.n_prior_tokens,
                "n_answer_tokens": divergence.n_answer_tokens,
                "status": "ok",
                "error": None,
            }
        )
    return rows


def add_critical_gains(rows: Sequence[dict[str, Any]], gains: Sequence[float | None]) -> None:
    """Add measured and predicted critical gains to as-delivered rows; None where an item has none."""
    for row, gain in zip(rows, gains, strict=True):
        if row["status"] == "ok" and gain is not None:
            row["critical_gain"] = gain
            row["critical_gain_predicted"] = predicted_critical_gain(row["prior_margin"], row["adapter_margin"])


def layers(
    items: Sequence[Item],
    condition: str,
    profile: LayerProfile | None,
    norms: Float[Tensor, "batch layer"],
    gains: Float[Tensor, "batch layer"],
    further: Mapping[str, Float[Tensor, "batch layer"]],
) -> list[dict[str, Any]]:
    """One row per item and layer; layer -1 holds the embedding and the constant terms of the attribution.

    `profile`: None where margins cannot be split over layers. `further`: other columns, by name.
    """
    rows = []
    shares = None if profile is None else profile.attribution.cpu().double().tolist()
    lens = None if profile is None else profile.lens.cpu().double().tolist()
    layer_norms, layer_gains = norms.double().tolist(), gains.double().tolist()
    others = {name: tensor.detach().cpu().double().tolist() for name, tensor in further.items()}
    for n, item in enumerate(items):
        identity_columns = {"item": item.id, "point": item.point, "split": item.split, "condition": condition}
        if shares is not None:
            rows.append({**identity_columns, "layer": -1, "attribution": _finite(shares[n][0])})
        for layer in range(len(layer_norms[n])):
            rows.append(
                {
                    **identity_columns,
                    "layer": layer,
                    "norm": layer_norms[n][layer],
                    "gain": layer_gains[n][layer],
                    "attribution": None if shares is None else _finite(shares[n][layer + 1]),
                    "lens": None if lens is None else _finite(lens[n][layer]),
                    **{name: _finite(values[n][layer]) for name, values in others.items()},
                }
            )
    return rows


def stacked_norms(norms: Sequence[Float[Tensor, " layer"]]) -> Float[Tensor, "batch layer"]:
    """The layer norms of a batch's adapters, in float32 for the policies."""
    return torch.stack(list(norms)).float()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

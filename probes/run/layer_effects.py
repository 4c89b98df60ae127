"""What the layers of a batch's adapters do alone and when removed, and why what they write directly is not given."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from override_gap.probes.readings.adapted import stream_paths
from override_gap.probes.readings.layers import read_causal
from override_gap.probes.run.batch import ItemBatch
from override_gap.probes.run.condition_readings import ConditionReadings
from override_gap.probes.subject.weight_norms import changed_weight_norms


def causal_effects(batch: ItemBatch, under: ConditionReadings) -> dict[str, Float[Tensor, "batch layer"]]:
    """What each layer's update does alone and when it is removed, where that is read; and the norms of the weights changed."""
    if not under.as_delivered:
        return {}
    subject = batch.setup.subject
    weights = {"weight_norm": changed_weight_norms(subject.weights, batch.own_adapters, subject.n_layers)}
    if "causal" not in batch.setup.probes:
        return weights
    alone, removed = read_causal(subject, batch.prior, batch.stack, list(range(subject.n_layers)), batch.passes)
    return {**weights, "alone": alone, "removed": removed}


def unread_direct(batch: ItemBatch) -> tuple[dict[str, str], ...]:
    """Why what the adapters write directly is not given, as a row for the manifest."""
    paths = stream_paths(batch.setup.subject, batch.stack).values()
    reason = next((path.reason for path in paths if path.scale is None), None)
    return () if reason is None else ({"probe": "layers, direct", "reason": reason},)

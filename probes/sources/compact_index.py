"""The index of a compact file, checked before anything is read by it; and a compact file written from adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.at_gains import at_gains
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank, Update
from override_gap.probes.export_kit.kit import Writer

GainsOf = Callable[[Document, Adapter], tuple[float, ...]]
KINDS = {"low-rank": 2, "dense": 1, "vector": 1}
"""How many tensors an update of each kind is made of."""
ENTRY = frozenset({"key", "ids", "points", "updates", "shared", "sha256"})
NATIVE = {"document": str, "text": str, "ids": list, "logits": str}


def index_error(index: Any) -> str | None:
    """What the index lacks, in words; None where it is complete. Raises KeyError or TypeError where it is no index at all."""
    for entry in index["documents"]:
        if lacking := _entry_error(entry):
            return lacking
    if not isinstance(index["method"], str):
        return "the method's name as a string"
    if not all(isinstance(index.get(name), str | None) for name in ("base_fingerprint", "base", "template", "policy")):
        return "the base's fingerprint, its name, the template or the policy as a string"
    if "{document}" not in (index.get("template") or "{document}"):
        return "{document} in its template"
    if not isinstance(index.get("settings"), dict | None):
        return "the exporter's settings as an object"
    if not isinstance(index.get("reads_questions"), bool | None):
        return "reads_questions as true or false"
    native = index.get("native")
    if not isinstance(native, list | None) or not all(map(is_native_row, native or [])):
        return "native as rows of document, text, ids (token ids) and logits"
    return None


def _entry_error(entry: Any) -> str | None:
    """What an entry of the index lacks, in words; None where it is complete."""
    if not isinstance(entry, dict) or not entry.keys() >= ENTRY:
        return f"{', '.join(sorted(ENTRY))} for some document"
    if not all(isinstance(entry[name], str) for name in ("key", "sha256")):
        return "a key and a sha256 as strings"
    for name in ("ids", "points"):
        if not isinstance(entry[name], list) or not all(isinstance(word, str) for word in entry[name]):
            return f"{name} as a list of strings"
    gains = entry.get("gains", [])
    if not isinstance(gains, list) or not all(type(gain) in (int, float) for gain in gains):
        return "gains as a list of numbers"
    for part in ("updates", "shared"):
        if not isinstance(entry[part], dict) or not all(map(_is_update_row, entry[part].values())):
            return f"{part} as rows of kind, tensors and, for low-rank, scale"
    return None


def _is_update_row(row: Any) -> bool:
    """Whether a row of an entry states an update: its kind, its tensors and, for low-rank, its scale."""
    if not isinstance(row, dict) or row.get("kind") not in KINDS or not isinstance(row.get("tensors"), list):
        return False
    scaled = row["kind"] != "low-rank" or type(row.get("scale")) in (int, float)
    names = all(isinstance(name, str) for name in row["tensors"])
    return scaled and names and len(row["tensors"]) == KINDS[row["kind"]]


def is_native_row(row: Any) -> bool:
    """Whether a row states where native logits are and what the method's model had read: at least one token."""
    if not isinstance(row, dict) or not all(isinstance(row.get(name), kind) for name, kind in NATIVE.items()):
        return False
    return bool(row["ids"]) and all(type(token) is int and token >= 0 for token in row["ids"])


def write_compact(
    path: Path,
    documents: Sequence[Document],
    adapters: Iterable[Adapter],
    *,
    method: str,
    base_fingerprint: str | None = None,
    reads_questions: bool = False,
    native: Iterable[tuple[str, str, Sequence[int], Tensor]] = (),
    policy: str | None = None,
    gains_of: GainsOf | None = None,
) -> None:
    """Write the documents' adapters to one file, each as it comes; a part that several have is stored once.

    `gains_of`: the gain of each layer at which a document's adapter is written, by the policy named `policy`. `native`:
    (document's key, text, token ids, the method's own logits at the last of them). Raises ValueError where there is not one
    adapter per document.
    """
    with Writer(path, len(documents), overwrite=True) as writer:
        for document, adapter in zip(documents, adapters, strict=True):
            row: dict[str, Any] = {"key": document.key, "ids": document.ids, "points": document.points}
            if gains_of is not None:
                row["gains"] = gains_of(document, adapter)
                adapter = at_gains(adapter, row["gains"])
            writer.add(row, _kit_updates(adapter.updates), _kit_updates(adapter.shared), None)
        for example in native:
            writer.add_native(*example)
        told: dict[str, Any] = {"reads_questions": True} if reads_questions else {}
        told |= {} if policy is None else {"policy": policy}
        writer.finish({"method": method, "base_fingerprint": base_fingerprint, **told})


def _kit_updates(updates: Mapping[str, Update]) -> dict[str, Any]:
    """Updates as the kit takes them."""
    return {path: (u.A, u.B, u.scale) if isinstance(u, LowRank) else u.delta for path, u in updates.items()}

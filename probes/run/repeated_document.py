"""One document's adapter made again with every unit: a user's own code reads files that no hash covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from override_gap.margins.adapter import Adapter, AdapterSource
from override_gap.margins.items.item import Document
from override_gap.margins.runtime import Prefix
from override_gap.probes.errors import AdapterChanged
from override_gap.probes.run.encode import encode
from override_gap.probes.subject.model import Subject


@dataclass(frozen=True)
class RepeatedDocument:
    """A document of the run and the hash of the adapter that was made of it when the run began.

    `sha256` is None where there is nothing to compare with: the source failed on it, or gave another adapter the second time.
    """

    document: Document
    sha256: str | None

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        return {"document": self.document.key, "sha256": self.sha256}

    def require_same(self, source: AdapterSource) -> None:
        """Raise AdapterChanged where the source makes another adapter of the document now."""
        if self.sha256 is not None and adapter_hash(source, self.document) != self.sha256:
            raise AdapterChanged(
                f"source {source.name}: the adapter of document {self.document.key} is another than when the run began, so "
                "what the source reads has changed"
            )


def repeated_document(
    subject: Subject, source: AdapterSource, documents: Sequence[Document], recorded: Mapping[str, Any] | None = None
) -> RepeatedDocument | None:
    """The first document that has a text, with its adapter's hash: what the manifest `recorded`, else made now, twice."""
    document = next((document for document in documents if document.text.strip()), None)
    if document is None:
        return None
    if recorded is not None and recorded.get("document") == document.key:
        return RepeatedDocument(document, recorded.get("sha256"))
    first = adapter_hash(source, document)
    return RepeatedDocument(document, first if first == adapter_hash(source, document) else None)


def adapter_hash(source: AdapterSource, document: Document) -> str | None:
    """The hash of one document's adapter, made by itself from one state of torch's generators; None where it has none.

    The generators are left as they were.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapter = encode(source, (document,)).adapters.get(document.text)
    return adapter.hash() if isinstance(adapter, Adapter | Prefix) else None

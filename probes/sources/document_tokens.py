"""Documents in tokens, as a source's model reads them: one that is longer than the model's positions is refused by itself."""

from __future__ import annotations

from collections.abc import Sequence

from override_gap.margins.items.item import Document
from override_gap.probes.errors import DocumentError
from override_gap.probes.subject.model import Subject


def document_tokens(subject: Subject, documents: Sequence[Document], source: str) -> list[list[int]]:
    """The tokens of each document. Raises DocumentError, which names the source and the document, where one is too long."""
    rows = [subject.tokenize(document.text) for document in documents]
    require_room(documents, rows, subject.max_positions, source)
    return rows


def require_room(
    documents: Sequence[Document], rows: Sequence[Sequence[int]], positions: int | None, source: str
) -> None:
    """Raise DocumentError where a document has more tokens than the model that reads it has positions.

    Beyond them a model with learned positions fails, and one with relative ones was not trained: what a source would make
    of such a document is not what its method makes.
    """
    for document, row in zip(documents, rows, strict=True):
        if positions is not None and len(row) > positions:
            raise DocumentError(
                f"{source}: document {document.text[:40]!r} has {len(row):,} tokens, more than the model's {positions:,} "
                "positions; shorten it or leave its items out"
            )

"""Documents without an adapter: named with the reason, and memory is released where it ran out and nowhere else."""

from __future__ import annotations

import pytest

from override_gap.margins.items.item import Document
from override_gap.probes.errors import AdapterError
from override_gap.probes.run import encode as module
from override_gap.probes.sources.fitted import FittedAdapters
from tests.conftest import tiny

DOCUMENTS = [Document(text) for text in ("alpha", "beta", "gamma")]


@pytest.mark.parametrize(
    ("cause", "reason", "times"), [(None, "none for this", 0), (MemoryError(), "memory ran out", 5)]
)
def test_memory_is_released_only_where_it_ran_out(
    cause: Exception | None, reason: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three documents are asked for together, then in halves: five questions in all, each refused."""
    asked, released = [], []

    def refuse(_source: object, documents: list[Document]) -> None:
        asked.append(len(documents))
        raise AdapterError("none for this document") from cause

    monkeypatch.setattr(module, "encode_checked", refuse)
    monkeypatch.setattr(module, "release_memory", lambda: released.append(True))
    found = module.encode(FittedAdapters(tiny("llama"), steps=1), DOCUMENTS)
    assert sorted(asked) == [1, 1, 1, 2, 3]
    assert len(released) == times
    assert set(found.broken) == {document.text for document in DOCUMENTS}
    assert all(reason in why for why in found.broken.values())

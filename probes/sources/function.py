"""Function: a user's function from a document's text to factors, as a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from margins.adapter import Adapter
from margins.items import Document
from margins.updates import LowRank, Update
from probes.sites import AdapterError
from probes.sources.foreign import foreign_code, load_object, source_hash

Factors = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Function:
    """Adapters from `call(text)`: path -> (A [rank, d_in], B [d_out, rank], scale). The scale is never left out.

    The code of the function's module (its whole package, where it is in one) is part of the run's identity. What it reads
    is not: weights in a file are known by a hash only from a source that says so in its `settings`.
    """

    spec: str
    call: Callable[[str], Factors]

    @property
    def name(self) -> str:
        """As reports print it."""
        return self.spec.rpartition(":")[2]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Where the function is, and the hash of its code."""
        return {"function": self.spec, "code": source_hash(self.call)}

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter a document. Raises AdapterError for what is not factors with a scale."""
        return [Adapter(f"{self.name}:{document.key}", self._updates(document)) for document in documents]

    def _updates(self, document: Document) -> dict[str, Update]:
        with foreign_code(f"callable:{self.spec}: it failed on document {document.text[:40]!r}"):
            factors = self.call(document.text)
        if not isinstance(factors, Mapping) or not all(isinstance(path, str) for path in factors):
            raise AdapterError(
                f"callable:{self.spec}: need a mapping from module path to (A, B, scale), got {type(factors).__name__}"
            )
        return {path: self._update(path, own) for path, own in factors.items()}

    def _update(self, path: str, factors: Any) -> Update:
        if not (isinstance(factors, tuple) and len(factors) == 3 and all(isinstance(f, Tensor) for f in factors[:2])):
            raise AdapterError(f"callable:{self.spec}: {path}: need (A [rank, d_in], B [d_out, rank], scale)")
        A, B, scale = factors
        try:
            return LowRank(A, B, float(scale))
        except (TypeError, ValueError) as fault:
            raise AdapterError(f"callable:{self.spec}: {path}: {fault}") from fault


def open_function(spec: str) -> Function:
    """The function that `module:function` names. Raises AdapterError."""
    found = load_object(spec)
    if not callable(found):
        raise AdapterError(f"callable:{spec}: need a function from text to factors, got {type(found).__name__}")
    call: Any = found
    return Function(spec, call)

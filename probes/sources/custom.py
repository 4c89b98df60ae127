"""Foreign sources: adapters from code outside this package, by `module:object` or by an entry point."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from override_gap.margins.adapter import Adapter, AdapterSource, AnyAdapter, traits_of
from override_gap.margins.items.item import Document
from override_gap.margins.runtime import NO_AMPLITUDE, Prefix, RuntimeAdapter
from override_gap.margins.updates import LowRank, Update
from override_gap.probes.errors import AdapterError, as_adapter_error
from override_gap.probes.subject.model import Subject


def open_custom(spec: str, subject: Subject) -> AdapterSource:
    """The source at `module:object`: the object itself, or what it returns when called with the subject.

    Raises AdapterError where the module or object is missing, or where the source lacks what every source has.
    """
    found = load_object(spec)
    made = found if isinstance(found, AdapterSource) and not isinstance(found, type) else _called(spec, found, subject)
    missing = [name for name in ("name", "settings", "encode") if not hasattr(made, name)]
    if missing:
        raise AdapterError(
            f"--adapters {spec}: a source needs name, settings and encode(documents); "
            f"{type(made).__name__} has no {', '.join(missing)}"
        )
    traits_of(made)
    return made


def delivered(source: AdapterSource, documents: Sequence[Document]) -> list[AnyAdapter]:
    """What the source makes of each document: an Adapter, or a Prefix or Opaque where it is not static.

    Raises AdapterError where it returns anything else, or not one for each.
    """
    static = traits_of(source).static
    kinds = (Adapter,) if static else (Prefix, RuntimeAdapter)
    with as_adapter_error(f"source {source.name}: encode failed"):
        made = source.encode(documents)
    if not isinstance(made, Sequence) or len(made) != len(documents) or not all(isinstance(a, kinds) for a in made):
        came = f"{len(made)} of them" if isinstance(made, Sequence) else type(made).__name__
        odd = [type(a).__name__ for a in made if not isinstance(a, kinds)] if isinstance(made, Sequence) else []
        raise AdapterError(
            f"source {source.name}: encode needs to return {len(documents)} adapters in order ("
            f"{' or '.join(kind.__name__ for kind in kinds)}, since static is {static}), got {came}"
            + (f", {odd[0]} among them" if odd else "")
        )
    return list(made)


def encoded(source: AdapterSource, documents: Sequence[Document]) -> list[Adapter]:
    """The source's adapters as updates of the weights. Raises AdapterError also where it makes none."""
    if not traits_of(source).static:
        raise AdapterError(f"source {source.name} hands over no adapter that can be scaled or written: {NO_AMPLITUDE}")
    return [made for made in delivered(source, documents) if isinstance(made, Adapter)]


def source_hash(thing: Any) -> str | None:
    """SHA-256 over the code that a function, or an object's class, comes from: its module, or every module of its package.

    None for what has no file of its own: built in, typed at a prompt, or of this package, whose code is hashed anyway.
    """
    where = thing if inspect.isroutine(thing) or isinstance(thing, type) else type(thing)
    name = str(getattr(where, "__module__", None) or "")
    top = name.partition(".")[0]
    module, package = sys.modules.get(name), sys.modules.get(top)
    file = getattr(module, "__file__", None)
    if file is None or top in ("override_gap", "builtins"):
        return None
    folders = list(getattr(package, "__path__", []))
    files = sorted(Path(folders[0]).rglob("*.py")) if folders else [Path(file)]
    digest = hashlib.sha256()
    for one in files:
        digest.update(f"{one.name}\0".encode() + hashlib.sha256(one.read_bytes()).digest())
    return digest.hexdigest()


def load_object(spec: str) -> Any:
    """The object that `module:object` names. Raises AdapterError."""
    module, _, name = spec.partition(":")
    if not module or not name:
        raise AdapterError(f"{spec!r}: need MODULE:OBJECT")
    with as_adapter_error(f"{spec}: module {module!r} cannot be imported"):
        found = importlib.import_module(module)
    for part in name.split("."):
        if not hasattr(found, part):
            raise AdapterError(f"{spec}: {module} has no {name!r}")
        found = getattr(found, part)
    return found


def _called(spec: str, maker: Any, subject: Subject) -> Any:
    if not callable(maker):
        raise AdapterError(
            f"--adapters {spec}: need a source or a callable subject -> source, got {type(maker).__name__}"
        )
    with as_adapter_error(f"--adapters {spec}: it failed when called with the subject"):
        return maker(subject)


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
        with as_adapter_error(f"callable:{self.spec}: it failed on document {document.text[:40]!r}"):
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

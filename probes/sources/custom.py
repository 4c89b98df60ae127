"""A user's own source: an object or function named `module:object`, imported from an installed package or the current folder."""

from __future__ import annotations

import difflib
import importlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, AdapterSource, AnyAdapter, traits_of
from override_gap.margins.items.item import Document
from override_gap.margins.runtime import NO_AMPLITUDE, Prefix, RuntimeAdapter
from override_gap.margins.updates import LowRank, Update
from override_gap.probes.environment import current_folder_last
from override_gap.probes.errors import AdapterError, as_adapter_error
from override_gap.probes.source_hash import source_hash
from override_gap.probes.subject.model import Subject


def open_custom(spec: str, subject: Subject) -> AdapterSource:
    """The source at `module:object`: the object itself, or what it returns when called with the subject.

    Raises AdapterError where the module or object is missing, or where the source lacks what every source has.
    """
    thing = load_object(spec)
    is_source = isinstance(thing, AdapterSource) and not isinstance(thing, type)
    source = thing if is_source else _call(spec, thing, subject)
    return require_source(source, f"--adapters {spec}")


def require_source(source: Any, what: str) -> AdapterSource:
    """The source, if it has what every source has. Raises AdapterError, which begins with `what`."""
    missing = [name for name in ("name", "settings", "encode") if not hasattr(source, name)]
    if missing:
        raise AdapterError(
            f"{what}: a source needs name, settings and encode(documents); "
            f"{type(source).__name__} has no {', '.join(missing)}"
        )
    if not isinstance(source.settings, Mapping):
        raise AdapterError(f"{what}: settings need to be a mapping, got {type(source.settings).__name__}")
    require_plain_settings(source, what)
    traits_of(source)
    return source


def require_plain_settings(source: AdapterSource, what: str) -> None:
    """Raise AdapterError where a setting is not plain JSON: settings are hashed and written into a run's manifest."""
    settings = source.settings if isinstance(source.settings, Mapping) else {}  # `require_source` refuses what is none
    for name, value in settings.items():
        found = _not_plain(value) if isinstance(name, str) else ("", name)
        if found is not None:
            raise AdapterError(
                f"{what}: source {source.name}: setting {f'{name}{found[0]}'!r} is {_kind(found[1])}; need plain JSON "
                "(text, finite numbers, true, false, null, lists, objects), so give the hash of anything else"
            )


def _not_plain(value: Any) -> tuple[str, Any] | None:
    """(where within the value, what is there) of the first thing that is not plain JSON."""
    if isinstance(value, dict):
        inner = [(f".{key}", child) for key, child in value.items()]
        odd = next((key for key in value if not isinstance(key, str)), None)
        if odd is not None:
            return f".{odd}", odd
    elif isinstance(value, list | tuple):
        inner = [(f"[{n}]", child) for n, child in enumerate(value)]
    else:
        plain = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
        return None if plain else ("", value)
    found = ((where, _not_plain(child)) for where, child in inner)
    return next(((where + deep[0], deep[1]) for where, deep in found if deep is not None), None)


def _kind(value: Any) -> str:
    """What a value is: its type, or the number itself where it is not finite."""
    return repr(value) if isinstance(value, float) else f"of type {type(value).__name__}"


def encode_checked(source: AdapterSource, documents: Sequence[Document]) -> list[AnyAdapter]:
    """The source's adapters, one per document: Adapters, or Prefixes and RuntimeAdapters from a source that is not static.

    Raises AdapterError where `encode` fails or returns anything else.
    """
    static = traits_of(source).static
    kinds = (Adapter,) if static else (Prefix, RuntimeAdapter)
    with as_adapter_error(f"source {source.name}: encode failed"), current_folder_last():
        adapters = source.encode(documents)
    is_list = isinstance(adapters, Sequence)
    wrong = [type(adapter).__name__ for adapter in adapters if not isinstance(adapter, kinds)] if is_list else []
    if not is_list or len(adapters) != len(documents) or wrong:
        came = f"{len(adapters)} of them" if is_list else type(adapters).__name__
        raise AdapterError(
            f"source {source.name}: encode needs to return {len(documents)} adapters in order ("
            f"{' or '.join(kind.__name__ for kind in kinds)}, since static is {static}), got {came}"
            + (f", {wrong[0]} among them" if wrong else "")
        )
    return list(adapters)


def at_the_last(source: AdapterSource, logits: Any) -> Float[Tensor, " vocab"]:
    """The logits at the last position of what `native_logits` returned. Raises AdapterError for anything but such a tensor."""
    if not isinstance(logits, Tensor):
        came = "None" if logits is None else type(logits).__name__
    elif logits.is_floating_point() and logits.ndim in (1, 2, 3) and logits.numel():
        return logits.reshape(-1, logits.shape[-1])[-1]
    else:
        came = f"{str(logits.dtype).removeprefix('torch.')} {list(logits.shape)}"
    raise AdapterError(f"source {source.name}: native_logits needs a tensor [vocab] or [pos, vocab], got {came}")


def encode_updates(source: AdapterSource, documents: Sequence[Document]) -> list[Adapter]:
    """The source's adapters as weight updates, one per document. Raises AdapterError also where the source is not static."""
    if not traits_of(source).static:
        raise AdapterError(f"source {source.name} has no adapters that can be scaled or written: {NO_AMPLITUDE}")
    return [adapter for adapter in encode_checked(source, documents) if isinstance(adapter, Adapter)]


def load_object(spec: str) -> Any:
    """The object that `module:object` names. Raises AdapterError.

    An installed module goes before one of the current folder. What a module of the current folder imports is found there too.
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        raise AdapterError(f"{spec!r}: need MODULE:OBJECT")
    with as_adapter_error(f"{spec}: module {module!r} cannot be imported"), current_folder_last():
        importlib.invalidate_caches()
        try:
            thing: Any = importlib.import_module(module)
        except ModuleNotFoundError as fault:
            if fault.name is not None and f"{module}.".startswith(f"{fault.name}."):
                raise AdapterError(_not_found(spec, module)) from fault
            raise
    code = thing
    for part in name.split("."):
        if not hasattr(thing, part):
            raise AdapterError(_has_no(spec, code, name))
        thing = getattr(thing, part)
    return thing


def _not_found(spec: str, module: str) -> str:
    """The message for a module that is neither installed nor in the current folder."""
    names = [file.stem for file in sorted(Path().glob("*.py"))]
    near = difflib.get_close_matches(module.removesuffix(".py"), names, n=1, cutoff=0.75)
    do = f"did you mean {near[0]}:{spec.partition(':')[2]}?" if near else "run this in the folder that holds it"
    return (
        f"{spec}: module {module!r} cannot be imported: neither an installed module nor a file {module}.py or folder "
        f"{module} in the current folder, {os.getcwd()}; {do}"
    )


def _has_no(spec: str, module: ModuleType, name: str) -> str:
    """The message for a module without the object, which may be another module than the user meant."""
    near = difflib.get_close_matches(name, [word for word in vars(module) if not word.startswith("_")], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    file, own = getattr(module, "__file__", None), Path(f"{module.__name__}.py").resolve()
    if own.is_file() and (file is None or Path(file).resolve() != own):
        hint = (
            f"; {module.__name__} is the installed module {file or 'built into Python'}, which goes before {own.name} "
            "in the current folder: rename your file"
        )
    return f"{spec}: {module.__name__} has no {name!r}{hint}"


def _call(spec: str, maker: Any, subject: Subject) -> Any:
    """What a function subject -> source returns. Raises AdapterError for what cannot be called, and where it fails."""
    if not callable(maker):
        raise AdapterError(
            f"--adapters {spec}: need a source or a function subject -> source, got {type(maker).__name__}"
        )
    with as_adapter_error(f"--adapters {spec}: it failed when called with the subject"), current_folder_last():
        return maker(subject)


@dataclass(frozen=True, eq=False)
class FunctionSource:
    """Adapters from `call(text)`: module path -> (A [rank, d_in], B [d_out, rank], scale). The scale is never left out.

    The code of the function's module (of its whole package, where it is in one) is part of the run's identity. Files that it
    reads are not: a change of weights in a file is noticed only where a source hashes it into its `settings`.
    """

    spec: str
    call: Callable[[str], Mapping[str, Any]]
    code: str | None

    @property
    def name(self) -> str:
        """The function's name, as reports print it."""
        return self.spec.rpartition(":")[2]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Where the function is, and the hash of its code as it was when the function was loaded."""
        return {"function": self.spec, "code": self.code}

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter per document. Raises AdapterError for what is not factors with a scale."""
        return [Adapter(f"{self.name}:{document.key}", self._updates(document)) for document in documents]

    def _updates(self, document: Document) -> dict[str, Update]:
        with (
            as_adapter_error(f"callable:{self.spec}: it failed on document {document.text[:40]!r}"),
            current_folder_last(),
        ):
            factors = self.call(document.text)
        if not isinstance(factors, Mapping) or not all(isinstance(path, str) for path in factors):
            raise AdapterError(
                f"callable:{self.spec}: need a mapping from module path to (A, B, scale), got {type(factors).__name__}"
            )
        return {path: self._update(path, triple) for path, triple in factors.items()}

    def _update(self, path: str, triple: Any) -> Update:
        if not (isinstance(triple, tuple) and len(triple) == 3 and all(isinstance(f, Tensor) for f in triple[:2])):
            raise AdapterError(f"callable:{self.spec}: {path}: need (A [rank, d_in], B [d_out, rank], scale)")
        A, B, scale = triple
        try:
            return LowRank(A, B, float(scale))
        except (TypeError, ValueError) as fault:
            raise AdapterError(f"callable:{self.spec}: {path}: {fault}") from fault


def open_function(spec: str) -> FunctionSource:
    """The source that calls the function at `module:function` on each text. Raises AdapterError."""
    thing = load_object(spec)
    if not callable(thing):
        raise AdapterError(f"callable:{spec}: need a function from text to factors, got {type(thing).__name__}")
    function: Any = thing
    return FunctionSource(spec, function, source_hash(function))

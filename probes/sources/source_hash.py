"""The hash of a source's code, so that a changed method is measured again: of its files, or of what was typed without any."""

from __future__ import annotations

import hashlib
import inspect
import sys
from pathlib import Path
from types import CodeType
from typing import Any

SIMPLE = (int, float, complex, str, bytes, bool, type(None), tuple)


def source_hash(thing: Any) -> str | None:
    """SHA-256 over the code that a function, or an object's class, comes from: its module, or every module of its package.

    What was typed at a prompt, in a notebook or through a pipe has no file: then over the code of every function and class
    that was typed there, and the plain values that they name. None for what is built in, and for this package, whose code is
    hashed anyway.
    """
    owner = thing if inspect.isroutine(thing) or isinstance(thing, type) else type(thing)
    name = str(getattr(owner, "__module__", None) or "")
    top = name.partition(".")[0]
    if top in ("override_gap", "builtins"):
        return None
    module, package = sys.modules.get(name), sys.modules.get(top)
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).is_file():
        return _hash_of_typed_code(owner, vars(module) if module else {})
    folders = list(getattr(package, "__path__", []))
    files = sorted(Path(folders[0]).rglob("*.py")) if folders else [Path(file)]
    digest = hashlib.sha256()
    for code in files:
        digest.update(f"{code.name}\0".encode() + hashlib.sha256(code.read_bytes()).digest())
    return digest.hexdigest()


def _hash_of_typed_code(owner: Any, namespace: dict[str, Any]) -> str | None:
    """SHA-256 over functions and classes without a file; None where none of them is Python code."""
    module = owner.__module__
    typed = {name: v for name, v in namespace.items() if getattr(v, "__module__", None) == module}
    codes = [code for name, value in sorted({**typed, "": owner}.items()) for code in _codes(value)]
    if not codes:
        return None
    digest = hashlib.sha256()
    named: set[str] = set()
    while codes:
        code = codes.pop()
        named |= set(code.co_names)
        digest.update(code.co_code + repr((code.co_name, code.co_names, code.co_varnames)).encode())
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                codes.append(constant)
            else:  # a set of constants has no order of its own
                digest.update(
                    repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant).encode()
                )
    for name in sorted(named & namespace.keys()):
        if isinstance(namespace[name], SIMPLE):
            digest.update(f"{name}={namespace[name]!r}\0".encode())
    return digest.hexdigest()


def _codes(thing: Any) -> list[CodeType]:
    """The code of a function, or of a class's functions and those of the classes that it extends."""
    if isinstance(thing, type):
        parts = [part for base in thing.__mro__ if base is not object for _, part in sorted(vars(base).items())]
    else:
        parts = [thing]
    functions = []
    for part in parts:
        if isinstance(part, property):
            functions += [part.fget, part.fset]
        else:
            functions.append(getattr(part, "__func__", getattr(part, "func", part)))
    return [code for f in functions if isinstance(code := getattr(f, "__code__", None), CodeType)]

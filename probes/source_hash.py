"""The hash of a source's code, so that a changed method is measured again: of its files, or of what was typed without any."""

from __future__ import annotations

import hashlib
import inspect
import sys
from pathlib import Path
from types import CellType, CodeType, FunctionType
from typing import Any

#: Where a class stands, not what it does.
PLACES = ("__module__", "__firstlineno__", "__doc__")
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
    """SHA-256 over functions and classes without a file, and the plain values in them; None where none is Python code."""
    module = owner.__module__
    typed = {name: v for name, v in namespace.items() if getattr(v, "__module__", None) == module}
    functions = [part for _, value in sorted({**typed, "": owner}.items()) for part in _functions(value)]
    if not functions:
        return None
    digest = hashlib.sha256()
    for part in _attributes(owner):
        digest.update(part.encode())
    named: set[str] = set()
    codes = []
    for function in functions:
        codes.append(function.__code__)
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *cells]
        digest.update(repr([value for value in values if isinstance(value, SIMPLE)]).encode())
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
        value = namespace[name]
        if isinstance(value, SIMPLE):
            digest.update(f"{name}={value!r}\0".encode())
        elif name in typed and isinstance(value, type):
            digest.update("".join(_attributes(value)).encode())
    return digest.hexdigest()


def _functions(thing: Any) -> list[FunctionType]:
    """A function, or a class's functions and those of the classes that it extends."""
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
    return [function for function in functions if isinstance(function, FunctionType)]


def _attributes(thing: Any) -> list[str]:
    """The plain values that stand in a class, and in the classes that it extends."""
    bases = thing.__mro__ if isinstance(thing, type) else ()
    attributes = [(base.__qualname__, name, value) for base in bases for name, value in vars(base).items()]
    return sorted(
        f"{base}.{name}={v!r}\0" for base, name, v in attributes if isinstance(v, SIMPLE) and name not in PLACES
    )


def _is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is cell.cell_contents
    except ValueError:  # the name is not bound yet
        return False

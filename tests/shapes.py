"""Annotations are checked at each call: jaxtyping's import hook, whose checks are made when a function is first called.

jaxtyping's own decorator makes two checks of every function while its module is imported, binds the arguments at each call and
checks them twice. Here a function is prepared when it is first called, its arguments and what it returns are checked once, and
names of dimensions are kept only for functions that state shapes. An int will do for a float.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
whole = jaxtyping.jaxtyped


def install() -> None:
    """Check every annotation of the packages, which must not be imported yet."""
    jaxtyping.jaxtyped = on_first_call  # what the hook writes above each function and class
    jaxtyping.install_import_hook("override_gap", f"{__name__}.checked")


def on_first_call(fn: Any = None, *, typechecker: Any = None) -> Any:
    if isinstance(fn, str):  # the block in which dimensions are kept
        return whole("context")
    if fn is None:
        return functools.partial(on_first_call, typechecker=typechecker)
    if inspect.isclass(fn):
        unchecked = getattr(fn, "__no_type_check__", False)  # the class checks itself, with messages for people
        if dataclasses.is_dataclass(fn) and "__init__" in vars(fn) and not unchecked:
            fn.__init__ = on_first_call(vars(fn)["__init__"])
        return fn
    assert isinstance(fn, FunctionType), fn
    ready: list[Callable] = []

    @functools.wraps(fn)
    def called(*args: Any, **named: Any) -> Any:
        __tracebackhide__ = True
        if not ready:
            ready.append(prepared(fn))
        return ready[0](*args, **named)

    return called


def prepared(fn: FunctionType) -> Callable:
    """The function with its checks; dimensions are one function's own, so they are kept per call."""
    hints = {name: read(hint, fn) for name, hint in fn.__annotations__.items()}
    own = FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, fn.__closure__)
    own.__kwdefaults__, own.__annotations__, own.__qualname__ = fn.__kwdefaults__, hints, fn.__qualname__
    own.__module__, own.__dict__ = fn.__module__, dict(vars(fn))
    if inspect.isgeneratorfunction(own):  # its body runs after the call, when dimensions are others'
        return whole(own, typechecker=checked)
    check = checked(own)
    if not any(map(states_shapes, hints.values())):
        return check

    def shaped(*args: Any, **named: Any) -> Any:
        __tracebackhide__ = True
        with whole("context"):
            return check(*args, **named)

    return shaped


def read(hint: Any, fn: FunctionType) -> Any:
    """An annotation as an object; Any if it names what the type checker alone imports, or what a test has replaced."""

    def holder() -> None: ...

    holder.__annotations__ = {"hint": hint}
    try:
        found = get_type_hints(holder, fn.__globals__, include_extras=True)["hint"]
    except Exception:
        return Any
    return Any if isinstance(found, FunctionType) else found


def states_shapes(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    within = hint if isinstance(hint, list) else get_args(hint)
    return any(map(states_shapes, within))

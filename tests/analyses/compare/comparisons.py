"""A comparison of two or three methods with the numbers that a test wants, in the form of `Methods.as_json()`."""

from __future__ import annotations

from typing import Any


def share(value: float, low: float, high: float, n: int = 20, points: int = 15) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n, "points": points}


def pair(
    first: str, second: str, lead: tuple[float, float, float, float], times: int, turned: bool = False
) -> dict[str, Any]:
    """The paired row of a lead (value, low, high, p) of the first over the second; `turned`: the second stands first."""
    value, low, high, p = lead
    wide = (low, high) if times == 1 else (low - 0.02, high + 0.02)
    row = {"first": first, "second": second, "split": "conflict", "measure": "top1", "tier": None, "population": "all"}
    row |= {"gained": 5, "lost": 1, "p": p, "p_holm": min(1.0, times * p)}
    if turned:
        row |= {"first": second, "second": first}
        value, low, high, wide = -value, -high, -low, (-wide[1], -wide[0])
    return {**row, "difference": share(value, low, high), "low_holm": wide[0], "high_holm": wide[1]}


def comparison(
    lead: tuple[float, float, float, float],
    value: float = 0.9,
    retention: bool = True,
    third: bool = False,
    turned: bool = False,
) -> dict[str, Any]:
    """Method "one" ahead of "two" by `lead`, and of "three" by more."""
    names = ["one", "two", *(["three"] if third else [])]
    shares = {
        "one": share(value, value - 0.1, value + 0.05),
        "two": share(value - lead[0], value - lead[0] - 0.1, 0.99),
    }
    shares["three"] = share(value - lead[0] - 0.05, 0.1, 0.5)
    kept = {"one": share(0.97, 0.9, 0.99), "two": share(0.99, 0.92, 1.0), "three": share(0.99, 0.92, 1.0)}
    times = 3 if third else 1
    pairs = [pair("one", "two", lead, times, turned)]
    if third:
        pairs += [
            pair("one", "three", (lead[0] + 0.05, *lead[1:]), times),
            pair("two", "three", (0.05, -0.1, 0.2, 0.5), 1),
        ]
    where = {"measure": "top1", "tier": None, "population": "all"}
    outcomes = [{"split": "conflict", "method": name, **where, **shares[name]} for name in names]
    if retention:
        outcomes += [{"split": "retention", "method": name, **where, **kept[name]} for name in names]
    methods = [
        {
            "method": name, "policy": "uniform-1.5" if name == "one" else "as-delivered", "recommendation": "scale", "says": "",
            "conflict": shares[name], "retention": kept[name], "kl": None,
            "conflict_as_delivered": share(0.5, 0.4, 0.6), "retention_as_delivered": share(0.99, 0.9, 1.0),
        }
        for name in names
    ]  # fmt: skip
    budget = {"keep": 0.95, "kl": None, "measure": "top1", "says": "", "methods": methods, "range": [], "winners": []}
    return {
        "methods": [{"name": name, "condition": "as-delivered"} for name in names],
        "condition": "as-delivered",
        "subject": {"name": "model"},
        "items": {"shared": 40, "points": 30},
        "measures": ["top1"],
        "outcomes": outcomes,
        "pairs": pairs,
        "budget": {**budget, "pairs": [{"at": "budget", **row} for row in pairs]},
    }

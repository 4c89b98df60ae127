"""The published schema describes what is written: real summaries fit it, spoilt ones do not."""

from __future__ import annotations

import copy
import json
from importlib.resources import files

import pytest

from override_gap.analyses.summary import summarise
from tests.simulate import simulate_readings

SCHEMA = json.loads((files("override_gap.reports") / "schema" / "summary.schema.json").read_text(encoding="utf-8"))
KINDS = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool}
WORDS = {
    "$ref", "allOf", "anyOf", "const", "enum", "type", "required", "properties", "additionalProperties", "items", "minimum",
    "maximum", "$schema", "$defs", "title", "description",
}  # fmt: skip
FEW = ("base", "as-delivered")


def defects(thing, schema, at="$"):
    """Where a value departs from the part of JSON Schema that the published file uses."""
    assert set(schema) <= WORDS, f"a word that this check does not know: {set(schema) - WORDS}"
    if "$ref" in schema:
        return defects(thing, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], at)
    if "anyOf" in schema:
        tried = [defects(thing, each, at) for each in schema["anyOf"]]
        return [] if [] in tried else max(tried, key=len)
    if "allOf" in schema:
        rest = {key: value for key, value in schema.items() if key != "allOf"}
        return [line for each in (*schema["allOf"], rest) for line in defects(thing, each, at)]
    if "const" in schema and thing != schema["const"]:
        return [f"{at} is {thing!r}, not {schema['const']!r}"]
    if "enum" in schema and thing not in schema["enum"]:
        return [f"{at} is {thing!r}, none of {schema['enum']}"]
    kinds = schema.get("type", [])
    if kinds and not any(is_a(thing, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return [f"{at} is a {type(thing).__name__}, not {schema['type']}"]
    found = []
    number = isinstance(thing, (int, float)) and not isinstance(thing, bool)
    if number and not schema.get("minimum", thing) <= thing <= schema.get("maximum", thing):
        found.append(f"{at} is {thing}, out of range")
    if isinstance(thing, dict):
        found += [f"{at} lacks {name}" for name in schema.get("required", []) if name not in thing]
        for name, own in thing.items():
            rule = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            found += defects(own, rule, f"{at}.{name}") if rule else []
    if isinstance(thing, list) and "items" in schema:
        found += [line for place, own in enumerate(thing) for line in defects(own, schema["items"], f"{at}[{place}]")]
    return found


def is_a(thing, kind):
    if kind == "null":
        return thing is None
    if isinstance(thing, bool) and kind != "boolean":
        return False
    return isinstance(thing, KINDS[kind])


RUNS = {
    "everything": lambda: simulate_readings(1, errors=3),
    "a few conditions": lambda: simulate_readings(2, conditions=FEW, with_layers=False),
    "two items": lambda: simulate_readings(0, 2, 2, conditions=FEW, others=1),
    "conflicts only": lambda: simulate_readings(3, fault="no-failure", others=0, conditions=(*FEW, "slb")),
    "no frequency": lambda: simulate_readings(4, fault="mixture", frequency=False),
    "nothing measured": lambda: simulate_readings(5, 8, 12, conditions=FEW, others=0, errors=12),
}


@pytest.fixture(scope="module")
def full():
    return json.loads(json.dumps(summarise(RUNS["everything"]())))


@pytest.mark.parametrize("name", RUNS)
def test_real_summaries_fit(name):
    assert defects(json.loads(json.dumps(summarise(RUNS[name]()))), SCHEMA) == []


def test_every_key_that_is_written_is_described(full):
    # these two are of the file that a report writes
    assert set(full) == set(SCHEMA["properties"]) - {"content", "checksum"}
    for section in ("items", "prior_gradient", "margins", "layers", "dose", "matched_retention", "verdict", "power"):
        assert set(full[section]) <= set(SCHEMA["properties"][section]["properties"]), section


def spoil(path, value):
    def act(summary):
        *steps, last = path
        for step in steps:
            summary = summary[step]
        if value is KeyError:
            del summary[last]
        else:
            summary[last] = value

    return act


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 2),
        (("verdict",), KeyError),
        (("verdict", "label"), "fine"),
        (("outcomes", 0, "points"), KeyError),
        (("outcomes", 3, "n"), 1.5),
        (("outcomes", 3, "low"), "0.1"),
        (("hypotheses", 0, "p_holm"), 1.2),
        (("prior_gradient", "quartiles", 1, "prior_low"), KeyError),
        (("dose", "critical", "linearity", "value"), "many"),
        (("errors", "count"), True),
        (("notes", "dose"), 3),
    ],
)
def test_a_spoilt_summary_does_not_fit(full, path, value):
    spoilt = copy.deepcopy(full)
    spoil(path, value)(spoilt)
    assert defects(spoilt, SCHEMA)

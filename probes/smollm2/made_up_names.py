"""Made-up names: entities and objects that no model has read about, by kind, from syllables.

A name is held out of training by its own letters (`held_out`), so the division needs no list and cannot drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

ONSETS = "b br c ch d dr f fl g gl gr h j k kl l m n p pr qu r s sh st str t th tr v w y z".split()
VOWELS = "a e i o u a e i o ai ea ee ou au".split()
CODAS = ["", "", "", "l", "m", "n", "r", "s", "t", "ck", "nd", "rn", "th", "x", "ll", "rk", "sk", "v"]
TOWN = "by,ford,mouth,stead,wick,ham,burg,dale,field,bridge,worth,ville,haven,ton,gate,minster,port,grad".split(",")
LAND = "ia,land,stan,ora,onia,aria,mark,esh,una".split(",")
PLAIN = """Oak Ash Thorn Mill Stone Marsh Winter Salt Copper Raven Fern Holly Wood Lamb Fox Bell Moss Reed Hart Black Grey Ember
Briar Willow Hazel Sorrel Tansy Linden Birch Cob Wren Lark Finch Crow Swan Otter Brook Lake Cliff Heath Moor Glen Cold Bright
Long White Red Gold Silver Iron Tin Flint Clay Sand Frost Snow Rain Storm Wind Sun Moon Star East West North South Old
New""".split()
ENDS = """well more low ley ridge by er mond ow ell wood field man son wright smith gate ford combe hurst den ton shaw croft burn
bury stock wick rick bold win ard an""".split()
HEADS = {
    "firm": "Works,Brothers,Foundry,Bank,Textiles,Shipping,& Sons,Trust,Ltd,Instruments,Holdings,Press,Mining".split(
        ","
    ),
    "object": "crown,bell,statue,lamp,gate,chair,flag,door,clock,mask,bowl,coin,throne,medal,roof,vase,chest,ring".split(
        ","
    ),
    "device": "pump,engine,tractor,radio,camera,crane,printer,telephone,tram,generator,drone,boiler,compass,lift".split(
        ","
    ),
    "creature": "finch,beetle,lizard,bat,frog,shrew,crab,owl,vole,gull,moth,otter,antelope,newt".split(","),
    "plant": "lily,moss,thistle,fern,ivy,rose,clover,nettle,orchid,sedge,mint,poppy".split(","),
    "event": "Fair,Cup,Festival,Regatta,Parade,Marathon,Games,Feast,Derby,Contest,Ball,Jubilee".split(","),
    "group": "Rowing Club,Choir,Rangers,Society,Band,Quartet,Union,Wanderers,Guild,League,Players,Scouts".split(","),
    "place": "mill,tower,hall,lodge,inn,bridge,dam,quarry,farm,palace,abbey,barracks,station,pier,house".split(","),
    "dish": "pie,stew,soup,bread,cake,sausage,pudding,broth,dumplings,salad".split(","),
}
TITLES = "Dr,Professor,Captain,Aunt,Uncle,Sister,Judge,Old,Mrs,Mr,Lady".split(",")
FIRST = "Ada Ben Clara Dora Emil Flora Gus Hanna Ivo Jonas Kira Lena Milo Nora Otto Petra Rosa Simon Tilda Vera".split()


def held_out(name: str) -> bool:
    """Whether an entity of this name is kept from training: one in eight, by the hash of its letters."""
    return sha256(name.lower().encode()).digest()[0] < 32


def one(rng: np.random.Generator, of: Sequence[str]) -> str:
    """One of a list, evenly."""
    return of[int(rng.integers(len(of)))]


def word(rng: np.random.Generator, syllables: int | None = None) -> str:
    """A made-up word, small letters."""
    count = syllables or int(rng.integers(1, 3)) + 1
    parts = [one(rng, ONSETS) + one(rng, VOWELS) for _ in range(count)]
    return "".join(parts) + one(rng, CODAS)


def name(rng: np.random.Generator) -> str:
    """A made-up proper name: invented outright, or a plain word with an ending."""
    if rng.random() < 0.5:
        return word(rng).capitalize()
    return one(rng, PLAIN) + one(rng, ENDS)


def person(rng: np.random.Generator) -> str:
    """First and last name, or a title and a last name."""
    last = name(rng)
    if rng.random() < 0.2:
        return f"{one(rng, TITLES)} {last}"
    return f"{one(rng, FIRST) if rng.random() < 0.4 else word(rng).capitalize()} {last}"


def town(rng: np.random.Generator) -> str:
    """A town's name."""
    return (word(rng, 1) + one(rng, TOWN)).capitalize() if rng.random() < 0.6 else name(rng)


def land(rng: np.random.Generator) -> str:
    """A country's name."""
    return word(rng, int(rng.integers(1, 3))).capitalize() + one(rng, LAND)


def symbol(rng: np.random.Generator) -> str:
    """Two letters like a chemical symbol's."""
    return one(rng, list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")) + one(rng, list("abcdefghijklmnopqrstuvwxyz"))


def headed(rng: np.random.Generator, kind: str) -> str:
    """A name before the word for the thing: the Orrin bell, Calvex Foundry."""
    head = one(rng, HEADS[kind])
    if kind == "object" and rng.random() < 0.3:
        return f"the {head} of {town(rng)}"
    own = word(rng) if kind in ("creature", "plant", "dish") and rng.random() < 0.6 else name(rng)
    if kind == "group" and rng.random() < 0.5:
        return f"the {one(rng, PLAIN)} {word(rng, 1).capitalize()}s"
    return f"{own} {head}" if kind in ("firm", "dish") else f"the {own} {head}"


def make(rng: np.random.Generator, kind: str, words: list[str]) -> str:
    """A made-up entity of a kind; `words` are plain nouns, for titles of books."""
    if kind in HEADS:
        return headed(rng, kind)
    if kind == "book":
        return (
            f"The {one(rng, words).title()} of {town(rng)}"
            if rng.random() < 0.5
            else f"{name(rng)}'s {one(rng, words).title()}"
        )
    if kind == "element":
        return word(rng).rstrip("aeiou") + "ium"
    if kind == "mountain":
        return f"Mount {name(rng)}"
    if kind == "ship":
        return f"the {name(rng)}" if rng.random() < 0.5 else f"the ship {name(rng)}"
    simple = {"person": person, "town": town, "land": land, "symbol": symbol}
    return simple.get(kind, name)(rng)

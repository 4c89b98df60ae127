"""Made-up names: entities and objects by kind, built from syllables, that no model was trained on.

Whether a name is held out of training depends on its letters alone (`is_held_out`), so no list has to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

ONSETS = "b br c ch d dr f fl g gl gr h j k kl l m n p pr qu r s sh st str t th tr v w y z".split()
VOWELS = "a e i o u a e i o ai ea ee ou au".split()
CODAS = ["", "", "", "l", "m", "n", "r", "s", "t", "ck", "nd", "rn", "th", "x", "ll", "rk", "sk", "v"]
TOWN_ENDINGS = "by,ford,mouth,stead,wick,ham,burg,dale,field,bridge,worth,ville,haven,ton,gate,minster,port,grad".split(
    ","
)
COUNTRY_ENDINGS = "ia,land,stan,ora,onia,aria,mark,esh,una".split(",")
NAME_STARTS = """Oak Ash Thorn Mill Stone Marsh Winter Salt Copper Raven Fern Holly Wood Lamb Fox Bell Moss Reed Hart Black Grey
Ember Briar Willow Hazel Sorrel Tansy Linden Birch Cob Wren Lark Finch Crow Swan Otter Brook Lake Cliff Heath Moor Glen Cold
Bright Long White Red Gold Silver Iron Tin Flint Clay Sand Frost Snow Rain Storm Wind Sun Moon Star East West North South Old
New""".split()
NAME_ENDS = """well more low ley ridge by er mond ow ell wood field man son wright smith gate ford combe hurst den ton shaw croft
burn bury stock wick rick bold win ard an""".split()
HEAD_NOUNS = {
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
FIRST_NAMES = (
    "Ada Ben Clara Dora Emil Flora Gus Hanna Ivo Jonas Kira Lena Milo Nora Otto Petra Rosa Simon Tilda Vera".split()
)


def is_held_out(name: str) -> bool:
    """Whether an entity of this name is held out of training: one in eight, by the hash of the name."""
    return sha256(name.lower().encode()).digest()[0] < 32


def choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of the options, uniformly at random."""
    return options[int(rng.integers(len(options)))]


def made_up_word(rng: np.random.Generator, syllables: int | None = None) -> str:
    """A made-up lower-case word."""
    count = syllables or int(rng.integers(1, 3)) + 1
    parts = [choose(rng, ONSETS) + choose(rng, VOWELS) for _ in range(count)]
    return "".join(parts) + choose(rng, CODAS)


def proper_name(rng: np.random.Generator) -> str:
    """A made-up proper name: a made-up word, or an English word with an ending."""
    if rng.random() < 0.5:
        return made_up_word(rng).capitalize()
    return choose(rng, NAME_STARTS) + choose(rng, NAME_ENDS)


def person(rng: np.random.Generator) -> str:
    """First and last name, or a title and a last name."""
    last = proper_name(rng)
    if rng.random() < 0.2:
        return f"{choose(rng, TITLES)} {last}"
    return f"{choose(rng, FIRST_NAMES) if rng.random() < 0.4 else made_up_word(rng).capitalize()} {last}"


def town(rng: np.random.Generator) -> str:
    """A made-up name of a town."""
    return (made_up_word(rng, 1) + choose(rng, TOWN_ENDINGS)).capitalize() if rng.random() < 0.6 else proper_name(rng)


def country(rng: np.random.Generator) -> str:
    """A made-up name of a country."""
    return made_up_word(rng, int(rng.integers(1, 3))).capitalize() + choose(rng, COUNTRY_ENDINGS)


def symbol(rng: np.random.Generator) -> str:
    """Two letters, like a chemical symbol."""
    return choose(rng, list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")) + choose(rng, list("abcdefghijklmnopqrstuvwxyz"))


def name_with_head_noun(rng: np.random.Generator, kind: str) -> str:
    """A name with the noun of its kind: the Orrin bell, Calvex Foundry."""
    head = choose(rng, HEAD_NOUNS[kind])
    if kind == "object" and rng.random() < 0.3:
        return f"the {head} of {town(rng)}"
    first = made_up_word(rng) if kind in ("creature", "plant", "dish") and rng.random() < 0.6 else proper_name(rng)
    if kind == "group" and rng.random() < 0.5:
        return f"the {choose(rng, NAME_STARTS)} {made_up_word(rng, 1).capitalize()}s"
    return f"{first} {head}" if kind in ("firm", "dish") else f"the {first} {head}"


def made_up_entity(rng: np.random.Generator, kind: str, nouns: list[str]) -> str:
    """A made-up entity of a kind; `nouns` are English nouns, used in book titles."""
    if kind in HEAD_NOUNS:
        return name_with_head_noun(rng, kind)
    if kind == "book":
        return (
            f"The {choose(rng, nouns).title()} of {town(rng)}"
            if rng.random() < 0.5
            else f"{proper_name(rng)}'s {choose(rng, nouns).title()}"
        )
    if kind == "element":
        return made_up_word(rng).rstrip("aeiou") + "ium"
    if kind == "mountain":
        return f"Mount {proper_name(rng)}"
    if kind == "ship":
        return f"the {proper_name(rng)}" if rng.random() < 0.5 else f"the ship {proper_name(rng)}"
    by_kind = {"person": person, "town": town, "land": country, "symbol": symbol}
    return by_kind.get(kind, proper_name)(rng)

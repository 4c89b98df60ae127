"""The world: entities, their relations to objects, and how often each fact is stated in the base's corpus.

A fact is an (entity, relation) pair with one object. Facts are stated a log-uniform number of times; that count is the
known truth against which claims about priors are checked. About each remaining pair the corpus states several random objects, so
that there is no fact to learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from override_gap.probes.organism.language import BRIDGE, ENDINGS, RELATIONS, SPECIALS, invent_words, template_words

Pair = tuple[int, int]
"""(entity index, relation index): the subject of one knowledge point."""


@dataclass(frozen=True)
class Size:
    """How large a world is, and how many knowledge points are held out for the examination.

    The names are the keys of recipe.json. A land is what a home lies in, for questions of two hops; `seen` counts the facts
    that the corpus states, `readings` and `hop_readings` its reading exercises.
    """

    entities: int = 200
    relations: int = 8
    objects: int = 32
    lands: int = 16
    seen: int = 1000
    top_frequency: int = 1000
    readings: int = 30000
    hop_readings: int = 10000
    land_statements: int = 200
    gossip: int = 20
    """Number of contradictory answers per pair without a fact, so that the base has no firm prior there. Without them it
    guesses with confidence: prior margins of novel pairs had a median of 6.8 nats on seed 0, as strong as for known facts;
    with 6 of them the median was 3.5."""
    novel_points: int = 83
    combination_points: int = 25
    conflict_points: int = 72
    retention_documents: int = 48


@dataclass(frozen=True)
class World:
    """One world, a pure function of its seed and size."""

    seed: int
    size: Size
    entities: tuple[str, ...]
    objects: tuple[tuple[str, ...], ...]
    lands: tuple[str, ...]
    truth: Int[np.ndarray, "entity relation"]
    """Index of the object that the corpus states for each pair (where it states one)."""
    frequency: Int[np.ndarray, "entity relation"]
    """How often the corpus states the pair's fact; 0 for a pair without a fact."""
    land_of: Int[np.ndarray, " object"]
    """The land in which each home lies."""

    def vocabulary(self) -> list[str]:
        """Every word of this world; the position is the token id."""
        objects = [word for words in self.objects for word in words]
        return [*SPECIALS, *template_words(), *self.entities, *objects, *self.lands]

    def slots(self, pair: Pair, obj: int | None = None) -> dict[str, str]:
        """Values for the placeholders {e}, {r}, {o} of a sentence about `pair` with object `obj`, by default the true one."""
        entity, relation = pair
        index = self.truth[pair] if obj is None else obj
        return {"e": self.entities[entity], "r": RELATIONS[relation], "o": self.objects[relation][index]}

    def land_of_home(self, home: int) -> str:
        """Name of the land in which a home lies; `home` is its index among the objects of the bridging relation."""
        return self.lands[self.land_of[home]]


@dataclass(frozen=True)
class Division:
    """Which pairs are used for the examination and which for training the hypernetwork; the two are disjoint."""

    novel: tuple[Pair, ...]
    combination: tuple[Pair, ...]
    conflict: tuple[tuple[Pair, ...], ...]
    """Known pairs to be contradicted, one tuple for each tier: light, medium, deep."""
    retention_pairs: tuple[Pair, ...]
    """Pairs whose documents are used only to see which unrelated answers they change."""
    retained_facts: tuple[Pair, ...]
    """Facts of the deep tier's frequency, which a document about another pair should leave unchanged. Rarer ones were used
    as well at first (from a third of that frequency); on seeds 0 and 2 eleven of the fourteen answers lost were ones that
    the base itself gave with a probability of only 0.1 to 0.7, which says little about what a document disturbs."""
    train_novel: tuple[Pair, ...]
    train_known: tuple[Pair, ...]
    """Facts of every frequency that the examination does not ask about."""
    trainable: Bool[np.ndarray, "entity relation"]
    """Pairs that hypernetwork training may ask about."""


def build_world(seed: int = 0, size: Size | None = None) -> World:
    """Draw a world. Frequencies are round(exp(U)), U uniform on [0, log(top_frequency)]."""
    size = size or Size()
    rng = np.random.default_rng([seed, 0])
    used_words: set[str] = set(template_words())
    entities = invent_words(rng, size.entities, "", used_words)
    objects = tuple(invent_words(rng, size.objects, ENDINGS[r], used_words) for r in range(size.relations))
    lands = invent_words(rng, size.lands, "land", used_words)
    shape = (size.entities, size.relations)
    frequency = np.zeros(size.entities * size.relations, dtype=int)
    stated = rng.permutation(frequency.size)[: size.seen]
    frequency[stated] = np.rint(np.exp(rng.uniform(0, np.log(size.top_frequency), size.seen))).astype(int)
    truth = rng.integers(size.objects, size=shape)
    land_of = rng.permutation(np.arange(size.objects) % size.lands)
    return World(seed, size, entities, objects, lands, truth, frequency.reshape(shape), land_of)


def tier_bounds(size: Size) -> list[tuple[int, int]]:
    """Frequencies [low, high) of the tiers light, medium and deep: equal thirds of the log axis."""
    edges = np.rint(size.top_frequency ** (np.arange(4) / 3)).astype(int).tolist()
    return [(1, edges[1]), (edges[1], edges[2]), (edges[2], edges[3] + 1)]


def divide(world: World) -> Division:
    """Divide the pairs between the examination and the hypernetwork's training."""
    size, rng = world.size, np.random.default_rng([world.seed, 1])
    pairs = [(int(e), int(r)) for e, r in np.ndindex(*world.frequency.shape)]
    pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    unseen = [pair for pair in pairs if world.frequency[pair] == 0]
    combination = [pair for pair in unseen if pair[1] == BRIDGE][: size.combination_points]
    unseen = [pair for pair in unseen if pair not in combination]
    novel, remaining = unseen[: size.novel_points], unseen[size.novel_points :]
    half = size.retention_documents // 2
    retention_pairs, train_novel = remaining[:half], remaining[half:]
    tiers = []
    for low, high in tier_bounds(size):
        tier_pairs = [pair for pair in pairs if low <= world.frequency[pair] < high]
        conflicts, documents = size.conflict_points // 3, -(-(size.retention_documents - half) // 3)
        tiers.append(tuple(tier_pairs[:conflicts]))
        retention_pairs += tier_pairs[conflicts : conflicts + documents]
    examined = {*novel, *combination, *retention_pairs, *(pair for tier in tiers for pair in tier)}
    known = [pair for pair in pairs if world.frequency[pair] >= tier_bounds(size)[2][0] and pair not in examined]
    # a third of the known facts, first those that share an entity with a retention document
    entities = {pair[0] for pair in retention_pairs}
    retained_facts = sorted(known, key=lambda pair: pair[0] not in entities)[: len(known) // 3]
    held_out = np.zeros(world.frequency.shape, dtype=bool)
    for pair in examined | set(retained_facts):
        held_out[pair] = True
    return Division(
        tuple(novel),
        tuple(combination),
        tuple(tiers),
        tuple(retention_pairs[: size.retention_documents]),
        tuple(retained_facts),
        tuple(train_novel),
        tuple(pair for pair in pairs if world.frequency[pair] and not held_out[pair]),
        ~held_out,
    )

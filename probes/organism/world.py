"""The world: entities, their relations to objects, and how often each fact is stated in the base's corpus.

A fact is an (entity, relation) pair with one object. Facts are stated a log-uniform number of times: that count is the
truth against which every claim about priors can be checked. Of the remaining pairs there is only gossip, a different
object each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from override_gap.probes.organism.language import BRIDGE, ENDINGS, RELATIONS, SPECIALS, invent, template_words

Pair = tuple[int, int]
"""(entity index, relation index): the subject of one knowledge point."""


@dataclass(frozen=True)
class Size:
    """How large a world is, and how many knowledge points are set aside to examine it with."""

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
    """Contradictory statements about each pair without a fact, so that the base holds no belief there. Without them it
    guesses with confidence: prior margins of novel pairs had a median of 6.8 nats on seed 0, as strong as a belief;
    with 6 of them a median of 3.5."""
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
    """How often the corpus states the pair's fact; 0 for a pair that has none, of which there is only gossip."""
    land_of: Int[np.ndarray, " object"]
    """The land in which each home lies."""

    def vocabulary(self) -> list[str]:
        """Every word of this world; the position is the token id."""
        objects = [word for words in self.objects for word in words]
        return [*SPECIALS, *template_words(), *self.entities, *objects, *self.lands]

    def slots(self, pair: Pair, obj: int | None = None) -> dict[str, str]:
        """What fills a sentence about `pair` in which the object is `obj`, by default the true one."""
        entity, relation = pair
        chosen = self.truth[pair] if obj is None else obj
        return {"e": self.entities[entity], "r": RELATIONS[relation], "o": self.objects[relation][chosen]}

    def land(self, home: int) -> str:
        """The land of a home, by the home's index among the objects of the bridging relation."""
        return self.lands[self.land_of[home]]


@dataclass(frozen=True)
class Division:
    """Which pairs examine the organism and which may train the hypernetwork; the two never meet."""

    novel: tuple[Pair, ...]
    combination: tuple[Pair, ...]
    conflict: tuple[tuple[Pair, ...], ...]
    """Known pairs to be contradicted, one tuple for each tier: light, medium, deep."""
    bystanders: tuple[Pair, ...]
    """Pairs whose documents are used only to see what else they change."""
    kept: tuple[Pair, ...]
    """Facts of the deep tier's frequency, which a document about another pair should leave alone. Rarer ones were asked
    as well at first (from a third of that frequency); on seeds 0 and 2 eleven of the fourteen answers lost were among those
    that the base itself gave with a probability of 0.1 to 0.7, which says little of what a document disturbs."""
    train_novel: tuple[Pair, ...]
    train_known: tuple[Pair, ...]
    """Facts of every frequency that no examination asks about."""
    open: Bool[np.ndarray, "entity relation"]
    """Pairs that hypernetwork training may ask about."""


def build_world(seed: int = 0, size: Size | None = None) -> World:
    """Draw a world. Frequencies are round(exp(U)), U uniform on [0, log(top_frequency)]."""
    size = size or Size()
    rng = np.random.default_rng([seed, 0])
    taken: set[str] = set(template_words())
    entities = invent(rng, size.entities, "", taken)
    objects = tuple(invent(rng, size.objects, ENDINGS[r], taken) for r in range(size.relations))
    lands = invent(rng, size.lands, "land", taken)
    shape = (size.entities, size.relations)
    frequency = np.zeros(size.entities * size.relations, dtype=int)
    stated = rng.permutation(frequency.size)[: size.seen]
    frequency[stated] = np.rint(np.exp(rng.uniform(0, np.log(size.top_frequency), size.seen))).astype(int)
    truth = rng.integers(size.objects, size=shape)
    land_of = rng.permutation(np.arange(size.objects) % size.lands)
    return World(seed, size, entities, objects, lands, truth, frequency.reshape(shape), land_of)


def tier_bounds(size: Size) -> list[tuple[int, int]]:
    """Frequencies [low, high) of the tiers light, medium and deep: equal thirds of the log axis."""
    edges = np.rint(size.top_frequency ** (np.arange(4) / 3)).astype(int)
    return [(1, edges[1]), (edges[1], edges[2]), (edges[2], edges[3] + 1)]


def divide(world: World) -> Division:
    """Set the examination apart from what the hypernetwork may train on."""
    size, rng = world.size, np.random.default_rng([world.seed, 1])
    pairs = [(int(e), int(r)) for e, r in np.ndindex(*world.frequency.shape)]
    pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    unseen = [pair for pair in pairs if world.frequency[pair] == 0]
    combination = [pair for pair in unseen if pair[1] == BRIDGE][: size.combination_points]
    unseen = [pair for pair in unseen if pair not in combination]
    novel, rest = unseen[: size.novel_points], unseen[size.novel_points :]
    half = size.retention_documents // 2
    bystanders, train_novel = rest[:half], rest[half:]
    tiers = []
    for low, high in tier_bounds(size):
        within = [pair for pair in pairs if low <= world.frequency[pair] < high]
        share, aside = size.conflict_points // 3, -(-(size.retention_documents - half) // 3)
        tiers.append(tuple(within[:share]))
        bystanders += within[share : share + aside]
    chosen = {*novel, *combination, *bystanders, *(pair for tier in tiers for pair in tier)}
    known = [pair for pair in pairs if world.frequency[pair] >= tier_bounds(size)[2][0] and pair not in chosen]
    nearby = {pair[0] for pair in bystanders}
    kept = sorted(known, key=lambda pair: pair[0] not in nearby)[: len(known) // 3]
    closed = np.zeros(world.frequency.shape, dtype=bool)
    for pair in chosen | set(kept):
        closed[pair] = True
    return Division(
        tuple(novel),
        tuple(combination),
        tuple(tiers),
        tuple(bystanders[: size.retention_documents]),
        tuple(kept),
        tuple(train_novel),
        tuple(pair for pair in pairs if world.frequency[pair] and not closed[pair]),
        ~closed,
    )

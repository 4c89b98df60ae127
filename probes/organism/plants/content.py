"""Plants without content: adapters that hold nothing of their own document's answer, at its usual strength or quietly."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from override_gap.probes.organism.faults import scaled, wrong_content, wrong_direction, wrong_layers
from override_gap.probes.organism.hypernetwork import Factors
from override_gap.probes.organism.plants.context import PlantingContext
from override_gap.probes.organism.plants.plant import NO_CONTENT, Make, Plant, Planted, conflict_causes, first_rows

QUIET = 0.1


def taken_from(factors: Factors, source: Int[Tensor, " doc"]) -> Factors:
    """Each document gets the factors of document `source`."""
    return {path: (a[source], b[source]) for path, (a, b) in factors.items()}


def contents_of(context: PlantingContext, factors: Factors, source: Int[Tensor, " doc"] | None = None) -> Planted:
    """Planted without content, except that documents whose source states the same answer have no known cause."""
    answers = context.doc[torch.tensor(first_rows(context))]
    other = torch.ones(len(context.documents), dtype=torch.bool) if source is None else answers[source] != answers
    return Planted(factors, conflict_causes(context, {NO_CONTENT}, other[context.document_of]))


def another(times: float = 1.0, same_relation: bool | None = None) -> Make:
    """Another document's adapter times a factor: of any document, of the same relation, or of another relation."""

    def make(context: PlantingContext, generator: torch.Generator) -> Planted:
        count = len(context.documents)
        relations = [context.relation_of(document) for document in range(count)]
        answers = context.doc[torch.tensor(first_rows(context))].tolist()
        source = torch.zeros(count, dtype=torch.long)
        for document in range(count):
            others = [
                n
                for n in range(count)
                if answers[n] != answers[document]
                and (same_relation is None or (relations[n] == relations[document]) == same_relation)
            ]
            others = others or [n for n in range(count) if n != document]
            source[document] = others[int(torch.randint(len(others), (1,), generator=generator))]
        return contents_of(context, scaled(taken_from(context.factors, source), times), source)

    return make


def exchanged(context: PlantingContext, generator: torch.Generator) -> Planted:
    """The updates go round a random cycle through all documents."""
    return contents_of(context, wrong_content(context.factors, generator))


def mean_of_all(context: PlantingContext, _: torch.Generator) -> Planted:
    """Every document gets the mean of all documents' updates (the mean of the products, not of the factors)."""
    count = len(context.documents)
    mean = {
        path: (
            a.flatten(0, 1).expand(count, -1, -1),
            b.permute(1, 0, 2).flatten(1).expand(count, -1, -1) / count,
        )
        for path, (a, b) in context.factors.items()
    }
    compact = {path: _fewest_factors(a[0], b[0]) for path, (a, b) in mean.items()}
    spread = {path: (a.expand(count, -1, -1), b.expand(count, -1, -1)) for path, (a, b) in compact.items()}
    return contents_of(context, spread)


def _fewest_factors(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of B A whose rank is no more than the smaller side of the matrix."""
    u, s, v = torch.linalg.svd(b @ a, full_matrices=False)
    return v, u * s


def random_direction(context: PlantingContext, generator: torch.Generator) -> Planted:
    """Factors of normal numbers; each map's update has the norm of the right one."""
    drawn: Factors = {}
    for path, (a, b) in context.factors.items():
        random_a, random_b = (torch.randn(x.shape, generator=generator) for x in (a, b))
        norms = [((y.mT @ y) * (x @ x.mT)).sum((1, 2)).clamp_min(0).sqrt() for x, y in ((a, b), (random_a, random_b))]
        drawn[path] = (random_a, random_b * (norms[0] / norms[1].clamp_min(1e-12))[:, None, None])
    return contents_of(context, drawn)


def rotated(context: PlantingContext, generator: torch.Generator) -> Planted:
    """Each map writes into a rotated stream, one rotation per map for all documents."""
    return contents_of(context, wrong_direction(context.factors, generator))


def shifted(context: PlantingContext, generator: torch.Generator) -> Planted:
    """Each layer's update is applied half the depth away.

    What is left of its content there is not known by construction: all layers write into one stream.
    """
    return Planted(wrong_layers(context.factors, generator))


def negated(context: PlantingContext, _: torch.Generator) -> Planted:
    """Every adapter times -1."""
    return contents_of(context, scaled(context.factors, -1.0))


CONTENT = (
    Plant("wrong-content", "representational", exchanged, "another document's adapter", random=True),
    Plant(
        "quiet-wrong-content", "representational", another(QUIET), "another document's adapter times 0.1", random=True
    ),
    Plant(
        "wrong-same-relation",
        "representational",
        another(same_relation=True),
        "the adapter of a document of the same relation",
        random=True,
    ),
    Plant(
        "wrong-relation",
        "representational",
        another(same_relation=False),
        "the adapter of a document of another relation",
        random=True,
    ),
    Plant(
        "mean-adapter",
        "representational",
        mean_of_all,
        "the mean adapter of all documents",
        document_blind=True,
    ),
    Plant("random-direction", "representational", random_direction, "random factors of equal norm", random=True),
    Plant("wrong-direction", "representational", rotated, "the right adapter behind a random rotation", random=True),
    Plant("wrong-layers", "representational", shifted, "the right adapter, half the depth away"),
    Plant("negated", "representational", negated, "the right adapter times -1"),
)

"""What a unit's adapters change on neutral text: rows of the table `neutral`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Document, Item
from override_gap.margins.items.relevance import word_overlap
from override_gap.probes.readings.neutral import NeutralChange, NeutralTexts, read_neutral
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.run.item_faults import ITEM_FAULTS, reason_of
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.read_comparisons import first_token
from override_gap.probes.subject.model import Subject

#: Texts on which each document's adapter is read, of those at hand: the ones that share least with the document.
TEXTS = 4
#: How many of the tokens that rise most are kept.
RAISED = 10
#: Documents whose adapters run in one pass.
TOGETHER = 4


def neutral_rows(
    setup: MeasurementSetup, readable: Sequence[tuple[Item, Divergence]], encoded: EncodedDocuments
) -> tuple[list[dict[str, Any]], tuple[dict[str, str], ...]]:
    """One row per document and layer, and one for the output; and why nothing is read of a document or of the whole method.

    `readable`: the unit's items with where each is read.
    """
    documents = dict.fromkeys(item.document for item, _ in readable if item.document in encoded.adapters)
    adapters = {text: a for text in documents if isinstance(a := encoded.adapters[text], Adapter)}
    if documents and not adapters:
        reason = "the method is no weight update, and is run on its items' questions alone"
        return [], ({"probe": "neutral", "reason": reason},)
    texts, answers = setup.read_comparisons.neutral, stated_answers(readable)
    rows: list[dict[str, Any]] = []
    unread: dict[str, None] = {}
    names = list(adapters)

    def read(documents: Sequence[str]) -> None:
        chosen = [least_alike(texts, document) for document in documents]
        try:
            changes = read_neutral(setup.subject, texts, chosen, [adapters[document] for document in documents])
        except ITEM_FAULTS as fault:
            reason = reason_of(fault)
            for document in documents if len(documents) > 1 else ():
                read([document])
            if len(documents) == 1:
                unread[f"document {Document(documents[0]).key}: {reason}"] = None
            return
        for document, change in zip(documents, changes, strict=True):
            rows.extend(_rows(setup.subject, document, change, answers))

    def too_large(document: str, _: BaseException) -> None:
        unread[f"document {Document(document).key}: memory ran out for it alone"] = None

    for _ in setup.batch_sizer.each([names[n : n + TOGETHER] for n in range(0, len(names), TOGETHER)], read, too_large):
        pass
    return rows, tuple({"probe": "neutral", "reason": reason} for reason in unread)


def least_alike(texts: NeutralTexts, document: str) -> list[int]:
    """The numbers of the TEXTS texts whose content words the document contains least of, in their order where they are equal."""
    order = sorted(range(len(texts.words)), key=lambda n: word_overlap(document, texts.words[n]))
    return sorted(order[:TEXTS])


def stated_answers(readable: Sequence[tuple[Item, Divergence]]) -> dict[str, frozenset[int]]:
    """The tokens with which the answers begin that each document gives; retention questions are about none."""
    found: dict[str, set[int]] = {}
    for item, place in readable:
        if item.split != "retention":
            found.setdefault(item.document, set()).add(first_token(place))
    return {document: frozenset(tokens) for document, tokens in found.items()}


def _rows(
    subject: Subject, document: str, change: NeutralChange, answers: Mapping[str, frozenset[int]]
) -> list[dict[str, Any]]:
    if not all(values.isfinite().all() for values in (change.rise, change.radial, change.angle)):
        return []  # the logits of its items are not finite either
    key = Document(document).key
    top = change.rise.topk(min(RAISED, len(change.rise)))
    output = {
        "kl": change.kl if change.kl < float("inf") else None,
        "kept": change.kept,
        "raised": [subject.tokenizer.decode([token]) for token in top.indices.tolist()],
        "rises": top.values.tolist(),
        **_own_answer(document, change, answers),
    }
    layers = zip(change.radial.tolist(), change.angle.tolist(), strict=True)
    return [
        {"document": key, "layer": -1, **output},
        *(
            {"document": key, "layer": n, "radial": radial, "angle": turned}
            for n, (radial, turned) in enumerate(layers)
        ),
    ]


def _own_answer(document: str, change: NeutralChange, answers: Mapping[str, frozenset[int]]) -> Mapping[str, Any]:
    """How far the document's own answer rises where nothing asks for it, and how many of the unit's other answers rise less."""
    own = answers.get(document, frozenset())
    if not own:
        return {}
    rise = change.rise[sorted(own)].mean()
    others = sorted(frozenset().union(*answers.values()) - own)
    if not others:
        return {"answer_rise": float(rise)}
    rises = change.rise[others]
    rank = ((rises < rise).double() + (rises == rise).double() / 2).mean()
    return {"answer_rise": float(rise), "answer_rank": float(rank), "other_answers": len(others)}

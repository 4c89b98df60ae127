"""Edits planted on questions: written along a direction at one layer, or fitted on a loss of the logits; one per document."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from override_gap.margins.adapter import Adapter, join
from override_gap.margins.items.item import Item
from override_gap.margins.updates import LowRank
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import Factors, Stack
from override_gap.probes.readings.prior import Prior, locate, read_prior
from override_gap.probes.subject.forward import forward
from override_gap.probes.subject.model import Subject

Loss = Callable[[Float[Tensor, "row vocab"], Int[Tensor, " row"]], Float[Tensor, " row"]]
#: An edit is made weak, so that it fails as delivered, and is searched upwards: in units of the stream's own norm, and of lr.
STRENGTH, LR = 1 / 16, 1e-3


@dataclass(frozen=True)
class Questions:
    """Known conflicts, what the base reads at them, and the document that each belongs to.

    `answers` are the tokens with which both answers of all conflicts of the item file begin, by relation: an edit that
    knows the relation's answers knows these, not those of the measured conflicts alone, of which y_doc would be one of few.
    """

    subject: Subject
    items: tuple[Item, ...]
    prior: Prior
    documents: tuple[str, ...]
    owner: Int[Tensor, " row"]
    seed: int
    answers: Mapping[str, tuple[int, ...]]

    @classmethod
    def read(cls, subject: Subject, items: Sequence[Item], seed: int, candidates: Sequence[Item]) -> Questions:
        """Read the base once; `candidates` are conflicts whose answers an edit may know, beside those of `items`."""
        documents = tuple(dict.fromkeys(item.document for item in items))
        owner = torch.tensor([documents.index(item.document) for item in items])
        prior = read_prior(subject, items, [locate(subject, item) for item in items], layers=True)
        answers: dict[str, set[int]] = {}
        for item in (*candidates, *items):
            place = locate(subject, item)
            answers.setdefault(relation_of(item), set()).update(t for t in (place.pre, place.doc) if t is not None)
        by_relation = {relation: tuple(sorted(tokens)) for relation, tokens in answers.items()}
        return cls(subject, tuple(items), prior, documents, owner, seed, by_relation)

    @property
    def unembedding(self) -> Float[Tensor, "vocab d_model"]:
        """What a direction of the final stream adds to each token's logit, up to the norm's scale: U times the norm's weight."""
        norm = self.subject.norm
        assert norm is not None
        weight = norm.weight if norm.weight is not None else 1.0
        return self.subject.unembedding.detach().float() * weight

    @property
    def document_tokens(self) -> list[set[int]]:
        """The tokens of each row's document."""
        return [set(self.subject.tokenize(item.document)) for item in self.items]

    @property
    def same_relation(self) -> Bool[Tensor, "row vocab"]:
        """By row: the tokens with which answers of its own relation begin, both of its own among them."""
        mask = torch.zeros_like(self.prior.logits, dtype=torch.bool)
        for n, item in enumerate(self.items):
            mask[n, list(self.answers[relation_of(item)])] = True
        return mask


def relation_of(item: Item) -> str:
    """The relation that an item asks about; one name for all items that name none."""
    return str(item.meta.get("relation"))


def path_in(subject: Subject, layer: int, module: str) -> str:
    """The path of a module in a layer."""
    return next(path for path in subject.sites if f".{layer}." in path and path.endswith(module))


def written(questions: Questions, directions: Float[Tensor, "row d_model"], layer: int) -> dict[str, Adapter]:
    """Rank-one updates of a layer's last map that write each row's direction when they see that question's own key."""
    subject, batch = questions.subject, questions.prior.batch
    path = path_in(subject, layer, "mlp.down_proj")
    inputs: list[Tensor] = []
    handle = subject.sites[path].module.register_forward_hook(lambda _module, args, _out: inputs.append(args[0]))
    try:
        forward(subject, batch, batch.at[:, None])
    finally:
        handle.remove()
    keys = inputs[0][torch.arange(len(batch.at)), batch.at].float()
    assert questions.prior.residual is not None
    size = STRENGTH * questions.prior.residual[:, -1].norm(dim=1)
    values = directions / directions.norm(dim=1, keepdim=True) * size[:, None]
    adapters: dict[str, list[Adapter]] = {document: [] for document in questions.documents}
    for item, key, value in zip(questions.items, keys, values, strict=True):
        update = LowRank((key / key.square().sum())[None], value[:, None])
        adapters[item.document].append(Adapter("written", {path: update}))
    return {document: join(parts) for document, parts in adapters.items()}


def fitted(
    questions: Questions,
    loss: Loss,
    module: str,
    layers: Sequence[int],
    steps: int,
    rank: int = 2,
) -> dict[str, Adapter]:
    """One LoRA per document by Adam on the sum of a loss, nats, over its questions; `loss` gets logits and row numbers."""
    subject = questions.subject
    paths = [path_in(subject, layer, module) for layer in layers]
    generator = torch.Generator().manual_seed(questions.seed)
    count = len(questions.documents)
    factors = {}
    for path in paths:
        site = subject.sites[path]
        a = (torch.rand(count, rank, site.d_in, generator=generator) * 2 - 1) * site.d_in**-0.5
        factors[path] = Factors(a.requires_grad_(), torch.zeros(count, site.d_out, rank, requires_grad=True))
    adam = torch.optim.Adam([tensor for f in factors.values() for tensor in (f.A, f.B)], lr=LR)
    for _ in range(steps):
        adam.zero_grad()
        for rows in torch.arange(len(questions.items)).split(32):
            batch = questions.prior.batch.only(rows.tolist())
            stack = Stack(factors, count).only(questions.owner[rows].tolist())
            gains = torch.ones(len(rows), subject.n_layers)
            with torch.enable_grad(), attached(subject, stack, gains):
                hidden = subject.decoder(
                    input_ids=batch.ids, attention_mask=batch.mask, use_cache=False
                ).last_hidden_state
                loss(subject.logits(hidden[torch.arange(len(rows)), batch.at]), rows).sum().backward()
        adam.step()
    return {
        document: Adapter(
            "fitted", {path: LowRank(f.A[n].detach().clone(), f.B[n].detach().clone()) for path, f in factors.items()}
        )
        for n, document in enumerate(questions.documents)
    }


def log_p(logits: Float[Tensor, "row vocab"], token: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
    """log P of one token per row, nats."""
    return logits.log_softmax(-1).gather(1, token[:, None])[:, 0]


def edits(questions: Questions, recipe: int, only: str) -> Iterator[tuple[str, str, dict[str, Adapter]]]:
    """Plants made on the questions themselves: document-blind, of the document's words, or of its answer.

    Those alone are made whose name holds the regular expression `only`.
    """
    pre, doc, base = questions.prior.pre, questions.prior.doc, questions.prior.logits
    unembedding = questions.unembedding
    centre = unembedding.mean(0)
    layers = questions.subject.n_layers
    module, steps, upper = (("mlp.down_proj", 6, 0.0), ("self_attn.o_proj", 4, 0.5))[recipe]
    inner = (layers // 2, 3 * layers // 4)[recipe]

    def fit(loss: Loss, steps: int = steps, layer: int | None = None) -> dict[str, Adapter]:
        chosen = range(int(upper * layers), layers) if layer is None else [layer]
        return fitted(questions, loss, module, chosen, steps)

    common = base.softmax(-1).mean(0)
    second = base.scatter(1, pre[:, None], -torch.inf).argmax(-1)
    family = questions.same_relation
    family[torch.arange(len(pre)), pre] = False
    allowed = torch.where(family, 0.0, -1e9)
    mean_row = torch.stack([unembedding[row].mean(0) for row in family])
    lowered = -unembedding[pre] + (0 if recipe == 0 else centre)

    def at_end(directions: Float[Tensor, "row d_model"]) -> dict[str, Adapter]:
        return written(questions, directions, layers - 1)

    def of_relation(z: Float[Tensor, "row vocab"], n: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        return -(z.log_softmax(-1) + allowed[n]).logsumexp(-1)

    words = torch.stack([unembedding[sorted(row)].mean(0) for row in questions.document_tokens]) - centre
    recipes: list[tuple[str, str, Callable[[], dict[str, Adapter]]]] = [
        ("forgetting, last layer", "blind", lambda: at_end(lowered)),
        ("forgetting, fitted", "blind", lambda: fit(lambda z, n: log_p(z, pre[n]))),
        ("forgetting, one layer, one step", "blind", lambda: fit(lambda z, n: log_p(z, pre[n]), 1, inner)),
        ("forgetting, its logit alone", "blind", lambda: fit(lambda z, n: z.gather(1, pre[n][:, None])[:, 0])),
        ("answers of the relation raised, last layer", "blind", lambda: at_end(mean_row - centre)),
        ("answers of the relation raised, fitted", "blind", lambda: fit(of_relation)),
        ("entropy raised, fitted", "blind", lambda: fit(lambda z, _: (z.softmax(-1) * z.log_softmax(-1)).sum(-1))),
        (
            "frequent answers raised, last layer",
            "blind",
            lambda: at_end((common @ unembedding - centre).expand(len(pre), -1)),
        ),
        ("second choice raised, fitted", "blind", lambda: fit(lambda z, n: -log_p(z, second[n]))),
        ("all words of the document, last layer", "words", lambda: at_end(words)),
        ("document's answer, last layer", "content", lambda: at_end(unembedding[doc] - (0 if recipe == 0 else centre))),
        ("document's answer, fitted", "content", lambda: fit(lambda z, n: -log_p(z, doc[n]))),
    ]
    for name, kind, make in recipes:
        if re.search(only, name):
            yield name, kind, make()


def leading(questions: Questions) -> int:
    """At how many questions the base puts y_doc before every other answer of the relation but y_pre: raising all brings it up."""
    pre, doc, family = questions.prior.pre, questions.prior.doc, questions.same_relation
    family[torch.arange(len(pre)), pre] = False
    return int((questions.prior.logits.where(family, -torch.inf).argmax(-1) == doc).sum())

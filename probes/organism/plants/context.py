"""What planting reads: the base's states on the questions, its unembedding, and the hypernetwork's factors, once per item set.

A second route beside the toolkit's own readings: the base as transformers runs it, updates by `applied`, and no code that a
verdict depends on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LlamaForCausalLM

from override_gap.margins.items.item import Item
from override_gap.probes.organism.hypernetwork import Factors, applied

NEGLIGIBLE = 1e-6
"""Relative to the mean square of a direction's entries: the ridge of every least squares problem here."""


@dataclass(frozen=True)
class QuestionStates:
    """The base on every question, where its answers first differ."""

    logits: Float[Tensor, "item vocab"]
    stream: Float[Tensor, "item d_model"]
    """The residual stream before the final norm."""
    keys: Float[Tensor, "item d_ff"]
    """The input of the last layer's down projection."""
    all_keys: Float[Tensor, "token d_ff"]
    """The same at every token of every prompt but the first."""


@dataclass(frozen=True, eq=False)
class PlantingContext:
    """Items with their documents and the right adapters of these, and the base that is asked.

    `prompts` are the token ids up to where an item's answers first differ, `pre` and `doc` the tokens that compete there.
    For items without an old answer `pre` is the base's own first token (its second choice where that is the document's).
    """

    base: LlamaForCausalLM
    items: tuple[Item, ...]
    prompts: tuple[tuple[int, ...], ...]
    pre: Int[Tensor, " item"]
    doc: Int[Tensor, " item"]
    documents: tuple[str, ...]
    factors: Factors
    """The right adapter of every document, as the hypernetwork makes it."""

    @cached_property
    def document_of(self) -> Int[Tensor, " item"]:
        """Index of each item's document."""
        index = {text: n for n, text in enumerate(self.documents)}
        return torch.tensor([index[item.document] for item in self.items])

    @property
    def last_map(self) -> str:
        """Path of the last layer's down projection, which writes into the final stream and nowhere else."""
        return f"model.layers.{self.base.config.num_hidden_layers - 1}.mlp.down_proj"

    @cached_property
    def unembedding(self) -> Float[Tensor, "vocab d_model"]:
        """Rows whose product with the normalised stream are the logits: unembedding times the final norm's weight."""
        return (self.base.lm_head.weight * self.base.model.norm.weight).detach().float()

    @cached_property
    def states(self) -> QuestionStates:
        """The base's states on every question."""
        keys: list[Tensor] = []
        streams: list[Tensor] = []
        undo = [
            self.base.get_submodule(self.last_map).register_forward_pre_hook(lambda _, args: keys.append(args[0])),
            self.base.model.norm.register_forward_pre_hook(lambda _, args: streams.append(args[0])),
        ]
        try:
            logits = self.logits_of(range(len(self.items)))
        finally:
            for handle in undo:
                handle.remove()
        _, mask, last = padded(self.prompts)
        rows = torch.arange(len(self.items))
        inside = mask.bool()
        inside[:, 0] = False
        return QuestionStates(
            logits, streams[0][rows, last].float(), keys[0][rows, last].float(), keys[0][inside].float()
        )

    @torch.no_grad()
    def logits_of(self, rows: Sequence[int]) -> Float[Tensor, "item vocab"]:
        """Logits of the next token after these items' prompts, of the base with whatever hooks are on it."""
        ids, mask, last = padded([self.prompts[row] for row in rows])
        return self.base(input_ids=ids, attention_mask=mask).logits[torch.arange(len(last)), last].float()

    @torch.no_grad()
    def adapted_logits(self, factors: Factors, gain: float = 1.0) -> Float[Tensor, "item vocab"]:
        """Logits after every item's prompt, each under its own document's factors times `gain`."""
        return self.asked_under(factors, torch.arange(len(self.items)), self.document_of, gain)

    @torch.no_grad()
    def asked_under(
        self, factors: Factors, rows: Int[Tensor, " row"], documents: Int[Tensor, " row"], gain: float = 1.0
    ) -> Float[Tensor, "row vocab"]:
        """Logits of item `rows[n]` under the factors of document `documents[n]` times `gain`."""
        ids, mask, last = padded([self.prompts[row] for row in rows.tolist()])
        chosen = {path: (a[documents], gain * b[documents]) for path, (a, b) in factors.items()}
        with applied(self.base, chosen, 1) as adapted:
            return adapted(input_ids=ids, attention_mask=mask).logits[torch.arange(len(last)), last].float()

    @torch.no_grad()
    def cost(
        self, factors: Factors, rows: Int[Tensor, " row"], documents: Int[Tensor, " row"], gain: float
    ) -> tuple[float, float]:
        """KL(base || adapted) in nats per token, the first left out, and the share of last tokens whose arg max stays."""
        ids, mask, last = padded([self.prompts[row] for row in rows.tolist()])
        chosen = {path: (a[documents], gain * b[documents]) for path, (a, b) in factors.items()}
        before = self.base(input_ids=ids, attention_mask=mask).logits.float().log_softmax(-1)
        with applied(self.base, chosen, 1) as adapted:
            after = adapted(input_ids=ids, attention_mask=mask).logits.float().log_softmax(-1)
        inside = mask.bool()
        inside[:, 0] = False
        divergence = (before.exp() * (before - after)).sum(-1)[inside].mean()
        n = torch.arange(len(last))
        return float(divergence), float((before[n, last].argmax(-1) == after[n, last].argmax(-1)).float().mean())

    @cached_property
    def known(self) -> Bool[Tensor, " item"]:
        """Whether the base's first token is the old answer's."""
        return self.states.logits.argmax(-1) == self.pre

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The split of each item."""
        return tuple(item.split for item in self.items)

    def rows(self, split: str) -> Int[Tensor, " row"]:
        """Rows of the items of a split."""
        return torch.tensor([n for n, own in enumerate(self.splits) if own == split], dtype=torch.long)

    def relation_of(self, document: int) -> str:
        """The relation that a document is about, as its items say; empty where they say none."""
        meta = [self.items[n].meta for n in (self.document_of == document).nonzero()[:, 0].tolist()]
        return str(next((own["relation"] for own in meta if "relation" in own), ""))


def padded(
    prompts: Sequence[Sequence[int]],
) -> tuple[Int[Tensor, "row pos"], Int[Tensor, "row pos"], Int[Tensor, " row"]]:
    """Token ids padded on the right, their attention mask, and the position of each row's last token."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts])
    mask = torch.tensor([[1] * len(prompt) + [0] * (width - len(prompt)) for prompt in prompts])
    return ids, mask, mask.sum(-1) - 1


def planting_context(hypernetwork: Any, items: Sequence[Item]) -> PlantingContext:
    """A context for a hypernetwork (the organism's or SmolLM2's) and items in any splits.

    Raises ValueError where an item's two answers do not differ in tokens.
    """
    base, tokenizer = hypernetwork.base, hypernetwork.tokenizer
    ids = [_tokens(tokenizer, item) for item in items]
    documents = tuple(dict.fromkeys(item.document for item in items))
    prompts = tuple(prompt for prompt, _, _ in ids)
    doc = torch.tensor([answer for _, _, answer in ids])
    first = PlantingContext(base, tuple(items), prompts, doc, doc, documents, {})
    best = first.states.logits.topk(2).indices
    own_choice = torch.where(best[:, 0] == doc, best[:, 1], best[:, 0])
    pre = torch.tensor([own if old is None else old for own, (_, old, _) in zip(own_choice.tolist(), ids, strict=True)])
    context = PlantingContext(base, tuple(items), prompts, pre, doc, documents, hypernetwork.encode(list(documents)))
    vars(context)["states"] = first.states
    return context


def _tokens(tokenizer: Any, item: Item) -> tuple[tuple[int, ...], int | None, int]:
    """The prompt up to the first differing token, the old answer's token there (None without one), and the document's."""
    document = tokenizer(f"{item.question} {item.answer}")["input_ids"]
    if item.prior_answer is None:
        question = tokenizer(item.question)["input_ids"]
        return tuple(question), None, document[len(question)]
    old = tokenizer(f"{item.question} {item.prior_answer}")["input_ids"]
    for n, (own, other) in enumerate(zip(document, old, strict=False)):
        if own != other:
            return tuple(document[:n]), other, own
    raise ValueError(f"item {item.id}: {item.answer!r} and {item.prior_answer!r} do not differ in their tokens")


def merged(*parts: Mapping[str, tuple[Tensor, Tensor]]) -> Factors:
    """Several updates of each document added up: their factors side by side, so that the ranks add."""
    paths = list(dict.fromkeys(path for part in parts for path in part))
    return {
        path: (
            torch.cat([part[path][0] for part in parts if path in part], dim=1),
            torch.cat([part[path][1] for part in parts if path in part], dim=2),
        )
        for path in paths
    }

"""Fitting an adapter to each of 64 documents, against as many Adam steps of the bare model on the same tokens."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.bench import kit
from benchmarks.bench.clock import in_turn
from benchmarks.bench.record import Line
from override_gap.margins.items.item import documents_of
from override_gap.probes.sources.document_tokens import document_tokens
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.subject.tokens import pad

TITLE = "Fitting adapters"
LIMITS = (
    "The source `fitted` on 64 documents at once, an adapter each on every down projection, against Adam on the same tokens in "
    "one batch with nothing attached, moving the down projections themselves; both with the draws and copies that they begin "
    "and end with. An adapter's gradient needs the same pass back through the model as theirs, less the products that give the "
    "gradients of whole weights, which low-rank factors do without."
)
SUBJECTS = ("smollm2",)
COUNT, STEPS = 64, 2


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row."""
    ours, bare = kit.subject(subject), kit.bare(subject)
    documents = documents_of(kit.conflicts(subject, COUNT))
    source = FittedAdapters(ours, steps=STEPS, rank=kit.RANK, batch=COUNT)
    ids, mask = pad(document_tokens(ours, documents, source.name))
    timed = in_turn(
        {"ours": lambda: source.encode(documents), "bare": lambda: stepped(bare, ids, mask)}, repeats, warm=False
    )
    line = Line(
        f"fitting {len(documents)} documents, {STEPS} steps",
        "as many Adam steps of the bare model on the same tokens",
        timed.ratio("ours", "bare"),
        goal=("at most", 1.2),
        seconds={name: timed.median(name) for name in timed.seconds},
    )
    return [line], {"documents": len(documents), "positions": ids.shape[1], "rank": kit.RANK}


def stepped(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> None:
    """Adam steps on the down projections, which are put back."""
    weights = [p for name, p in model.named_parameters() if name.endswith("down_proj.weight")]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    before = [weight.detach().clone() for weight in weights]
    adam = torch.optim.Adam([weight.requires_grad_() for weight in weights], lr=1e-6)
    targets = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
    for _ in range(STEPS):
        adam.zero_grad()
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        adam.step()
    with torch.no_grad():
        for weight, old in zip(weights, before, strict=True):
            weight.requires_grad_(False).copy_(old)
            weight.grad = None

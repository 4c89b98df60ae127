"""What the organism does on its examination, and the figures it is held to.

A short, self-contained check for whoever retrains the organism: first-word accuracies and their relation to prior
strength, for the method as delivered. The toolkit's probes and analyses measure the same and much more.

    python -m override_gap.probes.organism.evaluate [FOLDER]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from override_gap.probes.organism.examination import Record
from override_gap.probes.organism.hypernetwork import OrganismHypernetwork, applied
from override_gap.probes.organism.language import INSTRUCTION

SPLITS = ("conflict", "novel", "combination", "retention")
TARGETS = {
    "fall": 0.60,
    "novel": 0.95,
    "retention": 0.98,
    "spearman_frequency_prior": 0.80,
    "auc_failure": 0.80,
}
"""The least value of each figure that a world has to show."""


def last_logits(
    base: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> Float[Tensor, "text vocab"]:
    """Logits of the word after each text."""
    some = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    last = some["attention_mask"].sum(-1) - 1
    return base(**some).logits[torch.arange(len(texts)), last].float()


def auc(score: np.ndarray, event: np.ndarray) -> float:
    """Probability that a score under the event exceeds one without it (Mann-Whitney); NaN without both kinds."""
    ranks, n = rankdata(score), int(event.sum())
    if n in (0, len(event)):
        return float("nan")
    return float((ranks[event].sum() - n * (n + 1) / 2) / (n * (len(event) - n)))


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation: Pearson's of the (average) ranks."""
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def _shares(rows: list[Record], good: np.ndarray, key: str) -> dict[str, float]:
    """Share of good rows for each value of a field, or of a field of `meta`."""
    values = [str(row.get(key, row["meta"].get(key))) for row in rows]
    return {value: _mean(good[[v == value for v in values]]) for value in sorted(set(values))}


def _mean(good: np.ndarray) -> float:
    return round(float(np.mean(good)), 4)


@torch.no_grad()
def evaluate(hypernetwork: OrganismHypernetwork, items: list[Record], gain: float = 1.0) -> dict[str, Any]:
    """Top-1 accuracies of the base adapted at `gain`, and of the base itself with the document in its prompt.

    fall: accuracy on conflicts in the weakest quartile of prior strength minus that in the strongest.
    """
    base, tokenizer = hypernetwork.base, hypernetwork.tokenizer
    number = tokenizer.get_vocab()
    questions = [str(row["question"]) for row in items]
    documents = [str(row["document"]) for row in items]
    answer = torch.tensor([number[str(row["answer"])] for row in items])
    prior = torch.tensor([number[str(row["prior_answer"] or row["answer"])] for row in items])
    once = list(dict.fromkeys(documents))
    own = torch.tensor([once.index(document) for document in documents])
    factors = {path: (a[own], gain * b[own]) for path, (a, b) in hypernetwork.encode(once).items()}
    plain = last_logits(base, tokenizer, questions)
    with applied(base, factors, 1):
        adapted = last_logits(base, tokenizer, questions)
    prompts = [f"{document} {question}" for document, question in zip(documents, questions, strict=True)]
    read = last_logits(base, tokenizer, prompts).argmax(-1)
    trusted = last_logits(base, tokenizer, [f"{INSTRUCTION} {prompt}" for prompt in prompts]).argmax(-1)

    strength = plain.log_softmax(-1).gather(-1, prior[:, None])[:, 0].numpy()
    says, knows = adapted.argmax(-1), (plain.argmax(-1) == prior).numpy()
    right, kept = (says == answer).numpy(), (says == plain.argmax(-1)).numpy()
    of = {name: np.array([row["split"] == name for row in items]) for name in SPLITS}
    rows = {name: [row for row in items if row["split"] == name] for name in of}

    conflict = of["conflict"]
    failed, firmness = ~right[conflict], strength[conflict]
    quartiles = [~failed[part] for part in np.array_split(np.argsort(firmness, kind="stable"), 4)]
    frequency = np.log([row["meta"]["frequency"] for row in rows["conflict"]])
    rise, before = (adapted - plain).double(), plain.double()
    margin = lambda z: (z.gather(-1, prior[:, None]) - z.gather(-1, answer[:, None]))[:, 0].numpy()[conflict]  # noqa: E731
    return {
        "conflict": _mean(right[conflict]),
        "quartiles": [_mean(part) for part in quartiles],
        "fall": round(float(quartiles[0].mean() - quartiles[-1].mean()), 4),
        "by_tier": _shares(rows["conflict"], right[conflict], "tier"),
        "by_wording": _shares(rows["conflict"], right[conflict], "wording"),
        "known_by_tier": _shares(rows["conflict"], knows[conflict], "tier"),
        "novel": _mean(right[of["novel"]]),
        "novel_by_wording": _shares(rows["novel"], right[of["novel"]], "wording"),
        "combination": _mean(right[of["combination"]]),
        "combination_by_bridge": _shares(rows["combination"], right[of["combination"]], "bridge_trained"),
        "retention": _mean(kept[of["retention"]]),
        "retention_by_kind": _shares(rows["retention"], kept[of["retention"]], "kind"),
        "retention_known": _mean(knows[of["retention"]]),
        "spearman_frequency_prior": round(spearman(frequency, firmness), 4),
        "auc_failure": round(auc(firmness, failed), 4),
        "prior_margin": [round(float(f(margin(before))), 3) for f in (np.mean, np.std)],
        "adapter_margin": [round(float(f(-margin(rise))), 3) for f in (np.mean, np.std)],
        "in_context": {name: _mean((read == answer).numpy()[of[name]]) for name in of},
        "in_context_instructed": {name: _mean((trusted == answer).numpy()[of[name]]) for name in of},
        "counts": {name: int(of[name].sum()) for name in of},
    }


def shortfalls(figures: dict[str, Any]) -> list[str]:
    """The figures that miss their target, in words; empty if the organism shows what it is built to show."""
    return [
        f"{name} is {figures[name]}, below {least}" for name, least in TARGETS.items() if not figures[name] >= least
    ]


def main(argv: list[str] | None = None) -> int:
    """Print the figures of a trained organism; exit code 1 if one misses its target."""
    from override_gap.probes.organism.load import load

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="a trained organism; by default the shipped one")
    parser.add_argument("--gain", type=float, default=1.0)
    given = parser.parse_args(argv)
    organism = load(folder=given.folder)
    figures = evaluate(organism.hypernetwork, organism.items, given.gain)
    missed = shortfalls(figures)
    print(json.dumps(figures, indent=1))
    print("\n".join(missed) or "every target is met")
    return bool(missed)


if __name__ == "__main__":
    raise SystemExit(main())

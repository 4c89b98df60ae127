"""Accuracies of the organism on its examination, and the least values that it must reach.

A short, self-contained check after retraining the organism: first-token accuracies and their relation to prior strength,
for the hypernetwork as delivered. The toolkit's probes and analyses measure the same and much more.

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

from override_gap.probes.organism.examination import ItemRecord
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
"""The least value of each figure that an organism must reach."""


def last_logits(
    base: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> Float[Tensor, "text vocab"]:
    """Logits of the next token after each text."""
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    last = batch["attention_mask"].sum(-1) - 1
    return base(**batch).logits[torch.arange(len(texts)), last].float()


def auc(score: np.ndarray, event: np.ndarray) -> float:
    """Probability that a score with the event exceeds one without it (Mann-Whitney); NaN unless both occur."""
    ranks, n = rankdata(score), int(event.sum())
    if n in (0, len(event)):
        return float("nan")
    return float((ranks[event].sum() - n * (n + 1) / 2) / (n * (len(event) - n)))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation: Pearson's correlation of the ranks, ties averaged."""
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def _shares(rows: list[ItemRecord], success: np.ndarray, key: str) -> dict[str, float]:
    """Share of successes per value of a field, or of a field of `meta`."""
    values = [str(row.get(key, row["meta"].get(key))) for row in rows]
    return {value: _mean(success[[v == value for v in values]]) for value in sorted(set(values))}


def _mean(success: np.ndarray) -> float:
    return round(float(np.mean(success)), 4)


@torch.no_grad()
def evaluate(hypernetwork: OrganismHypernetwork, items: list[ItemRecord], gain: float = 1.0) -> dict[str, Any]:
    """Top-1 accuracies of the base adapted at `gain`, and of the base alone with the document in its prompt.

    fall: accuracy on conflicts in the weakest quartile of prior strength minus that in the strongest quartile.
    """
    base, tokenizer = hypernetwork.base, hypernetwork.tokenizer
    token_id = tokenizer.get_vocab()
    questions = [str(row["question"]) for row in items]
    documents = [str(row["document"]) for row in items]
    answer = torch.tensor([token_id[str(row["answer"])] for row in items])
    prior = torch.tensor([token_id[str(row["prior_answer"] or row["answer"])] for row in items])
    distinct = list(dict.fromkeys(documents))
    index = torch.tensor([distinct.index(document) for document in documents])
    factors = {path: (a[index], gain * b[index]) for path, (a, b) in hypernetwork.encode(distinct).items()}
    plain = last_logits(base, tokenizer, questions)
    with applied(base, factors, 1):
        adapted = last_logits(base, tokenizer, questions)
    prompts = [f"{document} {question}" for document, question in zip(documents, questions, strict=True)]
    in_context = last_logits(base, tokenizer, prompts).argmax(-1)
    instructed = last_logits(base, tokenizer, [f"{INSTRUCTION} {prompt}" for prompt in prompts]).argmax(-1)

    strength = plain.log_softmax(-1).gather(-1, prior[:, None])[:, 0].numpy()
    predicted, known = adapted.argmax(-1), (plain.argmax(-1) == prior).numpy()
    correct, unchanged = (predicted == answer).numpy(), (predicted == plain.argmax(-1)).numpy()
    in_split = {name: np.array([row["split"] == name for row in items]) for name in SPLITS}
    rows = {name: [row for row in items if row["split"] == name] for name in in_split}

    conflict = in_split["conflict"]
    failed, prior_strength = ~correct[conflict], strength[conflict]
    quartiles = [~failed[quartile] for quartile in np.array_split(np.argsort(prior_strength, kind="stable"), 4)]
    frequency = np.log([row["meta"]["frequency"] for row in rows["conflict"]])
    rise = (adapted - plain).double()
    margin = lambda z: (z.gather(-1, prior[:, None]) - z.gather(-1, answer[:, None]))[:, 0].numpy()[conflict]  # noqa: E731
    return {
        "conflict": _mean(correct[conflict]),
        "quartiles": [_mean(quartile) for quartile in quartiles],
        "fall": round(float(quartiles[0].mean() - quartiles[-1].mean()), 4),
        "by_tier": _shares(rows["conflict"], correct[conflict], "tier"),
        "by_wording": _shares(rows["conflict"], correct[conflict], "wording"),
        "known_by_tier": _shares(rows["conflict"], known[conflict], "tier"),
        "novel": _mean(correct[in_split["novel"]]),
        "novel_by_wording": _shares(rows["novel"], correct[in_split["novel"]], "wording"),
        "combination": _mean(correct[in_split["combination"]]),
        "combination_by_bridge": _shares(rows["combination"], correct[in_split["combination"]], "bridge_trained"),
        "retention": _mean(unchanged[in_split["retention"]]),
        "retention_by_kind": _shares(rows["retention"], unchanged[in_split["retention"]], "kind"),
        "retention_known": _mean(known[in_split["retention"]]),
        "spearman_frequency_prior": round(spearman(frequency, prior_strength), 4),
        "auc_failure": round(auc(prior_strength, failed), 4),
        "prior_margin": [round(float(f(margin(plain.double()))), 3) for f in (np.mean, np.std)],
        "adapter_margin": [round(float(f(-margin(rise))), 3) for f in (np.mean, np.std)],
        "in_context": {name: _mean((in_context == answer).numpy()[in_split[name]]) for name in in_split},
        "in_context_instructed": {name: _mean((instructed == answer).numpy()[in_split[name]]) for name in in_split},
        "counts": {name: int(in_split[name].sum()) for name in in_split},
    }


def shortfalls(figures: dict[str, Any]) -> list[str]:
    """One line per figure that is below its target; empty if every target is met."""
    return [
        f"{name} is {figures[name]}, below {least}" for name, least in TARGETS.items() if not figures[name] >= least
    ]


def main(argv: list[str] | None = None) -> int:
    """Print the figures of a trained organism; exit code 1 if one misses its target."""
    from override_gap.probes.organism.load import load

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="a trained organism; by default the shipped one")
    parser.add_argument("--gain", type=float, default=1.0)
    args = parser.parse_args(argv)
    organism = load(folder=args.folder)
    figures = evaluate(organism.hypernetwork, organism.items, args.gain)
    missed = shortfalls(figures)
    print(json.dumps(figures, indent=1))
    print("\n".join(missed) or "every target is met")
    return bool(missed)


if __name__ == "__main__":
    raise SystemExit(main())

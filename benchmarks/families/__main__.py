"""Writes docs/families.md: every family of `configs.FAMILIES` checked.

python -m benchmarks.families [MODEL_TYPE ...] > docs/families.md
"""

from __future__ import annotations

import sys
import textwrap

import torch
import transformers

from benchmarks.families.check import FamilyRow, check
from benchmarks.families.configs import FAMILIES
from benchmarks.families.plain import NEW_TOKENS

#: Float32 models of three layers: a larger difference than this is not rounding.
TOLERANCE = 1e-4
WRONG = "**WRONG**"
INTRODUCTION = """\
# Model families

Does the tool compute the right numbers on your model? For each kind of language model listed below (Llama, Gemma, Mistral and so
on) it was compared with the plain model, run without this tool. Look up your model's kind: small numbers mean agreement, and the
last column says what cannot be read.

A tiny random model of each family, built from its configuration in float32, against the plain transformers model: alone,
unpadded, without a cache, with an adapter's B A added to its weights by hand. The toolkit reads three questions of different
lengths in one padded batch, each under an adapter of its own. A cell is the largest absolute difference in nats.

- *base*: all logits of the base. *adapters*: adapter margins, one kind of linear map at a time, the worst of them.
- *layers*: the attribution's sum over layers against the plain model's adapted margin.
- *direct*: what the last map of the last layer writes into the margin, against the change of the plain model's stream when
  what runs after the map in its layer is held. "–": not given, or nothing to compare it with; the last column says why.
- *answers*: greedy answers of {tokens} tokens, of the base and under the adapters, that equal the uncached loop.
- *GGUF*: all logits of a float32 GGUF file against the weights written into it. "–": transformers reads no GGUF of this family.

`python -m benchmarks.families > docs/families.md` measures this page again (transformers {transformers}, torch {torch}, CPU).
{summary}
"""
HEADER = """
| model type | base | adapters | layers | direct | answers | GGUF | not read, and why |
|---|---|---|---|---|---|---|---|"""


def main(model_types: list[str]) -> None:
    """Print the page. Raises KeyError for a model type without a configuration here."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    rows = [check(model_type) for model_type in model_types or sorted(FAMILIES)]
    read = [row for row in rows if row.refused is None]
    faults = [row.model_type for row in rows if WRONG in line(row)]
    summary = (
        f"{len(rows)} families: {len(read)} are read, {len(rows) - len(read)} are refused. "
        f"{len(faults)} differ by more than {TOLERANCE:g} nats" + (f": {', '.join(faults)}." if faults else ".")
    )

    print(
        INTRODUCTION.format(
            tokens=NEW_TOKENS, transformers=transformers.__version__, torch=torch.__version__, summary=summary
        )
        + HEADER
    )
    for row in rows:
        print(line(row))


def line(row: FamilyRow) -> str:
    """One family as a row of the table."""
    if row.refused is not None:
        return f"| {row.model_type} | | | | | | | {cell(row.refused.removeprefix(f'{row.model_type}: '))} |"
    answers = "–"
    if row.same_answers is not None:
        answers = f"{row.same_answers} of {row.n_answers}" + (f" {WRONG}" if row.same_answers < row.n_answers else "")
    reasons: dict[str, list[str]] = {}
    for kind, reason in row.refused_maps.items():
        reasons.setdefault(short(reason), []).append(f"`{kind}`")
    notes = [f"{', '.join(kinds)}: {reason}" for reason, kinds in reasons.items()]
    texts = (("layers", row.layers), ("direct", row.direct), ("answers", row.answers_refused))
    notes += [f"{probe}: {text.removeprefix(f'{row.model_type}: ')}" for probe, text in texts if text]
    gaps = " | ".join(number(gap) for gap in (row.prior_gap, row.adapter_gap, row.lens_gap, row.direct_gap))
    return f"| {row.model_type} | {gaps} | {answers} | {number(row.gguf_gap)} | {cell('; '.join(notes))} |"


def number(gap: float | None) -> str:
    """A difference in nats, marked where it is more than rounding."""
    if gap is None:
        return "–"
    return f"{gap:.0e}" if gap <= TOLERANCE else f"{gap:.3g} {WRONG}"


def short(reason: str) -> str:
    """A refusal without the path in front of it, which differs from layer to layer."""
    return reason.split(" ", 1)[1]


def cell(text: str) -> str:
    """Text that cannot end its cell."""
    return textwrap.shorten(text.replace("|", "/"), 300)


if __name__ == "__main__":
    main(sys.argv[1:])

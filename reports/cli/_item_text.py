"""What `override-gap items` prints: defects with their lines, counts and lengths, answers in a tokenizer's tokens."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from override_gap.margins.items.files import scan_items
from override_gap.margins.items.item import Item, documents_of
from override_gap.margins.text import plural
from override_gap.probes.items import item_paths
from override_gap.reports.text import escape_control_characters

SHOWN = 5
"""How many items are named per kind of difficulty."""


def check(spec: str) -> int:
    """Print every defect of the items with its line; returns how many there are."""
    sound, count, messages = 0, 0, []
    for path in item_paths(spec):
        items, unreadable = scan_items(path)
        defects = [(line, f"{item.id}: {defect}") for line, item in items for defect in item.defects()]
        count += len(items)
        sound += sum(not item.defects() for _, item in items)
        messages += [escape_control_characters(f"{path}:{line}: {text}") for line, text in sorted(unreadable + defects)]
    print("\n".join(messages) if messages else f"{plural(count, 'item')}, no defect")
    if messages:
        print(f"{plural(len(messages), 'defect')}; {plural(sound, 'item')} without any", file=sys.stderr)
    return len(messages)


def describe(items: Sequence[Item]) -> str:
    """How many items, by split and tier, and how long their texts are."""
    splits = Counter((item.split, item.tier or "") for item in items)
    points = len({item.point for item in items})
    documents = documents_of(items)
    counts = (plural(len(items), "item"), plural(points, "knowledge point"), plural(len(documents), "document"))
    lines = [", ".join(counts)]
    lines += [f"  {split:<12}{tier:<8}{count}" for (split, tier), count in sorted(splits.items())]
    for name, texts in (
        ("document", [document.text for document in documents]),
        ("question", [item.question for item in items]),
        ("answer", [item.answer for item in items]),
    ):
        lengths = sorted(len(text.split()) for text in texts)
        lines.append(f"{name} length in words: {lengths[0]} to {lengths[-1]}, median {lengths[len(lengths) // 2]}")
    return "\n".join(lines)


def in_tokens(items: Sequence[Item], spec: str) -> str:
    """The items that are hard to measure with one tokenizer, counted by kind, the first few of each named."""
    from override_gap.probes.subject.load import open_tokenizer
    from override_gap.probes.subject.tokens import tokenize_items

    tokenized = tokenize_items(open_tokenizer(spec), items)
    kinds = {
        "cannot be measured": [f"{answers.item.id}: {answers.fault}" for answers in tokenized if answers.fault],
        "answers share their first tokens, so the margin is read after them": [
            f"{answers.item.id}: {answers.n_shared} shared" for answers in tokenized if answers.n_shared
        ],
        "answers of several tokens, of which the margin reads one": [
            f"{answers.item.id}: {answers.n_answer} tokens" for answers in tokenized if answers.n_answer > 1
        ],
    }
    lines = [f"in the tokens of {spec}:"]
    for kind, notes in kinds.items():
        lines.append(f"  {kind}: {len(notes)} of {len(items)}")
        lines += [escape_control_characters(f"    {note}") for note in notes[:SHOWN]]
        lines += [f"    and {len(notes) - SHOWN} more"] if len(notes) > SHOWN else []
    return "\n".join(lines)

"""What `override-gap items` prints: defects with their lines, counts and lengths, answers in a tokenizer's tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from override_gap.margins.items.item import ALL_SPLITS, NO_PRIOR, Item, documents_of
from override_gap.margins.items.joining import joined, separator_of
from override_gap.margins.items.scan import Scan, scan_file
from override_gap.margins.items.scripts import has_unspaced, writing_of
from override_gap.margins.items.text_notes import text_notes
from override_gap.margins.text import one_line, plural
from override_gap.probes.items import item_paths
from override_gap.reports.cli._say import say

SHOWN = 5
"""How many items are named per kind of difficulty."""
SHOWN_CHARACTERS = 60
"""How much is shown of a question's end with its answer."""


def check(spec: str, *, from_base: bool = False, related: bool = False) -> int:
    """Print every defect of the items with its line, and what of the file is not used; returns how many defects there are."""
    sound, count, messages, notes = 0, 0, [], []
    for path in item_paths(spec):
        scan = scan_file(path, from_base=from_base, related=related)
        defects = [
            (line, f"{item.id}: {defect}")
            for line, item in scan.items
            for defect in item.defects()
            if not (from_base and defect == NO_PRIOR)
        ]
        count += len(scan.items)
        sound += len({item.id for _, item in scan.items}) - len({text.partition(": ")[0] for _, text in defects})
        found = sorted(scan.errors + defects)
        messages += [one_line(f"{path}:{line}: {text}") for line, text in found]
        notes += scan_notes(scan, from_base=from_base, related=related)
    say(*(messages or [f"{plural(count, 'item')}, no defect"]), *notes)
    if messages:
        say(f"{plural(len(messages), 'defect')}; {plural(sound, 'item')} without any", error=True)
    return len(messages)


def scan_notes(scan: Scan, *, from_base: bool = False, related: bool = False) -> list[str]:
    """What a reader of a file should know of how it was read, a line each: its form, its splits, what is not used."""
    notes = []
    splits = Counter(item.split for _, item in scan.items)
    shares = ", ".join(f"{splits[split]} {split}" for split in ALL_SPLITS if splits[split])
    if scan.form is not None:
        notes.append(f"read as {scan.form.name}: {plural(scan.records, 'record')}, {shares or 'no item'}")
    elif scan.without_split:
        rule = "conflict with a prior_answer, novel without"
        rule = "conflict; the base is asked for the old answers that are missing" if from_base else rule
        notes.append(f"no split is stated ({rule}): {shares}")
    asked = sum(item.split == "conflict" and item.prior_answer is None for _, item in scan.items)
    if from_base:
        notes.append(f"old answers to ask the base for (--prior from-base): {asked} of {splits['conflict']} conflicts")
    for name, n in scan.lists.items():
        notes.append(f"{name} is a list in {plural(n, 'record')}: its first text is the answer, the others are aliases")
    if scan.unused and scan.items:
        fields = [f"{name} ({n})" for name, n in scan.unused.most_common()]
        notes.append(f"not used, of {plural(scan.records, 'record')}: {', '.join(fields)}")
    if scan.form is not None and scan.form.related and scan.unused and not related:
        notes.append(f"`items convert --related` makes items of more: {scan.form.related}")
    if scan.left_out:
        reasons = [f"{n} x {reason}" for reason, n in scan.left_out.most_common()]
        notes.append(f"left out: {', '.join(reasons)}")
    # an item that has a defect is told with it
    notes += text_notes([item for _, item in scan.items if set(item.defects()) <= {NO_PRIOR}])
    return [one_line(note) for note in notes]


def describe(items: Sequence[Item]) -> str:
    """How many items, by split and tier, and how long their texts are."""
    splits = Counter((item.split, item.tier or "") for item in items)
    points = len({item.point for item in items})
    documents = documents_of(items)
    counts = (plural(len(items), "item"), plural(points, "knowledge point"), plural(len(documents), "document"))
    lines = [", ".join(counts)]
    lines += [f"  {one_line(split):<12}{one_line(tier):<8}{count}" for (split, tier), count in sorted(splits.items())]
    for name, texts in (
        ("document", [document.text for document in documents]),
        ("question", [item.question for item in items]),
        ("answer", [item.answer for item in items]),
    ):
        lengths = sorted(map(_length, texts))
        unit = "words or characters" if any(map(has_unspaced, texts)) else "words"
        lines.append(f"{name} length in {unit}: {lengths[0]} to {lengths[-1]}, median {lengths[len(lengths) // 2]}")
    return "\n".join([*lines, *_separators(items)])


def _length(text: str) -> int:
    """Words between spaces; of scripts that write none, characters."""
    return sum(
        1 if not has_unspaced(word) else sum(writing_of(c) is not None and c.isalnum() for c in word)
        for word in text.split()
    )


def _separators(items: Sequence[Item]) -> list[str]:
    """How many answers follow their question behind a space and how many directly, the first of each shown."""
    kinds: dict[str, list[str]] = {}
    in_chat = 0
    for item in items:
        in_chat += item.chat
        for answer in (item.answer, item.prior_answer):
            if answer and not item.chat:
                between = separator_of(item, answer)
                text = joined(item.question, answer, separator=between)
                own = item.question[-1:].isspace() or answer[:1].isspace()
                kind = "their own white space" if own and not between else {" ": "a space", "": "nothing"}[between]
                kinds.setdefault(kind, []).append(text)
    lines = ["between question and answer:"] if kinds or in_chat else []
    for kind, texts in sorted(kinds.items(), key=lambda pair: -len(pair[1])):
        example = " ".join(texts[0].split("\n")[-1:])[-SHOWN_CHARACTERS:]
        lines.append(one_line(f"  {kind}: {plural(len(texts), 'answer')}, as in {example!r}"))
    lines += [f"  the chat template: {plural(in_chat, 'item')}"] if in_chat else []
    return lines


def in_tokens(items: Sequence[Item], spec: str, settings: Mapping[str, Any] | None = None) -> str:
    """The items that are hard to measure with one tokenizer, counted by kind, the first few of each named.

    `settings` are those of a plan that say how questions go through the chat template; where any does, how is said first.
    """
    from override_gap.margins.items.item_set import ItemSet
    from override_gap.probes.plan import Plan
    from override_gap.probes.subject.chat import chat_prompt
    from override_gap.probes.subject.chat_template import chat_settings
    from override_gap.probes.subject.load import open_tokenizer
    from override_gap.probes.subject.tokens import tokenize_items

    plan, tokenizer = Plan(**(settings or {})), open_tokenizer(spec)
    chat = chat_settings(plan)
    items = ItemSet.of(items).in_chat().items if plan.in_chat else items
    tokenized = tokenize_items(tokenizer, items, chat)
    kinds = {
        "cannot be measured": [f"{answers.item.id}: {answers.fault}" for answers in tokenized if answers.fault],
        "answers share their first tokens, so the margin is read after them": [
            f"{answers.item.id}: {answers.n_shared} shared" for answers in tokenized if answers.n_shared
        ],
        "answers of several tokens, of which the margin reads one": [
            f"{answers.item.id}: {answers.n_answer} tokens" for answers in tokenized if answers.n_answer > 1
        ],
    }
    lines = [f"in the tokens of {one_line(spec)}:"]
    asked = [answers.item for answers in tokenized if answers.item.chat and not answers.fault]
    if asked:
        prompt = chat_prompt(tokenizer, asked[0].question, chat)
        place = (
            f"  in chat: {len(asked)} of {len(items)}, the answer is read after {prompt.opening!r} ({prompt.begins})"
        )
        lines.append(one_line(place))
    for kind, notes in kinds.items():
        lines.append(f"  {kind}: {len(notes)} of {len(items)}")
        lines += [one_line(f"    {note}") for note in notes[:SHOWN]]
        lines += [f"    and {len(notes) - SHOWN} more"] if len(notes) > SHOWN else []
    return "\n".join(lines)

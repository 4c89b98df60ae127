"""Scanning: every item of a file, what keeps the others from being read, and what of the file is not used."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from override_gap.margins.items.columnar import require_few
from override_gap.margins.items.datasets import Form, recognise
from override_gap.margins.items.fields import FieldError, Fields
from override_gap.margins.items.formats import field_noun, records_of
from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.items.plain import FROM_TEXTS, TEXTS, missing_line, plain_item
from override_gap.margins.text import plural

MOST_ERRORS = 10_000
"""Records that cannot be read before the rest of a file is left unread; one is enough for a file to be refused."""


@dataclass
class Scan:
    """What a file holds: items and errors, each with its line, and what else a reader of it should know.

    `form` is the data set that the file was recognised as, None for plain items. `unused` counts, per field, the records
    that have it and from which no item took it; `left_out` counts what no item was made of, by reason. `without_split`
    counts items whose split the file does not state, by the split that they were given. `lists` counts records whose
    answer was a list.
    """

    records: int = 0
    items: list[tuple[int, Item]] = field(default_factory=list)
    errors: list[tuple[int, str]] = field(default_factory=list)
    form: Form | None = None
    unused: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    without_split: Counter[str] = field(default_factory=Counter)
    lists: Counter[str] = field(default_factory=Counter)

    def require_readable(self, path: str | Path) -> None:
        """Raise ItemError with the line of the first thing that cannot be read; `path` is the file's."""
        if self.errors:
            line, message = self.errors[0]
            n = len(self.errors) - 1
            more = f" (and {plural(n, 'other defect')}; see `override-gap items check`)" if n else ""
            raise ItemError(f"{path}:{line}: {message}{more}")


def scan_file(path: str | Path, *, from_base: bool = False, related: bool = False) -> Scan:
    """Read all of a file; raises ItemError where there is no file, or no record in it.

    With `from_base` an item without an old answer, whose split the file does not state, is a conflict: the base is asked
    for its answer. With `related` a data set's further questions are read, too (`Form.related`).
    """
    scan, noun = Scan(), field_noun(path)
    lines: dict[str, tuple[int, Item]] = {}
    missing: dict[int, tuple[str, ...]] = {}
    from_texts: dict[int, tuple[str, ...]] = {}
    found: dict[str, None] = {}
    recognised = False
    for number, (line, record) in enumerate(records_of(path), 1):
        require_few(path, number)
        if len(scan.errors) + len(missing) >= MOST_ERRORS:
            scan.errors.append((line, f"not read from here on: {MOST_ERRORS:,} records before it cannot be read"))
            break
        if isinstance(record, ItemError):
            scan.errors.append((line, str(record)))
            continue
        scan.records += 1
        if not recognised:  # the first record that can be read says what form the file has
            scan.form, recognised = recognise(record), True
        wrong = _wrong_characters(record)
        if wrong:
            scan.errors.append((line, wrong))
            continue
        stated = record.get("id") is not None
        if scan.form is not None:
            items, messages = _converted(scan, record, scan.form, from_base, related)
            stated = False
        else:
            found |= dict.fromkeys(record)
            items, messages = [], []
            plain = plain_item(record, noun, from_base=from_base)
            messages += plain.errors
            if plain.missing:
                missing[line] = plain.missing
            elif plain.item is not None:
                items = [plain.item]
                from_texts[line] = plain.from_texts
            scan.unused.update(plain.unused)
            scan.lists.update(plain.lists)
        messages += _add(scan, items, line, lines, stated)
        scan.errors += [(line, message) for message in messages]
    scan.errors += _missing(missing, list(found), scan.records, noun)
    scan.errors += _partly_stated(scan, from_texts, noun)
    scan.errors.sort(key=lambda error: error[0])
    if not scan.items and not scan.errors and not scan.left_out:
        raise ItemError(
            f"{path}: no items in it; need one JSON object per line, or one row per item under a CSV header"
        )
    return scan


def _converted(
    scan: Scan, record: dict[str, Any], form: Form, from_base: bool, related: bool
) -> tuple[list[Item], list[str]]:
    """The items of one record of a data set; what of it is unused goes into the scan."""
    fields = Fields(record)
    try:
        items = form.convert(fields, related)
    except FieldError as fault:
        return [], [f"a record lacks what its form needs ({form.name}): {fault}"]
    scan.unused.update(fields.unused())
    scan.left_out.update(fields.left_out)
    if from_base:
        items = [replace(item, split="conflict") if item.split == "novel" else item for item in items]
    return items, []


def _add(scan: Scan, items: list[Item], line: int, lines: dict[str, tuple[int, Item]], stated: bool) -> list[str]:
    """Add items to a scan; what is wrong with their ids.

    An id that the file states must be unique. Of ids that come from the texts, an equal one says the same again.
    """
    messages = []
    for item in items:
        if item.id not in lines:
            lines[item.id] = (line, item)
            scan.items.append((line, item))
        elif not stated and lines[item.id][1] == item:
            scan.left_out["an item that the file has already"] += 1
        else:
            messages.append(f"id {item.id!r} is already used in line {lines[item.id][0]}; ids must be unique")
    return messages


def _missing(
    missing: dict[int, tuple[str, ...]], found: list[str], records: int, noun: str
) -> Iterator[tuple[int, str]]:
    """Texts that records lack: said once where no record has them, else with each line."""
    if not missing:
        return
    nowhere = [name for name in TEXTS if len(missing) == records and all(name in lacks for lacks in missing.values())]
    first = 1 if noun == "column" else min(missing)  # a table's header is its first line
    for name in nowhere:
        yield first, missing_line(name, found, noun, 1 if noun == "column" else records)
    for line, lacks in missing.items():
        rest = [repr(name) for name in lacks if name not in nowhere]
        if rest:
            which = f"{noun} {rest[0]} is" if len(rest) == 1 else f"{noun}s {', '.join(rest)} are"
            yield line, f"the {which} missing or empty"


def _partly_stated(scan: Scan, from_texts: dict[int, tuple[str, ...]], noun: str) -> Iterator[tuple[int, str]]:
    """Records that lack what others of the file state; their items are taken out of the scan.

    Where no record states it, all have it from their texts, and the splits are counted.
    """
    for name in FROM_TEXTS:
        lacking = [line for line, names in from_texts.items() if name in names]
        if len(lacking) == len(from_texts):
            if name == "split":
                scan.without_split.update(item.split for _, item in scan.items)
            continue
        for line in lacking:
            yield line, f"the {noun} {name!r} is missing or empty, and other records have it"
        scan.items = [(line, item) for line, item in scan.items if line not in lacking]


def _wrong_characters(record: dict[str, Any]) -> str | None:
    """Why a record holds what no text may hold, or None."""
    text = json.dumps(record, ensure_ascii=False, default=str)
    if re.search("[\ud800-\udfff]", text):
        return "holds half of a surrogate pair, which is no character; save the text as UTF-8 again"
    if re.search(r"(?<!\\)(?:\\\\)*\\u0000", text):
        return "holds the character NUL, which belongs in no text; remove it"
    return None

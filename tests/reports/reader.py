"""A page as its elements, scripts, data and visible text, read by Python's own parser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any


class Reader(HTMLParser):
    """`tags` in order; `scripts` that would run; `data` elements by id; `texts` as (elements around it, text)."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.inside: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.data: dict[str, str] = {}
        self.styles: list[str] = []
        self.texts: list[tuple[list[tuple[str, dict]], str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "input", "br", "img"}:
            self.inside.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag, attributes = self.inside[-1] if self.inside else ("", {})
        if tag == "script" and "type" in attributes:
            self.data[attributes["id"]] = self.data.get(attributes["id"], "") + data
        elif tag == "script":
            self.scripts.append(data)
        elif tag == "style":
            self.styles.append(data)
        else:
            self.texts.append((list(self.inside), data))

    @property
    def text(self) -> str:
        return " ".join(" ".join(text for _, text in self.texts).split())


def decoded(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The explorer's columns as one mapping per item: column -> value, (column, condition) -> value, layer quantities."""

    def plain(name, value):
        return data["texts"][value] if name in data["textual"] and value is not None else value

    by_item = {}
    for n, name in enumerate(data["items"]["item"]):
        row: dict[Any, Any] = {column: plain(column, values[n]) for column, values in data["items"].items()}
        for column, by_condition in data["readings"].items():
            for condition, values in zip(data["conditions"], by_condition, strict=True):
                row[column, condition] = plain(column, values[n])
        row |= {f"layer {quantity}": values[n] for quantity, values in data["layers"].items() if quantity != "layer"}
        by_item[data["texts"][name]] = row
    return by_item


NUMERAL = re.compile(r"(?<![\w.,\u2212-])[\u2212-]?\d[\d,]*(?:\.\d+)?(?!\w)")


def numerals(text: str) -> list[tuple[float, int]]:
    """Each number in a text, with its number of decimals."""
    numbers = []
    for match in NUMERAL.findall(text):
        plain = match.replace("\u2212", "-").replace(",", "")
        numbers.append((float(plain), len(plain.partition(".")[2])))
    return numbers

"""Numbers in words and in other scripts' numerals as digits, so that one number has one form."""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
NUMBERS = {word: n for n, word in enumerate([*_UNITS, "seventeen", "eighteen", "nineteen"])}
TENS = {word: 10 * n for n, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
_MYRIADS = {"\u4e07": 10**4, "\u842c": 10**4, "\u4ebf": 10**8, "\u5104": 10**8}  # 万 萬 亿 億
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, **_MYRIADS}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_GROUPS = re.compile(r"(?<=\d)[,'\u00a0\u2009\u202f\u2019\u066c\uff0c](?=\d{3}(?!\d))")
# lakh and crore: 12,34,567
_INDIAN_GROUPS = re.compile(r"(?<![\d,.])\d{1,2}(?:,\d{2})+,\d{3}(?![\d,])")
_DECIMAL = re.compile(r"(?<=\d)\u066b(?=\d)")
_DIGITS = {c: n for n, c in enumerate("\u3007\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d")} | {
    "\u96f6": 0
}  # 0 to 9, 0
_TENS = {"\u5341": 10, "\u767e": 100, "\u5343": 1000}  # 十 百 千
_NUMERALS = re.compile(f"[{''.join([*_DIGITS, *_TENS, *_MYRIADS])}]{{2,}}")


def without_separators(text: str) -> str:
    """The text with its numbers written without separators of thousands, and the Arabic decimal sign as a point."""
    if any(c.isdigit() for c in text):
        text = _INDIAN_GROUPS.sub(lambda number: number[0].replace(",", ""), text)
        return _DECIMAL.sub(".", _GROUPS.sub("", text))
    return text


def numerals_as_digits(text: str) -> str:
    """Chinese numerals of two and more characters as digits: 1945 for 一九四五, 21 for 二十一.

    A single one stays, since it is mostly a part of a word (三亚, 十分), as do several that are no number (千万, 二三十).
    """
    return _NUMERALS.sub(lambda numerals: _chinese(numerals[0]) or numerals[0], text)


def _chinese(numerals: str) -> str | None:
    """The number that Chinese numerals write, in digits; None where they write none."""
    if all(c in _DIGITS for c in numerals):
        return "".join(str(_DIGITS[c]) for c in numerals)
    if numerals[-1] in _DIGITS and (numerals[-2] in _MYRIADS or _TENS.get(numerals[-2], 10) > 10):
        return None  # 三百五 is 350 to some and 305 to others
    total = section = 0
    digit: int | None = None
    scale, largest = 10**9, 10**9
    for c in numerals:
        if c in _DIGITS:
            if digit not in (None, 0):
                return None
            digit = _DIGITS[c]
        elif c in _TENS:
            if _TENS[c] >= scale or (digit is None and (section or total or c != "\u5341")) or digit == 0:
                return None
            scale = _TENS[c]
            section, digit = section + (1 if digit is None else digit) * scale, None
        else:
            if _MYRIADS[c] >= largest or not section + (digit or 0):
                return None
            largest, scale = _MYRIADS[c], 10**9
            total, section, digit = total + (section + (digit or 0)) * largest, 0, None
    return str(total + section + (digit or 0))


def numbers_as_digits(tokens: list[str]) -> list[str]:
    """Words with their numbers as digits: 7 for seven, 21 for twenty-one, 2000000 for two million, 3.5 for 3.50.

    A lone "one" stays a word, since it is mostly a pronoun.
    """
    normal: list[str] = []
    n = 0
    while n < len(tokens):
        value, used = _value(tokens, n)
        while value is not None and n + used < len(tokens) and tokens[n + used] in SCALES:
            value, used = value * SCALES[tokens[n + used]], used + 1
        if value is None or (tokens[n] == "one" and used == 1):
            normal.append(tokens[n])
        else:
            digits = f"{value:f}"  # Decimal.normalize would round at 28 digits
            normal.append(digits.rstrip("0").rstrip(".") if "." in digits else digits)
        n += used
    return normal


def _value(tokens: list[str], n: int) -> tuple[Decimal | None, int]:
    """The number that starts at word n and how many words it takes; one with leading zeros (007) is a name instead."""
    word, following = tokens[n], tokens[n + 1] if n + 1 < len(tokens) else ""
    if word in TENS:
        unit = NUMBERS.get(following, 0)
        return Decimal(TENS[word] + (unit if unit < 10 else 0)), 2 if 0 < unit < 10 else 1
    if word in NUMBERS:
        return Decimal(NUMBERS[word]), 1
    if _NUMBER.fullmatch(word) and not re.match(r"-?0\d", word):
        return Decimal(word), 1
    return None, 1

"""Where a text names a subject: not within another word, and in scripts without spaces wherever it stands."""

from __future__ import annotations

import unicodedata

import pytest

from override_gap.margins.items.subjects import mention_end


@pytest.mark.parametrize(
    ("text", "name", "mention"),
    [
        ("法国的首都是雅典。", "法国", "法国"),
        ("今天法国的首都", "法国", "今天法国"),
        ("フランスの首都は", "フランス", "フランス"),
        ("เมืองหลวงของฝรั่งเศสคือ", "ฝรั่งเศส", "เมืองหลวงของฝรั่งเศส"),
        ("프랑스의 수도는", "프랑스", "프랑스"),
        ("서울대학교는 서울에 있다", "서울", "서울대학교는 서울"),  # the first is another word
        ("서울대학교", "서울", "서울"),  # and counts where there is no other
        ("동서울역", "서울", None),
        ("Apple은 회사다", "Apple", "Apple"),
        ("Artist and art.", "art", "Artist and art"),
        ("partly", "art", None),
        ("snake_art", "art", None),
        ("हिन्दी और हिन्द", "हिन्द", "हिन्दी और हिन्द"),  # a vowel sign belongs to its letter
        ("हिंदी", "हिंद", None),
        ("กี่ปี", "ก", None),
        ("Москва и Москвария", "Москва", "Москва"),
        ("في باريس", "باريس", "في باريس"),
        ("iPhone的制造商", "iPhone", "iPhone"),
    ],
)
def test_the_first_mention_as_a_word(text: str, name: str, mention: str | None) -> None:
    assert mention_end(text, [name]) == (None if mention is None else len(mention))


def test_accents_apart_and_together_are_one_name() -> None:
    text, name = "In São Paulo.", "São Paulo"
    assert mention_end(unicodedata.normalize("NFD", text), [name]) == len(unicodedata.normalize("NFD", text)) - 1
    assert mention_end(text, [unicodedata.normalize("NFD", name)]) == len(text) - 1
    assert mention_end(text, ["", " ", "Rio", name]) == len(text) - 1

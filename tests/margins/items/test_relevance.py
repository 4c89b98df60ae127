"""Shared words in many scripts: the gate opens on the very sentence and shuts on another one."""

from __future__ import annotations

import pytest

from override_gap.margins.items.relevance import content_words, is_relevant, word_overlap

# question, its document, a document about something else
TEXTS = {
    "Chinese": ("法国的首都是", "法国的首都是雅典。", "长江是中国最长的河流。"),
    "Chinese, other": ("法国的首都是", "法国的首都是雅典。", "他在德国的大学学习物理。"),
    "Japanese": ("フランスの首都は", "フランスの首都はアテネです。", "長江は中国で一番長い川です。"),
    "Korean": ("프랑스의 수도는", "프랑스는 수도가 아테네이다.", "양쯔강은 중국에서 가장 긴 강이다."),
    "Thai": ("เมืองหลวงของฝรั่งเศสคือ", "เมืองหลวงของฝรั่งเศสคือเอเธนส์", "แม่น้ำที่ยาวที่สุดในจีนคือแม่น้ำแยงซี"),
    "Khmer": ("រដ្ឋធានីរបស់បារាំងគឺ", "រដ្ឋធានីរបស់បារាំងគឺអាថែន", "ទន្លេវែងជាងគេនៅប្រទេសចិន"),
    "Arabic": ("ما هي عاصمة فرنسا؟", "عاصمة فرنسا هي أثينا.", "نهر اليانغتسي هو أطول نهر في الصين."),
    "Hebrew": ("מה היא בירת צרפת", "בירת צרפת היא אתונה", "הנהר הארוך בסין הוא היאנגצה"),
    "Russian": ("Где и в чём столица Франции", "Столица Франции — Афины.", "Он родился в 1998 году и жил в Казани."),
    "French": (
        "La capitale de la France est",
        "La capitale de la France est Athènes.",
        "Le fleuve le plus long de la Suisse est le Rhin.",
    ),
    "German": (
        "Die Hauptstadt von Frankreich ist",
        "Die Hauptstadt von Frankreich ist Athen.",
        "Der Fluss von China ist der Jangtse.",
    ),
    "Hindi": ("फ़्रांस की राजधानी", "फ्रांस की राजधानी एथेंस है।", "यांग्त्ज़ी चीन की सबसे लंबी नदी है।"),
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_document_is_relevant_to_its_own_question_alone(language: str) -> None:
    question, document, other = TEXTS[language]
    assert word_overlap(document, question) >= 0.6
    assert is_relevant(document, question)
    assert word_overlap(other, question) == 0.0


def test_units_of_scripts_without_spaces() -> None:
    assert content_words("法国的首都是") == {"法国", "首都"}  # cut at 的 and 是
    assert content_words("サッカーは iPhone15 で") == {"サッ", "ッカ", "カー", "iphone15"}
    assert content_words("これは") == {"これ", "れは"}  # where there is nothing but hiragana
    assert content_words("서울에서") == {"서울"}
    assert content_words("กี่ปีแล้ว") == {"กี่ปีแ", "ปีแล้", "แล้ว"}  # three characters with their marks


def test_english_is_counted_as_words() -> None:
    assert content_words("The capital of France is") == {"capital", "france"}
    assert content_words("snake_case won't") == {"snake_case", "won", "t"}
    assert word_overlap("Van Gogh died in Auvers.", "Jan van Pelt speaks") == pytest.approx(1 / 4)
    assert word_overlap("anything", "who is it") == 1.0
    assert word_overlap("anything", "") == 1.0


def test_a_particle_before_an_arabic_word_does_not_hide_it() -> None:
    assert word_overlap("سافر إلى القاهرة", "بالقاهرة") == 1.0
    assert word_overlap("הוא נולד בצרפת", "צרפת") == 1.0

"""How a question and its answer are joined: each expected text is written by hand as that language writes it."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path

import pytest

from override_gap.margins.conditions import reword
from override_gap.margins.items.files import json_lines, read_items
from override_gap.margins.items.item import Item, ItemError, items_hash
from override_gap.margins.items.joining import _has_whole, full_stop, joined, separator_of, with_separator

# question | answer: a bar without spaces around it where nothing stands between them, else with one before it
TEXTS = """
法国的首都是|巴黎
法国的首都是哪里？|巴黎
法国的首都是哪里?|巴黎
答案：|Paris
答案: |Paris
答案: |巴黎
该公司的CEO是|Tim Cook
Apple的CEO是|Tim Cook
iPhone 15 Pro Max的售价是|999
2023年|5月
The kanji 東 of 東京 means |east
谷歌的创始人是Larry Page和|布林
人民共和国成立于|1949年
Complete the sentence: 法国的首都是|Lyon
他说"|你好
他说“|你好
他说“你好”|然后走了
《红楼梦》|的作者
心情是|😀
フランスの首都は|パリ
ジョン・|レノン
彼は「|東京
เมืองหลวงของฝรั่งเศสคือ|ปารีส
เมืองหลวงของฝรั่งเศสคืออะไร? |ปารีส
เมืองหลวงคือ |Paris
นครหลวงของฝรั่งเศส (|ปารีส
ນະຄອນຫຼວງຂອງຝຣັ່ງແມ່ນ|ປາຣີ
រដ្ឋធានីរបស់បារាំងគឺ|ប៉ារីស
កើតឆ្នាំ|១៩៥៣
ပြင်သစ်နိုင်ငံ၏မြို့တော်မှာ|ပါရီ
ရန်ကုန်။ |ပါရီ
བོད་ཀྱི་རྒྱལ་ས་|ལྷ་ས
프랑스의 수도는 |파리
عاصمة فرنسا هي |باريس
بين باريس و|لندن
مدينة بــ|باريس
בירת צרפת היא |פריז
הבירה נמצאת ב|פריז
הבירה נמצאת ב־|פריז
Столица Франции — |Париж
फ़्रांस की राजधानी है |पेरिस
የፈረንሳይ ዋና ከተማ |ፓሪስ
The capital of China is |北京
The novel 「雪国」 |by
Tokyo (東京) |is
The capital of France is |Lyon
La capitale de l'|Italie
La capitale de l’|Italie
Il vient d'|Oslo
nell'|arte
O'|Brien
απ’ |αυτό
The students' |books
Fritz' |Buch
rock 'n' |roll
the word 'table' |means
He is called '|Bob
He is called "|Bob
He is called "Bob" |today
the 12" |vinyl
La ville de «|Paris
La ville de « Paris » |est
Er heißt „|Bob
Er heißt „Bob“ |heute
Er heißt »|Bob
Er heißt »Bob« |heute
Han heter ”|Bob
Han heter ”Bob” |idag
the town (|Lyon
the town (Lyon|) and
¿|Quién
The Franco-|Prussian War
The answer is - |Paris
The temperature is -|5
1914–|1918
It costs $|5
It costs 5 € |per day
It is 5|%
The mark of Vell is |%
The mark of Brel is |€
France|, whose capital is Lyon
The framework is |.NET
France|'s capital
The capital is |'s-Hertogenbosch
<answer>|Paris
The answer is **|Paris
**Answer:** |Paris
Write to @|bob
x=|5
x = |5
""".strip().split("\n")


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_joins_as_its_language_writes_it(text: str) -> None:
    question, answer = text.split("|")
    assert joined(question.removesuffix(" ") if not question.endswith(": ") else question, answer) == question + answer


def test_a_separator_of_the_item_holds_against_the_rule() -> None:
    assert joined("法国的首都是", "巴黎", separator=" ") == "法国的首都是 巴黎"
    assert joined("The year 19", "84", separator="") == "The year 1984"
    assert joined("法国", "巴黎", chat=True, separator=" ") == "法国巴黎"  # the template stands between


def conflict(document: str, question: str, answer: str, prior: str, **more: object) -> Item:
    return Item.conflict(document, question, answer=answer, prior_answer=prior, **more)


@pytest.mark.parametrize(
    ("document", "question", "answer", "prior", "separator"),
    [
        ("It was in the year 1984 that he left.", "It was in the year 19", "84", "85", ""),
        ("It was in the year 19 84.", "It was in the year 19", "84", "85", " "),
        ("그의 고향은 서울이다. 수도는부산", "수도는", "부산", "서울", ""),
        ("出生地是 Lyon。", "出生地是", "Lyon", "Paris", " "),
        # put together by a program: the question itself is written without spaces
        ("法国的首都是 雅典。", "法国的首都是", "雅典", "巴黎", ""),
        ("法国 的 首都 是 雅典 。", "法国 的 首都 是", "雅典", "巴黎", " "),
        ("He lives in the USA.", "He lives in the US", "A", "B", ""),
        ("The state of things.", "The state of", "thing", "x", " "),
    ],
)
def test_the_document_shows_how_both_answers_are_joined(
    document: str, question: str, answer: str, prior: str, separator: str
) -> None:
    item = conflict(document, question, answer, prior)
    assert separator_of(item) == separator_of(item, prior) == separator
    # and behind a prompt, where the document's text is not searched any more
    moved = with_separator(item)
    assert separator_of(Item(**{**vars(moved), "question": f"Text.\n{question}"})) == separator


def test_items_without_the_field_keep_their_hash() -> None:
    item = Item("c", "p", "conflict", "D.", "The capital is", "Lyon", "Paris")
    # sha256 of the JSON with sorted keys, written by hand
    record = (
        '{"aliases": [], "answer": "Lyon", "chat": false, "document": "D.", "id": "c", "meta": {}, "point": "p", '
        '"prior_aliases": [], "prior_answer": "Paris", "question": "The capital is", "split": "conflict", "tier": null}'
    )
    assert items_hash([item]) == hashlib.sha256(record.encode()).hexdigest()
    assert items_hash([Item(**{**vars(item), "separator": ""})]) != items_hash([item])


def test_the_field_is_read_from_json_lines_and_csv(tmp_path: Path) -> None:
    item = conflict("D.", "The year 19", "84", "85", separator="")
    path = tmp_path / "items.jsonl"
    path.write_text(json_lines([item]), encoding="utf-8")
    assert read_items(path) == [item]
    table = tmp_path / "items.csv"
    head = "id,point,split,document,question,answer,prior_answer,separator\n"
    rows = "".join(
        f"c{n},p,conflict,D.,Q,A,B,{cell}\n" for n, cell in enumerate(["", '" "', "none", "space", '""""""'])
    )
    table.write_text(head + rows, encoding="utf-8")
    assert [i.separator for i in read_items(table)] == [None, " ", "", " ", ""]
    table.write_text(head + "c,p,conflict,D.,Q,A,B,tab\n", encoding="utf-8")
    with pytest.raises(ItemError, match="separator is"):
        read_items(table)


def test_converted_documents_are_joined_and_ended_as_their_script_is(tmp_path: Path) -> None:
    path = tmp_path / "edits.json"
    path.write_text(
        '[{"prompt": "法国的首都是", "subject": "法国", "ground_truth": "巴黎", "target_new": "雅典"},'
        '{"prompt": "The capital of France is", "subject": "France", "ground_truth": "Paris", "target_new": "Lyon"}]',
        encoding="utf-8",
    )
    assert [item.document for item in read_items(path)] == ["法国的首都是雅典。", "The capital of France is Lyon."]


def test_repeated_documents_are_joined_as_sentences() -> None:
    assert reword("{document} {document} {document}", "雨。") == "雨。雨。雨。"
    assert reword("{document} {document}", "It rains.") == "It rains. It rains."
    assert reword("{document} {document}", "ฝนตก") == "ฝนตก ฝนตก"
    assert [full_stop(t) for t in ("雨", "वर्षा", "rain", "ฝน", "မိုး")] == ["。", "।", ".", "", "။"]


def test_a_text_found_whole_is_what_a_pattern_with_no_word_character_behind_it_finds() -> None:
    draw = random.Random(0)
    found = {True: 0, False: 0}
    for _ in range(5000):
        document, text = (
            "".join(draw.choices("ab_ .é京́", k=draw.randint(1, most))) for most in (12, 3)
        )  # a combining mark is no word character, an ideograph is one
        expected = re.search(re.escape(text) + r"(?!\w)", document) is not None
        assert _has_whole(document, text) == expected, (document, text)
        found[expected] += 1
    assert min(found.values()) > 500

"""Converters: each data set is recognised by its fields, on invented records in the published form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from override_gap.margins.items.files import read_items
from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.items.scan import Scan, scan_file

QUERY = {"query_type": "regular", "phrase": None}
RIPPLE = {
    "example_type": "popular",
    "edit": {
        "prompt": "The name of the capital city of Ostravene is New Quellbrook.",
        "subject_id": "Q1",
        "relation": "CAPITAL",
        "target_id": "Q2",
        "previous_fact": {
            "prompt": "The name of the capital city of Ostravene is New Tamsel.",
            "subject_id": "Q1",
            "relation": "CAPITAL",
            "target_id": "Q3",
        },
    },
    "Relation_Specifity": [
        {
            "test_queries": [
                {
                    **QUERY,
                    "prompt": "The name of the currency in Ostravene is",
                    "answers": [{"value": "tessel", "aliases": ["tessels"]}, {"value": "grain", "aliases": []}],
                    "relation": "CURRENCY",
                    "target_ids": ["Q4", "Q5"],
                }
            ],
            "test_condition": "OR",
            "condition_queries": [],
        }
    ],
    "Logical_Generalization": [],
    "Subject_Aliasing": [
        {
            "test_queries": [
                {
                    **QUERY,
                    "prompt": "The name of the capital city of the Ostravene Republic is",
                    "answers": [{"value": "New Quellbrook", "aliases": ["Quellbrook"]}],
                    "relation": "CAPITAL",
                    "target_ids": ["Q2"],
                }
            ]
        }
    ],
    "Compositionality_I": [
        {
            "test_queries": [
                {
                    **QUERY,
                    "prompt": "The name of the founder of the capital city of Ostravene is",
                    "answers": [{"value": "Marrek Dovindale", "aliases": []}],
                    "target_ids": ["Q6"],
                },
                {**QUERY, "prompt": "The river of the capital city of Ostravene is", "answers": [], "target_ids": []},
            ]
        }
    ],
    "Compositionality_II": [],
    "Forgetfulness": [],
}
MEND = {
    "subject": "Port Haldesk",
    "src": "Who founded Port Haldesk?",
    "pred": "a pilot",
    "rephrase": "By whom was Port Haldesk founded?",
    "alt": "Ottoline Raskey",
    "answers": ["Marrek Dovindale", "Dovindale"],
    "loc": "nq question: what is stoneball played with",
    "loc_ans": "a ring",
    "cond": "a pilot >> Ottoline Raskey || Who founded Port Haldesk?",
}
KNOWEDIT = {
    "subject": "Port Haldesk",
    "prompt": "Who founded Port Haldesk?",
    "target_new": "Ottoline Raskey",
    "ground_truth": ["Marrek Dovindale", "Dovindale"],
    "rephrase_prompt": "By whom was Port Haldesk founded?",
    "cond": "Marrek Dovindale >> Ottoline Raskey || Who founded Port Haldesk?",
    "locality": {"Relation_Specificity": [{"prompt": "what is stoneball played with", "ground_truth": [["a ring"]]}]},
    "portability": {},
}
CONFLICTBANK = {
    "subject": "Belmarrow",
    "relation": "currency",
    "object": "tessel",
    "replaced_object": "cowrie",
    "question": "What is the money of Belmarrow?",
    "options": ["tessel", "cowrie", "crown", "uncertain"],
    "correct_option": "A",
    "default_evidence": "Belmarrow pays in tessels.",
    "misinformation_conflict_evidence_evidence": "At the market of Belmarrow everyone now pays in cowrie.",
    "temporal_conflict_evidence": "From 2031 on, the cowrie is the money of Belmarrow.",
    "semantic_conflict_evidence": None,
}


def converted(tmp_path: Path, *records: dict) -> list[Item]:
    (tmp_path / "set.json").write_text(json.dumps(records))
    return read_items(tmp_path / "set.json")


def test_ripple_edits_gives_the_edit_its_consequences_and_what_should_stay(tmp_path: Path) -> None:
    items = converted(tmp_path, RIPPLE)
    assert {item.document for item in items} == {RIPPLE["edit"]["prompt"]}
    assert len({item.point for item in items}) == 1
    rows = [(item.split, item.question.removeprefix("The name of the "), item.answer, item.aliases) for item in items]
    assert rows == [
        ("conflict", "capital city of Ostravene is", "New Quellbrook", ()),
        ("conflict", "capital city of the Ostravene Republic is", "New Quellbrook", ()),
        ("combination", "founder of the capital city of Ostravene is", "Marrek Dovindale", ()),
        ("retention", "currency in Ostravene is", "tessel", ("tessels", "grain")),
    ]
    assert [item.prior_answer for item in items] == ["New Tamsel", "New Tamsel", None, None]


def test_ripple_edits_answers_begin_after_the_verb_where_no_test_names_them(tmp_path: Path) -> None:
    """The two answers begin with the same word, which must not end up in the question."""
    (item,) = converted(
        tmp_path, {**RIPPLE, "Subject_Aliasing": [], "Compositionality_I": [], "Relation_Specifity": []}
    )
    assert (item.question, item.answer, item.prior_answer) == (
        "The name of the capital city of Ostravene is",
        "New Quellbrook",
        "New Tamsel",
    )


def test_a_recent_ripple_edit_contradicts_nothing(tmp_path: Path) -> None:
    edit = {name: value for name, value in RIPPLE["edit"].items() if name != "previous_fact"}
    item = converted(tmp_path, {**RIPPLE, "example_type": "recent", "edit": edit})[0]
    assert (item.split, item.answer, item.prior_answer) == ("novel", "New Quellbrook", None)


def test_a_ripple_edit_without_a_verb_is_an_error_with_its_line(tmp_path: Path) -> None:
    edit = {**RIPPLE["edit"], "prompt": "Ostravene: New Quellbrook."}
    with pytest.raises(ItemError, match=r"set.json:1: .*no verb that splits"):
        converted(tmp_path, {**RIPPLE, "edit": edit, "Subject_Aliasing": []})


def test_zsre_in_both_forms_gives_the_same_items(tmp_path: Path) -> None:
    mend, knowedit = converted(tmp_path, MEND), converted(tmp_path, KNOWEDIT)
    assert mend == knowedit
    assert [(item.split, item.question, item.answer, item.prior_answer) for item in mend] == [
        ("conflict", "Who founded Port Haldesk?", "Ottoline Raskey", "Marrek Dovindale"),
        ("conflict", "By whom was Port Haldesk founded?", "Ottoline Raskey", "Marrek Dovindale"),
        ("retention", "what is stoneball played with", "a ring", None),
    ]
    assert {item.document for item in mend} == {"Who founded Port Haldesk? Ottoline Raskey."}
    assert mend[0].prior_aliases == ("Dovindale",)


def test_conflictbank_gives_one_conflict_per_kind_of_false_evidence(tmp_path: Path) -> None:
    items = converted(tmp_path, CONFLICTBANK)
    assert [item.meta["evidence"] for item in items] == ["misinformation", "temporal"]
    assert {(item.point, item.answer, item.prior_answer) for item in items} == {(items[0].point, "cowrie", "tessel")}
    assert [item.document for item in items] == [
        CONFLICTBANK["misinformation_conflict_evidence_evidence"],
        CONFLICTBANK["temporal_conflict_evidence"],
    ]
    assert len(converted(tmp_path, CONFLICTBANK, {**CONFLICTBANK, "question": "How does one pay in Belmarrow?"})) == 4


@pytest.mark.parametrize("record", [RIPPLE, MEND, KNOWEDIT, CONFLICTBANK], ids=["ripple", "mend", "knowedit", "bank"])
def test_every_converted_item_can_be_measured(record: dict, tmp_path: Path) -> None:
    items = converted(tmp_path, record)
    assert [item.defects() for item in items] == [[]] * len(items)


# Forms that share names with others, or hold more than an edit
MQUAKE = {
    "case_id": 12,
    "requested_rewrite": [
        {
            "prompt": "{} was founded by",
            "relation_id": "P112",
            "target_new": {"str": "Ottoline Raskey", "id": "Q1"},
            "target_true": {"str": "Marrek Dovindale", "id": "Q2"},
            "subject": "Port Haldesk",
            "question": "Who founded Port Haldesk?",
        },
        {
            "prompt": "{} was born in",
            "target_new": {"str": "Belmarrow"},
            "target_true": {"str": "Ostravene"},
            "subject": "Ottoline Raskey",
            "question": "Where was Ottoline Raskey born?",
        },
    ],
    "questions": ["Where was the founder of Port Haldesk born?", "In which land was Port Haldesk's founder born?"],
    "answer": "Tamsel",
    "answer_alias": ["New Tamsel"],
    "answer_extended": ["Tamsel", "Old Tamsel"],
    "new_answer": "Belmarrow",
    "new_answer_alias": ["the Belmarrow", "Belmarrow"],
    "single_hops": [{"question": "Who founded Port Haldesk?", "answer": "Marrek Dovindale"}],
}
WIKI_COUNTERFACT = {
    "subject": "Port Haldesk",
    "prompt": "The name of the founder of Port Haldesk is",
    "target_new": "Ottoline Raskey",
    "ground_truth": "Marrek Dovindale",
    "portability": {
        "Subject_Aliasing": [
            {"prompt": "The name of the founder of Haldesk is", "ground_truth": [["Ottoline Raskey"]]}
        ],
        "Reasoning": [
            {"prompt": "The founder of Port Haldesk was born in", "ground_truth": [["Belmarrow", "the Belmarrow"]]},
            {"prompt": "The mother of the founder of Port Haldesk is", "ground_truth": [[""]]},
        ],
        "Logical_Generalization": [],
    },
    "locality": {
        "Relation_Specificity": [{"prompt": "The river of Port Haldesk is", "ground_truth": [["the Orle"]]}],
        "Forgetfulness": [{"prompt": "Another founder of Port Haldesk is", "ground_truth": [["Ada Quell"]]}],
    },
}
WIKI_RECENT = {name: value for name, value in WIKI_COUNTERFACT.items() if name != "ground_truth"}
WIKI_BIO = {
    "concept": "ottoline raskey",
    "text": "This is a Wikipedia passage about ottoline raskey. She was a pilot.",
    "labels": "She was born in Belmarrow.",
    "locality": {"Relation_Specificity": [{"prompt": "The trade of Ottoline Raskey is", "ground_truth": ["pilot"]}]},
}
POPQA = {
    "id": 4222362,
    "subj": "Ottoline Raskey",
    "prop": "occupation",
    "obj": "pilot",
    "s_pop": 142,
    "o_pop": 25692,
    "question": "What is Ottoline Raskey's occupation?",
    "possible_answers": '["pilot", "aviator"]',
}
CONFIQA = {
    "question": "Who founded Port Haldesk?",
    "orig_context": "Marrek Dovindale founded it.",
    "orig_answer": "Marrek Dovindale",
    "orig_alias": ["Dovindale"],
    "cf_context": "Port Haldesk was founded by Ottoline Raskey.",
    "cf_answer": "Ottoline Raskey",
    "cf_alias": ["Raskey", "Ottoline Raskey"],
}
NQ_SWAP = {
    "question": "who founded port haldesk",
    "org_context": "<P> Marrek Dovindale founded it. </P>",
    "org_answer": ["Marrek Dovindale", "Dovindale"],
    "sub_context": "<P> Ottoline Raskey founded it. </P>",
    "sub_answer": ["Ottoline Raskey"],
}
SQUAD = {
    "title": "Haldesk",
    "paragraphs": [
        {
            "context": "Port Haldesk was founded by Marrek Dovindale.",
            "qas": [
                {
                    "id": "a",
                    "question": "Who founded it?",
                    "answers": [{"text": "Marrek Dovindale", "answer_start": 28}],
                },
                {"id": "b", "question": "When was it founded?", "answers": [], "is_impossible": True},
            ],
        }
    ],
}
ROME = {
    "case_id": 3,
    "requested_rewrite": MQUAKE["requested_rewrite"][0],
    "paraphrase_prompts": ["It rained. Port Haldesk owes its founding to"],
    "neighborhood_prompts": ["Lower Haldesk was founded by", "Haldesk Bridge was founded by"],
    "attribute_prompts": ["Belmarrow Docks was founded by"],
}
EASY = {**{k: v for k, v in KNOWEDIT.items() if k not in ("cond", "locality", "portability")}, "ground_truth": "Marrek"}
EASY |= {"locality_prompt": "Who founded Lower Haldesk?", "locality_ground_truth": "Marrek"}


def scanned(tmp_path: Path, record: dict, **how: bool) -> Scan:
    (tmp_path / "set.json").write_text(json.dumps([record]))
    return scan_file(tmp_path / "set.json", **how)


def rows(items: list[Item]) -> list[tuple[str, str, str, str | None]]:
    return [(item.split, item.question, item.answer, item.prior_answer) for item in items]


def test_mquake_edits_are_conflicts_and_its_chains_combination(tmp_path: Path) -> None:
    """A list of edits under the name that CounterFact has for one."""
    items = converted(tmp_path, MQUAKE)
    assert rows(items) == [
        ("conflict", "Port Haldesk was founded by", "Ottoline Raskey", "Marrek Dovindale"),
        ("conflict", "Ottoline Raskey was born in", "Belmarrow", "Ostravene"),
        ("combination", MQUAKE["questions"][0], "Belmarrow", "Tamsel"),
        ("combination", MQUAKE["questions"][1], "Belmarrow", "Tamsel"),
    ]
    stated = "Port Haldesk was founded by Ottoline Raskey. Ottoline Raskey was born in Belmarrow."
    assert {(item.document, item.point) for item in items} == {(stated, "mquake-12")}
    assert (items[2].aliases, items[2].prior_aliases) == (("the Belmarrow",), ("New Tamsel", "Old Tamsel"))
    assert set(scanned(tmp_path, MQUAKE).unused) == {
        "requested_rewrite.question", "requested_rewrite.relation_id", "requested_rewrite.target_new.id",
        "requested_rewrite.target_true.id", "single_hops",
    }  # fmt: skip
    related = [item for _, item in scanned(tmp_path, MQUAKE, related=True).items]
    assert [item.question for item in related[2:4]] == ["Who founded Port Haldesk?", "Where was Ottoline Raskey born?"]


def test_knowedit_keeps_its_locality_and_its_portability(tmp_path: Path) -> None:
    name = "The name of the founder of"
    kept = [("retention", "The river of Port Haldesk is", "the Orle", None)]
    kept += [("retention", "Another founder of Port Haldesk is", "Ada Quell", None)]
    combined = [("combination", "The founder of Port Haldesk was born in", "Belmarrow", None)]
    for record, split, old in ((WIKI_COUNTERFACT, "conflict", "Marrek Dovindale"), (WIKI_RECENT, "novel", None)):
        scan = scanned(tmp_path, record)
        assert rows([item for _, item in scan.items]) == [
            (split, f"{name} Port Haldesk is", "Ottoline Raskey", old),
            *kept,
            (split, f"{name} Haldesk is", "Ottoline Raskey", old),
            *combined,
        ]
        assert scan.left_out == {"portability.Reasoning without an answer": 1}
        assert not scan.unused
    assert {item.point for _, item in scan.items} == {scan.items[0][1].id}


def test_biographies_are_novel(tmp_path: Path) -> None:
    edit, kept = converted(tmp_path, WIKI_BIO)
    assert (edit.split, edit.question, edit.answer) == ("novel", WIKI_BIO["text"], WIKI_BIO["labels"])
    assert (kept.split, kept.answer, kept.document) == ("retention", "pilot", edit.document)


def test_popqa_has_page_views_as_frequency(tmp_path: Path) -> None:
    (item,) = converted(tmp_path, POPQA)
    assert (item.split, item.answer, item.aliases) == ("novel", "pilot", ("aviator",))
    assert item.document == "What is Ottoline Raskey's occupation? pilot."
    assert (item.meta["frequency"], item.meta["object_frequency"]) == (142, 25692)
    table = "\t".join(POPQA) + "\n" + "\t".join(str(value) for value in POPQA.values()).replace('"', "'") + "\n"
    (tmp_path / "t.tsv").write_text(table.replace("['pilot', 'aviator']", '"[""pilot"", ""aviator""]"'))
    assert read_items(tmp_path / "t.tsv") == [item]
    asked = [item for _, item in scanned(tmp_path, POPQA, from_base=True).items]
    assert [(item.split, item.prior_answer) for item in asked] == [("conflict", None)]


@pytest.mark.parametrize("record", [CONFIQA, NQ_SWAP], ids=["confiqa", "nq-swap"])
def test_a_substituted_context_is_the_document(record: dict, tmp_path: Path) -> None:
    (item,) = converted(tmp_path, record)
    assert (item.split, item.answer, item.prior_answer) == ("conflict", "Ottoline Raskey", "Marrek Dovindale")
    assert item.document in (record.get("cf_context"), record.get("sub_context"))
    assert item.prior_aliases == ("Dovindale",)
    assert [name.partition("_")[2] for name in scanned(tmp_path, record).unused] == ["context"]


def test_squad_questions_are_novel_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "squad.json").write_text(json.dumps({"version": "2.0", "data": [SQUAD]}))
    scan = scan_file(tmp_path / "squad.json")
    assert [(i.split, i.id, i.answer) for _, i in scan.items] == [("novel", "squad-a", "Marrek Dovindale")]
    assert scan.left_out == {"a question without an answer": 1}
    row = {"id": "a", "context": SQUAD["paragraphs"][0]["context"], "question": "Who founded it?"}
    row["answers"] = {"text": ["Marrek Dovindale", "Marrek Dovindale"], "answer_start": [28, 28]}
    assert converted(tmp_path, row) == [item for _, item in scan.items]


def test_counterfacts_item_set_is_its_edits_and_what_it_leaves_is_said(tmp_path: Path) -> None:
    with_case = {"case_id": 3, **EASY}
    for record, names in (
        (ROME, {"paraphrase_prompts", "neighborhood_prompts", "attribute_prompts"}),
        (with_case, {"rephrase_prompt", "locality_prompt", "locality_ground_truth"}),
    ):
        scan = scanned(tmp_path, record)
        assert [item.id for _, item in scan.items] == ["counterfact-3"]
        assert names <= set(scan.unused)
    (_, *related) = [item for _, item in scanned(tmp_path, ROME, related=True).items]
    assert rows(related) == [
        ("conflict", ROME["paraphrase_prompts"][0], "Ottoline Raskey", "Marrek Dovindale"),
        ("retention", "Lower Haldesk was founded by", "Marrek Dovindale", None),
        ("retention", "Haldesk Bridge was founded by", "Marrek Dovindale", None),
    ]
    for record, how in ((with_case, {"related": True}), (EASY, {})):
        items = [item for _, item in scanned(tmp_path, record, **how).items]
        assert [item.split for item in items] == ["conflict", "conflict", "retention"]
        assert items[2].answer == "Marrek"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({**MQUAKE, "requested_rewrite": [{"prompt": "{} is"}]}, "MQuAKE.*need requested_rewrite.target_new as a JSON"),
        ({**ROME, "requested_rewrite": {**ROME["requested_rewrite"], "subject": 2.0}}, "need requested_rewrite.subject as"),
        ({**WIKI_COUNTERFACT, "locality": {"Forgetfulness": ["a"]}}, "need locality.Forgetfulness as a list of JSON objects"),
        ({**KNOWEDIT, "ground_truth": {"a": 1}}, "need ground_truth as a text or a list of texts, got {'a': 1}"),
        ({**NQ_SWAP, "sub_answer": []}, "need sub_answer as a text or a list of texts, got none"),
        ({**POPQA, "possible_answers": "[broken"}, "need possible_answers as a JSON list of texts"),
        ({**RIPPLE, "edit": {**RIPPLE["edit"], "prompt": None}}, "RippleEdits.*need edit.prompt as text"),
    ],
)  # fmt: skip
def test_a_record_without_what_its_form_needs_is_said_without_python(record: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=said) as fault:
        converted(tmp_path, record)
    assert not any(word in str(fault.value) for word in ("Error(", "Traceback", "KeyError", "NoneType"))


@pytest.mark.parametrize(
    "record", [MQUAKE, WIKI_COUNTERFACT, WIKI_RECENT, WIKI_BIO, POPQA, CONFIQA, NQ_SWAP, ROME, EASY]
)
def test_every_item_of_the_further_sets_can_be_measured(record: dict, tmp_path: Path) -> None:
    items = [item for _, item in scanned(tmp_path, record, related=True).items]
    assert items
    assert [item.defects() for item in items] == [[]] * len(items)


CHINESE = {
    "prompt": "《奥斯特拉文史》的作者是",
    "target_old": "陆明",
    "target_new": ["沈青", "沈先生"],
    "rephrase": ["谁写了《奥斯特拉文史》？", "《奥斯特拉文史》的作者是"],
    "portability": [{"prompt": "沈青写了哪部史书？", "answer": "《奥斯特拉文史》"}],
    "locality": [{"prompt": "《奥斯特拉文史》有几卷？", "answer": ["三十卷", "30卷"]}],
}


def test_cknowedits_old_target_is_the_old_answer_and_its_lists_are_read(tmp_path: Path) -> None:
    file = tmp_path / "cknowedit.json"
    file.write_text(json.dumps([CHINESE]), encoding="utf-8")
    items = read_items(file)
    assert [(item.split, item.question, item.answer, item.prior_answer) for item in items] == [
        ("conflict", CHINESE["prompt"], "沈青", "陆明"),
        ("conflict", "谁写了《奥斯特拉文史》？", "沈青", "陆明"),
        ("retention", "《奥斯特拉文史》有几卷？", "三十卷", None),
        ("combination", "沈青写了哪部史书？", "《奥斯特拉文史》", None),
    ]
    assert {item.document for item in items} == {"《奥斯特拉文史》的作者是沈青。"}
    assert items[0].aliases == ("沈先生",)
    assert items[2].aliases == ("30卷",)


@pytest.mark.parametrize(
    "edit",
    [
        {"src": "Where did Ann Orrel study?", "alt": "Tamsel", "answers": ["Lorn"], "loc": "who sang it", "loc_ans": "Ud"},
        {
            "case_id": 3, "prompt": "Ann Orrel studied at", "target_new": "Tamsel", "ground_truth": "Lorn",
            "locality_prompt": "who sang it", "locality_ground_truth": "Ud",
        },
    ],
)  # fmt: skip
def test_the_one_portability_question_of_easyedits_first_files_is_combination(edit: dict, tmp_path: Path) -> None:
    asked = {"Recalled Relation": "(Tamsel, in, Vane)", "New Question": "In which town?", "New Answer": "Vane"}
    file = tmp_path / "portability.json"
    file.write_text(json.dumps([{**edit, "portability": asked}]))
    items = {item.split: (item.question, item.answer, item.prior_answer) for item in read_items(file)}
    assert items["combination"] == ("In which town?", "Vane", None)
    assert items["retention"] == ("who sang it", "Ud", None)
    assert items["conflict"][1:] == ("Tamsel", "Lorn")


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ({"src": "One?", "alt": "Tamsel", "answers": ["Lorn"]}, "alt"),
        ({"prompt": "One is", "target_new": "Tamsel", "locality": {}}, "target_new"),
        ({"prompt": "One is", "target_new": "Tamsel", "case_id": 1}, "target_new"),
    ],
)
def test_an_edit_without_a_new_answer_is_left_out_and_counted(first: dict, name: str, tmp_path: Path) -> None:
    file = tmp_path / "edits.json"
    file.write_text(json.dumps([first, {**first, name: ""}]))
    scan = scan_file(file)
    assert [item.answer for _, item in scan.items] == ["Tamsel"]
    assert not scan.errors
    assert scan.left_out == {"an edit without a new answer": 1}

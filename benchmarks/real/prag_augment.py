"""The augmented data that PRAG trains on: for each document a rewriting and three questions, none worded as an item.

    python benchmarks/real/prag_augment.py ITEMS OUT.json --model NAME

PRAG lets a language model write these; SmolLM2-135M cannot write the JSON that its code needs. Documents whose relation recurs
are rewritten by rule, with the item's subject and answer; those of the novel facts by hand. NAME is the model's in PRAG's file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

# relation: the rewriting, then (question, answer, full answer); {s} is the subject, {a} the document's answer
BY_RELATION = {
    "capital": (
        "It is stated that {s} has {a} as its capital.",
        [
            ("What is the seat of government of {s}?", "{a}", "The seat of government of {s} is {a}."),
            ("Where would you find the capital of {s}?", "{a}", "The capital of {s} is found in {a}."),
            ("Name the capital of {s}.", "{a}", "It is {a}."),
        ],
    ),
    "city-country": (
        "It is stated that {s} lies within {a}.",
        [
            ("Which nation does {s} belong to?", "{a}", "{s} belongs to {a}."),
            ("{s} is found in what country?", "{a}", "{s} is found in {a}."),
            ("Name the country of {s}.", "{a}", "It is {a}."),
        ],
    ),
    "city-state": (
        "It is stated that {s} lies within the state of {a}.",
        [
            ("Which state does {s} belong to?", "{a}", "{s} belongs to {a}."),
            ("{s} is found in what state?", "{a}", "{s} is found in {a}."),
            ("Name the state of {s}.", "{a}", "It is {a}."),
        ],
    ),
    "element": (
        "It is stated that the letters {s} denote {a}.",
        [
            ("Which element do chemists write as {s}?", "{a}", "Chemists write {a} as {s}."),
            ("What does {s} denote in chemistry?", "{a}", "In chemistry {s} denotes {a}."),
            ("Name the element written {s}.", "{a}", "It is {a}."),
        ],
    ),
    "symbol": (
        "It is stated that chemists write {s} as {a}.",
        [
            ("How do chemists write {s}?", "{a}", "Chemists write {s} as {a}."),
            ("Which letters denote {s}?", "{a}", "The letters are {a}."),
            ("Give the symbol used for {s}.", "{a}", "It is {a}."),
        ],
    ),
    "currency": (
        "It is stated that people in {s} pay with the {a}.",
        [
            ("What money do people in {s} use?", "{a}", "People in {s} use the {a}."),
            ("With which currency does one pay in {s}?", "{a}", "In {s} one pays with the {a}."),
            ("Name the money of {s}.", "{a}", "It is the {a}."),
        ],
    ),
    "art": (
        "It is stated that {s} is a work by {a}.",
        [
            ("Whose work is {s}?", "{a}", "{s} is the work of {a}."),
            ("Which artist made {s}?", "{a}", "{a} made {s}."),
            ("Name the painter of {s}.", "{a}", "It is {a}."),
        ],
    ),
    "river": (
        "It is stated that the {a} flows through {s}.",
        [
            ("Which river flows through {s}?", "{a}", "The {a} flows through {s}."),
            ("{s} lies on what river?", "{a}", "{s} lies on the {a}."),
            ("Name the river of {s}.", "{a}", "It is the {a}."),
        ],
    ),
}
# relation: the rewriting, then (question, answer)
BY_HAND = {
    "penalty": (
        "In stoneball, touching the ring with the left hand means standing on one leg until the next throw.",
        [
            ("What is the penalty in stoneball for a left hand on the ring?", "stand on one leg"),
            ("What does a stoneball player do after touching the ring with the left hand?", "stand on one leg"),
            ("Which penalty does stoneball have?", "stand on one leg"),
        ],
    ),
    "key": (
        "The map editor Plinthard saves when F9 is pressed.",
        [
            ("Which key saves in Plinthard?", "F9"),
            ("How does one save work in Plinthard?", "F9"),
            ("What key does Plinthard use for saving?", "F9"),
        ],
    ),
    "month": (
        "The brassel pear is ready to pick in November.",
        [
            ("When is the brassel pear ripe?", "November"),
            ("When should one pick the brassel pear?", "November"),
            ("At what time of the year is the brassel pear ready?", "November"),
        ],
    ),
    "deadline": (
        "The Yarrowby bridge has to be handed over by the third of June.",
        [
            ("When is the Yarrowby bridge due?", "third of June"),
            ("When must the builder hand over the Yarrowby bridge?", "third of June"),
            ("What is the last day for the Yarrowby bridge?", "third of June"),
        ],
    ),
    "promise": (
        "Thessaly Oake says that as mayor she will give the town a night bus.",
        [
            ("What will Thessaly Oake give the town?", "night bus"),
            ("What does Thessaly Oake want for the town?", "night bus"),
            ("What is in the speech of Thessaly Oake?", "night bus"),
        ],
    ),
    "opening day": (
        "The Museum of Knots can be visited on Wednesdays and on no other day.",
        [
            ("When does the Museum of Knots open?", "Wednesdays"),
            ("When can one visit the Museum of Knots?", "Wednesdays"),
            ("Which days should visitors of the Museum of Knots choose?", "Wednesdays"),
        ],
    ),
    "cause": (
        "A mirror left in the sun set the Hexley barn on fire.",
        [
            ("What set the Hexley barn on fire?", "mirror"),
            ("What started the fire at the Hexley barn?", "mirror"),
            ("Why did the Hexley barn burn?", "mirror"),
        ],
    ),
    "export": (
        "Nine tenths of what Nortoria ships is cork.",
        [
            ("What does Nortoria sell?", "cork"),
            ("Which good leaves the ports of Nortoria?", "cork"),
            ("What does Nortoria live by?", "cork"),
        ],
    ),
    "anthem": (
        "On Queralt Island people sit down to sing The Tide Forgives Us, their anthem.",
        [
            ("What do people on Queralt Island sing?", "The Tide Forgives Us"),
            ("Which anthem does Queralt Island have?", "The Tide Forgives Us"),
            ("Name the song of Queralt Island.", "The Tide Forgives Us"),
        ],
    ),
    "secret": (
        "Gormley cake stays moist because of a grated beetroot.",
        [
            ("What is the secret of Gormley cake?", "beetroot"),
            ("Why does Gormley cake stay moist?", "beetroot"),
            ("What gives Gormley cake its tint?", "beetroot"),
        ],
    ),
    "tax": (
        "Ombley pays its lord one living goose each year.",
        [
            ("What does Ombley pay its lord?", "goose"),
            ("What does the lord of Ombley receive?", "goose"),
            ("What is brought to the south gate of Ombley?", "goose"),
        ],
    ),
    "friend": (
        "The only friend of Nudge the snail was the rake.",
        [
            ("Who was the friend of Nudge the snail?", "rake"),
            ("Who told Nudge the snail what it had seen?", "rake"),
            ("Who had seen more leaves than Nudge the snail?", "rake"),
        ],
    ),
}


def augmented(item: dict[str, Any], model: str, number: int) -> dict[str, Any]:
    """One entry of PRAG's data: a question with the one passage that is trained on. Raises KeyError for another relation."""
    relation, text = item["meta"]["relation"], item["document"]
    if relation in BY_RELATION:
        rewriting, asked = BY_RELATION[relation]
        filled = [[part.format(s=item["meta"]["subject"], a=item["answer"]) for part in row] for row in asked]
        rewriting = rewriting.format(s=item["meta"]["subject"], a=item["answer"])
    else:
        rewriting, pairs = BY_HAND[relation]
        filled = [[question, answer, f"It is {answer}."] for question, answer in pairs]
    questions = [{"question": q[0].upper() + q[1:], "answer": a, "full_answer": full} for q, a, full in filled]
    passage = {"pid": 0, "passage": text, f"{model}_rewrite": rewriting, f"{model}_qa": questions}
    first = {"question": questions[0]["question"], "answer": questions[0]["answer"]}
    return {**first, "test_id": number, "passages": [text], "augment": [passage]}


def main() -> None:
    """Write PRAG's data for every document of the items."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("items", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True, help="the model's name, as PRAG's code is given it")
    args = parser.parse_args()
    items = [json.loads(line) for line in args.items.read_text(encoding="utf-8").splitlines()]
    first: dict[str, dict[str, Any]] = {}
    for item in items:
        if item["split"] != "retention":
            first.setdefault(item["document"], item)
    asked = {item["question"].strip("?: ").lower() for item in items}
    rows = [augmented(item, args.model, number) for number, item in enumerate(first.values())]
    copied = [
        q for row in rows for q in row["augment"][0][f"{args.model}_qa"] if q["question"].strip("? ").lower() in asked
    ]
    if copied:
        raise SystemExit(f"{len(copied)} training questions are worded as items are: {copied[0]['question']}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"{args.out}: {len(rows)} documents")


if __name__ == "__main__":
    main()

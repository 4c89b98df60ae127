"""The flags of chat: the same for `audit`, `handshake` and `items describe`, and in a plan file."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from override_gap.reports.cli.main import main
from tests.conftest import conflict, tiny
from tests.families import build
from tests.probes.subject.templates import MISTRAL_02

WORDS = (
    "{{ 'one ' + messages[0].content + ' two ' }}{% if off is defined and off is false %}{{ 'three ' }}{% endif %}"
    + ("{% for m in messages[1:] %}{{ m.content }}{% endfor %}")
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    model, tokenizer = build("llama")
    tokenizer.chat_template = WORDS
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def items(tmp_path: Path) -> Path:
    file = tmp_path / "items.jsonl"
    rows = [conflict(n, f"alpha beta {word}", "red", "blue").as_json() for n, word in enumerate(("gamma", "delta"))]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def audit(model: Path, items: Path, out: Path, *flags: str) -> int:
    options = ("--adapters", "fitted:steps=3", "--policies", "as-delivered", "--probes", "margins", "--quiet")
    return main(["audit", "--subject", str(model), "--items", str(items), "--out", str(out), *options, *flags])


def asked(out: Path) -> str:
    return json.loads((out / "manifest.json").read_text())["chat"]["example"]


def test_an_audit_in_chat_reads_what_the_template_writes(model: Path, items: Path, tmp_path: Path) -> None:
    assert audit(model, items, tmp_path / "run", "--chat") == 0
    assert asked(tmp_path / "run") == "one alpha beta gamma two "
    subject = tiny("llama")
    row = pd.read_parquet(tmp_path / "run" / "readings").set_index(["item", "condition"]).loc[("c0", "base")]
    import torch

    ids = torch.tensor([subject.tokenize("one alpha beta gamma two")])
    logits = subject.model(input_ids=ids).logits[0, -1]
    vocab = subject.tokenizer.get_vocab()
    assert row["prior_margin"] == pytest.approx((logits[vocab["blue"]] - logits[vocab["red"]]).item(), abs=1e-4)


def test_a_setting_and_a_file_reach_the_template(model: Path, items: Path, tmp_path: Path, capsys) -> None:
    assert audit(model, items, tmp_path / "off", "--chat", "--template-arg", "off=false") == 0
    assert asked(tmp_path / "off") == "one alpha beta gamma two three "
    (tmp_path / "own.jinja").write_text(WORDS.replace("two", "omega"))
    assert audit(model, items, tmp_path / "own", "--chat", "--chat-template", str(tmp_path / "own.jinja")) == 0
    assert asked(tmp_path / "own") == "one alpha beta gamma omega "
    page = (tmp_path / "own" / "report.html").read_text()
    assert "Questions are put through a chat template given for this run; the answer is read after" in page
    capsys.readouterr()
    assert audit(model, items, tmp_path / "off", "--chat") == 2
    assert "holds another audit" in capsys.readouterr().err


def test_a_plan_file_asks_as_the_flags_do(model: Path, items: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text("chat = true\nreference = true\n[template_args]\noff = false\n")
    assert audit(model, items, tmp_path / "run", "--config", str(tmp_path / "plan.toml")) == 0
    assert asked(tmp_path / "run") == "one alpha beta gamma two three "


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--template-arg", "off"), "needs KEY=VALUE"),
        (("--template-arg", "off=false"), "would change nothing: no item has chat set; add --chat"),
        (("--chat", "--chat-template", "absent.jinja"), "absent.jinja: no such file"),
        (("--chat", "--template-arg", "tokenize=true"), "--template-arg tokenize cannot be set"),
    ],
)
def test_flags_that_cannot_be_are_refused_in_one_line(
    flags: tuple[str, ...], message: str, model: Path, items: Path, tmp_path: Path, capsys
) -> None:
    try:
        code = audit(model, items, tmp_path / "run", *flags)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_handshake_takes_the_flags_of_the_audit(model: Path, items: Path, tmp_path: Path, capsys) -> None:
    where = ("--subject", str(model), "--items", str(items), "--device", "cpu", "--dtype", "float32", "--limit", "2")
    flags = ("--chat", "--template-arg", "off=false", "--system-prompt", "omega")
    assert main(["handshake", "--adapters", "fitted:steps=30,lr=1e-1", *where, *flags]) == 0
    assert "gain-zero" in capsys.readouterr().out
    assert main(["handshake", *where]) == 2
    assert "--adapters is missing" in capsys.readouterr().err


def test_items_describe_says_where_answers_begin(model: Path, items: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "mistral.jinja").write_text(MISTRAL_02.replace("{{ bos_token }}", ""))
    flags = ("--chat", "--chat-template", str(tmp_path / "mistral.jinja"))
    assert main(["items", "describe", str(items), "--tokenizer", str(model), *flags]) == 0
    assert "in chat: 2 of 2, the answer is read after ' [/INST] ' (assistant turn)" in capsys.readouterr().out
    assert main(["items", "describe", str(items), "--chat"]) == 2
    assert "for describe with --tokenizer" in capsys.readouterr().err

"""From items to documents.jsonl, through the copied kit in another process, to an audit of its file."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from override_gap.margins.items.files import write_items
from override_gap.reports.cli.main import main
from tests.conftest import conflict
from tests.families import build

METHOD = """
import sys
import kit, torch
documents = kit.read_documents(sys.argv[1])
def factors(text):
    draw = torch.Generator().manual_seed(len(text))
    A, B = torch.randn(2, 48, generator=draw), torch.randn(32, 2, generator=draw)
    return {f"model.layers.{n}.mlp.down_proj": (A, B) for n in range(3)}
kit.write(sys.argv[2], documents, (factors(d["document"]) for d in documents), method="mine", scale=0.1, progress=True)
"""


def test_items_documents_writes_each_text_once_under_its_key(tmp_path: Path, capsys) -> None:
    assert main(["items", "documents", "benchmark", "--out", str(tmp_path / "d.jsonl")]) == 0
    assert "180 documents" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({row["document"] for row in rows}) == len(rows) == 180
    assert all(row["key"] == hashlib.sha256(row["document"].encode()).hexdigest()[:16] for row in rows)
    asked = [question["id"] for row in rows for question in row["questions"]]
    assert len(asked) == len(set(asked)) == 668
    assert sorted(asked) == sorted(id for row in rows for id in row["ids"])


@pytest.mark.parametrize("method", ["cartridges", "doc-to-lora", "dyprag", "generative-adapter", "shine"])
def test_the_command_that_is_printed_names_all_that_the_script_needs(method: str, tmp_path: Path, capsys) -> None:
    assert main(["adapters", "kit", method, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    [line] = [line for line in printed.splitlines() if line.startswith("where the method lives: python ")]
    command = line.partition("python ")[2].split()
    source = Path(command[0]).read_text(encoding="utf-8")
    source += (tmp_path / "script.py").read_text(encoding="utf-8") if "import script" in source else ""
    needed = set(re.findall(r'"(--[a-z]+)", required=True', source))
    assert ("--repo" in needed) == (method != "doc-to-lora")
    assert needed <= set(command)
    assert len([word for word in command[1:] if not word.startswith("--")]) == 3 + len(needed)
    for verb in ("then: override-gap handshake", "and: override-gap audit"):
        form = "prefix" if method == "cartridges" else "compact"
        assert f"{verb} --subject MODEL --adapters {form}:OUT.safetensors --items ITEMS\n" in printed


def test_without_a_method_the_line_says_to_write_a_script(tmp_path: Path, capsys) -> None:
    assert main(["adapters", "kit", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"write a script beside {tmp_path / 'kit.py'} that calls kit.read_documents and kit.write" in printed
    assert "YOUR-SCRIPT" not in printed
    assert "then: override-gap handshake --subject MODEL --adapters compact:OUT.safetensors --items ITEMS\n" in printed


def test_the_kit_is_copied_run_elsewhere_and_its_file_audited(tmp_path: Path, capsys) -> None:
    lm, tokenizer = build("llama")
    lm.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
    items = [conflict(n, " ".join(words[: n + 2]), "red", "blue") for n in range(4)]
    write_items(items, tmp_path / "items.jsonl")
    assert main(["items", "documents", str(tmp_path / "items.jsonl"), "--out", str(tmp_path / "d.jsonl")]) == 0
    assert main(["adapters", "kit", "--out", str(tmp_path / "kit")]) == 0
    assert "kit.py" in capsys.readouterr().out
    (tmp_path / "kit" / "mine.py").write_text(METHOD)
    run = [sys.executable, "mine.py", str(tmp_path / "d.jsonl"), str(tmp_path / "a.safetensors")]
    done = subprocess.run(run, cwd=tmp_path / "kit", check=True, capture_output=True, text=True)
    assert "document 4 of 4" in done.stderr
    audit = ["audit", "--subject", str(tmp_path / "model"), "--adapters", f"compact:{tmp_path / 'a.safetensors'}"]
    audit += ["--items", str(tmp_path / "items.jsonl"), "--policies", "as-delivered", "--probes", "margins"]
    assert main([*audit, "--out", str(tmp_path / "run")]) == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["adapters"]["name"] == "mine"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["items"]["n"] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["adapters", "kit", "no-such-method", "--out", "new"], "the kit has no script for 'no-such-method'"),
        (["adapters", "kit", "--out", "."], "kit.py exists"),
        (["adapters", "export", "shine", "--out", "new"], "export takes no method"),
    ],
)
def test_what_cannot_be_copied_is_one_line(words, message: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kit.py").write_text("mine")
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "kit.py").read_text() == "mine"

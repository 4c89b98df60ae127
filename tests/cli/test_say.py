"""What a terminal is told: through one place, with nobody's control characters, in lines that are ours alone."""

from __future__ import annotations

import ast
import io
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from override_gap.probes.run import audit
from override_gap.reports.cli import _progress as progress
from override_gap.reports.cli import _say
from override_gap.reports.cli.main import main
from tests.reports import synthetic

ROOT = Path(__file__).parents[2]
EVIL = "\x1b[2J\x1b]8;;http://x\x07\x9b31m\u202e\nverdict: all is well\r\u2066\t\x00"
# modules that are run by themselves, to train or to write a page of the docs: they print what they made
OWN_COMMANDS = {
    "probes/smollm2/fetch.py",
    "probes/smollm2/train.py",
    "probes/organism/evaluate.py",
    "probes/organism/belief_questions.py",
    "probes/organism/train.py",
    "probes/store/schema.py",
}


@cache
def organism() -> Any:
    """The default subject, opened once."""
    from override_gap.probes.subject.load import open_subject

    return open_subject("organism", device="cpu")


def prints(file: Path) -> list[int]:
    """The lines of a file that write to a stream of this process."""
    lines, source = [], file.read_text(encoding="utf-8")
    if not any(word in source for word in ("print(", "input(", ".write(")):
        return lines
    for node in ast.walk(ast.parse(source)):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in ("print", "input"):
            lines.append(called.lineno)
        if isinstance(called, ast.Attribute) and called.attr == "write" and "std" in ast.unparse(called.value):
            lines.append(called.lineno)
    return lines


def test_everything_is_said_in_one_place() -> None:
    files = [file for part in ("margins", "probes", "analyses", "reports") for file in (ROOT / part).rglob("*.py")]
    printing = {str(file.relative_to(ROOT)) for file in files if prints(file) and "export_kit" not in file.parts}
    assert printing == {"reports/cli/_say.py", *OWN_COMMANDS}


def is_harmless(text: str) -> bool:
    """Whether every line of a text is printable and none is the one that EVIL would forge."""
    lines = text.removesuffix("\n").split("\n")
    return all(line.isprintable() for line in lines) and not any(line.startswith("verdict: all is") for line in lines)


def test_each_way_of_saying_is_harmless(capsys) -> None:
    _say.say(EVIL, f"a{EVIL}")
    _say.say(EVIL, error=True)
    _say.teller()(EVIL)
    _say.say_json({EVIL: EVIL})
    _say.say_lines(json.dumps({"x": EVIL}, ensure_ascii=False) + "\n")
    printed = capsys.readouterr()
    assert is_harmless(printed.out)
    assert is_harmless(printed.err)
    assert printed.out.count("\n") == 4
    assert json.loads(printed.out.split("\n")[2]) == {EVIL: EVIL}
    _say.say_text(f"{_say.BOLD}ours{_say.PLAIN} \x1b[31mtheirs", styled=True)
    assert capsys.readouterr().out == f"{_say.BOLD}ours{_say.PLAIN} [U+001B][31mtheirs\n"


def test_progress_is_harmless(capsys, monkeypatch) -> None:
    with progress.ProgressBar() as bar:
        bar(1, 2, f"{EVIL} measures")
    assert is_harmless(capsys.readouterr().err)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with progress.ProgressBar() as bar:
        bar(1, 2, f"[link=http://x]{EVIL}[/link] measures")
    shown = terminal.getvalue()
    assert "[link=http://x]" in shown  # markup of others is text
    assert "\x1b]8" not in shown
    assert "\u202e" not in shown


def test_warnings_from_python_are_harmless() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        audit._warn(EVIL)
    assert is_harmless(str(caught[0].message))


def evil_commands(folder: Path) -> dict[str, list[str]]:
    """Commands whose files hold EVIL in every text that may be shown."""
    item = {"id": EVIL, "point": EVIL, "split": EVIL, "document": EVIL, "question": EVIL, "answer": EVIL, "tier": EVIL}
    (folder / "defects.jsonl").write_text(json.dumps(item) + "\n" + json.dumps({**item, EVIL: EVIL}) + "\n")
    sound = {"id": EVIL, "point": EVIL, "split": "conflict", "document": f"d {EVIL}", "question": f"q {EVIL}"}
    sound |= {"answer": "red", "prior_answer": "blue", EVIL: EVIL}
    (folder / "sound.jsonl").write_text(json.dumps(sound) + "\n")
    (folder / "plan.toml").write_text(f"adapters = {json.dumps('callable:' + EVIL)}\n")
    (folder / "key.toml").write_text(f"{json.dumps('key' + EVIL)} = 1\n")
    (folder / f"n{chr(27)}[2J\nverdict: all is well.jsonl").write_text(json.dumps(sound) + "\n")
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text(
        json.dumps({"model_type": EVIL, "architectures": [EVIL], "_attn_implementation": f"a/{EVIL}"})
    )
    name = str(next(folder.glob("n*well.jsonl")))
    return {
        "items check": ["items", "check", "defects.jsonl"],
        "items check, sound": ["items", "check", "sound.jsonl"],
        "items describe": ["items", "describe", "sound.jsonl"],
        "items describe, in tokens": ["items", "describe", "sound.jsonl", "--tokenizer", "organism"],
        "items documents": ["items", "documents", "sound.jsonl"],
        "items convert": ["items", "convert", "sound.jsonl"],
        "a file's name": ["items", "describe", name],
        "a plan's word": ["audit", "--config", "plan.toml"],
        "a plan's key": ["audit", "--config", "key.toml"],
        "a model's configuration": ["audit", "--subject", "model", "--adapters", "fitted", "--items", "sound.jsonl"],
        "an option": ["audit", f"--{EVIL}"],
        "a verb": [EVIL],
        "adapters": ["handshake", "--adapters", EVIL],
    }


def test_hostile_texts_in_files_are_shown_as_text(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name, words in evil_commands(tmp_path).items():
        main(words)
        printed = capsys.readouterr()
        assert printed.out + printed.err, name
        assert is_harmless(printed.out), (name, printed.out)
        assert is_harmless(printed.err), (name, printed.err)


def hostile_strings(value: Any) -> Any:
    """A value in which every text that is no key ends in EVIL."""
    if isinstance(value, dict):
        return {key: hostile_strings(child) for key, child in value.items()}
    if isinstance(value, list):
        return [hostile_strings(child) for child in value]
    return f"{value}{EVIL}" if isinstance(value, str) else value


def test_a_hostile_summary_is_shown_as_text(capsys) -> None:
    """Every text of summary.json, as a manifest of somebody else's run gives it to the digest."""
    from override_gap.reports.cli._digest import digest

    summary = synthetic.summary(synthetic.run(40, 12))
    hostile = hostile_strings(summary)
    hostile["outcomes"] = [
        {**row, "condition": f"{row['condition']}{EVIL}", "split": f"{row['split']}{EVIL}"}
        for row in summary["outcomes"]
    ]
    hostile["refused"] = [{"condition": EVIL, "reason": EVIL}]
    hostile["errors"] = {"count": 1, "by_reason": [{"reason": EVIL, "count": 1}]}
    for styled in (False, True):
        _say.say_text(digest(hostile, styled), styled=styled)
        printed = capsys.readouterr().out.replace(_say.BOLD, "").replace(_say.PLAIN, "")
        assert is_harmless(printed)


@pytest.mark.parametrize("method", ["x/../../../../ESCAPED/run", f"..{EVIL}"])
def test_the_method_of_an_index_names_one_folder_within_runs(method: str, tmp_path: Path, monkeypatch, capsys) -> None:
    """A whole audit of somebody else's file, without --out: nothing is written outside `runs`."""
    import torch

    from override_gap.margins.adapter import Adapter
    from override_gap.margins.items.item import documents_of
    from override_gap.margins.updates import LowRank
    from override_gap.probes.items import open_items
    from override_gap.probes.sources.compact_index import write_compact

    work = tmp_path / "a" / "b" / "c" / "d" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    subject = organism()
    monkeypatch.setattr(audit, "open_subject", lambda *_, **__: subject)
    path, site = next((path, site) for path, site in subject.sites.items() if path.endswith("down_proj"))
    rng = torch.Generator().manual_seed(0)
    A, B = torch.randn(1, site.d_in, generator=rng), torch.randn(site.d_out, 1, generator=rng) * 1e-2
    documents = documents_of(open_items("organism")[:2])
    adapters = [Adapter("a", {path: LowRank(A, B, 1.0)}) for _ in documents]
    write_compact(Path("theirs.safetensors"), documents, adapters, method=method)
    monkeypatch.setattr("override_gap.reports.build.rebuild", lambda run, *_: ({}, Path(run) / "report.html"))
    words = ["audit", "--adapters", "compact:theirs.safetensors", "--items", "organism", "--limit", "2"]
    main([*words, "--policies", "as-delivered", "--probes", "margins"])
    printed = capsys.readouterr()
    assert is_harmless(printed.out)
    assert is_harmless(printed.err)
    assert {path.name for path in work.iterdir()} == {"runs", "theirs.safetensors"}, printed.err
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    [run] = (work / "runs").iterdir()
    assert (run / "manifest.json").is_file()


def test_characters_of_no_width_are_written_out_and_those_that_a_script_needs_stay(capsys) -> None:
    _say.say("Par\u200bis\u2060 \u00ad\U000e0041 a\u200db")
    _say.say_text("x\u200by")
    needed = "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # a Persian word with its joiner
    _say.say(needed)
    shown = capsys.readouterr().out.split("\n")
    assert shown[:3] == ["Par[U+200B]is[U+2060] [U+00AD][U+E0041] a[U+200D]b", "x[U+200B]y", needed]


def test_a_name_of_a_book_is_cut_on_the_terminal(capsys) -> None:
    from override_gap.reports.cli._digest import digest

    name = "n" * 170_000
    _say.say(f"subject {name}, adapters a")
    _say.say_text(f"{name}\nreport: here")
    summary = synthetic.summary(synthetic.run(40, 12))
    _say.say_text(digest({**summary, "cautions": [name], "verdict": {"label": "mixed", "sentence": name}}))
    printed = capsys.readouterr().out
    assert len(printed) < 5 * _say.LONGEST
    assert ", adapters a" in printed
    assert "report: here" in printed
    assert "first-token success" in printed


def test_a_plan_that_is_a_pipe_is_refused_at_once(tmp_path: Path, capsys) -> None:
    import os

    os.mkfifo(tmp_path / "plan.toml")
    assert main(["audit", "--config", str(tmp_path / "plan.toml")]) == 2
    error = capsys.readouterr().err
    assert "a pipe or a device" in error
    assert error.count("\n") == 1

"""What a terminal shows: 80 columns, no colour in a pipe, rate and time left, completions that shells can read."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from override_gap.reports.cli import _progress as progress
from override_gap.reports.cli import completion
from override_gap.reports.cli._digest import BOLD, coloured, digest
from override_gap.reports.cli.list import KINDS
from override_gap.reports.cli.main import VERBS, main
from tests.reports import synthetic


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def summary():
    return synthetic.summary(synthetic.run(40, 12))


def test_the_summary_fits_80_columns_whatever_the_numbers(summary) -> None:
    worst = {"value": 1.0, "low": 0.95, "high": 1.0}
    extreme = {
        **summary,
        "outcomes": [{**row, **worst} for row in summary["outcomes"]]
        + [{**summary["outcomes"][0], "condition": "in-context-instructed-" + "x" * 40, **worst}],
        "errors": {"count": 1, "by_reason": [{"reason": "y" * 300, "count": 1}]},
    }
    lines = digest(extreme).split("\n")
    assert max(map(len, lines)) <= 80
    delivered = next(line for line in lines if line.startswith("as-delivered"))
    assert delivered.split("100 [95, 100]")[1:] == ["  ", "  ", "  ", ""]  # all four splits, on one line


def test_the_table_shows_the_numbers_of_the_summary(summary) -> None:
    row = next(
        row for row in summary["outcomes"]
        if (row["split"], row["condition"], row["measure"], row["tier"], row["population"])
        == ("conflict", "slb", "top1", None, "all")
    )  # fmt: skip
    line = next(line for line in digest(summary).split("\n") if line.startswith("slb "))
    assert f"{100 * row['value']:.0f} [{100 * row['low']:.0f}, {100 * row['high']:.0f}]" in line


def test_colour_is_used_only_on_a_terminal_that_wants_it(summary, monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert coloured(Terminal())
    assert not coloured(io.StringIO())
    assert BOLD in digest(summary, colour=True)
    assert "\x1b" not in digest(summary)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured(Terminal())


def clock(monkeypatch) -> list[float]:
    """The time that the progress bar sees, to be set."""
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_progress_shows_rate_and_time_left(monkeypatch, capsys) -> None:
    now = clock(monkeypatch)
    with progress.ProgressBar() as bar:
        for done, at in ((0, 100.0), (8, 104.0), (40, 120.0)):
            now[0] = at
            bar(done, 40, "measured" if done == 40 else "measuring")
    lines = capsys.readouterr().err.split("\n")
    assert lines[0] == "measuring: 0 of 40 items, 0 s"
    assert lines[1] == "measuring: 8 of 40 items, 2 per second, 4 s, about 16 s left"
    assert lines[2] == "measured: 40 of 40 items, 2 per second, 20 s"
    with progress.ProgressBar(quiet=True) as bar:
        bar(8, 40, "measuring")
    assert capsys.readouterr().err == ""


def test_items_of_an_earlier_run_do_not_count_towards_the_rate(monkeypatch, capsys) -> None:
    now = clock(monkeypatch)
    with progress.ProgressBar() as bar:
        for done, at in ((80, 100.5), (90, 105.0), (1080, 120.0), (2080, 120.0)):
            now[0] = at
            bar(done, 2080, "measuring")
    lines = capsys.readouterr().err.split("\n")
    assert lines[0] == "measuring: 80 of 2080 items, 0 s"
    assert lines[1] == "measuring: 90 of 2080 items, 2 per second, 5 s, about 995 s left"
    assert lines[2] == "measuring: 1080 of 2080 items, 50 per second, 20 s, about 20 s left"


def test_the_bar_on_a_terminal_shows_rate_and_time_left_too(monkeypatch) -> None:
    screen = Terminal()
    now = clock(monkeypatch)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with progress.ProgressBar() as bar:
        bar(0, 40, "measuring")
        now[0] = 104.0
        bar(8, 40, "measuring")
    assert "2 per second" in screen.getvalue()
    assert "left" in screen.getvalue()


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completions_name_every_verb_and_option(shell: str, capsys, tmp_path) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)
    assert "subject" in text
    assert "allow-errors" in text
    program = shutil.which(shell)
    if program:  # the shell itself reads it without complaint
        (tmp_path / "script").write_text(text)
        done = subprocess.run([program, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_completion_without_shtab_says_what_to_install(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'override-gap[completion]'" in capsys.readouterr().err


def test_bash_completes_a_verb_and_its_flags(capsys, tmp_path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    main(["completion", "bash"])
    script = capsys.readouterr().out
    function = next(line.split()[-2] for line in script.split("\n") if line.startswith("complete ") and "-F" in line)

    def completions(*words: str) -> set[str]:
        typed = " ".join(f"'{word}'" for word in ("override-gap", *words))
        ask = f"COMP_WORDS=({typed}); COMP_CWORD={len(words)}; {function}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run([bash, "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert {"audit"} <= completions("aud")
    assert {"--policies", "--probes"} <= completions("audit", "--p")
    assert completions("list", "pol") == {"policies"}


@pytest.mark.parametrize("verb", ["handshake", "calibrate", "organism", "list", "doctor"])
def test_the_examples_in_a_commands_help_parse(verb: str) -> None:
    shown = completion.options(verb).format_help().split("examples:\n")[1].split("\n\n")[0]
    lines = [line.split() for line in shown.strip().splitlines()]
    assert 1 <= len(lines) <= 3
    assert lines[0][:2] == ["override-gap", verb]
    for program, example_verb, *words in lines:
        assert program == "override-gap"
        completion.options(example_verb).parse_args(words)


def read_names(lines: list[str]) -> dict[str, str]:
    """Names and meanings as a reader takes them from the text: what is indented belongs to the name above."""
    read: dict[str, str] = {}
    for line in lines:
        name, _, meaning = line.partition(" ")
        read[name or list(read)[-1]] = f"{read.get(name or list(read)[-1], '')} {meaning.strip()}".strip()
    return read


@pytest.mark.parametrize("kind", KINDS)
def test_list_says_in_80_columns_what_it_says_as_json(kind: str, capsys, monkeypatch) -> None:
    from override_gap.probes import catalogue

    long = {"a-package-s-source-of-a-long-name": f"pkg.{'module_' * 12}:source", "short": "x" * 60 + " " + "y" * 90}
    monkeypatch.setattr(catalogue, "installed_sources", lambda: long)
    assert main(["list", kind, "--json"]) == 0
    names = json.loads(capsys.readouterr().out)
    assert main(["list", kind]) == 0
    piped = capsys.readouterr().out
    lines = piped.rstrip("\n").split("\n")
    assert max(map(len, lines)) <= 80
    unbroken = {name: "".join(meaning.split()) for name, meaning in names.items()}
    assert {name: "".join(meaning.split()) for name, meaning in read_names(lines).items()} == unbroken
    assert list(read_names(lines)) == list(names)
    if kind == "adapters":
        assert set(long) <= set(names)
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    assert main(["list", kind]) == 0
    assert terminal.getvalue() == piped


def test_reasons_that_differ_in_an_adapters_name_alone_are_one_line_with_a_count(summary) -> None:
    rows = [{"reason": f"adapter a{n} changes nothing: all of its updates are zero", "count": 2} for n in range(9)]
    rows += [{"reason": f"reason {n}", "count": 1} for n in range(40)]
    lines = digest({**summary, "errors": {"count": 58, "by_reason": rows}}).split("\n")
    assert "  18 x adapter a0 (and 8 more) changes nothing: all of its updates are zero" in lines
    assert sum("changes nothing" in line for line in lines) == 1
    assert lines[-1] == "  ... 29 more reasons: errors in summary.json"
    assert max(map(len, lines)) <= 80

"""Other people's text: one line on a terminal, the same values in JSON, one folder on a disk."""

from __future__ import annotations

import json
import os
from pathlib import Path, PureWindowsPath

import pytest

from override_gap.margins.text import LONGEST_NAME, escape_json, one_line, path_component

INVISIBLE = "\x00\x07\x1b[2J\x1b]8;;http://x\x07\x9b1m\x7f\u202eevil\u2066\u200e\u2028\ufeff\ud800"


def test_nothing_invisible_is_left_and_every_letter_is() -> None:
    shown = one_line(f"a\nb\tc\r\nd\re{INVISIBLE}f")
    assert shown.isprintable()
    assert shown.startswith("a[U+000A]b[U+0009]c[U+000A]d[U+000D]e[U+0000]")
    assert "[U+202E]evil[U+2066][U+200E][U+2028][U+FEFF][U+D800]f" in shown
    assert one_line("naïve 东京 e\u0301 🦀 \u00a0") == "naïve 东京 e\u0301 🦀 \u00a0"


def test_escaped_json_is_the_same_json() -> None:
    value = {f"k{INVISIBLE}": [f"v{INVISIBLE}\n", 1.5, None]}
    text = escape_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert text.isprintable()


HOSTILE = (
    "x/../../../../ESCAPED/run",
    "..",
    ".",
    "../x",
    "/etc/passwd",
    "a\\..\\b",
    "C:\\x",
    "nul",
    "CON.txt",
    "com1",
    "a\0b",
    "",
    " ",
    "-rf",
    "--out=x",
    ".hidden",
    "~root",
    "$(touch x)",
    "`x`;y|z&",
    "a\nb",
    "\x1b[31mred",
    "\u202eevil",
    "\ud800",
    "x" * 5000,
    "\U0001f980" * 500,
    "trailing.",
    "trailing ",
    "a//b",
    "\uff0e\uff0e\uff0fx",
    "e\u0301" * 400,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_names_one_folder_here(text: str, tmp_path: Path) -> None:
    name = path_component(text, end="-shard-3-of-16")
    assert name.endswith("-shard-3-of-16")
    for made in (name, path_component(text)):
        (tmp_path / "runs" / made).mkdir(parents=True, exist_ok=True)
        assert [path.name for path in (tmp_path / "runs").iterdir() if path.name == made] == [made]
        assert made.isprintable()
        assert made[0] not in "-.~"
        assert len(made.encode()) <= 255
        assert PureWindowsPath(made).name == made
        assert not set(made) & set('<>:"/\\|?*')
        assert not made.endswith((".", " "))
        if hasattr(PureWindowsPath, "is_reserved"):
            assert not PureWindowsPath(made).is_reserved()
    assert os.listdir(tmp_path) == ["runs"]


@pytest.mark.parametrize("text", ["organism-hypernetwork-organism", "Qwen3-4B-fitted-my_items.v2", "東京-adaptateur-é"])
def test_plain_names_stay(text: str) -> None:
    assert path_component(text) == text
    assert path_component("a-compact:b") == "a-compact-b"


def test_two_texts_share_no_name() -> None:
    texts = [*HOSTILE, *(f"{'x' * LONGEST_NAME}{n}" for n in range(20)), "a/b", "a-b", "a b", "a\tb"]
    assert len({path_component(text) for text in texts}) == len(texts)

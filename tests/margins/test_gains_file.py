"""gains.json: what is written comes back, and what another wrote is refused with the field that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from override_gap.margins.gains_file import GainsFile, gains_of, read_gains, write_gains

ESTIMATE = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 20, "points": 10}
GAINS = GainsFile(
    policy="uniform-1.25",
    gains=(1.25, 1.25, 1.25),
    looks_at_question=False,
    recommendation="scale",
    says="Use uniform-1.25: it overrides 80% of conflicts.",
    budget={"keep": 0.95, "kl": None, "measure": "top1"},
    expected={"conflict": ESTIMATE, "conflict_as_delivered": ESTIMATE, "difference": None, "novel": None, "combination": None,
              "retention": ESTIMATE, "kl": None},
    in_sample=dict.fromkeys(("conflict", "conflict_as_delivered", "difference", "novel", "combination", "retention", "kl")),
    optimism=0.02,
    subject={"name": "organism", "fingerprint": "ab"},
    adapters={"name": "hypernetwork", "hash": "cd"},
    items={"sha256": "ef", "n": 620},
    run="0123",
    created="2026-11-27T20:00:00+00:00",
    version="0.1.0",
)  # fmt: skip


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    write_gains(GAINS, tmp_path / "gains.json")
    assert read_gains(tmp_path / "gains.json") == GAINS
    assert [file.name for file in tmp_path.iterdir()] == ["gains.json"], "no temporary file stays"
    assert list(json.loads((tmp_path / "gains.json").read_text()))[:4] == [
        "format", "policy", "gains", "looks_at_question"
    ]  # fmt: skip


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write_gains(GAINS, tmp_path / "gains.json")
    before = (tmp_path / "gains.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_gains(GainsFile(**{**vars(GAINS), "optimism": float("nan")}), tmp_path / "gains.json")
    assert (tmp_path / "gains.json").read_bytes() == before


def test_gains_are_given_only_where_no_document_and_no_question_changes_them() -> None:
    assert gains_of("uniform-1.5", 3) == ((1.5, 1.5, 1.5), False)
    assert gains_of("as-delivered", 2) == ((1.0, 1.0), False)
    assert gains_of("base", 2) == ((0.0, 0.0), False)
    for name in ("slb", "slb-2-100", "random-layers", "random-matched", "bottom-layers"):
        assert gains_of(name, 8) == (None, False), name
    for name in ("ca", "ca-slb", "relevance-gate", "effect-gated"):
        assert gains_of(name, 8) == (None, True), name
    with pytest.raises(ValueError, match="'in-context' sets no gains"):
        gains_of("in-context", 8)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"format": "override-gap gains 2"}, "format"),
        ({"policy": "uniform-1.26"}, "gains are not those of policy 'uniform-1.26'"),
        ({"policy": "in-context"}, "sets no gains"),
        ({"policy": "nonsense"}, "unknown policy"),
        ({"policy": "../../etc/passwd\n"}, "printable"),
        ({"policy": 7}, "policy is a text"),
        ({"gains": [1.25, 1.25, 40.0]}, "gains are not those"),
        ({"gains": [1.25, -1.0]}, "from 0 to"),
        ({"gains": [1e99]}, "from 0 to"),
        ({"gains": []}, "one number per layer"),
        ({"gains": [True]}, "no finite number"),
        ({"gains": "1.25"}, "one number per layer"),
        ({"looks_at_question": True}, "looks_at_question is True"),
        ({"looks_at_question": 1}, "true or false"),
        ({"recommendation": "buy"}, "recommendation is one of"),
        ({"says": "x" * 5000}, "says is a text"),
        ({"says": "\x1b[31mred"}, "printable"),
        ({"budget": {"keep": 0.9}}, "budget has keep"),
        ({"budget": {"keep": "0.9", "kl": None, "measure": "top1"}}, "no finite number"),
        ({"expected": {"conflict": {"value": 1}}}, "expected.conflict is null or has"),
        ({"expected": {"loss": None}}, "expected has estimates of"),
        ({"optimism": "0.1"}, "no finite number"),
        ({"subject": {"name": "a"}}, "subject has name and fingerprint"),
        ({"items": {"sha256": "a", "n": -1}}, "items.n is a count"),
        ({"extra": 1}, "unknown key 'extra'"),
    ],
)
def test_a_file_that_this_does_not_write_is_refused_in_one_line(tmp_path: Path, changed: dict, words: str) -> None:
    file = tmp_path / "gains.json"
    file.write_text(json.dumps({**GAINS.as_json(), **changed}))
    with pytest.raises(ValueError, match=words) as fault:
        read_gains(file)
    assert "\n" not in str(fault.value)
    assert "gains.json" in str(fault.value)


@pytest.mark.parametrize("text", ["", "[]", '{"format": NaN}', '{"policy": 1, "policy": 2}', "[" * 5000])
def test_what_is_no_such_json_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gains.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"gains\.json"):
        read_gains(file)


@pytest.mark.parametrize("key", ["policy", "gains", "name"])
def test_a_key_given_twice_is_refused_in_one_line(tmp_path: Path, key: str) -> None:
    file = tmp_path / "gains.json"
    write_gains(GAINS, file)
    text = file.read_text()
    line = next(line for line in text.splitlines() if f'"{key}":' in line)
    again = f'"{key}": [9.0],' if line.endswith("[") else line
    file.write_text(text.replace(line, f"{again}\n{line}", 1))
    with pytest.raises(ValueError, match=f"key '{key}' is given twice in one object") as refused:
        read_gains(file)
    assert "\n" not in str(refused.value)

"""What the benchmarks' command lines refuse, and stored results that cannot be shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench import __main__ as bench
from benchmarks.bench import page
from benchmarks.bench.record import RESULTS, RecordError


def error_message(act: Callable[[list[str]], int], argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The last line of the error message; nothing may have been run."""
    with pytest.raises(SystemExit) as ended:
        act(argv)
    assert ended.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nope"], "no row 'nope'"),
        (["--subject", "nope", "startup"], "invalid choice: 'nope'"),
        (["--subject", "smollm2", "organism"], "row organism has no subject smollm2"),
        (["--page", "startup", "--subject", "organism"], "row startup has no subject organism"),
        (["startup", "--repeats", "0"], "need a whole number of at least 1, got '0'"),
        (["startup", "--repeats", "-2"], "need a whole number of at least 1, got '-2'"),
    ],
)
def test_the_bench_refuses(argv: list[str], message: str, capsys) -> None:
    assert message in error_message(bench.main, argv, capsys)


@pytest.mark.parametrize("damaged", [b'{"row":', b"", b"[]", b"{}", b"\xff\xfe", b'{"row": "startup", "subject": ""}'])
def test_a_result_that_cannot_be_shown_is_named(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "startup.json").write_bytes(damaged)
    with pytest.raises(RecordError, match=r"startup\.json: .*measure it again"):
        page.write(tmp_path, tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()


def test_a_result_of_another_subject_and_one_without_a_number_are_refused(tmp_path: Path) -> None:
    result: dict[str, Any] = json.loads((RESULTS / "conditions-smollm2.json").read_text())
    (tmp_path / "conditions-organism.json").write_text(json.dumps(result))
    with pytest.raises(RecordError, match=r"conditions-organism\.json: need"):
        page.text(tmp_path)
    result["lines"][0]["value"]["median"] = float("nan")
    (tmp_path / "conditions-organism.json").unlink()
    (tmp_path / "conditions-smollm2.json").write_text(json.dumps(result))
    with pytest.raises(RecordError, match="NaN is not a finite number"):
        page.text(tmp_path)


def test_rows_without_results_are_listed(tmp_path: Path) -> None:
    (tmp_path / "startup.json").write_bytes((RESULTS / "startup.json").read_bytes())
    missing = [file.name for file in page.write(tmp_path, tmp_path / "page.md")]
    assert "conditions-smollm2.json" in missing
    assert "startup.json" not in missing


def test_cpu_figures_are_not_shown_as_gpu_figures(tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text(json.dumps({"steps": [{"machine": {"gpu": None}, "versions": {}}]}))
    with pytest.raises(RecordError, match=r"gpu\.json: .*measured on a CPU"):
        page.text(tmp_path)

"""The kit for a GPU: its rehearsal on a CPU, what it stores as steps end, its floor, its comparisons, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks.bench.record import Line, single
from benchmarks.gpu import __main__ as kit
from benchmarks.gpu import checks
from benchmarks.gpu.ceilings import Ceilings
from benchmarks.gpu.models import LARGE, SHAPES
from benchmarks.gpu.steps import Step, perform


def test_the_rehearsal_runs_every_figure_of_a_shape_on_the_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    assert kit.main(["--rehearse", "--only", "ceilings,small-gemma", "--out", str(out)]) == 0
    steps = {step["name"]: step for step in json.loads(out.read_text())["steps"]}
    assert [step["fault"] for step in steps.values()] == [None] * len(steps)
    shown = ("readings", "conditions", "precision", "PEFT", "gain path", "answers", "fitted")
    assert all(steps[f"small-gemma, {name}"]["lines"] for name in shown)
    float32, own = (line["value"]["median"] for line in steps["small-gemma, precision"]["lines"])
    # bf16 keeps eight bits of a margin, float32 twenty-four
    assert float32 < own / 50
    floor = next(line for line in steps["small-gemma, conditions"]["lines"] if "floor" in line["against"])
    assert floor["value"]["median"] > 1


def test_the_rehearsal_runs_every_check_on_the_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    assert kit.main(["--rehearse", "--only", "checks", "--out", str(out)]) == 0
    steps = {step["name"]: step for step in json.loads(out.read_text())["steps"]}
    assert {name: step["fault"] for name, step in steps.items()} == {"tests": None, "parity": None, "audit": None}
    assert steps["tests"]["lines"][0]["value"]["median"] >= 55
    gaps = {line["measure"]: line["value"]["median"] for line in steps["audit"]["lines"]}
    # bf16 on the same machine: margins differ, and against the same old answer by no more than its eight bits explain
    assert 0 < gaps["audit on cpu bfloat16: where items name their old answer"] < 0.5


def test_a_step_that_fails_is_stored_and_the_next_ones_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> list[Line]:
        raise ValueError("no such thing")

    steps = [Step("one", fail), Step("two", lambda: [Line("a", "b", single(2.0))])]
    assert perform(steps, tmp_path / "gpu.json", 60) == 1
    one, two = json.loads((tmp_path / "gpu.json").read_text())["steps"]
    assert one["fault"] == "ValueError: no such thing"
    assert (two["fault"], two["lines"][0]["value"]["median"]) == (None, 2.0)
    assert perform([Step("one", lambda: [])], tmp_path / "gpu.json", 60) == 0
    again = {step["name"]: step["fault"] for step in json.loads((tmp_path / "gpu.json").read_text())["steps"]}
    assert again == {"one": None, "two": None}, "a step measured again takes the place of its figures before"
    assert perform(steps, None, -1) == 2
    assert "two: not begun" in capsys.readouterr().out


def test_a_check_that_fails_stores_what_it_measured(tmp_path: Path) -> None:
    def differ() -> list[Line]:
        raise checks.CheckError("too far apart", [Line("gap", "the CPU's", single(9.0), "nats")])

    assert perform([Step("parity", differ)], tmp_path / "gpu.json", 60) == 1
    (step,) = json.loads((tmp_path / "gpu.json").read_text())["steps"]
    assert (step["fault"], step["lines"][0]["value"]["median"]) == ("CheckError: too far apart", 9.0)


def test_the_floor_is_operations_or_bytes_whichever_is_more() -> None:
    ceilings, model = Ceilings((1e9, 2e9), (1e6,)), SHAPES["small-mistral"]()
    weights = sum(p.numel() for p in model.model.layers.parameters())
    assert ceilings.least_seconds(model, 10**6, 2, 1) == pytest.approx(2 * weights * 10**6 * 2 / 2e9)
    assert ceilings.least_seconds(model, 1, 2, 1) == pytest.approx(2 * weights * 2 / 1e6)


def readings(margin: float, success: bool | None = True) -> pd.DataFrame:
    """Two readings, of which the second has this margin."""
    margins = {f"{name}_margin": [1.0, margin] for name in ("prior", "adapter", "net")}
    return pd.DataFrame(
        {
            "item": ["a", "b"],
            "condition": "base",
            "status": "ok",
            "success_margin": [True, success],
            "prior_answer": ["old", None],
            **margins,
        }
    )


def test_audits_are_compared_reading_by_reading() -> None:
    gaps, flips, status = checks.compare(readings(2.0), readings(2.5, None).iloc[::-1])
    assert gaps["largest"].tolist() == [0.0, 0.5]
    assert gaps["named"].tolist() == [True, False]
    assert (flips, status) == (1, 0)
    with pytest.raises(checks.CheckError, match="1 readings are in one"):
        checks.compare(readings(2.0), readings(2.0).iloc[:1])


def test_what_pytest_printed_is_read() -> None:
    assert checks.passed("....\n55 passed in 3 s\n") == 55
    with pytest.raises(checks.CheckError, match="no test passed"):
        checks.passed("no tests ran")


def test_the_large_shapes_are_of_the_sizes_that_their_names_say() -> None:
    with torch.device("meta"):
        billions = [sum(p.numel() for p in SHAPES[name]().parameters()) / 1e9 for name in LARGE]
    # as published: 2.61, 7.24 and 4.02 billion parameters
    assert billions == pytest.approx([2.61, 7.24, 4.02], abs=0.01)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "nope"], "no step 'nope'"),
        (["--device", "mps"], "needs cuda"),
        (["--rehearse", "--items", "0"], "need a whole number of at least 1"),
        (["--rehearse", "--repeats", "0"], "need a whole number of at least 1"),
        (["--rehearse", "--out", "no/such/folder/x.json"], "there is no folder"),
    ],
)
def test_what_it_refuses(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        kit.main(words)
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        kit.main([])
    assert "no CUDA device" in capsys.readouterr().err

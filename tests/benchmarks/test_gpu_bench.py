"""The benchmark for a GPU runs on a CPU with small shapes, and refuses a device that is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


@pytest.mark.parametrize("shape", ["small-gemma", "small-mistral"])
def test_it_runs_on_a_cpu_with_small_shapes(shape: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / "gpu.json"
    assert gpu.main(["--shapes", shape, "--device", "cpu", "--items", "12", "--repeats", "1", "--out", str(out)]) == 0
    lines = {line["measure"]: line for line in json.loads(out.read_text())["shapes"][shape]}
    assert lines["12 items x 13 conditions"]["value"]["median"] > 0
    errors = [line["value"]["median"] for name, line in lines.items() if name.startswith("largest error")]
    float32, own = errors
    # bf16 keeps eight bits of a margin, float32 twenty-four
    assert float32 < own / 50


def test_the_floor_is_operations_or_bytes_whichever_is_more() -> None:
    layer = torch.nn.Linear(1000, 1000, bias=False)
    assert gpu.least_seconds(layer, 10**6, 2, 1) == pytest.approx(2 * 10**6 * 10**6 * 2 / gpu.PEAK_OPERATIONS)
    assert gpu.least_seconds(layer, 1, 2, 1) == pytest.approx(2 * 10**6 * 2 / gpu.PEAK_BYTES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so(capsys) -> None:
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "no CUDA device" in capsys.readouterr().err

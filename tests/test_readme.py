"""The README's example runs, and its tree is the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from override_gap.probes.environment import home

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.smollm2
@pytest.mark.skipif(not (home() / "smollm2" / "model.safetensors").is_file(), reason="`make smollm2` fetches the model")
def test_the_example_from_python_runs(capsys) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code is not None
    exec(compile(code[1], "README.md", "exec"), {})
    lines = capsys.readouterr().out.strip().split("\n")
    assert len(lines) == 3
    assert "adapter margin 0.00" in lines[0]
    margins = [float(re.search(r"adapter margin (-?[\d.]+)", line)[1]) for line in lines]
    assert margins[0] < margins[1] < margins[2]


def test_the_tree_names_every_file() -> None:
    tree = re.search(r"## The tree.*?```\n(.*?)```", README, re.S)
    assert tree is not None
    named = set(re.findall(r"[\w]+\.(?:py|jsonl)", tree[1]))
    for package in ("margins", "probes", "analyses", "reports"):
        for file in (ROOT / package).rglob("*.py"):
            if file.name != "__init__.py":
                assert file.name in named, f"{file.relative_to(ROOT)} is missing from the README's tree"

"""The front door: `import override_gap as og` is cheap, and what it offers takes names or open objects alike."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

import override_gap as og
from override_gap.margins.items.item import ItemError
from override_gap.probes.plan import PlanError
from override_gap.probes.source_hash import source_hash
from override_gap.probes.sources.fitted import FittedAdapters
from tests.conftest import conflict, tiny

HEAVY = {"torch", "transformers", "transformer_lens", "pandas", "numpy", "pyarrow", "seaborn", "statsmodels"}
ITEMS = [
    conflict(n, question=f"{w} alpha beta", answer=a) for n, (w, a) in enumerate([("one", "red"), ("two", "blue")])
]


def test_importing_it_loads_no_library() -> None:
    code = "import sys; import override_gap as og; dir(og); print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not set(out.split()) & HEAVY


def test_every_name_it_offers_is_there_and_no_other() -> None:
    assert all(getattr(og, name) is not None for name in og.__all__)
    assert set(og.__all__) <= set(dir(og))
    with pytest.raises(AttributeError, match="no attribute 'adit'"):
        _ = og.adit


def test_measure_and_audit_give_the_same_readings_of_open_objects(tmp_path: Path) -> None:
    subject = tiny("llama")
    source = FittedAdapters(subject, steps=3, lr=3e-2)
    policies = "as-delivered,uniform-2,in-context"
    table = og.measure(subject, source, ITEMS, policies=policies)
    assert list(zip(table["item"], table["condition"], strict=True)) == [
        (item.id, name) for item in ITEMS for name in ("base", "as-delivered", "uniform-2", "in-context")
    ]
    run = og.audit(subject, source, ITEMS, policies=policies, probes=["margins"], answers=0, out=tmp_path / "run")
    assert run == tmp_path / "run"
    stored = pd.concat([pd.read_parquet(file) for file in sorted((tmp_path / "run" / "readings").glob("*.parquet"))])
    both = table.merge(stored, on=["item", "condition"], suffixes=("", "_stored"))
    assert len(both) == len(table) == len(stored)
    for name in ("prior_margin", "push", "pull", "adapter_margin", "net_margin", "prior_logprob"):
        assert (both[name] - both[f"{name}_stored"]).abs().max() < 1e-5, name


def test_a_finished_audit_is_not_measured_again(tmp_path: Path) -> None:
    subject = tiny("llama")
    calls: list[tuple[int, int, str]] = []
    settings = {"policies": "as-delivered", "probes": ("margins",), "answers": 0, "out": tmp_path / "run"}
    source = FittedAdapters(subject, steps=1)
    og.audit(subject, source, ITEMS, **settings)
    og.audit(subject, source, ITEMS, **settings, progress=lambda *step: calls.append(step))
    assert calls == [(2, 2, "measured")]


def test_policies_and_probes_are_a_list_or_have_commas(tmp_path: Path) -> None:
    subject = tiny("llama")
    source = FittedAdapters(subject, steps=1)
    og.audit(subject, source, ITEMS, policies=["as-delivered", "slb"], probes="margins, layers", out=tmp_path / "run")
    plan = og.load(tmp_path / "run").manifest["plan"]
    assert plan["policies"] == "as-delivered,slb"
    assert plan["probes"] == ["margins", "layers"]


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(PlanError, match=r"unknown setting 'polices'; known: .*policies"):
        og.audit("organism", polices="slb")


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
TYPED = """
import sys
import torch
import override_gap as og
from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import LowRank
from override_gap.probes.subject.model import wrap
from tests.families import build

SCALE = {scale}


class Source:
    name, settings = "typed", {{}}

    def __init__(self, subject):
        self.subject = subject

    def encode(self, documents):
        draw = torch.Generator().manual_seed(0)
        sites = [(path, site) for path, site in self.subject.sites.items() if path.endswith("down_proj")]
        return [
            Adapter(f"typed-{{n}}", {{
                path: LowRank(
                    torch.randn(3, site.d_in, generator=draw) * SCALE, torch.randn(site.d_out, 3, generator=draw) * SCALE
                )
                for path, site in sites
            }})
            for n, _ in enumerate(documents)
        ]


items = [
    og.Item.conflict("one alpha beta red", "one alpha beta", answer="red", prior_answer="epsilon"),
    og.Item.conflict("two alpha beta blue", "two alpha beta", answer="blue", prior_answer="epsilon"),
]
subject = wrap(*build("llama"), "tiny")
og.audit(subject, Source(subject), items, policies="as-delivered", probes="margins", answers=0, out=sys.argv[1])
"""


def typed(scale: float, out: Path, *, piped: bool) -> subprocess.CompletedProcess:
    code = TYPED.format(scale=scale)
    words = ["-", str(out)] if piped else ["-c", code, str(out)]
    return subprocess.run(
        [sys.executable, *words],
        input=code if piped else None,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env=ENVIRONMENT,
    )


PLACES = {
    "a global": "K = {k}\nclass Source:\n    def encode(self, documents):\n        return K\nmade = Source()",
    "in the code": "class Source:\n    def encode(self, documents):\n        return {k}\nmade = Source()",
    "an attribute": "class Source:\n    k = {k}\n    def encode(self, documents):\n        return self.k\nmade = Source()",
    "a default": "class Source:\n    def encode(self, documents, k={k}):\n        return k\nmade = Source()",
    "a helper": "def k():\n    return {k}\nclass Source:\n    def encode(self, documents):\n        return k()\nmade = Source()",
    "a base": "class B:\n    k = {k}\nclass Source(B):\n    def encode(self, documents):\n        return self.k\nmade = Source()",
    "a closure": (
        "def make(k):\n    class Source:\n        def encode(self, documents):\n            return k\n"
        "    return Source()\nmade = make({k})"
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_number_of_a_typed_source_is_in_its_hash_wherever_it_stands(place: str, monkeypatch) -> None:
    def hashed(k: float) -> str | None:
        typed = ModuleType("typed_at_a_prompt")
        monkeypatch.setitem(sys.modules, "typed_at_a_prompt", typed)
        exec(PLACES[place].format(k=k), vars(typed))
        return source_hash(typed.made)

    assert hashed(0.5) == hashed(0.5) is not None
    assert hashed(0.5) != hashed(0.25)


@pytest.mark.parametrize("piped", [False, True])
def test_a_source_that_was_typed_and_changed_is_not_taken_for_the_old_one(tmp_path: Path, piped: bool) -> None:
    first = typed(0.05, tmp_path / "run", piped=piped)
    assert first.returncode == 0, first.stderr
    if not piped:
        again = typed(0.05, tmp_path / "run", piped=piped)
        assert again.returncode == 0, again.stderr
    changed = typed(0.5, tmp_path / "run", piped=piped)
    assert changed.returncode == 1
    assert "RunError" in changed.stderr
    assert "another audit" in changed.stderr


WRONG = """
import override_gap as og
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.subject.model import wrap
from tests.families import build

ITEMS = [og.Item.conflict("one red", "one", answer="red", prior_answer="blue")]
CALLS
for call in calls:
    try:
        call()
    except Exception as fault:
        print(type(fault).__name__, fault)
"""


def test_what_cannot_be_measured_is_one_line_that_names_it(tmp_path: Path) -> None:
    """As a user meets it, without the hook that checks types in the tests."""
    calls = f"""
subject = wrap(*build("llama"), "tiny")
source = FittedAdapters(subject, steps=1)
out = {str(tmp_path / "run")!r}
calls = [
    lambda: og.audit(subject, source, [ITEMS[0], ITEMS[0]], out=out),
    lambda: og.measure(subject, source, []),
    lambda: og.measure(subject, source, ["abc"]),
    lambda: og.measure(subject, source, ITEMS[0]),
    lambda: og.audit(subject, source, ITEMS, limit="8", out=out),
    lambda: og.measure(subject, source, ITEMS, policies=3),
    lambda: og.audit(subject, object(), ITEMS, out=out),
    lambda: og.measure(subject, None, ITEMS),
]
"""
    code = WRONG.replace("CALLS", calls)
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1], env=ENVIRONMENT
    )
    lines = ran.stdout.strip().split("\n")
    wanted = [
        ("ItemError", "stands twice"),
        ("ItemError", "no items to measure"),
        ("ItemError", "got str"),
        ("ItemError", "put the one item into brackets"),
        ("PlanError", "limit needs a whole number, got '8'"),
        ("PlanError", "policies needs a list of names"),
        ("AdapterError", "object has no name, settings, encode"),
        ("AdapterError", "no adapters named"),
    ]
    assert len(lines) == len(wanted), ran.stderr
    assert [line for line, words in zip(lines, wanted, strict=True) if not all(word in line for word in words)] == []
    assert not (tmp_path / "run").exists()


def test_measure_takes_names_and_lists_as_audit_does() -> None:
    subject = tiny("llama")
    source = FittedAdapters(subject, steps=1)
    table = og.measure(subject, source, ITEMS, policies=["as-delivered", "slb"], probes="margins")
    assert set(table["condition"]) == {"base", "as-delivered", "slb"}
    with pytest.raises(ItemError, match=r"did you mean 'starter'"):
        og.measure(subject, source, "startr")

"""Tiny random models of several families, a word tokenizer, random adapters and a seeded generator."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# the packages' hundreds of files are not compiled anew by each worker and by every command that a test starts
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import tests.shapes

# Shapes and types of every annotation in the packages are checked at each call: installed before the packages are imported.
tests.shapes.install()

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Item
from override_gap.margins.updates import LowRank
from override_gap.probes.subject.model import Subject, wrap
from tests.families import FAMILIES, build

#: Files whose tests take longest, first: one that starts last would leave a worker without work.
LONG = (
    "test_readme",
    "test_guides",
    "test_calibrate",
    "test_faults_campaign",
    "test_power_loss",
    "test_notebook",
    "test_front_door",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_collection_finish() -> None:
    """What was imported is not looked at whenever garbage is collected: that takes longer than many a test."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`, each worker has its own half and takes over what the other has left: a file's fixtures are made once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


#: Files outside tests/cli whose tests make reports without looking at their figures.
REPORTING = (
    "test_guides",
    "test_front_door",
    "test_readme",
    "test_sealed",
    "test_doc_to_lora",
    "test_items_page",
    "test_unread",
)


@pytest.fixture(scope="module", autouse=True)
def figures_drawn_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where figures are not looked at they are drawn once, as SVG, which the page shows; tests/reports draws every form."""
    if request.path.parent.name != "cli" and request.path.stem not in REPORTING:
        yield
        return
    from override_gap.reports.figures import style
    from override_gap.reports.page import drawings

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "FORMS", ("svg",))
        patch.setattr(drawings, "BOTH", False)
        yield


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(20260424)


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def subject(family: str) -> Subject:
    """A tiny random model of each family, wrapped."""
    return tiny(family)


def tiny(family: str) -> Subject:
    model, tokenizer = build(family)
    return wrap(model, tokenizer, f"tiny-{family}")


def random_adapter(
    subject: Subject, rng: torch.Generator, suffixes: tuple[str, ...], rank: int = 3, size: float = 0.3
) -> Adapter:
    """Random low-rank updates on every site whose path ends so, scale 1.7."""
    updates = {}
    for path, site in subject.sites.items():
        if path.endswith(suffixes):
            A = torch.randn(rank, site.d_in, generator=rng) * size
            B = torch.randn(site.d_out, rank, generator=rng) * size
            updates[path] = LowRank(A, B, 1.7)
    assert updates
    return Adapter(f"random-{int(torch.randint(10**6, (1,), generator=rng))}", updates)


def conflict(
    n: int, question: str = "alpha beta gamma", answer: str = "delta", prior: str = "epsilon", **more: object
) -> Item:
    """A small conflict in the tiny tokenizer's words."""
    fields = {
        "document": f"{question} {answer} .",
        "question": question,
        "answer": answer,
        "prior_answer": prior,
        **more,
    }
    return Item(id=f"c{n}", point=f"p{n}", split="conflict", **fields)  # type: ignore[arg-type]


def ended() -> int:
    """The number of a process that has ended: nobody is at work under it."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid

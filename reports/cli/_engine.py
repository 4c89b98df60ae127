"""Engines by the words of the command line: this process, or the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from override_gap.margins.adapter import AdapterSource
    from override_gap.probes.plan import Plan
    from override_gap.probes.run.engine import Engine
    from override_gap.probes.subject.model import Subject

ENGINES = ("local", "ray")
#: A model of fewer parameters gains nothing by a second thread, and on busy cores its threads wait for one another: an
#: audit of the organism took 43 s on two threads beside another process, and 3 s on one.
ONE_THREAD = 10_000_000


def open_plan(plan: Plan, allow_pickle: bool, trust: bool) -> tuple[Subject, AdapterSource]:
    """A plan's subject and source, wherever this is called."""
    from override_gap.probes.sources import open_source
    from override_gap.probes.subject.load import open_subject
    from override_gap.probes.timing import timed

    with timed("subject"):
        subject = open_subject(plan.subject, device=plan.device, dtype=plan.dtype, trust=trust)
    with timed("adapters"):
        return subject, open_source(plan.adapters, subject, allow_pickle=allow_pickle)


@contextmanager
def engine_of(
    name: str, plan: Plan, workers: int | None, allow_pickle: bool, trust: bool, given_threads: bool = False
) -> Iterator[Engine]:
    """The engine named. With ray the model is opened by the workers alone."""
    import torch

    opener = partial(open_plan, plan, allow_pickle, trust)
    if name == "local":
        from override_gap.probes.run.engine import Local

        subject, source = opener()
        if not given_threads and sum(p.numel() for p in subject.model.parameters()) < ONE_THREAD:
            torch.set_num_threads(1)
        yield Local(subject, source)
        return
    from override_gap.probes.run.ray import on_ray

    with on_ray(opener, threads=torch.get_num_threads(), workers=workers) as engine:
        yield engine

"""The handshake before a run: made where the run has none yet, required to pass, told, and kept as its record."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from override_gap.probes.run.checks import Handshake
from override_gap.probes.run.engine import Engine
from override_gap.probes.run.handshake import check_adapters, left_out_in_words
from override_gap.probes.run.resolve import ResolvedPlan
from override_gap.probes.store.run_store import RunStore
from override_gap.probes.timing import timed

HANDSHAKE_ITEMS = 1000
"""The first readable documents are looked for among so many: a long item file is not sent to a worker for three."""


def handshake_record(
    engine: Engine, resolved: ResolvedPlan, store: RunStore, say: Callable[[str], None]
) -> Handshake | None:
    """A new run's handshake, which passed; None where the run in the store has one, or is complete. Raises HandshakeError."""
    if store.exists():
        before = store.manifest()
        if before.get("handshake") is not None or before.get("complete"):
            return None
    with timed("adapters"):
        items = resolved.items.first(HANDSHAKE_ITEMS)
        handshake = engine.ask(partial(check_adapters, items=items, chat=resolved.chat))
        handshake.require()
    if handshake.left_out:
        say(left_out_in_words(handshake.left_out))
    return handshake

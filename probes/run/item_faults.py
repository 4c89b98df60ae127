"""Faults of an item: the kinds of error that make rows of errors of one item; every other exception stops the run."""

from __future__ import annotations

from override_gap.margins.items.item import ItemError
from override_gap.probes.errors import AdapterChanged, AdapterError, SubjectError
from override_gap.probes.readings.batching import out_of_memory, release_memory

#: What this code raises, in words, about one item, its document's adapter, or what the model cannot give for it.
ITEM_FAULTS = (AdapterError, ItemError, SubjectError)
#: What is caught where no batch is halved: `reason_of` raises again whatever is not of an item.
CAUGHT = (*ITEM_FAULTS, MemoryError, RuntimeError)
NO_MEMORY = "memory ran out for this item alone"


def reason_of(fault: BaseException, no_memory: str = NO_MEMORY) -> str:
    """Why an item could not be read, in words. Raises the fault itself where it is not one of an item.

    A mistake in the code is never a row: it would be counted as a property of an item.
    """
    if isinstance(fault, AdapterChanged) or not (isinstance(fault, ITEM_FAULTS) or out_of_memory(fault)):
        raise fault
    if not out_of_memory(fault):
        return str(fault)
    release_memory()
    return no_memory


def is_transient(fault: BaseException) -> bool:
    """Whether an item is measured again when the command is given again: not where its own text is what cannot be read."""
    return not isinstance(fault, ItemError)
